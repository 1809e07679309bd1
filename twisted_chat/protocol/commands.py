"""The commands of ``chat.v1.json`` as typed structs (``docs/protocol.rst``).

msgspec decodes and checks in one step; a field that is missing or of the wrong type is named in the error.  Unknown fields are
ignored.  Integers stay below 2^53.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias, Union

from msgspec import UNSET, Meta, Struct, UnsetType

from twisted_chat.events import Cursor
from twisted_chat.limits import DEVICE_CHARS
from twisted_chat.names import RAW_NAME_MAX

#: The client's id of a command; a command that has one gets exactly one answer, with the same id.
Id: TypeAlias = Union[Annotated[int, Meta(ge=-(2**53) + 1, le=2**53 - 1)], Annotated[str, Meta(max_length=64)]]
Seq: TypeAlias = Annotated[int, Meta(ge=0, le=2**53 - 1)]
#: A count, a revision, or the number of an event that there is.
Positive: TypeAlias = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Key: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
#: A room's name as typed; the rule for names is stricter (``names.py``).
RoomName: TypeAlias = Annotated[str, Meta(max_length=RAW_NAME_MAX)]
Tail: TypeAlias = Annotated[int, Meta(ge=0, le=2**53 - 1)]

#: A word or a title; what it may be is said in the error.
ShortText: TypeAlias = Annotated[str, Meta(max_length=RAW_NAME_MAX)]
Reason: TypeAlias = Annotated[str, Meta(max_length=4 * RAW_NAME_MAX)]
PersonId: TypeAlias = Annotated[str, Meta(min_length=2, max_length=130)]
People: TypeAlias = Annotated[tuple[PersonId, ...], Meta(max_length=128)]

#: Rooms in one join, whatever the limit of rooms on a connection.
MAX_JOINED = 4_096


class Command(Struct, frozen=True, kw_only=True, tag_field="type", tag=str.lower):
    """The fields of every command."""

    id: Id | None = None


class Hello(Command, frozen=True):
    """The first command: who the client is and what it supports.

    :ivar device: a random string that the client keeps (8 to 64 characters); it makes a guest the same user after a reconnect.
    """

    token: Annotated[str, Meta(max_length=8192)] | None = None
    name: Annotated[str, Meta(max_length=RAW_NAME_MAX)] | None = None
    device: Annotated[str, Meta(min_length=8, max_length=DEVICE_CHARS)] | None = None
    capabilities: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=32)] = ()


class JoinRoom(Struct, frozen=True, kw_only=True):
    """A room to join, and where to read it from."""

    room: RoomName
    since: Cursor | None = None
    tail: Tail | None = None
    presence: bool = False


class Join(Command, frozen=True):
    """Join a room or several, and receive the events after a cursor."""

    room: RoomName | None = None
    rooms: Annotated[tuple[JoinRoom | RoomName, ...], Meta(max_length=MAX_JOINED)] | None = None
    since: Cursor | None = None
    tail: Tail | None = None
    presence: bool = False


class Leave(Command, frozen=True):
    """Leave the room."""

    room: RoomName


class Send(Command, frozen=True):
    """Send a message: ``text``, or ``data`` in base64."""

    room: RoomName
    key: Key | None = None
    text: str | None = None
    data: bytes | None = None
    reply_to: Positive | None = None


class Edit(Command, frozen=True):
    """Replace the text of message ``of``; ``revision`` is the one that the user has seen."""

    room: RoomName
    of: Seq
    revision: Positive
    text: str
    key: Key | None = None


class Delete(Command, frozen=True):
    """Delete message ``of``."""

    room: RoomName
    of: Seq
    key: Key | None = None


class React(Command, frozen=True):
    """Add an emoji to message ``of``, or remove it (``on`` false)."""

    room: RoomName
    of: Seq
    emoji: Annotated[str, Meta(min_length=1, max_length=32)]
    on: bool = True
    key: Key | None = None


class Topic(Command, frozen=True):
    """Set the topic of the room."""

    room: RoomName
    text: Annotated[str, Meta(max_length=512)]
    key: Key | None = None


class Rooms(Command, frozen=True):
    """List the rooms that the user may see, by name: those that begin with ``prefix``, behind the name ``after``."""

    prefix: RoomName = ""
    after: RoomName = ""
    limit: Positive = 1_000


class History(Command, frozen=True):
    """Read a page of messages by number, with their edits, reactions and deletions applied."""

    room: RoomName
    before: Seq | None = None
    after: Seq | None = None
    around: Seq | None = None
    limit: Positive = 50


class Presence(Command, frozen=True):
    """Read who is in the room; ``on`` subscribes to changes, or unsubscribes."""

    room: RoomName
    on: bool | None = None


class Create(Command, frozen=True):
    """Make a room: a public one with a name, or a private one with a title; ``people`` are made its members."""

    room: RoomName = ""
    access: ShortText = "public"
    title: ShortText = ""
    people: People = ()
    key: Key | None = None


class Direct(Command, frozen=True):
    """Find the conversation with these people, or make it."""

    people: People


class Settings(Command, frozen=True):
    """Change a room; what is left out stays as it is."""

    room: RoomName
    title: ShortText | UnsetType = UNSET
    writers: ShortText | UnsetType = UNSET
    slow_mode: float | UnsetType | None = UNSET
    archived: bool | UnsetType = UNSET
    key: Key | None = None


class Member(Command, frozen=True):
    """Give a person a role in the room: ``owner``, ``moderator``, ``member`` or ``reader``; null: the person is a member no more."""

    room: RoomName
    person: PersonId
    role: ShortText | None
    key: Key | None = None


class Sanction(Command, frozen=True):
    """Mute, ban or remove (``kick``) a person; ``on`` false ends a mute or ban.

    :ivar until: when it ends by itself, milliseconds since 1970; null: never.
    """

    room: RoomName
    person: PersonId
    what: ShortText
    on: bool = True
    until: Positive | None = None
    reason: Reason = ""
    key: Key | None = None


class Members(Command, frozen=True):
    """List the members of the room, the highest roles first.

    :ivar search: only those whose names contain it.
    :ivar after: the ``next`` of the answer before.
    """

    room: RoomName
    search: ShortText = ""
    after: Annotated[str, Meta(max_length=512)] = ""
    limit: Positive = 200


class Sanctions(Command, frozen=True):
    """List who is muted or banned in the room; for those who decide about it."""

    room: RoomName


class Typing(Command, frozen=True):
    """The user is typing; passed on at most once in 3 s."""

    room: RoomName


class Read(Command, frozen=True):
    """The user has read the room up to number ``seq``; the highest number counts."""

    room: RoomName
    seq: Seq


class Ping(Command, frozen=True):
    """Asks for an answer, to see that the connection works."""


class Pong(Command, frozen=True):
    """The answer to the server's ping; any other frame does as well."""


class Bye(Command, frozen=True):
    """The client leaves; the server closes the connection with 1000."""


#: What changes who may do what, or tells about it.
GovernanceCommand: TypeAlias = Union[Create, Direct, Settings, Member, Sanction, Members, Sanctions]
AnyCommand: TypeAlias = Union[
    Hello,
    Join,
    Leave,
    Send,
    Edit,
    Delete,
    React,
    Topic,
    Rooms,
    History,
    Presence,
    GovernanceCommand,
    Typing,
    Read,
    Ping,
    Pong,
    Bye,
]
