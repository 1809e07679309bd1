"""The HTTP server on every listener: the parser of ``twisted.web`` with bounds on size and time.

In:   the bytes of connections.
Out:  whole requests, to the injected ``answer``.  What is not a request is refused here, in the shape of every other refusal, and the
      connection ends, because after a malformed head it is unknown where the next request begins.

Requests that come behind another one are answered one in each turn of the reactor, and only while the transport takes the answers.

Time: each connection has one deadline for its next whole request, however often it sends a byte.  Twisted's own timers are not used:
they cost two calls to the reactor per connection and a reset per read.  All deadlines are equally long, so connections expire in
the order in which they were accepted, and one dict and one call per second check all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any, Protocol

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.errors import BadRequest, ChatError, TooBig, as_chat_error
from twisted_chat.web.origins import peer_name
from twisted_chat.web.responses import CrowdedOut, HeadTooLarge, RequestTimeout, whole_answer

#: Bytes of a request line and its headers together.  A JWT and the cookies of a shared host fit.
HEAD_BYTES = 16_384
#: Number of headers of a request; browsers send some 20.
HEADERS = 100
#: Seconds in which a peer must take the last bytes of an answer after the connection was closed.
ABORT_SECONDS = 60
#: Seconds between two checks for connections whose deadline has passed.
_SWEEP_SECONDS = 1.0

Answer = Callable[["ChatRequest"], None]
Quick = Callable[["ChatChannel", bytes], bool]
#: Method, path (both empty where there was no request), status, bytes of the body, address.
Observe = Callable[[bytes, bytes, int, int, str], None]


class HttpConnection(Protocol):
    """A connection as its site sees it: one that reads requests, or a stream that has taken it over."""

    def abort(self) -> None:
        """Drop the connection and everything that was not sent."""


class ChatRequest(Request):
    """A request that its site answers.

    :ivar address: the client's, once it has been read: the peer's, or the one that a trusted proxy names.
    """

    channel: ChatChannel
    content: IO[bytes]
    address: str | None = None

    def process(self) -> None:
        """The request has been received."""
        channel = self.channel
        try:
            channel.site.answer(self)
        except Exception:
            channel.refuse(as_chat_error(Failure(), channel.site.logger, "answering an HTTP request"))

    def handleContentChunk(self, data: bytes) -> None:
        """A piece of the body.  Chunked bodies do not announce their length, so it is counted."""
        if self.content.tell() + len(data) > self.channel.site.body_bytes:
            self.channel.refuse_body()
            return
        self.content.write(data)


class ChatChannel(HTTPChannel):
    """One HTTP/1.1 connection."""

    site: ChatSite
    transport: Any
    _abortingCall: IDelayedCall | None
    totalHeadersSize = HEAD_BYTES
    MAX_LENGTH = HEAD_BYTES
    maxHeaders = HEADERS
    abortTimeout = ABORT_SECONDS
    timeOut = None
    requestFactory = ChatRequest
    refused = False
    _fresh = True
    _held: bytes | None = None

    def __init__(self, site: ChatSite) -> None:
        super().__init__()
        self.site = self.factory = site

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.connections.add(self)
        self.site.expect(self)

    def dataReceived(self, data: bytes) -> None:
        if self._fresh:
            self._fresh = False
            if self.site.quick(self, data):
                return
        if self._held is not None:
            self._held += data
            if len(self._held) > HEAD_BYTES:
                self.transport.pauseProducing()
        elif not self.refused:
            # Bypasses TimeoutMixin: a byte that arrives does not extend the deadline.
            super(HTTPChannel, self).dataReceived(data)

    def hold(self, lost: Callable[[], None]) -> None:
        """Keep what is received, unread, until :meth:`release`: the answer to the request of ``site.quick`` is not known yet.

        :param lost: is called if the connection ends before.
        """
        self.site.expect_no_more(self)
        self._held, self._lost = b"", lost

    def release(self) -> bytes | None:
        """What was received since :meth:`hold`; None if the connection has ended."""
        held, self._held = self._held, None
        if held is not None and len(held) > HEAD_BYTES:
            self.transport.resumeProducing()
        return held

    def isSecure(self) -> bool:
        return ISSLTransport.providedBy(self.transport)

    def allHeadersReceived(self) -> None:
        if self.length is not None and self.length > self.site.body_bytes:
            self.refuse_body()
        else:
            super().allHeadersReceived()

    def allContentReceived(self) -> None:
        if not self.refused:
            self.site.expect_no_more(self)
            try:
                super().allContentReceived()
            except Exception:
                # Not ours, which ChatRequest.process() catches: twisted.web raises for some Content-Types of a form.
                self.refuse(BadRequest("this is not a well-formed HTTP request"))

    def requestDone(self, request: HTTPRequest) -> None:
        # Twisted would go on with what has been received behind the request: 64 KiB of requests for the page's script are 80 MB of
        # answers, from one read.
        self.paused = True
        super().requestDone(request)
        if not self.persistent:
            self._abort_later()
            return
        if self.site.ending:
            self.end()
            return
        self.site.expect(self)
        if self._waitingForTransport:
            self._networkProducer.pauseProducing()
        elif self._buffer:
            self._pause_pipeline()
        else:
            self.paused = False

    def resumeProducing(self) -> None:
        """The transport has sent what was written."""
        super().resumeProducing()
        if self.paused:
            self._pause_pipeline()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.site.release(self)
        self.paused = False
        if self._held is not None:
            self._held = None
            self._lost()
        super().connectionLost(reason)

    def callLater(self, period: float, func: Callable[[], object]) -> IDelayedCall:
        return self.site.reactor.callLater(period, func)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(HeadTooLarge(f"head: a line is longer than {HEAD_BYTES} bytes"))

    def refuse_body(self) -> None:
        """Refuse a body that is longer than any endpoint takes."""
        self.refuse(TooBig(f"body: at most {self.site.body_bytes} bytes"))

    def refuse(self, error: ChatError) -> None:
        """Answer with the error and end the connection; what still arrives is dropped."""
        if self.refused:
            return
        self.site.refusing(self, error)
        self.transport.write(whole_answer(error))
        self.end()

    def give_up(self, error: ChatError) -> None:
        """End the connection because it did not send a request in time; the error is sent if a request had begun."""
        if self._receivedHeaderSize or self._buffer:
            self.refuse(error)
        elif self._fresh and self.isSecure():
            # TLS would wait for the peer to close its side, too.  The peer has been sent nothing that an abort could take from it.
            self.abort()
        else:
            self.end()

    def end(self) -> None:
        """End the connection when what was written has been sent, or after a time limit."""
        self.refused = True
        self.site.expect_no_more(self)
        self.clearLineBuffer()
        self.loseConnection()
        self._abort_later()

    def abort(self) -> None:
        """Drop the connection and everything that was not sent."""
        self.refused = True
        if self._abortingCall is not None:
            self._abortingCall.cancel()
            self._abortingCall = None
        self.transport.abortConnection()

    def _pause_pipeline(self) -> None:
        """Read the request behind the one that has been answered in the next turn of the reactor, so that others have theirs."""
        self.paused = True
        self.callLater(0, self._go_on)

    def _go_on(self) -> None:
        if self.paused and not (self.refused or self._waitingForTransport):
            self.paused = False
            self.dataReceived(b"")

    def _abort_later(self) -> None:
        """Drop the connection if the peer does not take the last bytes in time."""
        if self._abortingCall is None:
            self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)
            self.site.closing(self)

    def forceAbortClient(self) -> None:
        """The peer did not take the last bytes in time."""
        self.site.unanswered += 1
        super().forceAbortClient()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Replaces Twisted's answer to whatever its parser refuses, which has neither body nor headers."""
        if self._receivedHeaderSize > self.totalHeadersSize or self._receivedHeaderCount > self.maxHeaders:
            self.refuse(HeadTooLarge(f"head: at most {HEAD_BYTES} bytes and {HEADERS} headers"))
        else:
            self.refuse(BadRequest("this is not a well-formed HTTP request"))


class ChatSite(Site):
    """The factory of the listeners' connections.

    :param answer: called with each whole request; has it answered.
    :param limiter: its limits hold for the heads being read.
    :param body_bytes: the largest body of any endpoint.
    :param observe: called with each answer, for the access log and metrics.
    :param quick: called with the first bytes of each connection; True: it has taken over the connection.
    :ivar connections: those that are open and speak HTTP.
    :ivar ending: no port is open any more, so a connection ends when the request that it is answering is answered.
    :ivar unanswered: connections that were dropped because the peer did not take the last bytes in time.
    """

    displayTracebacks = False

    def __init__(
        self,
        answer: Answer,
        limiter: ConnectionLimiter,
        reactor: IReactorTime,
        *,
        body_bytes: int,
        observe: Observe,
        logger: Logger,
        quick: Quick = lambda channel, data: False,
    ) -> None:
        super().__init__(Resource(), reactor=reactor)
        self.answer = answer
        self.body_bytes = body_bytes
        self.logger = logger
        self.quick = quick
        self.connections: set[HttpConnection] = set()
        self.ending = False
        self.unanswered = 0
        self._limiter = limiter
        self._observe = observe
        self._expected: dict[ChatChannel, float] = {}
        #: Connections that have been closed here and not by the peer, the oldest first.
        self._closing: dict[ChatChannel, None] = {}
        self._sweep: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> ChatChannel:  # type: ignore[override]
        """Always HTTP/1.1, without the wrapper that Twisted puts around each channel to choose by ALPN."""
        return ChatChannel(self)

    def acceptableProtocols(self) -> list[bytes]:
        """Not ``h2``: WebSockets over HTTP/2 (RFC 8441) are not supported."""
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """Without Twisted's access log and its clock."""
        self.ending = False

    def stopFactory(self) -> None:
        self.ending = True
        for channel in list(self._expected):
            channel.end()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def log(self, request: HTTPRequest) -> None:
        """Called by Twisted when ``request`` has been answered."""
        address = getattr(request, "address", None) or peer_name(request.client)
        self._observe(request.method, request.path or b"", request.code, request.sentLength, address)

    def answered(self, method: bytes, path: bytes, status: int, size: int, address: str) -> None:
        """A request has been answered by somebody who has taken its connection over."""
        self._observe(method, path, status, size, address)

    def refusing(self, channel: ChatChannel, error: ChatError) -> None:
        """A connection is refused before its request was whole."""
        self._observe(b"", b"", error.http_status, 0, peer_name(channel.getPeer()))

    def expect(self, channel: ChatChannel) -> None:
        """Start the deadline for the next request of the connection.  If too many are awaited, the oldest is refused.

        A request takes about one round trip, so the oldest are the ones that are slow on purpose.  Refusing the newest instead
        would let a thousand silent connections block the server.
        """
        limits = self._limiter.limits
        if len(self._expected) >= limits.handshakes_pending:
            next(iter(self._expected)).give_up(CrowdedOut("connections: too many requests in progress; try again"))
        self._expected[channel] = self.reactor.seconds() + limits.handshake_seconds
        if self._sweep is None:
            self._sweep = self.reactor.callLater(_SWEEP_SECONDS, self._end_late)

    def expect_no_more(self, channel: ChatChannel) -> None:
        """Stop the deadline: the request is whole, or the connection has ended."""
        self._expected.pop(channel, None)

    def release(self, channel: ChatChannel) -> None:
        """The connection has ended, or another protocol has taken it over."""
        self.expect_no_more(channel)
        self.connections.discard(channel)
        self._closing.pop(channel, None)

    def closing(self, channel: ChatChannel) -> None:
        """The connection is closed here, and the peer still has to take the last bytes or, over TLS, to close it.

        Of too many the oldest is dropped: each is an open file, and no limit of connections counts it.
        """
        if len(self._closing) >= self._limiter.limits.handshakes_pending:
            oldest = next(iter(self._closing))
            del self._closing[oldest]
            oldest.abort()
        self._closing[channel] = None

    def abort_all(self) -> None:
        """Drop the connections that are still open."""
        for connection in list(self.connections):
            connection.abort()

    def _end_late(self) -> None:
        now = self.reactor.seconds()
        for channel, deadline in list(self._expected.items()):
            if deadline > now:
                break
            channel.give_up(RequestTimeout("the request did not arrive in time"))
        self._sweep = self.reactor.callLater(_SWEEP_SECONDS, self._end_late) if self._expected else None
