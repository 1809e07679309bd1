"""Opaque bearer tokens: ``tc_`` and 32 random bytes in base64.

The store keeps only the SHA-256 of a token, so that a stolen database is of no use to log in.  A slow password hash would not add
security, because 256 random bits cannot be guessed.  Unlike a JWT, such a token can be revoked at once.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256

from msgspec import Struct
from twisted.internet.defer import Deferred, fail, succeed

from twisted_chat.errors import BadRequest, TokenExpired, Unauthenticated
from twisted_chat.names import person_name
from twisted_chat.store_contract import TokenRecord, TokenStore
from twisted_chat.users import Credential, User

#: Marks the tokens of this server, also for scanners that look for leaked secrets.
PREFIX = "tc_"
#: Ids of authenticated users; those of guests begin with ``g``.
_PERSON_ID = re.compile(r"u[!-~]{1,128}")
_TOKEN = re.compile(r"tc_[A-Za-z0-9_-]{43}")
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
) -> Minted:
    """A new token for ``user`` (an id such as ``u42``), who is shown as ``name``; :class:`BadRequest` names what is wrong."""
    if not _PERSON_ID.fullmatch(user):
        raise BadRequest("person: must be u and 1 to 128 visible ASCII characters, such as u42")
    if expires_ms is not None and expires_ms <= now_ms:
        raise BadRequest("expires: must be in the future")
    token = PREFIX + urlsafe_b64encode(random(_SECRET_BYTES)).rstrip(b"=").decode()
    record = TokenRecord(
        id="t" + random(_ID_BYTES).hex(),
        user=user,
        name=person_name(name),
        created=now_ms,
        expires=expires_ms,
        rights=tuple(sorted(set(rights))),
    )
    return Minted(token, record, secret_hash(token))


def secret_hash(token: str) -> bytes:
    """The hash under which the store keeps the token."""
    return sha256(token.encode()).digest()


class OpaqueTokens:
    """Authenticates the bearer of a ``tc_…`` token.

    :param seconds: the time, in seconds since 1970.
    """

    def __init__(self, store: TokenStore, seconds: Callable[[], float]) -> None:
        self._store = store
        self._seconds = seconds

    def identify(self, credential: Credential) -> Deferred[User | None]:
        if not credential.token.startswith(PREFIX):
            return succeed(None)
        if not _TOKEN.fullmatch(credential.token):
            return fail(Unauthenticated("token: incomplete, or not a token of this server"))
        return self._store.find_token(secret_hash(credential.token)).addCallback(self._bearer)

    def _bearer(self, record: TokenRecord | None) -> User | None:
        if record is None:
            raise Unauthenticated("token: unknown")
        if record.revoked is not None:
            raise Unauthenticated("token: revoked")
        if record.expires is not None and record.expires <= self._seconds() * 1000:
            raise TokenExpired("token: expired")
        return User(
            id=record.user,
            name=record.name,
            expires=None if record.expires is None else record.expires / 1000,
            token_id=record.id,
            rights=frozenset(record.rights),
        )
