"""A session of ``chat.v1.json`` by HTTP, where no WebSocket comes through: frames down as Server-Sent Events, up by POST.

It is the session that a WebSocket has; only the way of its frames differs.  The stream is the connection: it is admitted and counted
as a handshake is, and the session ends with it.  Its id is a secret that only whoever opened it knows; what is posted must, besides,
show the same credential.

.. code-block:: text

    -> GET /api/v1/session
    <- event: open      {"session":"c2VjcmV0…"}
    -> POST /api/v1/session/c2VjcmV0…?n=1     {"type":"hello","id":1,…}
    <- 200              {"taken":1}
    <- data: {"type":"welcome","id":1,…}
    <- event: close     {"code":4503,"reason":"…"}

Posts are numbered, so that one that is sent again because its answer was lost is not done twice, and none overtakes another.
Backpressure has the two directions of a socket.  Down it is that of every stream: a client that reads slowly is a position.  Up, the answer
to a post is withheld while the session throttles the client or the client does not take its answers; one post waits at most.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from secrets import token_urlsafe

from msgspec import Struct
from twisted.internet.defer import Deferred

from twisted_chat.core.chat import Chat
from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.core.ratelimit import TokenBucket
from twisted_chat.errors import Conflict, RateLimited, TooBig
from twisted_chat.interfaces import Admission, Dialect, SocketSession
from twisted_chat.protocol.commands import Positive
from twisted_chat.protocol.frames import payloads
from twisted_chat.web.handshake import LOBBY
from twisted_chat.web.responses import NoSuchPath, Response, UnsupportedMediaType, write_head
from twisted_chat.web.routing import ApiRequest, Route, Who, json_answer
from twisted_chat.web.site import ChatRequest
from twisted_chat.web.sse import HEADERS, HEARTBEAT, named
from twisted_chat.web.stream_connection import StreamConnection

#: Random bytes of an id: nobody finds another one's.
ID_BYTES = 24
#: Posts that one session may send at once, and per second in the long run.  A client puts all that waits into one post, so it needs no
#: more; what is in the posts has the limits of every session.
POSTS_BURST = 60
POSTS_PER_SECOND = 20.0

#: The path of posts in the access log, where a secret has no place.
LOGGED_PATH = b"/api/v1/session/-"

_OPENED = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
_FRAME = {
    "body": {
        "application/json": {
            "schema": {"description": "A frame of chat.v1.json: a command, or an array of commands.", "type": ["object", "array"]}
        }
    }
}


class Opened(Struct, frozen=True, kw_only=True):
    """The first event of the stream, ``open``.

    :ivar session: the id of the session, a secret.
    """

    session: str


class Closed(Struct, frozen=True, kw_only=True):
    """The last event of the stream, ``close``: what a WebSocket has in its close frame."""

    code: int
    reason: str


class FrameQuery(Struct, frozen=True, kw_only=True):
    """Which frame of the session this is.

    :ivar n: 1 for the first one, then one more each time; the same again if there was no answer.
    """

    n: Positive


class Taken(Struct, frozen=True, kw_only=True):
    """The session has the frame; the answers to its commands come in the stream.

    :ivar taken: the number of the last frame that the session has.
    """

    taken: int


class HttpLink(StreamConnection):
    """The :class:`twisted_chat.interfaces.Connection` of a session by HTTP.

    :param sessions: the open ones, which it leaves when it is over.
    :ivar id: names the session in the posts.
    :ivar token: of the credential that opened it; None: a guest's.
    :ivar taken: the number of the last frame that the session has got.
    """

    __slots__ = ("_address", "_posts", "_sessions", "_waiting", "id", "listener", "paused", "taken", "token")

    listener: SocketSession

    def __init__(
        self, request: ChatRequest, sessions: HttpSessions, address: str, token: str | None, now: Callable[[], float]
    ) -> None:
        super().__init__(request)
        self.id = token_urlsafe(ID_BYTES)
        self.token = token
        self.taken = 0
        self.paused = False
        self._sessions = sessions
        self._address = address
        self._posts = TokenBucket(POSTS_BURST, POSTS_PER_SECOND, now)
        #: Fires when the post that waits may be taken, or never will be.
        self._waiting: Deferred[None] | None = None

    def begin(self, core: Chat, admission: Admission) -> None:
        """Say the id, and open the session."""
        self.write_event(named("open", Opened(session=self.id)))
        self.session = self.listener = core.open_session(self, admission)

    async def take(self, number: int, frame: bytes) -> None:
        """Give a frame to the session, once, when it is its turn and the session listens."""
        self._count_post()
        while number == self.taken + 1 and self.is_open and (self.paused or self.congested):
            await self._wait()
        if not self.is_open:
            raise gone()
        if number > self.taken + 1:
            raise Conflict(f"n: the next frame is {self.taken + 1}")
        if number == self.taken + 1:
            self.taken = number
            self.listener.heard()
            self.listener.received([frame])

    # The session calls

    def write(self, data: bytes) -> None:
        """Send frames, each as an event; JSON has no line ends but escaped ones."""
        if self.is_open:
            self.write_event(b"".join([b"data: %b\n\n" % payload for payload in payloads(data)]))

    def send(self, frames: bytes) -> int:
        """Take all of them."""
        self.write(frames)
        return len(frames)

    def ping(self) -> None:
        self.write_event(HEARTBEAT)

    def close(self, code: int, reason: str, last: bytes = b"") -> None:
        """Say why, and end the stream."""
        if last:
            self.write(last)
        self.end(named("close", Closed(code=code, reason=reason)))

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self._go_on()

    # The transport calls

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self._go_on()

    def over(self) -> None:
        self._sessions.forget(self, self._address)
        self._go_on()
        if self.session is not None:
            listener, self.session = self.listener, None
            # Either would keep the other until the garbage collector comes.
            del self.listener
            listener.lost()

    async def _wait(self) -> None:
        """Wait for a reason to look again.  Of the same post sent twice the later one waits."""
        earlier, self._waiting = self._waiting, Deferred()
        waiting = self._waiting
        if earlier is not None:
            earlier.errback(Conflict("n: sent again meanwhile"))
        try:
            await waiting
        finally:
            if self._waiting is waiting:
                self._waiting = None

    def _go_on(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _count_post(self) -> None:
        if not self._posts.available():
            wait = self._posts.wait()
            raise RateLimited(f"too many posts, wait {wait:.1f} s", retry_after_ms=ceil(wait * 1000))
        self._posts.take(1)


class HttpSessions:
    """The endpoints under ``/api/v1/session``, and the sessions that are open."""

    def __init__(self, core: Chat, limiter: ConnectionLimiter) -> None:
        self._core = core
        self._limiter = limiter
        self._links: dict[str, HttpLink] = {}

    def __len__(self) -> int:
        return len(self._links)

    def routes(self) -> list[Route]:
        """The routes of the endpoints."""
        path = "/api/v1/session"
        return [
            Route(method=b"GET", path=path, endpoint=self.open_session, query=(Who,), public=True, extra=_OPENED),
            Route(
                method=b"POST",
                path=path + "/{session}",
                endpoint=self.take_frame,
                query=(FrameQuery,),
                answers=Taken,
                public=True,
                extra=_FRAME,
            ),
        ]

    async def open_session(self, call: ApiRequest) -> Response | None:
        """Open a session of chat.v1.json; its frames come as Server-Sent Events."""
        address, credential = call.client.address, call.client.credential
        self._limiter.check_open()
        user = await call.user()
        self._core.check_may_enter(user, None, address)
        if call.request.method == b"HEAD":
            return Response(200, HEADERS)
        self._limiter.admit(address)
        write_head(call.request, 200, (*HEADERS, *call.cors_headers()))
        link = HttpLink(call.request, self, address, None if credential is None else credential.token, self._core.now)
        self._links[link.id] = link
        link.begin(self._core, Admission(user=user, dialect=Dialect.JSON, room=LOBBY, address=address))
        return None

    def forget(self, link: HttpLink, address: str) -> None:
        """The session has ended."""
        del self._links[link.id]
        self._limiter.ended(address)

    async def take_frame(self, call: ApiRequest) -> Response:
        """Give the session its next frame."""
        call.request.path = LOGGED_PATH
        client = call.client
        token = None if client.credential is None else client.credential.token
        link = self._links.get(call.segments[0].decode("latin-1"))
        if link is None or link.token != token:
            _come_anew(call.request)
            raise gone()
        if call.content_type() != b"application/json":
            raise UnsupportedMediaType("Content-Type: must be application/json")
        number = call.query(FrameQuery).n
        frame = call.text_body().encode()
        limit = self._core.limits.frame_bytes
        if len(frame) > limit:
            raise TooBig(f"frame: at most {limit} bytes")
        await link.take(number, frame)
        return json_answer(Taken(taken=link.taken))


def _come_anew(request: ChatRequest) -> None:
    """Let the next request come over a new connection, which may lead to another process: a browser would keep the one it has."""
    request.channel.persistent = 0
    request.responseHeaders.setRawHeaders(b"Connection", [b"close"])


def gone() -> NoSuchPath:
    """The refusal of posts to a session that has ended, never was, or is somebody else's: all the same to whoever asks."""
    return NoSuchPath("session: there is none with this id")
