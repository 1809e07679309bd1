"""For programs that use ``connectTCP`` and ``connectSSL``: a factory that reconnects, with the same client inside.

Twisted's ``ReconnectingClientFactory`` counts a connection as good when TCP is; here the client decides when to come back, and
the connector of ``connectTCP`` is only its way to the server.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IAddress, IConnector, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_chat.client.service import ChatClient


@implementer(IStreamClientEndpoint)
class ReconnectingChatClientFactory(ClientFactory):
    """Give it to ``reactor.connectTCP(host, port, factory)`` or ``connectSSL``; ``factory.client`` is the :class:`ChatClient`.

    For ``connectSSL`` use ``optionsForClientTLS(host)`` as the context factory: it verifies the certificate.

    :param reactor: and all others: what :class:`ChatClient` takes, but ``where`` and ``transport``: it is a WebSocket.
    """

    noisy = False

    def __init__(self, reactor: Any, **options: Any) -> None:
        # A connector makes one connection, and a session by HTTP needs two.
        self.client = ChatClient(reactor, self, transport="websocket", **options)
        self._connector: IConnector | None = None
        self._inner: IProtocolFactory | None = None
        self._wanted: Deferred[IProtocol] | None = None

    def stopTrying(self) -> Deferred[None]:
        """Send what waits, end the connection, and do not come back."""
        return self.client.stopService()

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """The client wants a connection (``IStreamClientEndpoint``)."""
        if self._connector is None:
            return fail(ConnectingCancelledError(None))
        wanted: Deferred[IProtocol] = Deferred(self._cancel)
        self._wanted, self._inner = wanted, protocolFactory
        if self._connector.state == "disconnected":  # type: ignore[attr-defined]
            self._connector.connect()
        return wanted

    def startedConnecting(self, connector: IConnector) -> None:
        """``connectTCP`` was called, or we called the connector."""
        first = self._connector is None
        self._connector = connector
        if first:
            self.client.startService()

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:  # type: ignore[override]
        """The transport is there; if the client does not want one yet (its token is being fetched) it asks again."""
        inner, self._inner = self._inner, None
        if inner is None:
            return None
        protocol = inner.buildProtocol(addr)
        self.client.clock.callLater(0, self._made, protocol)
        return protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        wanted, self._wanted = self._wanted, None
        self._inner = None
        if wanted is not None:
            wanted.errback(reason)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """The protocol has said so to the client; if it was nobody's, the client wants another one."""
        if self._wanted is not None and self._inner is not None:
            connector.connect()

    def _made(self, protocol: IProtocol | None) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None and protocol is not None:
            wanted.callback(protocol)

    def _cancel(self, wanted: Deferred[IProtocol]) -> None:
        self._wanted = self._inner = None
        if self._connector is not None and self._connector.state == "connecting":  # type: ignore[attr-defined]
            self._connector.stopConnecting()
        wanted.errback(ConnectingCancelledError(None))
