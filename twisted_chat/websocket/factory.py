"""Make the WebSocket protocols of a server, all with one configuration of Autobahn.

In:   handshakes that the HTTP edge has checked (:meth:`ChatFactory.open_socket`).
Out:  one protocol for each, which answers 101 when it gets its transport; and which compression it agrees to (:func:`accept`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from autobahn.twisted.websocket import WebSocketServerFactory
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.protocol import WebSocketServerProtocol as ServerRules
from twisted.internet.interfaces import IAddress

from twisted_chat.interfaces import Admission, Handshake
from twisted_chat.limits import Limits
from twisted_chat.protocol.frames import DEFLATE_MEMORY_LEVEL, DEFLATE_WINDOW_BITS
from twisted_chat.websocket.connection import ChatWebSocket, OpenSession

#: Seconds that the peer has to answer a close frame.  Autobahn's timers round to whole seconds, so not less than 5.
CLOSE_SECONDS = 5


class ChatFactory(WebSocketServerFactory):
    """Makes the protocols of one server.

    :param open_session: called with the link and what was admitted when the 101 is written.
    :param ended: called with the address of each connection that has ended.
    :param compression: whether permessage-deflate (RFC 7692) is accepted.
    :ivar sockets: the protocols whose connection is open.
    :ivar unanswered: connections that were dropped because the peer did not answer a close frame in time.
    """

    def __init__(
        self,
        open_session: OpenSession,
        ended: Callable[[str], None],
        limits: Limits,
        *,
        compression: bool = False,
        reactor: object | None = None,
    ) -> None:
        super().__init__(server="", reactor=reactor)  # type: ignore[no-untyped-call]
        self.setProtocolOptions(  # type: ignore[no-untyped-call]
            versions=[13],
            webStatus=False,
            utf8validateIncoming=True,
            maskServerFrames=False,
            requireMaskedClientFrames=True,
            applyMask=True,
            maxFramePayloadSize=limits.frame_bytes,
            # One more than is allowed: what inflates to more is cut off there and then refused by its size.
            maxMessagePayloadSize=limits.frame_bytes + 1,
            autoFragmentSize=0,
            failByDrop=False,
            echoCloseCodeReason=True,
            # The HTTP edge has a deadline of its own; there is no handshake here that could take long.
            openHandshakeTimeout=0,
            closeHandshakeTimeout=CLOSE_SECONDS,
            tcpNoDelay=True,
            autoPingInterval=0,
            autoPingTimeout=0,
            serveFlashSocketPolicy=False,
            allowedOrigins=[],
            allowNullOrigin=False,
            maxConnections=0,
            trustXForwardedFor=0,
        )
        self.open_session = open_session
        self._ended = ended
        self._compression = compression
        self.sockets: set[ChatWebSocket] = set()
        self.unanswered = 0
        #: The protocols that wait for the answer to their close frame, and until when.
        self._closing: dict[ChatWebSocket, float] = {}
        self._timing = False
        self._inflated_bytes = limits.frame_bytes + 1
        options = {name: getattr(self, name) for name in ServerRules.CONFIG_ATTRS}
        self.protocol_class: type[ChatWebSocket] = type("ConfiguredChatProtocol", (ChatWebSocket,), options)

    def open_socket(self, admission: Admission, handshake: Handshake) -> ChatWebSocket:
        """The protocol for an admitted handshake; it writes the 101 when it gets its transport."""
        accepted = None
        if self._compression and handshake.extensions:
            accepted = accept(handshake.extensions, self._inflated_bytes)
        protocol = self.protocol_class(admission, handshake.key, accepted)
        protocol.factory = self
        self.sockets.add(protocol)
        return protocol

    def ended(self, protocol: ChatWebSocket, address: str) -> None:
        """A connection has ended."""
        self._closing.pop(protocol, None)
        self.sockets.discard(protocol)
        self._ended(address)

    def abort_all(self) -> None:
        """Drop the connections that are still open."""
        for protocol in list(self.sockets):
            protocol.link.abort()

    def await_answer(self, protocol: ChatWebSocket) -> None:
        """The protocol has sent a close frame: end its connection if the peer does not answer that in time.

        One timer for all of them: Autobahn's takes 120 us to cancel among 10,000.
        """
        if not self._timing:
            self._timing = True
            self.reactor.callLater(CLOSE_SECONDS, self._end_unanswered)
        self._closing[protocol] = self.reactor.seconds() + CLOSE_SECONDS

    def _end_unanswered(self) -> None:
        now = self.reactor.seconds()
        self._timing = False
        for protocol, until in list(self._closing.items()):
            if until > now:
                self._timing = True
                self.reactor.callLater(until - now, self._end_unanswered)
                return
            del self._closing[protocol]
            self.unanswered += 1
            protocol.link.abort()

    def buildProtocol(self, addr: IAddress | None) -> None:
        """Refuses: without the HTTP edge the handshake would have no limits (docs/decisions/workarounds.rst)."""
        raise AssertionError("the WebSocket edge is reached through the site; see open_socket")


def accept(lines: Sequence[bytes], inflated_bytes: int) -> PerMessageDeflateOfferAccept | None:
    """The first offer of permessage-deflate that can be served with little memory; None for none (RFC 7692 section 5.1).

    :param lines: the values of the ``Sec-WebSocket-Extensions`` headers.
    :param inflated_bytes: no message is inflated to more than this.
    """
    for line in lines:
        for offer in line.decode("ascii", "replace").split(","):
            name, *parameters = [part.strip() for part in offer.split(";")]
            if name.lower() != PerMessageDeflateOffer.EXTENSION_NAME:
                continue
            try:
                found = _parameters(parameters)
                parsed = PerMessageDeflateOffer.parse(found)
                if parsed.request_max_window_bits and parsed.request_max_window_bits < DEFLATE_WINDOW_BITS:
                    continue
                return PerMessageDeflateOfferAccept(
                    parsed,
                    request_no_context_takeover=parsed.accept_no_context_takeover,
                    request_max_window_bits=_client_window(found),
                    no_context_takeover=True,
                    window_bits=DEFLATE_WINDOW_BITS,
                    mem_level=DEFLATE_MEMORY_LEVEL,
                    max_message_size=inflated_bytes,
                )
            except Exception:
                # Autobahn raises plain Exceptions for parameters that it does not know: that offer is declined.
                continue
    return None


def _client_window(found: Mapping[str, Sequence[str | bool]]) -> int:
    """Never more than the client has offered (RFC 7692 section 7.1.2.2); 0 if it cannot be asked for less than all."""
    (offered,) = found.get("client_max_window_bits", (False,))
    return DEFLATE_WINDOW_BITS if offered is True else min(DEFLATE_WINDOW_BITS, int(offered))


def _parameters(parameters: Sequence[str]) -> dict[str, list[str | bool]]:
    found: dict[str, list[str | bool]] = {}
    for parameter in parameters:
        name, has_value, value = parameter.partition("=")
        found.setdefault(name.strip().lower(), []).append(value.strip().strip('"') if has_value else True)
    return found
