"""Cursors of readers that are programs: one row for each reader and room."""

from __future__ import annotations

import sqlite3

from twisted_chat.events import Cursor


def load(connection: sqlite3.Connection, reader: str) -> dict[str, Cursor]:
    """The reader's cursors by room."""
    rows = connection.execute("SELECT room, epoch, seq, event FROM cursor WHERE reader = ?", (reader,)).fetchall()
    return {room: Cursor(epoch, seq, event) for room, epoch, seq, event in rows}


def save(connection: sqlite3.Connection, reader: str, room: str, cursor: Cursor, rewind: bool) -> None:
    """Replace a cursor, unless the new one has the same epoch and a lower number."""
    connection.execute(
        "INSERT INTO cursor VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (reader, room) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq, event = excluded.event"
        " WHERE ? OR epoch <> excluded.epoch OR seq < excluded.seq",
        (reader, room, cursor.epoch, cursor.seq, cursor.id, rewind),
    )


def delete(connection: sqlite3.Connection, reader: str) -> None:
    """Delete the reader's cursors."""
    connection.execute("DELETE FROM cursor WHERE reader = ?", (reader,))
