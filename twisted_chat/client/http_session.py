"""A session by HTTP where no WebSocket comes through: frames come as Server-Sent Events and go by numbered posts.

::

    -> GET /api/v1/session                       <- event: open, its id
    -> POST /api/v1/session/<id>?n=1  hello      <- 200
                                                 <- data: welcome
    -> POST /api/v1/session/<id>?n=2  [a, b, c]  (what was said while the post before was on its way)

To the connection it looks like a WebSocket.  One post is on its way at a time, and one whose answer is lost is sent again with its
number, so that the server does it once and in order; whatever else goes wrong ends the stream, and with it the session
(``docs/protocol.rst``, "The same session by HTTP").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from twisted_chat.client.address import ServerAddress
from twisted_chat.client.errors import Closed, ConnectionProblem
from twisted_chat.client.event_stream import EventStream, TooLong
from twisted_chat.client.reconnect import Backoff
from twisted_chat.client.transport import ANSWER_BYTES, MESSAGE_BYTES, SocketListener, TransportName, refused

#: Seconds for the answer to a post; then it is sent again.
POST_SECONDS = 10.0
#: Seconds between two tries of one post: at first, and at most.
FIRST_POST_AGAIN = 0.2
LAST_POST_AGAIN = 5.0
#: Bytes of a post that is put together of several frames.  The server takes 1000 commands in one, and each has 16 bytes and more.
JOINED_BYTES = 16_000
#: How often one post is sent while the answer is that there is no such session.  A balancer may know nothing of sessions and take
#: another server each time; of three servers all of so many tries miss the right one in 0.2 % of the cases.
ELSEWHERE_POSTS = 16
#: Statuses after which a post is sent again; and 500 and more.
_AGAIN = frozenset({408, 425, 429})
_BYE = b'{"type":"bye"}'


class _Opened(Struct):
    session: str


class _Closed(Struct):
    code: int
    reason: str = ""


class _Taken(Struct):
    taken: int


class HttpTransport:
    """Makes sessions by HTTP; one for a client."""

    name: TransportName = "http"

    def __init__(self, where: ServerAddress, reactor: Any, random: Callable[[], float]) -> None:
        self._where = where
        self._reactor = reactor
        self._random = random

    def connect(self, listener: SocketListener, token: str | None) -> Deferred[None]:
        """Begin a session."""
        socket = HttpSocket(self._reactor, self._where, listener, token, self._random)
        listener.connected(socket)
        socket.begin()
        return succeed(None)


class HttpSocket:
    """One session: a :class:`~twisted_chat.client.transport.Socket`."""

    log = Logger()

    def __init__(
        self, reactor: Any, where: ServerAddress, listener: SocketListener, token: str | None, random: Callable[[], float]
    ) -> None:
        self._clock = reactor
        self._listener = listener
        self._random = random
        self._url = where.session_url
        self._headers: dict[bytes | str, bytes | str] = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._connections = Connections(reactor, where.endpoint)
        self._events = EventStream(MESSAGE_BYTES)
        self._session = ""
        self._number = 0
        self._frames: list[bytes] = []
        self._joined_bytes = JOINED_BYTES
        self._stream: Deferred[None] | None = None
        self._posting: Deferred[None] | None = None
        self._leaving = False
        self._problem: ConnectionProblem | None = None

    def begin(self) -> None:
        """Ask for the stream."""
        self._stream = Deferred.fromCoroutine(self._read())
        self._stream.addErrback(self._failed)

    # The connection calls

    def send_text(self, text: bytes) -> None:
        """Post a frame, behind those that wait."""
        if not self._session or self._leaving or self._problem is not None:
            return
        self._frames.append(text)
        if self._posting is None:
            self._posting = Deferred.fromCoroutine(self._post())
            self._posting.addErrback(self._failed)

    def say_goodbye(self) -> None:
        """Post what waits, and that the client goes; the server then ends the stream."""
        self.send_text(_BYE)
        self._leaving = True

    def give_up(self, problem: ConnectionProblem) -> None:
        """End now, and tell it from the next turn, as a transport does."""
        if self._problem is None:
            self._problem = problem
            self._clock.callLater(0, self._end)

    def _end(self) -> None:
        assert self._problem is not None, "it is only called then"
        for running in (self._posting, self._stream):
            if running is not None:
                running.cancel()
        self._connections.abort()
        self._listener.lost(self._problem)

    def _failed(self, failure: Failure) -> None:
        if self._problem is not None:
            return  # of what was cancelled nothing is to be said
        error = failure.value
        if isinstance(error, ConnectionProblem):
            self.give_up(error)
        elif self._session:
            self.give_up(Closed(1006, _words(failure)))
        else:
            self.give_up(ConnectionProblem(f"the server cannot be reached: {_words(failure)}"))

    # Down

    async def _read(self) -> None:
        """The stream, from its request to its end."""
        reply = await self._connections.client.request(
            "GET",
            self._url,
            headers={**self._headers, "Accept": "text/event-stream", "Cache-Control": "no-store"},
            allow_redirects=False,
            unbuffered=True,
        )
        kind = (reply.headers.getRawHeaders("Content-Type") or [""])[0]
        if reply.code != 200 or not kind.startswith("text/event-stream"):
            raise refused(reply.code, await short_body(reply), _after(reply))
        await body(reply, self._piece)
        raise Closed(1006, "the stream ended")

    def _piece(self, data: bytes) -> None:
        if self._problem is not None:
            return
        self._listener.heard()
        try:
            for name, text in self._events.feed(data):
                self._event(name, text)
                if self._problem is not None:
                    return
        except (msgspec.DecodeError, UnicodeDecodeError, TooLong) as error:
            self.give_up(ConnectionProblem(f"what the server says cannot be understood: {type(error).__name__}: {error}"))

    def _event(self, name: str, text: bytes) -> None:
        if name == "":
            self._listener.received(text)
        elif name == "open" and not self._session:
            self._session = msgspec.json.decode(text, type=_Opened).session
            self._listener.opened()
        elif name == "close":
            closed = msgspec.json.decode(text, type=_Closed)
            self.give_up(Closed(closed.code, closed.reason))

    # Up

    async def _post(self) -> None:
        """Post what waits, until nothing does."""
        while self._frames:
            count, frame = self._next()
            waits = Backoff(self._random, FIRST_POST_AGAIN, LAST_POST_AGAIN)
            while (after := await self._taken(frame)) is not None:
                if after < 0:
                    count, frame = 1, self._frames[0]
                await deferLater(self._clock, waits.wait(max(after, 0.0)))
            self._number += 1
            del self._frames[:count]
        # Not a turn later, or what is said then would wait for nothing.
        self._posting = None

    def _next(self) -> tuple[int, bytes]:
        """The next post: so many of the frames that wait, as one."""
        count, size = 1, len(self._frames[0])
        while count < len(self._frames) and (size := size + 1 + len(self._frames[count])) <= self._joined_bytes:
            count += 1
        if count == 1:
            return 1, self._frames[0]
        commands = [frame[1:-1] if frame.startswith(b"[") else frame for frame in self._frames[:count]]
        return count, b"[" + b",".join(commands) + b"]"

    async def _taken(self, frame: bytes) -> float | None:
        """Post it once: None if the server has it, else seconds to wait at least; below nothing: together it is too big."""
        try:
            status, answer, after = await Deferred.fromCoroutine(self._reach(frame)).addTimeout(POST_SECONDS, self._clock)
        except Exception as error:
            if self._problem is not None:
                raise  # it was cancelled, whatever twisted.web makes of that
            self.log.debug("A post had no answer: {error}", error=error)
            return 0.0
        if status == 200:
            try:
                taken = msgspec.json.decode(answer, type=_Taken).taken
            except (msgspec.DecodeError, UnicodeDecodeError):
                return 0.0  # somebody in between answers
            return None if taken > self._number else 0.0
        problem = refused(status, answer, after)
        if status >= 500 or status in _AGAIN:
            return problem.retry_after
        if status == 413 and self._frames[0] != frame:
            self._joined_bytes = 0
            return -1.0
        raise Closed(1006, f"a post was refused: {problem}")

    async def _reach(self, frame: bytes) -> tuple[int, bytes, float]:
        """Post it until it comes to the server that has the session; status, answer and ``Retry-After``."""
        for _ in range(ELSEWHERE_POSTS - 1):
            reply = await self._exchange(frame)
            if reply[0] != 404:
                return reply
            # Where the balancer passes on connections, only a new one comes to another server.
            self._connections.forget_idle()
        return await self._exchange(frame)

    async def _exchange(self, frame: bytes) -> tuple[int, bytes, float]:
        reply = await self._connections.client.request(
            "POST",
            f"{self._url}/{self._session}?n={self._number + 1}",
            headers={**self._headers, "Content-Type": "application/json"},
            data=_Bytes(frame),
            allow_redirects=False,
            unbuffered=True,
        )
        return reply.code, await short_body(reply), _after(reply)


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class Connections:
    """The HTTP connections of one session, two as a rule: all of them can be ended at once.

    :ivar client: makes requests over them, to the one endpoint whatever the URL says.
    """

    def __init__(self, reactor: Any, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint
        self._open: dict[ProtocolWrapper, int] = {}  #: those that are not lost
        self._pool = HTTPConnectionPool(reactor)
        # A request that is sent again is our decision.
        self._pool.retryAutomatically = False
        self.client = HTTPClient(Agent.usingEndpointFactory(reactor, self, pool=self._pool))

    def endpointForURI(self, uri: object) -> IStreamClientEndpoint:
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        noticing: Any = WrappingFactory(protocolFactory)
        noticing.noisy = False
        noticing.protocols = self._open

        def of_the_agent(wrapper: Any) -> IProtocol:
            protocol: IProtocol = wrapper.wrappedProtocol
            return protocol

        return self._endpoint.connect(noticing).addCallback(of_the_agent)

    def forget_idle(self) -> None:
        """The next request gets a new one."""
        self._pool.closeCachedConnections()

    def abort(self) -> None:
        """End them at once, also those that wait for the next request."""
        self._pool.closeCachedConnections()
        for wrapper in list(self._open):
            transport: Any = wrapper.transport
            (getattr(transport, "abortConnection", None) or transport.loseConnection)()


@implementer(IBodyProducer)
class _Bytes:
    """A body that is written at once; Twisted's for files takes the global reactor's turns."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """There is nothing left to pause."""

    def resumeProducing(self) -> None:
        """There is nothing left to resume."""

    def stopProducing(self) -> None:
        """There is nothing left to stop."""


class _Body(Protocol):
    """The body of an answer, piece by piece."""

    def __init__(self, piece: Callable[[bytes], object], done: Deferred[None]) -> None:
        self._piece = piece
        self._done = done

    def dataReceived(self, data: bytes) -> None:
        self._piece(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self._done.callback(None)
        else:
            self._done.errback(reason)


def body(reply: IResponse, piece: Callable[[bytes], object]) -> Deferred[None]:
    """Give each piece of the answer's body away; fires at its end."""

    def cancelled(_: object) -> None:
        if protocol.transport is not None:
            protocol.transport.loseConnection()

    done: Deferred[None] = Deferred(cancelled)
    protocol = _Body(piece, done)
    reply.deliverBody(protocol)
    return done


async def short_body(reply: IResponse) -> bytes:
    """The body of an answer that should have a few words; of more only the beginning."""
    found = bytearray()

    def take(data: bytes) -> None:
        found.extend(data[: ANSWER_BYTES - len(found)])

    await body(reply, take)
    return bytes(found)


def _words(failure: Failure) -> str:
    """What happened; twisted.web wraps it up."""
    reasons = getattr(failure.value, "reasons", None)
    return _words(reasons[0]) if reasons else failure.getErrorMessage().rstrip(".")


def _after(reply: IResponse) -> float:
    """Seconds of ``Retry-After``."""
    value = (reply.headers.getRawHeaders("Retry-After") or [""])[0].strip()
    return float(value) if value.isdecimal() and len(value) <= 6 else 0.0
