"""The faults.  Each is a coroutine that makes one happen and answers what shows that it did."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater

from tests.harness.serving import ROOT, Served, environment, free_port
from tests.jepsen.proxy import Pair, Proxy, Way

CONFIG = """\
[limits]
ping_seconds = 1
send_per_second = 0
person_per_second = 0
query_per_second = 0
connections_per_address = 5000
"""
#: Seconds that a paused server stands still: beyond the client's patience, or within.
PAUSES = (0.4, 1.0, 4.0)


class World:
    """The server, the proxy, and the workers."""

    def __init__(self, reactor: Any, directory: Path, numbers: random.Random, workers: dict[str, str]) -> None:
        self.reactor = reactor
        self.directory = directory
        self.numbers = numbers
        self.happened: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        (directory / "chat.toml").write_text(CONFIG)
        self.port = free_port()
        self.server = self.start_server()
        self.server.wait_for("READY=1")
        self.proxy = Proxy(reactor, self.port)
        self.kinds = workers
        self.workers = {name: self.start_worker(name) for name in workers}

    # Parts

    def start_server(self) -> Served:
        where = self.directory / "server"
        listen = f"--listen=tcp:{self.port}:interface=127.0.0.1"
        store = f"--store=sqlite:{self.directory / 'chat.db'}"
        return Served(where, listen, store, f"--config={self.directory / 'chat.toml'}", "--drain-seconds=3")

    async def server_ready(self) -> None:
        """Without standing in the way of the proxy."""
        while "READY=1" not in self.server.states:
            try:
                self.server.wait_for("READY=1", 0)
            except AssertionError:
                if self.server.process.poll() is not None:
                    raise
                await self.wait(0.05)

    def end_server(self) -> None:
        self.server.__exit__(None, None, None)

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        module = "tests.jepsen.raw" if self.kinds[name] == "raw" else "tests.jepsen.worker"
        url = f"ws://127.0.0.1:{self.proxy.port}/ws"
        command = [sys.executable, "-m", module, self.kinds[name], name, url, str(self.directory)]
        with open(self.directory / f"{name}.err", "ab") as errors:
            return subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=errors)

    async def wait(self, seconds: float) -> None:
        await deferLater(self.reactor, seconds)

    # Faults

    def faults(self) -> list[Callable[[], Awaitable[None]]]:
        """One of each kind."""
        return [
            self.kill_server,
            self.terminate_server,
            self.pause_server,
            self.cut_all,
            self.cut_half,
            self.half_open,
            self.lose_acknowledgements,
            self.kill_client,
        ]

    async def kill_server(self) -> None:
        """kill -9, and start again."""
        self.server.process.send_signal(signal.SIGKILL)
        if self.server.process.wait() == -signal.SIGKILL:
            self.did("kill_server")
        self.end_server()
        self.server = self.start_server()
        await self.server_ready()

    async def terminate_server(self) -> None:
        """As an operator does it."""
        self.server.process.send_signal(signal.SIGTERM)
        while self.server.process.poll() is None:
            await self.wait(0.02)
        if self.server.process.returncode == 0:
            self.did("terminate_server")
        self.end_server()
        self.server = self.start_server()
        await self.server_ready()

    async def pause_server(self) -> None:
        """The process stands still, as a virtual machine does that is moved."""
        self.server.process.send_signal(signal.SIGSTOP)
        await self.wait(PAUSES[self.happened["pause_server"] % len(PAUSES)])
        if _stands_still(self.server.process.pid):
            self.did("pause_server")
        self.server.process.send_signal(signal.SIGCONT)

    async def cut_all(self) -> None:
        """All connections are reset."""
        self._cut(list(self.proxy.pairs), "cut_all")

    async def cut_half(self) -> None:
        """Half of them."""
        pairs = await self._some_pairs()
        self._cut(self.numbers.sample(pairs, (len(pairs) + 1) // 2), "cut_half")

    def _cut(self, pairs: list[Pair], kind: str) -> None:
        for pair in pairs:
            pair.cut()
        self.effects[f"{kind}: connections"] += len(pairs)
        if pairs:
            self.did(kind)

    async def half_open(self) -> None:
        """Half of the connections are dead, and nobody is told."""
        pairs = await self._some_pairs()
        chosen = self.numbers.sample(pairs, (len(pairs) + 1) // 2)
        for pair in chosen:
            pair.way = Way.SWALLOWED
        for _ in range(200):
            if all(pair not in self.proxy.pairs for pair in chosen):
                break
            await self.wait(0.05)
        swallowed = sum(pair.lost_bytes > 0 for pair in chosen)
        self.effects["half_open: connections"] += swallowed
        for pair in chosen:
            pair.cut()
        if swallowed and all(pair not in self.proxy.pairs for pair in chosen):
            self.did("half_open")

    async def lose_acknowledgements(self) -> None:
        """The server hears and keeps, its answers are lost, and then the connection breaks."""
        pairs = await self._some_pairs()
        for pair in pairs:
            pair.way = Way.UNANSWERED
        await self.wait(0.3)
        lost = sum(pair.lost_bytes for pair in pairs)
        self.effects["lose_acknowledgements: bytes"] += lost
        for pair in pairs:
            pair.cut()
        if lost:
            self.did("lose_acknowledgements")

    async def kill_client(self) -> None:
        """kill -9 of a worker, which starts again with what is in its files."""
        names = sorted(self.workers, key=lambda name: (name[1:], name))  # one of each kind in turn
        name = names[self.happened["kill_client"] % len(names)]
        worker = self.workers[name]
        worker.kill()
        if worker.wait() == -signal.SIGKILL:
            self.did("kill_client")
        self.effects[f"kill_client: {name}"] += 1
        self.workers[name] = self.start_worker(name)

    def did(self, kind: str) -> None:
        """A fault of that kind has happened."""
        self.happened[kind] += 1

    async def _some_pairs(self) -> list[Pair]:
        """The connections that go through, when most workers have one."""
        pairs: list[Pair] = []
        for _ in range(100):
            pairs = [pair for pair in self.proxy.pairs if pair.way is Way.THROUGH and pair.back is not None]
            if len(pairs) * 2 > len(self.workers):
                break
            await self.wait(0.05)
        return sorted(pairs, key=id)


def _stands_still(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
