"""How far readers that are programs have come: one row for each reader and room."""

from __future__ import annotations

import sqlite3

from twisted_chat.events import Cursor


def load(connection: sqlite3.Connection, reader: str) -> dict[str, Cursor]:
    """The reader's cursors by room."""
    rows = connection.execute("SELECT room, epoch, seq, event FROM cursor WHERE reader = ?", (reader,)).fetchall()
    return {room: Cursor(epoch, seq, event) for room, epoch, seq, event in rows}


def save(connection: sqlite3.Connection, reader: str, room: str, cursor: Cursor) -> None:
    """Keep a cursor in the place of the one before."""
    connection.execute(
        "INSERT INTO cursor VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (reader, room) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq, event = excluded.event",
        (reader, room, cursor.epoch, cursor.seq, cursor.id),
    )


def delete(connection: sqlite3.Connection, reader: str) -> None:
    """Forget the reader."""
    connection.execute("DELETE FROM cursor WHERE reader = ?", (reader,))
