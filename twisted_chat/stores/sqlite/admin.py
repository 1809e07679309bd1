"""Tokens and rooms for another process than the server: the command line changes them while the server runs.

Each call has a connection and a transaction of its own; the server notices the change at its next check.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from twisted_chat.errors import ChatError
from twisted_chat.store_contract import Revocations, RoomRecord, StoreError, TokenRecord
from twisted_chat.stores.account_tables import Tables
from twisted_chat.stores.sql_accounts import SqlAccounts
from twisted_chat.stores.sqlite import accounts, tokens
from twisted_chat.stores.sqlite.connection import FileLock, InUse, check_version, connect, explain
from twisted_chat.stores.sqlite.database import prepare, schema_steps, steps_taken, unwritable
from twisted_chat.stores.sqlite.rows import load_rooms

T = TypeVar("T")


class Shared:
    """One database file; every Deferred that this returns has already fired.

    :ivar path: of the file.
    """

    def __init__(self, path: str, steps: Sequence[str] | None = None) -> None:
        self.path = os.path.realpath(path)
        self._steps = schema_steps() if steps is None else steps

    def open(self) -> Deferred[None]:
        """Create or upgrade the database if no server uses it; raises :class:`StoreError` as the store does."""
        try:
            self._open()
        except StoreError as error:
            return fail(error)
        except sqlite3.Error as error:
            return fail(explain(self.path, error))
        except OSError as error:
            return fail(unwritable(self.path, error))
        return succeed(None)

    def _open(self) -> None:
        check_version()
        try:
            lock = FileLock(self.path)
        except InUse:
            self._check_schema()
            return
        try:
            prepare(self.path, self._steps)
        finally:
            lock.release()

    def _check_schema(self) -> None:
        """Check that the server that uses the database, which has upgraded it, has the same version."""
        with closing(connect(self.path, "rw")) as connection:
            if steps_taken(connection, self.path) != len(self._steps):
                raise StoreError(f"{self.path} is in use by a server of another version; use the command of that version")

    def _with_connection(self, work: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        try:
            with closing(connect(self.path, "rw")) as connection:
                return succeed(work(connection))
        except ChatError as error:
            return fail(error)
        except sqlite3.Error as error:
            return fail(explain(self.path, error))


class SharedTokens(Shared):
    """The token part of the store contract."""

    def create_token(self, record: TokenRecord, secret_hash: bytes) -> Deferred[None]:
        return self._with_connection(lambda connection: tokens.create(connection, record, secret_hash))

    def find_token(self, secret_hash: bytes) -> Deferred[TokenRecord | None]:
        return self._with_connection(lambda connection: tokens.find(connection, secret_hash))

    def list_tokens(self) -> Deferred[list[TokenRecord]]:
        return self._with_connection(tokens.every)

    def revoke_token(self, token_id: str, now_ms: int) -> Deferred[TokenRecord | None]:
        return self._with_connection(lambda connection: tokens.revoke(connection, token_id, now_ms))

    def revocations(self, since: int, limit: int) -> Deferred[Revocations]:
        return self._with_connection(lambda connection: tokens.revocations(connection, since, limit))


class SharedAccounts(Shared):
    """The accounts."""

    @property
    def accounts(self) -> SqlAccounts:
        """The contract of accounts."""
        return SqlAccounts(self._on_tables, self._on_tables)

    def _on_tables(self, work: Callable[[Tables], T]) -> Deferred[T]:
        return self._with_connection(lambda connection: work(accounts.tables(connection)))


class SharedRooms(Shared):
    """The rooms: creates empty ones, archives them and opens them again.  Only the server writes events."""

    def list_rooms(self) -> Deferred[list[RoomRecord]]:
        """All rooms, by name."""
        return self._with_connection(lambda connection: [room.record() for _, room in sorted(load_rooms(connection).items())])

    def create_room(self, name: str) -> Deferred[bool]:
        """Create a room; returns False if there is one already."""
        return self._with_connection(lambda connection: _made(connection, name))

    def archive_room(self, name: str, archived: bool) -> Deferred[bool]:
        """Archive a room, or open it again; returns False if there is none of that name."""
        return self._with_connection(lambda connection: _archived(connection, name, archived))


def _made(connection: sqlite3.Connection, name: str) -> bool:
    return bool(connection.execute("INSERT INTO room (name) VALUES (?) ON CONFLICT DO NOTHING", (name,)).rowcount)


def _archived(connection: sqlite3.Connection, name: str, archived: bool) -> bool:
    return bool(connection.execute("UPDATE room SET archived = ? WHERE name = ?", (archived, name)).rowcount)
