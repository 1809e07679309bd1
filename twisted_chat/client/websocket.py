"""One WebSocket to a server: Autobahn's protocol, told what it does not say by itself.

Bytes in and out; what comes out are whole texts, and one reason when it ends.  The answers of servers that refuse the handshake
are read to the end, because they say whether and when to come back; Autobahn looks at the status and hangs up.  It knows no
commands: see :mod:`twisted_chat.client.connection`.
"""

# super() calls into Autobahn, which is typed in parts.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.types import ConnectingRequest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_chat.client.address import ServerAddress
from twisted_chat.client.errors import Closed, ConnectionProblem, HandshakeRefused
from twisted_chat.client.transport import ANSWER_BYTES, MESSAGE_BYTES, SocketListener, TransportName, refused
from twisted_chat.interfaces import Dialect

#: Not the protocol's ``log``: Autobahn would write the handshake with its token there.
_log = Logger()
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?(?:\r\n|$)")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*(?:\r\n|$)", re.IGNORECASE)
_AFTER = re.compile(rb"\r\nretry-after:[ \t]*([0-9]{1,6})[ \t]*(?:\r\n|$)", re.IGNORECASE)


class SocketFactory(WebSocketClientFactory):
    """The settings of Autobahn, made once for a client.

    Autobahn's own timers are all off: they round to seconds and take the global reactor's clock.
    """

    name: TransportName = "websocket"
    noisy = False

    def __init__(self, where: ServerAddress, reactor: Any) -> None:
        super().__init__(useragent="twisted_chat", protocols=[Dialect.JSON.value], reactor=reactor)
        self.where = where
        self.setProtocolOptions(
            version=18,
            utf8validateIncoming=True,
            acceptMaskedServerFrames=False,
            maxFramePayloadSize=MESSAGE_BYTES,
            maxMessagePayloadSize=MESSAGE_BYTES,
            autoFragmentSize=0,
            failByDrop=True,
            echoCloseCodeReason=False,
            serverConnectionDropTimeout=0,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            tcpNoDelay=True,
            perMessageCompressionOffers=[],
            autoPingInterval=0,
            autoPingTimeout=0,
        )

    def connect(self, listener: SocketListener, token: str | None) -> Deferred[IProtocol]:
        """Begin a connection."""
        return self.where.endpoint.connect(self.for_one(listener, token))

    def for_one(self, listener: SocketListener, token: str | None) -> OneSocket:
        """A factory for the next connection."""
        return OneSocket(self, listener, {} if token is None else {"Authorization": f"Bearer {token}"})


@implementer(IProtocolFactory)
class OneSocket:
    """What an endpoint connects; makes one protocol."""

    noisy = False

    def __init__(self, factory: SocketFactory, listener: SocketListener, headers: Mapping[str, str]) -> None:
        self._factory = factory
        self._listener = listener
        self._headers = headers

    def doStart(self) -> None:
        """Endpoints call it."""

    def doStop(self) -> None:
        """Endpoints call it."""

    def buildProtocol(self, addr: IAddress) -> ChatSocket:
        protocol = ChatSocket(self._listener, self._headers)
        protocol.factory = self._factory
        return protocol


class ChatSocket(WebSocketClientProtocol):
    """One connection."""

    def __init__(self, listener: SocketListener, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._listener = listener
        self._headers = headers
        self._code = 1006
        self._reason = ""
        self._problem: ConnectionProblem | None = None
        self._switched = False
        self._lost = False

    # The connection calls (twisted_chat.client.transport.Socket)

    def send_text(self, text: bytes) -> None:
        """Send one message; while the connection closes it goes nowhere, and :meth:`SocketListener.lost` is about to say so."""
        if self.state == self.STATE_OPEN:
            self.sendMessage(text)

    def say_goodbye(self) -> None:
        """Send the close frame of somebody who goes for good."""
        if self.state == self.STATE_OPEN:
            self.sendClose(1000)

    def give_up(self, problem: ConnectionProblem) -> None:
        """End now; ``problem`` is the reason unless there is one already."""
        if self._problem is None:
            self._problem = problem
        transport: Any = self.transport
        if transport is not None:
            (getattr(transport, "abortConnection", None) or transport.loseConnection)()

    # Twisted and Autobahn call

    def connectionMade(self) -> None:
        self._listener.connected(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        self._listener.heard()
        try:
            self._dataReceived(data)
        except Exception as error:
            _log.failure("What came could not be dealt with")
            self.give_up(ConnectionProblem(f"what the server sends could not be dealt with: {type(error).__name__}: {error}"))

    def onConnecting(self, transport_details: object) -> ConnectingRequest:
        where: ServerAddress = self.factory.where
        return ConnectingRequest(
            host=where.host,
            port=where.port,
            resource=where.resource,
            headers=dict(self._headers),
            useragent=self.factory.useragent,
            protocols=self.factory.protocols,
        )

    def processHandshake(self) -> None:
        """Autobahn has more bytes of the answer."""
        head, found, body = self.data.partition(b"\r\n\r\n")
        status = _STATUS.match(head)
        while found and status is not None and status[1] != b"101" and status[1].startswith(b"1"):
            # Informational: the answer is yet to come (RFC 9110 section 15.2).
            self.data = body
            head, found, body = body.partition(b"\r\n\r\n")
            status = _STATUS.match(head)
        if (status is None and (found or len(head) > 16)) or len(self.data) > ANSWER_BYTES:
            self.give_up(ConnectionProblem("the server's answer to the handshake is not HTTP"))
        elif not found or status is None:
            return
        elif status[1] == b"101":
            self._switched = True
            super().processHandshake()
        else:
            length = _LENGTH.search(head)
            if length is not None and len(body) >= int(length[1]):
                self.give_up(_refused(head, body))

    def failHandshake(self, reason: object) -> None:
        self.give_up(ConnectionProblem(f"the handshake failed: {reason}"))

    def onOpen(self) -> None:
        if self.websocket_protocol_in_use != Dialect.JSON.value:
            self.give_up(ConnectionProblem(f"the server does not speak {Dialect.JSON.value}"))
        else:
            self._listener.opened()

    def onMessageEnd(self) -> None:
        """As Autobahn's, without a Deferred for each message."""
        if not self.failedByMe:
            self.onMessage(b"".join(self.message_data), self.message_is_binary)
        self.message_data = []

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if isBinary:
            self.give_up(ConnectionProblem("the server sent bytes where only text is spoken"))
        elif self._problem is None:
            self._listener.received(payload)

    def onCloseFrame(self, code: Any, reasonRaw: Any) -> bool | None:
        self._code = 1005 if code is None else code
        self._reason = (reasonRaw or b"").decode(errors="replace")
        stop: bool | None = super().onCloseFrame(code, reasonRaw)
        # The server closes TCP first (RFC 6455 section 7.1.1); ours follows at once, so that nothing needs a timer.
        transport: Any = self.transport
        transport.loseConnection()
        return stop

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if self._lost:
            return
        self._lost = True
        self._listener.lost(self._problem or self._what_happened(reason))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """The end is told by :meth:`connectionLost`."""

    def _what_happened(self, reason: Failure) -> ConnectionProblem:
        if self._switched:
            return Closed(self._code, self._reason or (_words(reason) if self._code == 1006 else ""))
        head, found, body = self.data.partition(b"\r\n\r\n")
        if found and _STATUS.match(head):
            return _refused(head, body)
        return ConnectionProblem(f"the connection ended within the handshake: {_words(reason)}")


def _refused(head: bytes, body: bytes) -> HandshakeRefused:
    status = _STATUS.match(head)
    assert status is not None, head
    after = _AFTER.search(head)
    return refused(int(status[1]), body, float(after[1]) if after is not None else 0.0)


def _words(reason: Failure) -> str:
    return reason.getErrorMessage().rstrip(".")
