"""A real server in a process of its own, for the tests with real sockets (``test_live_*.py``)."""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.waiting import PATIENCE

ROOT = Path(__file__).parent.parent.parent
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


def free_port() -> int:
    """A port that nobody listens on now, and that no outgoing connection takes before a server listens there, or comes back."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as outgoing:
        begin, end = map(int, outgoing.read().split())
    below, above = range(max(1024, begin - 12_000), begin), range(end + 1, 65_536)
    ports = max(below, above, key=len) or range(begin, end + 1)
    while True:
        port = random.choice(ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class NotReady(AssertionError):
    """The server ended before it was ready."""


def environment(**more: str) -> dict[str, str]:
    """The environment without what configures a chat, finding this checkout's code."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TWISTED_CHAT_", "NOTIFY_", "STATE_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **more}


class Served:
    """``twistd -n chat`` in ``directory``; used as a context it ends with it.

    :param arguments: options; without a ``--listen`` among them a free port of the loopback is taken.
    :ivar states: what systemd would have been told, one datagram each.
    """

    def __init__(self, directory: str | Path, *arguments: str, **environ: str) -> None:
        self.directory = Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        listens = any(argument.startswith("--listen") for argument in arguments)
        self.arguments = [*arguments] if listens else ["--listen", "tcp:0:interface=127.0.0.1", *arguments]
        self.states: list[str] = []
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"\0twisted-chat-test-{os.getpid()}-{id(self)}"
        self._notify.bind(name)
        self._environ = environment(NOTIFY_SOCKET="@" + name[1:], **environ)
        self._out = (self.directory / "stdout").open("wb")
        self._err = (self.directory / "stderr").open("wb")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [*TWISTD, "-n", "--pidfile=", "chat", *self.arguments]
        return subprocess.Popen(command, cwd=self.directory, env=self._environ, stdout=self._out, stderr=self._err)

    def __enter__(self) -> Served:
        self.wait_for("READY=1")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for file in (self._out, self._err, self._notify):
            file.close()

    def wait_for(self, state: str, patience: float = PATIENCE) -> None:
        """Until systemd would have been told ``state``, now or earlier since the last call."""
        deadline = time.monotonic() + patience
        while True:
            while select.select([self._notify], [], [], 0.02)[0]:
                told = self._notify.recv(65536).decode().splitlines()
                self.states += told
                if state in told:
                    return
            if self.process.poll() is not None:
                raise NotReady(f"ended with {self.process.returncode}: {self.stderr or self.stdout}")
            if time.monotonic() > deadline:
                raise NotReady(f"never said {state}, but {self.states}: {self.stdout}{self.stderr}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    @property
    def stdout(self) -> str:
        return (self.directory / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.directory / "stderr").read_text()

    @property
    def url(self) -> str:
        """Of the page."""
        found = re.search(r"^  Page +(\S+)$", self.stdout, re.MULTILINE) or re.search(r"Serving on (\S+?)[; ]", self.stdout)
        assert found is not None, self.stdout
        return found[1]

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])

    @property
    def websocket(self) -> str:
        return "ws" + self.url.removeprefix("http").rstrip("/")


class ServedCase(SynchronousTestCase):
    """One server for all tests of a class, where what one test leaves behind disturbs no other."""

    server: Served

    @classmethod
    def make_server(cls, directory: Path) -> Served:
        """Start it, on an empty directory."""
        raise NotImplementedError

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        directory = Path.cwd() / f"{cls.__module__}.{cls.__name__}"
        directory.mkdir()
        cls.server = cls.make_server(directory)
        try:
            cls.server.__enter__()
        except BaseException:
            cls.server.__exit__(None, None, None)
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.__exit__(None, None, None)
        super().tearDownClass()


def run(directory: str | Path, arguments: Sequence[str], **environ: str) -> subprocess.CompletedProcess[str]:
    """``twistd -n chat`` that is expected to end by itself."""
    command = [*TWISTD, "-n", "--pidfile=", "chat", *arguments]
    Path(directory).mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        command, cwd=directory, env=environment(**environ), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
