"""Whether the database is still the one that this server has written to.

After a fail-over to a standby that was behind, or when a backup was put in its place, a database may lack what it had kept, and numbers
begin again below those that clients have seen.  A server that went on would tell some clients one history and others another one.  So each
new connection is compared with the ones before: if it leads to another timeline or another database, the newest event of each room
that this server knows has to be there, with its id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock

import psycopg
from msgspec import Struct
from twisted.logger import Logger

from twisted_chat.stores.postgresql.escaping import numbers, text_array, texts

#: Rooms that are named as examples.
NAMED = 3

_MISSING = f"""
SELECT wanted.name FROM unnest({text_array("rooms")}, %(seqs)s::bigint[], {text_array("batches")}) AS wanted (name, seq, batch)
LEFT JOIN twisted_chat.room ON room.name = wanted.name
LEFT JOIN twisted_chat.event ON event.room = room.id AND event.seq = wanted.seq
WHERE room.id IS NULL OR event.batch <> wanted.batch OR (event.batch IS NULL AND room.purged < wanted.seq)
ORDER BY wanted.name"""


class Diverged(psycopg.OperationalError):
    """The database lacks what it had kept; this server can use it no more."""


class Newest(Struct, frozen=True, gc=False):
    """The newest event that is known of a room."""

    seq: int
    id: str


class Lineage:
    """What this server knows of its database.

    :param diverged: called, in whatever thread, with a sentence when the database turns out to be another one.
    """

    log = Logger()

    def __init__(self, diverged: Callable[[str], object]) -> None:
        self._diverged = diverged
        self._lock = Lock()
        self._identity: str | None = None
        self._newest: dict[str, Newest] = {}
        self._end: str | None = None

    def note(self, room: str, seq: int, event_id: str) -> None:
        """The room has that event."""
        known = self._newest.get(room)
        if known is None or known.seq < seq:
            self._newest[room] = Newest(seq, event_id)

    def check(self, connection: psycopg.Connection[tuple[object, ...]], identity: str) -> None:
        """Raise :class:`Diverged` if this is not the database that it was.

        :param identity: of the timeline and the database that the connection leads to.
        """
        with self._lock:
            if self._end is not None:
                raise Diverged(self._end)
            if self._identity is None:
                self._identity = identity
            if self._identity == identity:
                return
            missing = _missing(connection, dict(self._newest))
            if not missing:
                self.log.info("The database has changed over, and has everything that this server knows of")
                self._identity = identity
                return
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            self._end = (
                f"the database has lost what it had kept in {', '.join(missing[:NAMED])}{more}: it was replaced by an older state "
                "(a fail-over to a standby that was behind, or a backup), so this server ends; start it again"
            )
            self._diverged(self._end)
            raise Diverged(self._end)


def _missing(connection: psycopg.Connection[tuple[object, ...]], newest: Mapping[str, Newest]) -> list[str]:
    asked = {
        "rooms": texts(list(newest)),
        "seqs": numbers(each.seq for each in newest.values()),
        "batches": texts([each.id.removesuffix(f"-{each.seq}") for each in newest.values()]),
    }
    return [str(row[0]) for row in connection.execute(_MISSING, asked)]
