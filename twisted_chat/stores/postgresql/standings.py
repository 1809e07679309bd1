"""The table of standings: what an append reads and writes of it, and the queries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from twisted_chat.standings import RANKS, Standing, StandingNews, folded, rank
from twisted_chat.stores.postgresql.connection import Connection
from twisted_chat.stores.postgresql.escaping import (
    escape,
    flags,
    numbers,
    plain,
    text_array,
    texts,
)
from twisted_chat.stores.postgresql.governed_events import settings_text
from twisted_chat.stores.postgresql.governing import Governing, Somebody
from twisted_chat.stores.postgresql.queries import bound
from twisted_chat.stores.postgresql.rows import RoomRow

# Of a batch: the standings that it concerns; and with the person NULL, the number of owners of each of its rooms.
CONCERNED = f"""
SELECT standing.room, person, standing.name, rank, muted, banned, 0
FROM unnest(%(rooms)s::bigint[], {text_array("people")}) AS wanted (room, person) JOIN twisted_chat.standing USING (room, person)
UNION ALL
SELECT room, NULL, NULL, 0, 0, 0, count(*) FROM twisted_chat.standing
WHERE room = ANY(%(rooms)s::bigint[]) AND rank = {RANKS["owner"]} GROUP BY room"""

# The batch has locked the row of the numbers before its rooms (careful_statements.make_rooms).
_NUMBERED = """
WITH numbered AS (UPDATE twisted_chat.news SET number = number + %(count)s RETURNING number - %(count)s AS before)"""

_ADD = f"""{_NUMBERED}
INSERT INTO twisted_chat.standing (room, person, name, folded, rank, muted, banned, news)
SELECT room, person, name, folded, rank, muted, banned, before + place FROM numbered, unnest(%(rooms)s::bigint[],
    {text_array("people")}, {text_array("names")}, %(folded)s::bytea[], %(ranks)s::smallint[],
    %(muted)s::bigint[], %(banned)s::bigint[])
    WITH ORDINALITY AS changed (room, person, name, folded, rank, muted, banned, place)"""

_CHANGE = f"""{_ADD}
ON CONFLICT (room, person) DO UPDATE SET name = excluded.name, folded = excluded.folded, rank = excluded.rank,
    muted = excluded.muted, banned = excluded.banned, news = excluded.news"""

_SETTLE = f"""{_NUMBERED}
UPDATE twisted_chat.room SET settings = settled.settings, archived = settled.archived, news = before + place FROM numbered,
    unnest(%(rooms)s::bigint[], {text_array("settings")}, %(archived)s::boolean[])
    WITH ORDINALITY AS settled (room, settings, archived, place) WHERE room.id = settled.room"""

_COLUMNS = "room.name, person, standing.name, rank, muted, banned"
_FROM = "FROM twisted_chat.standing JOIN twisted_chat.room ON room.id = standing.room"
_SANCTIONED = "(muted > 0 OR banned > 0)"
_SOMETHING = "(rank > 0 OR muted > 0 OR banned > 0)"

OF_PERSON = f"SELECT {_COLUMNS} {_FROM} WHERE person = %s AND {_SOMETHING} ORDER BY room.name"
_ONE = f"SELECT {_COLUMNS} {_FROM} WHERE room.name = %s AND person = %s"
# The room is no table to be joined: that would sort all of its members.
MEMBERS = """
SELECT %(room)s::text, person, name, rank, muted, banned FROM twisted_chat.standing
WHERE room = (SELECT id FROM twisted_chat.room WHERE name = %(room)s) AND rank > 0 AND position(%(search)s IN folded) > 0
    AND rank <= %(rank)s AND (rank < %(rank)s OR (folded, person) > (%(folded)s, %(person)s))
ORDER BY rank DESC, folded, person LIMIT %(limit)s"""
SANCTIONS = f"SELECT {_COLUMNS} {_FROM} WHERE room.name = %s AND {_SANCTIONED} ORDER BY person"
ALL_SANCTIONS = f"""
SELECT {_COLUMNS} {_FROM} WHERE {_SANCTIONED} AND (muted > %(now)s OR banned > %(now)s) ORDER BY room.name, person"""
#: Those of the room with that number in which there is something, in the order of their last changes.
EVERY = f"SELECT {_COLUMNS} {_FROM} WHERE standing.room = %s AND {_SOMETHING} ORDER BY standing.news"
NEWS = f"SELECT standing.news, {_COLUMNS} {_FROM} WHERE standing.news > %s ORDER BY standing.news LIMIT %s"

_ROLES = {number: role for role, number in RANKS.items()}


# -- in an append


def asked(somebody: Sequence[Somebody]) -> dict[str, object]:
    """The parameters of :data:`CONCERNED`."""
    return {"rooms": numbers(room for room, _ in somebody), "people": texts([person for _, person in somebody])}


def take_in(governing: Governing, rooms: Collection[RoomRow], rows: Sequence[tuple[Any, ...]]) -> None:
    """Hand the answer of :data:`CONCERNED` to the decisions."""
    names = {room.id: room.name for room in rooms}
    for number, person, *columns, owners in rows:
        if person is None:
            governing.owners[number] = owners
        else:
            found = standing((names[number], person, *columns))
            governing.standings[number, found.person] = found


def write(connection: Connection, governing: Governing) -> None:
    """Write what was decided; in a pipeline."""
    if governing.settled:
        settled = sorted(governing.settled.values(), key=lambda room: room.name)
        connection.execute(
            _SETTLE,
            {
                "count": len(settled),
                "rooms": numbers(room.id for room in settled),
                "settings": texts([settings_text(room.settings) for room in settled]),
                "archived": flags(room.archived for room in settled),
            },
        )
    if governing.changed:
        connection.execute(_CHANGE, _changed([room for room, _ in governing.changed], list(governing.changed.values())))


def _changed(rooms: Sequence[int], standings: Sequence[Standing]) -> dict[str, object]:
    return {
        "count": len(standings),
        "rooms": numbers(rooms),
        "people": texts([each.person for each in standings]),
        "names": texts([each.name for each in standings]),
        "folded": [_folded(each.name) for each in standings],
        "ranks": numbers(rank(each.role) for each in standings),
        "muted": numbers(each.muted for each in standings),
        "banned": numbers(each.banned for each in standings),
    }


def add(connection: Connection, room: int, standings: Sequence[Standing]) -> None:
    """Write standings of one room, in which these people have none; for an import."""
    connection.execute(_ADD, _changed([room] * len(standings), standings))


def _folded(name: str) -> bytes:
    return folded(name).encode()


# -- queries


def of_person(connection: Connection, person: str) -> list[Standing]:
    return [standing(row) for row in connection.execute(OF_PERSON, (escape(person),))]


def one(connection: Connection, room: str, person: str) -> Standing:
    row = connection.execute(_ONE, (room, escape(person))).fetchone()
    return Standing(room, person, "") if row is None else standing(row)


def members(connection: Connection, room: str, search: str, after: tuple[int, str, str] | None, limit: int) -> list[Standing]:
    last_rank, name, person = after or (max(RANKS.values()) + 1, "", "")
    where = {"room": room, "search": _folded(search), "rank": bound(last_rank), "folded": _folded(name), "person": escape(person)}
    return [standing(row) for row in connection.execute(MEMBERS, {**where, "limit": bound(limit)})]


def sanctions(connection: Connection, room: str) -> list[Standing]:
    return [standing(row) for row in connection.execute(SANCTIONS, (room,))]


def all_sanctions(connection: Connection, now_ms: int) -> list[Standing]:
    return [standing(row) for row in connection.execute(ALL_SANCTIONS, {"now": bound(now_ms)})]


def news(connection: Connection, since: int, limit: int) -> StandingNews:
    rows = connection.execute(NEWS, (since, limit)).fetchall()
    return StandingNews(rows[-1][0] if rows else since, tuple(standing(row[1:]) for row in rows))


def standing(row: Sequence[Any]) -> Standing:
    """The standing of a row of the queries."""
    room, person, name, its_rank, muted, banned = row
    return Standing(room, plain(person), plain(name), _ROLES.get(its_rank), muted, banned)
