"""A WebSocket in memory: the real protocol on Twisted's real TCP transport, over a socket that is a plain object to poke."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Any

import txaio
from twisted.internet import tcp
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.frames import frame_at
from tests.harness.http_memory import KEY
from twisted_chat.interfaces import Admission, Dialect, Handshake
from twisted_chat.limits import Limits
from twisted_chat.users import User
from twisted_chat.websocket.connection import WebSocketLink
from twisted_chat.websocket.factory import ChatFactory

MASK = b"\x12\x34\x56\x78"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
ADMISSION = Admission(user=User(id="g1", name="alice", guest=True), dialect=Dialect.TEXT, room="lobby", address="192.0.2.7")


def masked(payload: bytes, mask: bytes = MASK) -> bytes:
    """RFC 6455 section 5.3, byte by byte."""
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length_bytes: int | None = None,
    length: int | None = None,
) -> bytes:
    """A frame as clients send it, or as they should not.

    :param length_bytes: 0, 2 or 8, to spend more on the length than is needed.
    :param length: what the header says instead of the truth.
    """
    size = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    short = {0: size, 2: 126, 8: 127}[length_bytes]
    extended = size.to_bytes(8, "big")[8 - length_bytes :] if length_bytes else b""
    head = bytes((fin << 7 | rsv << 4 | opcode, (mask is not None) << 7 | short)) + extended
    return head + (payload if mask is None else mask + masked(payload, mask))


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + reason


def server_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Opcode and payload of each frame that the server sent; all are whole and unfragmented."""
    frames, at = [], 0
    while at < len(data):
        assert data[at] & 0xF0 == 0x80, data[at:]
        end, payload = frame_at(data, at)
        assert end <= len(data), "a frame is cut off"
        frames.append((data[at] & 15, payload))
        at = end
    return frames


class FakeSocket:
    """The kernel's side of a connection.

    :ivar room: bytes that ``send`` takes before it raises; None: all.
    :ivar sent: what it took.
    :ivar sends: how often it was called.
    """

    def __init__(self) -> None:
        self.room: int | None = None
        self.broken = False
        self.sent = b""
        self.sends = 0
        self.options: dict[tuple[int, int], int] = {}
        self.closed = False

    def take(self) -> bytes:
        """What was sent since the last call."""
        sent, self.sent = self.sent, b""
        return sent

    def send(self, data: bytes) -> int:
        self.sends += 1
        if self.broken:
            raise BrokenPipeError(errno.EPIPE, "broken")
        taken = len(data) if self.room is None else min(self.room, len(data))
        if data and not taken:
            raise BlockingIOError(errno.EWOULDBLOCK, "full")
        if self.room is not None:
            self.room -= taken
        self.sent += bytes(data[:taken])
        return taken

    def setsockopt(self, level: int, name: int, value: int) -> None:
        self.options[level, name] = value

    def setblocking(self, blocking: bool) -> None:
        pass

    def fileno(self) -> int:
        return -1 if self.closed else 1_000_000 + id(self) % 1_000_000

    def getpeername(self) -> tuple[str, int]:
        return "192.0.2.7", 40_000

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class SocketTransport(tcp.Connection):
    """Twisted's transport over a :class:`FakeSocket`, with the address that such a socket has."""

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.7", 40_000)

    getHost = getPeer


class RecordingSession:
    """A session that records what the edge calls; ``answer`` may be replaced to do something with a message."""

    def __init__(self, link: WebSocketLink) -> None:
        self.link = link
        self.messages: list[tuple[bool, bytes]] = []
        self.batches = 0
        self.calls: list[str] = []

    def received(self, texts: Sequence[bytes]) -> None:
        self.batches += 1
        for text in texts:
            self.messages.append((False, text))
            self.answer(text)

    def received_binary(self, data: bytes) -> None:
        self.messages.append((True, data))

    def answer(self, text: bytes) -> None:
        pass

    def heard(self) -> None:
        pass

    def congested(self) -> None:
        self.calls.append("congested")

    def drained(self) -> None:
        self.calls.append("drained")

    def lost(self) -> None:
        self.calls.append("lost")


class Connection:
    """One WebSocket on a real ``twisted.internet.tcp.Connection`` over a :class:`FakeSocket`."""

    session: RecordingSession

    def __init__(
        self,
        reactor: MemoryReactorClock,
        limits: Limits | None = None,
        *,
        compression: bool = False,
        offer: bytes = b"",
        transport: type[tcp.Connection] = tcp.Connection,
    ) -> None:
        self.reactor: Any = reactor
        self.ended: list[str] = []
        self.factory = ChatFactory(
            self._open_session, self.ended.append, limits or Limits(), compression=compression, reactor=reactor
        )
        self.admission = ADMISSION
        self.socket = FakeSocket()
        self.protocol = self.factory.open_socket(ADMISSION, Handshake(KEY, (offer,) if offer else ()))
        self.transport: Any = transport(self.socket, self.protocol, reactor)  # type: ignore[arg-type]
        self.transport.connected = True

    @property
    def link(self) -> WebSocketLink:
        """What the session has of the connection."""
        return self.protocol.link

    def _open_session(self, link: WebSocketLink, admission: Admission) -> RecordingSession:
        self.session = RecordingSession(link)
        return self.session

    def open(self) -> Connection:
        """Make the connection and read the 101 away."""
        self.transport.startReading()
        self.protocol.makeConnection(self.transport)
        head, end, rest = self.socket.take().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.head, self.socket.sent = head + end, rest
        return self

    def deliver(self, data: bytes) -> bytes:
        """The peer sends ``data``; what the server has sent since the last call."""
        self.protocol.dataReceived(data)
        if self.transport.disconnecting and self.transport in self.reactor.writers:
            # The reactor ends a connection that is to be closed as soon as everything is written.
            result = self.transport.doWrite()
            if result is not None:
                self.lose(result)
        return self.socket.take()

    def drain(self, room: int | None = None) -> bytes:
        """The peer reads: ``room`` bytes, or all there are; what came."""
        self.socket.room = room
        while self.transport in self.reactor.writers:
            before = len(self.socket.sent)
            result = self.transport.doWrite()
            if result is not None:
                self.lose(result)
            if len(self.socket.sent) == before:
                break
        return self.socket.take()

    def lose(self, reason: Exception | None = None) -> None:
        """The connection ends."""
        self.transport.connectionLost(Failure(reason or ConnectionDone()))

    @property
    def reading(self) -> bool:
        return self.transport in self.reactor.readers

    @property
    def no_delay(self) -> int | None:
        return self.socket.options.get((socket.IPPROTO_TCP, socket.TCP_NODELAY))


def use_clock(case: SynchronousTestCase) -> MemoryReactorClock:
    """A reactor in memory; Autobahn's timers, which ignore every other one, use it too."""
    reactor = MemoryReactorClock()
    loops: Any = txaio
    case.patch(loops.config, "loop", reactor)
    return reactor
