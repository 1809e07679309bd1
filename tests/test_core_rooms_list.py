"""The list of rooms: pages, and what they cost."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, UNBOUND, ChatHarness, HeldStore, guest
from twisted_chat.core import rooms
from twisted_chat.events import NewMessage
from twisted_chat.limits import RoomPolicy
from twisted_chat.store_contract import Append
from twisted_chat.stores.memory import MemoryStore
from twisted_chat.users import User


class RoomListTests(SynchronousTestCase):
    def chat(self, *names: str, rooms: dict[str, RoomPolicy] | None = None) -> ChatHarness:
        """A chat whose store has rooms of these names with a message each."""
        clock = Clock()
        clock.advance(1_000_000_000)
        store = MemoryStore(clock)
        self.successResultOf(store.open())
        message = NewMessage(ALICE.author, None, "x")
        self.successResultOf(store.append([Append(name, [message]) for name in names]))
        return ChatHarness(self, UNBOUND, rooms, store=HeldStore(store, clock))

    def test_pages(self) -> None:
        """From one to the next by ``after``, until there is no ``next``."""
        chat = self.chat("a1", "a2", "a3", "b1", "b2")
        alice = chat.json(ALICE, "a2")

        def ask(**fields: object) -> tuple[list[str], str | None]:
            answer = alice.ask("rooms", **fields)
            return [room["room"] for room in answer["rooms"]], answer.get("next")

        self.assertEqual(ask(), (["a1", "a2", "a3", "b1", "b2"], None))
        self.assertEqual(ask(limit=2), (["a1", "a2"], "a2"))
        self.assertEqual(ask(limit=2, after="a2"), (["a3", "b1"], "b1"))
        self.assertEqual(ask(limit=2, after="b1"), (["b2"], None))
        self.assertEqual(ask(limit=5), (["a1", "a2", "a3", "b1", "b2"], None))
        self.assertEqual(ask(prefix="a"), (["a1", "a2", "a3"], None))
        self.assertEqual(ask(prefix="a", limit=2), (["a1", "a2"], "a2"))
        self.assertEqual(ask(prefix="a", limit=2, after="a2"), (["a3"], None))
        self.assertEqual(ask(prefix="b", after="a1"), (["b1", "b2"], None))
        self.assertEqual(ask(prefix="c"), ([], None))
        self.assertEqual(ask(after="b2"), ([], None))
        self.assertEqual(alice.ask("rooms", limit=0)["code"], "bad_request")

    def test_a_room_that_nobody_has_asked_for(self) -> None:
        """It is listed as it is, with the topic of its policy."""
        chat = self.chat("plans", "tea", rooms={"tea": RoomPolicy(topic="Darjeeling", guests=False)})
        told = chat.json(BOB, "plans").ask("rooms")["rooms"]

        self.assertEqual(
            told,
            [
                {"room": "plans", "head": 1, "topic": "", "members": 1},
                {"room": "tea", "head": 1, "topic": "Darjeeling", "members": 0},
            ],
        )

    def test_a_list_makes_no_rooms(self) -> None:
        """A list of 1,000 rooms made them all in memory, and took 90 ms for it."""
        for count in (20, 200):
            chat = self.chat(*(f"r{number}" for number in range(count)))

            self.assertEqual(len(chat.json(ALICE).ask("rooms")["rooms"]), count)
            self.assertEqual(len(chat.core.rooms), 0)

    def test_a_page_looks_at_its_own_rooms(self) -> None:
        """Neither at all rooms, nor, where most may not be seen, at more than so many."""
        self.patch(rooms, "SEEN_ROOMS", 50)
        hidden = {"h*": RoomPolicy(guests=False)}
        chat = self.chat(*(f"r{number:04}" for number in range(500)), *(f"h{number:04}" for number in range(500)), rooms=hidden)
        looked: list[str] = []
        may_see = chat.core.permissions.may_see

        def look(user: User, room: str, access: str) -> bool:
            looked.append(room)
            return may_see(user, room, access)

        self.patch(chat.core.permissions, "may_see", look)
        bob = guest("bob")

        page = chat.core.rooms.visible(bob, "r", "r0100", 20)
        self.assertEqual(([page.rooms[0].name, page.rooms[-1].name], page.next), (["r0101", "r0120"], "r0120"))
        self.assertEqual(len(looked), 20)

        looked.clear()
        page = chat.core.rooms.visible(bob)
        self.assertEqual((page.rooms, page.next, len(looked)), ([], "h0049", 50))

        found = []
        after: str | None = ""
        while after is not None:
            page = chat.core.rooms.visible(bob, after=after)
            found += [room.name for room in page.rooms]
            after = page.next
        self.assertEqual(found, [f"r{number:04}" for number in range(500)])
