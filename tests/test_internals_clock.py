"""The reactor's timers do not depend on the time of the day."""

from __future__ import annotations

import time

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.internals.clock import use_monotonic_time


class MonotonicTimeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = SelectReactor()
        self.addCleanup(self.close)

    def close(self) -> None:
        self.reactor.removeAll()
        for call in self.reactor.getDelayedCalls():
            call.cancel()

    def test_clock(self) -> None:
        """A call is due by the monotonic clock, which the main loop reads."""
        changed = use_monotonic_time(self.reactor)

        begin = time.monotonic()
        call = self.reactor.callLater(5, lambda: None)

        self.assertTrue(changed)
        self.assertTrue(begin + 5 <= call.getTime() <= time.monotonic() + 5)
        timeout = self.reactor.timeout()
        assert timeout is not None
        self.assertTrue(4 < timeout <= 5, timeout)

    def test_calls_that_wait(self) -> None:
        """Calls from before keep the time that is left to them, and can be put off."""
        done: list[int] = []
        later = self.reactor.callLater(100, done.append, 1)
        self.reactor.callLater(0, done.append, 2)

        use_monotonic_time(self.reactor)
        left = later.getTime() - time.monotonic()
        self.reactor.runUntilCurrent()
        later.reset(0)
        self.reactor.runUntilCurrent()

        self.assertTrue(99 < left <= 100, left)
        self.assertEqual(done, [2, 1])

    def test_own_clock(self) -> None:
        """A reactor with a clock of its own keeps it, and so does one that was changed before."""
        clock = Clock()
        use_monotonic_time(self.reactor)

        self.assertFalse(use_monotonic_time(clock))
        self.assertFalse(use_monotonic_time(self.reactor))
        self.assertEqual(clock.seconds(), 0.0)

    def test_names(self) -> None:
        """Twisted still has the two clocks that are replaced."""
        call = DelayedCall(0, lambda: None, (), {}, lambda call: None, lambda call: None)

        self.assertIsInstance(ReactorBase.__dict__["seconds"], staticmethod)
        self.assertIn("seconds", vars(call))
