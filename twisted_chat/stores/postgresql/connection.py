"""Connections to the database: every wait has a limit, and the outcome of a transaction on a lost connection is never guessed.

All calls block; each connection is used by one thread at a time.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.waiting import Ready, Wait

from twisted_chat.store_contract import StoreError
from twisted_chat.stores.postgresql.address import Address, one_line
from twisted_chat.stores.postgresql.lineage import Lineage

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]

#: Seconds in which a statement has to be answered; after that the database counts as hanging.
ANSWER_SECONDS = 15.0
#: Milliseconds after which the database itself ends a statement, and one that waits for a lock.
STATEMENT_MS = 10_000
#: Milliseconds after which the database ends an idle transaction, so that its locks do not outlive a lost connection.
IDLE_MS = 5_000
#: Milliseconds after which the database ends a transaction in any case, from PostgreSQL 17 on: also one that got a part of its statements.
TRANSACTION_MS = 12_000
#: Seconds for which the database counts as away after a read has failed.
AWAY_SECONDS = 1.0
#: Seconds between two checks whether the store is being closed.
_LOOK_SECONDS = 0.5

_SETTINGS = (
    "SELECT set_config('statement_timeout', %s, false), set_config('idle_in_transaction_session_timeout', %s, false),"
    " CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL THEN set_config('transaction_timeout', %s, false) END,"
    " set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false),"
    " set_config('tcp_keepalives_count', '3', false),"
    " set_config('client_min_messages', 'warning', false), set_config('timezone', 'UTC', false),"
    " CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END"
    " || (SELECT '/' || oid FROM pg_database WHERE datname = current_database()),"
    " current_setting('server_encoding'), current_setting('server_version_num')::int, pg_is_in_recovery()"
)
_UNLIMITED = (
    "SELECT set_config(name, '0', false) FROM pg_settings"
    " WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')"
)
#: The oldest PostgreSQL that is tried, as ``server_version_num``.
OLDEST = 150_000


class NoAnswer(psycopg.OperationalError):
    """The database did not answer in time, and the connection was given up."""


class Patience:
    """How long the connections of a store may wait: once it is being closed, no longer than until its end."""

    def __init__(self) -> None:
        self._end: float | None = None

    def closing(self, seconds: float) -> None:
        """Limit every wait to that time from now on."""
        self._end = monotonic() + seconds

    @property
    def over(self) -> bool:
        return self._end is not None and monotonic() >= self._end

    def until(self, seconds: float) -> float:
        """The time after so many seconds, or the end of the store if that comes first."""
        moment = monotonic() + seconds
        return moment if self._end is None else min(moment, self._end)


class Connection(psycopg.Connection[Row]):
    """A connection that gives up when the database does not answer.

    :ivar patience: of its store.
    """

    patience: Patience | None = None
    answer_seconds = ANSWER_SECONDS

    def wait(self, gen: PQGen[T], interval: float = 0.0, timeout: float | None = None) -> T:
        """Drive ``gen`` until it is done or the time is over; then the connection is closed and :class:`NoAnswer` is raised."""
        patience = self.patience or Patience()
        began = monotonic()
        deadline = began + (self.answer_seconds if timeout is None else timeout)
        try:
            wanted = next(gen)
            poll = select.poll()
            fileno = self.pgconn.socket
            poll.register(fileno, _EVENTS[wanted])
            last = wanted
            while True:
                left = min(deadline - monotonic(), _LOOK_SECONDS)
                found = poll.poll(max(left, 0) * 1000)
                if found:
                    wanted = gen.send(_ready(found[0][1]))
                    if wanted != last:
                        poll.modify(fileno, _EVENTS[wanted])
                        last = wanted
                elif monotonic() >= min(deadline, patience.until(deadline)):
                    self.pgconn.finish()
                    raise NoAnswer(f"no answer within {monotonic() - began:.0f} s")
        except StopIteration as stop:
            value: T = stop.value
            return value

    @property
    def ended(self) -> bool:
        """Whether an idle connection is one no more: the database has something to say, which is that it has ended it."""
        if self.closed:
            return True
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def usable(self) -> bool:
        """Whether the connection is open and in no transaction."""
        return not self.closed and self.pgconn.transaction_status == TransactionStatus.IDLE


_EVENTS = {
    Wait.R: select.POLLIN,
    Wait.W: select.POLLOUT,
    Wait.RW: select.POLLIN | select.POLLOUT,
}


def _ready(events: int) -> Ready:
    if events & ~(select.POLLIN | select.POLLOUT):
        return Ready.RW
    return Ready.RW if events & select.POLLIN and events & select.POLLOUT else Ready.R if events & select.POLLIN else Ready.W


def connect(address: Address, patience: Patience, lineage: Lineage | None = None) -> Connection:
    """A connection in autocommit; :class:`psycopg.Error` if there is none to be had, :class:`StoreError` for a wrong database.

    :param lineage: checks that it is the database of before.
    """
    connection = Connection.connect(address.conninfo, autocommit=True, prepare_threshold=2 if address.prepare else None)
    connection.patience = patience
    try:
        settings = connection.execute(_SETTINGS, (str(STATEMENT_MS), str(IDLE_MS), str(TRANSACTION_MS))).fetchone()
        assert settings is not None
        _check(address, *settings[-3:])
        if lineage is not None:
            lineage.check(connection, settings[-4])
    except BaseException:
        connection.close()
        raise
    return connection


def unlimit(connection: Connection) -> None:
    """Let its statements and transactions take as long as they take: for the command line, and for steps of the schema."""
    connection.answer_seconds = float("inf")
    connection.execute(_UNLIMITED)


def _check(address: Address, encoding: str, version: int, standby: bool) -> None:
    if version < OLDEST:
        raise StoreError(
            f"{address.shown} is PostgreSQL {version // 10_000}, and {OLDEST // 10_000} is needed; use a newer one as --store"
        )
    if encoding != "UTF8":
        raise StoreError(
            f"{address.shown} has the encoding {encoding}; create the database with ENCODING 'UTF8' TEMPLATE template0"
        )
    if standby:
        raise errors.ReadOnlySqlTransaction(f"{address.shown} is a standby, which takes no writes")


def is_lost(connection: psycopg.Connection[Any] | None, error: psycopg.Error) -> bool:
    """Whether the error ended the connection, so that it does not tell what became of the transaction.

    The database ends connections with errors of class 57P (shutdown, crash); a statement that it refused leaves the connection usable.
    """
    if connection is None or connection.closed or connection.broken:
        return True
    return error.sqlstate is None or error.sqlstate.startswith(("57P", "08"))


_CREATE = "create the database, or name another in --store"
_LOGIN = "check the user in --store, the password (PGPASSFILE or ~/.pgpass), and pg_hba.conf"
_FULL = "raise max_connections of the database, or run fewer servers"
#: What helps against an error, by its code or by words in it.
_CURES = {
    "3D000": _CREATE,
    "does not exist": _CREATE,
    "28000": _LOGIN,
    "28P01": _LOGIN,
    "authentication": _LOGIN,
    "no password supplied": _LOGIN,
    "pg_hba.conf": _LOGIN,
    "53300": _FULL,
    "too many clients": _FULL,
    "remaining connection slots": _FULL,
    "42501": "give the user of --store the rights on schema twisted_chat, or run twisted-chat store upgrade as its owner",
    "42601": "report it: a step of the schema is wrong",
}
_CURE = "start the database, or check host and port in --store"


def explain(address: Address, error: psycopg.Error) -> StoreError:
    """The reason why the database cannot be used, and the remedy, in one line."""
    said = one_line(error)
    cure = _CURES.get(error.sqlstate or "")
    if cure is None:
        # What is said while connecting has no code, and is in the language of the database.
        cure = next((cure for words, cure in _CURES.items() if words in said), _CURE)
    return StoreError(f"{address.shown} cannot be used: {said}; {cure}")


@contextmanager
def transaction(connection: Connection, begin: str = "BEGIN") -> Iterator[None]:
    """A transaction, rolled back if the body raises."""
    connection.execute(begin)
    try:
        yield
    except BaseException:
        rollback(connection)
        raise
    connection.execute("COMMIT")


def rollback(connection: Connection) -> None:
    """End a transaction that failed, where there is still one to be ended."""
    if not connection.closed and connection.pgconn.transaction_status != TransactionStatus.IDLE:
        connection.execute("ROLLBACK")


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """A read transaction: all statements in it see the same committed state."""
    with transaction(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
        yield


class Readers:
    """A pool of connections for reading, for any number of threads; each connection is used by one thread at a time."""

    def __init__(self, address: Address, patience: Patience, lineage: Lineage) -> None:
        self._address = address
        self._patience = patience
        self._lineage = lineage
        self._lock = Lock()
        self._idle: list[Connection] = []
        self._closed = False
        #: The last failure, and until when it counts for questions that have waited behind it.
        self._away = ""
        self._away_until = 0.0

    def ask(self, question: Callable[[Connection], T]) -> T:
        """Ask over an idle connection, or a new one.  If an idle one turns out to be lost, ask again: reading may be repeated.

        While the database hangs each failure takes seconds; the questions that have waited meanwhile fail with it.
        """
        if monotonic() < self._away_until:
            raise psycopg.OperationalError(self._away)
        try:
            return self._ask_twice(question)
        except psycopg.Error as error:
            if error.sqlstate is None or error.sqlstate.startswith(("57P", "08")):
                self._away, self._away_until = one_line(error), monotonic() + AWAY_SECONDS
            raise

    def _ask_twice(self, question: Callable[[Connection], T]) -> T:
        connection = self._take()
        if connection is None:
            return self._ask(question, connect(self._address, self._patience, self._lineage))
        try:
            return self._ask(question, connection)
        except psycopg.Error as error:
            if isinstance(error, NoAnswer) or not is_lost(connection, error):
                raise
        self._forget_idle()
        return self._ask(question, connect(self._address, self._patience, self._lineage))

    def _ask(self, question: Callable[[Connection], T], connection: Connection) -> T:
        try:
            return question(connection)
        finally:
            self._give_back(connection)

    def _take(self) -> Connection | None:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if not connection.ended:
                    return connection
                connection.close()
            return None

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed and connection.usable:
                self._idle.append(connection)
                return
        connection.close()

    def _forget_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._forget_idle()
