"""Replaces the database with a backup."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from typing import NamedTuple

from twisted_chat.store_contract import StoreError
from twisted_chat.stores.random_ids import EPOCH_LENGTH, RandomBytes, random_text
from twisted_chat.stores.sqlite.backup import backup, sync_directory
from twisted_chat.stores.sqlite.connection import FileLock, connect, explain
from twisted_chat.stores.sqlite.database import steps_taken

#: SQLite keeps these files beside a database; those of another database would be applied to it, or hide its contents.
_BESIDE = ("-wal", "-shm", "-journal")


class Restored(NamedTuple):
    """The result of a restore.

    :ivar replaced: the path to which the old database was moved; None if there was none.
    """

    path: str
    replaced: str | None


def restore(backup_path: str, target_path: str, stamp: str, random_bytes: RandomBytes) -> Restored:
    """Replace the database at ``target_path`` with a checked copy of the backup, and keep the replaced one beside it.

    The copy has another epoch, so that clients notice that the log does not continue where they stopped reading.
    Raises :class:`StoreError` if a server uses the database or the backup cannot be used; then nothing has changed.

    :param stamp: part of the name of the replaced database: ``chat.db.replaced-STAMP``.
    """
    path = os.path.realpath(target_path)
    if not os.path.isfile(backup_path):
        raise StoreError(f"{backup_path}: there is no such file; name a copy that twisted-chat backup has made")
    if os.path.realpath(backup_path) == path:
        raise StoreError(f"{backup_path} is the database itself; name a copy that twisted-chat backup has made")
    fresh = f"{path}.restoring"
    replaced = f"{path}.replaced-{stamp}"
    try:
        lock = FileLock(path)
    except OSError as error:
        raise StoreError(f"{path}.lock cannot be written ({error.strerror}); run this as the server's user") from error
    try:
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        backup(backup_path, fresh)
        _begin_epoch(fresh, random_bytes)
        return Restored(path, replaced if _exchange(path, fresh, replaced) else None)
    except OSError as error:
        raise StoreError(f"{path} cannot be replaced ({error.strerror}); make its directory writable") from error
    finally:
        for name in (fresh, *(fresh + suffix for suffix in _BESIDE)):
            with suppress(FileNotFoundError):
                os.unlink(name)
        lock.release()


def _begin_epoch(path: str, random_bytes: RandomBytes) -> None:
    try:
        with closing(connect(path, "rw")) as connection:
            if not steps_taken(connection, path):
                raise StoreError(f"{path} is an empty database; name a copy that twisted-chat backup has made")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("UPDATE meta SET value = ? WHERE name = 'epoch'", (random_text(random_bytes, EPOCH_LENGTH),))
    except sqlite3.Error as error:
        raise explain(path, error) from error


def _exchange(path: str, fresh: str, replaced: str) -> bool:
    """Rename the new database to its final name; returns whether there was another one, which is kept."""
    there = os.path.lexists(path)
    if there:
        _settle(path)
        owner = os.stat(path)
        with suppress(PermissionError):
            os.chown(fresh, owner.st_uid, owner.st_gid)
        os.link(path, replaced)
    for suffix in _BESIDE:
        with suppress(FileNotFoundError):
            os.rename(path + suffix, replaced + suffix)
    os.replace(fresh, path)
    sync_directory(path)
    return there


def _settle(path: str) -> None:
    """Copy the write-ahead log into the replaced database, so that its file has everything; a damaged database stays as it is."""
    with suppress(sqlite3.Error), closing(connect(path, "rw")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
