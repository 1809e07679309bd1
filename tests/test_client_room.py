"""A room as a program sees it."""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.client import (
    ChatClient,
    ClientRoom,
    Deleted,
    Edited,
    LivePush,
    Message,
    Reacted,
    Reset,
    RoomLeft,
    RoomState,
    State,
    TopicSet,
)
from twisted_chat.client.sending import Sender
from twisted_chat.client.subscription import RoomSubscription
from twisted_chat.errors import BadRequest, Conflict, Forbidden, InternalError, NoSuchRoom, SlowMode, TooBig
from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.testing import MemoryChat
from twisted_chat.users import User

ALICE = User(id="u1", name="alice")
BOB = User(id="u2", name="bob")
POLICIES = {
    "live": RoomPolicy(durable=False),
    "slow": RoomPolicy(slow_mode=5.0),
    "secret": RoomPolicy(guests=False),
    "news": RoomPolicy(writers="moderators"),
}


class RoomTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.chat = MemoryChat(people={"tc_alice": ALICE, "tc_bob": BOB}, rooms=POLICIES)
        self.alice = self.chat.client(token="tc_alice")
        self.bob = self.chat.client(token="tc_bob")

    def room(self, client: ChatClient, name: str = "lobby", **options: Any) -> ClientRoom:
        room = client.room(name, **options)
        self.chat.settle()
        return room

    def seen(self, room: ClientRoom, kind: type[Any] = Message) -> list[Any]:
        found: list[Any] = []
        room.on(kind, found.append)
        return found

    def say(self, *texts: str, room: str = "lobby") -> None:
        for text in texts:
            self.chat.say(room, text)
        self.chat.settle()


class JoinTests(RoomTests):
    def test_from_the_head(self) -> None:
        """A room gives only what is said from now on, unless it is asked for more."""
        self.say("old")
        room = self.room(self.alice)
        texts = self.seen(room)

        self.say("new")

        self.assertEqual([event.text for event in texts], ["new"])
        self.assertIs(room.state, RoomState.LIVE)

    def test_history_first(self) -> None:
        """``history=n`` gives the last n messages first, ``history=None`` all of them."""
        self.say("1", "2", "3")
        for history, expected in ((2, ["2", "3", "4"]), (None, ["1", "2", "3", "4"]), (99, ["1", "2", "3", "4"])):
            client = self.chat.client("reader")
            room = client.room("lobby", history=history)
            texts = self.seen(room)
            self.chat.settle()
            if history == 2:
                self.say("4")
            self.assertEqual([event.text for event in texts], expected)

    def test_since(self) -> None:
        """``since`` goes on from a cursor that the program has kept itself."""
        first = self.room(self.alice)
        self.say("1", "2")
        cursor = first.cursor
        self.say("3")
        room = self.bob.room("lobby", since=cursor)
        texts = self.seen(room)

        self.chat.settle()

        self.assertEqual([event.text for event in texts], ["3"])

    def test_resume_before_the_first_event(self) -> None:
        """The connection breaks when nothing was read yet: what was said meanwhile is not missed, what was wanted comes."""
        self.say("old 1", "old 2")
        for number, (history, expected) in enumerate(
            ((0, ["new 0"]), (1, ["new 1"]), (None, ["old 1", "old 2", "new 0", "new 1", "new 2"]))
        ):
            room = self.chat.client("reader").room("lobby", history=history)
            texts = self.seen(room)
            with self.subTest(history), MonkeyPatch.context() as patched:
                patched.setattr(RoomSubscription, "receive_event", lambda *args: None)
                self.chat.settle()
                self.chat.cut()
            self.say(f"new {number}")
            self.chat.pass_time(1)
            self.assertEqual([event.text for event in texts], expected)

    def test_same_room(self) -> None:
        """Asking for a room twice gives the same object; a name that is none is refused."""
        self.assertIs(self.alice.room("lobby"), self.alice.room("lobby"))
        self.assertRaises(BadRequest, self.alice.room, "../lobby")

    def test_refused(self) -> None:
        """A room that one may not see: everything that was asked there fails with its name; the client goes on."""
        guest = self.chat.client("guest")
        room = guest.room("secret")
        joined, sent = room.when_joined(), room.send("hello")
        history = Deferred.fromCoroutine(room.history())

        self.chat.settle()

        self.failureResultOf(joined, NoSuchRoom)
        self.failureResultOf(sent, NoSuchRoom)
        self.failureResultOf(history, NoSuchRoom)
        self.failureResultOf(room.send("again"), NoSuchRoom)
        self.failureResultOf(room.when_joined(), NoSuchRoom)
        self.assertIs(room.state, RoomState.REFUSED)
        self.assertIs(guest.state, State.ONLINE)

        self.chat.cut()
        self.chat.pass_time(1)

        self.assertIs(room.state, RoomState.REFUSED)

    def test_too_many_questions(self) -> None:
        """More rooms, one by one, than the server answers at once: the rest is joined a little later."""
        self.chat = MemoryChat(limits=Limits(query_burst=10, query_per_second=10.0))
        client = self.chat.client("alice")
        rooms = []

        for number in range(40):
            rooms.append(client.room(f"room{number}"))
            self.chat.settle()

        self.assertEqual(sum(room.state is RoomState.LIVE for room in rooms), 10)

        self.chat.pass_time(60)
        self.assertEqual({room.state for room in rooms}, {RoomState.LIVE})

    def test_when_joined(self) -> None:
        """``when_joined`` fires at the join, and at once afterwards; the answer to the join is then known."""
        room = self.alice.room("lobby")

        joined = room.when_joined()

        self.assertNoResult(joined)

        self.chat.settle()
        self.successResultOf(joined)
        self.successResultOf(room.when_joined())
        assert room.joined is not None

        self.assertEqual(room.joined.can, ("send", "edit", "delete", "react", "topic"))

    def test_leave(self) -> None:
        """After ``leave`` nothing comes, what was not acknowledged fails, and the room is not joined again."""
        room = self.room(self.alice)
        texts = self.seen(room)
        sent = room.send("last words")

        room.leave()

        self.failureResultOf(sent, RoomLeft)
        self.failureResultOf(room.send("more"), RoomLeft)

        self.say("after")
        self.chat.cut()
        self.chat.pass_time(1)

        self.assertEqual(texts, [])
        assert self.chat.chat is not None
        self.assertEqual([room.members for room in self.chat.chat.core.rooms if room.name == "lobby"], [0])
        self.assertIsNot(self.alice.room("lobby"), room)


class SayingTests(RoomTests):
    def test_send(self) -> None:
        """The committed event, at once and also when nobody reads along."""
        room = self.room(self.alice)
        sent = room.send("hello", reply_to=None)

        self.chat.settle()
        event = self.successResultOf(sent)

        self.assertEqual(event, self.chat.log("lobby")[0])

        data = room.send(data=b"\0\xff")
        self.chat.settle()

        self.assertEqual(self.successResultOf(data).data, b"\0\xff")

    def test_amend(self) -> None:
        """Edits, reactions, deletions and topics are events like all others, for everybody in the room."""
        room, other = self.room(self.alice), self.room(self.bob)
        events = self.seen(other, object)

        room.send("helo")
        self.chat.settle()
        for asked in (
            room.edit(1, 1, "hello"),
            room.react(1, "👍"),
            room.react(1, "👍", on=False),
            room.set_topic("weather"),
            room.delete(1),
        ):
            self.chat.settle()
            self.successResultOf(asked)
        kinds = [type(event) for event in events if not isinstance(event, LivePush)]

        self.assertEqual(kinds, [Message, Edited, Reacted, Reacted, TopicSet, Deleted])

    def test_refused(self) -> None:
        """A final refusal has its name and does not hold up what is behind it."""
        room = self.room(self.alice)
        asked = [room.send(""), room.edit(99, 1, "x"), room.send("x" * 20_000), room.send("x" * 70_000), room.send("good")]

        self.chat.settle()

        self.failureResultOf(asked[0], BadRequest)
        self.failureResultOf(asked[1])
        self.failureResultOf(asked[2], TooBig)
        self.failureResultOf(asked[3], TooBig)
        self.assertEqual(self.successResultOf(asked[4]).text, "good")
        self.assertIs(self.alice.state, State.ONLINE)

    def test_conflict(self) -> None:
        """An edit of an old revision fails with Conflict."""
        room = self.room(self.alice)
        room.send("one")
        room.edit(1, 1, "two")
        stale = room.edit(1, 1, "three")

        self.chat.settle()

        self.failureResultOf(stale, Conflict)

    def test_forbidden(self) -> None:
        """A message to a room in which one may not write fails with Forbidden."""
        sent = self.room(self.alice, "news").send("me too")
        self.chat.settle()
        self.failureResultOf(sent, Forbidden)

    def test_slow_mode(self) -> None:
        """In slow mode messages go out one by one, in order, and the connection is kept."""
        room = self.room(self.alice, "slow")
        refused: list[type[Any]] = []
        real = Sender.post_refused

        def post_refused(sender: Sender, pending: Any, error: Any) -> bool:
            refused.append(type(error))
            return real(sender, pending, error)

        self.patch(Sender, "post_refused", post_refused)
        for number in range(12):
            room.send(str(number))
        self.chat.pass_time(120)

        self.assertEqual(self.chat.texts("slow"), [str(number) for number in range(12)])
        self.assertEqual(set(refused), {SlowMode})
        self.assertEqual(self.chat.endpoint.attempts, 2)

    def test_store_fails(self) -> None:
        """While the server cannot keep anything, messages wait; then they are kept in order."""
        room = self.room(self.alice)
        broken = self.patch(self.chat.store, "append", lambda batch: 1 // 0)

        for number in range(5):
            room.send(str(number))
        self.chat.pass_time(3)

        self.assertEqual(self.chat.texts("lobby"), [])

        self.flushLoggedErrors(ZeroDivisionError)
        broken.restore()
        self.chat.pass_time(30)

        self.assertEqual(self.chat.texts("lobby"), [str(number) for number in range(5)])

    def test_a_message_that_breaks_the_server(self) -> None:
        """One that fails again and again is given up, and those behind it go on."""
        room = self.room(self.alice)
        real = self.chat.store.append

        def append(batch: Any) -> Any:
            if any(event.text == "poison" for append in batch for event in append.new_events):
                raise ZeroDivisionError
            return real(batch)

        self.patch(self.chat.store, "append", append)
        bad, good = room.send("poison"), room.send("good")

        self.chat.pass_time(300)

        self.failureResultOf(bad, InternalError)
        self.assertEqual(self.successResultOf(good).text, "good")

        self.flushLoggedErrors(ZeroDivisionError)

    def test_ephemeral(self) -> None:
        """A room that keeps nothing delivers all the same."""
        room, other = self.room(self.alice, "live"), self.room(self.bob, "live")
        texts = self.seen(other)
        sent = room.send("42")

        self.chat.settle()

        self.assertEqual(self.successResultOf(sent).text, "42")
        self.assertEqual([event.text for event in texts], ["42"])

        resets = self.seen(other, Reset)
        self.chat.kill()
        self.chat.start()
        self.chat.pass_time(1)

        self.assertEqual([reset.why for reset in resets], ["epoch"])

        room.send("43")
        self.chat.settle()

        self.assertEqual([event.text for event in texts], ["42", "43"])
