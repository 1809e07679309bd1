"""Guests: somebody who says a name and proves nothing.

A guest who holds on to a ``device`` string keeps the id over reconnects and restarts, so that a retried message is known as the
same one ((room, author, key) is unique).  The id is a keyed hash: knowing a guest's id, which everybody in the room does, gives
neither the device nor the id in another server.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from twisted_chat.errors import BadRequest
from twisted_chat.names import person_name
from twisted_chat.users import User

#: Characters.  Shorter ones could be hit upon by trying, and who has the device has the guest's id.
DEVICE_MIN = 8
#: Characters.  A UUID has 36; the bound keeps what we hash small.
DEVICE_MAX = 128
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
        if not DEVICE_MIN <= len(device) <= DEVICE_MAX:
            raise BadRequest(f"device: {DEVICE_MIN} to {DEVICE_MAX} characters, this has {len(device)}")
        try:
            held = device.encode()
        except UnicodeEncodeError:
            raise BadRequest("device: must be text") from None
        return hmac.digest(self._secret, b"guest\0" + held, "sha256")[:_ID_BYTES]
