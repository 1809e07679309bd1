"""A batch of new messages for rooms that are there: one statement, which is one transaction and one round trip.

It locks its rooms in the order of their names, so that several servers never wait for one another in a circle; numbers the messages from
the heads that it then sees; and announces the new heads to the other servers.  It does not look for repeated keys first: the unique index
finds them, the statement then changes nothing, and ``careful_append.py`` appends the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from twisted_chat.events import Message, NewMessage
from twisted_chat.store_contract import Append, Appended, Outcome
from twisted_chat.stores.postgresql.connection import Connection
from twisted_chat.stores.postgresql.escaping import nullable_texts, numbers, text_array, texts
from twisted_chat.stores.postgresql.rows import MESSAGE
from twisted_chat.stores.random_ids import BATCH_LENGTH, RandomBytes, random_text

#: The channel of NOTIFY on which new heads are announced: ``[writer, {room: head, …}]``.
HEADS_CHANNEL = "twisted_chat_heads"
#: Bytes of one announcement, below PostgreSQL's 8,000; a longer one is sent empty, which means: check all rooms.
PAYLOAD_BYTES = 7_900


def notify_heads(table: str, head: str) -> str:
    """SQL that announces the heads of the rooms in a table."""
    payload = f"json_build_array(%(writer)s::text, json_object_agg(name, {head}))::text"
    return (
        f"pg_notify('{HEADS_CHANNEL}', (SELECT CASE WHEN octet_length(hint) < {PAYLOAD_BYTES} THEN hint ELSE '' END"
        f" FROM (SELECT {payload} AS hint FROM {table}) AS hints))"
    )


# FOR UPDATE sees what was committed while it waited, so the heads are those that the last transaction left.  A writer whose row is closed
# writes nothing: somebody has found out what became of its last batch, and counts on nothing being added to it (writer.py).
STATEMENT = f"""
WITH wanted AS MATERIALIZED (
    SELECT name, batch, count, place, sum(count) OVER (ORDER BY place) - count AS skipped
    FROM unnest({text_array("rooms")}, {text_array("batches")}, %(counts)s::bigint[])
        WITH ORDINALITY AS room (name, batch, count, place)
), mine AS MATERIALIZED (
    SELECT id FROM twisted_chat.writer WHERE id = %(writer)s AND NOT closed FOR UPDATE
), locked AS MATERIALIZED (
    SELECT id, name, head, purged FROM twisted_chat.room
    WHERE name = ANY({text_array("rooms")}) AND EXISTS (SELECT FROM mine) ORDER BY name FOR UPDATE
), target AS MATERIALIZED (
    SELECT wanted.*, locked.id, head, purged FROM wanted JOIN locked USING (name)
    WHERE (SELECT count(*) FROM wanted) = (SELECT count(*) FROM locked)
), kept AS (
    INSERT INTO twisted_chat.event (room, seq, at, of, kind, batch, author, name, key, text)
    SELECT id, head + number - skipped, %(at)s, of, {MESSAGE}, batch, line.author, line.name, line.key, line.text
    FROM unnest(%(places)s::bigint[], {text_array("authors")}, {text_array("names")}, {text_array("keys")}, {text_array("texts")},
        %(ofs)s::bigint[]) WITH ORDINALITY AS line (place, author, name, key, text, of, number) JOIN target USING (place)
), raised AS (
    UPDATE twisted_chat.room SET head = target.head + count, batch = target.batch, changed = pg_current_xact_id(),
        oldest = CASE WHEN target.head = target.purged THEN %(at)s ELSE oldest END
    FROM target WHERE room.id = target.id
), noted AS (
    UPDATE twisted_chat.writer SET used = now(), batch = %(number)s, heads = ARRAY(SELECT head FROM target ORDER BY place)
    WHERE id = %(writer)s AND EXISTS (SELECT FROM target) RETURNING heads
)
SELECT heads, {notify_heads("target", "head + count")} FROM noted"""


class FastBatch(Struct):
    """A batch for the statement.

    :ivar messages: of each append, without number and id.
    """

    batch: Sequence[Append]
    prefixes: list[str]
    at: int
    parameters: dict[str, object]

    def outcomes(self, heads: Sequence[int]) -> list[list[Outcome]]:
        """The outcomes of the batch, from the heads of its rooms before it."""
        answer: list[list[Outcome]] = []
        place = 0
        for append in self.batch:
            outcomes: list[Outcome] = []
            answer.append(outcomes)
            if not append.new_events:
                continue
            seq, prefix, at = heads[place], self.prefixes[place], self.at
            place += 1
            for new_event in append.new_events:
                assert type(new_event) is NewMessage, new_event
                seq += 1
                message = Message(
                    seq, f"{prefix}-{seq}", at, new_event.by, new_event.key, new_event.text, None, new_event.reply_to
                )
                outcomes.append(Appended(message))
        return answer


def fast_batch(batch: Sequence[Append], at: int, random_bytes: RandomBytes) -> FastBatch | None:
    """The batch for the statement; None if it is of another kind."""
    rooms: list[str] = []
    places: list[str] = []
    counts: list[int] = []
    new_events: list[NewMessage] = []
    for append in batch:
        count = len(append.new_events)
        if not count:
            continue
        rooms.append(append.room)
        counts.append(count)
        places.append(f"{len(rooms)}," * count)
        for new_event in append.new_events:
            if type(new_event) is not NewMessage or new_event.text is None:
                return None
            new_events.append(new_event)
    if len(set(rooms)) != len(rooms):
        return None
    prefixes = [random_text(random_bytes, BATCH_LENGTH) for _ in rooms]
    keys = [new_event.key for new_event in new_events]
    ofs = [new_event.reply_to for new_event in new_events]
    parameters: dict[str, object] = {
        "rooms": texts(rooms),
        "batches": texts(prefixes),
        "counts": numbers(counts),
        "places": "{" + "".join(places)[:-1] + "}",
        "at": at,
        "authors": texts([new_event.by.id for new_event in new_events]),
        "names": texts([new_event.by.name for new_event in new_events]),
        "keys": "" if not any(keys) else nullable_texts(keys) if None in keys else texts(keys),  # type: ignore[arg-type]
        "texts": texts([new_event.text for new_event in new_events]),  # type: ignore[misc]
        "ofs": numbers(ofs) if any(ofs) else "{}",
    }
    return FastBatch(batch, prefixes, at, parameters)


def append_fast(connection: Connection, batch: FastBatch, writer: str, number: int) -> list[int] | None:
    """The heads before the batch; None if one of the rooms is not there, and nothing is kept."""
    row = connection.execute(STATEMENT, {**batch.parameters, "writer": writer, "number": number}).fetchone()
    return None if row is None else list(row[0])
