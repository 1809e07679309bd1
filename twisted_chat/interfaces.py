"""The interfaces between the parts: the store contract, how a connection looks to a session, how edges hand over to one another.

Implementations import this module, never one another.  ``tests/store_contract`` runs on every store.  All Deferreds fire in the
reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Protocol, TypeAlias, Union

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol

from twisted_chat.errors import ChatError
from twisted_chat.events import Cursor, Event, NewEvent
from twisted_chat.users import Credential, User


class RoomRecord(Struct, frozen=True):
    """What is known of a room without reading its log.

    :ivar first: the oldest number still kept (1 unless retention took some; ``head + 1`` when nothing is kept).
    :ivar head: the newest number; 0 for an empty log.
    :ivar head_id: the id of the event at ``head``; empty at 0.
    """

    name: str
    first: int = 1
    head: int = 0
    head_id: str = ""
    topic: str = ""
    archived: bool = False


class Opened(Struct, frozen=True):
    """The answer of a store that has been opened.

    :ivar epoch: identifies the logs; a new database gets a new one.
    :ivar secret: 32 random bytes made with the database: keys the ids of guests, so that they outlive a restart.
    :ivar news: the number of the last change of rooms that ``rooms`` has: what :meth:`RoomStore.room_news` goes on from.
    """

    epoch: str
    secret: bytes
    rooms: tuple[RoomRecord, ...]
    news: int = 0


class RoomNews(Struct, frozen=True):
    """Rooms that were made, archived or opened again, by whatever process.

    :ivar number: where to go on.
    :ivar archived: names of rooms, and whether each is archived now.
    """

    number: int
    archived: dict[str, bool]


class Revocations(Struct, frozen=True):
    """Tokens that were revoked, by whatever process, in the order of their revocation.

    :ivar number: where to go on.
    :ivar tokens: their ids.
    """

    number: int
    tokens: tuple[str, ...]


class Append(Struct, frozen=True, gc=False):
    """New events for one room, in the order in which they are to be numbered."""

    room: str
    new_events: Sequence[NewEvent]


class Appended(Struct, frozen=True, gc=False):
    """The new event is on disk as this event."""

    event: Event


class Duplicate(Struct, frozen=True, gc=False):
    """The same (room, author, key) had been kept before; this is the first result."""

    event: Event


#: The result of one new event.  A :class:`ChatError` (conflict, gone, no_such_event, forbidden) concerns that event alone.
Outcome: TypeAlias = Union[Appended, Duplicate, ChatError]


class Page(Struct, frozen=True):
    """Messages (and topics) in their present state, oldest first; edits, deletions and reactions are folded in.

    :ivar more_before: there are older entries than the first one here; ``more_after`` likewise.
    """

    events: tuple[Event, ...]
    head: int
    more_before: bool
    more_after: bool


class Aged(Struct, frozen=True, order=True):
    """A room, and the time of its oldest event that is kept: milliseconds since 1970."""

    at: int
    room: str


class TokenRecord(Struct, frozen=True):
    """An opaque bearer token.  Only the SHA-256 of its secret is kept.

    :ivar user: the id (``u…``) of its user.
    :ivar expires: milliseconds since 1970, or None.
    :ivar rights: permissions beyond those of every user (``moderate``, ``metrics``).
    """

    id: str
    user: str
    name: str
    created: int
    expires: int | None = None
    revoked: int | None = None
    rights: tuple[str, ...] = ()


class LogStore(Protocol):
    """The logs of all rooms."""

    def open(self) -> Deferred[Opened]:
        """Make ready; fails with :class:`StoreError`, one line with cause and cure."""

    def close(self) -> Deferred[None]:
        """Finish the work in progress, then close the file."""

    def append(self, batch: Sequence[Append]) -> Deferred[list[list[Outcome]]]:
        """Number, keep and commit all of ``batch`` in one transaction; the answer has its shape.

        Nothing has been kept if it fails with ``Unavailable`` (disk full, failed fsync, engine gone).  The caller sends one batch
        at a time.
        """

    def read(self, room: str, after: int, limit: int, max_bytes: int) -> Deferred[list[Event]]:
        """The log after number ``after``, oldest first: at most ``limit`` events and, beyond the first, ``max_bytes`` of content.

        Empty at the head.  Numbers that retention has taken are skipped.
        """

    def page(
        self,
        room: str,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
        reader: str | None = None,
    ) -> Deferred[Page]:
        """At most ``limit`` messages by number, in their present state; without a place: the newest.

        A page is about 1 MB at most, and shorter if it would be more.  Of each reaction it names the first 50 people, and
        ``reader`` (a user's id) if among the others.
        """

    def event(self, room: str, seq: int) -> Deferred[Event | None]:
        """The event at that number as the log has it, or None."""

    def purge(self, room: str, keep_events: int | None, keep_after_ms: int | None) -> Deferred[RoomRecord]:
        """Retention: forget the oldest events, so that at most ``keep_events`` remain and none from before ``keep_after_ms``."""

    def aged(self, before_ms: int, after: Aged | None, limit: int) -> Deferred[list[Aged]]:
        """At most ``limit`` rooms whose oldest event is from before that time, by time and name, those behind ``after``.

        It costs what it answers, however many other rooms there are.
        """

    def mark_read(self, user: str, room: str, seq: int) -> Deferred[int]:
        """Raise the user's read mark to ``seq``; answers the mark, a maximum."""

    def read_marks(self, user: str) -> Deferred[dict[str, int]]:
        """Room names and read marks of one user."""

    def archive(self, room: str, archived: bool) -> Deferred[RoomRecord]:
        """Close the room for writing (or open it again); it is made if it is not there."""

    def follow(self, on_news: Callable[[Mapping[str, int]], None]) -> Callable[[], None]:
        """Call ``on_news`` with room names and heads when logs have grown by commits of others, in the reactor's thread.

        Answers a function that ends it.  It is a hint: it may be lost, come twice, or be about the caller's own commits.  Who follows
        reads the log on from the number that it has.  A store that one server has for itself has no news.
        """

    def record(self, room: str) -> Deferred[RoomRecord]:
        """The room as it is now, whoever changed it; an empty one if it is not there, and it is not made."""

    def lease(self, name: str, seconds: float) -> Deferred[bool]:
        """Take or renew the lease of that name; False: another process has it.  A store with a single server always answers True."""

    def probe(self) -> Deferred[None]:
        """Commit something small: fails with ``Unavailable`` when a message could not be kept now."""


class TokenStore(Protocol):
    """The opaque tokens."""

    def create_token(self, record: TokenRecord, secret_hash: bytes) -> Deferred[None]:
        """Keep a new token."""

    def find_token(self, secret_hash: bytes) -> Deferred[TokenRecord | None]:
        """The token with that SHA-256, revoked and expired ones included."""

    def list_tokens(self) -> Deferred[list[TokenRecord]]:
        """All of them, oldest first."""

    def revoke_token(self, token_id: str, now_ms: int) -> Deferred[TokenRecord | None]:
        """Mark as revoked; None if there is no such token.  Revoking twice keeps the first time."""

    def revocations(self, since: int, limit: int) -> Deferred[Revocations]:
        """The revocations after that number, at most ``limit``; no clock decides which are new."""


class CursorStore(Protocol):
    """How far readers that are programs (webhooks, an index) have come; each has a name and a cursor for each room."""

    def load_cursors(self, reader: str) -> Deferred[dict[str, Cursor]]:
        """The reader's cursors by room."""

    def save_cursor(self, reader: str, room: str, cursor: Cursor, *, rewind: bool = False) -> Deferred[None]:
        """Keep a cursor in the place of the one before; it is on disk when the Deferred fires.

        Within an epoch a cursor only goes forward: one with a smaller number changes nothing, because it was saved late.

        :param rewind: replace the cursor in any case: the reader begins again.
        """

    def delete_cursors(self, reader: str) -> Deferred[None]:
        """Forget the reader."""


class RoomStore(Protocol):
    """What another process may change of rooms while the server runs: it makes empty ones, archives them and opens them again."""

    def room_news(self, since: int, limit: int) -> Deferred[RoomNews]:
        """What has changed after that number, at most ``limit`` rooms; it costs what it answers, however many rooms there are."""


class FollowedStore(LogStore, CursorStore, Protocol):
    """What the core needs: the logs, and the cursors of programs that follow them."""


class Store(FollowedStore, TokenStore, RoomStore, Protocol):
    """Everything a server keeps."""


class StoreError(Exception):
    """The store cannot be opened: one line for the operator, cause and cure."""


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
