"""What is wrong with a database file is said in one line; old files are upgraded."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from tests.harness.sqlite_files import NEWER, OLDER, SQLiteCase
from tests.store_contract.case import delete, edit, raw, say
from twisted_chat.store_contract import Append
from twisted_chat.stores.sqlite import connection
from twisted_chat.stores.sqlite.database import schema_steps

T = TypeVar("T")


class FileTests(SQLiteCase):
    """What is said of a file, and who may read it."""

    def test_a_new_file_is_for_its_user_only(self) -> None:
        """The database and the files beside it can be read by their user only."""
        store = self.opened()
        self.say(store, "private")
        modes = {name: stat.S_IMODE(os.stat(os.path.join(self.directory, name)).st_mode) for name in os.listdir(self.directory)}

        self.assertEqual(modes, dict.fromkeys(["chat.db", "chat.db-wal", "chat.db-shm", "chat.db.lock"], 0o600))
        self.successResultOf(store.close())

    def test_each_commit_waits_for_the_disk(self) -> None:
        """The writer uses write-ahead mode, syncs each commit, and overwrites deleted content."""
        with closing(sqlite3.connect(self.path)):
            pass
        with closing(connection.connect_writer(self.path)) as writer:
            self.assertEqual(writer.execute("PRAGMA journal_mode").fetchone(), ("wal",))
            self.assertEqual(writer.execute("PRAGMA synchronous").fetchone(), (2,))
            self.assertEqual(writer.execute("PRAGMA secure_delete").fetchone(), (1,))

    def test_what_a_killed_server_left_is_on_disk_before_anything_else(self) -> None:
        """Nobody can know whether its last commits were synced; a retry of them must not be acknowledged before they are."""
        store = self.opened()
        self.say(store, "one")
        killed = os.path.join(self.directory, "killed.db")
        for beside in ("", "-wal"):
            shutil.copy(self.path + beside, killed + beside)
        self.successResultOf(store.close())

        again = self.store(killed)
        self.successResultOf(again.open())
        shutil.copy(killed, os.path.join(self.directory, "alone.db"))
        self.successResultOf(again.close())
        with closing(sqlite3.connect(os.path.join(self.directory, "alone.db"))) as alone:
            self.assertEqual(alone.execute("SELECT text FROM event").fetchall(), [("one",)])

    def test_a_reader_of_an_old_state_is_waited_for_and_named(self) -> None:
        """A start is refused while another process reads an old state, and succeeds afterwards."""
        self.patch(connection, "BUSY_SECONDS", 0)
        store = self.opened()
        self.say(store, "one")

        with closing(sqlite3.connect(self.path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM event").fetchall()
            self.say(store, "two")
            self.successResultOf(store.close())
            self.assertEqual(
                self.refusal(), f"{self.path} is being read by another process (a backup?); let it finish, then start again"
            )

        self.successResultOf(self.opened().close())

    def test_deleted_text_is_in_no_file(self) -> None:
        """Not in the database, not in what is beside it; the text of the edit neither, nor binary data."""
        store = self.opened()
        secret, later, data = "5ecret words " * 3, "m0re of them " * 300, b"\xfe binary secret"

        self.successResultOf(
            store.append([Append("lobby", [say(secret), edit(1, later), raw(data), say("harmless"), delete(1), delete(3)])])
        )

        self.say(store, "after")
        self.successResultOf(store.close())

        kept = b"".join(file.read_bytes() for file in Path(self.directory).iterdir())

        self.assertIn(b"harmless", kept)
        for gone in (secret.encode(), later.encode()[:30], data):
            self.assertNotIn(gone, kept)

    def test_a_second_server_is_refused_and_told_who_is_first(self) -> None:
        """A second server is refused with the pid of the first, also by another name of the file."""
        first = self.opened()
        self.say(first, "one")
        link = os.path.join(self.directory, "link.db")

        os.symlink(self.path, link)

        for name in (self.path, link):
            self.assertEqual(
                self.refusal(name),
                f"{self.path} is in use by another server (pid {os.getpid()}); stop it or use another --store",
            )

        self.say(first, "two")
        self.successResultOf(first.close())

        again = self.opened()

        self.assertEqual(self.texts(again), ["one", "two"])
        self.successResultOf(again.close())

    def test_a_refused_file_is_not_locked_for_ever(self) -> None:
        """A refused start releases the lock."""
        self.sql("CREATE TABLE mine (x)")
        self.refusal()

        self.sql("DROP TABLE mine")

        self.successResultOf(self.opened().close())

    def test_no_such_directory(self) -> None:
        """A path in a missing directory is refused with the directory."""
        path = os.path.join(self.directory, "nowhere", "chat.db")
        self.assertEqual(
            self.refusal(path),
            f"{path} cannot be written (No such file or directory); make {os.path.dirname(path)} a directory that this user "
            "may write, or use another --store",
        )

    def test_a_directory_that_may_not_be_written(self) -> None:
        """Not even by root: sysfs."""
        self.assertRegex(self.refusal("/sys/chat.db"), r"^/sys/chat.db cannot be written \(.*\); make /sys a directory")

    def test_the_name_of_a_directory(self) -> None:
        """A path that is a directory is refused with a usable path."""
        os.mkdir(self.path)
        self.assertEqual(self.refusal(), f"{self.path} is a directory; name a file in it: sqlite:{self.path}/chat.db")

    def test_not_a_database(self) -> None:
        """A file that is not SQLite's is refused."""
        with open(self.path, "w") as file:
            file.write("Dear diary,\n" * 1000)
        self.assertEqual(self.refusal(), f"{self.path} is not a SQLite database; move it away or use another --store")

    def test_the_database_of_another_program(self) -> None:
        """A database with other tables is refused."""
        self.sql("CREATE TABLE bookmarks (url TEXT)")
        self.assertEqual(self.refusal(), f"{self.path} is a database of another program; move it away or use another --store")

    def test_a_damaged_database(self) -> None:
        """A database with overwritten pages is refused with the ways to repair it."""
        self.damage()

        self.assertRegex(
            self.refusal(), rf"^{self.path} is damaged \(.+\); restore a backup, or save what is left with: sqlite3 "
        )

    def test_a_truncated_database(self) -> None:
        """A truncated database is refused as damaged."""
        store = self.opened()
        self.say(store, *(f"{number} {'x' * 1000}" for number in range(100)))

        self.successResultOf(store.close())

        os.truncate(self.path, os.path.getsize(self.path) // 2)
        self.assertRegex(self.refusal(), rf"^{self.path} is damaged \(.+\); restore a backup, or save")

    def test_an_old_sqlite(self) -> None:
        """A SQLite that is too old is refused before any file is made."""
        self.patch(sqlite3, "sqlite_version_info", (3, 37, 2))
        self.patch(sqlite3, "sqlite_version", "3.37.2")

        self.assertEqual(
            self.refusal(), "SQLite 3.37.2 is too old, 3.38.0 is needed; use a Python that was built with a newer one"
        )
        self.assertEqual(os.listdir(self.directory), [])


class UpgradeTests(SQLiteCase):
    def made_by_the_older(self) -> None:
        store = self.opened(OLDER)
        self.say(store, "one")
        self.successResultOf(store.close())

    def version(self, path: str) -> int:
        with closing(sqlite3.connect(path)) as other:
            return int(other.execute("PRAGMA user_version").fetchone()[0])

    def test_the_project_has_steps(self) -> None:
        self.assertGreaterEqual(len(schema_steps()), 1)

    def test_steps_forward_keep_the_log_and_a_copy(self) -> None:
        """An upgrade keeps the log and a copy of the old database, which the older version can open."""
        self.made_by_the_older()
        store = self.opened(NEWER)
        self.assertEqual(self.texts(store), ["one"])
        self.say(store, "two")
        self.successResultOf(store.close())
        self.assertEqual(self.version(self.path), 3)
        with closing(sqlite3.connect(self.path)) as other:
            self.assertEqual(other.execute("SELECT colour FROM room").fetchall(), [("green",)])

        copy = self.path + ".before-0002"
        self.assertEqual(sorted(os.listdir(self.directory)), ["chat.db", "chat.db.before-0002", "chat.db.lock"])
        self.assertEqual(self.version(copy), 1)
        os.replace(copy, self.path)
        restored = self.opened(OLDER)
        self.assertEqual(self.texts(restored), ["one"])
        self.successResultOf(restored.close())

    def test_a_step_that_fails_is_undone(self) -> None:
        """A failing step leaves the database at the old schema."""
        self.made_by_the_older()
        broken = [*OLDER, "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1);"]

        self.assertIn("cannot be used (no such table: nowhere", self.refusal(steps=broken))
        self.assertEqual(self.version(self.path), 1)

        store = self.opened(NEWER)

        self.assertEqual(self.texts(store), ["one"])
        self.successResultOf(store.close())

    def test_a_newer_database_is_left_alone(self) -> None:
        """A database of a newer schema is refused and not changed."""
        self.made_by_the_older()

        self.successResultOf(self.opened(NEWER).close())
        self.assertEqual(
            self.refusal(steps=OLDER),
            f"{self.path} was written by a newer version (schema 3, this one knows 1); install that version again, or start "
            f"from the copy that it made: {self.path}.before-…",
        )
        self.assertEqual(self.version(self.path), 3)

    def test_a_new_database_takes_all_steps_and_needs_no_copy(self) -> None:
        self.successResultOf(self.opened(NEWER).close())
        self.assertEqual(self.version(self.path), 3)
        self.assertEqual(sorted(os.listdir(self.directory)), ["chat.db", "chat.db.lock"])
