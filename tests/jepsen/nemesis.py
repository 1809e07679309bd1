"""One server with its database file, and what may happen to it."""

from __future__ import annotations

import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.harness.serving import Served, free_port
from tests.jepsen.proxy import Proxy
from tests.jepsen.world import PAUSES, Fault, World, stands_still


class OneServer(World):
    """One server behind one proxy."""

    def __init__(self, reactor: Any, directory: Path, numbers: random.Random, workers: dict[str, str]) -> None:
        super().__init__(reactor, directory, numbers, workers)
        self.port = free_port()
        self.server = self.start_server()
        self.proxy = Proxy(reactor, self.port)

    async def begin(self) -> None:
        await self.until_ready(self.server)
        self.start_workers()

    def proxies(self) -> Sequence[Proxy]:
        return [self.proxy]

    def proxy_of(self, worker: str) -> Proxy:
        return self.proxy

    def ports(self) -> Sequence[int]:
        return [self.port]

    def end_servers(self) -> None:
        self.server.__exit__(None, None, None)

    def start_server(self) -> Served:
        where = self.directory / "server"
        listen = f"--listen=tcp:{self.port}:interface=127.0.0.1"
        store = f"--store=sqlite:{self.directory / 'chat.db'}"
        return Served(where, listen, store, f"--config={self.config}", "--drain-seconds=3")

    # Faults

    def faults(self) -> list[Fault]:
        return [self.kill_server, self.terminate_server, self.pause_server, *super().faults()]

    async def kill_server(self) -> None:
        """kill -9, and start again."""
        self.server.process.send_signal(signal.SIGKILL)
        if self.server.process.wait() == -signal.SIGKILL:
            self.did("kill_server")
        await self._start_again()

    async def terminate_server(self) -> None:
        """As an operator does it."""
        self.server.process.send_signal(signal.SIGTERM)
        while self.server.process.poll() is None:
            await self.wait(0.02)
        if self.server.process.returncode == 0:
            self.did("terminate_server")
        await self._start_again()

    async def _start_again(self) -> None:
        self.end_servers()
        self.server = self.start_server()
        await self.until_ready(self.server)

    async def pause_server(self) -> None:
        """The process stands still, as a virtual machine does that is moved."""
        self.server.process.send_signal(signal.SIGSTOP)
        await self.wait(PAUSES[self.happened["pause_server"] % len(PAUSES)])
        if stands_still(self.server.process.pid):
            self.did("pause_server")
        self.server.process.send_signal(signal.SIGCONT)
