"""The table of standings: what people are in rooms.  The writer changes it with the events; readers ask for it.

Each answer is a single row: at each row Python releases the interpreter lock to the reactor's thread, and waits to get it back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import TypeAlias

from msgspec.json import Decoder, encode

from twisted_chat.core import governance
from twisted_chat.events import Entry, MemberChanged, NewMember, NewSanction, RoomChanged, RoomSettings, Sanctioned
from twisted_chat.standings import RANKS, Standing, StandingNews, folded, rank
from twisted_chat.stores.sqlite.rows import MEMBER, ROOM, SANCTION

#: Room, person, name, rank, muted, banned.
_Row: TypeAlias = tuple[str, str, str, int, int, int]

_decode_rows = Decoder(list[_Row]).decode

_KINDS: dict[type[Entry], int] = {RoomChanged: ROOM, MemberChanged: MEMBER, Sanctioned: SANCTION}
_ROLES = {number: role for role, number in RANKS.items()}
_NUMBER = "(SELECT id FROM room WHERE name = :room)"

_COLUMNS = "person, standing.name, rank, muted, banned"


def _rows(found: str) -> str:
    """SQL for the rows of a query as one array."""
    return f"SELECT json_group_array(json_array(room_name, person, name, rank, muted, banned)) FROM ({found})"


_BEGIN = f"SELECT :room AS room_name, {_COLUMNS} FROM standing"
_OF_ROOM = f"{_BEGIN} WHERE room = {_NUMBER}"
_WITH_ROOM = f"SELECT room.name AS room_name, {_COLUMNS} FROM standing CROSS JOIN room ON room.id = standing.room"

# The conditions of the partial indexes stand in the queries as they stand in the schema.
ONE = _rows(f"{_OF_ROOM} AND person = :person")
OF_PERSON = _rows(
    f"{_WITH_ROOM} WHERE person = :person AND (rank > 0 OR muted > 0 OR banned > 0) ORDER BY room.name",
)
MEMBERS = _rows(f"{_OF_ROOM} AND rank > 0 AND instr(folded, :search) ORDER BY rank DESC, folded, person LIMIT :limit")
MEMBERS_AFTER = _rows(
    f"{_OF_ROOM} AND rank > 0 AND rank <= :rank AND (rank < :rank OR (folded, person) > (:folded, :id))"
    " AND instr(folded, :search) ORDER BY rank DESC, folded, person LIMIT :limit"
)
SANCTIONS = _rows(f"{_BEGIN} INDEXED BY standing_sanctioned WHERE room = {_NUMBER} AND (muted > 0 OR banned > 0) ORDER BY person")
ALL_SANCTIONS = _rows(
    f"{_WITH_ROOM} WHERE (muted > 0 OR banned > 0) AND max(muted, banned) > :now ORDER BY room.name, person",
)
NEWS = f"""
SELECT max(news), json_group_array(json_array(room_name, person, name, rank, muted, banned)) FROM (
    SELECT standing.news AS news, room.name AS room_name, {_COLUMNS} FROM standing CROSS JOIN room ON room.id = standing.room
    WHERE standing.news > :since ORDER BY standing.news LIMIT :limit)"""

_OWNERS = f"SELECT count(*) FROM standing WHERE room = ? AND rank = {RANKS['owner']}"
_PRESENT = "SELECT name, rank, muted, banned FROM standing WHERE room = ? AND person = ?"
_ADD = """
INSERT INTO standing (room, person, name, folded, rank, muted, banned, news)
VALUES (?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(news), 0) + 1 FROM standing))"""
_KEEP = f"""{_ADD}
ON CONFLICT (room, person) DO UPDATE SET name = excluded.name, folded = excluded.folded, rank = excluded.rank,
    muted = excluded.muted, banned = excluded.banned, news = excluded.news"""


# -- for the writer


def last_news(connection: sqlite3.Connection) -> int:
    """The number of the last change of a standing."""
    [number] = connection.execute("SELECT coalesce(max(news), 0) FROM standing").fetchone()
    return int(number)


def change(connection: sqlite3.Connection, room: int, name: str, new: NewMember | NewSanction, now_ms: int) -> None:
    """Decide and keep a change, inside of the caller's transaction; an error of the table if it is refused."""

    def present(person: str) -> Standing:
        found = connection.execute(_PRESENT, (room, person)).fetchone()
        return Standing(name, person, "") if found is None else _standing((name, person, *found))

    [owners] = connection.execute(_OWNERS, (room,)).fetchone()
    for standing in governance.standings_after(new, present, owners, now_ms):
        keep(connection, room, standing)


def keep(connection: sqlite3.Connection, room: int, standing: Standing) -> None:
    """Write a standing, with the next number.

    :param room: the number of its room.
    """
    connection.execute(_KEEP, _values(room, standing))


def add(connection: sqlite3.Connection, room: int, standing: Standing) -> None:
    """Likewise one that must not be there."""
    connection.execute(_ADD, _values(room, standing))


def _values(room: int, standing: Standing) -> tuple[object, ...]:
    number = rank(standing.role)
    return room, standing.person, standing.name, folded(standing.name), number, standing.muted, standing.banned


def configure(connection: sqlite3.Connection, room: int, settings: RoomSettings, archived: bool) -> None:
    """Write a room's settings."""
    connection.execute("UPDATE room SET settings = ?, archived = ? WHERE id = ?", (settings_json(settings), archived, room))


def settings_json(settings: RoomSettings) -> str | None:
    """The column ``settings``."""
    return None if settings == RoomSettings() else encode(settings).decode()


def kind(event: RoomChanged | MemberChanged | Sanctioned) -> int:
    """The column ``kind`` of an event."""
    return _KINDS[type(event)]


def extra(event: RoomChanged | MemberChanged | Sanctioned) -> dict[str, object]:
    """The column ``extra`` of an event: the fields that only its kind has."""
    return {name: getattr(event, name) for name in event.__struct_fields__ if name not in Entry.__struct_fields__}


def every(connection: sqlite3.Connection, room: int, name: str) -> Iterator[Standing]:
    """Those of a room in which there is something, in the order of their last changes."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM standing WHERE room = ? AND (rank > 0 OR muted > 0 OR banned > 0) ORDER BY news",
        (room,),
    )
    return (_standing((name, *row)) for row in rows)


# -- for readers


def one(connection: sqlite3.Connection, room: str, person: str) -> Standing:
    found = _ask(connection, ONE, room=room, person=person)
    return found[0] if found else Standing(room, person, "")


def of_person(connection: sqlite3.Connection, person: str) -> list[Standing]:
    return _ask(connection, OF_PERSON, person=person)


def members(
    connection: sqlite3.Connection, room: str, search: str, after: tuple[int, str, str] | None, limit: int
) -> list[Standing]:
    parameters: dict[str, object] = {"room": room, "search": folded(search), "limit": limit}
    if after is None:
        return _ask(connection, MEMBERS, **parameters)
    number, name, person = after
    return _ask(connection, MEMBERS_AFTER, **parameters, rank=number, folded=folded(name), id=person)


def sanctions(connection: sqlite3.Connection, room: str) -> list[Standing]:
    return _ask(connection, SANCTIONS, room=room)


def all_sanctions(connection: sqlite3.Connection, now_ms: int) -> list[Standing]:
    return _ask(connection, ALL_SANCTIONS, now=now_ms)


def news(connection: sqlite3.Connection, since: int, limit: int) -> StandingNews:
    number, rows = connection.execute(NEWS, {"since": since, "limit": limit}).fetchone()
    return StandingNews(since if number is None else number, tuple(map(_standing, _decode_rows(rows))))


def _ask(connection: sqlite3.Connection, statement: str, **parameters: object) -> list[Standing]:
    [rows] = connection.execute(statement, parameters).fetchone()
    return [_standing(row) for row in _decode_rows(rows)]


def _standing(row: _Row) -> Standing:
    room, person, name, number, muted, banned = row
    return Standing(room, person, name, _ROLES.get(number), muted, banned)
