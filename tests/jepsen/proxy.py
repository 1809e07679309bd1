"""A TCP proxy that does to connections what networks do."""

from __future__ import annotations

from collections import Counter
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
    HELD = auto()  #: nothing arrives until the network heals, then everything does


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
        self.way = proxy.way
        self.lost_bytes = 0
        #: The first bytes that the client sent.
        self.first = b""
        #: What was held, by who said it; no bytes: the end of that side.
        self.held: list[tuple[Side, bytes]] = []
        self.router = Front(self)
        self.back: Back | None = None
        self.server_port = proxy.server_port
        self._early = b""

    @property
    def listed(self) -> bool:
        """Whether the client's side is there."""
        return self in self.proxy.pairs

    def reach_server(self) -> None:
        factory = ClientFactory()
        factory.noisy = False
        factory.buildProtocol = lambda addr: Back(self)  # type: ignore[method-assign]
        factory.clientConnectionFailed = lambda connector, reason: self.cut()  # type: ignore[method-assign]
        self.proxy.reactor.connectTCP("127.0.0.1", self.server_port, factory)

    def reached(self, back: Back) -> None:
        self.back = back
        self.proxy.reached[self.server_port] += 1
        early, self._early = self._early, b""
        if early:
            back.transport.write(early)

    def carry(self, sender: Side, data: bytes) -> None:
        """Bytes came."""
        if not self.first and sender is self.router:
            self.first = data
        if self.way is Way.HELD:
            self.held.append((sender, data))
        elif self.way is Way.SWALLOWED or (self.way is Way.UNANSWERED and sender is self.back):
            self.lost_bytes += len(data)
        elif sender is self.back:
            self.router.transport.write(data)
        elif self.back is None:
            self._early += data
        else:
            self.back.transport.write(data)

    def heal(self) -> None:
        """What was held arrives, as it does when a network is repaired."""
        held, self.held, self.way = self.held, [], Way.THROUGH
        for side, data in held:
            if data:
                self.carry(side, data)
            else:
                self.ended(side)

    def cut(self) -> None:
        """Reset both connections."""
        for side in (self.router, self.back):
            if side is not None and side.transport is not None:
                side.transport.abortConnection()

    def ended(self, side: Side) -> None:
        """One connection has ended: so does the other, unless nobody may be told."""
        if side is self.router:
            self.proxy.pairs.discard(self)
        if self.way is Way.HELD:
            self.held.append((side, b""))
            return
        if self.way is Way.SWALLOWED:
            return
        other = self.back if side is self.router else self.router
        if other is not None and other.transport is not None:
            other.transport.loseConnection()


class Proxy(Factory):
    """Listens for clients.

    :ivar server_port: where connections that come from now on lead to.
    :ivar way: of connections that come from now on.
    :ivar reached: how many connections reached each of these ports.
    """

    noisy = False
    #: What connections are made of.
    pair_class = Pair

    def __init__(self, reactor: Any, server_port: int) -> None:
        self.reactor = reactor
        self.server_port = server_port
        self.pairs: set[Pair] = set()
        self.accepted = 0
        self.way = Way.THROUGH
        self.reached: Counter[int] = Counter()
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1", backlog=1024)

    @property
    def port(self) -> int:
        number: int = self._port.getHost().port
        return number

    def stop(self) -> Any:
        """Listen no more, and cut what there is; fires when the port is free."""
        for pair in list(self.pairs):
            pair.cut()
        return self._port.stopListening()

    def buildProtocol(self, addr: IAddress | None) -> Front:
        pair = self.pair_class(self)
        self.pairs.add(pair)
        self.accepted += 1
        return pair.router
