"""Several real processes at one port, with a real PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import ConnectionClosed

from tests.harness.postgresql import shared
from tests.harness.servers import JsonClient
from tests.harness.serving import Served
from tests.harness.waiting import PATIENCE, wait_until


def children(pid: int) -> list[int]:
    """The processes that the process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pids: Iterable[int]) -> list[int]:
    """Those that have not ended."""
    return [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()]


def established(pid: int, port: int) -> int:
    """How many connections to the port the process has."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01"}
    return sum(os.readlink(file) in inodes for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink())


class WorkersTests(SynchronousTestCase):
    def setUp(self) -> None:
        database = shared().new_database()
        self.addCleanup(shared().drop_database, database)
        self.server = Served(Path(self.mktemp()), "--workers=3", f"--store={shared().url(database)}")
        self.addCleanup(self.server.__exit__, None, None, None)
        self.server.wait_for("READY=1")
        wait_until(lambda: self.server.stdout.count("Serving on"), lambda count: count == 3)

        self.port = self.server.port

    def client(self, name: str) -> JsonClient:
        """One that is in the lobby."""
        # Who waits at the socket of a process that has ended is served when the next one has started.
        client = JsonClient(self.server.websocket, name, options={"open_timeout": PATIENCE})
        client.__enter__()
        self.addCleanup(client.__exit__, None, None, None)
        client.ask({"type": "join", "room": "lobby"})
        return client

    def test_all_serve(self) -> None:
        """Connections are spread over all of them, and what one of them keeps reaches the clients of the others."""
        pids = {self.server.process.pid, *children(self.server.process.pid)}
        self.assertEqual(len(pids), 3)
        clients = [self.client(f"guest {number}") for number in range(24)]
        owners = {pid: established(pid, self.server.port) for pid in pids}
        self.assertEqual(sum(owners.values()), len(clients), owners)
        self.assertGreater(min(owners.values()), 0, owners)

        sent = clients[0].send("lobby", "k", "to all")

        for client in clients:
            event = next(client.events())
            self.assertEqual((event["seq"], event["text"]), (sent["seq"], "to all"))

    def test_one_is_killed(self) -> None:
        """Its clients come back, to whatever process; nobody who connects meanwhile is refused; it is started again."""
        pid = self.server.process.pid
        victim = children(pid)[0]

        os.kill(victim, signal.SIGKILL)
        clients = [self.client(f"guest {number}") for number in range(24)]

        sent = clients[0].send("lobby", "k", "to all")
        for client in clients:
            self.assertEqual(next(client.events())["seq"], sent["seq"])
        wait_until(lambda: set(children(pid)) - {victim}, lambda others: len(others) == 2)
        self.assertIn("has ended (signal 9)", self.server.stdout + self.server.stderr)

    def test_end(self) -> None:
        """SIGTERM ends all of them, with status 0 and every client told when to come back."""
        clients = [self.client(f"guest {number}") for number in range(12)]
        pids = children(self.server.process.pid)

        self.assertEqual(self.server.end(), 0)

        self.assertEqual(running(pids), [])
        for client in clients:
            said = []
            with contextlib.suppress(ConnectionClosed):
                while True:
                    said.append(client.next())
            [last] = [message for message in said if message["type"] == "bye"]
            self.assertGreater(last["retry_after_ms"], 0, last)

    def test_the_first_is_killed(self) -> None:
        """The others end as well: nothing is left that holds the port."""
        pids = children(self.server.process.pid)

        self.server.process.kill()
        self.server.process.wait()

        wait_until(lambda: running(pids), lambda left: not left)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port))

    def test_reload(self) -> None:
        """SIGHUP reaches all of them."""
        self.server.process.send_signal(signal.SIGHUP)

        wait_until(lambda: (self.server.stdout + self.server.stderr).count("was read again"), lambda count: count == 3)
