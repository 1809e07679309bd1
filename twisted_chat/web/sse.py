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
from msgspec import UNSET, Struct, UnsetType

from twisted_chat.core.chat import Chat
from twisted_chat.core.history import Unrecoverable
from twisted_chat.core.joining import joined_reply
from twisted_chat.core.room import Room
from twisted_chat.core.session import Membership, Session, SessionState
from twisted_chat.core.subscription import Subscription
from twisted_chat.errors import RETRY_CLOSE_CODES, BadRequest, CloseCode, TokenExpired
from twisted_chat.events import Cursor, Event
from twisted_chat.protocol.encoders import JsonEncoding, WholeItems
from twisted_chat.protocol.replies import ByePush, GapPush, LivePush
from twisted_chat.users import User
from twisted_chat.web.responses import write_head
from twisted_chat.web.site import ChatRequest
from twisted_chat.web.stream_connection import StreamConnection, StreamState, chunk

#: Keeps proxies from buffering (``X-Accel-Buffering``) and caches from storing.
HEADERS = (
    (b"Content-Type", b"text/event-stream; charset=utf-8"),
    (b"Cache-Control", b"no-store"),
    (b"X-Accel-Buffering", b"no"),
)
HEARTBEAT = b":\n\n"
_encode = msgspec.json.Encoder().encode


def read_event_id(text: str) -> Cursor:
    """The cursor in a ``Last-Event-ID``; :class:`BadRequest` if it is not one."""
    epoch, _, rest = text.partition(":")
    seq, _, event = rest.partition(":")
    if not (epoch and seq.isascii() and seq.isdigit() and len(seq) < 17):
        raise BadRequest("Last-Event-ID: must be epoch:seq:id, as the stream sent it")
    return Cursor(epoch, int(seq), event or None)


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


class Place(Struct, frozen=True):
    """Where a reader begins.

    :ivar position: the number after which it reads.
    :ivar recovered: whether it goes on where its cursor is; ``why`` not.
    """

    position: int
    recovered: bool | UnsetType
    why: Unrecoverable | None


class RoomStream(StreamConnection):
    """The connection of a reader of a room.

    :param ended: called with the reader's address when the stream is over.
    :ivar send: takes whole chunks.
    """

    __slots__ = ("_ended", "reader", "send")

    reader: StreamSession

    def __init__(self, request: ChatRequest, ended: Callable[[str], None]) -> None:
        super().__init__(request)
        self.send = self._output.send
        self._ended = ended

    def ping(self) -> None:
        self.write_event(HEARTBEAT)

    def close(self, code: int, reason: str, last: bytes = b"") -> None:
        """Send the reason and end the stream; a browser reconnects by itself, unless it is refused then."""
        self.end(named("bye", ByePush(code=code, reason=reason, retry=code in RETRY_CLOSE_CODES)))

    def over(self) -> None:
        reader, self.session = self.reader, None
        # Either would keep the other until the garbage collector comes.
        del self.reader
        reader.lost()
        self._ended(reader.address)


class StreamSession(Session):
    """A session that reads one room and sends nothing."""

    __slots__ = ()

    def __init__(self, core: Chat, connection: RoomStream, user: User, address: str) -> None:
        super().__init__(core, connection, user, address)
        connection.session = connection.reader = self

    def begin(
        self, connection: RoomStream, room: Room, position: int, recovered: bool | UnsetType, why: Unrecoverable | None
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


def stream(
    core: Chat,
    request: ChatRequest,
    user: User,
    room: Room,
    address: str,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    place: Place,
    ended: Callable[[str], None],
) -> None:
    """Answer the request with the stream.

    :param ended: called with the address when the stream is over.
    """
    head = (*HEADERS, *headers)
    write_head(request, 200, head)
    connection = RoomStream(request, ended)
    session = StreamSession(core, connection, user, address)
    try:
        core.add_session(session)
        session.begin(connection, room, place.position, place.recovered, place.why)
    except BaseException:
        if connection.state is StreamState.HEAD:
            for name, _ in head:
                request.responseHeaders.removeHeader(name)
        else:
            connection.abort()  # it is too late for another answer
        raise


async def find_place(core: Chat, room: Room, *, since: Cursor | None, after: int | None, tail: int | None) -> Place:
    """Where to begin to read.

    :param since: the cursor of a client that resumes.
    :param after: the number to read after, for a client without a cursor; ``tail``: how many of the last events to send first.
    """
    if (current := core.openings.current(room)) is not None:
        await current
    why = await core.history.check_cursor(room.log, since) if since is not None else None
    room.check_size()
    return Place(_position(room, since, after, tail, why), UNSET if since is None else why is None, why)


def _position(room: Room, since: Cursor | None, after: int | None, tail: int | None, why: Unrecoverable | None) -> int:
    if since is not None:
        return since.seq if why is None else room.first - 1
    if after is not None:
        return max(room.first - 1, min(after, room.head))
    return room.head if tail is None else max(room.first - 1, room.head - tail)
