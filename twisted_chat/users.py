"""Users and the credentials that they show."""

from __future__ import annotations

from collections.abc import Set
from enum import Enum

from msgspec import Struct

from twisted_chat.events import Author


class User(Struct, frozen=True, kw_only=True):
    """An authenticated user, or a guest.

    :ivar id: ``u…`` for authenticated users, ``g…`` for guests; stable over reconnects, because (room, author, key) is unique.
    :ivar fresh: a guest with a new random id, of whom nothing is stored.
    :ivar expires: when the credential expires, seconds since 1970; None: never.
    :ivar token_id: the opaque token that authenticated the user, so that revoking it ends the connection.
    :ivar rights: permissions beyond those of every user: ``moderate``, ``metrics``.
    :ivar rooms: the names or patterns (``live.*``) of the only rooms this user may see; None: all.
    """

    id: str
    name: str
    guest: bool = False
    fresh: bool = False
    expires: float | None = None
    token_id: str | None = None
    rights: Set[str] = frozenset()
    rooms: tuple[str, ...] | None = None

    @property
    def author(self) -> Author:
        return Author(self.id, self.name)


class Source(Enum):
    """How a credential came: a cookie needs an Origin that is allowed, the others do not."""

    HEADER = "Authorization header"
    COOKIE = "cookie"
    SUBPROTOCOL = "bearer subprotocol"
    HELLO = "hello"


class Credential(Struct, frozen=True):
    """A bearer token as the client gave it.  Its repr never shows the secret."""

    token: str
    source: Source

    def __repr__(self) -> str:
        return f"<Credential from {self.source.value}>"
