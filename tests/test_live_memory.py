"""What one peer can make the server hold, measured on the process."""

from __future__ import annotations

import os
import re
import socket
from base64 import b64encode
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.servers import PATIENCE, JsonClient, Server

MEBIBYTE = 1_048_576
#: Bytes that one connection pushes as fast as it can, with all rates off.
PUSHED = 64 * MEBIBYTE
#: Bytes by which the process may grow meanwhile: what may wait for the disk (``uncommitted_bytes``), and half of it on the way.
GROWTH = 96 * MEBIBYTE
LINE = 16_000


class PushingTests(SynchronousTestCase):
    def peak(self, process: int) -> int:
        """The most memory that the process has had, in bytes."""
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{process}/status").read_text(), re.M)
        assert found is not None
        return int(found[1]) * 1024

    def test_one_connection_that_pushes(self) -> None:
        """64 MiB as fast as they go, by a plain client without any rate: the process grows by a bounded part of it."""
        with Server(self.mktemp()) as server:
            with JsonClient(server.websocket) as client:
                client.ask({"type": "join", "room": "lobby"})
                client.ask({"type": "send", "room": "lobby", "text": "x" * LINE})
            before = self.peak(server.process.pid)
            with socket.create_connection(("127.0.0.1", server.port)) as plain:
                plain.settimeout(PATIENCE)
                key = b64encode(os.urandom(16)).decode()
                plain.sendall(
                    f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
                )
                frame = b"\x81\xfe" + LINE.to_bytes(2, "big") + bytes(4) + b"x" * LINE
                try:
                    for _ in range(PUSHED // LINE):
                        plain.sendall(frame)
                        while self.readable(plain):
                            plain.recv(MEBIBYTE)
                except ConnectionError:
                    pass  # told that too much waits (4504), which is one way to be bounded
            grown = self.peak(server.process.pid) - before
            self.assertLess(grown, GROWTH, f"{grown / MEBIBYTE:.0f} MiB")

    def readable(self, plain: socket.socket) -> bool:
        plain.setblocking(False)
        try:
            return bool(plain.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            plain.settimeout(PATIENCE)
