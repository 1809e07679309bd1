"""The HTTP API: list rooms, read a room's log and page through it, stream it, write to it.

Events have the same shape as in ``chat.v1.json``.  ``/api/v1/openapi.json`` is made from the structs here.
"""

from __future__ import annotations

from math import ceil

from msgspec import UNSET, Struct, UnsetType

from twisted_chat.core.chat import Chat
from twisted_chat.core.connections import ConnectionLimiter, address_block
from twisted_chat.core.joining import about_room
from twisted_chat.core.ratelimit import BucketTable, TokenBucket
from twisted_chat.core.room import Room
from twisted_chat.core.rooms import ListedRoom
from twisted_chat.errors import BadRequest, RateLimited, TooBig
from twisted_chat.events import Author, Event, NewMessage
from twisted_chat.limits import Limits
from twisted_chat.protocol.commands import Positive, RoomName, Seq, Tail
from twisted_chat.store_contract import Duplicate
from twisted_chat.users import User
from twisted_chat.web.auth import single
from twisted_chat.web.handshake import decoded_room
from twisted_chat.web.responses import Response, UnsupportedMediaType, write_head
from twisted_chat.web.routing import ApiRequest, Route, Who, json_answer
from twisted_chat.web.sse import find_place, read_event_id, stream

#: Events in an answer without ``limit``.
_PAGE = 50
#: Bytes that JSON and base64 may add to a text.
_AROUND_TEXT = 1_024


#: Parts of the API's description that the structs do not show.
_STREAMED = {
    "parameters": [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The id of the last event of a stream that ended: epoch:seq:id.",
            "schema": {"type": "string"},
        }
    ],
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
_KEYED = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "A message that is sent again with the same key is kept once.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 64},
        }
    ],
    "body": {"text/plain": {"schema": {"type": "string"}}},
}


class RoomInfo(Struct, frozen=True, kw_only=True):
    """A room as a list shows it.

    :ivar first: the oldest number that is kept; ``head`` the newest; ``members`` how many connections are in it.
    :ivar access: ``private`` or ``direct``; absent for a public room.
    :ivar title: what to show in the place of a generated name; ``people``: the members of a direct conversation.
    :ivar role: yours, if you have one.
    """

    name: str
    topic: str
    first: int
    head: int
    members: int
    durable: bool
    can: tuple[str, ...]
    archived: bool = False
    access: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    people: tuple[Author, ...] | UnsetType = UNSET
    role: str | UnsetType = UNSET


class RoomList(Struct, frozen=True, kw_only=True):
    """The rooms that the user may see, by name.

    :ivar next: there may be more: the value of ``after`` for the next request.
    """

    rooms: tuple[RoomInfo, ...]
    next: str | UnsetType = UNSET


class RoomsQuery(Struct, frozen=True, kw_only=True):
    """Which rooms to answer with: those whose names begin with ``prefix``, behind the name ``after``."""

    prefix: RoomName = ""
    after: RoomName = ""
    limit: Positive = 1_000


class EventsQuery(Struct, frozen=True, kw_only=True):
    """Which events of the log to answer with.

    :ivar after: the events after that number, as they were logged; ``before``, ``around`` and none give messages in their present state.
    :ivar tail: (streams) how many of the last events to send first.
    """

    after: Seq | None = None
    before: Seq | None = None
    around: Seq | None = None
    limit: Positive = _PAGE
    tail: Tail | None = None


class Events(Struct, frozen=True, kw_only=True):
    """A part of a room's log, oldest first.

    :ivar next: (after) the value of ``after`` for the next request; equal to ``head`` at the end.
    :ivar more_before: (before, around, none) there are older messages; ``more_after`` newer ones.
    """

    room: str
    epoch: str
    first: int
    head: int
    events: tuple[Event, ...]
    next: int | UnsetType = UNSET
    more_before: bool | UnsetType = UNSET
    more_after: bool | UnsetType = UNSET


class SendBody(Struct, frozen=True, kw_only=True):
    """A message: ``text``, or ``data`` in base64."""

    text: str | None = None
    data: bytes | None = None
    reply_to: Positive | None = None


class SendResult(Struct, frozen=True, kw_only=True):
    """The message is on disk (in an ephemeral room: it is being delivered).

    :ivar duplicate: a message with this key had been kept before; nothing was added, and this is the first result.
    """

    room: str
    seq: int
    event: str
    key: str | UnsetType = UNSET
    duplicate: bool


class Api:
    """The endpoints under ``/api/v1``."""

    def __init__(self, core: Chat, limiter: ConnectionLimiter) -> None:
        self._core = core
        self._limiter = limiter
        #: One object for all streams.
        self._stream_ended = limiter.ended
        self._reads = BucketTable(core.configuration, lambda limits: (limits.query_burst, limits.query_per_second), core.now)
        self._sends = BucketTable(core.configuration, lambda limits: (limits.person_burst, limits.person_per_second), core.now)
        for table in (self._reads, self._sends):
            core.each_minute(table.prune)

    @property
    def remembered(self) -> int:
        """Users and addresses whose rates are remembered, because they have not been idle for long enough."""
        return len(self._reads) + len(self._sends)

    def routes(self) -> list[Route]:
        """The routes of the endpoints."""
        events = "/api/v1/rooms/{room}/events"
        return [
            Route(
                method=b"GET", path="/api/v1/rooms", endpoint=self.rooms, query=(RoomsQuery, Who), answers=RoomList, public=True
            ),
            Route(
                method=b"GET",
                path=events,
                endpoint=self.events,
                query=(EventsQuery, Who),
                answers=Events,
                public=True,
                extra=_STREAMED,
            ),
            Route(
                method=b"POST",
                path=events,
                endpoint=self.say,
                query=(Who,),
                body=SendBody,
                answers=SendResult,
                status=201,
                public=True,
                extra=_KEYED,
            ),
        ]

    async def rooms(self, call: ApiRequest) -> Response:
        """The rooms that you may see."""
        user = await self.reader(call)
        query = call.query(RoomsQuery)
        core = self._core
        page = core.rooms.visible(user, query.prefix, query.after, query.limit)
        permissions, address = core.permissions, call.client.address
        rooms = tuple(
            _room_info(room, permissions.can(user, room, address), permissions.role(user, room.name)) for room in page.rooms
        )
        return json_answer(RoomList(rooms=rooms, next=page.next or UNSET))

    async def events(self, call: ApiRequest) -> Response | None:
        """A part of a room's log; with ``Accept: text/event-stream`` everything from there on, as it happens."""
        user = await self.reader(call)
        query = call.query(EventsQuery)
        room = self._core.rooms.find(user, decoded_room(call.segments[0]), call.client.address)
        if _wants_stream(call):
            if call.request.method == b"HEAD":
                write_head(call.request, 200, ((b"Content-Type", b"text/event-stream"), (b"Cache-Control", b"no-store")))
                call.request.finish()
            else:
                await self._stream(call, user, room, query)
            return None
        if sum(place is not None for place in (query.after, query.before, query.around)) > 1:
            raise BadRequest("after: give one of after, before and around")
        return json_answer(await self._read_events(user, room, query, call.client.address))

    async def say(self, call: ApiRequest) -> Response:
        """Send a message to a room.  With an ``Idempotency-Key`` it is kept once, however often it is sent."""
        user = await call.user()
        core = self._core
        core.sessions.check_name(user)
        room = core.rooms.find(user, decoded_room(call.segments[0]), call.client.address)
        key = idempotency_key(call, user)
        message = self._read_message(call)
        self.check_rate(call.client.address, user)
        new_event = NewMessage(user.author, key, message.text, message.data, message.reply_to)
        outcome = await core.post(user, room.name, new_event, call.client.address)
        duplicate = isinstance(outcome, Duplicate)
        event = outcome.event
        answer = SendResult(room=room.name, seq=event.seq, event=event.id, key=key or UNSET, duplicate=duplicate)
        return json_answer(answer, 200 if duplicate else 201)

    async def reader(self, call: ApiRequest) -> User:
        """The user of a request that reads, which is rated."""
        take_token(self._reads.bucket(address_block(call.client.address)))
        return await call.user()

    async def _read_events(self, user: User, room: Room, query: EventsQuery, address: str) -> Events:
        core = self._core
        if query.after is not None:
            events = await core.read(user, room.name, query.after, query.limit, address)
            end = events[-1].seq if events else max(query.after, room.first - 1)
            return _events(room, events=tuple(events), head=max(room.head, end if events else 0), next=end)
        page = await core.page(user, room.name, query.limit, before=query.before, around=query.around, address=address)
        return _events(room, events=page.events, head=page.head, more_before=page.more_before, more_after=page.more_after)

    async def _stream(self, call: ApiRequest, user: User, room: Room, query: EventsQuery) -> None:
        last = single(call.headers, b"Last-Event-Id")
        since = read_event_id(last.decode("latin-1")) if last else None
        address = call.client.address
        self._core.check_may_enter(user, room.name, address)
        self._limiter.admit(address)
        try:
            place = await find_place(self._core, room, since=since, after=query.after, tail=query.tail)
            # It took some time, in which the user may have been removed.
            self._core.check_may_enter(user, room.name, address)
        except BaseException:
            self._stream_ended(address)
            raise
        stream(self._core, call.request, user, room, address, call.cors_headers(), place=place, ended=self._stream_ended)

    def _read_message(self, call: ApiRequest) -> SendBody:
        kind = call.content_type()
        limit = self._core.limits.text_bytes
        if kind == b"application/json":
            message = call.body(SendBody)
        elif kind == b"text/plain":
            message = SendBody(text=call.text_body())
        else:
            raise UnsupportedMediaType("Content-Type: must be application/json or text/plain")
        if (message.text is None) == (message.data is None):
            raise BadRequest("text: give either text or data")
        content = message.text.encode() if message.text is not None else message.data or b""
        if not content:
            raise BadRequest("text: must not be empty")
        if len(content) > limit:
            raise TooBig(f"text: at most {limit} bytes")
        return message

    def check_rate(self, address: str, user: User) -> None:
        """By address, by user, and by all guests of the address: a guest without a device is a new user each time."""
        take_token(self._sends.bucket(address_block(address)))
        self._core.rates.check(user, address)


def body_bytes(limits: Limits) -> int:
    """The largest body of any endpoint: a frame of a session, or a text all of which is escaped as ``\\uXXXX``."""
    return max(limits.frame_bytes, 6 * limits.text_bytes + _AROUND_TEXT)


def take_token(bucket: TokenBucket) -> None:
    """Take one token, or raise :class:`RateLimited`."""
    if not bucket.available():
        wait = bucket.wait()
        raise RateLimited(f"too fast, wait {wait:.1f} s", retry_after_ms=ceil(wait * 1000))
    bucket.take(1)


def _room_info(room: ListedRoom, can: tuple[str, ...], role: str | None) -> RoomInfo:
    return RoomInfo(
        name=room.name,
        topic=room.topic,
        first=room.first,
        head=room.head,
        members=room.members,
        durable=room.durable,
        can=can,
        archived=room.archived,
        **about_room(room.settings, role),
    )


def _events(
    room: Room,
    *,
    events: tuple[Event, ...],
    head: int,
    next: int | UnsetType = UNSET,
    more_before: bool | UnsetType = UNSET,
    more_after: bool | UnsetType = UNSET,
) -> Events:
    return Events(
        room=room.name,
        epoch=room.epoch,
        first=room.first,
        head=head,
        events=events,
        next=next,
        more_before=more_before,
        more_after=more_after,
    )


def _wants_stream(call: ApiRequest) -> bool:
    return any(b"text/event-stream" in line.lower() for line in call.headers.get(b"Accept", ()))


def idempotency_key(call: ApiRequest, user: User) -> str | None:
    """The value of ``Idempotency-Key``."""
    value = single(call.headers, b"Idempotency-Key")
    if value is None:
        return None
    key = value.decode("latin-1").strip('"')
    if not (0 < len(key) <= 64 and key.isascii() and key.isprintable()):
        raise BadRequest("Idempotency-Key: 1 to 64 visible ASCII characters")
    if user.guest and call.query(Who).device is None:
        raise BadRequest("device: required with a guest's Idempotency-Key, because it tells that the same guest sends again")
    return key
