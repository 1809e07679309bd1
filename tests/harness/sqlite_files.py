"""A directory with a database in it, and stores on that file; for ``test_stores_sqlite*.py``."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from tempfile import TemporaryDirectory
from typing import TypeVar

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.store_contract.case import say
from twisted_chat.store_contract import Append, StoreError
from twisted_chat.stores.sqlite.database import schema_steps
from twisted_chat.stores.sqlite.store import SQLiteStore
from twisted_chat.stores.workers import AtOnce, Worker, call_at_once

T = TypeVar("T")


#: The steps of a schema, and those of a later version of it.
OLDER = ["\n".join(schema_steps())]
NEWER = [*OLDER, "ALTER TABLE room ADD COLUMN colour TEXT; UPDATE room SET colour = 'green';", "CREATE TABLE more (x);"]


class FileCase(SynchronousTestCase):
    """A directory of its own and the name of a database in it."""

    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = os.path.realpath(directory.name)
        self.path = os.path.join(self.directory, "chat.db")

    def sql(self, *statements: str) -> None:
        """Somebody else's hand on the file."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            for statement in statements:
                other.execute(statement)


class SQLiteCase(FileCase):
    """Stores on that file."""

    def store(self, path: str | None = None, steps: Sequence[str] | None = None, writer: Worker | None = None) -> SQLiteStore:
        return SQLiteStore(path or self.path, Clock(), writer or AtOnce(), AtOnce(), call_at_once, steps=steps)

    def opened(self, steps: Sequence[str] | None = None) -> SQLiteStore:
        """An open store; the test closes it."""
        store = self.store(steps=steps)
        self.successResultOf(store.open())
        return store

    def refusal(self, path: str | None = None, steps: Sequence[str] | None = None) -> str:
        """Why the store does not open: one line."""
        failure = self.failureResultOf(self.store(path, steps).open(), StoreError)
        text = str(failure.value)
        self.assertNotIn("\n", text)
        return text

    def damage(self) -> None:
        """Make a database of some pages, and overwrite ten of them."""
        store = self.opened()
        self.say(store, *(f"{number} {'x' * 1000}" for number in range(100)))
        self.successResultOf(store.close())
        with open(self.path, "r+b") as file:
            file.seek(4096 * 8)
            file.write(b"\xff" * 4096 * 10)

    def say(self, store: SQLiteStore, *texts: str) -> None:
        self.successResultOf(store.append([Append("lobby", [say(text) for text in texts])]))

    def texts(self, store: SQLiteStore) -> list[object]:
        return [getattr(event, "text", None) for event in self.successResultOf(store.read("lobby", 0, 1000, 1_000_000))]
