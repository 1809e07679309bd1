"""Authentication: every authenticator is asked in order; who shows no credential is a guest.

A credential that no authenticator knows, or that one refuses, is refused, even where guests are allowed: somebody with a bad token
needs to know that, and must not become somebody else.
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
    """Asks the authenticators one after the other, and makes guests.

    :param guests: None: every request needs a credential.
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


#: Characters.  A shorter device could be guessed, and who has the device has the guest's id.
DEVICE_MIN = 8
#: Bytes of an id: 96 bits make a chance meeting of two guests unthinkable.
_ID_BYTES = 12


class GuestFactory:
    """Makes guests.

    :param secret: kept with the logs (``Opened.secret``), so that ids outlive a restart.
    :param random: so many random bytes (``os.urandom``).
    """

    def __init__(self, secret: bytes, random: Callable[[int], bytes]) -> None:
        self._secret = secret
        self._random = random

    def user(self, name: str | None = None, device: str | None = None) -> User:
        """The guest who holds ``device``; without one, a new guest each time."""
        identity = "g" + (self._random(_ID_BYTES) if device is None else self._of_device(device)).hex()
        return User(id=identity, name=f"guest-{identity[-4:]}" if name is None else person_name(name), guest=True)

    def _of_device(self, device: str) -> bytes:
        if not DEVICE_MIN <= len(device) <= DEVICE_CHARS:
            raise BadRequest(f"device: {DEVICE_MIN} to {DEVICE_CHARS} characters, this has {len(device)}")
        try:
            held = device.encode()
        except UnicodeEncodeError:
            raise BadRequest("device: must be text") from None
        return hmac.digest(self._secret, b"guest\0" + held, "sha256")[:_ID_BYTES]
