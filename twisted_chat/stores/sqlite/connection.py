"""Connections to the database file, and explanations of their errors."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from binascii import b2a_base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import TypeVar
from urllib.parse import quote

from twisted_chat.store_contract import StoreError

T = TypeVar("T")

#: ``->>`` came with 3.38.
SQLITE_FLOOR = (3, 38, 0)

#: Seconds to wait for another process (the command line that makes a token, a backup) to finish its own short commit.
BUSY_SECONDS = 5.0
#: KiB of the writer's page cache: the newest leaves of the log and of the index of keys.  It is small because the operating system
#: caches the file as well, and messages that pass through a room must not stay in the server's memory (with 64 MiB it grew by 74 MB
#: while 50 MB passed).  The cost: with entirely random keys, 11,000 rows/s instead of 32,000 after 400,000 rows, because their leaves
#: are not in this cache; keys that count up, as a program's do, are as fast.
WRITER_CACHE_KIB = 1_024
#: Seconds between two checks whether the database is still under its name.
LOOK_SECONDS = 0.25
#: KiB of each reader's page cache.
READER_CACHE_KIB = 1_024
#: Pages in the write-ahead log before a checkpoint copies them into the database: 16 MiB, so that a checkpoint serves many commits.
CHECKPOINT_PAGES = 4_096
#: Bytes to which the write-ahead log is truncated after a long reader (a backup) made it grow.
WAL_BYTES = 67_108_864


def check_version() -> None:
    """Raise :class:`StoreError` if the SQLite that Python was built with is too old."""
    if sqlite3.sqlite_version_info < SQLITE_FLOOR:
        floor = ".".join(map(str, SQLITE_FLOOR))
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version} is too old, {floor} is needed; use a Python that was built with a newer one"
        )


def connect(path: str, mode: str) -> sqlite3.Connection:
    """A connection in autocommit (``mode``: ``ro``, ``rw``).  One thread at a time uses it, not always the same."""
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False
    )
    connection.create_function("base64", 1, _base64, deterministic=True)
    return connection


def connect_writer(path: str) -> sqlite3.Connection:
    """A connection for writing: in write-ahead mode each commit is one fsync, and readers never wait for it."""
    connection = connect(path, "rw")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # Deleted content is overwritten with zeros.
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connect_reader(path: str) -> sqlite3.Connection:
    connection = connect(path, "ro")
    connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
    return connection


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction, rolled back if the body raises.  ``IMMEDIATE`` waits for other writers at the beginning, not in the middle."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """A read transaction: all statements in it see the same committed state."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def leaves_connection_usable(error: sqlite3.Error) -> bool:
    """Whether the connection can still be used after the error: after a full disk or a lock; after other errors a new one is safer."""
    return primary_code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension, 0 if Python raised the error by itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def describe(error: sqlite3.Error) -> str:
    """The error for the operator's log: its text and SQLite's name for it."""
    return f"{error} ({getattr(error, 'sqlite_errorname', type(error).__name__)})"


def explain(path: str, error: sqlite3.Error) -> StoreError:
    """The error with the reason why the database cannot be opened, and the remedy."""
    match primary_code(error):
        case sqlite3.SQLITE_NOTADB:
            text = f"{path} is not a SQLite database; move it away or use another --store"
        case sqlite3.SQLITE_CORRUPT:
            return damaged(path, str(error))
        case sqlite3.SQLITE_FULL:
            text = f"no space left to write {path}; free some or use another --store"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            text = f"{path} is locked by another process; end it or use another --store"
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            text = f"{path} cannot be opened for writing ({error}); make it and its directory writable or use another --store"
        case _:
            text = f"{path} cannot be used ({describe(error)}); check the disk or use another --store"
    return StoreError(text)


def damaged(path: str, found: str) -> StoreError:
    return StoreError(f"{path} is damaged ({found}); restore a backup, or save what is left with: sqlite3 {path} .recover")


class Replaced(sqlite3.OperationalError):
    """The path of the database names no file, or another file than the server has open."""


#: Files beside the database that belong to it while it is open: the newest commits, and the locks of all processes.
_BESIDE = ("-wal", "-shm")


class OpenedFile:
    """The files at a path when it was opened, identified by device and inode: the database, and those that SQLite keeps beside it.

    A deleted file can be written as long as it is open, but its contents are lost when the process ends.

    The path is checked at most once in :data:`LOOK_SECONDS`: each check releases the interpreter lock, for which the writer's thread
    must then wait while the reactor is busy (a check in each transaction cost a fifth of the durable deliveries).
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._look_at = 0.0
        self._identity = _identity_of(path)
        self._beside = {path + suffix: _identity_of(path + suffix) for suffix in _BESIDE if os.path.exists(path + suffix)}

    def check(self) -> None:
        """Raise :class:`Replaced` unless the path still names these files, or did at a check within :data:`LOOK_SECONDS`."""
        now = monotonic()
        if now < self._look_at:
            return
        try:
            found = _identity_of(self._path)
        except OSError as error:
            raise Replaced(f"the file is no longer under this name: {error.strerror}; {_CURE_REPLACED}") from None
        if found != self._identity:
            raise Replaced(f"another file was put under this name; {_CURE_REPLACED}")
        for path, identity in self._beside.items():
            try:
                found = _identity_of(path)
            except OSError as error:
                raise Replaced(f"{path}, which belongs to it, is not there: {error.strerror}; {_CURE_BESIDE}") from None
            if found != identity:
                raise Replaced(f"another file was put in the place of {path}, which belongs to it; {_CURE_BESIDE}")
        self._look_at = now + LOOK_SECONDS


_CURE_REPLACED = "move it back, or stop the server, put a backup there with twisted-chat restore, and start it again"
_CURE_BESIDE = "move it back, or stop the server with SIGTERM and start it again; messages that were acknowledged are kept"


def _identity_of(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


class InUse(StoreError):
    """Another process has the lock."""


class FileLock:
    """A lock that is held from construction to :meth:`release`; :class:`InUse` if another process has it."""

    def __init__(self, database: str) -> None:
        self._file = os.open(database + ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise InUse(f"{database} is in use by another server (pid {owner}); stop it or use another --store") from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Release the lock; the file stays, because removing it would race with the next server's opening it."""
        os.ftruncate(self._file, 0)
        os.close(self._file)


class Readers:
    """A pool of connections for reading, for any number of threads; each connection is used by one thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        #: Checked before each query; None before the store is open.
        self.opened: OpenedFile | None = None
        self._lock = Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query over an idle connection or a new one; a connection that had an error is not used again."""
        if self.opened is not None:
            self.opened.check()
        connection = self._take()
        try:
            answer = question(connection)
        except sqlite3.Error:
            connection.close()
            raise
        except BaseException:
            self._give_back(connection)
            raise
        self._give_back(connection)
        return answer

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return connect_reader(self._path)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
