"""Connections in memory: two transports, and a wire between them that a test may cut, stop or make deaf.

Bytes take a turn of the clock (or ``latency``) from one end to the other, as they would through a socket; nothing is called
back from inside ``write``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

SERVER = IPv4Address("TCP", "192.0.2.1", 80)


@implementer(ITransport, IConsumer, IPushProducer)
class End:
    """One end's transport."""

    def __init__(self, wire: Wire, address: IAddress, peer: IAddress) -> None:
        self.wire = wire
        self.protocol: IProtocol | None = None
        self.other: End = self
        self.connected = True
        self.disconnecting = False
        self.producer: Any = None
        self._address = address
        self._peer = peer
        self._paused = False
        self._arrived = b""

    # ITransport

    def write(self, data: bytes) -> None:
        if self.connected and not self.disconnecting and data:
            self.wire.carry(self, bytes(data))

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self.wire.finish(self)

    def abortConnection(self) -> None:
        """The end without the bytes that are still on their way."""
        if self.connected:
            self.disconnecting = True
            self.wire.clock.callLater(0, self.lose, ConnectionAborted())
            self.wire.clock.callLater(0, self.other.lose, ConnectionLost("the other end is gone"))

    def getPeer(self) -> IAddress:
        return self._peer

    def getHost(self) -> IAddress:
        return self._address

    # IConsumer and IPushProducer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError(f"{self.producer} is registered already")
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        if self._arrived and self.connected:
            self.wire.clock.callLater(0, self.arrive, b"")

    def stopProducing(self) -> None:
        self.loseConnection()

    # The wire

    def arrive(self, data: bytes) -> None:
        """Bytes from the other end."""
        self._arrived += data
        if self.connected and not self._paused and self._arrived and self.protocol is not None:
            arrived, self._arrived = self._arrived, b""
            self.protocol.dataReceived(arrived)

    def lose(self, reason: Exception) -> None:
        """The connection is over."""
        if not self.connected:
            return
        self.connected = False
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        if self.protocol is not None:
            self.protocol.connectionLost(Failure(reason))


class Wire:
    """One connection.

    :ivar client: the client's end; ``server`` the other.
    :ivar deaf: nothing comes through any more, and nobody is told: a half-open connection.
    :ivar mute: what the server says is lost; what it hears is not.
    """

    def __init__(self, clock: IReactorTime, address: IAddress, latency: float) -> None:
        self.clock = clock
        self.latency = latency
        self.deaf = False
        self.mute = False
        self.client = End(self, address, SERVER)
        self.server = End(self, SERVER, address)
        self.client.other, self.server.other = self.server, self.client

    @property
    def open(self) -> bool:
        """Whether the client still has a connection."""
        return self.client.connected

    def cut(self) -> None:
        """Both ends lose the connection, and what is on its way is lost."""
        for end in (self.server, self.client):
            end.lose(ConnectionLost("cut"))

    def carry(self, sender: End, data: bytes) -> None:
        """Bytes from one end to the other."""
        if not (self.deaf or (self.mute and sender is self.server)):
            self.clock.callLater(self.latency, sender.other.arrive, data)

    def finish(self, end: End) -> None:
        """One end closes, behind what it has written."""
        self.clock.callLater(self.latency, self._finished, end)

    def _finished(self, end: End) -> None:
        end.lose(ConnectionDone())
        if not self.deaf:
            end.other.lose(ConnectionDone())


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Connects clients to what a test listens with.

    :param listener: the factory of the server's protocols; None while nobody listens.
    """

    def __init__(self, clock: IReactorTime, listener: Callable[[], IProtocolFactory | None], latency: float) -> None:
        self.wires: list[Wire] = []
        self.attempts = 0
        self._clock = clock
        self._listener = listener
        self._latency = latency

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self.attempts += 1
        factory = self._listener()
        if factory is None:
            return fail(ConnectionRefusedError())
        wire = Wire(self._clock, IPv4Address("TCP", "192.0.2.7", 40_000 + self.attempts % 20_000), self._latency)
        client = protocolFactory.buildProtocol(SERVER)
        server = factory.buildProtocol(wire.client.getHost())
        connected: Deferred[IProtocol] = Deferred(lambda _: wire.cut())
        if client is None or server is None:
            return fail(ConnectionRefusedError())
        self.wires = [known for known in self.wires if known.open]
        self.wires.append(wire)

        def made() -> None:
            if connected.called:
                return
            if not wire.open:
                connected.errback(ConnectionLost("cut"))
                return
            wire.server.protocol, wire.client.protocol = server, client
            server.makeConnection(wire.server)
            client.makeConnection(wire.client)
            connected.callback(client)

        self._clock.callLater(self._latency, made)
        return connected
