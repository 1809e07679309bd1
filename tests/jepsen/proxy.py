"""A TCP proxy that does to connections what networks do."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.python.failure import Failure


class Way(Enum):
    """What becomes of bytes."""

    THROUGH = auto()
    SWALLOWED = auto()  #: in both directions, and nobody is told: half-open
    UNANSWERED = auto()  #: what the server says is lost, what it hears is not


class Side(Protocol):
    """One of the two connections of a pair."""

    transport: Any

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def dataReceived(self, data: bytes) -> None:
        self.pair.carry(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.pair.ended(self)


class Front(Side):
    """To the client."""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.pair.reach_server()


class Back(Side):
    """To the server."""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.pair.reached(self)


class Pair:
    """A client's connection and the one to the server that continues it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.way = Way.THROUGH
        self.lost_bytes = 0
        self.router = Front(self)
        self.back: Back | None = None
        self._early = b""

    def reach_server(self) -> None:
        factory = ClientFactory()
        factory.noisy = False
        factory.buildProtocol = lambda addr: Back(self)  # type: ignore[method-assign]
        factory.clientConnectionFailed = lambda connector, reason: self.cut()  # type: ignore[method-assign]
        self.proxy.reactor.connectTCP("127.0.0.1", self.proxy.server_port, factory)

    def reached(self, back: Back) -> None:
        self.back = back
        early, self._early = self._early, b""
        if early:
            back.transport.write(early)

    def carry(self, sender: Side, data: bytes) -> None:
        """Bytes came."""
        if self.way is Way.SWALLOWED or (self.way is Way.UNANSWERED and sender is self.back):
            self.lost_bytes += len(data)
        elif sender is self.back:
            self.router.transport.write(data)
        elif self.back is None:
            self._early += data
        else:
            self.back.transport.write(data)

    def cut(self) -> None:
        """Reset both connections."""
        for side in (self.router, self.back):
            if side is not None and side.transport is not None:
                side.transport.abortConnection()

    def ended(self, side: Side) -> None:
        """One connection has ended: so does the other, unless nobody may be told."""
        if side is self.router:
            self.proxy.pairs.discard(self)
        if self.way is Way.SWALLOWED:
            return
        other = self.back if side is self.router else self.router
        if other is not None and other.transport is not None:
            other.transport.loseConnection()


class Proxy(Factory):
    """Listens for clients."""

    noisy = False

    def __init__(self, reactor: Any, server_port: int) -> None:
        self.reactor = reactor
        self.server_port = server_port
        self.pairs: set[Pair] = set()
        self.accepted = 0
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1", backlog=1024)

    @property
    def port(self) -> int:
        number: int = self._port.getHost().port
        return number

    def buildProtocol(self, addr: IAddress | None) -> Front:
        pair = Pair(self)
        self.pairs.add(pair)
        self.accepted += 1
        return pair.router
