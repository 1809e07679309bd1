"""The embedded store: one SQLite file, one thread that writes, others that read (docs/decisions/03-group-commit.rst).

Reading never waits for a commit: each reader has its own connection, and in write-ahead mode it sees the last committed state.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.errors import Unavailable
from twisted_chat.events import Cursor, Event
from twisted_chat.store_contract import Aged, Append, Opened, Outcome, Page, Revocations, RoomNews, RoomRecord, TokenRecord
from twisted_chat.stores import pages
from twisted_chat.stores.random_ids import RandomBytes
from twisted_chat.stores.sql_accounts import SqlAccounts
from twisted_chat.stores.sqlite import accounts, cursors, queries, tokens
from twisted_chat.stores.sqlite.asking import Asking
from twisted_chat.stores.sqlite.connection import Readers, Replaced, describe
from twisted_chat.stores.sqlite.database import Database, schema_steps
from twisted_chat.stores.sqlite.writer import Log
from twisted_chat.stores.workers import CallInReactor, Worker

T = TypeVar("T")

#: A read mark that waits to be written: person and room, number, and the Deferred of the caller.
Mark: TypeAlias = tuple[tuple[str, str], int, Deferred[int]]
#: A token that waits to be looked up: its hash, and the Deferred of the caller.
Lookup: TypeAlias = tuple[bytes, Deferred[TokenRecord | None]]


class SQLiteStore(Asking):
    """The store contract for one file.  The store ends its workers when it is closed or cannot be opened.

    :param clock: the clock for the times of events.
    :param writer: a worker with one thread.
    :param readers: a worker with any number of threads.
    :param steps: the SQL of the schema; only tests use another one than the project's.
    """

    log = Logger()

    def __init__(
        self,
        path: str,
        clock: IReactorTime,
        writer: Worker,
        readers: Worker,
        call_in_reactor: CallInReactor,
        random_bytes: RandomBytes = secrets.token_bytes,
        steps: Sequence[str] | None = None,
    ) -> None:
        self._clock = clock
        self._writer = writer
        self._readers = readers
        self._call_in_reactor = call_in_reactor
        self._database = Database(path, random_bytes, schema_steps() if steps is None else steps)
        self._connections = Readers(self._database.path)
        self._open = False
        self._keeping = True
        self._readable = True
        self._marks: list[Mark] = []
        self._marking = False
        self._erasing = False
        self._lookups: list[Lookup] = []
        self._looking_up = False
        self.accounts = SqlAccounts(
            lambda work: self._write(lambda connection, _: work(accounts.tables(connection))),
            lambda work: self._read(lambda connection: work(accounts.tables(connection))),
        )

    # -- open and close

    def open(self) -> Deferred[Opened]:
        return self._in_thread(self._writer, self._database.open).addCallbacks(self._opened, self._not_opened)

    def _opened(self, opened: Opened) -> Opened:
        self._open = True
        self._connections.opened = self._database.opened
        if self._database.erasing:
            self._erase()
        return opened

    def _not_opened(self, failure: Failure) -> Failure:
        self._finish_workers(None)
        return failure

    def close(self) -> Deferred[None]:
        if not self._open:
            return succeed(None)
        self._open = False
        closing = self._in_thread(self._readers, self._connections.close)
        return closing.addCallback(lambda _: self._in_thread(self._writer, self._database.close)).addBoth(self._finish_workers)

    def _finish_workers(self, result: T) -> T:
        self._readers.finish()
        self._writer.finish()
        return result

    # -- the logs

    def append(self, batch: Sequence[Append]) -> Deferred[list[list[Outcome]]]:
        at = int(self._clock.seconds() * 1000)
        return self._write(lambda _, log: (log.append(batch, at), log.erasing)).addCallback(self._appended)

    def _appended(self, result: tuple[list[list[Outcome]], bool]) -> list[list[Outcome]]:
        outcomes, erasing = result
        if erasing and not self._erasing:
            self._erase()
        return outcomes

    def _erase(self) -> None:
        """Erase what deletions have left, slice by slice; appends come in between."""
        self._erasing = True
        self._write(lambda _, log: log.erase()).addCallbacks(self._erased, self._not_erased)

    def _erased(self, more: bool) -> None:
        self._erasing = False
        if more:
            self._erase()

    def _not_erased(self, failure: Failure) -> None:
        # The content is not shown to readers, and the next append or the next start continues.
        self._erasing = False

    def read(self, room: str, after: int, limit: int, max_bytes: int) -> Deferred[list[Event]]:
        return self._read(lambda connection: queries.read(connection, room, after, limit, max_bytes))

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
        return self._read(lambda connection: queries.event(connection, room, seq))

    def purge(self, room: str, keep_events: int | None, keep_after_ms: int | None) -> Deferred[RoomRecord]:
        return Deferred.fromCoroutine(self._purge(room, keep_events, keep_after_ms))

    async def _purge(self, room: str, keep_events: int | None, keep_after_ms: int | None) -> RoomRecord:
        # One transaction for each step, and appends come in between.
        while await self._write(lambda _, log: log.purge(room, keep_events, keep_after_ms)):
            pass
        return await self._write(lambda _, log: log.record(room))

    def aged(self, before_ms: int, after: Aged | None, limit: int) -> Deferred[list[Aged]]:
        return self._read(lambda connection: queries.aged(connection, before_ms, after, limit))

    def archive(self, room: str, archived: bool) -> Deferred[RoomRecord]:
        return self._write(lambda _, log: log.archive(room, archived))

    def room_news(self, since: int, limit: int) -> Deferred[RoomNews]:
        return self._read(lambda connection: queries.room_news(connection, since, limit))

    def follow(self, on_news: Callable[[Mapping[str, int]], None]) -> Callable[[], None]:
        """No other process appends: the lock of the file excludes other servers, and the command line writes no events."""
        return lambda: None

    def load_cursors(self, reader: str) -> Deferred[dict[str, Cursor]]:
        return self._read(lambda connection: cursors.load(connection, reader))

    def save_cursor(self, reader: str, room: str, cursor: Cursor, *, rewind: bool = False) -> Deferred[None]:
        return self._write(lambda connection, _: cursors.save(connection, reader, room, cursor, rewind))

    def delete_cursors(self, reader: str) -> Deferred[None]:
        return self._write(lambda connection, _: cursors.delete(connection, reader))

    def record(self, room: str) -> Deferred[RoomRecord]:
        return self._write(lambda _, log: log.record(room))

    def lease(self, name: str, seconds: float) -> Deferred[bool]:
        """Always taken: the lock of the file keeps every other server away."""
        return succeed(True)

    def probe(self) -> Deferred[None]:
        return self._write(lambda connection, _: _commit_something(connection))

    # -- read marks: those that come while others are being written are the next transaction

    def mark_read(self, user: str, room: str, seq: int) -> Deferred[int]:
        mark: Deferred[int] = Deferred()
        self._marks.append(((user, room), seq, mark))
        if not self._marking:
            self._write_marks()
        return mark

    def _write_marks(self) -> None:
        waiting, self._marks = self._marks, []
        self._marking = bool(waiting)
        if not waiting:
            return
        marks: dict[tuple[str, str], int] = {}
        for place, seq, _ in waiting:
            marks[place] = max(seq, marks.get(place, 0))
        self._write(lambda _, log: log.mark_read(marks)).addCallbacks(
            self._wrote_marks, self._wrote_no_marks, callbackArgs=(waiting,), errbackArgs=(waiting,)
        )

    def _wrote_marks(self, marks: dict[tuple[str, str], int], waiting: list[Mark]) -> None:
        self._write_marks()
        for place, _, mark in waiting:
            mark.callback(marks[place])

    def _wrote_no_marks(self, failure: Failure, waiting: list[Mark]) -> None:
        self._write_marks()
        for _, _, mark in waiting:
            mark.errback(failure)

    def read_marks(self, user: str) -> Deferred[dict[str, int]]:
        return self._read(lambda connection: queries.read_marks(connection, user))

    # -- tokens

    def create_token(self, record: TokenRecord, secret_hash: bytes) -> Deferred[None]:
        return self._write(lambda connection, _: tokens.create(connection, record, secret_hash))

    def find_token(self, secret_hash: bytes) -> Deferred[TokenRecord | None]:
        found: Deferred[TokenRecord | None] = Deferred()
        self._lookups.append((secret_hash, found))
        if not self._looking_up:
            self._look_up()
        return found

    def _look_up(self) -> None:
        """Look up all waiting tokens in one read: with many logins at once, switching between threads is most of the cost."""
        waiting, self._lookups = self._lookups, []
        self._looking_up = bool(waiting)
        if waiting:
            hashes = [secret_hash for secret_hash, _ in waiting]
            self._read(lambda connection: tokens.find_all(connection, hashes)).addCallbacks(
                self._looked_up, self._not_looked_up, callbackArgs=(waiting,), errbackArgs=(waiting,)
            )

    def _looked_up(self, records: Mapping[bytes, TokenRecord], waiting: list[Lookup]) -> None:
        self._look_up()
        for secret_hash, found in waiting:
            found.callback(records.get(secret_hash))

    def _not_looked_up(self, failure: Failure, waiting: list[Lookup]) -> None:
        self._look_up()
        for _, found in waiting:
            found.errback(failure)

    def list_tokens(self) -> Deferred[list[TokenRecord]]:
        return self._read(tokens.every)

    def revoke_token(self, token_id: str, now_ms: int) -> Deferred[TokenRecord | None]:
        return self._write(lambda connection, _: tokens.revoke(connection, token_id, now_ms))

    def revocations(self, since: int, limit: int) -> Deferred[Revocations]:
        return self._read(lambda connection: tokens.revocations(connection, since, limit))

    # -- calls in the threads

    def _write(self, work: Callable[[sqlite3.Connection, Log], T]) -> Deferred[T]:
        if not self._open:
            return fail(Unavailable("the store is closed"))
        return self._in_thread(self._writer, lambda: self._database.use(work)).addCallbacks(self._kept, self._not_kept)

    def _kept(self, result: T) -> T:
        if not self._keeping:
            self._keeping = True
            self.log.info("{path} keeps messages again", path=self._database.path)
        return result

    def _not_kept(self, failure: Failure) -> Failure:
        error = failure.value
        if not isinstance(error, sqlite3.Error):
            return failure
        if self._keeping:
            self._keeping = False
            self.log.error("Nothing can be kept in {path}: {cause}", path=self._database.path, cause=describe(error))
        return Failure(Unavailable("the store cannot keep messages now; try again with the same key"))

    def _read(self, question: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        if not self._open:
            return fail(Unavailable("the store is closed"))
        return self._in_thread(self._readers, lambda: self._connections.ask(question)).addCallbacks(
            self._was_read, self._not_read
        )

    def _was_read(self, result: T) -> T:
        self._readable = True
        return result

    def _not_read(self, failure: Failure) -> Failure:
        error = failure.value
        if not isinstance(error, sqlite3.Error):
            return failure
        if self._readable:
            self._readable = False
            self.log.error("{path} cannot be read: {cause}", path=self._database.path, cause=describe(error))
            if isinstance(error, Replaced):
                # The writer sees it, too, and saves what only it has, even if nobody sends anything.
                self.probe().addErrback(lambda _: None)
        return Failure(Unavailable("the store cannot be read now; try again"))

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


def _commit_something(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO meta VALUES ('probe', 1) ON CONFLICT DO UPDATE SET value = value + 1")
