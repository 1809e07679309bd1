"""Several real processes at one port, with a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.postgresql import shared
from tests.harness.servers import JsonClient
from tests.harness.serving import Served, wait_until


def children(pid: int) -> list[int]:
    """The processes that the process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def listening(port: int) -> int:
    """How many sockets listen at the port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(1 for line in lines if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A")


class WorkersTests(SynchronousTestCase):
    def setUp(self) -> None:
        database = shared().new_database()
        self.addCleanup(shared().drop_database, database)
        self.server = Served(Path(self.mktemp()), "--workers=3", f"--store={shared().url(database)}")
        self.addCleanup(self.server.__exit__, None, None, None)
        self.server.wait_for("READY=1")
        wait_until(lambda: self.server.stdout.count("Serving on"), lambda count: count == 3)

    def test_all_serve(self) -> None:
        """Connections are spread over all of them, and what one of them keeps reaches the clients of the others."""
        pids = {self.server.process.pid, *children(self.server.process.pid)}
        self.assertEqual(len(pids), 3)
        clients = [JsonClient(self.server.port, "alice") for _ in range(24)]
        for client in clients:
            self.addCleanup(client.close)
            client.ask({"type": "join", "room": "lobby"})

        sent = clients[0].ask({"type": "send", "room": "lobby", "text": "to all"})

        for client in clients:
            event = next(event for event in client.events() if event["type"] == "message")
            self.assertEqual((event["seq"], event["text"]), (sent["seq"], "to all"))
