"""The writer of the logs: numbers, stores, amends and purges events.  Only one thread may call it at a time.

The heads of all rooms are in memory.  A transaction collects the rooms that it changes, and they replace the known ones only at its
commit, so that a rolled back transaction leaves no trace in the numbering.

Nearly all batches are new messages for rooms that are not empty.  Such a batch is one statement, which is a transaction by itself: each
further statement (``BEGIN``, a query for repeated keys, ``COMMIT``) would wait for the interpreter lock again while the reactor is busy.
It is tried without a query for repeated keys: if the unique index finds one, the statement changes nothing, and the batch is appended
in a transaction of several statements instead.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from msgspec.json import encode
from msgspec.structs import replace

from twisted_chat.events import Message, NewMessage
from twisted_chat.store_contract import Append, Appended, Outcome, RoomRecord
from twisted_chat.stores.random_ids import BATCH_LENGTH, RandomBytes, random_text
from twisted_chat.stores.sqlite import erasing, shown, standings
from twisted_chat.stores.sqlite.append import AppendAny
from twisted_chat.stores.sqlite.connection import transaction
from twisted_chat.stores.sqlite.rows import STATEMENT_ROWS, RoomRow, Row, Run, insert, last_news, load_rooms, make_rooms

#: Events removed in one transaction, which takes about 5 ms; appends wait no longer than that.
PURGE_EVENTS = 1_000


class Log:
    """All rooms of one database.

    :ivar news: the number of the last change of rooms that was known when it was opened; ``standing_news`` of standings.
    :ivar erasing: the texts of some edits of deleted messages still have to be erased: :meth:`erase`.
    """

    def __init__(self, connection: sqlite3.Connection, random_bytes: RandomBytes) -> None:
        self._connection = connection
        self._random_bytes = random_bytes
        # The number is read first, so that a change by another process in between is reported again, not missed.
        self.news = last_news(connection)
        self.standing_news = standings.last_news(connection)
        self.rooms = load_rooms(connection)
        self.erasing = erasing.pending(connection)

    def append(self, batch: Sequence[Append], at: int) -> list[list[Outcome]]:
        """Append the batch, or raise :class:`sqlite3.Error` and change nothing."""
        try:
            answer = self._append_new_messages(batch, at)
        except sqlite3.IntegrityError:
            answer = None  # a key is repeated
        if answer is None:
            with self._transaction() as changed:
                careful = AppendAny(self._connection, self._random_bytes, self.rooms, changed, at)
                answer = careful.append(batch)
            self.erasing = self.erasing or careful.erasing
        return answer

    def _append_new_messages(self, batch: Sequence[Append], at: int) -> list[list[Outcome]] | None:
        """The hot path: 1.1 µs of the interpreter lock for each message.  None if the batch is of another kind."""
        answer: list[list[Outcome]] = []
        runs: list[Run] = []
        changed: dict[str, RoomRow] = {}
        count = 0
        for append in batch:
            room = changed.get(append.room) or self.rooms.get(append.room)
            if room is None or room.head == room.purged:
                return None
            outcomes: list[Outcome] = []
            answer.append(outcomes)
            if not append.new_events:
                continue
            prefix = random_text(self._random_bytes, BATCH_LENGTH)
            seq = room.head
            rows: list[Row] = []
            for new_event in append.new_events:
                if type(new_event) is not NewMessage or new_event.data is not None:
                    return None
                seq += 1
                by, key, text, reply_to = new_event.by, new_event.key, new_event.text, new_event.reply_to
                outcomes.append(Appended(Message(seq, f"{prefix}-{seq}", at, by, key, text, None, reply_to)))
                rows.append((by.id, by.name, key, text, None if reply_to is None else {"reply_to": reply_to}))
            runs.append(Run(room.id, room.head + 1, prefix, rows))
            changed[room.name] = replace(room, head=seq, batch=prefix)
            count += len(rows)
        if count > STATEMENT_ROWS:
            return None
        if runs:
            insert(self._connection, runs, at)
        self.rooms.update(changed)
        return answer

    def erase(self) -> bool:
        """Erase a slice of what deletions have left; returns whether there is more."""
        with self._transaction():
            erasing.go_on(self._connection)
        self.erasing = erasing.pending(self._connection)
        return self.erasing

    def purge(self, name: str, keep_events: int | None, keep_after_ms: int | None) -> bool:
        """Remove some of the events that retention does not keep; returns whether there may be more."""
        room = self.rooms.get(name)
        if room is None:
            return False
        if room.purged and self._forget_amendments(room):
            return True
        end = min(room.head, room.purged + PURGE_EVENTS)
        last = max(room.purged, self._last_before(room, end, keep_after_ms))
        if keep_events is not None:
            last = max(last, min(end, room.head - keep_events))
        if last == room.purged:
            return False
        with self._transaction() as changed:
            self._forget(room, last)
            changed[name] = replace(room, purged=last)
        return True

    def _forget_amendments(self, room: RoomRow) -> bool:
        """Delete a slice of the amendments of removed messages, which no page shows any more."""
        with self._transaction():
            return erasing.forget_old(self._connection, room.id, room.purged)

    def _last_before(self, room: RoomRow, end: int, keep_after_ms: int | None) -> int:
        """The last number up to ``end`` before the first event that is recent enough."""
        if keep_after_ms is None:
            return 0
        [young] = self._connection.execute(
            "SELECT min(seq) FROM event WHERE room = ? AND seq > ? AND seq <= ? AND at >= ?",
            (room.id, room.purged, end, keep_after_ms),
        ).fetchone()
        return end if young is None else int(young) - 1

    def _forget(self, room: RoomRow, last: int) -> None:
        execute = self._connection.execute
        execute(
            "UPDATE room SET purged = :last, purged_batch = (SELECT batch FROM event WHERE room = :room AND seq = :last),"
            " oldest = (SELECT at FROM event WHERE room = :room AND seq = :last + 1) WHERE id = :room",
            {"room": room.id, "last": last},
        )
        execute("DELETE FROM event WHERE room = ? AND seq <= ?", (room.id, last))
        execute("DELETE FROM reacted WHERE room = ? AND of <= ?", (room.id, last))
        shown.forget(self._connection, room.id, last)

    def record(self, name: str) -> RoomRecord:
        room = self.rooms.get(name)
        return RoomRecord(name) if room is None else room.record()

    def archive(self, name: str, archived: bool) -> RoomRecord:
        with self._transaction() as changed:
            room = self.rooms.get(name) or make_rooms(self._connection, [name])[name]
            self._connection.execute("UPDATE room SET archived = ? WHERE id = ?", (archived, room.id))
            changed[name] = replace(room, archived=archived)
        return self.record(name)

    def mark_read(self, marks: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
        """Raise the read marks by (person, room), at most to the head; returns the marks that are now in force."""
        rows = [
            (user, room.id, min(seq, room.head))
            for (user, name), seq in marks.items()
            if (room := self.rooms.get(name)) is not None
        ]
        raised = self._connection.execute(
            "INSERT INTO read_mark (person, room, seq) SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?) WHERE true"
            " ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq) RETURNING person, room, seq",
            (encode(rows).decode(),),
        ).fetchall()
        names = {self.rooms[name].id: name for _, name in marks if name in self.rooms}
        return dict.fromkeys(marks, 0) | {(user, names[room]): seq for user, room, seq in raised}

    @contextmanager
    def _transaction(self) -> Iterator[dict[str, RoomRow]]:
        """A transaction; the rooms put into the yielded dict replace the known ones after the commit."""
        changed: dict[str, RoomRow] = {}
        with transaction(self._connection):
            yield changed
        self.rooms.update(changed)
