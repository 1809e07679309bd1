"""Runs in the background of a test session: their results, their limits, and what happens when the session ends early."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.long import AT_ONCE, LongRun, LongRuns
from tests.harness.waiting import wait_until


def run(program: str, timeout: float = 60.0) -> LongRun:
    return LongRun([sys.executable, "-c", program], os.environ, timeout)


class LongRunsTests(SynchronousTestCase):
    def queue(self, *runs: LongRun) -> LongRuns:
        queue = LongRuns(Path(self.mktemp()))
        self.addCleanup(queue.stop)
        queue.start(runs)
        return queue

    def test_results(self) -> None:
        """Each run has what it printed, its errors and its status, however many wait."""
        runs = [
            run(f"import sys; print('out {n}'); print('error {n}', file=sys.stderr); sys.exit({n})") for n in range(AT_ONCE + 3)
        ]
        queue = self.queue(*runs)

        found = [queue.result(each) for each in reversed(runs)]

        self.assertEqual(found, [(f"out {n}\n", f"error {n}\n", n) for n in reversed(range(AT_ONCE + 3))])

    def test_another_process_reads(self) -> None:
        """A queue that only knows the directory waits for the one that runs."""
        running = run("print('here')")
        queue = self.queue(running)

        self.assertEqual(LongRuns(queue.directory).result(running), ("here\n", "", 0))

    def test_alone(self) -> None:
        """Without a queue, as in a debugger, the run begins when its result is wanted."""
        self.assertEqual(run("print('alone')").result(), ("alone\n", "", 0))

    def test_too_long(self) -> None:
        """It is killed with what it started, and its errors say so."""
        out, errors, status = run("import time; print('begun', flush=True); time.sleep(600)", timeout=0.5).result()

        self.assertEqual((out, status), ("begun\n", -9))
        self.assertIn("killed after 0.5 s", errors)

    def test_the_session_is_interrupted(self) -> None:
        """Nothing of it goes on, and what waited never begins."""
        begun = Path(self.mktemp()).absolute()
        runs = [
            run(f"import pathlib, time; pathlib.Path({str(begun)!r} + '{n}').touch(); time.sleep(600)")
            for n in range(AT_ONCE + 1)
        ]
        queue = self.queue(*runs)
        wait_until(lambda: all(begun.with_name(f"{begun.name}{n}").exists() for n in range(AT_ONCE)))

        queue.stop()

        self.assertFalse(begun.with_name(f"{begun.name}{AT_ONCE}").exists())
        self.assertEqual({queue.result(each)[2] for each in runs[:AT_ONCE]}, {-9})

    def test_the_first_process_has_crashed(self) -> None:
        """The others do not wait for ever."""
        running = run("import time; time.sleep(600)")
        queue = self.queue()
        ended: Any = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        (queue.directory / "owner").write_text(str(ended.pid))

        error = self.assertRaises(AssertionError, queue.result, running)
        self.assertIn("has ended", str(error))
