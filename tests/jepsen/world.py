"""The workers, the network between them and the servers, and the faults of both; what serves them is added by the subclasses.

Each fault is a coroutine that makes it happen and answers nothing; what shows that it did is counted.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.harness.serving import ROOT, Served, environment
from tests.jepsen import governing
from tests.jepsen.governing import write_key
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

Fault: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class World:
    """What faults may be done to.

    :ivar happened: how often each fault had its effect; ``effects`` details of them.
    :ivar kinds: name of a worker -> ``writer``, ``reader`` or ``raw``.
    """

    def __init__(self, reactor: Any, directory: Path, numbers: random.Random, workers: dict[str, str]) -> None:
        self.reactor = reactor
        self.directory = directory
        self.numbers = numbers
        self.happened: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        self.config = directory / "chat.toml"
        self.config.write_text(write_key(directory) + CONFIG)
        self.kinds = workers
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    # What serves

    async def begin(self) -> None:
        """Start what serves, and then the workers."""
        raise NotImplementedError

    def proxies(self) -> Sequence[Proxy]:
        """Those that the workers connect to."""
        raise NotImplementedError

    def proxy_of(self, worker: str) -> Proxy:
        """The one that this worker connects to."""
        raise NotImplementedError

    def ports(self) -> Sequence[int]:
        """Of the servers themselves."""
        raise NotImplementedError

    def end_servers(self) -> None:
        """Whatever state they are in."""
        raise NotImplementedError

    async def calm(self) -> None:
        """No more faults come, and everybody is to come to rest."""

    def heal(self) -> None:
        """Nothing is broken any more."""

    def environ(self) -> dict[str, str]:
        """More for the environment of the workers."""
        return {}

    def visited(self) -> dict[str, int]:
        """On how many servers each worker was."""
        return dict.fromkeys(self.kinds, 1)

    def complaints(self) -> Iterable[str]:
        """What else is wrong in the end."""
        return ()

    # Parts

    def start_workers(self) -> None:
        """All of them."""
        self.workers = {name: self.start_worker(name) for name in self.kinds}

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        module = "tests.jepsen.raw" if self.kinds[name] == "raw" else "tests.jepsen.worker"
        url = f"ws://127.0.0.1:{self.proxy_of(name).port}/ws"
        command = [sys.executable, "-m", module, self.kinds[name], name, url, str(self.directory)]
        with open(self.directory / f"{name}.err", "ab") as errors:
            return subprocess.Popen(command, cwd=ROOT, env=environment(**self.environ()), stderr=errors)

    def end_workers(self) -> None:
        """At once."""
        for worker in self.workers.values():
            if worker.poll() is None:
                worker.kill()
            worker.wait()

    async def wait(self, seconds: float) -> None:
        await deferLater(self.reactor, seconds)

    async def until_ready(self, server: Served) -> None:
        """Without standing in the way of the proxies."""
        while "READY=1" not in server.states:
            try:
                server.wait_for("READY=1", 0)
            except AssertionError:
                if server.process.poll() is not None:
                    raise
                await self.wait(0.05)

    def did(self, kind: str) -> None:
        """A fault of that kind has happened."""
        self.happened[kind] += 1

    # Faults

    def faults(self) -> list[Fault]:
        """One of each kind."""
        of_network = [self.cut_all, self.cut_half, self.half_open, self.lose_acknowledgements]
        return [*of_network, self.kill_client, self.mute, self.ban, self.change_role]

    def meanwhile(self, fault: Fault, others: Sequence[Fault]) -> Fault | None:
        """Another one that happens at the same time."""
        return None

    async def cut_all(self) -> None:
        """All connections are reset."""
        self._cut(self._pairs(), "cut_all")

    async def cut_half(self) -> None:
        """Half of them."""
        self._cut(self._half(await self._some_pairs()), "cut_half")

    def _cut(self, pairs: list[Pair], kind: str) -> None:
        for pair in pairs:
            pair.cut()
        self.effects[f"{kind}: connections"] += len(pairs)
        if pairs:
            self.did(kind)

    async def half_open(self) -> None:
        """Half of the connections are dead, and nobody is told."""
        chosen = self._half(await self._some_pairs())
        for pair in chosen:
            pair.way = Way.SWALLOWED
        for _ in range(200):
            if not any(pair.listed for pair in chosen):
                break
            await self.wait(0.05)
        swallowed = sum(pair.lost_bytes > 0 for pair in chosen)
        self.effects["half_open: connections"] += swallowed
        for pair in chosen:
            pair.cut()
        if swallowed and not any(pair.listed for pair in chosen):
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
        if worker.wait() < 0:
            self.did("kill_client")
        self.effects[f"kill_client: {name}"] += 1
        self.workers[name] = self.start_worker(name)

    async def mute(self) -> None:
        """A raw client may not write for a moment."""
        await self._sanction("mute")

    async def ban(self) -> None:
        """A raw client may not be in the room for a moment."""
        await self._sanction("ban")

    async def _sanction(self, what: str) -> None:
        names = sorted(name for name, kind in self.kinds.items() if kind == "raw")
        name = names[self.happened[what] % len(names)]
        directory, ports = self.directory, self.ports()
        if await deferToThread(governing.sanction, directory, ports, name, what, True):
            await self.wait(self.numbers.uniform(0.3, 1.0))
            self.did(what)
        assert await deferToThread(governing.sanction, directory, ports, name, what, False), (
            f"the {what} of {name} could not be ended"
        )

    async def change_role(self) -> None:
        """A raw client becomes a member, or is none any more."""
        times = self.happened["change_role"]
        names = sorted(name for name, kind in self.kinds.items() if kind == "raw")
        path = f"members/u{names[times // 2 % len(names)]}"
        method, body = ("DELETE", None) if times % 2 else ("PUT", {"role": "member"})
        if await deferToThread(governing.act, self.directory, self.ports(), method, path, body):
            self.did("change_role")

    def _pairs(self) -> list[Pair]:
        return [pair for proxy in self.proxies() for pair in proxy.pairs]

    def _half(self, pairs: list[Pair]) -> list[Pair]:
        return self.numbers.sample(pairs, (len(pairs) + 1) // 2)

    async def _some_pairs(self) -> list[Pair]:
        """The connections that go through, when most workers have one."""
        pairs: list[Pair] = []
        for _ in range(100):
            pairs = [pair for pair in self._pairs() if pair.way is Way.THROUGH and pair.back is not None]
            if len(pairs) * 2 > len(self.workers):
                break
            await self.wait(0.05)
        return sorted(pairs, key=id)


def stands_still(process: int) -> bool:
    """Whether the process is stopped."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
