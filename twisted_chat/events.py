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


Event: TypeAlias = Union[Message, Edited, Deleted, Reacted, TopicSet]


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


NewEvent: TypeAlias = Union[NewMessage, NewEdit, NewDeletion, NewReaction, NewTopic]
