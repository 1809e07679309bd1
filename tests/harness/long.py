"""Runs of programs that take a minute and mostly wait: begun when the tests begin, looked at where their test stands."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import IO

from tests.harness.serving import ROOT


class LongRun:
    """One program in a process group of its own."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._command = command
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        # Files, not pipes: nobody reads until the end.
        self._files = ExitStack()
        self._out: IO[bytes]
        self._errors: IO[bytes]

    def begin(self) -> None:
        """Start it; once."""
        if self._process is None:
            self._out = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # closed by end()
            self._errors = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # closed by end()
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=dict(self._environ),
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._errors,
                start_new_session=True,
            )

    def result(self, timeout: float) -> tuple[str, str, int]:
        """Wait for its end: what it printed, its errors, its status."""
        self.begin()
        assert self._process is not None
        status = self._process.wait(timeout)
        self._out.seek(0)
        self._errors.seek(0)
        return self._out.read().decode(), self._errors.read().decode(), status

    def end(self) -> None:
        """Kill it and what it started, if it is still there."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._files.close()
