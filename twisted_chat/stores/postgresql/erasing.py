"""Erases the amendments of a deleted message in slices, because a message may have 1,000,000 edits or reactions.

A deletion erases a message's own content.  The table ``erasing`` lists the messages that had edits or reactions, also after a crash;
readers do not see the texts that are still to be erased (``rows.EVENT_COLUMNS``).  Each slice is a transaction of its own, and only one
server at a time does it.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted_chat.stores.postgresql.connection import Connection, transaction
from twisted_chat.stores.postgresql.escaping import numbers

#: Rows of one kind in one transaction; appends wait no longer than for that.
SLICE_ROWS = 1_000

_ERASE = """
WITH gone AS MATERIALIZED (SELECT * FROM unnest(%(rooms)s::bigint[], %(ofs)s::bigint[]) AS gone (room, of)),
     emptied AS (
        UPDATE twisted_chat.event SET text = NULL, data = NULL, of = NULL, state = true
        FROM gone WHERE event.room = gone.room AND event.seq = gone.of),
     uncounted AS (DELETE FROM twisted_chat.reacted USING gone WHERE reacted.room = gone.room AND reacted.of = gone.of)
INSERT INTO twisted_chat.erasing (room, of, done)
SELECT room, of, 0 FROM gone WHERE EXISTS (
    SELECT FROM twisted_chat.event WHERE event.room = gone.room AND event.of = gone.of AND kind = 2)
OR EXISTS (SELECT FROM twisted_chat.reaction WHERE reaction.room = gone.room AND reaction.of = gone.of)"""

_NEXT = "SELECT room, of, done FROM twisted_chat.erasing ORDER BY room, of LIMIT 1 FOR UPDATE SKIP LOCKED"

_ERASE_TEXTS = """
WITH slice AS MATERIALIZED (
    SELECT seq FROM twisted_chat.event WHERE room = %(room)s AND of = %(of)s AND kind = 2 AND seq > %(done)s
    ORDER BY seq LIMIT %(limit)s),
emptied AS (UPDATE twisted_chat.event SET text = NULL FROM slice WHERE event.room = %(room)s AND event.seq = slice.seq)
SELECT count(*), max(seq) FROM slice"""

_FORGET_REACTIONS = """
DELETE FROM twisted_chat.reaction WHERE room = %(room)s AND of = %(of)s AND (emoji, person) IN (
    SELECT emoji, person FROM twisted_chat.reaction WHERE room = %(room)s AND of = %(of)s LIMIT %(limit)s)"""

_FORGET_OLD_REACTIONS = """
DELETE FROM twisted_chat.reaction WHERE room = %(room)s AND (of, emoji, person) IN (
    SELECT of, emoji, person FROM twisted_chat.reaction WHERE room = %(room)s AND of <= %(of)s ORDER BY of LIMIT %(limit)s)"""


def erase(connection: Connection, messages: Sequence[tuple[int, int]]) -> None:
    """Erase the content of messages, inside a transaction; number, author and key stay."""
    connection.execute(_ERASE, {"rooms": numbers(room for room, _ in messages), "ofs": numbers(of for _, of in messages)})


def pending(connection: Connection) -> bool:
    """Whether any deletion is unfinished."""
    return connection.execute("SELECT 1 FROM twisted_chat.erasing LIMIT 1").fetchone() is not None


def go_on(connection: Connection) -> bool:
    """Erase one more slice; returns whether there may be more.  A crash may undo it, and then it is repeated."""
    with transaction(connection):
        connection.execute("SET LOCAL synchronous_commit = off")
        found = connection.execute(_NEXT).fetchone()
        if found is None:
            return False
        room, of, done = found
        here = {"room": room, "of": of, "done": done, "limit": SLICE_ROWS}
        edits = connection.execute(_ERASE_TEXTS, here).fetchone()
        assert edits is not None
        reactions = connection.execute(_FORGET_REACTIONS, here).rowcount
        if SLICE_ROWS in (edits[0], reactions):
            done = done if edits[1] is None else edits[1]
            connection.execute("UPDATE twisted_chat.erasing SET done = %s WHERE room = %s AND of = %s", (done, room, of))
        else:
            connection.execute("DELETE FROM twisted_chat.erasing WHERE room = %s AND of = %s", (room, of))
    return pending(connection)


def forget_old(connection: Connection, room: int, last: int) -> bool:
    """Forget, inside a transaction, a slice of what reacted to the messages up to that number, which retention took; whether there
    may be more."""
    here = {"room": room, "of": last, "limit": SLICE_ROWS}
    return connection.execute(_FORGET_OLD_REACTIONS, here).rowcount == SLICE_ROWS
