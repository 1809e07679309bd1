"""The events that a page shows (all but edits, deletions and reactions), found past any number of these amendments between them.

Amendments that follow one another are a run, which is one row of ``amendment_run``; who reads a page steps over it.  Sending a message
changes nothing there.  An index of the shown events, which is the obvious way, takes one more page of each commit and room: 14 % of
the CPU time of 64 writers in 64 rooms, 20 % of one busy room.
"""

from __future__ import annotations

import sqlite3

_AMENDED = """
INSERT INTO amendment_run
SELECT :room, coalesce((
    SELECT CASE WHEN last = :seq - 1 THEN first END FROM amendment_run WHERE room = :room ORDER BY first DESC LIMIT 1), :seq), :seq
WHERE true ON CONFLICT (room, first) DO UPDATE SET last = excluded.last"""


def _outside(number: str, end: str) -> str:
    """SQL for the number itself, or the end of the run of amendments that it is in; ``room_id`` is in scope."""
    run = f"(SELECT first, last FROM amendment_run WHERE room = room_id AND first <= {number} ORDER BY first DESC LIMIT 1)"
    return f"coalesce((SELECT CASE WHEN last >= {number} THEN {end} END FROM {run}), {number})"


#: ``here``: one row with the room, if there is one; ``older`` and ``newer``: its shown events up to ``:pivot`` and after it, at most one
#: more than ``:older`` and ``:newer``.
TABLES = f"""
here AS MATERIALIZED (
    SELECT id AS room_id, purged, coalesce((SELECT max(seq) FROM event WHERE room = room.id), purged) AS head
    FROM room WHERE name = :room),
back (room_id, purged, seq, count) AS (
    SELECT room_id, purged, {_outside("min(:pivot, head)", "first - 1")}, 1 FROM here
    UNION ALL
    SELECT room_id, purged, {_outside("(seq - 1)", "first - 1")}, count + 1 FROM back
    WHERE count <= :older AND seq > purged + 1),
forth (room_id, head, seq, count) AS (
    SELECT room_id, head, {_outside("max(min(:pivot, head), purged) + 1", "last + 1")}, 1 FROM here
    UNION ALL
    SELECT room_id, head, {_outside("(seq + 1)", "last + 1")}, count + 1 FROM forth
    WHERE count <= :newer AND seq < head),
older AS MATERIALIZED (SELECT event.* FROM back CROSS JOIN event ON event.room = back.room_id AND event.seq = back.seq),
newer AS MATERIALIZED (SELECT event.* FROM forth CROSS JOIN event ON event.room = forth.room_id AND event.seq = forth.seq)"""


def amended(connection: sqlite3.Connection, room: int, seq: int) -> None:
    """The event of that number, the newest of the room, is an amendment."""
    connection.execute(_AMENDED, {"room": room, "seq": seq})


def forget(connection: sqlite3.Connection, room: int, last: int) -> None:
    """The events up to that number are removed."""
    connection.execute("DELETE FROM amendment_run WHERE room = ? AND first <= ? AND last <= ?", (room, last, last))
