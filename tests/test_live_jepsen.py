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
    "mute",
    "ban",
    "change_role",
}
#: The server asks a thousand clients to come back after 0.5 s and a random part of ten more.  That the first and the last of n are less
#: than the part r of the ten apart has the probability n r^(n-1) - (n-1) r^n: 4.0e-8 for 9.8 s.  When they are back says nothing: the
#: longer the server takes to start, the more of them wait for it and come in its first second.
LEAST_SPREAD = 9.8
#: A hundred of them in each second.  A second that begins with one of them has more than k with the probability that k or more of the 999
#: others are in it, of which each is with 0.1: for any of the thousand at most 1000 P(Binomial(999, 0.1) >= k), which is 1.5e-7 for 165.
BUSIEST_SECOND = 165

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
        """All are back and complete, none before it was asked to, which is spread, and the server's own limits refused nobody."""
        report = self.report(_HERD_RUN)

        self.assertEqual((report["returned"], report["complete"]), (1_000, 1_000), report)
        self.assertEqual((report["asked"], report["not_asked"], report["tried_early"]), (1_000, [], 0), report)
        first, last = report["asked_seconds"]
        self.assertGreaterEqual(first, 0.5, report)
        self.assertLessEqual(last, 10.5, report)
        self.assertGreaterEqual(last - first, LEAST_SPREAD, report)
        self.assertLessEqual(report["asked_busiest_second"], BUSIEST_SECOND, report)
        self.assertEqual(report["handshakes_refused"], [], report)
