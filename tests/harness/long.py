"""Runs of programs that take a minute and mostly wait: they go on in the background while other tests run, two at a time.

With pytest-xdist, which collects all tests in each of its processes, the first process starts the runs and the others read their results.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.harness.serving import ROOT
from tests.harness.waiting import wait_until

#: How many runs go on at once.
AT_ONCE = 2
#: More than all of them need; each has a limit of its own.
SESSION_SECONDS = 3600.0


class LongRun:
    """One program in a process group of its own; it is killed after ``timeout`` seconds."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], timeout: float) -> None:
        self.command = command
        self.environ = environ
        self.timeout = timeout
        #: The queue that runs it in the background, if there is one.
        self.queue: LongRuns | None = None

    @property
    def name(self) -> str:
        """The same in each process of the test session."""
        return hashlib.sha256("\0".join(self.command).encode()).hexdigest()[:16]

    def result(self) -> tuple[str, str, int]:
        """Wait for its end: what it printed, its errors, its status."""
        if self.queue is None:
            with tempfile.TemporaryDirectory() as directory:
                alone = LongRuns(Path(directory))
                alone.start([self])
                return alone.result(self)
        return self.queue.result(self)


class LongRuns:
    """The runs of one test session.

    :param directory: where the results are written, for all processes of the session.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._waiting: list[LongRun] = []
        self._threads: list[threading.Thread] = []
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def start(self, runs: Iterable[LongRun]) -> None:
        """Run them in this process."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._owner.write_text(str(os.getpid()))
        self._waiting = list(runs)
        for _ in range(AT_ONCE):
            thread = threading.Thread(target=self._run_all, daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def _owner(self) -> Path:
        return self.directory / "owner"

    def result(self, run: LongRun) -> tuple[str, str, int]:
        """Wait for the end of the run, in whatever process it is."""
        result = self.directory / f"{run.name}.json"

        def ended() -> bool:
            if not result.exists():
                try:
                    os.kill(int(self._owner.read_text()), 0)
                except ProcessLookupError:
                    raise AssertionError("the process that runs the long tests has ended") from None
            return result.exists()

        wait_until(ended, patience=SESSION_SECONDS)
        out, errors, status = json.loads(result.read_text())
        return out, errors, status

    def wait(self) -> None:
        """Wait until all have ended: another process may need them."""
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """Kill what is running, and start no more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        self.wait()

    def _run_all(self) -> None:
        while True:
            with self._lock:
                if self._stopped or not self._waiting:
                    return
                run = self._waiting.pop(0)
            self._run(run)

    def _run(self, run: LongRun) -> None:
        # Files, not pipes: nobody reads until the end.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            with self._lock:
                if self._stopped:
                    return
                process = subprocess.Popen(
                    run.command,
                    cwd=ROOT,
                    env=dict(run.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=errors,
                    start_new_session=True,
                )
                self._running.add(process)
            late = ""
            try:
                process.wait(run.timeout)
            except subprocess.TimeoutExpired:
                late = f"\nkilled after {run.timeout} s"
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
            with self._lock:
                self._running.discard(process)
            out.seek(0)
            errors.seek(0)
            printed = json.dumps((out.read().decode(errors="replace"), errors.read().decode(errors="replace") + late, status))
        part = self.directory / f"{run.name}.part"
        part.write_text(printed)
        part.rename(self.directory / f"{run.name}.json")
