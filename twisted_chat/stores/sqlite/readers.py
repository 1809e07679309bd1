"""Connections for reading: as many as there are questions at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from twisted_chat.stores.sqlite.connection import connect_reader

T = TypeVar("T")


class Readers:
    """Called by any number of threads; a connection is used by one at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Ask over an idle connection or a new one; one that met an error is not used again."""
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
