"""Tokens, rooms and the schema for another process than the servers: the command line.

Each call has a connection and a transaction of its own; servers notice the change at their next check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TypeVar

import psycopg
from twisted.internet.defer import Deferred, fail, succeed

from twisted_chat.errors import ChatError
from twisted_chat.store_contract import Revocations, RoomRecord, StoreError, TokenRecord
from twisted_chat.stores.account_tables import Tables
from twisted_chat.stores.postgresql import accounts, schema, tokens, writing
from twisted_chat.stores.postgresql.address import Address
from twisted_chat.stores.postgresql.careful_statements import make_rooms
from twisted_chat.stores.postgresql.connection import Connection, Patience, connect, explain, transaction
from twisted_chat.stores.postgresql.rows import load_rooms
from twisted_chat.stores.sql_accounts import SqlAccounts

T = TypeVar("T")


class Shared:
    """One database; every Deferred that this returns has already fired."""

    def __init__(self, address: Address, steps: Sequence[str] | None = None) -> None:
        self.address = address
        self._steps = schema.schema_steps() if steps is None else steps

    def open(self) -> Deferred[None]:
        """Create or upgrade the schema; raises :class:`StoreError` as the store does."""
        return self._with_connection(self._prepare).addCallback(lambda _: None)

    def upgrade(self) -> Deferred[int]:
        """Create or upgrade the schema; returns the number of steps that were taken."""
        return self._with_connection(self._prepare)

    def _prepare(self, connection: Connection) -> int:
        return schema.prepare(connection, self.address, self._steps)

    def _with_connection(self, work: Callable[[Connection], T]) -> Deferred[T]:
        try:
            with closing(connect(self.address, Patience())) as connection:
                return succeed(work(connection))
        except (ChatError, StoreError) as error:
            return fail(error)
        except psycopg.Error as error:
            return fail(explain(self.address, error))


class SharedTokens(Shared):
    """The token part of the store contract."""

    def create_token(self, record: TokenRecord, secret_hash: bytes) -> Deferred[None]:
        return self._with_connection(lambda connection: tokens.create(connection, record, secret_hash))

    def find_token(self, secret_hash: bytes) -> Deferred[TokenRecord | None]:
        return self._with_connection(lambda connection: tokens.find_all(connection, [secret_hash]).get(secret_hash))

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
    """The rooms: creates empty ones, archives them and opens them again.  Only servers write events."""

    def list_rooms(self) -> Deferred[list[RoomRecord]]:
        """All rooms, by name."""
        return self._with_connection(lambda connection: [room.record() for room in load_rooms(connection).values()])

    def create_room(self, name: str) -> Deferred[bool]:
        """Create a room; returns False if there is one already."""
        return self._with_connection(lambda connection: bool(make_rooms(connection, [name])))

    def archive_room(self, name: str, archived: bool) -> Deferred[bool]:
        """Archive a room, or open it again; returns False if there is none of that name."""
        return self._with_connection(lambda connection: _archived(connection, name, archived))


def _archived(connection: Connection, name: str, archived: bool) -> bool:
    with transaction(connection):
        return writing.set_archived(connection, name, archived)
