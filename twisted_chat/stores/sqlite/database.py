"""The database of the one writer: locks, checks and upgrades it, and reconnects after an error.

All calls block, and only one thread may call at a time.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import TypeVar

from twisted_chat.store_contract import Opened, StoreError
from twisted_chat.stores.random_ids import EPOCH_LENGTH, RandomBytes, random_text
from twisted_chat.stores.sqlite.backup import backup
from twisted_chat.stores.sqlite.connection import (
    FileLock,
    OpenedFile,
    Replaced,
    check_version,
    connect_writer,
    damaged,
    explain,
    leaves_connection_usable,
)
from twisted_chat.stores.sqlite.writer import Log

#: "twch" in ASCII.
APPLICATION_ID = 0x74776368

#: Bytes up to which the whole file is checked at each start, in about 0.2 s.  Larger files are checked when they are backed up.
CHECKED_BYTES = 67_108_864

T = TypeVar("T")


def schema_steps() -> list[str]:
    """The SQL of all steps, in order; step ``n`` is the file ``000n_….sql``."""
    names = sorted(
        entry.name for entry in files("twisted_chat.stores").joinpath("schema").iterdir() if entry.name.endswith(".sql")
    )
    for number, name in enumerate(names, 1):
        assert name.startswith(f"{number:04}_"), names
    return [files("twisted_chat.stores").joinpath("schema", name).read_text("utf-8") for name in names]


def upgrade(connection: sqlite3.Connection, path: str, steps: Sequence[str]) -> None:
    """Upgrade the database to the present schema; :class:`StoreError` if it is another program's or newer than this version."""
    taken = steps_taken(connection, path)
    if taken > len(steps):
        raise StoreError(
            f"{path} was written by a newer version (schema {taken}, this one knows {len(steps)}); install that version again, "
            f"or start from the copy that it made: {path}.before-…"
        )
    if 0 < taken < len(steps):
        _keep_copy(path, f"{path}.before-{taken + 1:04}")
    for number in range(taken + 1, len(steps) + 1):
        _apply_step(connection, number, steps[number - 1])


def steps_taken(connection: sqlite3.Connection, path: str) -> int:
    """The number of steps that the database has, 0 if it is new; :class:`StoreError` if it is another program's."""
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [taken] = connection.execute("PRAGMA user_version").fetchone()
    [tables] = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (application or taken or tables):
        raise StoreError(f"{path} is a database of another program; move it away or use another --store")
    return int(taken)


def _keep_copy(path: str, copy: str) -> None:
    """Copy the database; a copy from an earlier attempt is replaced when the new one is complete."""
    backup(path, copy + ".new")
    os.replace(copy + ".new", copy)


def _apply_step(connection: sqlite3.Connection, number: int, sql: str) -> None:
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nPRAGMA application_id = {APPLICATION_ID};\nCOMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class Database:
    """One file.

    :param steps: the SQL of the schema, see :mod:`twisted_chat.stores.sqlite.database`.
    """

    def __init__(self, path: str, random_bytes: RandomBytes, steps: Sequence[str]) -> None:
        # Two names of one file (a symbolic link) must have the same lock.
        self.path = os.path.realpath(path)
        self._random_bytes = random_bytes
        self._steps = steps
        self._lock: FileLock | None = None
        self._connected: tuple[sqlite3.Connection, Log] | None = None
        self._suspect = False
        self._saved = False
        #: The open file; None before :meth:`open`.
        self.opened: OpenedFile | None = None

    def open(self) -> Opened:
        """Lock, check and upgrade the database; :class:`StoreError` if it cannot be used."""
        check_version()
        try:
            self._lock = FileLock(self.path)
            prepare(self.path, self._steps)
            connection, log = self._connected = self._connect()
            make_durable(connection, self.path)
            epoch, secret = _identity(connection, self._random_bytes)
            self.opened = OpenedFile(self.path)
        except StoreError:
            self.close()
            raise
        except sqlite3.Error as error:
            self.close()
            raise explain(self.path, error) from error
        except OSError as error:
            self.close()
            raise unwritable(self.path, error) from error
        rooms = tuple(room.record() for room in log.rooms.values())
        return Opened(epoch, secret, rooms, log.news, log.standing_news)

    @property
    def erasing(self) -> bool:
        """Whether deletions have left something to erase."""
        return self._connected is not None and self._connected[1].erasing

    def use(self, work: Callable[[sqlite3.Connection, Log], T]) -> T:
        """Call the function with the log, over a new connection if an error may have damaged the last one."""
        if self.opened is not None:
            try:
                self.opened.check()
            except Replaced:
                self._save()
                raise
            self._saved = False
        if self._suspect:
            self._replace()
        assert self._connected is not None
        try:
            return work(*self._connected)
        except sqlite3.Error as error:
            self._suspect = not leaves_connection_usable(error)
            raise

    def _save(self) -> None:
        """Copy what is only in the write-ahead log into the database, once: if that log was deleted, it is gone with the process."""
        if self._connected is not None and not self._saved:
            self._saved = True
            with suppress(sqlite3.Error):
                self._connected[0].execute("PRAGMA wal_checkpoint(FULL)")

    def _replace(self) -> None:
        """Open another connection, and read the heads from the file.

        The old connection is closed after the new one is open: while either is open, the index of the write-ahead log exists, which
        does not contain a commit whose fsync failed.  The first to open a closed database reads the whole write-ahead log instead, and
        would find that commit there.
        """
        suspect, self._connected = self._connected, self._connect()
        self._suspect = False
        if suspect is not None:
            suspect[0].close()

    def close(self) -> None:
        connected, self._connected = self._connected, None
        if connected is not None:
            connected[0].close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _connect(self) -> tuple[sqlite3.Connection, Log]:
        connection = connect_writer(self.path)
        try:
            return connection, Log(connection, self._random_bytes)
        except sqlite3.Error:
            connection.close()
            raise


def make_durable(connection: sqlite3.Connection, path: str) -> None:
    """Copy all of the write-ahead log into the database and sync it to disk.

    A start also finds commits whose process was killed before their fsync.  They were not acknowledged, but a retry with the same key
    will be; this makes them durable first.
    """
    [busy, frames, copied] = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    if busy or frames != copied:
        raise StoreError(f"{path} is being read by another process (a backup?); let it finish, then start again")


def unwritable(path: str, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"{path} cannot be written ({error.strerror}); free disk space, or use another --store")
    return StoreError(
        f"{path} cannot be written ({error.strerror}); make {os.path.dirname(path)} a directory that this user may write, "
        "or use another --store"
    )


def prepare(path: str, steps: Sequence[str]) -> None:
    """Create, check or upgrade the database at ``path``, so that it has the present schema.  The caller holds its lock."""
    if os.path.isdir(path):
        raise StoreError(f"{path} is a directory; name a file in it: sqlite:{os.path.join(path, 'chat.db')}")
    # Readable for this user only: it contains messages, and the secret from which ids are derived.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        if os.path.getsize(path) <= CHECKED_BYTES:
            _check(connection, path)
        upgrade(connection, path, steps)
    finally:
        connection.close()


def _check(connection: sqlite3.Connection, path: str) -> None:
    [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise damaged(path, " ".join(found.split()))


def _identity(connection: sqlite3.Connection, random_bytes: RandomBytes) -> tuple[str, bytes]:
    """The epoch and the secret of this database, created if it is new."""
    made = {"epoch": random_text(random_bytes, EPOCH_LENGTH), "secret": random_bytes(32)}
    for name, value in made.items():
        connection.execute("INSERT OR IGNORE INTO meta (name, value) VALUES (?, ?)", (name, value))
    kept = dict(connection.execute("SELECT name, value FROM meta"))
    return kept["epoch"], kept["secret"]
