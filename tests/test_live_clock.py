"""A server whose machine's clock is set while it runs."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.serving import ROOT, Served
from tests.harness.waiting import PATIENCE

#: In place of ``sitecustomize``, which Python imports first of all: the time of the day is off by what the file says.
SETTABLE = """
import os, time
real = time.time

def settable():
    with open({path!r}) as file:
        return real() + float(file.read())

time.time = settable
"""


class ClockTests(SynchronousTestCase):
    def test_set_back(self) -> None:
        """When the clock is set back by an hour, deadlines are kept, and messages have the new time."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        offset = directory / "offset"
        offset.write_text("0")
        (directory / "sitecustomize.py").write_text(SETTABLE.format(path=str(offset)))
        paths = os.pathsep.join([str(directory), str(ROOT)])

        with Served(directory, "--limit", "handshake_seconds=1", PYTHONPATH=paths) as server:
            before = self.say(server, "one")
            new = directory / "new"
            new.write_text("-3600")
            new.rename(offset)

            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as slow:
                slow.sendall(b"GET / HT")
                answer = slow.recv(1024)
            after = self.say(server, "two")
            status = server.end()

        self.assertTrue(answer.startswith(b"HTTP/1.1 408 "), answer)
        self.assertTrue(-3_700_000 < after - before < -3_500_000, after - before)
        self.assertEqual(status, 0)

    def say(self, server: Served, text: str) -> int:
        """Send a message; its time in the log."""
        body = text.encode()
        head = f"POST /api/v1/rooms/lobby/events HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        _ask(server, f"{head}Content-Type: text/plain\r\n\r\n".encode() + body)
        page = _ask(server, b"GET /api/v1/rooms/lobby/events?limit=1 HTTP/1.0\r\nHost: localhost\r\n\r\n")
        return int(page.partition(b'"at":')[2].partition(b",")[0])


def _ask(server: Served, request: bytes) -> bytes:
    """The whole answer to one request."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(request)
        return connection.recv(65_536, socket.MSG_WAITALL)
