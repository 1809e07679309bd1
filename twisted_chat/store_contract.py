"""The contract of all stores: what they keep, and what they are given and answer (``docs/decisions/09-one-store-contract.rst``).

Implementations import this module, never one another; ``tests/store_contract`` runs on each of them.  All Deferreds fire in the reactor's
thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, Union

from msgspec import Struct
from twisted.internet.defer import Deferred

from twisted_chat.accounts import AccountStore
from twisted_chat.errors import ChatError
from twisted_chat.events import Cursor, Event, NewEvent, RoomSettings
from twisted_chat.standings import StandingStore
from twisted_chat.store_tokens import TokenRecord as TokenRecord


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
    settings: RoomSettings = RoomSettings()


class Opened(Struct, frozen=True):
    """The answer of a store that has been opened.

    :ivar epoch: identifies the logs; a new database gets a new one.
    :ivar secret: 32 random bytes made with the database: keys the ids of guests, so that they outlive a restart.
    :ivar news: the number of the last change of rooms that ``rooms`` has: what :meth:`RoomStore.room_news` goes on from.
    :ivar standing_news: the number of the last change of a standing: what ``standing_news`` goes on from.
    """

    epoch: str
    secret: bytes
    rooms: tuple[RoomRecord, ...]
    news: int = 0
    standing_news: int = 0


class RoomNews(Struct, frozen=True):
    """Rooms that were made, archived or opened again, or got other settings, by whatever process.

    :ivar number: where to go on.
    :ivar archived: names of rooms, and whether each is archived now.
    :ivar settings: the settings of the same rooms; where a room is left out it has the usual ones.
    """

    number: int
    archived: dict[str, bool]
    settings: dict[str, RoomSettings] = {}


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
    """Messages, topics and changes of settings, members and sanctions, oldest first; edits, deletions and reactions are folded in.

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

        Settings, members and sanctions (``Governance``) are decided by ``core/governance.py`` like amendments, one after another with
        all others of the batch and inside of the transaction, which keeps their results: settings and ``archived`` with the room,
        the standings of people beside it.  In a room without any event only settings are accepted; a creation that is refused or
        repeated takes with it everything of that author in its ``Append`` (``governance.Creations``).
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
        """At most ``limit`` messages (and what else is no amendment) by number, in their present state; without a place: the newest.

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
        """All access tokens, oldest first; sessions, of which there may be very many, are left out."""

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


class FollowedStore(LogStore, CursorStore, StandingStore, Protocol):
    """What the core needs: the logs, the cursors of programs that follow them, and what people are in rooms."""


class Store(FollowedStore, TokenStore, RoomStore, Protocol):
    """Everything a server keeps."""

    @property
    def accounts(self) -> AccountStore:
        """The accounts, which are open when the store is."""


class StoreError(Exception):
    """The store cannot be opened: one line for the operator, cause and cure."""
