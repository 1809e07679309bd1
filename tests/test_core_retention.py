"""Retention looks at rooms that have something to forget, a slice at a time."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, UNBOUND, ChatHarness, HeldStore
from twisted_chat.core import retention
from twisted_chat.events import NewMessage
from twisted_chat.limits import RoomPolicies, RoomPolicy
from twisted_chat.store_contract import Aged, Append, RoomRecord
from twisted_chat.stores.memory import MemoryStore

DAY = 86_400


class CountedStore(MemoryStore):
    """Remembers what retention asks of it."""

    calls: list[str]

    def aged(self, before_ms: int, after: Aged | None, limit: int) -> Deferred[list[Aged]]:
        self.calls.append("aged")
        return super().aged(before_ms, after, limit).addCallback(self._seen_aged)

    def lease(self, name: str, seconds: float) -> Deferred[bool]:
        return succeed(True)

    def _seen_aged(self, found: list[Aged]) -> list[Aged]:
        self.calls += [f"saw {aged.room}" for aged in found]
        return found

    def purge(self, room: str, keep_events: int | None, keep_after_ms: int | None) -> Deferred[RoomRecord]:
        self.calls.append(f"purge {room}")
        return super().purge(room, keep_events, keep_after_ms)


class RetentionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000_000)
        self.inner = CountedStore(self.clock)
        self.calls: list[str] = []
        self.inner.calls = self.calls
        self.store = HeldStore(self.inner, self.clock)
        self.successResultOf(self.inner.open())

    def say(self, *rooms: str, count: int = 2) -> None:
        new_events = [NewMessage(ALICE.author, None, "x")] * count
        self.successResultOf(self.inner.append([Append(room, new_events) for room in rooms]))

    def chat(self, **policies: RoomPolicy) -> ChatHarness:
        rooms = {name.replace("all", "*"): policy for name, policy in policies.items()}
        return ChatHarness(self, UNBOUND, rooms, store=self.store)

    def round(self, chat: ChatHarness) -> list[str]:
        self.calls.clear()
        done = chat.core.retention.apply()
        self.clock.pump([0] * 500)
        self.successResultOf(done)
        return list(self.calls)

    def test_nothing_to_forget_costs_one_question_however_many_rooms_there_are(self) -> None:
        """With 100,000 rooms a call of the store for each blocked everybody for 36 s."""
        for rooms in (100, 1_000):
            with self.subTest(rooms=rooms):
                self.say(*(f"r{number}" for number in range(rooms)))
                chat = self.chat(all=RoomPolicy(keep_days=1, keep_events=1_000_000))
                self.assertEqual(self.round(chat), ["aged"])

    def test_only_old_rooms_are_seen(self) -> None:
        """A round reads only rooms with events older than a policy allows, not all rooms."""
        self.say("old", "older", "long")
        self.clock.advance(2 * DAY)
        self.say(*(f"r{number}" for number in range(200)))
        chat = self.chat(long=RoomPolicy(keep_days=9), all=RoomPolicy(keep_days=1))

        self.assertEqual(self.round(chat), ["aged", "saw long", "saw old", "saw older", "purge old", "purge older", "aged"])
        self.assertEqual(self.round(chat), ["aged", "aged"], "one for each time that a policy names")

        self.clock.advance(8 * DAY)

        calls = self.round(chat)
        self.assertEqual(calls[-3:], ["aged", "saw long", "purge long"])
        self.assertEqual(len([call for call in calls if call.startswith("purge r")]), 200)
        self.assertEqual(self.round(chat), ["aged", "aged"])

    def test_rooms_that_are_kept_for_ever_are_seen_once(self) -> None:
        """Not in each round, however many of them are old; once a day, because a clock may have been put back."""
        self.say(*(f"r{number}" for number in range(200)), "brief")
        self.clock.advance(2 * DAY)
        chat = self.chat(brief=RoomPolicy(keep_days=1))

        self.assertEqual(len(self.round(chat)), 1 + 201 + 1)
        self.assertEqual(self.round(chat), ["aged"])

        self.say("brief")
        self.clock.advance(DAY / 2)
        self.assertEqual(self.round(chat), ["aged"])
        self.clock.advance(DAY / 2 + 1)
        self.assertEqual(len(self.round(chat)), 1 + 201 + 1)
        self.assertEqual(chat.core.rooms.kept("brief"), 0)

    def test_after_the_first_round_only_rooms_that_grow_are_counted(self) -> None:
        """Later rounds count only rooms that got events, until a reload changes the policies."""
        self.say(*(f"r{number}" for number in range(200)))
        self.say("large", count=9)
        chat = self.chat(all=RoomPolicy(keep_events=3))
        counted: list[str] = []
        kept = chat.core.rooms.kept

        def count(name: str) -> int:
            counted.append(name)
            return kept(name)

        self.patch(chat.core.rooms, "kept", count)

        self.assertEqual(self.round(chat), ["purge large"])
        self.assertEqual(len(counted), 201)

        counted.clear()
        alice = chat.json(ALICE, "r7")
        alice.say(*[{"type": "send", "room": "r7", "text": str(number)} for number in range(2)])

        self.assertEqual(self.round(chat), ["purge r7"])
        self.assertEqual(self.round(chat), [])
        self.assertEqual(counted, ["r7"])

        chat.core.configure(UNBOUND, RoomPolicies({"*": RoomPolicy(keep_events=2)}))

        self.assertEqual(self.round(chat), ["purge large", "purge r7"])

    def test_a_round_goes_in_slices(self) -> None:
        """Others have a turn between two slices, and no second round begins meanwhile."""
        self.patch(retention, "SLICE_ROOMS", 10)
        self.say(*(f"r{number:02}" for number in range(35)))
        self.clock.advance(2 * DAY)
        chat = self.chat(all=RoomPolicy(keep_days=1, keep_events=1))
        core = chat.core
        turns: list[Callable[[], None]] = []
        retained = retention.Retention(
            self.store,
            core.rooms,
            core.configuration,
            set,
            core.rooms.events_removed,
            self.clock.seconds,
            turns.append,
        )
        slices = []

        done = retained.apply()
        while turns:
            slices.append(sum(call.startswith("purge") for call in self.calls))
            self.calls.clear()
            self.successResultOf(retained.apply())
            self.assertEqual(self.calls, [])
            turns.pop()()

        self.successResultOf(done)
        self.assertEqual(slices, [10, 10, 10])

    def test_a_store_that_fails_is_asked_again_in_the_next_round(self) -> None:
        """A failed purge is logged and repeated in the next round."""
        self.say("large", count=9)
        chat = self.chat(all=RoomPolicy(keep_events=3))
        self.successResultOf(self.inner.close())

        self.assertEqual(self.round(chat), ["purge large"])
        self.assertEqual(len(self.flushLoggedErrors()), 1)

        self.successResultOf(self.inner.open())

        self.assertEqual(self.round(chat), ["purge large"])
        self.assertEqual(chat.core.rooms.kept("large"), 3)
