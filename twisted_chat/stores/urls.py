"""The table of stores, by the scheme of their URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_chat.accounts import AccountStore
from twisted_chat.store_contract import RoomRecord, Store, StoreError, TokenStore
from twisted_chat.stores.memory import MemoryStore
from twisted_chat.stores.sqlite import admin as sqlite_admin
from twisted_chat.stores.sqlite.store import SQLiteStore
from twisted_chat.stores.workers import CallInReactor, Threads

#: Threads that read: with two, a long page does not hold up the short ones.
READERS = 2


def make_store(url: str, clock: IReactorTime, call_in_reactor: CallInReactor, listen: str = "") -> Store:
    """The store that the URL names, not open yet; :class:`StoreError` if it names none.

    :param clock: the reactor, whose clock gives the times of events.
    :param call_in_reactor: ``reactor.callFromThread``.
    :param listen: the URL by which PostgreSQL's notifications come, if ``url`` leads to a pooler.
    """
    if is_postgresql(url):
        return _postgresql(url, clock, call_in_reactor, listen)
    scheme, rest = _split(url)
    return STORES[scheme](rest, clock, call_in_reactor)


class Opened(Protocol):
    """A part of a store for another process than the server, with Deferreds that have fired already."""

    def open(self) -> Deferred[None]:
        """Make it or check it; :class:`StoreError`."""


class SharedTokens(Opened, TokenStore, Protocol):
    """The tokens."""


class SharedRooms(Opened, Protocol):
    """The rooms."""

    def list_rooms(self) -> Deferred[list[RoomRecord]]:
        """All of them, by name."""

    def create_room(self, name: str) -> Deferred[bool]:
        """Whether it is new."""

    def archive_room(self, name: str, archived: bool) -> Deferred[bool]:
        """False if there is none of that name."""


def make_shared_tokens(url: str) -> SharedTokens:
    """The tokens of that store for another process than the server, not open yet."""
    if is_postgresql(url):
        from twisted_chat.stores.postgresql import address, admin

        return admin.SharedTokens(address.parse(url))
    return sqlite_admin.SharedTokens(store_file(url))


class SharedAccounts(Opened, Protocol):
    """The accounts."""

    @property
    def accounts(self) -> AccountStore:
        """The contract of accounts."""


def make_shared_accounts(url: str) -> SharedAccounts:
    """The accounts of that store for another process than the server, not open yet."""
    if is_postgresql(url):
        from twisted_chat.stores.postgresql import address, admin

        return admin.SharedAccounts(address.parse(url))
    return sqlite_admin.SharedAccounts(store_file(url))


def make_shared_rooms(url: str) -> SharedRooms:
    """The rooms of that store for another process than the server, not open yet."""
    if is_postgresql(url):
        from twisted_chat.stores.postgresql import address, admin

        return admin.SharedRooms(address.parse(url))
    return sqlite_admin.SharedRooms(store_file(url))


class SharedSchema(Protocol):
    """What a newer version has to change."""

    def upgrade(self) -> Deferred[int]:
        """How many steps were taken; :class:`StoreError` says what is in the way."""


def make_shared_schema(url: str) -> SharedSchema:
    """The schema of a store that several servers share."""
    from twisted_chat.stores.postgresql import address, admin

    return admin.Shared(address.parse(url))


def is_postgresql(url: str) -> bool:
    """Whether the store is a database that several servers share."""
    return url.partition(":")[0] in ("postgresql", "postgres")


def store_file(url: str) -> str:
    """The file of a store that consists of one file; :class:`StoreError` for other stores."""
    scheme, rest = _split(url)
    if is_postgresql(url):
        raise StoreError(
            f"--store {shown_store(url)}: is no file; this is for sqlite:PATH, and PostgreSQL has its own tools for it"
        )
    if scheme != "sqlite":
        raise StoreError(f"--store {url}: keeps nothing that another process can see; use sqlite:PATH or postgresql://…")
    return _path(rest)


def shown_store(url: str) -> str:
    """The store for people: where everything is, without a password."""
    if not is_postgresql(url):
        return url.removeprefix("sqlite:")
    from twisted_chat.stores.postgresql import address

    return address.parse(url).shown


def _sqlite(rest: str, clock: IReactorTime, call_in_reactor: CallInReactor) -> Store:
    return SQLiteStore(_path(rest), clock, Threads("chat-writer"), Threads("chat-reader", READERS), call_in_reactor)


def _memory(rest: str, clock: IReactorTime, call_in_reactor: CallInReactor) -> Store:
    if rest:
        raise StoreError(f"--store memory:{rest}: nothing may follow memory:")
    return MemoryStore(clock)


def _postgresql(url: str, clock: IReactorTime, call_in_reactor: CallInReactor, listen: str) -> Store:
    from twisted_chat.stores.postgresql.address import parse
    from twisted_chat.stores.postgresql.feed import Feed
    from twisted_chat.stores.postgresql.store import PostgreSQLStore, make_node_id

    # A pooler gives each transaction another connection, on which a statement need not be prepared.
    address = parse(url, prepare=not listen)
    node = make_node_id()
    feed = Feed(parse(listen) if listen else address, node, call_in_reactor)
    writer, readers = Threads("chat-writer"), Threads("chat-reader", READERS)
    return PostgreSQLStore(address, clock, writer, readers, call_in_reactor, node=node, feed=feed)


STORES: dict[str, Callable[[str, IReactorTime, CallInReactor], Store]] = {
    "sqlite": _sqlite,
    "memory": _memory,
}


def _split(url: str) -> tuple[str, str]:
    scheme, colon, rest = url.partition(":")
    if not colon or (scheme not in STORES and not is_postgresql(url)):
        raise StoreError(f"--store {url}: no such kind of store; there are sqlite:PATH, postgresql://… and memory:")
    return scheme, rest


def _path(rest: str) -> str:
    if not rest:
        raise StoreError("--store sqlite: names no file; write sqlite:PATH")
    return rest
