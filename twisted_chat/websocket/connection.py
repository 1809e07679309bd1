"""Autobahn's WebSocket protocol, asleep until something unusual comes (design decisions 5, 6 and 7).

In: bytes from the transport, after the handshake that the HTTP edge has checked.  Out: messages to a session; and the session's
bytes to the socket, directly while nothing waits there.

A connection that only ever sees usual frames needs none of Autobahn's 60 attributes (5 kB), so its state is made at the
first unusual frame (:meth:`ChatWebSocket._awaken`); until then the class attributes stand for it.  Each attribute of Autobahn and
Twisted that is touched here is pinned by ``tests/test_websocket_pins.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntFlag
from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOfferAccept
from autobahn.websocket.protocol import WebSocketProtocol
from autobahn.websocket.protocol import WebSocketServerProtocol as ServerRules
from twisted.internet import tcp
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_chat.errors import ChatError, CloseCode
from twisted_chat.interfaces import Admission
from twisted_chat.internals import sockets as tls
from twisted_chat.protocol.frames import FIN_PING, frame, switching_protocols
from twisted_chat.websocket import fast_frames

_PING = frame(FIN_PING, b"")
#: Bytes of a close frame's reason (RFC 6455 section 5.5: 125 with the code).
_REASON_BYTES = 123
#: Bytes read at once from a peer that says little, and from one that has shown to say much.  Asking for 64 KiB costs 0.9 us more for
#: a line of 20 bytes, because all of it is allocated first.
FIRST_READ_BYTES = 4_096
MOST_READ_BYTES = 65_536
#: Unsent bytes above which a peer is not read, since its questions would only add to them.
UNSENT_BYTES = 65_536
_OPEN, _CLOSED = WebSocketProtocol.STATE_OPEN, WebSocketProtocol.STATE_CLOSED


class SocketSession(Protocol):
    """What takes the messages: ``rules.session.SocketSession``, as far as this edge knows it."""

    def received(self, texts: Sequence[bytes]) -> None: ...

    def received_binary(self, data: bytes) -> None: ...

    def heard(self) -> None: ...

    def congested(self) -> None: ...

    def drained(self) -> None: ...

    def lost(self) -> None: ...


class Unread(IntFlag):
    """Why the socket is not read."""

    NO = 0
    BY_SESSION = 1  #: the session throttles the peer
    UNSENT = 2  #: the peer takes no answers, so it may ask no more


OpenSession = Callable[["ChatWebSocket", Admission], SocketSession]


@implementer(IPushProducer)
class ChatWebSocket(WebSocketServerProtocol):
    """One WebSocket: Autobahn's protocol to the peer, a :class:`twisted_chat.core.connection.Link` to the session.

    :cvar CONFIG_ATTRS: empty, because ``factory.protocol_class`` has the configuration as class attributes: nothing to copy, and
        no ``pformat`` of it into a debug line that nobody reads (72 % of Autobahn's handshake).
    """

    log = Logger()
    send: Callable[[bytes], int]

    CONFIG_ATTRS: list[str] = []
    maxMessagePayloadSize: int
    peer: str | None = None  # type: ignore[assignment]
    state = WebSocketProtocol.STATE_CONNECTING
    current_frame: Any = None
    inside_message = False
    data = b""
    _transport_details = None  # type: ignore[assignment]

    congested = False
    paused = False
    deflated = False
    _awake = False
    _unread = Unread.NO
    _partial = b""
    _read_bytes = FIRST_READ_BYTES
    _accepted: PerMessageDeflateOfferAccept | None = None
    _session: SocketSession | None = None

    def __init__(self, admission: Admission, key: bytes, accepted: PerMessageDeflateOfferAccept | None) -> None:
        # Autobahn's __init__ waits until it is needed: see _awaken.
        self._opening: tuple[Admission, bytes] | None = (admission, key)
        self._address = admission.address
        if accepted is not None:
            self._accepted = accepted
            self.deflated = True

    # Twisted calls

    def connectionMade(self) -> None:
        """Answer 101, and open the session."""
        assert self._opening is not None
        admission, key = self._opening
        self._opening = None
        transport: Any = self.transport
        # Autobahn means to and does not: it reads the option before it has it.  Without, Nagle and delayed ACK add 40 ms.
        try:
            transport.setTcpNoDelay(True)
        except (AttributeError, OSError):
            pass  # a UNIX socket
        self.send = self._direct_send(transport)
        transport.bufferSize = self._read_bytes
        transport.registerProducer(self, True)
        extensions = () if self._accepted is None else (self._accepted.get_extension_string(),)
        self._write_head(transport, switching_protocols(key, admission.subprotocol, extensions))
        self.state = WebSocketProtocol.STATE_OPEN
        try:
            self._session = self.factory.open_session(self, admission)
        except ChatError as error:
            self.close(error.close_code, error.message)
        except Exception:
            self.log.failure("A session could not be opened")
            self.close(CloseCode.INTERNAL_ERROR, "internal error")

    def dataReceived(self, data: bytes) -> None:
        """Messages to the session; what is unusual to Autobahn, one frame at a time."""
        session = self._session
        if session is not None:
            session.heard()
            # The usual read of somebody who types: one short message.
            text = fast_frames.one_text(data)
            if text is not None and not self._partial and self.state == _OPEN and (not self._awake or self._usual()):
                session.received((text,))
                return
        if len(data) >= self._read_bytes:
            self._read_more()
        if self._partial:
            data, self._partial = self._partial + data, b""
        limit = self.maxMessagePayloadSize
        at, end = 0, len(data)
        while at < end and self.state != _CLOSED:
            if session is not None and self.state == _OPEN and (not self._awake or self._usual()):
                at = self._take(session, data, at, limit)
                if at == end or self.state == _CLOSED:
                    return
                if self._usual() and fast_frames.may_wait(data, at, limit):
                    self._partial = data[at:]
                    return
            at = self._to_autobahn(data, at)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end, however it came."""
        if self._awake:
            ServerRules._connectionLost(self, reason)  # type: ignore[arg-type]
        self.state = WebSocketProtocol.STATE_CLOSED
        session, self._session = self._session, None
        self._partial = b""
        self.factory.ended(self, self._address)
        if session is not None:
            session.lost()

    def pauseProducing(self) -> None:
        """Twisted: more is unsent than the socket took.  If answers pile up, nothing more may be asked either."""
        if self._unsent() > UNSENT_BYTES:
            self._hold_back(Unread.UNSENT)
        self._congest()

    def resumeProducing(self) -> None:
        """Twisted: everything is sent."""
        self._read_on(Unread.UNSENT)
        if self.state == WebSocketProtocol.STATE_OPEN:
            self.congested = False
            if self._session is not None:
                self._session.drained()

    def stopProducing(self) -> None:
        """Twisted: the connection is lost (traps: without this method, ``connectionLost`` fails)."""

    # The session calls (rules.link.Link)

    def write(self, data: bytes) -> None:
        if self.state != _OPEN:
            return
        self._write(data)

    def buffer_rest(self, rest: bytes) -> None:
        transport: Any = self.transport
        transport.write(rest)
        # Twisted says when the rest has gone only to a producer that it has paused, which it does above 64 KiB.
        transport.producerPaused = True
        self._congest()

    def pause(self) -> None:
        self.paused = True
        self._hold_back(Unread.BY_SESSION)

    def resume(self) -> None:
        self.paused = False
        if self._session is not None:
            self._session.heard()
        self._read_on(Unread.BY_SESSION)

    def ping(self) -> None:
        self.write(_PING)

    def close(self, code: int, reason: str) -> None:
        if self.state == _OPEN:
            self._awaken()
            self._read_on(Unread.BY_SESSION)
            # sendClose refuses 1001, 1011, 1012 and 1013, which are ours to send.
            self.sendCloseFrame(code=int(code), reasonUtf8=_cut(reason))

    def abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    # Autobahn calls

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        session = self._session
        if session is None or self.state != _OPEN:
            return
        if isBinary:
            session.received_binary(payload)
        else:
            session.received([payload])

    def onMessageEnd(self) -> None:
        """As Autobahn's, without a Deferred for each message."""
        if not self.failedByMe:
            self.onMessage(b"".join(self.message_data), self.message_is_binary)
        self.message_data = None  # type: ignore[assignment]

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Nothing may follow a close frame (RFC 6455 section 5.5.1), whoever sends it: the session's link takes no more."""
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self._congest()

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Control frames take the same way as everything else, or one could end up inside another frame."""
        self._write(data)

    def unregisterProducer(self) -> None:
        transport: Any = self.transport
        transport.unregisterProducer()

    # Inside

    def _usual(self) -> bool:
        """Whether Autobahn is between messages, so that usual frames need not go through it."""
        return self.current_frame is None and not self.inside_message and not self.data and self.state == _OPEN

    def _take(self, session: SocketSession, data: bytes, at: int, limit: int) -> int:
        """Give the usual frames to the session; answers where the first unusual one begins, or the data end."""
        while True:
            texts: list[bytes] = []
            start = at
            at = fast_frames.take_texts(data, start, texts, limit)
            if texts:
                if not fast_frames.all_utf8(texts):
                    texts = []
                    at = fast_frames.first_other(data, start, texts, limit)
                    if texts:
                        session.received(texts)
                    return at
                session.received(texts)
                if self.state != _OPEN:
                    return at
            if at == len(data):
                return at
            stop = fast_frames.take_control(data, at)
            if stop == at:
                stop, payload = fast_frames.take_binary(data, at, limit)
                if stop == at:
                    return at
                session.received_binary(payload)
                if self.state != _OPEN:
                    return stop
            at = stop

    def _to_autobahn(self, data: bytes, at: int) -> int:
        """Give Autobahn the rest of its frame, or the next one, and no more: its time is quadratic in what it holds."""
        self._awaken()
        if self.current_frame is not None:
            stop: int = at + self.current_frame.length - self.current_frame_masker.pointer()
        elif self.data:
            # The header came in pieces.  Not byte by byte: Autobahn refuses a bad header again with each piece that it gets.
            stop = at - len(self.data) + fast_frames.frame_end(self.data + data[at : at + fast_frames.HEADER_BYTES], 0)
        else:
            stop = fast_frames.frame_end(data, at)
        stop = min(max(stop, at + 1), len(data))
        self._dataReceived(data[at:stop])
        return stop

    def _awaken(self) -> None:
        """Make Autobahn's state, as after its own handshake."""
        if self._awake:
            return
        self._awake = True
        state = self.state
        WebSocketProtocol.__init__(self)
        ServerRules._connectionMade(self)
        self.state = state
        self.inside_message = False
        self.current_frame = None
        self.websocket_version = 13
        if self._accepted is not None:
            self._perMessageCompress = PerMessageDeflate.create_from_offer_accept(True, self._accepted)

    def _direct_send(self, transport: Any) -> Callable[[bytes], int]:
        if isinstance(transport, tcp.Connection) and not transport.TLS:
            sent: Callable[[bytes], int] = transport.getHandle().send
            return sent
        if tls.is_direct(transport):
            return tls.TlsSend(transport)

        def send_buffered(data: bytes) -> int:
            # Wrappers have buffers of their own: they take everything, and pauseProducing says when it was too much.
            transport.write(data)
            return len(data)

        return send_buffered

    def _write_head(self, transport: Any, head: bytes) -> None:
        if isinstance(transport, tcp.Connection) and (transport.dataBuffer or transport._tempDataBuffer):
            # The answer to an earlier request on this connection has not gone yet; nothing may be sent past it.
            self.buffer_rest(head)
        else:
            self._write(head)

    def _read_more(self) -> None:
        """The peer sends more than one read takes: take more at once from now on."""
        transport: Any = self.transport
        self._read_bytes = transport.bufferSize = min(4 * self._read_bytes, MOST_READ_BYTES)

    def _unsent(self) -> int:
        """Bytes in the transport's buffer; of transports that do not tell: too many, since they paused us."""
        transport: Any = self.transport
        if isinstance(transport, tcp.Connection) and not transport.TLS:
            return len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return self.send.unsent() if isinstance(self.send, tls.TlsSend) else UNSENT_BYTES + 1

    def _write(self, data: bytes) -> None:
        transport: Any = self.transport
        if self.congested:
            transport.write(data)
            return
        try:
            taken = self.send(data)
        except BlockingIOError:
            taken = 0
        except OSError:
            return  # the reactor is about to say so
        if taken < len(data):
            self.buffer_rest(data[taken:])

    def _congest(self) -> None:
        self.congested = True
        if self._session is not None:
            self._session.congested()

    def _hold_back(self, why: Unread) -> None:
        if not self._unread:
            transport: Any = self.transport
            transport.pauseProducing()
        self._unread |= why

    def _read_on(self, why: Unread) -> None:
        if self._unread & why:
            self._unread &= ~why
            if not self._unread and self.state != _CLOSED:
                transport: Any = self.transport
                transport.resumeProducing()


def _cut(reason: str) -> bytes:
    return reason.encode()[:_REASON_BYTES].decode(errors="ignore").encode()
