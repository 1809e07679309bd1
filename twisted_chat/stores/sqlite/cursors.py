"""How far readers that are programs have come: one row for each reader and room."""

from __future__ import annotations

import sqlite3

from twisted_chat.events import Cursor


def load(connection: sqlite3.Connection, reader: str) -> dict[str, Cursor]:
    """The reader's cursors by room."""
    rows = connection.execute("SELECT room, epoch, seq, event FROM cursor WHERE reader = ?", (reader,)).fetchall()
    return {room: Cursor(epoch, seq, event) for room, epoch, seq, event in rows}


def save(connection: sqlite3.Connection, reader: str, room: str, cursor: Cursor, rewind: bool) -> None:
    """Keep a cursor in the place of the one before, unless it is of the same epoch and behind it."""
    connection.execute(
        "INSERT INTO cursor VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (reader, room) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq, event = excluded.event"
        " WHERE ? OR epoch <> excluded.epoch OR seq < excluded.seq",
        (reader, room, cursor.epoch, cursor.seq, cursor.id, rewind),
    )


def delete(connection: sqlite3.Connection, reader: str) -> None:
    """Forget the reader."""
    connection.execute("DELETE FROM cursor WHERE reader = ?", (reader,))
