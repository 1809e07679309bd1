"""Authenticate credentials by several authenticators in order, and make guests of clients without a credential.

A credential that no authenticator knows, or that one refuses, is refused even where guests are welcome: a client with a bad
token has to learn that, and must not be let in as another user.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, maybeDeferred

from twisted_chat.errors import BadRequest, Unauthenticated
from twisted_chat.interfaces import Authenticator
from twisted_chat.limits import DEVICE_CHARS
from twisted_chat.names import person_name
from twisted_chat.users import Credential, User


class AuthenticatorChain:
    """Several authenticators, and guests.

    :param guests: None: every client needs a credential.
    """

    def __init__(self, authenticators: Sequence[Authenticator], guests: GuestFactory | None) -> None:
        self._authenticators = tuple(authenticators)
        self._guests = guests

    def identify(self, credential: Credential) -> Deferred[User]:
        return Deferred.fromCoroutine(self._identify(credential))

    async def _identify(self, credential: Credential) -> User:
        for authenticator in self._authenticators:
            user = await maybeDeferred(authenticator.identify, credential)
            if user is not None:
                return user
        raise Unauthenticated("token: not of a kind that this server knows")

    def guest(self, name: str | None = None, device: str | None = None) -> User:
        if self._guests is None:
            raise Unauthenticated("a token is required: this server has no guests")
        return self._guests.user(name, device)


#: Characters.  A shorter device could be guessed, and who has the device has the guest's id.
DEVICE_MIN = 8
#: Bytes of an id: with 96 bits two guests do not get the same one by chance.
_ID_BYTES = 12


class GuestFactory:
    """Makes guests.

    :param secret: kept in the store (``Opened.secret``), so that guests keep their ids when the server restarts.
    :param random: from a number to that many random bytes (``os.urandom``).
    """

    def __init__(self, secret: bytes, random: Callable[[int], bytes]) -> None:
        self._secret = secret
        self._random = random

    def user(self, name: str | None = None, device: str | None = None) -> User:
        """The guest who holds ``device``; without one, a new guest each time."""
        identity = "g" + (self._random(_ID_BYTES) if device is None else self._device_id(device)).hex()
        return User(
            id=identity, name=f"guest-{identity[-4:]}" if name is None else person_name(name), guest=True, fresh=device is None
        )

    def _device_id(self, device: str) -> bytes:
        if not DEVICE_MIN <= len(device) <= DEVICE_CHARS:
            raise BadRequest(f"device: {DEVICE_MIN} to {DEVICE_CHARS} characters, this has {len(device)}")
        try:
            encoded = device.encode()
        except UnicodeEncodeError:
            raise BadRequest("device: must be text") from None
        return hmac.digest(self._secret, b"guest\0" + encoded, "sha256")[:_ID_BYTES]
