"""The rooms as the writer knows them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from msgspec import Struct
from msgspec.json import encode

from twisted_chat.interfaces import RoomRecord


class RoomRow(Struct, frozen=True):
    """One room.

    :ivar batch: of the event at ``head``.
    :ivar purged: retention has taken the numbers up to this one.
    """

    id: int
    name: str
    head: int = 0
    batch: str = ""
    purged: int = 0
    topic: str = ""
    archived: bool = False

    def record(self) -> RoomRecord:
        head_id = f"{self.batch}-{self.head}" if self.head else ""
        return RoomRecord(self.name, self.purged + 1, self.head, head_id, self.topic, self.archived)


_ROOMS = """
SELECT room.id, room.name, coalesce(event.seq, purged), coalesce(event.batch, purged_batch), purged, topic, archived
FROM room LEFT JOIN event ON event.room = room.id AND event.seq = (SELECT max(seq) FROM event WHERE room = room.id)"""


def load_rooms(connection: sqlite3.Connection) -> dict[str, RoomRow]:
    """All rooms by name."""
    return {
        name: RoomRow(number, name, head, batch, purged, topic, bool(archived))
        for number, name, head, batch, purged, topic, archived in connection.execute(_ROOMS)
    }


def make_rooms(connection: sqlite3.Connection, names: Sequence[str]) -> dict[str, RoomRow]:
    """Rooms that the log does not know.  Another process may have made them meanwhile, and then they are empty."""
    rows = connection.execute(
        "INSERT INTO room (name) SELECT value FROM json_each(?) WHERE true"
        " ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id, name, archived",
        (encode(names).decode(),),
    )
    return {name: RoomRow(number, name, archived=bool(archived)) for number, name, archived in rows.fetchall()}
