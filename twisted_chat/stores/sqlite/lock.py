"""One server per database file.

A lock file beside the database, because any close of the database file itself would drop SQLite's own POSIX locks.  The
kernel lets go of a ``flock`` when the process ends, however it ends; what the file says (a process id) is for people only.
"""

from __future__ import annotations

import fcntl
import os

from twisted_chat.interfaces import StoreError


class InUse(StoreError):
    """Another process has the lock."""


class FileLock:
    """Held from construction to :meth:`release`; :class:`InUse` if somebody else has it."""

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
        """Let go; the file stays, because removing it would race with the next server's opening it."""
        os.ftruncate(self._file, 0)
        os.close(self._file)
