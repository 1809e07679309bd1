"""Cursors of readers that are programs."""

from __future__ import annotations

from twisted_chat.events import Cursor
from twisted_chat.stores.postgresql.connection import Connection
from twisted_chat.stores.postgresql.escaping import escape, escape_any, plain

_LOAD = "SELECT room, epoch, seq, event FROM twisted_chat.cursor WHERE reader = %s"
_SAVE = """
INSERT INTO twisted_chat.cursor AS kept (reader, room, epoch, seq, event) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (reader, room) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq, event = excluded.event
WHERE %s OR kept.epoch <> excluded.epoch OR kept.seq < excluded.seq"""
_DELETE = "DELETE FROM twisted_chat.cursor WHERE reader = %s"


def load(connection: Connection, reader: str) -> dict[str, Cursor]:
    """The reader's cursors by room."""
    rows = connection.execute(_LOAD, (escape(reader),)).fetchall()
    return {room: Cursor(plain(epoch), seq, None if event is None else plain(event)) for room, epoch, seq, event in rows}


def save(connection: Connection, reader: str, room: str, cursor: Cursor, rewind: bool) -> None:
    """Keep a cursor; one that is behind changes nothing unless ``rewind``."""
    row = (escape(reader), room, escape(cursor.epoch), cursor.seq, escape_any(cursor.id), rewind)
    connection.execute(_SAVE, row)


def delete(connection: Connection, reader: str) -> None:
    """Delete the reader's cursors."""
    connection.execute(_DELETE, (escape(reader),))
