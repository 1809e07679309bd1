"""What is written beside new events: retention, archived rooms, read marks.  Blocking; each call is a transaction."""

from __future__ import annotations

from collections.abc import Mapping

from twisted_chat.store_contract import RoomRecord
from twisted_chat.stores.postgresql import erasing
from twisted_chat.stores.postgresql.careful_statements import make_rooms
from twisted_chat.stores.postgresql.connection import Connection, transaction
from twisted_chat.stores.postgresql.escaping import escape, numbers, plain, text_array, texts
from twisted_chat.stores.postgresql.queries import bound
from twisted_chat.stores.postgresql.rows import ROOM_COLUMNS, RoomRow, room_row

#: Events forgotten in one transaction: appends wait for no more than that.
PURGE_EVENTS = 1_000

_ROOM = f"SELECT {ROOM_COLUMNS} FROM twisted_chat.room WHERE name = %s"

# The last number up to :end before the first event that is young enough.
_YOUNG = """
SELECT min(seq) FROM twisted_chat.event WHERE room = %(room)s AND seq > %(purged)s AND seq <= %(end)s AND at >= %(young)s"""

_FORGET = """
WITH forgotten AS (DELETE FROM twisted_chat.event WHERE room = %(room)s AND seq <= %(last)s),
     uncounted AS (DELETE FROM twisted_chat.reacted WHERE room = %(room)s AND of <= %(last)s)
UPDATE twisted_chat.room SET purged = %(last)s,
    oldest = (SELECT at FROM twisted_chat.event WHERE room = %(room)s AND seq = %(last)s + 1)
WHERE id = %(room)s"""

_ARCHIVE = """
WITH numbered AS (UPDATE twisted_chat.news SET number = number + 1 RETURNING number)
UPDATE twisted_chat.room SET archived = %(archived)s, news = numbered.number FROM numbered
WHERE name = %(room)s AND archived <> %(archived)s"""

_MARK = f"""
INSERT INTO twisted_chat.read_mark AS kept (person, room, seq)
SELECT wanted.person, room.id, least(wanted.seq, room.head)
FROM unnest({text_array("people")}, {text_array("rooms")}, %(seqs)s::bigint[]) AS wanted (person, name, seq)
JOIN twisted_chat.room USING (name) ORDER BY wanted.person, room.id
ON CONFLICT (person, room) DO UPDATE SET seq = greatest(kept.seq, excluded.seq)
RETURNING person, (SELECT name FROM twisted_chat.room WHERE id = kept.room), seq"""


def record(connection: Connection, name: str) -> RoomRecord:
    row = connection.execute(_ROOM, (name,)).fetchone()
    return RoomRecord(name) if row is None else room_row(row).record()


def purge(connection: Connection, name: str, keep_events: int | None, keep_after_ms: int | None) -> bool:
    """Remove some of the events that retention does not keep; answers whether there may be more."""
    with transaction(connection):
        row = connection.execute(f"{_ROOM} FOR UPDATE", (name,)).fetchone()
        if row is None:
            return False
        room = room_row(row)
        # What reacted to messages that are forgotten: nobody is shown it any more, and it goes in slices of its own.
        if room.purged and erasing.forget_old(connection, room.id, room.purged):
            return True
        end = min(room.head, room.purged + PURGE_EVENTS)
        last = max(room.purged, _last_before(connection, room, end, keep_after_ms))
        if keep_events is not None:
            last = max(last, min(end, room.head - keep_events))
        if last == room.purged:
            return False
        connection.execute(_FORGET, {"room": room.id, "last": last})
    return True


def _last_before(connection: Connection, room: RoomRow, end: int, keep_after_ms: int | None) -> int:
    if keep_after_ms is None:
        return 0
    asked = {"room": room.id, "purged": room.purged, "end": end, "young": bound(keep_after_ms)}
    young = connection.execute(_YOUNG, asked).fetchone()
    assert young is not None
    return end if young[0] is None else int(young[0]) - 1


def archive(connection: Connection, name: str, archived: bool) -> RoomRecord:
    """The room is made if it is not there."""
    with transaction(connection):
        make_rooms(connection, [name])
        set_archived(connection, name, archived)
        return record(connection, name)


def set_archived(connection: Connection, name: str, archived: bool) -> bool:
    """False if there is no room of that name; in a transaction."""
    # The number of the news first, then the room: the order in which appends take them.
    connection.execute("SELECT FROM twisted_chat.news FOR UPDATE")
    found = connection.execute("SELECT 1 FROM twisted_chat.room WHERE name = %s FOR UPDATE", (name,)).fetchone()
    connection.execute(_ARCHIVE, {"room": name, "archived": archived})
    return found is not None


def mark_read(connection: Connection, marks: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Raise the marks of (person, room), at most to the head; the marks that now stand."""
    asked = {
        "people": texts([user for user, _ in marks]),
        "rooms": texts([room for _, room in marks]),
        "seqs": numbers(bound(seq) for seq in marks.values()),
    }
    raised = connection.execute(_MARK, asked).fetchall()
    return dict.fromkeys(marks, 0) | {(plain(user), room): seq for user, room, seq in raised}


def probe(connection: Connection) -> None:
    """Commit something small."""
    connection.execute("UPDATE twisted_chat.probe SET number = number + 1")


def lease(connection: Connection, name: str, holder: str, seconds: float) -> bool:
    """Whether the lease of that name is the holder's for so many seconds from now."""
    taken = connection.execute(
        "INSERT INTO twisted_chat.lease AS kept (name, holder, until) VALUES (%s, %s, now() + make_interval(secs => %s))"
        " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until"
        " WHERE kept.holder = excluded.holder OR kept.until < now() RETURNING name",
        (escape(name), holder, seconds),
    )
    return taken.fetchone() is not None
