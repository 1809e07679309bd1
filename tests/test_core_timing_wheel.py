"""One wheel for all."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.core.scheduler import SLOTS, TimingWheel


class Visits:
    def __init__(self, wheel: TimingWheel, every: int = 0) -> None:
        self.wheel = wheel
        self.every = every
        self.ticks: list[int] = []

    def on_timer(self, tick: int) -> int:
        self.ticks.append(tick)
        if self.every:
            self.wheel.schedule(self.every, self)
        return self.every


class Broken(Visits):
    def on_timer(self, tick: int) -> int:
        super().on_timer(tick)
        raise ZeroDivisionError


class WheelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = TimingWheel(self.clock.callLater)
        self.wheel.start()
        self.wheel.start()

    def turn(self, seconds: int) -> None:
        self.clock.pump([1.0] * seconds)

    def test_a_visit_comes_in_its_second(self) -> None:
        """Once; and never for who asked to be forgotten."""
        one, two, three = (Visits(self.wheel) for _ in range(3))

        self.turn(100)
        self.wheel.schedule(5, one)
        self.wheel.schedule(SLOTS - 1, two)
        self.wheel.cancel(self.wheel.schedule(5, three), three)
        self.turn(300)

        self.assertEqual((one.ticks, two.ticks, three.ticks), ([105], [100 + SLOTS - 1], []))

    def test_what_is_further_ahead_is_visited_early(self) -> None:
        """What is due beyond the wheel is visited at the end of the round, what is due now in the next second."""
        far, now = Visits(self.wheel), Visits(self.wheel)

        self.wheel.schedule(10_000, far)
        self.wheel.schedule(0, now)
        self.turn(SLOTS)

        self.assertEqual((far.ticks, now.ticks), ([SLOTS - 1], [1]))

    def test_visits_that_ask_for_more(self) -> None:
        """A visit that schedules the next one is visited regularly."""
        visits = Visits(self.wheel, 25)

        self.wheel.schedule(25, visits)
        self.turn(101)

        self.assertEqual(visits.ticks, [25, 50, 75, 100])

    def test_one_that_fails_does_not_stop_the_wheel(self) -> None:
        """A failing visit is logged, and later ones happen."""
        broken, fine = Broken(self.wheel), Visits(self.wheel)

        self.wheel.schedule(1, broken)
        self.wheel.schedule(2, fine)
        self.turn(3)

        self.assertEqual((broken.ticks, fine.ticks), ([1], [2]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop(self) -> None:
        """A stopped wheel visits nobody and leaves no delayed call."""
        visits = Visits(self.wheel)

        self.wheel.schedule(2, visits)
        self.wheel.stop()
        self.turn(5)

        self.assertEqual((visits.ticks, self.clock.getDelayedCalls()), ([], []))
