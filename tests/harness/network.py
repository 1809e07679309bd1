"""A network before a server that lets HTTP through and does something else with WebSockets; for ``blocking`` and in memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

#: What becomes of a request; every other text but the empty one is the status of a page that answers it.
HANGS, SILENT, STRIPPED = "hangs", "silent", "stripped"
_END = b"\r\n\r\n"
_WEBSOCKET = re.compile(rb"(?im)^upgrade: *websocket")
_UPGRADE = re.compile(rb"(?im)^upgrade:.*\r\n|^connection:.*upgrade.*\r\n")
_PAGE = b"<p>no</p>"


def page(status: bytes) -> bytes:
    """An answer that is not the server's."""
    head = b"HTTP/1.1 %b\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, len(_PAGE)) + _PAGE


class Between(Protocol):
    """One connection between a client and the server; the first request decides what becomes of it."""

    def __init__(self, network: Network, inner: Any) -> None:
        self.network = network
        self.protocol = inner  #: as a transport's: an upgrade puts another one there
        self.block = ""
        self._head = b""
        self._begun = False
        self._answered = False

    def connectionMade(self) -> None:
        self.network.open.add(self)
        self.protocol.makeConnection(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.network.open.discard(self)
        self.protocol.connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        if self._begun:
            if self.block in ("", STRIPPED):
                self.protocol.dataReceived(data)
            return
        self._head += data
        if _END in self._head:
            self._begun = True
            self._begin(self._head)

    def __getattr__(self, name: str) -> Any:
        """To the server this is its transport."""
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        if self.block == SILENT:
            # The head of the 101 comes through, and nothing after it.
            head, end, _ = data.partition(_END)
            data = b"" if self._answered else head + end
            self._answered = self._answered or bool(end)
        self.transport.write(data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def _begin(self, head: bytes) -> None:
        if _WEBSOCKET.search(head):
            self.network.tried += 1
            self.block = self.network.block
        else:
            self.block = self.network.http
        if self.block in ("", SILENT):
            self.protocol.dataReceived(head)
        elif self.block == STRIPPED:
            self.protocol.dataReceived(_UPGRADE.sub(b"", head))
        elif self.block != HANGS:
            assert self.transport is not None
            self.transport.write(page(self.block.encode()))
            self.transport.loseConnection()


class Network(Factory):
    """All connections.

    :param site: the factory of the server's side; its answer is None while nobody listens.
    :ivar block: what becomes of WebSockets: ``""`` (nothing), :data:`HANGS`, :data:`SILENT`, :data:`STRIPPED`, or a status line.
    :ivar http: what becomes of everything else.
    :ivar tried: WebSockets that were tried.
    """

    noisy = False

    def __init__(self, site: Callable[[], IProtocolFactory | None], block: str) -> None:
        self.site = site
        self.block = block
        self.http = ""
        self.tried = 0
        self.open: set[Between] = set()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        site = self.site()
        inner = None if site is None else site.buildProtocol(addr)  # type: ignore[arg-type]
        return None if inner is None else Between(self, inner)
