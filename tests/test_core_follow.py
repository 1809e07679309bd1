"""Readers that are programs: every event once in order, at the program's own pace, also after failures and restarts."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, UNBOUND, ChatHarness, JsonClient
from twisted_chat.core.follow import BATCH_EVENTS, Follower
from twisted_chat.core.history import Unrecoverable
from twisted_chat.errors import BadRequest, Unavailable
from twisted_chat.events import Cursor, Event
from twisted_chat.limits import Limits, RoomPolicy


class Program:
    """Takes events; slowly or not at all, if a test says so."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.batches: list[int] = []
        self.resets: list[Unrecoverable] = []
        self.holding = False
        self.failing = False
        self.held: list[Deferred[None]] = []

    def deliver(self, events: Sequence[Event]) -> Deferred[None] | None:
        if self.failing:
            raise ZeroDivisionError("the program's fault")
        self.batches.append(len(events))
        self.got += [event.seq for event in events]
        if not self.holding:
            return None
        self.held.append(Deferred())
        return self.held[-1]


class FollowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.begin()

    def begin(self, limits: Limits = UNBOUND, rooms: dict[str, RoomPolicy] | None = None) -> None:
        self.chat = ChatHarness(self, limits, rooms)
        self.alice = self.chat.json(ALICE, "lobby")
        self.program = Program()

    def follow(self, chat: ChatHarness | None = None, room: str = "lobby", **options: object) -> Follower:
        core = (chat or self.chat).core
        follower = core.follow(ALICE, room, self.program.deliver, on_reset=self.program.resets.append, **options)  # type: ignore[arg-type]
        self.chat.turn()
        return follower

    def say(self, count: int, client: JsonClient | None = None, room: str = "lobby") -> None:
        (client or self.alice).say([{"type": "send", "room": room, "text": "x" * 100} for _ in range(count)])
        self.chat.turn()

    def test_what_comes_from_now_on(self) -> None:
        """Without a cursor a follower gets the events after the call."""
        self.say(2)
        self.follow()

        self.say(3)

        self.assertEqual(self.program.got, [3, 4, 5])

    def test_from_a_cursor(self) -> None:
        """The log from there on, out of the store where the cache has it no more, then what comes."""
        self.say(1_000)
        self.chat.core.rooms.find(ALICE, "lobby").clear_cache()
        follower = self.follow(since=Cursor(self.chat.core.epoch, 0))
        self.say(1)

        self.assertEqual(self.program.got, [*range(1, 1_002)])
        self.assertLessEqual(max(self.program.batches), BATCH_EVENTS)
        self.assertEqual(follower.lag, 0)

    def test_the_program_sets_the_pace(self) -> None:
        """One batch at a time: what comes meanwhile waits in the log."""
        self.program.holding = True
        follower = self.follow()
        for _ in range(3):
            self.say(100)
        self.assertEqual((self.program.batches, follower.lag), ([100], 300))

        self.program.holding = False
        self.program.held.pop().callback(None)
        self.chat.turn()

        self.assertEqual(self.program.got, [*range(1, 301)])

    def test_what_fails_is_delivered_again(self) -> None:
        """After a growing delay, and nothing is skipped; the log says it once."""
        follower = self.follow()
        self.program.failing = True
        self.say(3)
        self.chat.pass_time(20)
        self.assertEqual(self.program.got, [])
        self.assertEqual(follower.failures, 5)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

        self.program.failing = False
        self.chat.pass_time(60)

        self.assertEqual(self.program.got, [1, 2, 3])
        self.assertEqual(follower.failures, 0)

    def test_a_named_reader_goes_on_after_a_restart(self) -> None:
        """Its cursor is in the store; what was said while it was away comes first."""
        follower = self.follow(name="index", since=Cursor(self.chat.core.epoch, 0))
        self.say(3)
        self.successResultOf(follower.stop())
        self.say(2)
        self.assertEqual(self.program.got, [1, 2, 3])

        after = self.chat.restarted()
        self.follow(after, name="index")
        after.turn()

        self.assertEqual(self.program.got, [1, 2, 3, 4, 5])

    def test_a_crash_before_the_cursor_is_saved(self) -> None:
        """The batch comes again: at least once, in order."""
        self.patch(self.chat.store, "save_cursor", lambda *_, **options: fail(Unavailable("the disk is full")))
        self.follow(name="index", since=Cursor(self.chat.core.epoch, 0))
        self.say(3)
        self.assertEqual(self.program.got, [1, 2, 3])

        self.follow(self.chat.restarted(), name="index", since=Cursor(self.chat.core.epoch, 0))

        self.assertEqual(self.program.got, [1, 2, 3, 1, 2, 3])

    def test_a_cursor_of_another_log(self) -> None:
        """The program is told, and gets everything that is kept."""
        self.say(2)
        self.follow(since=Cursor("elsewhere", 1, "x-1"))

        self.assertEqual(self.program.resets, [Unrecoverable.EPOCH])
        self.assertEqual(self.program.got, [1, 2])

    def test_a_room_that_keeps_nothing(self) -> None:
        """A slow program misses what the cache has dropped, and goes on in order."""
        limits = Limits(send_per_second=0, person_per_second=0, query_per_second=0, recent_events=10)
        self.begin(limits, {"live": RoomPolicy(durable=False)})
        alice = self.chat.json(ALICE, "live")
        self.program.holding = True
        self.follow(room="live")
        for _ in range(30):
            self.say(1, alice, "live")
        self.program.holding = False
        self.program.held.pop().callback(None)
        self.chat.turn()

        self.assertEqual(self.program.got[0], 1)
        self.assertEqual(self.program.got[-1], 30)
        self.assertEqual(self.program.got, sorted(set(self.program.got)))
        self.assertLess(len(self.program.got), 30)

    def test_stop(self) -> None:
        """Fires when the delivery in progress has ended; nothing is delivered afterwards."""
        self.program.holding = True
        follower = self.follow()
        self.say(1)
        stopped = follower.stop()
        self.assertNoResult(stopped)

        self.program.held.pop().callback(None)
        self.chat.turn()
        self.successResultOf(stopped)
        self.say(1)

        self.assertEqual(self.program.got, [1])
        self.successResultOf(follower.stop())

    def test_stop_while_it_waits_to_try_again(self) -> None:
        """At once, and no call is left for later."""
        follower = self.follow()
        self.program.failing = True
        self.say(1)
        self.assertEqual(follower.failures, 1)
        self.flushLoggedErrors(ZeroDivisionError)

        self.successResultOf(follower.stop())

        self.program.failing = False
        self.chat.pass_time(120)
        self.assertEqual(self.program.got, [])

    def test_the_end_of_the_chat(self) -> None:
        """It waits for the delivery in progress and its cursor; a later start goes on behind it."""
        self.program.holding = True
        self.follow(name="index")
        self.say(2)
        self.say(3)
        ended = self.chat.core.drain.begin()
        self.chat.turn()
        self.assertNoResult(ended)

        self.program.holding = False
        self.program.held.pop().callback(None)
        self.chat.turn()

        self.successResultOf(ended)
        self.assertEqual(len(self.chat.core.followers), 0)
        self.assertEqual(self.program.got, [1, 2])
        kept = self.successResultOf(self.chat.store.load_cursors("index"))
        self.assertEqual(kept["lobby"].seq, 2)

    def test_names(self) -> None:
        """A name that the store would keep has a bound; a refused one changes nothing."""
        self.follow(name="x" * 128)
        for name in ("", "x" * 129, "x" * 1_000_000):
            error: BadRequest = self.assertRaises(BadRequest, self.follow, name=name)
            self.assertIn("name: 1 to 128 characters", error.message)
        self.assertEqual(len(self.chat.core.followers), 1)

    def test_a_cursor_ahead_of_a_restored_log(self) -> None:
        """Delivery begins again, and the cursor goes back with it once."""
        self.say(2)
        ahead = Cursor(self.chat.core.epoch, 9, "x-9")
        self.successResultOf(self.chat.store.save_cursor("index", "lobby", ahead))
        self.follow(name="index")

        self.assertEqual(self.program.resets, [Unrecoverable.AHEAD])
        self.assertEqual(self.program.got, [1, 2])
        self.assertEqual(self.successResultOf(self.chat.store.load_cursors("index"))["lobby"].seq, 2)

    def test_a_store_that_cannot_be_read(self) -> None:
        """It is tried again, with the same position."""
        self.say(3)
        self.chat.core.rooms.find(ALICE, "lobby").clear_cache()
        self.chat.store.deaf = True
        self.follow(name="index", since=Cursor(self.chat.core.epoch, 0))
        self.chat.pass_time(3)
        self.assertEqual(self.program.got, [])
        self.flushLoggedErrors()

        self.chat.store.deaf = False
        self.chat.pass_time(10)

        self.assertEqual(self.program.got, [1, 2, 3])

    def test_a_followed_room_is_not_forgotten(self) -> None:
        """Nobody is in it and nothing was said, but a program waits for it."""
        self.follow(room="quiet")
        self.chat.pass_time(130)

        self.say(1, self.chat.json(ALICE, "quiet"), "quiet")

        self.assertEqual(self.program.got, [1])
