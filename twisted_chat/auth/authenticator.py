"""All the ways to prove who one is, tried in order: one row per way.

A credential that no way knows, or that its way refuses, is refused, even where guests are welcome: somebody who shows a bad
token wants to know that, and is not to be let in as somebody else.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, maybeDeferred

from twisted_chat.auth.guest import GuestFactory
from twisted_chat.errors import Unauthenticated
from twisted_chat.users import Authenticator, Credential, User


class AuthenticatorChain:
    """Everybody who may be here.

    :param guests: None: nobody without a proof.
    """

    def __init__(self, ways: Sequence[Authenticator], guests: GuestFactory | None) -> None:
        self._ways = tuple(ways)
        self._guests = guests

    def identify(self, credential: Credential) -> Deferred[User]:
        return Deferred.fromCoroutine(self._identify(credential))

    async def _identify(self, credential: Credential) -> User:
        for way in self._ways:
            user = await maybeDeferred(way.identify, credential)
            if user is not None:
                return user
        raise Unauthenticated("token: not of a kind that this server knows")

    def guest(self, name: str | None = None, device: str | None = None) -> User:
        if self._guests is None:
            raise Unauthenticated("a token is needed: this server takes no guests")
        return self._guests.user(name, device)
