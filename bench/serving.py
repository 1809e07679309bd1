"""One server as a child process: started on a free port, watched through :mod:`bench.procfs`, stopped for certain."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import procfs
from bench.programs import Place, Program

#: Seconds a server has until it accepts connections, and to stop after SIGTERM.
START_PATIENCE = 30.0
STOP_PATIENCE = 15.0


class ServerFailed(Exception):
    """It did not start or did not live; the end of its log."""


class Server:
    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.port = port
        self._process = process
        self._log = log
        self._family = [process.pid]

    def settle(self) -> None:
        """Looks for children; afterwards the figures cost no walk through all processes."""
        self._family = procfs.family(self._process.pid)

    def cpu_seconds(self) -> float:
        return procfs.cpu_seconds(self._family)

    def resident_bytes(self) -> int:
        return procfs.resident_bytes(self._family)

    def peak_bytes(self) -> int:
        return procfs.peak_bytes(self._family)

    def stored_bytes(self) -> int:
        """What lies in the files of the store."""
        return sum(path.stat().st_size for path in self._log.parent.glob("chat.db*"))

    def complaint(self) -> str:
        """What it logged last that speaks of an error, or else last of all."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        errors = [line for line in lines if "error" in line.lower()]
        return " / ".join((errors or lines)[-2:])[-300:]

    def alive(self) -> bool:
        return self._process.poll() is None


@contextmanager
def running(
    program: Program, base: Path, certificate: tuple[Path, Path] | None = None, seed: Path | None = None, keep: Path | None = None
) -> Iterator[Server]:
    """The server, accepting connections; its files are gone afterwards.

    :param base: a directory on the disk whose speed is to count.
    :param seed: a directory whose files it finds at its start.
    :param keep: where its files go in the end, to be a seed.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"{program.name}-", dir=base))
    if seed:
        shutil.copytree(seed, directory, dirs_exist_ok=True)
    log = directory / "server.log"
    start = program.start(Place(port := free_port(), directory, certificate))
    with log.open("wb") as output:
        process = subprocess.Popen(
            start.command, cwd=start.directory, env=start.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        server = Server(process, port, log)
        _wait_until_open(server)
        server.settle()
        yield server
    finally:
        _stop(process)
        if keep:
            shutil.copytree(directory, keep)
        shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_open(server: Server) -> None:
    give_up = time.monotonic() + START_PATIENCE
    while time.monotonic() < give_up:
        if not server.alive():
            raise ServerFailed(f"ended at start: {server.complaint()}")
        try:
            socket.create_connection(("127.0.0.1", server.port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise ServerFailed(f"does not listen after {START_PATIENCE:.0f} s: {server.complaint()}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
