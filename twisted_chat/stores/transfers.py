"""Export and import of whole stores: the interface that every kind of store implements for it, and the table of kinds.

A log keeps its numbers, ids, times, authors and keys, and its room the settings and what people are in it.  A move
(``twisted-chat export --everything``) keeps the epoch, the secret, tokens, accounts, the audit log, read marks and cursors as well, so that
clients resume in the new database where they were in the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from msgspec import Struct

from twisted_chat.events import Event
from twisted_chat.standings import Standing
from twisted_chat.store_contract import RoomRecord, StoreError
from twisted_chat.stores.account_transfer import AccountTransfer
from twisted_chat.stores.kept import Identity, KeptCursor, KeptToken, ReadMark
from twisted_chat.stores.sqlite import transfer as sqlite
from twisted_chat.stores.urls import store_file


class Outgoing(Protocol):
    """One committed state of a store.

    :ivar rooms: by name, in order.
    """

    rooms: dict[str, RoomRecord]
    epoch: str

    def events(self, room: str) -> Iterator[Event]:
        """The log of a room, oldest first."""

    def standings(self, room: str) -> Iterator[Standing]:
        """The roles and sanctions in a room, in the order of their last changes; none in which there is nothing."""

    def identity(self) -> Identity:
        """The epoch and the secret."""

    def tokens(self) -> Iterator[KeptToken]:
        """All tokens and sessions, oldest first."""

    @property
    def accounts(self) -> AccountTransfer:
        """The accounts, invitations and the audit log."""

    def read_marks(self) -> Iterator[ReadMark]:
        """All read marks, in order."""

    def cursors(self) -> Iterator[KeptCursor]:
        """All cursors of programs, in order."""


class Incoming(Protocol):
    """An import into a store, all or nothing; an invalid import raises :class:`StoreError`."""

    def identity(self, identity: Identity) -> None:
        """Let the store continue the exported one; it must be empty."""

    def room(self, record: RoomRecord) -> None:
        """Begin a room, which must be empty: the following events belong to it."""

    def event(self, event: Event) -> None:
        """Add the next event of the room."""

    def standing(self, standing: Standing) -> None:
        """A role or sanction in the room that was begun last; it gets a new number in the news of standings."""

    def token(self, token: KeptToken) -> None:
        """A token or session."""

    @property
    def accounts(self) -> AccountTransfer:
        """What takes accounts, invitations and entries of the audit log."""

    def read_mark(self, mark: ReadMark) -> None:
        """A read mark of a room that came before."""

    def cursor(self, kept: KeptCursor) -> None:
        """A cursor of a program."""


class _Kind(Struct, frozen=True):
    outgoing: Callable[[str], AbstractContextManager[Outgoing]]
    incoming: Callable[[str], AbstractContextManager[Incoming]]


def _outgoing_postgresql(url: str) -> AbstractContextManager[Outgoing]:
    from twisted_chat.stores.postgresql import transfer

    return transfer.outgoing(url)


def _incoming_postgresql(url: str) -> AbstractContextManager[Incoming]:
    from twisted_chat.stores.postgresql import transfer

    return transfer.incoming(url)


#: Imported when it is used, because it needs psycopg.
_postgresql = _Kind(_outgoing_postgresql, _incoming_postgresql)

KINDS: dict[str, _Kind] = {
    "postgresql": _postgresql,
    "postgres": _postgresql,
    "sqlite": _Kind(lambda url: sqlite.outgoing(store_file(url)), lambda url: sqlite.incoming(store_file(url))),
}


def outgoing(url: str) -> AbstractContextManager[Outgoing]:
    """Read one committed state of the store of that URL; :class:`StoreError` if there is none."""
    return _kind(url).outgoing(url)


def incoming(url: str) -> AbstractContextManager[Incoming]:
    """Import into the store of that URL in one transaction; the store is created if it does not exist, and no server may be using it."""
    return _kind(url).incoming(url)


def _kind(url: str) -> _Kind:
    kind = KINDS.get(url.partition(":")[0])
    if kind is None:
        raise StoreError(f"--store {url.partition(':')[0]}: keeps nothing that could be exported or imported")
    return kind
