"""The statements of :mod:`careful_append <twisted_chat.stores.postgresql.careful_append>`: what a batch reads, and what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from twisted_chat.events import NewDeletion, NewEdit, NewMember, NewReaction, NewSanction, NewSettings
from twisted_chat.store_contract import Append
from twisted_chat.stores.postgresql import standings
from twisted_chat.stores.postgresql.careful_append import Decisions, Key, MessageNow, Place, Put
from twisted_chat.stores.postgresql.connection import Connection, Row
from twisted_chat.stores.postgresql.escaping import flags, nullable_texts, numbers, plain, text_array, texts
from twisted_chat.stores.postgresql.fast_append import notify_heads
from twisted_chat.stores.postgresql.governing import Somebody, concerned
from twisted_chat.stores.postgresql.rows import EVENT_COLUMNS, MESSAGE, ROOM_COLUMNS, RoomRow, event, room_row

# Rooms that are not there get their numbers as news under the lock of the row that counts them, which is taken before those of rooms.
_MAKE_ROOMS = f"""
WITH missing AS MATERIALIZED (
    SELECT wanted.name, row_number() OVER (ORDER BY wanted.name COLLATE "C") AS place
    FROM unnest({text_array("rooms")}) AS wanted (name)
    WHERE NOT EXISTS (SELECT FROM twisted_chat.room WHERE room.name = wanted.name)
), numbered AS (
    UPDATE twisted_chat.news SET number = number + (SELECT count(*) FROM missing)
    WHERE %(news)s OR EXISTS (SELECT FROM missing) RETURNING number - (SELECT count(*) FROM missing) AS before
)
INSERT INTO twisted_chat.room (name, news) SELECT name, before + place FROM missing, numbered ORDER BY place
ON CONFLICT (name) DO NOTHING"""

LOCK_ROOMS = f"SELECT {ROOM_COLUMNS} FROM twisted_chat.room WHERE name = ANY({text_array('rooms')}) ORDER BY name FOR UPDATE"

NOTE = "UPDATE twisted_chat.writer SET used = now(), batch = %s WHERE id = %s AND NOT closed RETURNING batch"

_REPEATED = f"""
SELECT wanted.number, {EVENT_COLUMNS}
FROM unnest(%(rooms)s::bigint[], {text_array("authors")}, {text_array("keys")})
    WITH ORDINALITY AS wanted (room, author, key, number)
JOIN twisted_chat.event e ON e.room = wanted.room AND e.author = wanted.author AND e.key = wanted.key"""

_MESSAGES = f"""
SELECT e.room, e.seq, e.author, coalesce(edit.revision, 1), e.data IS NOT NULL, e.state IS TRUE
FROM unnest(%(rooms)s::bigint[], %(ofs)s::bigint[]) AS wanted (room, of)
JOIN twisted_chat.event e ON e.room = wanted.room AND e.seq = wanted.of AND e.kind = {MESSAGE}
LEFT JOIN LATERAL (
    SELECT revision FROM twisted_chat.event
    WHERE room = e.room AND of = e.seq AND kind = 2 ORDER BY seq DESC LIMIT 1) AS edit ON true"""

_REACTED = """
SELECT room, of, emoji, place, count FROM unnest(%(rooms)s::bigint[], %(ofs)s::bigint[]) AS wanted (room, of)
JOIN twisted_chat.reacted USING (room, of)"""

_PEOPLE = f"""
SELECT room, of, emoji, person, seq
FROM unnest(%(rooms)s::bigint[], %(ofs)s::bigint[], {text_array("emoji")}, {text_array("people")}) AS wanted (room, of, emoji, person)
JOIN twisted_chat.reaction USING (room, of, emoji, person)"""

_INSERT = f"""
INSERT INTO twisted_chat.event (room, seq, at, of, revision, kind, state, batch, author, name, key, text, data)
SELECT line.room, line.seq, %(at)s, line.of, line.revision, line.kind, line.state, line.batch, line.author, line.name, line.key,
    line.text, line.data
FROM unnest(%(rooms)s::bigint[], %(seqs)s::bigint[], %(ofs)s::bigint[], %(revisions)s::integer[], %(kinds)s::smallint[],
    %(states)s::boolean[], {text_array("batches")}, {text_array("authors")}, {text_array("names")}, {text_array("keys")},
    {text_array("texts")}, %(data)s::bytea[])
    AS line (room, seq, of, revision, kind, state, batch, author, name, key, text, data)"""

_RAISE = f"""
WITH grown AS MATERIALIZED (
    SELECT * FROM unnest(%(rooms)s::bigint[], {text_array("names")}, %(heads)s::bigint[], {text_array("batches")}, {text_array("topics")})
        AS grown (id, name, head, batch, topic)
), raised AS (
    UPDATE twisted_chat.room SET head = grown.head, batch = grown.batch, topic = grown.topic, changed = pg_current_xact_id(),
        oldest = CASE WHEN room.head = room.purged THEN %(at)s ELSE oldest END
    FROM grown WHERE room.id = grown.id
)
SELECT {notify_heads("grown", "head")}"""

_PUT_WANTED = f"""unnest(%(rooms)s::bigint[], %(ofs)s::bigint[], {text_array("emoji")}, {text_array("people")}, %(seqs)s::bigint[])
    AS put (room, of, emoji, person, seq)"""
_TAKE = f"""
DELETE FROM twisted_chat.reaction USING {_PUT_WANTED}
WHERE reaction.room = put.room AND reaction.of = put.of AND reaction.emoji = put.emoji AND reaction.person = put.person"""
_PUT = f"""
INSERT INTO twisted_chat.reaction (room, of, emoji, person, seq)
SELECT room, of, emoji, person, seq FROM {_PUT_WANTED} WHERE seq IS NOT NULL"""

_COUNTED = f"""unnest(%(rooms)s::bigint[], %(ofs)s::bigint[], {text_array("emoji")}, %(places)s::bigint[], %(counts)s::bigint[])
    AS counted (room, of, emoji, place, count)"""
_UNCOUNT = f"""
DELETE FROM twisted_chat.reacted USING {_COUNTED} WHERE counted.count = 0
AND reacted.room = counted.room AND reacted.of = counted.of AND reacted.emoji = counted.emoji"""
_COUNT = f"""
INSERT INTO twisted_chat.reacted (room, of, emoji, place, count) SELECT room, of, emoji, place, count FROM {_COUNTED} WHERE count > 0
ON CONFLICT (room, of, emoji) DO UPDATE SET place = excluded.place, count = excluded.count"""


def look_up(connection: Connection, batch: Sequence[Append], decisions: Decisions) -> None:
    """Read what the batch is about: events with its keys, messages that it amends, who put its emoji there, and whom it concerns."""
    rooms = decisions.rooms
    keyed: list[Key] = []
    amended: dict[Place, None] = {}
    people: dict[Put, None] = {}
    somebody: dict[Somebody, None] = {}
    for append in batch:
        for new_event in append.new_events:
            room = rooms[append.room]
            if new_event.key is not None:
                keyed.append((room.id, new_event.by.id, new_event.key))
            if isinstance(new_event, NewEdit | NewDeletion | NewReaction) and room.purged < new_event.of <= room.head:
                amended[room.id, new_event.of] = None
                if isinstance(new_event, NewReaction):
                    people[room.id, new_event.of, new_event.emoji, new_event.by.id] = None
            elif isinstance(new_event, NewMember | NewSanction):
                somebody.update(dict.fromkeys((room.id, person) for person in concerned(new_event)))
    questions: list[tuple[str, dict[str, object]]] = []
    if keyed:
        questions.append((_REPEATED, _keys(keyed)))
    if people:
        questions += [(_REACTED, _places(list(amended))), (_PEOPLE, _puts(list(people)))]
    if somebody:
        questions.append((standings.CONCERNED, standings.asked(list(somebody))))
    if amended:
        questions.append((_MESSAGES, _places(list(amended))))
    answers = _ask(connection, questions)
    for number, *row in answers.get(_REPEATED, ()):
        decisions.first[keyed[number - 1]] = event(tuple(row))
    for number, seq, author, revision, binary, gone in answers.get(_MESSAGES, ()):
        decisions.messages[number, seq] = MessageNow(plain(author), revision, binary, gone, {})
    for number, of, emoji, place, count in answers.get(_REACTED, ()):
        decisions.messages[number, of].emoji[plain(emoji)] = (place, count)
    for number, of, emoji, person, seq in answers.get(_PEOPLE, ()):
        decisions.people[number, of, plain(emoji), plain(person)] = seq
    standings.take_in(decisions.governing, rooms.values(), answers.get(standings.CONCERNED, ()))


def _ask(connection: Connection, questions: Sequence[tuple[str, dict[str, object]]]) -> dict[str, list[Row]]:
    """The answers by question."""
    # The last question is asked behind the pipeline: what psycopg sends at its end would stop the clock of idle transactions.
    with connection.pipeline() if len(questions) > 1 else nullcontext():
        cursors = [connection.execute(statement, asked, binary=True) for statement, asked in questions[:-1]]
    cursors += [connection.execute(statement, asked, binary=True) for statement, asked in questions[-1:]]
    return {statement: cursor.fetchall() for (statement, _), cursor in zip(questions, cursors, strict=True)}


def _keys(keys: Sequence[Key]) -> dict[str, object]:
    return {
        "rooms": numbers(room for room, _, _ in keys),
        "authors": texts([author for _, author, _ in keys]),
        "keys": texts([key for _, _, key in keys]),
    }


def _places(places: Sequence[Place]) -> dict[str, object]:
    return {"rooms": numbers(room for room, _ in places), "ofs": numbers(of for _, of in places)}


def _puts(puts: Sequence[Put]) -> dict[str, object]:
    return {
        "rooms": numbers(put[0] for put in puts),
        "ofs": numbers(put[1] for put in puts),
        "emoji": texts([put[2] for put in puts]),
        "people": texts([put[3] for put in puts]),
    }


def write(connection: Connection, decisions: Decisions, writer: str, at: int) -> None:
    """Write what was decided; in a pipeline."""
    rows = decisions.rows
    if not rows:
        return
    connection.execute(
        _INSERT,
        {
            "at": at,
            "rooms": numbers(row.room for row in rows),
            "seqs": numbers(row.event.seq for row in rows),
            "ofs": numbers(row.of for row in rows),
            "revisions": numbers(row.revision for row in rows),
            "kinds": numbers(row.kind for row in rows),
            "states": flags(row.state for row in rows),
            "batches": texts([row.batch for row in rows]),
            "authors": texts([row.event.by.id for row in rows]),
            "names": texts([row.event.by.name for row in rows]),
            "keys": nullable_texts([row.event.key for row in rows]),
            "texts": nullable_texts([row.text for row in rows]),
            "data": [row.data for row in rows] if any(row.data is not None for row in rows) else [],
        },
    )
    if decisions.put:
        _write_reactions(connection, decisions)
    standings.write(connection, decisions.governing)
    grown = sorted(decisions.grown.values(), key=lambda room: room.name)
    connection.execute(
        _RAISE,
        {
            "at": at,
            "writer": writer,
            "rooms": numbers(room.id for room in grown),
            "names": texts([room.name for room in grown]),
            "heads": numbers(room.head for room in grown),
            "batches": texts([room.batch for room in grown]),
            "topics": texts([room.topic for room in grown]),
        },
    )


def _write_reactions(connection: Connection, decisions: Decisions) -> None:
    puts = sorted(decisions.put)
    asked = {**_puts(puts), "seqs": numbers(decisions.people.get(put) for put in puts)}
    connection.execute(_TAKE, asked)
    connection.execute(_PUT, asked)
    touched = sorted({put[:3] for put in puts})
    counted = [decisions.messages[room, of].emoji.get(emoji, (0, 0)) for room, of, emoji in touched]
    asked = {
        "rooms": numbers(room for room, _, _ in touched),
        "ofs": numbers(of for _, of, _ in touched),
        "emoji": texts([emoji for _, _, emoji in touched]),
        "places": numbers(place for place, _ in counted),
        "counts": numbers(count for _, count in counted),
    }
    connection.execute(_UNCOUNT, asked)
    connection.execute(_COUNT, asked)


def make_rooms(connection: Connection, names: Sequence[str], news: bool = False) -> int:
    """Make those of the rooms that are not there; how many that were.

    :param news: lock the row of the numbers of news in any case, which comes before locking rooms, until the end of the transaction.
    """
    return connection.execute(_MAKE_ROOMS, {"rooms": texts(sorted(set(names))), "news": news}).rowcount


def lock_rooms(connection: Connection, names: Sequence[str], news: bool = False) -> dict[str, RoomRow]:
    """These rooms, made if they are not there, locked until the end of the transaction; in a transaction.

    :param news: numbers of news are going to be taken.
    """
    make_rooms(connection, names, news)
    asked = {"rooms": texts(sorted(set(names)))}
    return {row[1]: room_row(row) for row in connection.execute(LOCK_ROOMS, asked).fetchall()}


def governs(batch: Sequence[Append]) -> bool:
    """Whether the batch is about settings, members or sanctions, so that it may take numbers of news."""
    return any(
        isinstance(new_event, NewSettings | NewMember | NewSanction) for append in batch for new_event in append.new_events
    )
