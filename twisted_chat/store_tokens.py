"""What stores keep of tokens.  A module of its own, because the contracts of tokens and of accounts both need it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

#: ``token``: made for a program; ``session``: made by signing in.
TokenKind: TypeAlias = Literal["token", "session"]


class TokenRecord(Struct, frozen=True):
    """An opaque bearer token.  Only the SHA-256 of its secret is kept.

    :ivar user: the id (``u…``) of its user, which is the id of the user's account if there is one.
    :ivar expires: milliseconds since 1970, or None.
    :ivar rights: permissions beyond those of every user (:data:`twisted_chat.accounts.RIGHTS`).
    :ivar label: what its user calls it.
    """

    id: str
    user: str
    name: str
    created: int
    expires: int | None = None
    revoked: int | None = None
    rights: tuple[str, ...] = ()
    kind: TokenKind = "token"
    label: str = ""
