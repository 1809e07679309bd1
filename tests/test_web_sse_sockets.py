"""Streams on Twisted's transport: what a reader costs, and sockets that take a part."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock

from tests.harness.counting import instructions
from tests.harness.http_chat import HttpCase
from tests.harness.http_memory import request_head
from tests.harness.ws_memory import FakeSocket, SocketTransport
from tests.test_web_sse import EVENTS, Reader

#: Bytecode instructions for an event to one more reader; through ``Request.write`` it took 290.
INSTRUCTIONS_FOR_A_READER = 60


class SocketWire(SocketTransport):
    """Twisted's transport over a socket that is an object."""

    def __init__(self, site: Any, request: bytes) -> None:
        protocol = site.buildProtocol(self.getPeer())
        self.clock = MemoryReactorClock()
        super().__init__(FakeSocket(), protocol, self.clock)  # type: ignore[arg-type]
        self.connected = True
        self.startReading()
        protocol.makeConnection(self)
        protocol.dataReceived(request)

    def taken(self) -> bytes:
        """The socket is free: what it takes."""
        while self in self.clock.writers:
            self.doWrite()
        socket: Any = self.socket
        found: bytes = socket.take()
        return found


class SocketTests(HttpCase):
    def open(self, version: bytes = b"HTTP/1.1", method: bytes = b"GET") -> Any:
        request = request_head(method, EVENTS.encode(), [(b"Accept", b"text/event-stream")], version=version)
        return SocketWire(self.site, request)

    def test_one_send_for_each_event(self) -> None:
        """An event is given to each socket directly, without the reactor."""
        wires = [self.open() for _ in range(20)]
        for wire in wires:
            self.assertTrue(wire.taken().startswith(b"HTTP/1.1 200 OK\r\n"))
            wire.socket.sends = 0

        self.say("hello")
        self.turn()

        self.assertEqual([wire.socket.sends for wire in wires], [1] * 20)
        self.assertEqual([wire in wire.clock.writers for wire in wires], [False] * 20)

    def test_instructions(self) -> None:
        """A reader more costs a delivery little."""

        def cost(count: int) -> int:
            for _ in range(count):
                self.open().taken()
            return instructions(lambda: self.say("hello"), "")

        few = cost(20)
        many = cost(20)

        self.assertLess((many - few) / 20, INSTRUCTIONS_FOR_A_READER)

    def test_a_socket_that_takes_a_part(self) -> None:
        """The rest waits, the reader falls behind, and reads on: every event once, in order, in whole chunks."""
        wire: Any = self.open()
        reader = Reader(wire)
        reader.events()

        for number in range(60):
            wire.socket.room = 37
            self.say(f"{number}:" + "x" * 100)
        self.assertLess(len(wire.socket.sent), 80)
        wire.socket.room = None
        texts: list[str] = []
        for _ in range(10):
            texts += reader.texts()
            self.turn()

        self.assertEqual([text.partition(":")[0] for text in texts], [str(number) for number in range(60)])

    def test_old_http(self) -> None:
        """A client of HTTP/1.0 gets no chunks."""
        wire = self.open(b"HTTP/1.0")
        wire.taken()

        self.say("hello")
        self.turn()

        self.assertEqual(wire.taken()[:4], b"id: ")

    def test_head(self) -> None:
        """A HEAD request gets no body, whatever is said."""
        wire = self.open(method=b"HEAD")
        head = wire.taken()

        self.say("hello")
        self.turn()

        self.assertTrue(head.endswith(b"\r\n\r\n"))
        self.assertEqual(wire.taken(), b"")
