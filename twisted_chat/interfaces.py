"""The interfaces between the parts: how a connection looks to a session, how edges hand over to one another.

Implementations import this module, never one another.  All Deferreds fire in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol

from twisted_chat.users import Credential, User


class Authenticator(Protocol):
    """Authenticates one kind of credential."""

    def identify(self, credential: Credential) -> Deferred[User | None]:
        """The user; None if the credential is of another kind; fails with ``Unauthenticated`` or ``TokenExpired``."""


class Authentication(Protocol):
    """Authenticates users and makes guests."""

    def identify(self, credential: Credential) -> Deferred[User]:
        """The user that the credential belongs to; fails with ``Unauthenticated``, ``TokenExpired`` or ``Unavailable``."""

    def guest(self, name: str | None = None, device: str | None = None) -> User:
        """A guest; raises ``Unauthenticated`` where guests are off, ``BadRequest`` naming the field."""


class Passwords(Protocol):
    """Checks and hashes passwords, some at a time, outside the reactor's thread."""

    def check(self, password: str, name: str, field: str = "password") -> None:
        """Raise ``BadRequest`` if somebody called ``name`` should not have this password."""

    def hash(self, password: str) -> Deferred[str]:
        """The hash to keep; fails with ``LimitReached`` if too many passwords are being checked."""

    def verify(self, password: str, kept: str) -> Deferred[bool]:
        """Whether it is the password of that hash; with an empty hash it is not, after the same work."""

    def finish(self) -> None:
        """Do what is in progress, and end."""


class Vouched(Struct, frozen=True):
    """Somebody that another authority knows.

    :ivar origin: which authority, and as whom; stable.
    :ivar name: a name for the account, if it has none yet.
    """

    origin: str
    name: str


class SignInWay(Protocol):
    """Another authority for names and passwords."""

    def vouch(self, name: str, password: str) -> Deferred[Vouched | None]:
        """Who that is; None if name or password is wrong."""


class Dialect(Enum):
    """The language of a client; the value is the subprotocol's name (``Sec-WebSocket-Protocol``)."""

    TEXT = "chat.v1.text"
    JSON = "chat.v1.json"


class Admission(Struct, frozen=True, kw_only=True):
    """What was granted to one connection before the upgrade.

    :ivar subprotocol: what the 101 answers in ``Sec-WebSocket-Protocol``; None: the client offered nothing.
    :ivar room: from the path, in its one form; what a plain client is in.
    :ivar address: the address that the limits count: the peer's, or the one that a trusted proxy names.
    :ivar names: a plain client wants ``bob: `` before each line (``?names=1``).
    :ivar history: how many of the last messages a plain client wants first (``?history=20``).
    """

    user: User
    dialect: Dialect
    room: str
    address: str
    subprotocol: str | None = None
    names: bool = False
    history: int = 0


class Handshake(Struct, frozen=True, gc=False):
    """The parts of the opening handshake that the WebSocket edge needs.

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
        connection it releases the address (``ConnectionLimiter.ended``).
        """


#: Gives bytes to the socket and answers how many it took; raises ``BlockingIOError`` if none, ``OSError`` if it is broken.
#: A transport that buffers by itself (TLS, HTTP) answers ``len(data)`` and says ``congested`` when it is full.
Send = Callable[[bytes], int]


class Connection(Protocol):
    """What an edge gives to a session.

    :ivar send: for readers at the head only; never called while ``congested``.
    :ivar paused: not read, because the session asked for it, so that silence means nothing.
    :ivar deflated: the peer agreed to compressed messages (RFC 7692, without context takeover).
    :ivar congested: unsent bytes are waiting.  When they are gone the edge calls ``session.drained()``.
    """

    congested: bool
    paused: bool
    deflated: bool

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait to be sent; 0 also where the transport does not say."""

    @property
    def send(self) -> Send:
        """The same function for as long as the connection is open."""

    def write(self, data: bytes) -> None:
        """Send all of ``data``, behind everything that waits; for the answers to one client, which it bounds itself."""

    def buffer_rest(self, rest: bytes) -> None:
        """Buffer the rest of a frame that the socket took only in part.

        The connection is congested from here on: :attr:`send` may not be called until the session has been told ``drained()``.
        Called at most once until then; what is buffered is never more than one frame.
        """

    def pause(self) -> None:
        """Read no more from the peer until :meth:`resume`."""

    def resume(self) -> None:
        """Read again."""

    def ping(self) -> None:
        """Ask the peer for a sign of life that no program sees (a control frame)."""

    def close(self, code: int, reason: str, last: bytes = b"") -> None:
        """Send what waits, then the close code (RFC 6455 section 7.4), then end.

        :param last: what :meth:`write` would have sent before it; both leave in one write.
        """

    def abort(self) -> None:
        """End now; the peer is gone or does not read."""


class ConnectionListener(Protocol):
    """What a connection calls: a session."""

    def congested(self) -> None:
        """The connection has unsent bytes now."""

    def drained(self) -> None:
        """The unsent bytes are gone."""

    def lost(self) -> None:
        """The connection has ended; nothing more is called."""


class SocketSession(ConnectionListener, Protocol):
    """What a WebSocket calls besides: the session of a dialect."""

    def received(self, texts: Sequence[bytes]) -> None:
        """Text messages, in order; each is valid UTF-8."""

    def received_binary(self, data: bytes) -> None:
        """One binary message."""

    def heard(self) -> None:
        """Anything at all came from the peer."""
