"""A copy of the database, also while a server writes to it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress

from twisted_chat.store_contract import StoreError
from twisted_chat.stores.sqlite.connection import connect, describe, primary_code


def backup(source_path: str, target_path: str) -> None:
    """Copy one committed state of the database, check the copy, and only then give it its name.

    A server may continue to write.  Raises :class:`StoreError` if ``target_path`` exists or copying failed; then no file is left.
    """
    if os.path.exists(target_path):
        raise StoreError(f"{target_path} exists; move it away or choose another name")
    partial = target_path + ".partial"
    try:
        _copy(source_path, partial)
        os.link(partial, target_path)  # unlike a rename, it fails if another process took the name meanwhile
        sync_directory(target_path)
    except sqlite3.Error as error:
        if primary_code(error) == sqlite3.SQLITE_NOTADB:
            raise StoreError(f"{source_path} is not a SQLite database; name another file") from error
        raise StoreError(
            f"{source_path} could not be copied to {target_path}: {describe(error)}; free space or check the disk"
        ) from error
    except OSError as error:
        raise StoreError(f"{target_path} cannot be written ({error.strerror}); choose another place") from error
    finally:
        for name in (partial, partial + "-journal", partial + "-wal", partial + "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(name)


def _copy(source_path: str, partial: str) -> None:
    os.close(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
    with closing(connect(source_path, "rw")) as source, closing(connect(partial, "rw")) as target:
        # Opened for writing, because a read-only connection leaves its shared memory beside the file; it writes nothing.
        source.execute("PRAGMA query_only = ON")
        # All pages in one step: with several steps, each commit of a server would restart the copy.
        source.backup(target, pages=-1)
        target.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
        [found] = target.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise StoreError(f"{source_path} is damaged ({found}); restore a backup")
    file = os.open(partial, os.O_RDWR)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_directory(path: str) -> None:
    """Sync the directory of ``path`` to disk."""
    directory = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
