"""Queries of the log.  Each sees one committed state and returns one row; all except a page are one statement."""

from __future__ import annotations

import sqlite3

from msgspec.json import Decoder

from twisted_chat.events import Event, Message, RoomSettings
from twisted_chat.store_contract import Aged, Page, RoomNews
from twisted_chat.stores import pages
from twisted_chat.stores.sqlite import reactions, shown
from twisted_chat.stores.sqlite.connection import snapshot
from twisted_chat.stores.sqlite.rows import ENTRY, decode_event, decode_events, json_array

_ROOM = "(SELECT id FROM room WHERE name = :room)"

_BYTES = "coalesce(length(CAST(text AS BLOB)), 0) + coalesce(length(data), 0)"

# The inner statement finds the last number that fits by stepping from number to number (there are no gaps) until it is reached.  A
# sum over a window would read all ``limit`` long texts to send four of them (64 KiB of 16 kB texts: 10 ms instead of 1 ms).
# Entries are encoded only for the events that are sent.
_READ = f"""
SELECT {json_array("entry")} FROM (
    SELECT {ENTRY} AS entry FROM event e
    WHERE room = {_ROOM} AND seq > :after AND seq <= (
        WITH RECURSIVE log (room, seq, number, total) AS (
            SELECT * FROM (
                SELECT room, seq, 1, {_BYTES} FROM event WHERE room = {_ROOM} AND seq > :after ORDER BY seq LIMIT 1)
            UNION ALL
            SELECT log.room, event.seq, number + 1, total + {_BYTES}
            FROM log JOIN event ON event.room = log.room AND event.seq = log.seq + 1
            WHERE number < :limit AND total <= :max_bytes
        ) SELECT max(seq) FROM log WHERE number = 1 OR total <= :max_bytes
    ) ORDER BY seq
)"""

_EVENT = f"SELECT {ENTRY} FROM event e WHERE room = {_ROOM} AND seq = :seq"

# An entry in its present state: with the text of its last edit.
_PRESENT = f"""
SELECT CASE WHEN edit.seq IS NULL THEN {ENTRY} ELSE json_patch({ENTRY}, json_object(
    'text', edit.text, 'revision', edit.extra ->> 'revision', 'edited_at', edit.at)) END AS entry
FROM %s e LEFT JOIN event edit ON edit.room = e.room AND edit.seq = (
    SELECT max(seq) FROM edit WHERE room = e.room AND of = e.seq) AND coalesce(e.extra ->> 'gone', 0) = 0
ORDER BY e.seq"""

_PAGE = f"""
WITH RECURSIVE {shown.TABLES}
SELECT head,
    (SELECT {json_array("entry")} FROM ({_PRESENT % "older"} DESC)),
    (SELECT {json_array("entry")} FROM ({_PRESENT % "newer"})),
    (SELECT json_group_array(json_array(of, emoji, count)) FROM reacted
        WHERE reacted.room = room_id AND of IN (SELECT seq FROM older UNION ALL SELECT seq FROM newer))
FROM here"""

_READ_MARKS = "SELECT json_group_object(room.name, seq) FROM read_mark JOIN room ON room.id = read_mark.room WHERE person = ?"

_ROOM_NEWS = """
SELECT max(news), json_group_object(name, json(iif(archived, 'true', 'false'))),
    json_group_object(name, json(settings)) FILTER (WHERE settings IS NOT NULL)
FROM (SELECT news, name, archived, settings FROM room WHERE news > ? ORDER BY news LIMIT ?)"""

_AGED = """
SELECT json_group_array(json_array(oldest, name)) FROM (
    SELECT oldest, name FROM room WHERE (oldest, name) > (:at, :name) AND oldest < :before ORDER BY oldest, name LIMIT :limit)"""

_decode_aged = Decoder(list[tuple[int, str]]).decode
_decode_counts = Decoder(list[tuple[int, str, int]]).decode
_decode_marks = Decoder(dict[str, int]).decode
_decode_archived = Decoder(dict[str, bool]).decode
_decode_settings = Decoder(dict[str, RoomSettings]).decode


def read(connection: sqlite3.Connection, room: str, after: int, limit: int, max_bytes: int) -> list[Event]:
    bounds = {"room": room, "after": _bound(after), "limit": _bound(limit), "max_bytes": _bound(max_bytes)}
    [events] = connection.execute(_READ, bounds).fetchone()
    return decode_events(events)


def event(connection: sqlite3.Connection, room: str, seq: int) -> Event | None:
    row = connection.execute(_EVENT, {"room": room, "seq": _bound(seq)}).fetchone()
    return None if row is None else decode_event(row[0])


def page(connection: sqlite3.Connection, room: str, limit: int, where: pages.Place, reader: str | None = None) -> Page:
    bounds = {"room": room, "pivot": _bound(where.pivot), "older": where.older, "newer": where.newer}
    with snapshot(connection):
        row = connection.execute(_PAGE, bounds).fetchone()
        if row is None:
            return Page((), 0, False, False)
        head, older, newer, found = row[0], decode_events(row[1]), decode_events(row[2]), row[3]
        counts: dict[int, dict[str, int]] = {}
        for of, emoji, count in _decode_counts(found):
            counts.setdefault(of, {})[emoji] = count
        weights = {event.seq: pages.weigh(event, counts.get(event.seq, {})) for event in (*older, *newer)}
        entries = pages.cut(where, limit, older, newer, lambda event: weights[event.seq])
        reacted = [event for event in entries[0] if event.seq in counts]
        if reacted:
            _put_reactions(connection, room, reacted, reader)
    if reacted:
        # Ids may be longer than usual.
        weights |= {event.seq: max(weights[event.seq], pages.weigh(event, {})) for event in reacted}
        entries = pages.cut(where, limit, older, newer, lambda event: weights[event.seq])
    events, more_before, more_after = entries
    return Page(tuple(events), head, more_before, more_after)


def _put_reactions(connection: sqlite3.Connection, room: str, events: list[Event], reader: str | None) -> None:
    found = reactions.shown(connection, room, [event.seq for event in events], reader)
    for event in events:
        assert isinstance(event, Message), event
        event.reactions = tuple(found[event.seq])


def read_marks(connection: sqlite3.Connection, user: str) -> dict[str, int]:
    [marks] = connection.execute(_READ_MARKS, (user,)).fetchone()
    return _decode_marks(marks)


def aged(connection: sqlite3.Connection, before_ms: int, after: Aged | None, limit: int) -> list[Aged]:
    at, name = (-1, "") if after is None else (after.at, after.room)
    [found] = connection.execute(_AGED, {"at": at, "name": name, "before": _bound(before_ms), "limit": limit}).fetchone()
    return [Aged(*each) for each in _decode_aged(found)]


def _bound(number: int) -> int:
    """Clients may send larger numbers than SQLite has."""
    return max(-1, min(number, pages.END))


def room_news(connection: sqlite3.Connection, since: int, limit: int) -> RoomNews:
    number, archived, settings = connection.execute(_ROOM_NEWS, (since, limit)).fetchone()
    return RoomNews(since if number is None else number, _decode_archived(archived), _decode_settings(settings))
