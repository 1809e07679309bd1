"""The store contract: where the logs are kept (design decision 9).

One suite of contract tests runs on every store (``tests/store_contract.py``).  A store numbers and keeps; it decides nothing
about people.  All answers are Deferreds that fire in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, Union

from msgspec import Struct
from twisted.internet.defer import Deferred

from twisted_chat.drafts import NewEvent
from twisted_chat.errors import ChatError
from twisted_chat.events import Event


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
    """What a store says when it opens.

    :ivar epoch: names this life of the logs; a new database gets a new one.
    :ivar secret: 32 random bytes made with the database: keys the ids of guests, so that they outlive a restart.
    """

    epoch: str
    secret: bytes
    rooms: tuple[RoomRecord, ...]


class Append(Struct, frozen=True, gc=False):
    """Drafts for one room, in the order in which they are to be numbered."""

    room: str
    new_events: Sequence[NewEvent]


class Appended(Struct, frozen=True, gc=False):
    """The draft is on disk as this event."""

    event: Event


class Duplicate(Struct, frozen=True, gc=False):
    """The same (room, author, key) had been kept before; this is the first result."""

    event: Event


#: What became of one draft.  A :class:`ChatError` (conflict, gone, no_such_event, forbidden) concerns that draft alone.
Outcome: TypeAlias = Union[Appended, Duplicate, ChatError]


class Page(Struct, frozen=True):
    """Messages (and topics) in their present state, oldest first; edits, deletions and reactions are folded in.

    :ivar more_before: there are older entries than the first one here; ``more_after`` likewise.
    """

    events: tuple[Event, ...]
    head: int
    more_before: bool
    more_after: bool


class TokenRecord(Struct, frozen=True):
    """An opaque bearer token.  Only the SHA-256 of its secret is kept.

    :ivar person: the id (``u…``) of the person for whom it speaks.
    :ivar expires: milliseconds since 1970, or None.
    :ivar rights: names of what the person may do beyond a member's rights (``moderate``, ``metrics``).
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
        """Finish what is under way, then let go of the file."""

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
        self, room: str, limit: int, *, before: int | None = None, after: int | None = None, around: int | None = None
    ) -> Deferred[Page]:
        """At most ``limit`` messages by number, in their present state; without a place: the newest."""

    def event(self, room: str, seq: int) -> Deferred[Event | None]:
        """The event at that number as the log has it, or None."""

    def purge(self, room: str, keep_events: int | None, keep_after_ms: int | None) -> Deferred[RoomRecord]:
        """Retention: forget the oldest events, so that at most ``keep_events`` remain and none from before ``keep_after_ms``."""

    def mark_read(self, user: str, room: str, seq: int) -> Deferred[int]:
        """Raise the person's read mark to ``seq``; answers the mark, a maximum."""

    def read_marks(self, user: str) -> Deferred[dict[str, int]]:
        """Room names and read marks of one person."""

    def archive(self, room: str, archived: bool) -> Deferred[RoomRecord]:
        """Close the room for writing (or open it again); it is made if it is not there."""

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

    def revoked_since(self, since_ms: int) -> Deferred[list[str]]:
        """The ids of the tokens revoked at or after that time, also by another process."""


class RoomStore(Protocol):
    """What another process may change of rooms while the server runs: it makes empty ones, archives them and opens them again."""

    def rooms(self) -> Deferred[dict[str, bool]]:
        """The names of all rooms, and whether each is archived."""


class Store(LogStore, TokenStore, RoomStore, Protocol):
    """Everything a server keeps."""


class StoreError(Exception):
    """The store cannot be opened: one line for the operator, cause and cure."""
