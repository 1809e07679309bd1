"""The connection of an answer that does not end: its head is written as an answer of HTTP, everything else past ``twisted.web``.

In:   a request whose head is set; events, as bytes.
Out:  the head, then the events, to the socket at once while nothing waits in the transport, as for WebSockets: ``Request.write`` and the
      transport's buffer cost three times as much for each reader.

On a connection of the chat's own site the stream takes the transport over after its first bytes, so that the request, its headers and its
channel (7 kB) are freed.  In the site of another program, whose channels may be of any kind, they stay.

::

    HEAD --first event--> OPEN --close--> ENDING --> GONE
      `-----------------------------------------------^
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IProtocol, IPushProducer, ITransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_chat.interfaces import ConnectionListener
from twisted_chat.internals.sockets import open_output
from twisted_chat.internals.takeover import give_transport, take_transport
from twisted_chat.web.site import ABORT_SECONDS, ChatChannel, ChatRequest, ChatSite

#: Bytes that a reader may send behind its request; they are dropped, and of who sends more nothing is read any more.
_IGNORED_BYTES = 16_384


class StreamState(Enum):
    """How far the answer is."""

    HEAD = auto()  #: nothing has been written
    OPEN = auto()
    ENDING = auto()  #: the last bytes have been written
    GONE = auto()  #: the connection has ended


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@implementer(IPushProducer, IProtocol)
class StreamConnection:
    """The connection of a stream (:class:`twisted_chat.interfaces.Connection`).

    Subclasses have ``send``, and say what is done at the end.

    :ivar chunked: the body is sent in chunks.
    """

    __slots__ = (
        "_aborting",
        "_ignored",
        "_log",
        "_output",
        "_request",
        "_site",
        "_transport",
        "chunked",
        "congested",
        "session",
        "state",
    )

    paused = False
    deflated = False

    def __init__(self, request: ChatRequest) -> None:
        self.state = StreamState.HEAD
        self.congested = False
        self.chunked = False
        self.session: ConnectionListener | None = None
        #: The request, as long as it is needed.
        self._request: ChatRequest | None = request
        self._transport: Any = request.channel.transport
        self._output = open_output(self._transport)
        #: The site whose connection has been taken over, and what its log is told in the end: path, bytes and address.
        self._site: ChatSite | None = None
        self._log: tuple[bytes, int, str] = (b"", 0, "")
        self._aborting: IDelayedCall | None = None
        self._ignored = 0
        request.notifyFinish().addBoth(self._finished)

    def over(self) -> None:
        """Called once, when the last bytes have been written or the connection has ended."""
        raise NotImplementedError

    @property
    def unsent_bytes(self) -> int:
        return self._output.unsent() or 0

    @property
    def is_open(self) -> bool:
        """Whether events may be written."""
        return self.state in (StreamState.HEAD, StreamState.OPEN)

    # The session calls

    def write(self, data: bytes) -> None:
        self.write_event(data)

    def write_event(self, data: bytes) -> None:
        """Write what is an event of the stream, or a comment."""
        if self.state is StreamState.OPEN:
            self._write_bytes(chunk(data) if self.chunked else data)
        elif self.state is StreamState.HEAD:
            self._write_first(data)

    def buffer_rest(self, rest: bytes) -> None:
        self._output.write_rest(rest)
        self.pauseProducing()

    def pause(self) -> None:
        """Nothing is read from the peer of a stream."""

    def resume(self) -> None:
        """Nothing is read from the peer of a stream."""

    def end(self, last: bytes) -> None:
        """Write the last event and end the answer, and with it the connection."""
        if not self.is_open:
            return
        self.write_event(last)
        request, site = self._request, self._site
        if request is not None:
            self.state = StreamState.ENDING
            request.unregisterProducer()
            request.channel.persistent = 0
            request.finish()
            return
        assert site is not None, "the connection belongs to somebody"
        if self.chunked:
            self._write_bytes(b"0\r\n\r\n")
        self.state = StreamState.ENDING
        path, size, address = self._log
        site.answered(b"GET", path, 200, size, address)
        self._transport.unregisterProducer()
        self._transport.loseConnection()
        self._aborting = site.reactor.callLater(ABORT_SECONDS, self._abort_unanswered, site)
        self.over()

    def abort(self) -> None:
        """Drop the connection and everything that was not sent."""
        request = self._request
        if self.state is StreamState.GONE:
            return
        if request is None:
            self._transport.abortConnection()
        elif self.state is not StreamState.ENDING:
            request.unregisterProducer()
            request.channel.abort()

    # The transport calls

    def makeConnection(self, transport: ITransport) -> None:
        """The transport is this connection's own from now on; it is the one that the answer has had from its beginning."""
        self.connectionMade()

    def connectionMade(self) -> None:
        self._transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """What comes behind the request would be the next one, and there is none on this connection."""
        self._ignored += len(data)
        if self._ignored > _IGNORED_BYTES:
            self._transport.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._site is not None:
            self._site.connections.discard(self)
        if self._aborting is not None:
            self._aborting.cancel()
            self._aborting = None
        self._lost()

    def pauseProducing(self) -> None:
        self.congested = True
        if self.session is not None:
            self.session.congested()

    def resumeProducing(self) -> None:
        self.congested = False
        if self.session is not None:
            self.session.drained()

    def stopProducing(self) -> None:
        """The connection is ending; its end is reported when it has ended."""

    # Inside

    def _write_bytes(self, data: bytes) -> None:
        if self.congested:
            self._transport.write(data)
            return
        try:
            taken = self._output.send(data)
        except BlockingIOError:
            taken = 0
        except OSError:
            return  # the reactor is about to report that the connection is lost
        if taken < len(data):
            self.buffer_rest(data[taken:])

    def _write_first(self, data: bytes) -> None:
        """Write the head, and the first bytes of the body."""
        request = self._request
        assert request is not None, "the head is written once"
        self.state = StreamState.OPEN
        request.write(data)
        self.chunked = bool(request.chunked)
        if isinstance(request.channel, ChatChannel):
            self._take_over(request, request.channel.site)
        else:
            request.registerProducer(self, True)
        if self._output.has_unsent():
            self.buffer_rest(b"")

    def _take_over(self, request: ChatRequest, site: ChatSite) -> None:
        self._request = None
        self._site = site
        self._log = request.path or b"", request.sentLength, request.address or ""
        transport, _ = take_transport(request)
        site.connections.add(self)
        give_transport(transport, self, b"")

    def _finished(self, result: Failure | None) -> None:
        """The request is answered, or its connection has ended before."""
        if isinstance(result, Failure):
            self._lost()
        else:
            self.over()

    def _lost(self) -> None:
        began, self.state = self.state, StreamState.GONE
        if began in (StreamState.HEAD, StreamState.OPEN):
            self.over()

    def _abort_unanswered(self, site: ChatSite) -> None:
        self._aborting = None
        site.unanswered += 1
        self._transport.abortConnection()
