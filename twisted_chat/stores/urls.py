"""The table of stores, by the scheme of their URL."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from twisted_chat.interfaces import Store, StoreError
from twisted_chat.stores.memory import MemoryStore
from twisted_chat.stores.sqlite.admin import SharedRooms, SharedTokens
from twisted_chat.stores.sqlite.store import SQLiteStore
from twisted_chat.stores.workers import CallInReactor, Threads

#: Threads that read: with two, a long page does not hold up the short ones.
READERS = 2


def make_store(url: str, clock: IReactorTime, call_in_reactor: CallInReactor) -> Store:
    """The store that the URL names, not open yet; :class:`StoreError` if it names none.

    :param clock: the reactor, whose clock gives the times of events.
    :param call_in_reactor: ``reactor.callFromThread``.
    """
    scheme, rest = _split(url)
    return STORES[scheme](rest, clock, call_in_reactor)


def make_shared_tokens(url: str) -> SharedTokens:
    """The tokens of that store for another process than the server, not open yet."""
    return SharedTokens(store_file(url))


def make_shared_rooms(url: str) -> SharedRooms:
    """The rooms of that store for another process than the server, not open yet."""
    return SharedRooms(store_file(url))


def store_file(url: str) -> str:
    """The file of a store that consists of one file; :class:`StoreError` for other stores."""
    scheme, rest = _split(url)
    if scheme != "sqlite":
        raise StoreError(f"--store {url}: keeps nothing that another process can see; use sqlite:PATH")
    return _path(rest)


def _sqlite(rest: str, clock: IReactorTime, call_in_reactor: CallInReactor) -> Store:
    return SQLiteStore(_path(rest), clock, Threads("chat-writer"), Threads("chat-reader", READERS), call_in_reactor)


def _memory(rest: str, clock: IReactorTime, call_in_reactor: CallInReactor) -> Store:
    if rest:
        raise StoreError(f"--store memory:{rest}: nothing may follow memory:")
    return MemoryStore(clock)


STORES: dict[str, Callable[[str, IReactorTime, CallInReactor], Store]] = {
    "sqlite": _sqlite,
    "memory": _memory,
}


def _split(url: str) -> tuple[str, str]:
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in STORES:
        raise StoreError(f"--store {url}: no such kind of store; there are sqlite:PATH and memory:")
    return scheme, rest


def _path(rest: str) -> str:
    if not rest:
        raise StoreError("--store sqlite: names no file; write sqlite:PATH")
    return rest
