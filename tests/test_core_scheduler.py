"""The end of a reactor turn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import append_to
from twisted_chat.core.scheduler import Scheduler


class TurnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.turn = Scheduler(append_to(self.calls))
        self.done: list[str] = []

    def run_turn(self) -> None:
        """One turn of the reactor: what was scheduled before it."""
        calls = self.calls[:]
        self.calls.clear()
        for call in calls:
            call()

    def note(self, what: str) -> None:
        self.done.append(what)

    def test_work_is_done_at_the_end_together(self) -> None:
        """One call of the reactor for all of it, in order."""
        for what in "abc":
            self.turn.at_end(partial(self.note, what))

        self.assertEqual((self.done, len(self.calls)), ([], 1))

        self.run_turn()
        self.assertEqual((self.done, self.calls), (["a", "b", "c"], []))

    def test_work_that_makes_work(self) -> None:
        """At the end: still in this turn; next: after the reactor has looked at its sockets."""

        def first() -> None:
            self.note("first")
            self.turn.at_next(partial(self.note, "next"))
            self.turn.at_end(partial(self.note, "end"))

        self.turn.at_end(first)
        self.run_turn()

        self.assertEqual(self.done, ["first", "end"])

        self.run_turn()
        self.assertEqual(self.done, ["first", "end", "next"])

    def test_work_that_fails_takes_nothing_with_it(self) -> None:
        """A failing call is logged, and all others run."""

        def fail() -> None:
            raise ZeroDivisionError

        self.turn.at_end(fail)
        self.turn.at_next(partial(self.note, "other"))
        self.run_turn()
        self.turn.at_end(partial(self.note, "later"))
        self.run_turn()

        self.assertEqual(self.done, ["other", "later"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
