"""Several servers on one PostgreSQL, and what may happen to them, to it, and to the network between.

Each node has a proxy of its own before the database.  Each worker has a proxy before the nodes that leads every new connection to one of
those that are up, so readers and writers move.  Only those that go by HTTP keep to one node, because a session by HTTP lives on one; they
move while their streams go on, so that what they post next reaches a node that does not know them.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.threads import deferToThread

from tests.harness.postgresql import PostgreSQL
from tests.harness.serving import Served, free_port
from tests.jepsen import bugs
from tests.jepsen.database import DatabaseProxy
from tests.jepsen.proxy import Front, Proxy, Way
from tests.jepsen.worker import BY_HTTP
from tests.jepsen.world import Fault, World, stands_still

#: Seconds that a node stands still: within the patience of clients, beyond it, and beyond that of the other nodes (10).
PAUSES = (0.4, 4.0, 12.0)
#: Seconds in which nothing passes between a node and the database: within the node's patience for an answer, and beyond it.
SILENCES = (2.0, 18.0, 5.0)
#: Faults of one node that last, so that others happen to the other nodes meanwhile.
LONG = {"pause_node", "half_open_database", "hold_database"}
#: Seconds for the notifications of others to be lost.
DEAF_SECONDS = 2.0
#: Seconds in which a balancer notices that a node is gone.
UNNOTICED = 0.2

#: Which of the connections of all nodes; half of them at a time.
_TERMINATE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < {share}"""


class Balancer(Proxy):
    """Leads each new connection to the port that ``choose`` gives."""

    def __init__(self, reactor: Any, choose: Callable[[], int]) -> None:
        super().__init__(reactor, 0)
        self._choose = choose

    def buildProtocol(self, addr: IAddress | None) -> Front:
        self.server_port = self._choose()
        return super().buildProtocol(addr)


class NodeProcess(Served):
    """``twistd -n chat``, with a bug if one is named."""

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "from tests.jepsen.bugs import run; run()", "-n", "--pidfile=", "chat", *self.arguments]
        return subprocess.Popen(command, cwd=self.directory, env=self._environ, stdout=self._out, stderr=self._err)


class Node:
    """One server, its port and its way to the database.

    :ivar up: a balancer sends clients there.
    """

    def __init__(self, world: Nodes, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.database = DatabaseProxy(world.reactor, world.postgres.port)
        self.up = True
        self._world = world
        self._starts = 0
        self.server = self.start()

    def start(self) -> Served:
        """Start it; what it logs goes to a directory of this start."""
        self._starts += 1
        world = self._world
        self.server = NodeProcess(
            world.directory / self.name / str(self._starts),
            f"--listen=tcp:{self.port}:interface=127.0.0.1",
            f"--store={world.postgres.url(world.database, port=self.database.port)}?sslmode=disable",
            f"--config={world.config}",
            "--drain-seconds=3",
            **{bugs.VARIABLE: world.bug},
        )
        return self.server

    def lost_bytes(self) -> int:
        """Of the connections to the database that are there."""
        return sum(pair.lost_bytes for pair in self.database.pairs)


class Nodes(World):
    """Several nodes.

    :param count: of them.
    :param bug: one of :data:`tests.jepsen.bugs.NAMES`, or nothing.
    """

    def __init__(
        self, reactor: Any, directory: Path, numbers: random.Random, workers: dict[str, str], count: int, bug: str = ""
    ) -> None:
        super().__init__(reactor, directory, numbers, workers)
        self.bug = bug
        self.postgres = PostgreSQL()
        self.database = self.postgres.new_database()
        self.nodes = [Node(self, "node-1")]
        self._count = count
        self._home = {worker: number % count for number, worker in enumerate(workers)}
        self._last: dict[str, Node] = {}
        self._balancers = {worker: Balancer(reactor, lambda worker=worker: self._choose(worker)) for worker in workers}  # type: ignore[misc]
        self._deaf: Node | None = None
        self._hurt: set[Node] = set()

    async def begin(self) -> None:
        await self.until_ready(self.nodes[0].server)
        if self.bug == "no-row-lock":
            for statement in bugs.UNPROTECTED:
                self.postgres.execute(statement, database=self.database)
        # All at once, as after a power cut.
        self.nodes += [Node(self, f"node-{number}") for number in range(2, self._count + 1)]
        for node in self.nodes:
            await self.until_ready(node.server)
        self.start_workers()

    def proxies(self) -> Sequence[Proxy]:
        return list(self._balancers.values())

    def proxy_of(self, worker: str) -> Proxy:
        return self._balancers[worker]

    def ports(self) -> Sequence[int]:
        return [node.port for node in self.nodes]

    def end_servers(self) -> None:
        for node in self.nodes:
            node.server.__exit__(None, None, None)
        self.postgres.remove()

    def environ(self) -> dict[str, str]:
        return {bugs.VARIABLE: self.bug}

    def visited(self) -> dict[str, int]:
        """On how many nodes each worker was."""
        return {worker: len(balancer.reached) for worker, balancer in self._balancers.items()}

    def _choose(self, worker: str) -> int:
        if self._deaf is not None:
            others = [node for node in self.nodes if node is not self._deaf]
            return (self._deaf if self.kinds[worker] == "reader" else self.numbers.choice(others)).port
        up = [node for node in self.nodes if node.up] or self.nodes
        if worker not in BY_HTTP:
            # Never the same one twice in a row, so that everybody moves, however few connections break.
            others = [node for node in up if node is not self._last.get(worker)]
            self._last[worker] = self.numbers.choice(others or up)
            return self._last[worker].port
        home = self.nodes[self._home[worker]]
        return (home if home.up else up[self._home[worker] % len(up)]).port

    async def calm(self) -> None:
        """Who only reads is on a node that hears no notification any more, and nobody writes there."""
        self._deaf = self.numbers.choice(self.nodes)
        self._deaf.database.deaf = True
        for pair in self._pairs():
            pair.cut()
        await self.wait(3.0)

    def heal(self) -> None:
        for node in self.nodes:
            node.database.deaf = False

    def complaints(self) -> Iterable[str]:
        for node in self.nodes:
            if node.server.process.poll() is not None:
                yield f"{node.name} ended by itself with {node.server.process.returncode}: {node.server.stderr[-500:]}"

    # Faults

    def faults(self) -> list[Fault]:
        return [
            self.kill_node,
            self.terminate_node,
            self.pause_node,
            self.kill_database,
            self.terminate_backends,
            self.cut_database,
            self.half_open_database,
            self.hold_database,
            self.lose_commits,
            self.lose_notifications,
            self.move,
            *super().faults(),
        ]

    def meanwhile(self, fault: Fault, others: Sequence[Fault]) -> Fault | None:
        """While one node stands still or hears nothing, something happens to the others."""
        if fault.__name__ not in LONG:
            return None
        short = [other for other in others if other.__name__ not in {*LONG, "kill_database"}]
        return self.numbers.choice(short) if short else None

    @contextmanager
    def _some_node(self) -> Iterator[Node]:
        """A node to which nothing happens now."""
        node = self.numbers.choice([node for node in self.nodes if node not in self._hurt])
        self._hurt.add(node)
        try:
            yield node
        finally:
            self._hurt.remove(node)

    async def kill_node(self) -> None:
        """kill -9, and start again."""
        with self._some_node() as node:
            node.server.process.send_signal(signal.SIGKILL)
            if node.server.process.wait() == -signal.SIGKILL:
                self.did("kill_node")
            await self._start_again(node)

    async def terminate_node(self) -> None:
        """As an operator does it, for a new version."""
        with self._some_node() as node:
            node.server.process.send_signal(signal.SIGTERM)
            await self.wait(UNNOTICED)
            node.up = False
            while node.server.process.poll() is None:
                await self.wait(0.02)
            if node.server.process.returncode == 0:
                self.did("terminate_node")
            await self._start_again(node)

    async def _start_again(self, node: Node) -> None:
        await self.wait(UNNOTICED)
        node.up = False
        node.server.__exit__(None, None, None)
        await self.until_ready(node.start())
        node.up = True

    async def pause_node(self) -> None:
        """The process stands still, as a virtual machine does that is moved."""
        with self._some_node() as node:
            process = node.server.process
            process.send_signal(signal.SIGSTOP)
            await self.wait(PAUSES[self.happened["pause_node"] % len(PAUSES)])
            if stands_still(process.pid):
                self.did("pause_node")
            process.send_signal(signal.SIGCONT)

    async def kill_database(self) -> None:
        """kill -9 of PostgreSQL, and start again: it recovers from its log."""
        await deferToThread(self.postgres.kill)
        self.did("kill_database")
        await self.wait(self.numbers.choice((0.0, 0.5, 2.0)))
        self.postgres.begin()
        while await deferToThread(self.postgres.refusal):
            await self.wait(0.05)

    async def terminate_backends(self) -> None:
        """Connections of the nodes are ended by the database."""
        share = (1.0, 0.5)[self.happened["terminate_backends"] % 2]
        ask = self.postgres.execute
        ((count,),) = await deferToThread(ask, _TERMINATE.format(share=share), database=self.database)
        self.effects["terminate_backends: connections"] += count
        if count:
            self.did("terminate_backends")

    async def cut_database(self) -> None:
        """All connections of a node to the database are reset."""
        with self._some_node() as node:
            self._cut(list(node.database.pairs), "cut_database")

    async def half_open_database(self) -> None:
        """What a node and the database say to one another is lost, and nobody is told."""
        await self._silence("half_open_database", Way.SWALLOWED)

    async def hold_database(self) -> None:
        """Nothing arrives between a node and the database until the network heals; then everything does, whoever still waits for it."""
        await self._silence("hold_database", Way.HELD)

    async def _silence(self, kind: str, way: Way) -> None:
        with self._some_node() as node:
            node.database.way = way
            for pair in node.database.pairs:
                pair.way = way
            silent = set(node.database.pairs)
            end = self.reactor.seconds() + SILENCES[self.happened[kind] % len(SILENCES)]
            while self.reactor.seconds() < end:
                await self.wait(0.05)
                # Also those with which the node tries it again.
                silent |= node.database.pairs
            given_up = sum(not pair.listed for pair in silent)
            self.effects[f"{kind}: connections given up"] += given_up
            if any(pair.lost_bytes or pair.held for pair in silent):
                self.did(kind)
            node.database.way = Way.THROUGH
            for pair in silent:
                if way is Way.HELD:
                    pair.heal()
                else:
                    pair.cut()

    async def lose_commits(self) -> None:
        """The database hears and commits, its answers are lost, and then the connections break."""
        with self._some_node() as node:
            for pair in node.database.pairs:
                pair.way = Way.UNANSWERED
            await self.wait(0.3)
            lost = node.lost_bytes()
            self.effects["lose_commits: bytes"] += lost
            for pair in list(node.database.pairs):
                pair.cut()
            if lost:
                self.did("lose_commits")

    async def lose_notifications(self) -> None:
        """A node hears nothing of the others' notifications."""
        with self._some_node() as node:
            before = node.database.notifications_lost
            node.database.deaf = True
            await self.wait(DEAF_SECONDS)
            node.database.deaf = False
            lost = node.database.notifications_lost - before
            self.effects["lose_notifications: notifications"] += lost
            if lost:
                self.did("lose_notifications")

    async def move(self) -> None:
        """What sessions by HTTP post next reaches another node than their streams come from."""
        moved = 0
        for worker in BY_HTTP & self.kinds.keys():
            self._home[worker] = (self._home[worker] + 1) % len(self.nodes)
            for pair in list(self._balancers[worker].pairs):
                if pair.first.startswith(b"POST"):
                    pair.cut()
                    moved += 1
        self.effects["move: connections"] += moved
        if moved:
            self.did("move")
