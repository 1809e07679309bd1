"""What is handed to a store: events that have no number yet."""

from __future__ import annotations

from typing import TypeAlias, Union

from msgspec import Struct

from twisted_chat.events import Author


class NewMessage(Struct, frozen=True, gc=False):
    """A message to be said.  Exactly one of ``text`` and ``data`` is set."""

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
    """The end of message ``of``; ``any_author``: by somebody who may delete what others wrote."""

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
