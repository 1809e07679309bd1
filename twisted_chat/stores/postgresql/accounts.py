"""The tables of accounts in a database that servers share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted_chat.store_tokens import TokenRecord
from twisted_chat.stores.account_tables import Tables
from twisted_chat.stores.account_transfer import AccountTransfer
from twisted_chat.stores.postgresql import tokens
from twisted_chat.stores.postgresql.connection import Connection, transaction
from twisted_chat.stores.postgresql.escaping import escape, plain

#: The advisory lock of changes of accounts: "twch" in ASCII, and 2.
_LOCK = (0x74776368, 2)


class _Database:
    """One connection, as the tables of accounts use it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        given = [escape(value) if isinstance(value, str) else value for value in parameters]
        done = self._connection.execute(statement.encode(), given)
        if done.description is None:
            return []
        return [tuple(plain(value) if isinstance(value, str) else value for value in row) for row in done.fetchall()]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        # What is read after the lock sees everything that those committed who had it before.
        with transaction(self._connection):
            self._connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", _LOCK)
            yield

    def create_token(self, record: TokenRecord, secret_hash: bytes) -> None:
        tokens.create(self._connection, record, secret_hash)

    def revoke_token(self, token_id: str, now_ms: int) -> None:
        tokens.revoke(self._connection, token_id, now_ms)


def tables(connection: Connection) -> Tables:
    """The accounts, over this connection."""
    return Tables(_Database(connection))


def transfer(connection: Connection) -> AccountTransfer:
    """All accounts, in the transaction of the caller."""
    return AccountTransfer(_Database(connection))
