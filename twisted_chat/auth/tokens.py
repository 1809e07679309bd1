"""Authenticates the bearers of opaque tokens (:mod:`twisted_chat.minting`)."""

from __future__ import annotations

import re
from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed

from twisted_chat.errors import TokenExpired, Unauthenticated
from twisted_chat.minting import PREFIX, secret_hash
from twisted_chat.store_contract import TokenRecord, TokenStore
from twisted_chat.users import Credential, User

_TOKEN = re.compile(r"tc_[A-Za-z0-9_-]{43}")


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
