"""One WebSocket: whole plain frames are read here, everything else by Autobahn's protocol (docs/decisions/07-unusual-goes-to-autobahn.rst).

In:   bytes from the transport, after the handshake that the HTTP edge has checked.
Out:  messages to a session; pongs and close frames to the peer.  The session writes through the :class:`WebSocketLink`.

A connection that only ever sees plain frames and pings needs none of Autobahn's 60 attributes (5 kB), so they are made at the first
unusual frame (:meth:`ChatWebSocket._awaken`); until then the class attributes stand for them.

Work is bounded for each read: pings and pongs are counted (:mod:`twisted_chat.websocket.control_frames`), and of frames that
Autobahn has to read, at most :data:`UNUSUAL_FRAMES_PER_TURN` are read in one turn of the reactor.

Each attribute of Autobahn that is used here is pinned by ``tests/test_websocket_pins.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOfferAccept
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.errors import ChatError, CloseCode
from twisted_chat.interfaces import Admission, SocketSession
from twisted_chat.protocol.frames import FIN_CLOSE, FIN_PING, frame, switching_protocols
from twisted_chat.websocket import fast_frames
from twisted_chat.websocket.control_frames import SMALL_FRAGMENT_BYTES, ControlFrames
from twisted_chat.websocket.socket_link import SocketLink, Unread

#: Frames that Autobahn reads in one turn of the reactor, at some 10 us each: 64 KiB of empty fragments would take 100 ms.
UNUSUAL_FRAMES_PER_TURN = 250
_PING = frame(FIN_PING, b"")
#: Bytes of a close frame's reason (RFC 6455 section 5.5: 125 with the code).
_REASON_BYTES = 123
_OPEN, _CLOSING, _CLOSED = WebSocketProtocol.STATE_OPEN, WebSocketProtocol.STATE_CLOSING, WebSocketProtocol.STATE_CLOSED


class WebSocketLink(SocketLink):
    """The :class:`twisted_chat.interfaces.Connection` of one WebSocket."""

    __slots__ = ("_websocket",)

    def __init__(self, transport: Any, websocket: ChatWebSocket, *, deflated: bool) -> None:
        super().__init__(transport, deflated=deflated)
        self._websocket: ChatWebSocket | None = websocket

    def ping(self) -> None:
        """Send a ping, which the peer's WebSocket answers without its program."""
        self.write(_PING)

    def close(self, code: int, reason: str, last: bytes = b"") -> None:
        """Send what waits, then a close frame (RFC 6455 section 7.1.2); the connection ends when the peer has answered it."""
        if self._websocket is not None:
            self._websocket.close(code, reason, last)

    def lost(self) -> None:
        super().lost()
        self._websocket = None


OpenSession = Callable[[WebSocketLink, Admission], SocketSession]


class PeerLog(Logger):
    """The log of a connection.  Autobahn warns of each fault of a peer, who could fill the log with that; it is for information only."""

    def warn(self, format: str | None = None, **fields: object) -> None:
        self.info(format, **fields)


class ChatWebSocket(WebSocketServerProtocol):
    """Autobahn's protocol, with a fast path in front of it.

    :cvar CONFIG_ATTRS: empty, because ``factory.protocol_class`` has the configuration as class attributes: nothing to copy, and
        no ``pformat`` of it into a debug line (72 % of Autobahn's handshake).
    :ivar link: the way out, from ``connectionMade`` on.
    """

    log = PeerLog()
    link: WebSocketLink

    CONFIG_ATTRS: list[str] = []
    maxFramePayloadSize: int
    peer: str | None = None  # type: ignore[assignment]
    state = WebSocketProtocol.STATE_CONNECTING
    current_frame: Any = None
    inside_message = False
    data = b""
    _transport_details = None  # type: ignore[assignment]

    _awake = False
    _partial = b""
    #: Bytes of a frame that are still to come, and of no interest: see _await_close_frame.
    _passing = 0
    accepted: PerMessageDeflateOfferAccept | None = None
    _session: SocketSession | None = None
    _control: ControlFrames | None = None

    def __init__(self, admission: Admission, key: bytes, accepted: PerMessageDeflateOfferAccept | None) -> None:
        # Autobahn's __init__ is called when it is needed: see _awaken.
        self._opening: tuple[Admission, bytes] | None = (admission, key)
        self._address = admission.address
        if accepted is not None:
            self.accepted = accepted

    # Twisted calls

    def connectionMade(self) -> None:
        """Answer 101, and open the session."""
        assert self._opening is not None
        admission, key = self._opening
        self._opening = None
        self.link = link = WebSocketLink(self.transport, self, deflated=self.accepted is not None)
        extensions = () if self.accepted is None else (self.accepted.get_extension_string(),)
        link.write_first(switching_protocols(key, admission.subprotocol, extensions))
        self.state = WebSocketProtocol.STATE_OPEN
        try:
            self._session = link.session = self.factory.open_session(link, admission)
        except ChatError as error:
            self.close(error.close_code, error.message)
        except Exception:
            self.log.failure("A session could not be opened")
            self.close(CloseCode.INTERNAL_ERROR, "internal error")

    def dataReceived(self, data: bytes) -> None:
        """Give messages to the session; give unusual frames to Autobahn, one at a time."""
        session = self._session
        if session is not None:
            session.heard()
            # What a person types comes alone in its read: one short message.
            text = fast_frames.one_text(data)
            if text is not None and not self._partial and self.state == _OPEN and (not self._awake or self._between_messages()):
                session.received((text,))
                return
        if len(data) >= self.link.read_bytes:
            self.link.read_more()
        if self._partial:
            data, self._partial = self._partial + data, b""
        if self.link.unread & Unread.UNPROCESSED:
            # TLS delivers what it has decrypted even if the transport is not to be read.
            self._partial = data
            return
        self._process(session, data)
        if self._control is not None and self.state == _OPEN:
            self._write_pongs()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended, for whatever reason."""
        if self._awake:
            self._connectionLost(reason)  # type: ignore[arg-type]
        self.state = WebSocketProtocol.STATE_CLOSED
        session, self._session = self._session, None
        self._partial = b""
        self.link.lost()
        self.factory.ended(self, self._address)
        if session is not None:
            session.lost()

    def close(self, code: int, reason: str, last: bytes = b"") -> None:
        """Begin the closing handshake, with ``last`` before it; does nothing if it has begun."""
        if self.state != _OPEN:
            return
        if self._awake:
            if last:
                self.link.write(last)
            # sendClose refuses 1001, 1011, 1012 and 1013, which a server needs.
            self.sendCloseFrame(code=int(code), reasonUtf8=_cut(reason))
            return
        # Autobahn would take 590 us: a server that ends with 20,000 connections has them all to close.
        self._write_pongs()
        self.link.write_frame(last + frame(FIN_CLOSE, int(code).to_bytes(2, "big") + _cut(reason)))
        self.state = _CLOSING
        self.link.end_output()
        self.factory.await_answer(self)

    # Autobahn calls

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Give a message that came in unusual frames to the session."""
        session = self._session
        if session is None or self.state != _OPEN:
            return
        self._write_pongs()
        if isBinary:
            session.received_binary(payload)
        else:
            session.received([payload])

    def onMessageEnd(self) -> None:
        """Check the size of a whole message, which Autobahn leaves one byte too large; and no Deferred for each message.

        When a message inflates to a few bytes more than its limit, Autobahn 26.10.2 drops those bytes without an error.
        """
        if not self.failedByMe:
            payload = b"".join(self.message_data)
            if len(payload) > self.maxFramePayloadSize:
                size, limit = len(payload), self.maxFramePayloadSize
                reason = f"received WebSocket message size {size} exceeds payload limit of {limit} octets"
                self.close(CloseCode.MESSAGE_TOO_BIG, reason)
            else:
                self.onMessage(payload, self.message_is_binary)
        self.message_data = None  # type: ignore[assignment]

    def onMessageFrameBegin(self, length: int) -> None:
        """Count small fragments, of which a message may have any number."""
        super().onMessageFrameBegin(length)
        small = length < SMALL_FRAGMENT_BYTES and not self.current_frame.fin
        if small and self.state == _OPEN and not _control_frames(self).admit_fragment():
            _end_for_frames(self, "too many small fragments")

    def onPing(self, payload: bytes) -> None:
        """Treat a ping inside a fragmented message like every other."""
        self._take_control_frame(payload)

    def onPong(self, payload: bytes) -> None:
        """Count a pong inside a fragmented message like every other."""
        self._take_control_frame(None)

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Send a close frame, whoever wants it; nothing may follow it (RFC 6455 section 5.5.1)."""
        if self.state == _OPEN:
            self._write_pongs()
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self.link.end_output()

    def dropConnection(self, abort: bool = False) -> None:
        """End the connection after both close frames in order: a reset could take ours from the peer before it is read."""
        orderly = abort and bool(self.wasClean) and not self.link.unsent_bytes
        super().dropConnection(abort=abort and not orderly)
        if orderly:
            self.factory.await_answer(self)
        elif abort and self.wasCloseHandshakeTimeout:
            self.factory.unanswered += 1

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write Autobahn's frames as everything else is written, or one could end up inside another frame."""
        self.link.write_frame(data)

    def unregisterProducer(self) -> None:
        transport: Any = self.transport
        transport.unregisterProducer()

    # Inside

    def _between_messages(self) -> bool:
        """Whether Autobahn is between messages, so that usual frames need not go through it."""
        return self.current_frame is None and not self.inside_message and not self.data and self.state == _OPEN

    def _process(self, session: SocketSession | None, data: bytes) -> None:
        """Take all frames of a read, as far as they are complete and not too many."""
        limit = self.maxFramePayloadSize
        at, end = 0, len(data)
        unusual = 0
        while at < end and self.state != _CLOSED and not self.link.unread & Unread.FOR_GOOD:
            if self.state == _CLOSING and not self._awake:
                self._await_close_frame(data[at:])
                return
            if session is not None and self.state == _OPEN and (not self._awake or self._between_messages()):
                at = self._take_usual(session, data, at, limit)
                if at == end or self.state != _OPEN:
                    continue
                if self._between_messages() and fast_frames.may_wait(data, at, limit):
                    self._partial = data[at:]
                    return
            unusual += 1
            if unusual > UNUSUAL_FRAMES_PER_TURN:
                self._process_later(data[at:])
                return
            at = self._give_to_autobahn(data, at)

    def _await_close_frame(self, data: bytes) -> None:
        """Pass over what the peer said before it saw our close frame; its own close frame ends the connection."""
        at = self._passing
        while at < len(data):
            if data[at] & 0x0F == FIN_CLOSE & 0x0F:
                self.link.end()
                return
            stop = fast_frames.frame_end(data, at)
            if stop == len(data) and stop - at < fast_frames.HEADER_BYTES:
                # Perhaps the header is not whole.
                self._partial, self._passing = data[at:], 0
                return
            at = stop
        self._passing = at - len(data)

    def _process_later(self, rest: bytes) -> None:
        """Go on in the next turn of the reactor, so that others have theirs."""
        self._partial = rest
        self.link.stop_reading(Unread.UNPROCESSED)
        self.factory.reactor.callLater(0, self._process_rest)

    def _process_rest(self) -> None:
        if self.state != _CLOSED:
            self.link.read_again(Unread.UNPROCESSED)
            self.dataReceived(b"")

    def _take_usual(self, session: SocketSession, data: bytes, at: int, limit: int) -> int:
        """Take the usual frames; returns where the first unusual one begins, or the data end."""
        while True:
            texts: list[bytes] = []
            start = at
            at = fast_frames.take_texts(data, start, texts, limit)
            if texts:
                if self._control is not None:
                    self._write_pongs()  # a ping that came before a message is answered before it
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
            stop, ping = fast_frames.take_control(data, at)
            if stop > at:
                self._take_control_frame(ping)
            else:
                stop, payload = fast_frames.take_binary(data, at, limit)
                if stop == at:
                    return at
                self._write_pongs()
                session.received_binary(payload)
            if self.state != _OPEN:
                return stop
            at = stop

    def _take_control_frame(self, ping: bytes | None) -> None:
        """Answer a ping, or take a pong (None) as a sign of life; end the connection if there are too many."""
        if self.state != _OPEN:
            return
        control = _control_frames(self)
        if not control.admit_one():
            _end_for_frames(self, "too many pings or pongs")
        elif ping is not None:
            control.answer_ping(ping)

    def _write_pongs(self) -> None:
        """Answer the pings that have been read, with one write."""
        if self._control is not None and (pongs := self._control.take_pongs()):
            self.link.write_frame(pongs)

    def _give_to_autobahn(self, data: bytes, at: int) -> int:
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
        self._connectionMade()
        self.state = state
        self.inside_message, self.current_frame, self.websocket_version = False, None, 13
        if self.accepted is not None:
            self._perMessageCompress = PerMessageDeflate.create_from_offer_accept(True, self.accepted)


def _control_frames(websocket: ChatWebSocket) -> ControlFrames:
    if websocket._control is None:
        websocket._control = ControlFrames(websocket.factory.reactor.seconds)
    return websocket._control


def _end_for_frames(websocket: ChatWebSocket, reason: str) -> None:
    """Close; the peer's answer is among what is not read any more, so the deadline of the closing handshake ends the connection."""
    websocket.close(CloseCode.RATE_LIMITED, reason)
    websocket.link.stop_reading(Unread.FOR_GOOD)


def _cut(reason: str) -> bytes:
    """The reason in UTF-8, cut between characters to what a close frame holds."""
    return reason.encode()[:_REASON_BYTES].decode(errors="ignore").encode()
