"""Queries of the log: each sees one committed state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from twisted_chat.events import Event, Message, Reaction
from twisted_chat.store_contract import Aged, Page, RoomNews
from twisted_chat.stores import pages
from twisted_chat.stores.postgresql.connection import Connection, snapshot
from twisted_chat.stores.postgresql.escaping import escape, numbers, plain, text_array, texts
from twisted_chat.stores.postgresql.governed_events import settings_of
from twisted_chat.stores.postgresql.rows import EVENT_COLUMNS, SHOWN, event

#: A part of a log: room, the number before it, the largest number of events, and of bytes of content.
Part: TypeAlias = tuple[str, int, int, int]

_ROOM = "(SELECT id FROM twisted_chat.room WHERE name = %(room)s)"

# PostgreSQL knows the length of a text without reading it, so the sum is cheap even if the texts are long and few of them are sent.
_READ = f"""
SELECT {EVENT_COLUMNS} FROM (
    SELECT *, row_number() OVER log AS number,
        sum(coalesce(CASE WHEN kind IN (1, 2, 5) THEN octet_length(text) END, 0) + coalesce(octet_length(data), 0)) OVER log AS total
    FROM (
        SELECT * FROM twisted_chat.event WHERE room = {_ROOM} AND seq > %(after)s ORDER BY seq LIMIT %(limit)s) AS next
    WINDOW log AS (ORDER BY seq)
) AS e WHERE number = 1 OR total <= %(max_bytes)s ORDER BY seq"""

_READ_ALL = f"""
SELECT wanted.number, {EVENT_COLUMNS}
FROM unnest({text_array("rooms")}, %(afters)s::bigint[], %(limits)s::bigint[], %(max_bytes)s::bigint[])
    WITH ORDINALITY AS wanted (name, after, count, bytes, number)
JOIN twisted_chat.room ON room.name = wanted.name CROSS JOIN LATERAL (
    SELECT *, row_number() OVER log AS place,
        sum(coalesce(CASE WHEN kind IN (1, 2, 5) THEN octet_length(text) END, 0) + coalesce(octet_length(data), 0)) OVER log AS total
    FROM (SELECT * FROM twisted_chat.event WHERE event.room = room.id AND seq > wanted.after ORDER BY seq LIMIT wanted.count) AS next
    WINDOW log AS (ORDER BY seq)
) AS e WHERE e.place = 1 OR e.total <= wanted.bytes ORDER BY wanted.number, e.seq"""

_EVENT = f"SELECT {EVENT_COLUMNS} FROM twisted_chat.event e WHERE room = {_ROOM} AND seq = %(seq)s"

_SHOWN = f"SELECT * FROM twisted_chat.event WHERE room = room_id AND kind IN ({SHOWN})"

# The entries around a place in their present state: each with the text of its last edit.
PAGE = f"""
WITH here AS MATERIALIZED (SELECT id AS room_id, head FROM twisted_chat.room WHERE name = %(room)s),
     shown AS (
        SELECT true AS older, older.* FROM here, LATERAL (
            {_SHOWN} AND seq <= %(pivot)s ORDER BY seq DESC LIMIT %(older)s + 1) AS older
        UNION ALL
        SELECT false, newer.* FROM here, LATERAL (
            {_SHOWN} AND seq > %(pivot)s ORDER BY seq LIMIT %(newer)s + 1) AS newer)
SELECT here.head, e.older, edit.text, edit.revision, edit.at, {EVENT_COLUMNS}
FROM here LEFT JOIN shown e ON true LEFT JOIN LATERAL (
    SELECT text, revision, at FROM twisted_chat.event
    WHERE room = e.room AND of = e.seq AND kind = 2 AND e.state IS NOT TRUE ORDER BY seq DESC LIMIT 1) AS edit ON true
ORDER BY e.seq"""

_COUNTS = f"SELECT of, emoji, count FROM twisted_chat.reacted WHERE room = {_ROOM} AND of = ANY(%(seqs)s)"

_HERE = "p.room = r.room AND p.of = r.of AND p.emoji = r.emoji"

_NAMES = f"""
SELECT of, emoji, count,
    ARRAY(SELECT person FROM twisted_chat.reaction p WHERE {_HERE} ORDER BY seq LIMIT {pages.NAMES}),
    EXISTS (SELECT FROM twisted_chat.reaction p WHERE {_HERE} AND person = %(reader)s)
FROM twisted_chat.reacted r WHERE room = {_ROOM} AND of = ANY(%(seqs)s) ORDER BY of, place"""

_READ_MARKS = (
    "SELECT room.name, seq FROM twisted_chat.read_mark JOIN twisted_chat.room ON room.id = read_mark.room WHERE person = %s"
)

_ROOM_NEWS = "SELECT news, name, archived, settings FROM twisted_chat.room WHERE news > %s ORDER BY news LIMIT %s"

_AGED = """
SELECT oldest, name FROM twisted_chat.room
WHERE (oldest, name) > (%(at)s, %(name)s) AND oldest < %(before)s ORDER BY oldest, name LIMIT %(limit)s"""


def read(connection: Connection, room: str, after: int, limit: int, max_bytes: int) -> list[Event]:
    bounds = {"room": room, "after": bound(after), "limit": bound(limit), "max_bytes": bound(max_bytes)}
    return [event(row) for row in connection.execute(_READ, bounds, binary=True).fetchall()]


def read_all(connection: Connection, wanted: Sequence[Part]) -> list[list[Event]]:
    """Parts of several logs by one question."""
    if len(wanted) == 1:
        return [read(connection, *wanted[0])]
    asked = {
        "rooms": texts([part[0] for part in wanted]),
        "afters": numbers(bound(part[1]) for part in wanted),
        "limits": numbers(bound(part[2]) for part in wanted),
        "max_bytes": numbers(bound(part[3]) for part in wanted),
    }
    found: list[list[Event]] = [[] for _ in wanted]
    for number, *columns in connection.execute(_READ_ALL, asked, binary=True).fetchall():
        found[number - 1].append(event(tuple(columns)))
    return found


def one_event(connection: Connection, room: str, seq: int) -> Event | None:
    row = connection.execute(_EVENT, {"room": room, "seq": bound(seq)}, binary=True).fetchone()
    return None if row is None else event(row)


def page(connection: Connection, room: str, limit: int, where: pages.Place, reader: str | None = None) -> Page:
    bounds = {"room": room, "pivot": bound(where.pivot), "older": where.older, "newer": where.newer}
    with snapshot(connection):
        rows = connection.execute(PAGE, bounds, binary=True).fetchall()
        if not rows:
            return Page((), 0, False, False)
        head = rows[0][0]
        older = [_present(row) for row in reversed(rows) if row[1] is True]
        newer = [_present(row) for row in rows if row[1] is False]
        counts = _counts(connection, room, [entry.seq for entry in (*older, *newer)])
        weights = {entry.seq: pages.weigh(entry, counts.get(entry.seq, {})) for entry in (*older, *newer)}
        shown = pages.cut(where, limit, older, newer, lambda entry: weights[entry.seq])
        reacted = [entry for entry in shown[0] if entry.seq in counts]
        if reacted:
            _put_reactions(connection, room, reacted, reader)
    if reacted:
        # Ids may be longer than usual.
        weights |= {entry.seq: max(weights[entry.seq], pages.weigh(entry, {})) for entry in reacted}
        shown = pages.cut(where, limit, older, newer, lambda entry: weights[entry.seq])
    events, more_before, more_after = shown
    return Page(tuple(events), head, more_before, more_after)


def _present(row: tuple[object, ...]) -> Event:
    _, _, text, revision, edited_at, *columns = row
    entry = event(tuple(columns))
    if revision is not None:
        assert isinstance(entry, Message), entry
        assert isinstance(text, str), text
        assert isinstance(revision, int), revision
        assert isinstance(edited_at, int), edited_at
        entry.text, entry.revision, entry.edited_at = plain(text), revision, edited_at
    return entry


def _counts(connection: Connection, room: str, seqs: Sequence[int]) -> Mapping[int, Mapping[str, int]]:
    """By message: its emoji, each with the number of people."""
    counts: dict[int, dict[str, int]] = {}
    for of, emoji, count in connection.execute(_COUNTS, {"room": room, "seqs": list(seqs)}):
        counts.setdefault(of, {})[plain(emoji)] = count
    return counts


def _put_reactions(connection: Connection, room: str, entries: Sequence[Event], reader: str | None) -> None:
    asked = {"room": room, "seqs": [entry.seq for entry in entries], "reader": None if reader is None else escape(reader)}
    reactions: dict[int, list[Reaction]] = {}
    for of, emoji, count, first, mine in connection.execute(_NAMES, asked):
        people = [plain(person) for person in first]
        reactions.setdefault(of, []).append(pages.shorten(plain(emoji), people, count, reader if mine else None))
    for entry in entries:
        assert isinstance(entry, Message), entry
        entry.reactions = tuple(reactions[entry.seq])


def read_marks(connection: Connection, user: str) -> dict[str, int]:
    return dict(connection.execute(_READ_MARKS, (escape(user),)).fetchall())


def aged(connection: Connection, before_ms: int, after: Aged | None, limit: int) -> list[Aged]:
    at, name = (-1, "") if after is None else (after.at, after.room)
    rows = connection.execute(_AGED, {"at": at, "name": name, "before": bound(before_ms), "limit": limit})
    return [Aged(*row) for row in rows]


def room_news(connection: Connection, since: int, limit: int) -> RoomNews:
    rows = connection.execute(_ROOM_NEWS, (since, limit)).fetchall()
    settings = {name: settings_of(text) for _, name, _, text in rows if text}
    return RoomNews(rows[-1][0] if rows else since, {name: archived for _, name, archived, _ in rows}, settings)


def bound(number: int) -> int:
    """Clients may send larger numbers than a bigint."""
    return max(-1, min(number, pages.END))
