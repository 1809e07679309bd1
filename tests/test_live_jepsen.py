"""A minute of faults, and a thousand clients whose server restarts: nothing is lost, doubled or out of order."""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.long import LongRun
from tests.harness.serving import environment

#: Seconds of faults.
SECONDS = 60
FAULTS = {
    "kill_server",
    "terminate_server",
    "pause_server",
    "cut_all",
    "cut_half",
    "half_open",
    "lose_acknowledgements",
    "kill_client",
}


_FAULTS_RUN = LongRun([sys.executable, "-m", "tests.jepsen", str(SECONDS)], environment(), timeout=400)
_HERD_RUN = LongRun([sys.executable, "-m", "tests.jepsen.herd", "1000"], environment(), timeout=400)


class JepsenTests(SynchronousTestCase):
    #: Begun while other tests run: it mostly waits.
    long_runs = {"test_faults": _FAULTS_RUN, "test_herd": _HERD_RUN}

    def report(self, run: LongRun) -> dict[str, Any]:
        out, errors, _ = run.result()
        self.assertTrue(out, errors)
        found: dict[str, Any] = json.loads(out)
        return found

    def test_faults(self) -> None:
        """Our own clients and one that is not ours, a server killed, ended and paused, connections cut, deaf and half answered."""
        report = self.report(_FAULTS_RUN)

        self.assertEqual(report["wrong"], [], report)
        self.assertGreaterEqual(report["seconds"], SECONDS, report)
        self.assertGreaterEqual(report["acknowledged"], 5_000, report)
        self.assertEqual(set(report["faults"]), FAULTS, report)
        self.assertGreaterEqual(min(report["faults"].values()), 3, report)
        self.assertGreater(report["effects"]["lose_acknowledgements: bytes"], 0, report)

    def test_herd(self) -> None:
        """All are back and complete, spread over five seconds and more, and the server's own limits refused nobody."""
        report = self.report(_HERD_RUN)

        self.assertEqual((report["returned"], report["complete"]), (1_000, 1_000), report)
        self.assertGreaterEqual(report["spread_seconds"], 5.0, report)
        self.assertEqual(report["handshakes_refused"], [], report)
