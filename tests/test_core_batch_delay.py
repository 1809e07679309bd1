"""When a batch begins."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import append_to
from twisted_chat.core.commit import ENOUGH_EVENTS, MAX_DELAY_SECONDS, MAX_DELAY_TURNS, BatchDelay
from twisted_chat.core.scheduler import Scheduler, Work


class GatheringTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.calls: list[Work] = []
        self.waiting = 0
        self.now = 0.0
        self.begun: list[int] = []
        self.gathering = BatchDelay(Scheduler(append_to(self.calls)), lambda: self.waiting, self.begin, lambda: self.now)

    def begin(self) -> None:
        self.begun.append(self.waiting)
        self.waiting = 0

    def come(self, count: int) -> None:
        self.waiting += count
        self.gathering.start()

    def turn(self) -> None:
        """What the reactor does once; a ``Clock`` would do all that follows from it, too."""
        calls = self.calls[:]
        self.calls.clear()
        for call in calls:
            call()

    def test_one_at_a_time(self) -> None:
        """Who writes alone waits for nothing but the end of the turn."""
        for _ in range(3):
            self.come(1)
            self.turn()
        self.assertEqual(self.begun, [1, 1, 1])

    def test_all_of_a_turn(self) -> None:
        """All that comes in one turn is one batch."""
        self.come(1)
        self.come(4)
        self.turn()

        self.assertEqual(self.begun, [5])

    def test_waits_for_the_others(self) -> None:
        """After a batch of 16 the first line of the next ones waits until nearly all of them are there."""
        self.come(16)
        self.turn()
        self.come(1)
        self.turn()
        self.turn()

        self.assertEqual(self.begun, [16])

        self.come(12)
        self.turn()

        self.assertEqual(self.begun, [16])

        self.come(1)
        self.turn()

        self.assertEqual(self.begun, [16, 14])

    def test_many_are_enough(self) -> None:
        """A batch of thousands is not worth waiting for: its fsync costs each line nothing already."""
        self.come(10 * ENOUGH_EVENTS)
        self.turn()
        self.come(ENOUGH_EVENTS)
        self.turn()

        self.assertEqual(self.begun, [10 * ENOUGH_EVENTS, ENOUGH_EVENTS])

    def test_waits_not_for_ever(self) -> None:
        """If nobody else comes it begins all the same, and soon expects less."""
        self.come(16)
        self.turn()
        turns = []

        for _ in range(10):
            self.come(1)
            count = 0
            before = len(self.begun)
            while len(self.begun) == before:
                self.turn()
                count += 1
            turns.append(count)

        self.assertEqual(turns[0], MAX_DELAY_TURNS + 1)
        self.assertEqual(turns[-1], 1)

    def test_not_through_long_turns(self) -> None:
        """A batch is not held back over a turn that is long because of a large fan-out."""
        self.come(16)
        self.turn()
        self.come(1)
        self.turn()
        self.now += MAX_DELAY_SECONDS
        self.turn()

        self.assertEqual(self.begun, [16, 1])

    def test_now(self) -> None:
        """What came while the last batch was under way begins at once."""
        self.come(4)
        self.turn()
        self.waiting = 3

        self.gathering.start_now()

        self.assertEqual(self.begun, [4, 3])
