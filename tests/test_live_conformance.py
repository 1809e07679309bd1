"""The Autobahn test-suite's cases, run by ``kosoku`` (somebody else's program) against our protocol class with our options."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from importlib.util import find_spec

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.harness.serving import ROOT, environment

#: Framing, pings, reserved bits, opcodes, fragmentation, UTF-8, closing, automatic fragmentation of what we send.
CASES = [f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 10)]
COUNT = 247
#: What a server need not do the one way or the other.
ACCEPTABLE = {"OK", "INFORMATIONAL"}


class ConformanceTests(SynchronousTestCase):
    def run_cases(self, cases: list[str], *arguments: str, acceptable: Collection[str] = ACCEPTABLE) -> Counter[str]:
        """How often there was which verdict; fails with the first cases whose verdicts are not acceptable."""
        if find_spec("kosoku") is None:
            raise SkipTest("kosoku is not installed")
        with subprocess.Popen(
            [sys.executable, "-m", "tests.harness.echo", *arguments],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            try:
                assert server.stdout is not None
                port = int(server.stdout.readline())
                command = [sys.executable, "-m", "tests.harness.fuzzing", f"ws://127.0.0.1:{port}/", *cases]
                told = subprocess.run(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
                results = json.loads(told.stdout)
            finally:
                server.kill()
        bad = [result for result in results if not {result["behavior"], result["behavior_close"]} <= set(acceptable)]
        self.assertEqual(bad[:5], [], f"{len(bad)} of {len(results)} cases")
        return Counter(result["behavior"] for result in results)

    def test_protocol(self) -> None:
        """No case of the Autobahn test-suite fails, and none passes only as non-strict."""
        verdicts = self.run_cases(CASES)
        self.assertEqual(verdicts.total(), COUNT)
        self.assertLessEqual(set(verdicts), ACCEPTABLE)

    def test_protocol_with_compression(self) -> None:
        """permessage-deflate switched on changes nothing for those who do not use it."""
        self.assertEqual(self.run_cases(["1.*", "3.*", "5.*"], "--compression").total(), 16 + 7 + 20)

    def test_compression(self) -> None:
        """A thousand compressed messages for each kind of content and of offer, whole and in fragments."""
        cases = [f"12.{content}.{size}" for content in range(1, 6) for size in (1, 4)] + ["12.1.11", "12.2.11"]
        self.assertEqual(self.run_cases(cases + [f"13.{offer}.1" for offer in (1, 2, 4, 6, 7)], "--compression"), {"OK": 17})

    def test_compression_with_less(self) -> None:
        """Who insists on a window smaller than ours is served without compression: a frame is compressed once for everybody."""
        verdicts = self.run_cases(["13.3.1", "13.5.1"], "--compression", acceptable={"UNIMPLEMENTED", "OK"})
        self.assertEqual(verdicts, {"UNIMPLEMENTED": 2})
