"""A room's log as Server-Sent Events, which ``curl -N`` reads, and after which browsers resume by themselves.

Each event of the log has the id ``epoch:seq:id``, which is a cursor; a browser that reconnects sends it in ``Last-Event-ID``.
A stream is a subscription like those of WebSockets (``docs/decisions/04-live-is-not-a-second-path.rst``): a client that does not
take what is sent costs the server a position only, and reads on from there when the connection has drained.

.. code-block:: text

    <- event: joined    {"room":"lobby","epoch":"7QK2M4","head":1044,"from":1042,"recovered":true,…}
    <- id: 7QK2M4:1042:01JD4…   {"type":"event","room":"lobby","seq":1042,…}
    <- event: live      {"type":"live","room":"lobby","seq":1044}
    <- :                (every 25 s)
    <- event: bye       {"type":"bye","code":4503,…}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec import UNSET, UnsetType
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_chat.core.chat import Chat
from twisted_chat.core.history import Unrecoverable
from twisted_chat.core.joining import joined_reply
from twisted_chat.core.room import Room
from twisted_chat.core.session import Membership, Session, SessionState
from twisted_chat.core.subscription import Subscription
from twisted_chat.errors import RETRY_CLOSE_CODES, BadRequest, CloseCode, TokenExpired
from twisted_chat.events import Cursor, Event
from twisted_chat.interfaces import ConnectionListener
from twisted_chat.internals.sockets import open_output
from twisted_chat.protocol.encoders import JsonEncoding, WholeItems
from twisted_chat.protocol.replies import ByePush, GapPush, LivePush
from twisted_chat.users import User
from twisted_chat.web.responses import write_head
from twisted_chat.web.site import ChatRequest

#: Keeps proxies from buffering (``X-Accel-Buffering``) and caches from storing.
HEADERS = (
    (b"Content-Type", b"text/event-stream; charset=utf-8"),
    (b"Cache-Control", b"no-store"),
    (b"X-Accel-Buffering", b"no"),
)
_HEARTBEAT = b":\n\n"
_encode = msgspec.json.Encoder().encode


def read_event_id(text: str) -> Cursor:
    """The cursor in a ``Last-Event-ID``; :class:`BadRequest` if it is not one."""
    epoch, _, rest = text.partition(":")
    seq, _, event = rest.partition(":")
    if not (epoch and seq.isascii() and seq.isdigit() and len(seq) < 17):
        raise BadRequest("Last-Event-ID: must be epoch:seq:id, as the stream sent it")
    return Cursor(epoch, int(seq), event or None)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class EventStreamEncoding(WholeItems):
    """Events of a room as ``text/event-stream``.

    :param chunked: each is a chunk of its own, so that one encoding serves all readers, past what ``Request.write`` does for each.
    """

    def __init__(self, room: str, epoch: str, chunked: bool) -> None:
        self._json = JsonEncoding(room)
        self._start = b"id: " + epoch.encode() + b":"
        self._framing = chunk if chunked else bytes

    def items(self, events: Sequence[Event]) -> list[bytes]:
        start, framing = self._start, self._framing
        return [
            framing(b"%b%d:%b\ndata: %b\n\n" % (start, event.seq, event.id.encode(), written))
            for event, written in zip(events, self._json.objects(events), strict=True)
        ]


def named(event: str, data: object) -> bytes:
    """An event that is not of the log: it has a name, so ``onmessage`` does not get it, and no id."""
    return b"event: " + event.encode() + b"\ndata: " + _encode(data) + b"\n\n"


@implementer(IPushProducer)
class StreamConnection:
    """The connection of a stream.

    Its head is written by the request.  What follows goes to the socket at once while nothing waits in the transport, as for WebSockets:
    ``Request.write`` and the transport's buffer cost three times as much for each reader.

    :ivar chunked: ``send`` takes chunks, whole ones.
    """

    paused = False
    deflated = False

    def __init__(self, request: ChatRequest) -> None:
        self.congested = False
        self.chunked = False
        self.session: ConnectionListener | None = None
        self._request = request
        self._channel = request.channel
        self._transport = request.channel.transport
        self._output = open_output(self._transport)
        self._write_some: Callable[[bytes], int] = self._output.send
        self.send = self._write_some
        self._begun = False
        self._open = True
        self._gone = False
        request.registerProducer(self, True)

    @property
    def unsent_bytes(self) -> int:
        return self._output.unsent() or 0

    def write(self, data: bytes) -> None:
        self.write_event(data)

    def write_event(self, data: bytes) -> None:
        """Write what is an event of the stream, or a comment."""
        if not self._open:
            return
        if not self._begun:
            self._write_first(data)
            return
        data = chunk(data) if self.chunked else data
        if self.congested:
            self._transport.write(data)
            return
        try:
            taken = self._write_some(data)
        except BlockingIOError:
            taken = 0
        except OSError:
            return  # the reactor is about to report that the connection is lost
        if taken < len(data):
            self.buffer_rest(data[taken:])

    def buffer_rest(self, rest: bytes) -> None:
        self._output.write_rest(rest)
        self.pauseProducing()

    def pause(self) -> None:
        """Nothing is read from the peer of a stream."""

    def resume(self) -> None:
        """Nothing is read from the peer of a stream."""

    def ping(self) -> None:
        self.write_event(_HEARTBEAT)

    def close(self, code: int, reason: str) -> None:
        """Send the reason and end the stream; a browser reconnects by itself, unless it is refused then."""
        if self._open:
            self.write_event(self._last_event(code, reason))
            self._end()
            self._channel.persistent = 0
            self._request.finish()

    def abort(self) -> None:
        if not self._gone:
            if self._open:
                self._end()
            self._channel.abort()

    def gone(self) -> None:
        """The connection has ended."""
        self._open = False
        self._gone = True

    # Called by the transport

    def pauseProducing(self) -> None:
        self.congested = True
        if self.session is not None:
            self.session.congested()

    def resumeProducing(self) -> None:
        self.congested = False
        if self.session is not None:
            self.session.drained()

    def stopProducing(self) -> None:
        """The connection is ending; ``notifyFinish`` fires when it has ended."""

    def _last_event(self, code: int, reason: str) -> bytes:
        return named("bye", ByePush(code=code, reason=reason, retry=code in RETRY_CLOSE_CODES))

    def _write_first(self, data: bytes) -> None:
        """Write the head, and the first bytes of the body."""
        self._begun = True
        self._request.write(data)
        self.chunked = bool(self._request.chunked)
        if self._request.method == b"HEAD":
            self.send = self._write_some = len  # the answer has no body
        elif self._output.has_unsent():
            self.buffer_rest(b"")

    def _end(self) -> None:
        self._open = False
        self._request.unregisterProducer()


class StreamSession(Session):
    """A session that reads one room and sends nothing."""

    __slots__ = ()

    def __init__(self, core: Chat, connection: StreamConnection, user: User, address: str) -> None:
        super().__init__(core, connection, user, address)
        connection.session = self

    def begin(
        self, connection: StreamConnection, room: Room, position: int, recovered: bool | UnsetType, why: Unrecoverable | None
    ) -> None:
        """Send the ``joined`` event, then the log after ``position``."""
        connection.write(named("joined", joined_reply(self, room, position + 1, recovered, why)))
        chunked = connection.chunked
        broadcast = room.broadcast((EventStreamEncoding, chunked), lambda name: EventStreamEncoding(name, room.epoch, chunked))
        membership = Membership(room, broadcast, connection, self)
        self.enter_room(membership)
        membership.start(position)
        self.feed()

    def caught_up(self, subscription: Subscription) -> None:
        self.connection.write(named("live", LivePush(room=subscription.log.name, seq=subscription.log.head)))

    def missed(self, subscription: Subscription, count: int) -> None:
        self.connection.write(named("gap", GapPush(room=subscription.log.name, dropped=count)))

    def on_timer(self, tick: int) -> int:
        """Send a comment at each ping interval, so that proxies do not end the stream.  There is no pong: only congestion counts."""
        if self.state is not SessionState.OPEN:
            return 0
        expires = self.user.expires
        left = None if expires is None else expires - self.core.now_seconds()
        if left is not None and left <= 0:
            self.end(TokenExpired("the token has expired"))
            return 0
        limits = self.core.limits
        if self._congested_at is None:
            self.connection.ping()
        elif tick - self._congested_at >= limits.stalled_seconds:
            self.close(CloseCode.TOO_SLOW, "took nothing for too long; reconnect and resume")
            self.connection.abort()
            return 0
        interval = max(1, round(limits.ping_seconds))
        return self.set_timer(interval if left is None else max(1, min(interval, int(left) + 1)))


async def stream(
    core: Chat,
    request: ChatRequest,
    user: User,
    room: Room,
    address: str,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    since: Cursor | None,
    after: int | None,
    tail: int | None,
    ended: Callable[[], None],
) -> None:
    """Answer the request with the stream.

    :param since: the cursor of a client that resumes.
    :param after: the number to read after, for a client without a cursor; ``tail``: how many of the last events to send first.
    :param ended: called when the stream has ended.
    """
    why = await core.history.check_cursor(room.log, since) if since is not None else None
    room.check_size()
    write_head(request, 200, (*HEADERS, *headers))
    connection = StreamConnection(request)
    session = StreamSession(core, connection, user, address)

    def over(result: Failure | None) -> None:
        if isinstance(result, Failure):
            connection.gone()
        session.lost()
        ended()

    request.notifyFinish().addBoth(over)
    core.add_session(session)
    session.begin(connection, room, _position(room, since, after, tail, why), UNSET if since is None else why is None, why)


def _position(room: Room, since: Cursor | None, after: int | None, tail: int | None, why: Unrecoverable | None) -> int:
    if since is not None:
        return since.seq if why is None else room.first - 1
    if after is not None:
        return max(room.first - 1, min(after, room.head))
    return room.head if tail is None else max(room.first - 1, room.head - tail)
