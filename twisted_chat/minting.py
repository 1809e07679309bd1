"""Makes opaque bearer tokens: ``tc_`` and 32 random bytes in base64.

The store keeps only the SHA-256 of a token, so that a stolen database is of no use to log in.  A slow password hash would not add
security, because 256 random bits cannot be guessed.  Unlike a JWT, such a token can be revoked at once.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256

from msgspec import Struct

from twisted_chat.errors import BadRequest
from twisted_chat.names import person_name
from twisted_chat.store_tokens import TokenKind, TokenRecord

#: Marks the tokens of this server, also for scanners that look for leaked secrets.
PREFIX = "tc_"
#: Ids of authenticated users; those of guests begin with ``g``.
_PERSON_ID = re.compile(r"u[!-~]{1,128}")
_SECRET_BYTES = 32
_ID_BYTES = 6


class Minted(Struct, frozen=True):
    """A new token, which is shown to its bearer once, and what the store keeps of it."""

    token: str
    record: TokenRecord
    secret_hash: bytes

    def __repr__(self) -> str:
        return f"<Minted {self.record.id} for {self.record.user}>"


def mint(
    random: Callable[[int], bytes],
    now_ms: int,
    *,
    user: str,
    name: str,
    expires_ms: int | None = None,
    rights: Iterable[str] = (),
    kind: TokenKind = "token",
    label: str = "",
) -> Minted:
    """A new token for ``user`` (an id such as ``u42``), who is shown as ``name``; :class:`BadRequest` names what is wrong."""
    if not _PERSON_ID.fullmatch(user):
        raise BadRequest("person: must be u and 1 to 128 visible ASCII characters, such as u42")
    if expires_ms is not None and expires_ms <= now_ms:
        raise BadRequest("expires: must be in the future")
    token = make_secret(random)
    record = TokenRecord(
        id="t" + random(_ID_BYTES).hex(),
        user=user,
        name=person_name(name),
        created=now_ms,
        expires=expires_ms,
        rights=tuple(sorted(set(rights))),
        kind=kind,
        label=label,
    )
    return Minted(token, record, secret_hash(token))


def make_secret(random: Callable[[int], bytes]) -> str:
    """A new secret in the form of a token."""
    return PREFIX + urlsafe_b64encode(random(_SECRET_BYTES)).rstrip(b"=").decode()


def secret_hash(token: str) -> bytes:
    """The hash under which the store keeps the token."""
    return sha256(token.encode()).digest()
