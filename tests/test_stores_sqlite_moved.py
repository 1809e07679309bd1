"""What the name of the database leads to while a server has it open: a file that is gone must not take messages with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from tests.harness.logs import LoggedEvents
from tests.harness.sqlite_files import SQLiteCase
from tests.store_contract.case import say
from twisted_chat.errors import Unavailable
from twisted_chat.store_contract import Append
from twisted_chat.stores.sqlite import connection
from twisted_chat.stores.sqlite.store import SQLiteStore


class MovedTests(SQLiteCase):
    def moved(self, move: Callable[[str], object]) -> tuple[SQLiteStore, LoggedEvents]:
        """A store with one message whose file something happens to."""
        self.patch(connection, "LOOK_SECONDS", 0.0)
        store = self.opened()
        self.addCleanup(store.close)
        self.say(store, "kept")
        logged = LoggedEvents()
        store.log = Logger("store", observer=logged)
        move(self.path)
        return store, logged

    def assert_refused(self, store: SQLiteStore) -> None:
        for call in (
            lambda: store.append([Append("lobby", [say("lost")])]),
            store.probe,
            lambda: store.read("lobby", 0, 10, 1000),
            lambda: store.room_news(0, 1),
            lambda: store.mark_read("u1", "lobby", 1),
        ):
            self.failureResultOf(call(), Unavailable)

    def test_deleted(self) -> None:
        """Nothing is acknowledged that would be gone with the process; one line for each kind says why and what to do."""
        store, logged = self.moved(os.unlink)

        for _ in range(3):
            self.assert_refused(store)

        self.assertEqual(len(logged), 2)
        for event in logged:
            self.assertIn("no longer under this name", event["cause"])
            self.assertIn("twisted-chat restore", event["cause"])

    def test_directory_moved(self) -> None:
        """When the directory of the database is renamed, messages are refused."""
        store, _ = self.moved(lambda path: os.rename(os.path.dirname(path), os.path.dirname(path) + ".moved"))
        self.addCleanup(lambda: shutil.rmtree(os.path.dirname(self.path) + ".moved", ignore_errors=True))

        self.assert_refused(store)

    def test_another_file(self) -> None:
        """Also a whole database: what it holds is not what was acknowledged."""

        def replace(path: str) -> None:
            shutil.copy(path, path + ".copy")
            os.replace(path + ".copy", path)

        store, logged = self.moved(replace)

        self.assert_refused(store)
        self.assertIn("another file", logged[0]["cause"])

    def test_files_beside_it(self) -> None:
        """Also what SQLite keeps beside the database must stay: the newest commits are only there."""
        for suffix in ("-wal", "-shm"):
            with self.subTest(suffix):
                store, logged = self.moved(lambda path: os.unlink(path + suffix))  # noqa: B023

                self.assert_refused(store)

                self.assertIn(f"{self.path}{suffix}, which belongs to it, is not there", logged[0]["cause"])
                self.successResultOf(store.close())
                os.unlink(self.path)

    def test_newest_commits(self) -> None:
        """What was acknowledged before the write-ahead log was deleted is in the database, also if the server is killed then."""
        store, _ = self.moved(lambda path: os.unlink(path + "-wal"))

        # Nobody sends anything; the server itself looks for revoked tokens every two seconds.
        self.failureResultOf(store.revocations(0, 9), Unavailable)
        copy = self.path + ".copy"
        shutil.copy(self.path, copy)
        killed = self.store(copy)
        self.successResultOf(killed.open())
        self.addCleanup(killed.close)

        self.assertEqual(self.texts(killed), ["kept"])

    def test_moved_back(self) -> None:
        """The same file under its name again: the server goes on, and nothing is missing or doubled."""
        store, logged = self.moved(lambda path: os.rename(path, path + ".away"))
        self.assert_refused(store)

        os.rename(self.path + ".away", self.path)
        self.say(store, "more")

        self.assertEqual(self.texts(store), ["kept", "more"])
        self.assertEqual(logged[-1]["log_level"].name, "info")

    def test_only_read(self) -> None:
        """Touching or reading the file changes nothing."""

        def touch(path: str) -> None:
            Path(path).read_bytes()
            os.utime(path)
            os.chmod(path, 0o600)

        store, _ = self.moved(touch)

        self.say(store, "more")

        self.assertEqual(self.texts(store), ["kept", "more"])
