"""The table of opaque tokens.  The server and the command line both write it, each in transactions of one statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TypeAlias

from msgspec.json import Decoder, encode

from twisted_chat.errors import Conflict
from twisted_chat.store_contract import Revocations, TokenRecord
from twisted_chat.store_tokens import TokenKind
from twisted_chat.stores.token_rows import record_of

_COLUMNS = "id, person, name, created, expires, revoked, rights, kind, label"

_FIND_ALL = (
    "SELECT json_group_array(json_array(hex(secret_hash), id, person, name, created, expires, revoked, json(rights), kind, label))"
    " FROM token WHERE secret_hash IN ({})"
)
#: The number of the next revocation.
_NEXT = "(SELECT coalesce(max(revocation), 0) + 1 FROM token WHERE revocation IS NOT NULL)"
_REVOCATIONS = """
SELECT max(revocation), json_group_array(id)
FROM (SELECT revocation, id FROM token WHERE revocation > ? ORDER BY revocation LIMIT ?)"""
#: Hashes in one statement.
_FIND_MAX = 256

#: Hash in hexadecimal, then the fields of a :class:`TokenRecord`.
_Row: TypeAlias = tuple[str, str, str, str, int, int | None, int | None, tuple[str, ...], TokenKind, str]

_decode_rows = Decoder(list[_Row]).decode
_decode_ids = Decoder(list[str]).decode


def create(connection: sqlite3.Connection, record: TokenRecord, secret_hash: bytes) -> None:
    try:
        connection.execute(
            f"INSERT INTO token (secret_hash, {_COLUMNS}, revocation)"
            f" VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CASE WHEN ? IS NOT NULL THEN {_NEXT} END)",
            (
                secret_hash,
                record.id,
                record.user,
                record.name,
                record.created,
                record.expires,
                record.revoked,
                encode(record.rights).decode(),
                record.kind,
                record.label,
                record.revoked,
            ),
        )
    except sqlite3.IntegrityError:
        raise Conflict("there is such a token already") from None


def find(connection: sqlite3.Connection, secret_hash: bytes) -> TokenRecord | None:
    return _one(connection.execute(f"SELECT {_COLUMNS} FROM token WHERE secret_hash = ?", (secret_hash,)))


def find_all(connection: sqlite3.Connection, secret_hashes: Sequence[bytes]) -> dict[bytes, TokenRecord]:
    """The tokens with these hashes, by hash; unknown hashes are left out.

    The result is a single row: at each row Python releases the interpreter lock to the reactor's thread, and waits to get it back.
    """
    found: dict[bytes, TokenRecord] = {}
    for start in range(0, len(secret_hashes), _FIND_MAX):
        hashes = secret_hashes[start : start + _FIND_MAX]
        # The number of parameters is rounded up to a power of two, so that there are few different statements; the last hash fills up.
        places = 1 << (len(hashes) - 1).bit_length()
        statement = _FIND_ALL.format(", ".join("?" * places))
        (rows,) = connection.execute(statement, (*hashes, *[hashes[-1]] * (places - len(hashes)))).fetchall()
        for row in _decode_rows(rows[0]):
            found[bytes.fromhex(row[0])] = TokenRecord(*row[1:])
    return found


def every(connection: sqlite3.Connection) -> list[TokenRecord]:
    return [
        record_of(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM token WHERE kind = 'token' ORDER BY created, id")
    ]


def every_with_hash(connection: sqlite3.Connection) -> list[tuple[bytes, TokenRecord]]:
    """All of them, each with the hash of its secret."""
    rows = connection.execute(f"SELECT secret_hash, {_COLUMNS} FROM token ORDER BY created, id")
    return [(row[0], record_of(row[1:])) for row in rows]


def revoke(connection: sqlite3.Connection, token_id: str, now_ms: int) -> TokenRecord | None:
    return _one(
        connection.execute(
            f"UPDATE token SET revoked = coalesce(revoked, ?), revocation = coalesce(revocation, {_NEXT}) WHERE id = ?"
            f" RETURNING {_COLUMNS}",
            (now_ms, token_id),
        )
    )


def revocations(connection: sqlite3.Connection, since: int, limit: int) -> Revocations:
    [number, ids] = connection.execute(_REVOCATIONS, (since, limit)).fetchone()
    return Revocations(since if number is None else number, tuple(_decode_ids(ids)))


def _one(rows: sqlite3.Cursor) -> TokenRecord | None:
    # fetchall, not fetchone: a statement that still has a row to give has not committed.
    return next((record_of(row) for row in rows.fetchall()), None)
