"""Copies whole logs from one database to another; numbers, ids, times, authors and keys stay the same.

Reading sees one committed state, also while a server writes.  Writing is all or nothing, into rooms that are empty.  The caller
checks the type of each event; this module checks the log (numbers without gaps, amendments of existing messages).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from msgspec.json import encode

from twisted_chat.errors import Conflict
from twisted_chat.events import (
    Cursor,
    Deleted,
    Edited,
    Event,
    MemberChanged,
    Message,
    Reacted,
    RoomChanged,
    Sanctioned,
    TopicSet,
)
from twisted_chat.standings import Standing
from twisted_chat.store_contract import RoomRecord, StoreError
from twisted_chat.stores.account_transfer import AccountTransfer
from twisted_chat.stores.kept import Identity, KeptCursor, KeptToken, ReadMark, batch_of
from twisted_chat.stores.sqlite import accounts, cursors, reactions, shown, standings, tokens
from twisted_chat.stores.sqlite.connection import FileLock, connect, connect_writer, explain, transaction
from twisted_chat.stores.sqlite.database import prepare, schema_steps, steps_taken, unwritable
from twisted_chat.stores.sqlite.rows import (
    AMENDMENTS,
    DELETE,
    EDIT,
    ENTRY,
    MESSAGE,
    REACTION,
    TOPIC,
    RoomRow,
    decode_event,
    load_rooms,
)

_USED = "SELECT EXISTS (SELECT 1 FROM event) OR EXISTS (SELECT 1 FROM token) OR EXISTS (SELECT 1 FROM account)"


class Outgoing:
    """One committed state of a database.

    :ivar rooms: by name.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._rooms = load_rooms(connection)
        self.rooms = {name: room.record() for name, room in sorted(self._rooms.items())}
        epochs = connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
        self.epoch: str = epochs[0] if epochs else ""

    def events(self, room: str) -> Iterator[Event]:
        """The log of a room, oldest first."""
        rows = self._connection.execute(f"SELECT {ENTRY} FROM event e WHERE room = ? ORDER BY seq", (self._rooms[room].id,))
        return (decode_event(entry) for (entry,) in rows)

    def standings(self, room: str) -> Iterator[Standing]:
        """The roles and sanctions in a room, in the order of their last changes."""
        return standings.every(self._connection, self._rooms[room].id, room)

    def identity(self) -> Identity:
        """The epoch and the secret; :class:`StoreError` if no server has used the database yet."""
        kept = dict(self._connection.execute("SELECT name, value FROM meta WHERE name IN ('epoch', 'secret')"))
        if len(kept) < 2:
            raise StoreError("no server has used this database yet, so there is nothing to move")
        return Identity(kept["epoch"], kept["secret"])

    def tokens(self) -> Iterator[KeptToken]:
        """All tokens, oldest first."""
        return (KeptToken(record, secret_hash) for secret_hash, record in tokens.every_with_hash(self._connection))

    @property
    def accounts(self) -> AccountTransfer:
        """The accounts."""
        return accounts.transfer(self._connection)

    def read_marks(self) -> Iterator[ReadMark]:
        """All read marks, by person and room."""
        rows = self._connection.execute(
            "SELECT person, room.name, seq FROM read_mark JOIN room ON room.id = read_mark.room ORDER BY person, room.name"
        )
        return (ReadMark(*row) for row in rows)

    def cursors(self) -> Iterator[KeptCursor]:
        """All cursors of programs, by reader and room."""
        rows = self._connection.execute("SELECT reader, room, epoch, seq, event FROM cursor ORDER BY reader, room")
        return (KeptCursor(reader, room, Cursor(epoch, seq, event)) for reader, room, epoch, seq, event in rows)


@contextmanager
def outgoing(path: str) -> Iterator[Outgoing]:
    """Read one state of the database; :class:`StoreError` if there is none."""
    if not os.path.isfile(path):
        raise StoreError(f"{path}: there is no such file; name the server's with --store sqlite:PATH")
    try:
        with closing(connect(path, "rw")) as connection:
            # Opened for writing, because a read-only connection leaves its shared memory beside the file; it writes nothing.
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            if steps_taken(connection, path) != len(schema_steps()):
                raise StoreError(f"{path} is of another version; use the command of that version, or start the server once")
            yield Outgoing(connection)
    except sqlite3.Error as error:
        raise explain(path, error) from error


class Incoming:
    """An import into a database; an invalid log raises :class:`StoreError`, and then nothing is imported."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._there = load_rooms(connection)
        self._room: RoomRow | None = None
        self._next = 0

    def identity(self, identity: Identity) -> None:
        """The database continues the one that had this epoch and this secret."""
        [used] = self._execute(_USED).fetchone()
        if used:
            raise StoreError("this database has messages, tokens or accounts already; move everything into a database of its own")
        for name, value in (("epoch", identity.epoch), ("secret", identity.secret)):
            self._execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (name, value))

    @property
    def accounts(self) -> AccountTransfer:
        """What takes accounts."""
        return accounts.transfer(self._connection)

    def token(self, token: KeptToken) -> None:
        """A token."""
        try:
            tokens.create(self._connection, token.record, token.secret_hash)
        except Conflict:
            raise StoreError(f"token {token.record.id} comes a second time") from None

    def read_mark(self, mark: ReadMark) -> None:
        """A read mark of a room that came before."""
        self.finish()
        self._execute(
            "INSERT INTO read_mark (person, room, seq) VALUES (?, ?, ?)", (mark.user, self._number(mark.room), mark.seq)
        )

    def _number(self, name: str) -> int:
        room = self._there.get(name)
        if room is None:
            raise StoreError(f"there is a read mark of room {name}, but no such room")
        return room.id

    def cursor(self, kept: KeptCursor) -> None:
        """A cursor of a program."""
        cursors.save(self._connection, kept.reader, kept.room, kept.cursor, rewind=True)

    def room(self, record: RoomRecord) -> None:
        """Begin a room: the following events belong to it."""
        self.finish()
        known = self._there.get(record.name)
        if known is not None and known.head:
            raise StoreError(f"room {record.name} has messages already; import into a database of its own, or name other rooms")
        self._execute("INSERT INTO room (name) VALUES (?) ON CONFLICT DO NOTHING", (record.name,))
        [number] = self._execute("SELECT id FROM room WHERE name = ?", (record.name,)).fetchone()
        batch = batch_of(record.head_id, record.head) if record.first > record.head > 0 else ""
        settings = standings.settings_json(record.settings)
        self._execute(
            "UPDATE room SET purged = ?, purged_batch = ?, topic = ?, archived = ?, settings = ? WHERE id = ?",
            (record.first - 1, batch, record.topic, record.archived, settings, number),
        )
        self._room = self._there[record.name] = RoomRow(number, record.name, record.head, batch, record.first - 1)
        self._next = record.first

    def standing(self, standing: Standing) -> None:
        """A role or sanction in the current room; it gets a new number."""
        if self._room is None or self._room.name != standing.room:
            raise StoreError(f"room {standing.room}: what {standing.person} is there stands elsewhere than behind its events")
        standings.add(self._connection, self._room.id, standing)

    def finish(self) -> None:
        """End the current room."""
        if self._room is not None and self._next != self._room.head + 1:
            raise StoreError(
                f"room {self._room.name} ends at {self._next - 1}, but its head is {self._room.head}; export it again"
            )
        if self._room is not None:
            self._execute(
                "UPDATE room SET oldest = (SELECT at FROM event WHERE room = :room AND seq = :first) WHERE id = :room",
                {"room": self._room.id, "first": self._room.purged + 1},
            )
        self._room = None

    def event(self, event: Event) -> None:
        """Add the next event of the current room."""
        room = self._room
        if room is None:
            raise StoreError(f"event {event.seq} belongs to no room")
        if event.seq != self._next:
            raise StoreError(f"room {room.name}: event {event.seq} comes where {self._next} belongs")
        self._next += 1
        match event:
            case Message():
                self._insert(room, event, MESSAGE, event.text, _extra(event), event.data)
            case Edited():
                self._insert(room, event, EDIT, event.text, {"of": event.of, "revision": event.revision})
                if event.of > room.purged:
                    self._execute("INSERT INTO edit (room, of, seq) VALUES (?, ?, ?)", (room.id, event.of, event.seq))
            case Reacted():
                self._insert(room, event, REACTION, None, {"of": event.of, "emoji": event.emoji, "on": event.on})
                if event.of > room.purged:
                    reactions.react(self._connection, room.id, event)
            case Deleted():
                self._insert(room, event, DELETE, None, {"of": event.of})
                self._execute("DELETE FROM edit WHERE room = ? AND of = ?", (room.id, event.of))
                self._execute("DELETE FROM reacted WHERE room = ? AND of = ?", (room.id, event.of))
                self._execute("DELETE FROM reaction WHERE room = ? AND of = ?", (room.id, event.of))
            case TopicSet():
                self._insert(room, event, TOPIC, event.text, None)
            case RoomChanged() | MemberChanged() | Sanctioned():
                self._insert(room, event, standings.kind(event), None, standings.extra(event))

    def _insert(
        self, room: RoomRow, event: Event, kind: int, text: str | None, extra: dict[str, object] | None, data: bytes | None = None
    ) -> None:
        self._execute(
            "INSERT INTO event (room, seq, batch, at, kind, author, name, key, text, extra, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                room.id,
                event.seq,
                batch_of(event.id, event.seq),
                event.at,
                kind,
                event.by.id,
                event.by.name,
                event.key,
                text,
                None if extra is None else encode(extra).decode(),
                data,
            ),
        )
        if kind in AMENDMENTS:
            shown.amended(self._connection, room.id, event.seq)


@contextmanager
def incoming(path: str) -> Iterator[Incoming]:
    """Import into the database in one transaction; the database is created if it does not exist, and no server may be using it."""
    path = os.path.realpath(path)
    try:
        lock = FileLock(path)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        prepare(path, schema_steps())
        with closing(connect_writer(path)) as connection, transaction(connection):
            target = Incoming(connection)
            yield target
            target.finish()
    except sqlite3.IntegrityError as error:
        raise StoreError(f"the import is not a valid log: {error}") from error
    except sqlite3.Error as error:
        raise explain(path, error) from error
    finally:
        lock.release()


def holes(path: str, rooms: Iterable[RoomRecord]) -> list[str]:
    """The rooms whose events do not have exactly the numbers from ``first`` to ``head``."""
    with closing(connect(path, "rw")) as connection:
        connection.execute("PRAGMA query_only = ON")
        counts = dict(
            connection.execute(
                "SELECT room.name, count(*) FROM room JOIN event ON event.room = room.id GROUP BY room.id"
            ).fetchall()
        )
    return [room.name for room in rooms if counts.get(room.name, 0) != room.head - room.first + 1]


def _extra(message: Message) -> dict[str, object] | None:
    if message.gone:
        return {"gone": True}
    return None if message.reply_to is None else {"reply_to": message.reply_to}
