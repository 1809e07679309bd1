"""The table of opaque tokens.  Servers and the command line write it, each in transactions of one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.json import encode
from psycopg import errors

from twisted_chat.errors import Conflict
from twisted_chat.store_contract import Revocations, TokenRecord
from twisted_chat.stores.postgresql.connection import Connection
from twisted_chat.stores.postgresql.escaping import escape, plain
from twisted_chat.stores.token_rows import record_of

_COLUMNS = "id, person, name, created, expires, revoked, rights, kind, label"

_CREATE = f"INSERT INTO twisted_chat.token (secret_hash, {_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
# The number first, then the token: who takes a number waits for those before, so a number that is visible has none before it that is not.
_NUMBERED = "WITH numbered AS (UPDATE twisted_chat.news SET number = number + 1 RETURNING number)"
_CREATE_REVOKED = f"""
{_NUMBERED} INSERT INTO twisted_chat.token (secret_hash, {_COLUMNS}, revocation)
SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, number FROM numbered"""
_FIND = f"SELECT secret_hash, {_COLUMNS} FROM twisted_chat.token WHERE secret_hash = ANY(%s)"
_EVERY = f"SELECT {_COLUMNS} FROM twisted_chat.token WHERE kind = 'token' ORDER BY created, id"
_EVERY_WITH_HASH = f"SELECT secret_hash, {_COLUMNS} FROM twisted_chat.token ORDER BY created, id"
_REVOKE = f"""
{_NUMBERED} UPDATE twisted_chat.token SET revoked = coalesce(revoked, %s), revocation = coalesce(revocation, numbered.number)
FROM numbered WHERE id = %s RETURNING {_COLUMNS}"""
_REVOCATIONS = "SELECT revocation, id FROM twisted_chat.token WHERE revocation > %s ORDER BY revocation LIMIT %s"


def create(connection: Connection, record: TokenRecord, secret_hash: bytes) -> None:
    rights = encode(record.rights).decode()
    row = (
        escape(record.id),
        escape(record.user),
        escape(record.name),
        record.created,
        record.expires,
        record.revoked,
        escape(rights),
        record.kind,
        escape(record.label),
    )
    try:
        connection.execute(_CREATE if record.revoked is None else _CREATE_REVOKED, (secret_hash, *row))
    except errors.UniqueViolation:
        raise Conflict("there is such a token already") from None


def find_all(connection: Connection, secret_hashes: Sequence[bytes]) -> dict[bytes, TokenRecord]:
    """The tokens with these hashes, by hash; unknown hashes are left out."""
    rows = connection.execute(_FIND, (list(secret_hashes),)).fetchall()
    return {bytes(row[0]): _record(row[1:]) for row in rows}


def every(connection: Connection) -> list[TokenRecord]:
    return [_record(row) for row in connection.execute(_EVERY)]


def every_with_hash(connection: Connection) -> list[tuple[bytes, TokenRecord]]:
    """All tokens, each with the hash of its secret."""
    return [(bytes(row[0]), _record(row[1:])) for row in connection.execute(_EVERY_WITH_HASH)]


def revoke(connection: Connection, token_id: str, now_ms: int) -> TokenRecord | None:
    row = connection.execute(_REVOKE, (now_ms, escape(token_id))).fetchone()
    return None if row is None else _record(row)


def revocations(connection: Connection, since: int, limit: int) -> Revocations:
    rows = connection.execute(_REVOCATIONS, (since, limit)).fetchall()
    return Revocations(rows[-1][0] if rows else since, tuple(plain(row[1]) for row in rows))


def _record(row: tuple[Any, ...]) -> TokenRecord:
    return record_of([plain(value) if isinstance(value, str) else value for value in row])
