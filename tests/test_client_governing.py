"""The client in rooms with members: it learns of changes as events, and of its own removal."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.client import MemberChanged, Message, RoomState, Sanctioned
from twisted_chat.errors import Banned, NoSuchRoom
from twisted_chat.testing import MemoryChat
from twisted_chat.users import User

T = TypeVar("T")
ALICE, BOB = User(id="u1", name="alice"), User(id="u2", name="bob")
MODERATOR = User(id="u9", name="mo", rights=frozenset({"moderate"}))


class RemovedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = MemoryChat(people={"tc_alice": ALICE, "tc_bob": BOB})
        self.bob = self.server.client(token="tc_bob")
        self.server.settle()
        assert self.server.chat is not None
        self.governing = self.server.chat.core.governing
        made = self.done(self.governing.create(ALICE, "private", "", "Plans", [BOB.id], None, None))
        self.name = made.name
        self.room = self.bob.room(self.name)
        self.server.settle()
        self.successResultOf(self.room.when_joined())

    def done(self, change: Coroutine[Any, Any, T]) -> T:
        """The result of a change, when everything that follows from it has happened."""
        result = Deferred.fromCoroutine(change)
        self.server.settle()
        return self.successResultOf(result)

    def remove(self, what: str | None = None) -> None:
        if what is None:
            self.done(self.governing.set_member(ALICE, self.name, BOB.id, None, None, None))
        else:
            self.done(self.governing.sanction(ALICE, self.name, BOB.id, what))

    def test_events(self) -> None:
        """Roles and sanctions are events like messages."""
        seen: list[object] = []
        for kind in (Message, MemberChanged, Sanctioned):
            self.room.on(kind, seen.append)
        self.done(self.governing.set_member(ALICE, self.name, BOB.id, "moderator", None, None))
        self.assertEqual([(type(event), getattr(event, "role", None)) for event in seen], [(MemberChanged, "moderator")])

    def test_a_member_who_is_removed(self) -> None:
        """What waits fails with the reason, and the room is not joined again."""
        self.remove()
        self.failureResultOf(self.room.send("too late"), NoSuchRoom)
        self.failureResultOf(self.room.when_joined(), NoSuchRoom)
        self.assertEqual(self.room.state, RoomState.REFUSED)
        self.server.cut()
        self.server.pass_time(5)
        self.assertEqual(self.room.state, RoomState.REFUSED)

    def test_banned(self) -> None:
        """From a room that others see, too; a private one does not exist any more."""
        lobby = self.bob.room("lobby")
        self.server.settle()
        self.done(self.governing.sanction(MODERATOR, "lobby", BOB.id, "ban"))
        self.failureResultOf(lobby.send("too late"), Banned)
        self.remove("ban")
        self.failureResultOf(self.room.send("too late"), NoSuchRoom)
