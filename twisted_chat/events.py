"""The events of a room's log: everything durable is one of these, or a ``New…`` that has no number yet.

An event is numbered by its room (``seq``: 1, 2, 3 … without holes) and carries an ``id`` that no other history of the same
room gives to that number; epoch, number and id together are a cursor (``docs/decisions/01-room-is-a-log.rst``).  The room's name is not in
the event: it belongs to the log that the event is read from, and the JSON dialect writes it in front.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias, Union

from msgspec import Meta, Struct


class Author(Struct, frozen=True, gc=False):
    """A user, with the name at the time of the event."""

    id: str
    name: str


#: What :attr:`RoomSettings.access` may be.
ACCESS = ("public", "private", "direct")


class RoomSettings(Struct, frozen=True, omit_defaults=True):
    """What the owners of a room decide; all of it is in one event.

    :ivar access: ``public``; ``private``: only members see it; ``direct``: a conversation of its members, which never changes.
    :ivar title: what a room with a generated name is shown as; empty for a public room, which is shown by its name.
    :ivar writers: who may write: ``all``, ``users``, ``members`` or ``moderators``; empty: as the configuration says.
    :ivar slow_mode: seconds between two messages of one person; None: as the configuration says.
    :ivar people: the members of a direct conversation, which never change.
    """

    access: str = "public"
    title: str = ""
    writers: str = ""
    slow_mode: float | None = None
    people: tuple[Author, ...] = ()


class Reaction(Struct, frozen=True, omit_defaults=True):
    """One emoji on a message, with the ids of those who put it there.

    :ivar by: all of them, or in a page the first ones, and the reader if among the others.
    :ivar count: how many there are, where ``by`` is not all of them; else 0.
    """

    emoji: str
    by: tuple[str, ...]
    count: int = 0


class Entry(Struct, omit_defaults=True, tag_field="kind", gc=False):
    """What all events have.

    :ivar seq: the number in the room's log.
    :ivar id: tells this history from another one that has the same number (a restored backup).
    :ivar at: the server's clock in milliseconds since 1970, for display; order is ``seq``.
    :ivar key: the client's own name for its command; (room, author, key) is unique for the life of the message.
    """

    amends: ClassVar[bool] = False
    #: It changes who may do what in the room.
    governs: ClassVar[bool] = False

    seq: int
    id: str
    at: int
    by: Author
    key: str | None = None


class Message(Entry, tag="message", gc=False):
    """A message.  ``revision``, ``edited_at``, ``reactions`` and ``gone`` appear where the present state is shown.

    :ivar data: the bytes of a binary message (base64 in JSON); then ``text`` is absent.
    :ivar gone: deleted or purged: the number stays, the content does not (a tombstone).
    """

    text: str | None = None
    data: bytes | None = None
    reply_to: int | None = None
    revision: int = 1
    edited_at: int | None = None
    reactions: tuple[Reaction, ...] = ()
    gone: bool = False


class Edited(Entry, tag="edit", kw_only=True, gc=False):
    """The text of message ``of`` became ``text``; ``revision`` counts from 1, the original."""

    amends = True

    of: int
    revision: int
    text: str | None = None


class Deleted(Entry, tag="delete", kw_only=True, gc=False):
    """Message ``of`` is gone; its text and the texts of its edits are no longer in the log."""

    amends = True

    of: int


class Reacted(Entry, tag="reaction", kw_only=True, gc=False):
    """``by`` put an emoji on message ``of`` (``on``) or took it away."""

    amends = True

    of: int
    emoji: str
    on: bool


class TopicSet(Entry, tag="topic", kw_only=True, gc=False):
    """The room's topic became ``text``."""

    text: str


class RoomChanged(Entry, tag="room", kw_only=True, gc=False):
    """The room has these settings now: the whole of them, also those that did not change."""

    governs = True

    settings: RoomSettings
    archived: bool = False


class MemberChanged(Entry, tag="member", kw_only=True, gc=False):
    """``person`` has that role in the room now.

    :ivar role: ``owner``, ``moderator``, ``member`` or ``reader``; None: the person is not a member any more.
    """

    governs = True

    person: Author
    role: str | None = None


class Sanctioned(Entry, tag="sanction", kw_only=True, gc=False):
    """``person`` was muted, banned or removed from the room, or a mute or ban was ended.

    :ivar what: ``mute``, ``ban``, or ``kick`` (the connections of the person leave the room, and may join again).
    :ivar on: False: the mute or ban has ended.
    :ivar until: when it ends by itself, milliseconds since 1970; None: never.
    """

    governs = True

    person: Author
    what: str
    on: bool = True
    until: int | None = None
    reason: str = ""


Event: TypeAlias = Union[Message, Edited, Deleted, Reacted, TopicSet, RoomChanged, MemberChanged, Sanctioned]


class Cursor(Struct, frozen=True):
    """A place in a room's log: the client has everything up to and including ``seq``.

    :ivar epoch: identifies the whole log; a new database has another.
    :ivar id: the id of the event at ``seq``; absent at 0, the empty beginning.
    """

    epoch: Annotated[str, Meta(max_length=64)]
    seq: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    id: Annotated[str, Meta(max_length=128)] | None = None


# What is handed to a store: events that have no number yet.


class NewMessage(Struct, frozen=True, gc=False):
    """A message to be appended.  Exactly one of ``text`` and ``data`` is set."""

    by: Author
    key: str | None
    text: str | None = None
    data: bytes | None = None
    reply_to: int | None = None


class NewEdit(Struct, frozen=True, gc=False):
    """A new text for message ``of`` by its author, who saw ``revision``."""

    by: Author
    key: str | None
    of: int
    revision: int
    text: str


class NewDeletion(Struct, frozen=True, gc=False):
    """The deletion of message ``of``; ``any_author``: by a user who may delete what others wrote."""

    by: Author
    key: str | None
    of: int
    any_author: bool = False


class NewReaction(Struct, frozen=True, gc=False):
    """An emoji for message ``of``, put there (``on``) or taken away."""

    by: Author
    key: str | None
    of: int
    emoji: str
    on: bool


class NewTopic(Struct, frozen=True, gc=False):
    """A new topic for the room."""

    by: Author
    key: str | None
    text: str


class NewSettings(Struct, frozen=True, gc=False):
    """New settings of a room.

    :ivar creates: the room must be new: it has no event yet.
    :ivar origin: from where the command came, for the audit log.
    """

    by: Author
    key: str | None
    settings: RoomSettings
    archived: bool = False
    creates: bool = False
    origin: str = ""


class NewMember(Struct, frozen=True, gc=False):
    """A new role for ``person``; None: the person is to be no member any more.

    :ivar authority: the rank of who asks (:mod:`twisted_chat.standings`).
    :ivar acting_as: the role in the room that this rank comes from, which must still be held at the commit; empty: no role.
    """

    by: Author
    key: str | None
    person: Author
    role: str | None
    authority: int
    origin: str = ""
    acting_as: str = ""


class NewSanction(Struct, frozen=True, gc=False):
    """A sanction against ``person``, or the end of one; fields as in :class:`Sanctioned`.

    :ivar authority: the rank of who asks, and ``acting_as``: as in :class:`NewMember`.
    :ivar address: a guest is sanctioned under this address or network, too; it is not part of the event.
    """

    by: Author
    key: str | None
    person: Author
    what: str
    on: bool
    until: int | None
    reason: str
    authority: int
    address: str | None = None
    origin: str = ""
    acting_as: str = ""


Governance: TypeAlias = Union[NewSettings, NewMember, NewSanction]
NewEvent: TypeAlias = Union[NewMessage, NewEdit, NewDeletion, NewReaction, NewTopic, Governance]
