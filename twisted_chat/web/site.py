"""The HTTP server on every listener: ``twisted.web``'s parser under our bounds.

Bytes come in, whole requests go to the injected ``answer``.  What cannot be a request is refused here, in the shape of every
other refusal, and the connection ends: after a broken head nobody knows where the next request would begin.

Time: one deadline for a connection to deliver its next whole request, however busily it trickles, and none of the timers that
Twisted would start per connection (two calls to the reactor each, one reset per read).  All deadlines are equally long, so the
order of arrival is the order of expiry, and one dict and one call per second watch over all connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.errors import BadRequest, ChatError, InternalError, TooBig
from twisted_chat.web.origins import peer_name
from twisted_chat.web.responses import CrowdedOut, HeadTooLarge, RequestTimeout, whole_answer

#: Bytes of a request line and its headers together.  A JWT and the cookies of a shared host fit; more is an attack.
HEAD_BYTES = 16_384
#: Browsers send some 20.
HEADERS = 100
#: Seconds in which a peer must take the last bytes of an answer once its time is over.
_ABORT_SECONDS = 60
#: Seconds between two looks for connections whose time is over.
_SWEEP_SECONDS = 1.0

Answer = Callable[["ChatRequest"], None]
Quick = Callable[["ChatChannel", bytes], bool]
#: Method, path (both empty where there was no request), status, bytes of the body, address.
Observe = Callable[[bytes, bytes, int, int, str], None]


class ChatRequest(Request):
    """A request that knows whom to ask for an answer.

    :ivar address: whom it is from, once that is known: the peer, or whom a trusted proxy speaks for.
    """

    channel: ChatChannel
    content: IO[bytes]
    address: str | None = None

    def process(self) -> None:
        """The whole request is here."""
        channel = self.channel
        try:
            channel.site.answer(self)
        except Exception:
            channel.site.logger.failure("an HTTP request could not be answered")
            channel.refuse(InternalError("the server failed; its log says more"))

    def handleContentChunk(self, data: bytes) -> None:
        """A piece of the body; chunked ones do not say beforehand how long they are."""
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
    abortTimeout = _ABORT_SECONDS
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
            # Past TimeoutMixin: a byte does not buy time.
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
            super().allContentReceived()

    def requestDone(self, request: HTTPRequest) -> None:
        super().requestDone(request)
        if not self.persistent:
            self._abort_later()
        elif not self._handlingRequest:
            self.site.expect(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.site.expect_no_more(self)
        if self._held is not None:
            self._held = None
            self._lost()
        super().connectionLost(reason)

    def callLater(self, period: float, func: Callable[[], object]) -> IDelayedCall:
        return self.site.reactor.callLater(period, func)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(HeadTooLarge(f"head: a line is longer than {HEAD_BYTES} bytes"))

    def refuse_body(self) -> None:
        """Somebody sends more than any request of ours has."""
        self.refuse(TooBig(f"body: at most {self.site.body_bytes} bytes"))

    def refuse(self, error: ChatError) -> None:
        """Say why, and end the connection; whatever else comes is not looked at."""
        if self.refused:
            return
        self.site.refusing(self, error)
        self.transport.write(whole_answer(error))
        self.end()

    def give_up(self, error: ChatError) -> None:
        """Its time is over: say so if it had begun to ask; a connection kept open for later use just ends."""
        if self._receivedHeaderSize or self._buffer:
            self.refuse(error)
        else:
            self.end()

    def end(self) -> None:
        """End the connection when what was written is sent, or when that takes too long."""
        self.refused = True
        self.site.expect_no_more(self)
        self.clearLineBuffer()
        self.loseConnection()
        self._abort_later()

    def abort(self) -> None:
        """Drop the connection with all that was not taken."""
        self.refused = True
        if self._abortingCall is not None:
            self._abortingCall.cancel()
            self._abortingCall = None
        self.transport.abortConnection()

    def _abort_later(self) -> None:
        """Whoever does not take the last bytes may not keep the connection for that."""
        if self._abortingCall is None:
            self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Twisted's own, which is without body and headers, for all that its parser does not take."""
        if self._receivedHeaderSize > self.totalHeadersSize or self._receivedHeaderCount > self.maxHeaders:
            self.refuse(HeadTooLarge(f"head: at most {HEAD_BYTES} bytes and {HEADERS} headers"))
        else:
            self.refuse(BadRequest("this is not a well-formed HTTP request"))


class ChatSite(Site):
    """What listens.

    :param answer: gets each whole request and sees to it that it is answered.
    :param admission: whose limits hold for the heads being read.
    :param body_bytes: the largest body of any endpoint.
    :param observe: is told of each answer, for log and metrics.
    :param quick: is shown the first bytes of each connection and may deal with all of it, answering True.
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
        self._limiter = limiter
        self._observe = observe
        self._expected: dict[ChatChannel, float] = {}
        self._sweep: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> ChatChannel:  # type: ignore[override]
        """Always HTTP/1.1: without the switch on ALPN that Twisted wraps around each channel."""
        return ChatChannel(self)

    def acceptableProtocols(self) -> list[bytes]:
        """Never ``h2``, in which nobody could upgrade."""
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """Without Twisted's access log and its clock."""

    def stopFactory(self) -> None:
        for channel in list(self._expected):
            channel.end()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def log(self, request: HTTPRequest) -> None:
        """Twisted says that ``request`` is answered."""
        address = getattr(request, "address", None) or peer_name(request.client)
        self._observe(request.method, request.path or b"", request.code, request.sentLength, address)

    def refusing(self, channel: ChatChannel, error: ChatError) -> None:
        """A connection is refused before there was a request."""
        self._observe(b"", b"", error.http_status, 0, peer_name(channel.getPeer()))

    def expect(self, channel: ChatChannel) -> None:
        """A whole request has to come from there in time.  If too many are awaited, the slowest one makes room.

        Who sends a request is through in a round trip, so the slowest ones are those who mean to be slow.  Refusing the newest
        instead would let a thousand silent connections keep everybody out.
        """
        limits = self._limiter.limits
        if len(self._expected) >= limits.handshakes_pending:
            next(iter(self._expected)).give_up(CrowdedOut("connections: too many requests are under way; try again"))
        self._expected[channel] = self.reactor.seconds() + limits.handshake_seconds
        if self._sweep is None:
            self._sweep = self.reactor.callLater(_SWEEP_SECONDS, self._end_the_late)

    def expect_no_more(self, channel: ChatChannel) -> None:
        """The request is there, or the connection is gone."""
        self._expected.pop(channel, None)

    def _end_the_late(self) -> None:
        now = self.reactor.seconds()
        for channel, deadline in list(self._expected.items()):
            if deadline > now:
                break
            channel.give_up(RequestTimeout("the request did not arrive in time"))
        self._sweep = self.reactor.callLater(_SWEEP_SECONDS, self._end_the_late) if self._expected else None
