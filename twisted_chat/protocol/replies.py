"""``chat.v1.json``: the answers and pushes of the server (``docs/protocol.rst``).

A command with an ``id`` gets exactly one answer, ``ok`` or ``error``.  Everything else is a push and has no ``id``.  Fields that
do not apply are absent.
"""

from __future__ import annotations

from typing import TypeAlias, Union

from msgspec import UNSET, Struct, UnsetType

from twisted_chat.errors import ChatError
from twisted_chat.events import Author, Event
from twisted_chat.protocol.commands import Id


class Ok(Struct, frozen=True, kw_only=True, tag="ok", tag_field="type"):
    """The command was carried out."""

    id: Id


class PostOk(Struct, frozen=True, tag="ok", tag_field="type", gc=False):
    """The event is on disk (in an ephemeral room: it is being delivered).

    :ivar event: the id of the event; ``duplicate``: the same key had been kept before, and this is the first result.
    :ivar at: the server's clock at the event, milliseconds since 1970; older servers leave it out.
    """

    id: Id
    room: str
    seq: int
    event: str
    duplicate: bool
    key: str | UnsetType = UNSET
    at: int | UnsetType = UNSET


class ErrorBody(Struct, frozen=True, kw_only=True):
    """One error among several answers, and in the body of a refused HTTP request."""

    code: str
    message: str
    retry: bool
    retry_after_ms: int | UnsetType = UNSET


def error_body(error: ChatError) -> ErrorBody:
    """The fields of an error, as clients receive them."""
    return ErrorBody(
        code=error.code,
        message=error.message,
        retry=error.retry,
        retry_after_ms=UNSET if error.retry_after_ms is None else error.retry_after_ms,
    )


class Error(ErrorBody, frozen=True, kw_only=True, tag="error", tag_field="type"):
    """The command was refused and has changed nothing.  ``retry``: the same command with the same key may succeed later."""

    id: Id | UnsetType = UNSET


class Joined(Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """The answer for one room that was joined.

    :ivar head_id: the id of the event at ``head`` (empty at 0): with epoch and head it is a cursor at the head.
    :ivar from_: (``from``) the number of the first event that follows; ``head + 1`` if none does.
    :ivar recovered: whether everything after the given cursor follows; if not, ``why``: ``epoch``, ``fork``, ``ahead``,
        ``expired``.
    :ivar can: what the user may do in this room.
    :ivar access: ``private`` or ``direct``; absent in a public room.
    :ivar title: what to show in the place of a generated name; ``people``: the members of a direct conversation.
    :ivar role: of the user in this room, if any.
    """

    room: str
    epoch: str
    head: int
    head_id: str
    first: int
    from_: int
    recovered: bool | UnsetType = UNSET
    why: str | UnsetType = UNSET
    durable: bool
    topic: str
    can: tuple[str, ...]
    access: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    people: tuple[Author, ...] | UnsetType = UNSET
    role: str | UnsetType = UNSET


class JoinOk(Joined, frozen=True, kw_only=True, tag="ok", tag_field="type", rename={"from_": "from"}):
    """The answer to a join of one room."""

    id: Id


class JoinFailed(Struct, frozen=True, kw_only=True):
    """One room of several that could not be joined."""

    room: str
    error: ErrorBody


class JoinAllOk(Ok, frozen=True, kw_only=True, tag="ok"):
    """The answer to a join of several rooms, in their order."""

    rooms: tuple[Joined | JoinFailed, ...]


class RoomBrief(Struct, frozen=True, kw_only=True):
    """One room in a list.

    :ivar members: the number of connections that are in the room.
    :ivar access: as in :class:`Joined`, like ``title``, ``people`` and ``role``.
    """

    room: str
    head: int
    topic: str
    members: int
    access: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    people: tuple[Author, ...] | UnsetType = UNSET
    role: str | UnsetType = UNSET


class RoomsOk(Ok, frozen=True, kw_only=True, tag="ok"):
    """The rooms that the user may see, by name.

    :ivar next: there may be more: ask again with this as ``after``.
    """

    rooms: tuple[RoomBrief, ...]
    next: str | UnsetType = UNSET


class RoomOk(Ok, frozen=True, kw_only=True, tag="ok"):
    """The room that was made, or found."""

    room: str


class MemberBrief(Struct, frozen=True, kw_only=True):
    """One member of a room."""

    id: str
    name: str
    role: str


class MembersOk(Ok, frozen=True, kw_only=True, tag="ok"):
    """The members of a room, the highest roles first.

    :ivar next: there may be more: ask again with this as ``after``.
    """

    room: str
    members: tuple[MemberBrief, ...]
    next: str | UnsetType = UNSET


class SanctionBrief(Struct, frozen=True, kw_only=True):
    """Somebody who is muted or banned: until when, milliseconds since 1970 (2^53 - 1: until it is ended); absent: is not."""

    id: str
    name: str
    muted: int | UnsetType = UNSET
    banned: int | UnsetType = UNSET


class SanctionsOk(Ok, frozen=True, kw_only=True, tag="ok"):
    """Who is muted or banned in a room."""

    room: str
    sanctions: tuple[SanctionBrief, ...]


class HistoryOk(Ok, frozen=True, kw_only=True, tag="ok"):
    """A page of messages with their edits, reactions and deletions applied, oldest first."""

    room: str
    head: int
    events: tuple[Event, ...]
    more_before: bool
    more_after: bool


class ReadOk(Ok, frozen=True, kw_only=True, tag="ok"):
    """The read mark of the user, the highest number so far."""

    room: str
    seq: int


class Me(Struct, frozen=True, kw_only=True):
    """The user of the connection."""

    id: str
    name: str
    guest: bool


class SendRate(Struct, frozen=True, kw_only=True):
    """A token bucket; ``per_second`` 0: no bound."""

    burst: int
    per_second: float


class WelcomeLimits(Struct, frozen=True, kw_only=True):
    """The limits that a client should know (bytes, numbers)."""

    frame: int
    text: int
    rooms: int
    history: int
    send: SendRate


class Welcome(Struct, frozen=True, kw_only=True, tag="welcome", tag_field="type"):
    """The answer to hello.

    :ivar read: the read marks of the user: room names and numbers.
    """

    id: Id | UnsetType = UNSET
    version: int
    server: str
    epoch: str
    user: Me
    ping_ms: int
    limits: WelcomeLimits
    read: dict[str, int]


class LivePush(Struct, frozen=True, kw_only=True, tag="live", tag_field="type"):
    """The client has received everything up to the head of that room."""

    room: str
    seq: int


class GapPush(Struct, frozen=True, kw_only=True, tag="gap", tag_field="type"):
    """So many events are missing, because the room keeps none, or did not keep them until the client read on."""

    room: str
    dropped: int


class RemovedPush(Struct, frozen=True, kw_only=True, tag="removed", tag_field="type"):
    """The user may not be in that room any more, and the connection has left it.

    :ivar code: of the table of errors: ``banned``, ``forbidden`` (removed, may come back) or ``no_such_room``.
    """

    room: str
    code: str
    message: str


class RightsPush(Struct, frozen=True, kw_only=True, tag="rights", tag_field="type"):
    """What the user may do in that room has changed, or the room has."""

    room: str
    archived: bool
    can: tuple[str, ...]
    access: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    people: tuple[Author, ...] | UnsetType = UNSET
    role: str | UnsetType = UNSET


class RoomPush(Struct, frozen=True, kw_only=True, tag="room", tag_field="type"):
    """The user has become a member of that room, which may be joined now."""

    room: str
    access: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    people: tuple[Author, ...] | UnsetType = UNSET
    role: str | UnsetType = UNSET


class TypingPush(Struct, frozen=True, kw_only=True, tag="typing", tag_field="type"):
    """Others are typing.

    :ivar by: who began last.
    :ivar people: all of them, ``by`` included, if they are several; older servers leave it out.
    """

    room: str
    by: Me
    people: tuple[Me, ...] | UnsetType = UNSET


class ReadPush(Struct, frozen=True, kw_only=True, tag="read", tag_field="type"):
    """The user has read further on another device."""

    room: str
    seq: int


class Present(Struct, frozen=True, kw_only=True):
    """One user who is in the room."""

    id: str
    name: str
    connections: int


class PresenceState(Struct, frozen=True, kw_only=True):
    """Who is in a room: the whole list (``people``), a change (``previous`` to ``version``), or only ``count``."""

    room: str
    version: int
    count: int
    previous: int | UnsetType = UNSET
    people: tuple[Present, ...] | UnsetType = UNSET
    came: tuple[Present, ...] | UnsetType = UNSET
    left: tuple[str, ...] | UnsetType = UNSET


class PresencePush(PresenceState, frozen=True, kw_only=True, tag="presence", tag_field="type"):
    """Presence has changed."""


class PresenceOk(PresenceState, frozen=True, kw_only=True, tag="ok", tag_field="type"):
    """The answer to a presence command."""

    id: Id


class PingPush(Struct, frozen=True, kw_only=True, tag="ping", tag_field="type"):
    """Any frame from the client answers this."""


class PongPush(Struct, frozen=True, kw_only=True, tag="pong", tag_field="type"):
    """The answer to a ping without an ``id``."""


class ByePush(Struct, frozen=True, kw_only=True, tag="bye", tag_field="type"):
    """The connection ends with ``code``; ``retry_after_ms`` is already spread over the clients."""

    code: int
    reason: str
    retry: bool
    retry_after_ms: int | UnsetType = UNSET


Answer: TypeAlias = Union[
    Ok, PostOk, Error, JoinOk, JoinAllOk, RoomsOk, RoomOk, MembersOk, SanctionsOk, HistoryOk, ReadOk, PresenceOk, Welcome
]
Push: TypeAlias = Union[
    LivePush, GapPush, RemovedPush, RightsPush, RoomPush, TypingPush, ReadPush, PresencePush, PingPush, PongPush, ByePush
]
