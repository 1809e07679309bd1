"""The tables of accounts in a database file."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from twisted_chat.store_tokens import TokenRecord
from twisted_chat.stores.account_tables import Tables
from twisted_chat.stores.account_transfer import AccountTransfer
from twisted_chat.stores.sqlite import tokens
from twisted_chat.stores.sqlite.connection import transaction


@lru_cache(256)
def _translated(statement: str) -> str:
    """The statement in SQLite's form, which has no schemas."""
    return statement.replace("twisted_chat.", "").replace("%s", "?")


class _Database:
    """One connection, as the tables of accounts use it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(_translated(statement), parameters).fetchall()

    def transaction(self) -> AbstractContextManager[None]:
        return transaction(self._connection)

    def create_token(self, record: TokenRecord, secret_hash: bytes) -> None:
        tokens.create(self._connection, record, secret_hash)

    def revoke_token(self, token_id: str, now_ms: int) -> None:
        tokens.revoke(self._connection, token_id, now_ms)


def tables(connection: sqlite3.Connection) -> Tables:
    """The accounts, over this connection."""
    return Tables(_Database(connection))


def transfer(connection: sqlite3.Connection) -> AccountTransfer:
    """All accounts, in the transaction of the caller."""
    return AccountTransfer(_Database(connection))
