"""Several nodes on one PostgreSQL are hurt in every way, and readers and writers move between them: nothing is lost, doubled or out of
order.  The long way: ``python -m tests.jepsen --nodes 3 60``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.long import LongRun
from tests.harness.serving import environment

#: Seconds of faults; more until each has happened.
SECONDS = 15
FAULTS = {
    "kill_node",
    "terminate_node",
    "pause_node",
    "kill_database",
    "terminate_backends",
    "cut_database",
    "half_open_database",
    "hold_database",
    "lose_commits",
    "lose_notifications",
    "move",
    "cut_all",
    "cut_half",
    "half_open",
    "lose_acknowledgements",
    "kill_client",
    "mute",
    "ban",
    "change_role",
}


def nodes(*arguments: str) -> LongRun:
    """A run with three nodes."""
    return LongRun([sys.executable, "-m", "tests.jepsen", "--nodes=3", *arguments], environment(), timeout=500)


def with_bug(name: str, faults: Sequence[str], times: int) -> LongRun:
    """A short run with a bug and the faults that bring it to light."""
    return nodes(f"--bug={name}", f"--faults={','.join(faults)}", f"--times={times}", "--enough=1", "--rest=5", "3")


_RUN = nodes("--times=1", "--enough=1000", str(SECONDS))
_NO_ROW_LOCK = with_bug("no-row-lock", ["cut_half"], 1)
_NOTIFY_ONLY = with_bug("notify-only", ["cut_half"], 1)
_GUESSED_OUTCOME = with_bug("guessed-outcome", ["lose_commits"], 5)
_RETRY_WITHOUT_KEY = with_bug("retry-without-key", ["lose_acknowledgements"], 3)


class NodesTests(SynchronousTestCase):
    #: Begun while other tests run: it mostly waits.
    long_runs = {
        "test_faults": _RUN,
        "test_no_row_lock": _NO_ROW_LOCK,
        "test_notify_only": _NOTIFY_ONLY,
        "test_guessed_outcome": _GUESSED_OUTCOME,
        "test_retry_without_key": _RETRY_WITHOUT_KEY,
    }

    def report(self, run: LongRun) -> dict[str, Any]:
        out, errors, _ = run.result()
        self.assertTrue(out, errors)
        found: dict[str, Any] = json.loads(out)
        return found

    def test_faults(self) -> None:
        """Nodes killed, ended and paused, the database killed, connections of both sides cut, deaf and half answered."""
        report = self.report(_RUN)

        self.assertEqual(report["wrong"], [], report)
        self.assertGreaterEqual(report["acknowledged"], 1_000, report)
        self.assertEqual(set(report["faults"]), FAULTS, report)
        self.assertGreater(report["effects"]["lose_commits: bytes"], 0, report)
        self.assertGreater(report["effects"]["lose_notifications: notifications"], 0, report)
        self.assertGreaterEqual(min(report["servers_visited"].values()), 2, report)

    def found(self, run: LongRun) -> set[str]:
        """The kinds of what is wrong."""
        report = self.report(run)
        return {complaint.partition(":")[0] for complaint in report["wrong"]}

    def test_no_row_lock(self) -> None:
        """Two nodes that give numbers without the lock of the room give some of them twice."""
        self.assertIn("the numbers of the log are not 1, 2, 3 … without holes", self.found(_NO_ROW_LOCK))

    def test_notify_only(self) -> None:
        """Readers on a node that trusts notifications alone miss the end of the log when these are lost."""
        self.assertIn("another length", self.found(_NOTIFY_ONLY))

    def test_guessed_outcome(self) -> None:
        """A store that appends again whatever had no answer doubles what was committed."""
        self.assertIn("doubled", self.found(_GUESSED_OUTCOME))

    def test_retry_without_key(self) -> None:
        """A client that says again without its key what had no answer is seen twice."""
        self.assertIn("doubled", self.found(_RETRY_WITHOUT_KEY))
