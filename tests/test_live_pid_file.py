"""The pid file of twistd: what becomes of it in the foreground, and where it cannot be written."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.serving import TWISTD, environment
from tests.harness.waiting import PATIENCE, wait_until

OPTIONS = ("--store=memory:", "--listen=tcp:0:interface=127.0.0.1")


class RefusedTests(SynchronousTestCase):
    def line(self, *words: str) -> str:
        """What is said, in one line."""
        directory = Path(self.mktemp())
        directory.mkdir()
        command = [*TWISTD, *words, "chat", *OPTIONS]
        ended = subprocess.run(
            command, cwd=directory, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        self.assertEqual((ended.returncode, ended.stdout, list(directory.iterdir())), (1, "", []))
        (line,) = ended.stderr.splitlines()
        return line

    def test_full_disk(self) -> None:
        """Twisted has found out whether another server runs by then, so the file is there and has no room."""
        for words in (("-n", "--pidfile=/dev/full"), ("--pidfile=/dev/full",)):
            self.assertEqual(
                self.line(*words),
                "twisted_chat: --pidfile /dev/full: cannot be written: No space left on device; "
                "free space on that disk, or name a file on another one, or none with --pidfile=",
            )

    def test_no_directory(self) -> None:
        """Also below ``--rundir``."""
        for words in (("-n", "--pidfile=no/chat.pid"), ("--pidfile", "no/chat.pid"), ("--rundir=/", "--pidfile=no/chat.pid")):
            self.assertEqual(
                self.line(*words),
                "twisted_chat: --pidfile no/chat.pid: cannot be written: No such file or directory; "
                "make its directory, or name a file in another one, or none with --pidfile=",
            )

    def test_log(self) -> None:
        """The log file, too."""
        line = self.line("-n", "--logfile=/proc/chat.log")

        self.assertIn("--logfile /proc/chat.log: cannot be written: No such file or directory; make its directory", line)


class ForegroundTests(SynchronousTestCase):
    def serve(self, directory: str | Path, *words: str) -> list[str]:
        """The files in the directory while a server runs there, whose output is elsewhere."""
        output = Path(self.mktemp())
        command = [*TWISTD, "-n", *words, "chat", *OPTIONS]
        with output.open("wb") as out:
            process = subprocess.Popen(command, cwd=directory, env=environment(), stdout=out, stderr=subprocess.STDOUT)
        try:
            wait_until(output.read_text, lambda text: "is ready" in text or process.poll() is not None)
            self.assertIn("is ready", output.read_text())
            return os.listdir(directory)
        finally:
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(PATIENCE), 0)

    def test_not_writable(self) -> None:
        """A directory in which nobody may write, not even root."""
        self.serve("/proc")

    def test_left_by_a_killed_server(self) -> None:
        """The number in the file is that of a process that runs, as it always is for number 1 in a container."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "twistd.pid").write_text(str(os.getpid()))

        self.assertEqual(self.serve(directory), ["twistd.pid"])
        self.assertEqual((directory / "twistd.pid").read_text(), str(os.getpid()))

    def test_asked_for(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()

        self.assertEqual(self.serve(directory), [])
        self.assertEqual(self.serve(directory, "--pidfile=twistd.pid"), ["twistd.pid"])
        self.assertEqual(os.listdir(directory), [])
