"""How an HTTP request becomes a WebSocket (RFC 6455 section 4.2): what the HTTP edge hands to the WebSocket edge, and the 101.

The HTTP edge settles everything first (design decision 8); then it asks ``open_socket`` for a protocol, gives it the transport,
and the protocol's ``makeConnection`` writes :func:`switching_protocols`.  Neither edge imports the other: this is their seam.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Sequence
from hashlib import sha1
from typing import Protocol

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol

from twisted_chat.ticket import Admission
from twisted_chat.users import Credential, User

#: RFC 6455 section 1.3: proves that the server knows WebSocket and does not merely echo.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Handshake(Struct, frozen=True, gc=False):
    """What the client asked for beside the ticket.

    :ivar key: ``Sec-WebSocket-Key`` as it came, checked.
    :ivar extensions: the lines of ``Sec-WebSocket-Extensions``, unparsed.
    :ivar secure: it came through TLS.
    """

    key: bytes
    extensions: tuple[bytes, ...] = ()
    secure: bool = False


class OpenSocket(Protocol):
    """The WebSocket edge, as the HTTP edge sees it."""

    def __call__(self, admission: Admission, handshake: Handshake) -> IProtocol:
        """A protocol that writes the 101 when it gets its transport, and the frames after it.

        It gets ``makeConnection`` at once, then the bytes that came behind the handshake by ``dataReceived``.  When it loses its
        connection it says so to the admission (``ended(admission.address)``).
        """


class Authentication(Protocol):
    """Everybody who may be here, by proof or as a guest."""

    def identify(self, credential: Credential) -> Deferred[User]:
        """The person that the credential speaks for; fails with ``Unauthenticated``, ``TokenExpired`` or ``Unavailable``."""

    def guest(self, name: str | None = None, device: str | None = None) -> User:
        """A person without proof; raises ``Unauthenticated`` where guests are off, ``BadRequest`` naming the field."""


def is_key(key: bytes) -> bool:
    """Whether this is 16 bytes in base64, as a ``Sec-WebSocket-Key`` must be."""
    try:
        return len(key) == 24 and len(a2b_base64(key, strict_mode=True)) == 16
    except Base64Error:
        return False


def accept_key(key: bytes) -> bytes:
    """The value of ``Sec-WebSocket-Accept`` for that ``Sec-WebSocket-Key``."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def switching_protocols(key: bytes, subprotocol: str | None = None, extensions: Sequence[str] = ()) -> bytes:
    """The whole head of the 101."""
    head = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept_key(key)
    )
    if subprotocol is not None:
        head += b"\r\nSec-WebSocket-Protocol: " + subprotocol.encode("ascii")
    if extensions:
        head += b"\r\nSec-WebSocket-Extensions: " + ", ".join(extensions).encode("ascii")
    return head + b"\r\n\r\n"
