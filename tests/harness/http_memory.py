"""Real requests through the real ``ChatSite``, in memory: bytes in, bytes out, no sockets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HOST = b"chat.test:8080"


class Output(StringTransport):
    """A transport that takes everything."""

    def taken(self) -> bytes:
        """What has been written since the last call."""
        written: bytes = self.value()
        self.clear()
        return written


class Wire(Output):
    """One connection: what a socket is to its protocol, with the peer's end to poke."""

    protocol: Any

    def __init__(self, factory: Any, peer: IAddress | None = None) -> None:
        super().__init__(peerAddress=peer or IPv4Address("TCP", "192.0.2.7", 40_000))
        self.open = True
        self.aborted = False
        self.protocol = factory.buildProtocol(self.getPeer())
        self.protocol.makeConnection(self)

    def deliver(self, data: bytes) -> bytes:
        """The peer sends ``data``; the answer is what the server has written since the last call."""
        self.protocol.dataReceived(data)
        return self.taken()

    def leave(self) -> None:
        """The connection ends."""
        self.open = False
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        self.aborted = True
        self.leave()


class Reply:
    """An HTTP answer taken apart."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status.split(" ")[1]) if status else 0
        self.headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            self.headers[name.lower()] = f"{self.headers[name.lower()]}, {value}" if name.lower() in self.headers else value

    @property
    def error(self) -> Any:
        """The detail of a refusal."""
        return msgspec.json.decode(self.body)["error"]


def request_head(
    method: bytes = b"GET",
    target: bytes = b"/",
    headers: Iterable[tuple[bytes, bytes]] = (),
    *,
    host: bytes | None = HOST,
    version: bytes = b"HTTP/1.1",
) -> bytes:
    """A request as it is on the wire."""
    lines = [b" ".join((method, target, version))]
    if host is not None:
        lines.append(b"Host: " + host)
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def handshake(target: bytes = b"/ws", *extra: tuple[bytes, bytes], without: str = "", **kw: Any) -> bytes:
    """A handshake as browsers send it; a header of ``extra`` comes in addition, ``without`` names one to leave out."""
    headers = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"keep-alive, Upgrade"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", KEY),
    ]
    kept = [header for header in headers if header[0].decode() != without]
    return request_head(target=target, headers=[*kept, *extra], **kw)


class Recorder(Protocol):
    """A protocol in place of the WebSocket edge: writes a mark and keeps what comes."""

    def __init__(self, mark: bytes) -> None:
        self.mark = mark
        self.received = b""
        self.lost = False

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.mark)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.lost = True
