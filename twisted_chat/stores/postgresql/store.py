"""The store that several servers share: one thread that writes, others that read, and one that listens for changes by other servers.

Blocking calls run in threads, and results arrive in the reactor's.  While the database cannot be reached, calls fail with ``unavailable``;
the store reconnects by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import psycopg
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.bus import Bus, BusMessage, NodeGone, decode_messages, encode_messages
from twisted_chat.errors import Unavailable
from twisted_chat.events import Cursor, Event
from twisted_chat.store_contract import (
    Aged,
    Append,
    Appended,
    Opened,
    Outcome,
    Page,
    Revocations,
    RoomNews,
    RoomRecord,
    TokenRecord,
)
from twisted_chat.stores import pages
from twisted_chat.stores.gathering import Gathered
from twisted_chat.stores.postgresql import accounts, cursors, erasing, queries, tokens, writing
from twisted_chat.stores.postgresql.address import Address, one_line
from twisted_chat.stores.postgresql.bus import PostgreSQLBus
from twisted_chat.stores.postgresql.connection import Connection, Patience, Readers
from twisted_chat.stores.postgresql.feed import Feed
from twisted_chat.stores.postgresql.lineage import Lineage
from twisted_chat.stores.postgresql.schema import schema_steps
from twisted_chat.stores.postgresql.standing_reads import StandingReads
from twisted_chat.stores.postgresql.writer import RETRY_AFTER_MS, Writer
from twisted_chat.stores.random_ids import RandomBytes, random_text
from twisted_chat.stores.sql_accounts import SqlAccounts
from twisted_chat.stores.workers import CallInReactor, Worker

T = TypeVar("T")

#: Seconds that calls in progress may take once the store is being closed.
CLOSE_SECONDS = 5.0
#: Parts of logs that one question reads: some 2 MB at most when readers catch up.
READ_PARTS = 32
#: Characters of the id of a server.
NODE_LENGTH = 12


def make_node_id() -> str:
    """An id for this run of a server."""
    return random_text(secrets.token_bytes, NODE_LENGTH)


def _nothing() -> None:
    """Ends a task that was not started."""


class PostgreSQLStore(StandingReads):
    """The store contract for one database.  The store ends its workers when it is closed or cannot be opened.

    :param clock: the clock for the times of events.
    :param writer: a worker with one thread.
    :param readers: a worker with any number of threads.
    :param feed: notices what other servers write; None if that is not needed.
    :param node: the id of this server, which no other has.
    :param steps: the SQL of the schema; only tests use another one than the project's.
    """

    log = Logger()

    def __init__(
        self,
        address: Address,
        clock: IReactorTime,
        writer: Worker,
        readers: Worker,
        call_in_reactor: CallInReactor,
        random_bytes: RandomBytes = secrets.token_bytes,
        *,
        node: str = "",
        feed: Feed | None = None,
        steps: Sequence[str] | None = None,
    ) -> None:
        self._clock = clock
        self._writer_thread = writer
        self._reader_threads = readers
        self._call_in_reactor = call_in_reactor
        self._address = address
        self._patience = Patience()
        self._lineage = Lineage(lambda reason: call_in_reactor(self._end, reason))
        self._connections = Readers(address, self._patience, self._lineage)
        steps = schema_steps() if steps is None else steps
        self.node = node or make_node_id()
        self._writer = Writer(address, self._patience, self._lineage, self.node, random_bytes, steps)
        self.feed = feed
        if feed is not None:
            feed.lineage = self._lineage
        self._ended: Callable[[str], None] | None = None
        self._secret = b""
        self._open = self._erasing = False
        self._keeping = self._readable = True
        self._marks: Gathered[tuple[str, str], int, int] = Gathered(self._write_marks, max)
        self._reads: Gathered[queries.Part, None, list[Event]] = Gathered(self._read_all, lambda one, other: None, READ_PARTS)
        self._lookups: Gathered[bytes, None, TokenRecord | None] = Gathered(self._look_up, lambda one, other: None)
        self.accounts = SqlAccounts(
            lambda work: self._write(lambda connection: work(accounts.tables(connection)), again=False),
            lambda work: self._read(lambda connection: work(accounts.tables(connection))),
        )

    # -- open and close

    def open(self) -> Deferred[Opened]:
        return self._in_thread(self._writer_thread, self._writer.open).addCallbacks(self._opened, self._not_opened)

    def _opened(self, opened: Opened) -> Opened:
        self._open = True
        self._secret = opened.secret
        for room in opened.rooms:
            if room.head:
                self._lineage.note(room.name, room.head, room.head_id)
        if self._writer.erasing:
            self._erase()
        return opened

    def _not_opened(self, failure: Failure) -> Failure:
        self._finish_workers(None)
        return failure

    def when_ended(self, ended: Callable[[str], None]) -> None:
        """Call ``ended`` with a sentence if the database turns out to be another one than before, so that nothing more can be done."""
        self._ended = ended

    def make_bus(self) -> Bus | None:
        """What carries messages between the servers on this database, which is open; None if it hears nothing of the others."""
        if self.feed is None:
            return None
        return _bus(self.feed, self.node, self._call_in_reactor, self._secret)

    def _end(self, reason: str) -> None:
        if self._ended is not None:
            self._ended(f"{self._address.shown}: {reason}")

    def close(self) -> Deferred[None]:
        if not self._open:
            return succeed(None)
        self._open = False
        self._patience.closing(CLOSE_SECONDS)
        closing = succeed(None) if self.feed is None else self.feed.stop()
        closing.addCallback(lambda _: self._in_thread(self._reader_threads, self._connections.close))
        closing.addCallback(lambda _: self._in_thread(self._writer_thread, self._writer.close))
        return closing.addBoth(self._finish_workers)

    def _finish_workers(self, result: T) -> T:
        self._reader_threads.finish()
        self._writer_thread.finish()
        return result

    # -- the logs

    def append(self, batch: Sequence[Append]) -> Deferred[list[list[Outcome]]]:
        at = int(self._clock.seconds() * 1000)
        return self._do(lambda: self._writer.append(batch, at)).addCallback(self._appended, batch)

    def _appended(self, outcomes: list[list[Outcome]], batch: Sequence[Append]) -> list[list[Outcome]]:
        for append, results in zip(batch, outcomes, strict=True):
            last = next((result.event for result in reversed(results) if type(result) is Appended), None)
            if last is not None:
                self._lineage.note(append.room, last.seq, last.id)
        if self._writer.erasing and not self._erasing:
            self._erase()
        return outcomes

    def _erase(self) -> None:
        """Erase what deletions have left, slice by slice; appends come in between."""
        self._erasing = True
        self._writer.erasing = False
        self._write(erasing.go_on).addCallbacks(self._erased, self._not_erased)

    def _erased(self, more: bool) -> None:
        self._erasing = False
        if more:
            self._erase()

    def _not_erased(self, failure: Failure) -> None:
        # The content is not shown to readers, and the next append or the next start continues.
        self._erasing, self._writer.erasing = False, True

    def read(self, room: str, after: int, limit: int, max_bytes: int) -> Deferred[list[Event]]:
        return self._reads.ask((room, after, limit, max_bytes), None).addCallback(self._note_read, room)

    def _read_all(self, parts: Mapping[queries.Part, None]) -> Deferred[dict[queries.Part, list[Event]]]:
        """All that wait, in one question: what another server has written to many rooms is read in one go."""
        wanted = list(parts)
        reading = self._read(lambda connection: queries.read_all(connection, wanted))
        return reading.addCallback(lambda found: dict(zip(wanted, found, strict=True)))

    def _note_read(self, events: list[Event], room: str) -> list[Event]:
        if events:
            self._lineage.note(room, events[-1].seq, events[-1].id)
        return events

    def page(
        self,
        room: str,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
        reader: str | None = None,
    ) -> Deferred[Page]:
        where = pages.place(limit, before, after, around)
        return self._read(lambda connection: queries.page(connection, room, limit, where, reader))

    def event(self, room: str, seq: int) -> Deferred[Event | None]:
        return self._read(lambda connection: queries.one_event(connection, room, seq))

    def purge(self, room: str, keep_events: int | None, keep_after_ms: int | None) -> Deferred[RoomRecord]:
        return Deferred.fromCoroutine(self._purge(room, keep_events, keep_after_ms))

    async def _purge(self, room: str, keep_events: int | None, keep_after_ms: int | None) -> RoomRecord:
        # One transaction for each step, and appends come in between.
        while await self._write(lambda connection: writing.purge(connection, room, keep_events, keep_after_ms)):
            pass
        return await self._write(lambda connection: writing.record(connection, room))

    def aged(self, before_ms: int, after: Aged | None, limit: int) -> Deferred[list[Aged]]:
        return self._read(lambda connection: queries.aged(connection, before_ms, after, limit))

    def archive(self, room: str, archived: bool) -> Deferred[RoomRecord]:
        return self._write(lambda connection: writing.archive(connection, room, archived))

    def room_news(self, since: int, limit: int) -> Deferred[RoomNews]:
        return self._read(lambda connection: queries.room_news(connection, since, limit))

    def follow(self, on_news: Callable[[Mapping[str, int]], None]) -> Callable[[], None]:
        return _nothing if self.feed is None else self.feed.follow(on_news)

    def record(self, room: str) -> Deferred[RoomRecord]:
        return self._read(lambda connection: writing.record(connection, room))

    def lease(self, name: str, seconds: float) -> Deferred[bool]:
        """Ask for the right to do a task that only one server at a time does; it lasts for so many seconds."""
        return self._write(lambda connection: writing.lease(connection, name, self.node, seconds))

    def load_cursors(self, reader: str) -> Deferred[dict[str, Cursor]]:
        return self._read(lambda connection: cursors.load(connection, reader))

    def save_cursor(self, reader: str, room: str, cursor: Cursor, *, rewind: bool = False) -> Deferred[None]:
        return self._write(lambda connection: cursors.save(connection, reader, room, cursor, rewind))

    def delete_cursors(self, reader: str) -> Deferred[None]:
        return self._write(lambda connection: cursors.delete(connection, reader))

    def probe(self) -> Deferred[None]:
        return self._write(writing.probe)

    # -- read marks

    def mark_read(self, user: str, room: str, seq: int) -> Deferred[int]:
        return self._marks.ask((user, room), seq)

    def _write_marks(self, marks: Mapping[tuple[str, str], int]) -> Deferred[dict[tuple[str, str], int]]:
        return self._write(lambda connection: writing.mark_read(connection, marks))

    def read_marks(self, user: str) -> Deferred[dict[str, int]]:
        return self._read(lambda connection: queries.read_marks(connection, user))

    # -- tokens

    def create_token(self, record: TokenRecord, secret_hash: bytes) -> Deferred[None]:
        return self._write(lambda connection: tokens.create(connection, record, secret_hash), again=False)

    def find_token(self, secret_hash: bytes) -> Deferred[TokenRecord | None]:
        return self._lookups.ask(secret_hash, None)

    def _look_up(self, hashes: Mapping[bytes, None]) -> Deferred[dict[bytes, TokenRecord | None]]:
        """Look up all waiting tokens in one query: with many logins at once, the round trip to the database is most of the cost."""

        def look_up(connection: Connection) -> dict[bytes, TokenRecord | None]:
            return {**dict.fromkeys(hashes), **tokens.find_all(connection, list(hashes))}

        return self._read(look_up)

    def list_tokens(self) -> Deferred[list[TokenRecord]]:
        return self._read(tokens.every)

    def revoke_token(self, token_id: str, now_ms: int) -> Deferred[TokenRecord | None]:
        return self._write(lambda connection: tokens.revoke(connection, token_id, now_ms))

    def revocations(self, since: int, limit: int) -> Deferred[Revocations]:
        return self._read(lambda connection: tokens.revocations(connection, since, limit))

    # -- calls in the threads

    def _write(self, work: Callable[[Connection], T], *, again: bool = True) -> Deferred[T]:
        return self._do(lambda: self._writer.use(work, again=again))

    def _do(self, work: Callable[[], T]) -> Deferred[T]:
        if not self._open:
            return fail(Unavailable("the store is closed"))
        return self._in_thread(self._writer_thread, work).addCallbacks(self._kept, self._not_kept)

    def _kept(self, result: T) -> T:
        if not self._keeping:
            self._keeping = True
            self.log.info("{database} keeps messages again", database=self._address.shown)
        return result

    def _not_kept(self, failure: Failure) -> Failure:
        error = failure.value
        if not isinstance(error, psycopg.Error):
            return failure
        if self._keeping:
            self._keeping = False
            self.log.error("Nothing can be kept in {database}: {cause}", database=self._address.shown, cause=one_line(error))
        return Failure(
            Unavailable("the store cannot keep messages now; try again with the same key", retry_after_ms=RETRY_AFTER_MS)
        )

    def _read(self, question: Callable[[Connection], T]) -> Deferred[T]:
        if not self._open:
            return fail(Unavailable("the store is closed"))
        return self._in_thread(self._reader_threads, lambda: self._connections.ask(question)).addCallbacks(
            self._was_read, self._not_read
        )

    def _was_read(self, result: T) -> T:
        if not self._readable:
            self._readable = True
            self.log.info("{database} can be read again", database=self._address.shown)
        return result

    def _not_read(self, failure: Failure) -> Failure:
        error = failure.value
        if not isinstance(error, psycopg.Error):
            return failure
        if self._readable:
            self._readable = False
            self.log.error("{database} cannot be read: {cause}", database=self._address.shown, cause=one_line(error))
        return Failure(Unavailable("the store cannot be read now; try again", retry_after_ms=RETRY_AFTER_MS))

    def _in_thread(self, worker: Worker, work: Callable[[], T]) -> Deferred[T]:
        """Call the function in the worker's thread; the Deferred fires in the reactor's."""
        answer: Deferred[T] = Deferred()

        def run() -> None:
            try:
                result = work()
            except BaseException:
                self._call_in_reactor(answer.errback, Failure())
            else:
                self._call_in_reactor(answer.callback, result)

        worker.run(run)
        return answer


def _bus(feed: Feed, node: str, call_in_reactor: CallInReactor, secret: bytes) -> PostgreSQLBus[BusMessage]:
    return PostgreSQLBus(feed, node, call_in_reactor, secret, encode=encode_messages, decode=decode_messages, gone=NodeGone)
