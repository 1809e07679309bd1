"""A stream takes its connection over: what it costs at rest, what comes behind its request, how it ends."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from tests.harness.chat import UNBOUND
from tests.harness.counting import garbage
from tests.harness.http_chat import HttpCase
from tests.harness.http_memory import KEY, Reply, Wire, request_head
from tests.harness.ws_memory import FakeSocket
from twisted_chat.core.chat import Chat
from twisted_chat.interfaces import Admission, Dialect, Handshake
from twisted_chat.web.sse import StreamSession
from twisted_chat.web.stream_connection import StreamConnection
from twisted_chat.websocket.factory import ChatFactory

PATH = b"/api/v1/rooms/lobby/events"
#: What a browser sends with an ``EventSource``, in part.
HEADERS = [
    (b"Accept", b"text/event-stream"),
    (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36"),
    (b"Accept-Language", b"en-US,en;q=0.9"),
    (b"Accept-Encoding", b"gzip, deflate, br"),
    (b"Sec-Fetch-Mode", b"cors"),
]
#: How much more a reader of a stream may hold than a WebSocket.
TIMES_A_SOCKET = 1.3
CONNECTIONS = 150


class Transport(tcp.Connection):
    """Twisted's own, over a socket that is a plain object."""

    def getPeer(self) -> IAddress:
        return IPv4Address("TCP", "192.0.2.7", 40_000)

    def getHost(self) -> IAddress:
        return IPv4Address("TCP", "192.0.2.1", 80)


class EffortTests(HttpCase):
    limits = UNBOUND

    def setUp(self) -> None:
        super().setUp()
        self.reactor = MemoryReactorClock()
        self.sockets = ChatFactory(self.core.open_session, lambda address: None, UNBOUND, reactor=self.reactor)

    def connect(self, protocol: Any) -> Transport:
        """Connect the protocol to a transport."""
        loose: Any = FakeSocket()
        transport = Transport(loose, protocol, self.reactor)
        transport.connected = True
        transport.startReading()
        protocol.makeConnection(transport)
        return transport

    def read_room(self, path: bytes = PATH, last: bytes = b"event: live") -> Transport:
        """A reader of the room by HTTP, or a session by HTTP."""
        transport = self.connect(self.site.buildProtocol(None))
        transport.protocol.dataReceived(request_head(target=path, headers=HEADERS))
        self.turn()
        if transport in self.reactor.writers:
            transport.doWrite()
        loose: Any = transport.socket
        self.assertIn(last, loose.take())
        return transport

    def open_socket(self) -> Transport:
        """The same reader by a WebSocket that speaks plain text."""
        user = self.request_auth.user(None, None, None)
        admission = Admission(user=user, dialect=Dialect.TEXT, room="lobby", address="192.0.2.7")  # type: ignore[arg-type]
        transport = self.connect(self.sockets.open_socket(admission, Handshake(KEY)))
        self.turn()
        loose: Any = transport.socket
        loose.take()
        return transport

    def heap(self, connect: Callable[[], Transport]) -> float:
        """Bytes of Python's heap for one more connection at rest."""
        kept = [connect() for _ in range(20)]
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            kept += [connect() for _ in range(CONNECTIONS)]
            gc.collect()
            return (tracemalloc.get_traced_memory()[0] - before) / CONNECTIONS
        finally:
            tracemalloc.stop()

    def test_heap(self) -> None:
        """A reader by HTTP holds little more than one by WebSocket: no request, no header, no channel."""
        stream = self.heap(self.read_room)
        self.setUp()
        socket = self.heap(self.open_socket)

        self.assertLess(stream / socket, TIMES_A_SOCKET, f"{stream:.0f} and {socket:.0f} bytes")

    def test_freed_at_once(self) -> None:
        """Nothing of a stream that has ended waits for the garbage collector, whoever ended it."""
        session_path = b"/api/v1/session"
        self.read_room()
        self.read_room(session_path, b"event: open")

        for closed in (False, True):
            with garbage() as left:
                transports = [self.read_room(), self.read_room(), self.read_room(session_path, b"event: open")]
                if closed:
                    for session in self.core.sessions:
                        session.close(1012, "restart")
                    del session
                for transport in transports:
                    transport.connectionLost(Failure(ConnectionDone()))
                self.turn()
                del transport
                transports.clear()

            self.assertEqual(left, [])


class StreamTests(HttpCase):
    def stream(self, version: bytes = b"HTTP/1.1") -> Wire:
        """A reader that has had the first events."""
        wire = Wire(self.site)
        wire.protocol.dataReceived(request_head(target=PATH, headers=HEADERS, version=version))
        self.turn()
        self.first = wire.taken()
        self.assertIsInstance(wire.protocol, StreamConnection)
        return wire

    def close(self) -> None:
        """The server ends the stream."""
        for session in self.core.sessions:
            session.close(1012, "restart")

    def test_end(self) -> None:
        """The answer is ended, logged and counted as every other one; then the connection ends."""
        wire = self.stream()
        self.close()

        self.assertTrue(wire.taken().endswith(b"\r\n0\r\n\r\n"))
        self.assertTrue(wire.disconnecting)
        (line,) = [line for line in self.lines if line["path"] == PATH.decode()]
        self.assertEqual((line["method"], line["status"], line["address"]), ("GET", 200, "192.0.2.7"))
        self.assertEqual((self.limiter.connections, len(self.core.sessions)), (0, 0))

        wire.leave()
        self.assertEqual(self.site.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [call for call in self.clock.getDelayedCalls() if call.getTime() <= 61])

    def test_end_that_is_not_taken(self) -> None:
        """A reader that does not take the last bytes is dropped after a minute, and counted."""
        wire = self.stream()
        self.close()
        self.pass_time(61)

        self.assertTrue(wire.aborted)
        self.assertEqual((self.site.unanswered, self.site.connections), (1, set()))

    def test_old_version(self) -> None:
        """HTTP/1.0 knows no chunks: the end of the connection is the end of the answer."""
        wire = self.stream(b"HTTP/1.0")
        self.say("hello")

        self.assertNotIn("transfer-encoding", Reply(self.first).headers)
        self.assertRegex(wire.taken(), rb"^id: [^\n]+\ndata: {[^\n]+}\n\n$")
        self.close()
        self.assertRegex(wire.taken(), rb"^event: bye\ndata: {[^\n]+}\n\n$")
        self.assertTrue(wire.disconnecting)

    def test_what_comes_behind_the_request(self) -> None:
        """It is never answered: a little of it is dropped, and of much nothing is read."""
        wire = self.stream()
        wire.protocol.dataReceived(request_head() * 10)
        self.assertEqual((wire.taken(), wire.producerState), (b"", "producing"))

        wire.protocol.dataReceived(request_head() * 1_000)

        self.assertEqual((wire.taken(), wire.producerState), (b"", "paused"))
        self.say("hello")
        self.assertIn(b"hello", wire.taken())

    def test_fault_at_the_beginning(self) -> None:
        """A stream that cannot begin is refused, or dropped if its head has been written; nothing is left of it."""

        def broken(*arguments: object) -> None:
            raise ZeroDivisionError

        for owner, name, answer in ((Chat, "add_session", b"HTTP/1.1 500"), (StreamSession, "enter_room", b"HTTP/1.1 200")):
            with self.subTest(name):
                patch = self.patch(owner, name, broken)
                wire = Wire(self.site)
                wire.protocol.dataReceived(request_head(target=PATH, headers=HEADERS))
                self.turn()
                patch.restore()

                self.assertTrue(wire.taken().startswith(answer))
                self.assertEqual(wire.aborted, answer.endswith(b"200"))
                self.assertEqual((self.limiter.connections, len(self.core.sessions)), (0, 0))
                if wire.open:
                    wire.leave()
                self.assertEqual(self.site.connections, set())
