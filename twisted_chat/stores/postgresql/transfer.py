"""Copies whole logs from one database to another; numbers, ids, times, authors and keys stay the same.

Reading sees one committed state, also while servers write.  Writing is all or nothing, in one transaction, while no server runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psycopg
from psycopg import Copy, errors

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
from twisted_chat.stores.postgresql import accounts, cursors, schema, standings, tokens
from twisted_chat.stores.postgresql.address import Address, one_line, parse
from twisted_chat.stores.postgresql.careful_statements import make_rooms
from twisted_chat.stores.postgresql.connection import Connection, Patience, Row, connect, explain, snapshot, transaction, unlimit
from twisted_chat.stores.postgresql.escaping import escape, escape_any, plain
from twisted_chat.stores.postgresql.governed_events import kind_and_text, settings_text
from twisted_chat.stores.postgresql.rows import DELETE, EDIT, EVENT_COLUMNS, MESSAGE, REACTION, TOPIC, event, load_rooms

#: Seconds without a sign of life after which a server counts as ended.
SILENT_SECONDS = 15
#: Rows that are fetched at once.
FETCHED_ROWS = 1_000
#: Standings that are written at once.
WRITTEN_STANDINGS = 1_000

_EVENTS = f"SELECT {EVENT_COLUMNS} FROM twisted_chat.event e WHERE room = %s ORDER BY seq"
_MARKS = (
    "SELECT person, room.name, seq FROM twisted_chat.read_mark JOIN twisted_chat.room ON room.id = read_mark.room"
    ' ORDER BY person, room.name COLLATE "C"'
)
_CURSORS = "SELECT reader, room, epoch, seq, event FROM twisted_chat.cursor ORDER BY reader, room"
_RUNNING = "SELECT count(*) FROM twisted_chat.node WHERE heartbeat > clock_timestamp() - make_interval(secs => %s)"
_USED = (
    "SELECT EXISTS (SELECT FROM twisted_chat.event) OR EXISTS (SELECT FROM twisted_chat.token)"
    " OR EXISTS (SELECT FROM twisted_chat.account)"
)
_IDENTITY = "INSERT INTO twisted_chat.meta (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_MARK = "INSERT INTO twisted_chat.read_mark (person, room, seq) VALUES (%s, %s, %s)"
_COPY_EVENTS = (
    "COPY twisted_chat.event (room, seq, at, of, revision, kind, state, batch, author, name, key, text, data) FROM STDIN"
)
_COPY_REACTIONS = "COPY twisted_chat.reaction (room, of, emoji, person, seq) FROM STDIN"
_COPY_COUNTS = "COPY twisted_chat.reacted (room, of, emoji, place, count) FROM STDIN"
_BEGIN_ROOM = (
    "UPDATE twisted_chat.room SET head = %s, batch = %s, purged = %s, topic = %s, archived = %s, settings = %s,"
    " changed = pg_current_xact_id() WHERE name = %s RETURNING id"
)
_OLDEST = (
    "UPDATE twisted_chat.room SET oldest = (SELECT at FROM twisted_chat.event WHERE room = room.id AND seq = room.purged + 1)"
    " WHERE id = %s"
)


class Outgoing:
    """One committed state of a database.

    :ivar rooms: by name.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rooms = load_rooms(connection)
        self.rooms = {name: room.record() for name, room in sorted(self._rooms.items())}
        self.epoch = self._meta().get("epoch", b"").decode()

    def _meta(self) -> dict[str, bytes]:
        rows = self._connection.execute("SELECT name, value FROM twisted_chat.meta").fetchall()
        return {name: bytes(value) for name, value in rows}

    def events(self, room: str) -> Iterator[Event]:
        """The log of a room, oldest first."""
        return map(event, self._each(_EVENTS, (self._rooms[room].id,)))

    def identity(self) -> Identity:
        """The epoch and the secret; :class:`StoreError` if no server has used the database yet."""
        kept = self._meta()
        if "secret" not in kept:
            raise StoreError("no server has used this database yet, so there is nothing to move")
        return Identity(self.epoch, kept["secret"])

    def tokens(self) -> Iterator[KeptToken]:
        """All tokens, oldest first."""
        return (KeptToken(record, secret_hash) for secret_hash, record in tokens.every_with_hash(self._connection))

    @property
    def accounts(self) -> AccountTransfer:
        """The accounts."""
        return accounts.transfer(self._connection)

    def read_marks(self) -> Iterator[ReadMark]:
        """All read marks, by person and room."""
        return (ReadMark(plain(person), room, seq) for person, room, seq in self._each(_MARKS, ()))

    def standings(self, room: str) -> Iterator[Standing]:
        """The roles and sanctions in a room, in the order of their last changes."""
        return map(standings.standing, self._each(standings.EVERY, (self._rooms[room].id,)))

    def cursors(self) -> Iterator[KeptCursor]:
        """All cursors of programs, by reader and room."""
        for reader, room, epoch, seq, event_id in self._each(_CURSORS, ()):
            yield KeptCursor(plain(reader), plain(room), Cursor(plain(epoch), seq, None if event_id is None else plain(event_id)))

    def _each(self, query: str, parameters: tuple[object, ...]) -> Iterator[Row]:
        with self._connection.cursor("export") as rows:
            rows.itersize = FETCHED_ROWS
            yield from rows.execute(query, parameters)


@contextmanager
def outgoing(url: str) -> Iterator[Outgoing]:
    """Read one state of the database; :class:`StoreError` if there is none."""
    address = parse(url)
    with _connected(address) as connection:
        _check_steps(connection, address)
        with snapshot(connection):
            yield Outgoing(connection)


class _Reactions:
    """The emoji on the messages of one room.

    :ivar found: by message and emoji: the place, and the people with the number of their event.
    """

    def __init__(self) -> None:
        self.found: dict[int, dict[str, tuple[int, dict[str, int]]]] = {}

    def react(self, reacted: Reacted) -> None:
        on_message = self.found.setdefault(reacted.of, {})
        _, people = on_message.setdefault(reacted.emoji, (reacted.seq, {}))
        if reacted.on:
            people.setdefault(reacted.by.id, reacted.seq)
        else:
            people.pop(reacted.by.id, None)
        if not people:
            del on_message[reacted.emoji]

    def __iter__(self) -> Iterator[tuple[int, str, int, dict[str, int]]]:
        for of, on_message in self.found.items():
            for emoji, (place, people) in on_message.items():
                yield of, emoji, place, people


class Incoming:
    """Rooms on their way into a database; what is wrong raises :class:`StoreError`, and then nothing of it is there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._there = load_rooms(connection)
        self._ids: dict[str, int] = {name: room.id for name, room in self._there.items()}
        self._room: RoomRecord | None = None
        self._begun = ""
        self._standings: list[Standing] = []
        self._id = 0
        self._next = 0
        self._reactions = _Reactions()
        self._copying = ExitStack()
        self._copy: Copy | None = None

    def identity(self, identity: Identity) -> None:
        """The database continues the one that had this epoch and this secret."""
        self.finish()
        used = self._connection.execute(_USED).fetchone()
        if used is None or used[0]:
            raise StoreError("this database has messages, tokens or accounts already; move everything into a database of its own")
        for name, value in (("epoch", identity.epoch.encode()), ("secret", identity.secret)):
            self._connection.execute(_IDENTITY, (name, value))

    @property
    def accounts(self) -> AccountTransfer:
        """What takes accounts."""
        self.finish()
        return accounts.transfer(self._connection)

    def token(self, token: KeptToken) -> None:
        """A token."""
        self.finish()
        try:
            tokens.create(self._connection, token.record, token.secret_hash)
        except Conflict:
            raise StoreError(f"token {token.record.id} comes a second time") from None

    def read_mark(self, mark: ReadMark) -> None:
        """A read mark of a room that came before."""
        self.finish()
        if mark.room not in self._ids:
            raise StoreError(f"there is a read mark of room {mark.room}, but no such room")
        self._connection.execute(_MARK, (escape(mark.user), self._ids[mark.room], mark.seq))

    def standing(self, standing: Standing) -> None:
        """A role or sanction in the room that was begun last; it gets a new number."""
        if standing.room != self._begun:
            raise StoreError(f"room {standing.room}: what {standing.person} is there stands elsewhere than behind its events")
        if self._room is not None:
            self.finish()
        self._standings.append(standing)
        if len(self._standings) == WRITTEN_STANDINGS:
            self._add_standings()

    def _add_standings(self) -> None:
        kept, self._standings = self._standings, []
        if kept:
            standings.add(self._connection, self._id, kept)

    def cursor(self, kept: KeptCursor) -> None:
        """A cursor of a program."""
        self.finish()
        cursors.save(self._connection, kept.reader, kept.room, kept.cursor, True)

    def room(self, record: RoomRecord) -> None:
        """The events that follow are of this room."""
        self.finish()
        known = self._there.get(record.name)
        if (known is not None and known.head) or (record.name in self._ids and known is None):
            raise StoreError(f"room {record.name} has messages already; import into a database of its own, or name other rooms")
        make_rooms(self._connection, [record.name])
        batch = batch_of(record.head_id, record.head) if record.head else ""
        made = self._connection.execute(
            _BEGIN_ROOM,
            (
                record.head,
                batch,
                record.first - 1,
                escape(record.topic),
                record.archived,
                settings_text(record.settings),
                record.name,
            ),
        ).fetchone()
        assert made is not None
        self._id = self._ids[record.name] = made[0]
        self._there.pop(record.name, None)
        self._room, self._begun, self._next, self._reactions = record, record.name, record.first, _Reactions()
        self._copy = self._copying.enter_context(self._connection.cursor().copy(_COPY_EVENTS))

    def finish(self) -> None:
        """Nothing more comes for the present room."""
        self._add_standings()
        room, self._room, self._copy = self._room, None, None
        if room is None:
            return
        self._copying.close()
        if self._next != room.head + 1:
            raise StoreError(f"room {room.name} ends at {self._next - 1}, but its head is {room.head}; export it again")
        with self._connection.cursor().copy(_COPY_REACTIONS) as copy:
            for of, emoji, _, people in self._reactions:
                for person, seq in people.items():
                    copy.write_row((self._id, of, escape(emoji), escape(person), seq))
        with self._connection.cursor().copy(_COPY_COUNTS) as copy:
            for of, emoji, place, people in self._reactions:
                copy.write_row((self._id, of, escape(emoji), place, len(people)))
        self._connection.execute(_OLDEST, (self._id,))

    def abandon(self) -> None:
        """What was begun is not finished, because something was wrong."""
        # psycopg would write about it to the standard error.
        logging.getLogger("psycopg").addHandler(logging.NullHandler())
        if self._copy is not None:
            self._copy.finish(errors.QueryCanceled("the import was given up"))
        self._copying.pop_all()

    def event(self, event: Event) -> None:
        """The next one."""
        room, copy = self._room, self._copy
        if room is None or copy is None:
            raise StoreError(f"event {event.seq} belongs to no room")
        if event.seq != self._next:
            raise StoreError(f"room {room.name}: event {event.seq} comes where {self._next} belongs")
        self._next += 1
        copy.write_row(self._row(event, room))

    def _row(self, event: Event, room: RoomRecord) -> tuple[Any, ...]:
        of: int | None = None
        revision: int | None = None
        state: bool | None = None
        text: str | None = None
        data: bytes | None = None
        match event:
            case Message():
                kind, of, text, data, state = MESSAGE, event.reply_to, event.text, event.data, True if event.gone else None
            case Edited():
                kind, of, revision, text = EDIT, event.of, event.revision, event.text
            case Reacted():
                kind, of, state, text = REACTION, event.of, event.on, event.emoji
                if event.of >= room.first:
                    self._reactions.react(event)
            case Deleted():
                kind, of = DELETE, event.of
                self._reactions.found.pop(event.of, None)
            case TopicSet():
                kind, text = TOPIC, event.text
            case RoomChanged() | MemberChanged() | Sanctioned():
                kind, text = kind_and_text(event)
        batch, by = batch_of(event.id, event.seq), event.by
        written = (escape(by.id), escape(by.name), escape_any(event.key), escape_any(text), data)
        return (self._id, event.seq, event.at, of, revision, kind, state, batch, *written)


@contextmanager
def incoming(url: str) -> Iterator[Incoming]:
    """Write into the database, whose schema is made if it is not there, in one transaction; no server may use it."""
    address = parse(url)
    with _connected(address) as connection:
        schema.prepare(connection, address, schema.schema_steps())
        with transaction(connection):
            connection.execute("LOCK TABLE twisted_chat.room IN EXCLUSIVE MODE")
            _check_unused(connection, address)
            target = Incoming(connection)
            try:
                yield target
                target.finish()
                # A server that was started meanwhile has read what was there before.
                _check_unused(connection, address)
            except BaseException:
                target.abandon()
                raise


def _check_unused(connection: Connection, address: Address) -> None:
    running = connection.execute(_RUNNING, (SILENT_SECONDS,)).fetchone()
    if running is None or running[0]:
        raise StoreError(f"{address.shown} is in use by a server; stop all of them, and import {SILENT_SECONDS} s later")


@contextmanager
def _connected(address: Address) -> Iterator[Connection]:
    """A connection that may take its time."""
    try:
        with closing(connect(address, Patience())) as connection:
            unlimit(connection)
            yield connection
    except (errors.UniqueViolation, errors.ProgramLimitExceeded, psycopg.DataError) as error:
        raise StoreError(f"the import is not a valid log: {error.diag.message_primary or one_line(error)}") from error
    except psycopg.Error as error:
        raise explain(address, error) from error


def _check_steps(connection: Connection, address: Address) -> None:
    taken, known = schema.steps_taken(connection), len(schema.schema_steps())
    schema.check_not_newer(address, taken, known)
    if taken < known:
        raise StoreError(
            f"{address.shown} is of an older version, or empty; run twisted-chat store upgrade, or start the server once"
        )
