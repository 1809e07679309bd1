"""What a connection and a delivery cost, in numbers that no machine changes: sends, bytes of heap."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from types import FrameType
from typing import Any

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import UNBOUND, ChatHarness, guest
from tests.harness.counting import garbage, instructions
from tests.harness.http_memory import KEY
from tests.harness.ws_memory import CLOSE, TEXT, FakeSocket, client_frame, server_frames, use_clock
from twisted_chat.interfaces import Admission, Dialect, Handshake
from twisted_chat.websocket.factory import ChatFactory

#: Python's heap for a connection that says nothing: protocol, transport, session and cursor; bare Autobahn takes 9 kB.
PLAIN_BYTES = 3_000
JSON_BYTES = 3_000
#: Bytecode instructions for a close frame; making Autobahn's state takes 3,000.
CLOSE_INSTRUCTIONS = 500
#: Python functions for a line that comes alone in its read.
CALLS_FOR_ONE_LINE = 10.5


class EffortTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = use_clock(self)
        self.chat = ChatHarness(self, UNBOUND)
        self.factory = ChatFactory(self.chat.core.open_session, lambda address: None, UNBOUND, reactor=self.reactor)

    def connect(self, number: int, dialect: Dialect = Dialect.TEXT) -> Any:
        """A member of the lobby on Twisted's transport over a fake socket."""
        admission = Admission(user=guest("alice", number), dialect=dialect, room="lobby", address="192.0.2.7")
        protocol: Any = self.factory.open_socket(admission, Handshake(KEY))
        transport: Any = tcp.Connection(FakeSocket(), protocol, self.reactor)  # type: ignore[arg-type]
        transport.connected = True
        transport.startReading()
        protocol.makeConnection(transport)
        self.chat.turn()
        transport.socket.take()
        transport.socket.sends = 0
        return protocol

    def test_one_send_for_each_member(self) -> None:
        """20 lines in one read: one ``send`` for each of 100 members, and none of the reactor's."""
        members = [self.connect(number) for number in range(100)]

        members[0].dataReceived(client_frame(TEXT, b"hello") * 20)
        self.chat.turn()
        sockets = [member.transport.socket for member in members]

        self.assertEqual([socket.sends for socket in sockets], [1] * 100)
        self.assertEqual(server_frames(sockets[99].sent), [(TEXT, b"hello")] * 20)
        self.assertEqual(self.reactor.writers, set())

    def test_lines_of_several_in_one_turn(self) -> None:
        """What 10 members say in one turn reaches each in one ``send``, too."""
        members = [self.connect(number) for number in range(10)]

        for member in members:
            member.dataReceived(client_frame(TEXT, b"hello"))
        self.chat.turn()

        self.assertEqual([member.transport.socket.sends for member in members], [1] * 10)

    def test_calls_for_one_line(self) -> None:
        """One line in each read, as where people take turns: the functions entered from the read to the last send.

        Each is about 1 % of what the server needs for such a line.
        """
        members = [self.connect(number) for number in range(32)]
        line = client_frame(TEXT, b"hello")

        def calls(turns: int) -> int:
            count = 0

            def profile(frame: FrameType, event: str, argument: object) -> None:
                nonlocal count
                count += event == "call" and "/tests/" not in frame.f_code.co_filename

            sys.setprofile(profile)
            try:
                for _ in range(turns):
                    for member in members:
                        member.dataReceived(line)
                    self.chat.turn()
            finally:
                sys.setprofile(None)
            return count

        calls(1)

        self.assertLessEqual(calls(10) / 320, CALLS_FOR_ONE_LINE)

    def test_slow_member_costs_nobody(self) -> None:
        """A socket that takes nothing is tried once, and not again for each message."""
        members = [self.connect(number) for number in range(10)]
        slow = members[5].transport.socket
        slow.room = 0

        for _ in range(20):
            members[0].dataReceived(client_frame(TEXT, b"hello"))
            self.chat.turn()

        self.assertEqual([member.transport.socket.sends for member in members], [20] * 5 + [1] + [20] * 4)

    def test_closing(self) -> None:
        """The server's close frame, and the peer's answer to it, need nothing of Autobahn's state."""
        connection, answered = self.connect(1), self.connect(2)

        cost = instructions(lambda: connection.close(1012, "restart"))
        cost += instructions(lambda: answered.close(1012, "restart"))
        answered.dataReceived(client_frame(CLOSE, b"\x03\xf4"))

        self.assertLess(cost, 2 * CLOSE_INSTRUCTIONS)
        self.assertFalse(connection._awake or answered._awake)

    def test_end_of_the_server(self) -> None:
        """What a client is told before the close frame, and the frame itself, are one ``send``."""
        connections = [self.connect(1, Dialect.TEXT), self.connect(2, Dialect.JSON)]

        self.chat.core.drain.begin()
        self.chat.turn()

        self.assertEqual([connection.transport.socket.sends for connection in connections], [1, 1])
        sent = [server_frames(connection.transport.socket.take()) for connection in connections]
        self.assertEqual([[opcode for opcode, _ in frames] for frames in sent], [[CLOSE], [TEXT, CLOSE]])

    def test_heap_of_idle_connections(self) -> None:
        """An idle connection takes no more memory than its bound."""
        self.assertLess(self.heap(Dialect.TEXT), PLAIN_BYTES)
        self.assertLess(self.heap(Dialect.JSON), JSON_BYTES)

    def test_heap_of_awakened_connections(self) -> None:
        """The bound above would notice if every connection made Autobahn's state."""
        self.assertGreater(self.heap(Dialect.TEXT, client_frame(TEXT, b"x", fin=False) + client_frame(0, b"y")), PLAIN_BYTES)

    def test_freed_at_once(self) -> None:
        """Nothing of a connection that has ended waits for the garbage collector, which comes after a million objects or more."""
        said = (
            b'{"type":"hello","id":1}',
            b'{"type":"join","id":2,"room":"den"}',
            b'{"type":"send","id":3,"room":"den","text":"x"}',
        )
        for dialect in Dialect:
            with garbage() as left:
                connections = [self.connect(number, dialect) for number in range(3)]
                for connection in connections:
                    for command in said:
                        connection.dataReceived(client_frame(TEXT, command))
                        self.chat.turn()
                connections[0].transport.connectionLost(Failure(ConnectionDone()))
                connections[1].link.session.close(1012, "restart")
                connections[1].dataReceived(client_frame(CLOSE, b"\x03\xf4"))
                for connection in connections[1:]:
                    connection.transport.connectionLost(Failure(ConnectionDone()))
                self.chat.turn()
                del connection
                connections.clear()

            self.assertEqual(left, [])

    def heap(self, dialect: Dialect, data: bytes = b"") -> float:
        """Bytes for one more connection that has received ``data``."""
        kept = [self.connect(number, dialect) for number in range(20)]
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for number in range(20, 220):
                protocol = self.connect(number, dialect)
                if data:
                    protocol.dataReceived(data)
                    protocol.transport.socket.take()
                kept.append(protocol)
            gc.collect()
            return (tracemalloc.get_traced_memory()[0] - before) / 200
        finally:
            tracemalloc.stop()
