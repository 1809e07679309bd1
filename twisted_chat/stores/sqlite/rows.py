"""Inserts the rows of an append in one statement.

In: runs of messages, each for one room and numbered from ``first``.  Out: one ``INSERT … SELECT … FROM json_each(?)``.  A loop over rows
(``executemany``) would acquire the interpreter lock once per row, and wait for it each time while the reactor is busy: measured
1,800 rows/s instead of 85,000.

Two things do not pass through JSON: bytes, and U+0000, at which SQLite's ``->>`` ends a text.  A batch with either is packed: one
blob has the bytes of all columns one after the other, and the JSON says where each begins.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct
from msgspec.json import Decoder, encode

from twisted_chat.events import Event, Message, RoomSettings
from twisted_chat.store_contract import RoomRecord


class RoomRow(Struct, frozen=True):
    """One room.

    :ivar batch: the batch of the event at ``head``.
    :ivar purged: retention has removed the events up to this number.
    """

    id: int
    name: str
    head: int = 0
    batch: str = ""
    purged: int = 0
    topic: str = ""
    archived: bool = False
    settings: RoomSettings = RoomSettings()

    def record(self) -> RoomRecord:
        head_id = f"{self.batch}-{self.head}" if self.head else ""
        return RoomRecord(self.name, self.purged + 1, self.head, head_id, self.topic, self.archived, self.settings)


_decode_settings = Decoder(RoomSettings).decode

_ROOMS = """
SELECT room.id, room.name, coalesce(event.seq, purged), coalesce(event.batch, purged_batch), purged, topic, archived, settings
FROM room LEFT JOIN event ON event.room = room.id AND event.seq = (SELECT max(seq) FROM event WHERE room = room.id)"""


def load_rooms(connection: sqlite3.Connection) -> dict[str, RoomRow]:
    """All rooms by name."""
    return {
        name: RoomRow(number, name, head, batch, purged, topic, bool(archived), _settings(settings))
        for number, name, head, batch, purged, topic, archived, settings in connection.execute(_ROOMS)
    }


def last_news(connection: sqlite3.Connection) -> int:
    """The number of the last change of rooms (created, archived, opened again, other settings)."""
    [number] = connection.execute("SELECT coalesce(max(news), 0) FROM room WHERE news IS NOT NULL").fetchone()
    return int(number)


def make_rooms(connection: sqlite3.Connection, names: Sequence[str]) -> dict[str, RoomRow]:
    """Create rooms that the log does not know.  If another process has created them meanwhile, they are empty."""
    rows = connection.execute(
        "INSERT INTO room (name) SELECT value FROM json_each(?) WHERE true"
        " ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id, name, archived, settings",
        (encode(names).decode(),),
    )
    return {
        name: RoomRow(number, name, archived=bool(archived), settings=_settings(settings))
        for number, name, archived, settings in rows.fetchall()
    }


def _settings(column: str | None) -> RoomSettings:
    return RoomSettings() if column is None else _decode_settings(column)


#: The column ``kind``.
MESSAGE, EDIT, DELETE, REACTION, TOPIC, ROOM, MEMBER, SANCTION = 1, 2, 3, 4, 5, 6, 7, 8
#: Kinds that change what a page shows of a message, and are not shown themselves.
AMENDMENTS = frozenset({EDIT, DELETE, REACTION})

# The texts of edits of a deleted message are not read while they are still to be erased.
_TEXT = """CASE WHEN e.kind = 2 AND EXISTS (
    SELECT 1 FROM erasing WHERE erasing.room = e.room AND erasing.of = e.extra ->> 'of') THEN NULL ELSE e.text END"""

_FIELDS = f"""json_object(
    'kind', CASE e.kind WHEN 1 THEN 'message' WHEN 2 THEN 'edit' WHEN 3 THEN 'delete' WHEN 4 THEN 'reaction' WHEN 5 THEN 'topic'
        WHEN 6 THEN 'room' WHEN 7 THEN 'member' ELSE 'sanction' END,
    'seq', e.seq, 'id', e.batch || '-' || e.seq, 'at', e.at,
    'by', json_object('id', e.author, 'name', e.name), 'key', e.key, 'text', {_TEXT},
    'data', CASE WHEN e.data IS NOT NULL THEN base64(e.data) END)"""

#: A row ``e`` of table ``event`` as a JSON object.
ENTRY = f"CASE WHEN e.extra IS NULL THEN {_FIELDS} ELSE json_patch({_FIELDS}, e.extra) END"

decode_event = Decoder(Event).decode
decode_events = Decoder(list[Event]).decode


def json_array(column: str) -> str:
    """SQL for all values of a column of JSON texts as one array, in the order of the rows.

    ``json_group_array(json(…))`` would parse each of them again.
    """
    return f"'[' || coalesce(group_concat({column}), '') || ']'"


#: author, name, key, text, extra (an object), and data if there is any.
Row: TypeAlias = tuple[object, ...]

#: Rows in one statement: with texts of 16 KiB, escaped at worst to six times that, they stay below SQLite's limit of 10^9 bytes.
STATEMENT_ROWS = 10_000

_NUL = b"\\u0000"


class Run(Struct, gc=False):
    """Messages that follow one another in a room.

    :ivar binary: a row has data.
    """

    room: int
    first: int
    batch: str
    rows: list[Row]
    binary: bool = False


def row(message: Message) -> Row:
    extra = None if message.reply_to is None else {"reply_to": message.reply_to}
    if message.data is not None:
        return message.by.id, message.by.name, message.key, message.text, extra, message.data
    return message.by.id, message.by.name, message.key, message.text, extra


def _plain(first: int) -> str:
    """SQL for the columns from an array's elements from ``first`` on."""
    return ", ".join(f"value ->> {first + number}" for number in range(5)) + ", NULL"


def piece(element: int) -> str:
    """SQL for the bytes whose start (from 1) and length are elements of an array; NULL if those are null."""
    return f"substr(:packed, value ->> {element}, value ->> {element + 1})"


def text_piece(element: int) -> str:
    return f"CAST({piece(element)} AS TEXT)"


_INSERT = "INSERT INTO event (room, seq, batch, at, kind, author, name, key, text, extra, data) SELECT"
_HEAD = "value ->> 0, value ->> 1, value ->> 2"
_PIECES = ", ".join([*(text_piece(element) for element in range(3, 13, 2)), piece(13)])

# One busy room: the columns that all rows share are bound once; 1.8 µs a row, 2.4 µs with those columns in each row.
_INSERT_ONE_ROOM = f"{_INSERT} :room, :first + key, :batch, :at, {MESSAGE}, {_plain(0)} FROM json_each(:rows)"
_INSERT_MANY_ROOMS = f"{_INSERT} {_HEAD}, :at, {MESSAGE}, {_plain(3)} FROM json_each(:rows)"
_INSERT_PACKED = f"{_INSERT} {_HEAD}, :at, {MESSAGE}, {_PIECES} FROM json_each(:rows)"


def insert(connection: sqlite3.Connection, runs: Sequence[Run], at: int) -> None:
    """Insert all rows in one statement, which outside of a transaction is a transaction by itself."""
    if not any(run.binary for run in runs):
        rows = encode(runs[0].rows if len(runs) == 1 else _with_places(runs))
        if _NUL not in rows:
            _insert_plain(connection, runs, at, rows.decode())
            return
    _insert_packed(connection, runs, at)


def _insert_plain(connection: sqlite3.Connection, runs: Sequence[Run], at: int, rows: str) -> None:
    if len(runs) > 1:
        connection.execute(_INSERT_MANY_ROOMS, {"at": at, "rows": rows})
        return
    [run] = runs
    parameters = {"at": at, "room": run.room, "first": run.first, "batch": run.batch, "rows": rows}
    connection.execute(_INSERT_ONE_ROOM, parameters)


def _with_places(runs: Sequence[Run]) -> list[Row]:
    return [(run.room, run.first + index, run.batch, *row) for run in runs for index, row in enumerate(run.rows)]


def _insert_packed(connection: sqlite3.Connection, runs: Sequence[Run], at: int) -> None:
    packed = bytearray()
    rows = []
    for room, seq, batch, author, name, key, text, extra, *data in _with_places(runs):
        extra_json = None if extra is None else encode(extra)
        columns = (author, name, key, text, extra_json, *(data or [None]))
        rows.append((room, seq, batch, *pack(packed, columns)))
    connection.execute(_INSERT_PACKED, {"at": at, "rows": encode(rows).decode(), "packed": bytes(packed)})


def pack(packed: bytearray, columns: Sequence[object]) -> list[int | None]:
    """Append the columns (``str``, ``bytes``, None) to the packed bytes; returns the start, from 1, and the length of each."""
    places: list[int | None] = []
    for column in columns:
        if column is None:
            places += (None, None)
            continue
        assert isinstance(column, str | bytes), column
        value = column.encode() if isinstance(column, str) else column
        places += (len(packed) + 1, len(value))
        packed += value
    return places
