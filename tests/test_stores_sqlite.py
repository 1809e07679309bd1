"""The SQLite store keeps the store contract over restarts, commits all or nothing, and says what is wrong with a file."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests import store_contract
from tests.store_contract import ALICE, BOB, delete, edit, raw, reaction, say, token
from twisted_chat.errors import Conflict, Unavailable
from twisted_chat.events import NewMessage, NewReaction
from twisted_chat.interfaces import Append, Appended, Duplicate, StoreError
from twisted_chat.stores import common
from twisted_chat.stores.sqlite import append, connection, database, queries, writer
from twisted_chat.stores.sqlite.admin import SharedTokens
from twisted_chat.stores.sqlite.backup import backup
from twisted_chat.stores.sqlite.database import schema_steps
from twisted_chat.stores.sqlite.store import SQLiteStore
from twisted_chat.stores.workers import AtOnce, Work, Worker, call_at_once

T = TypeVar("T")


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

    def say(self, store: SQLiteStore, *texts: str) -> None:
        self.successResultOf(store.append([Append("lobby", [say(text) for text in texts])]))

    def texts(self, store: SQLiteStore) -> list[object]:
        return [getattr(event, "text", None) for event in self.successResultOf(store.read("lobby", 0, 1000, 1_000_000))]


class SQLiteStoreTests(FileCase, store_contract.DurableContract):
    def setUp(self) -> None:
        FileCase.setUp(self)
        store_contract.DurableContract.setUp(self)

    def make_store(self) -> SQLiteStore:
        return SQLiteStore(self.path, self.clock, AtOnce(), AtOnce(), call_at_once, self.randomness.randbytes)


class SmallStepsTests(SQLiteStoreTests):
    """The contract again, with so small bounds that every batch and every purge takes several statements."""

    histories = 4

    def setUp(self) -> None:
        self.patch(writer, "PURGE_EVENTS", 2)
        self.patch(writer, "STATEMENT_ROWS", 2)
        self.patch(append, "STATEMENT_ROWS", 2)
        super().setUp()


class StatementTests(SQLiteCase):
    """What a commit costs is how often it waits for the interpreter lock: once per statement."""

    def setUp(self) -> None:
        super().setUp()
        self.statements: list[str] = []
        connect = connection.connect_writer

        def connect_and_listen(path: str) -> sqlite3.Connection:
            writer = connect(path)
            writer.set_trace_callback(self.statements.append)
            return writer

        self.patch(database, "connect_writer", connect_and_listen)
        self.kept = self.opened()
        self.addCleanup(lambda: self.kept.close())
        self.say(self.kept, "makes the room")
        self.successResultOf(self.kept.append([Append("other", [say("makes the room")])]))
        self.statements.clear()

    def counted(self, *batch: Append) -> int:
        self.statements.clear()
        self.successResultOf(self.kept.append(batch))
        return len(self.statements)

    def test_new_messages_are_one_statement(self) -> None:
        new_events = [say(str(number), key=f"k{number}") for number in range(1000)]
        self.assertEqual(self.counted(Append("lobby", new_events)), 1)
        new_events = [say(str(number), BOB, key=f"k{number}") for number in range(1000)]
        self.assertEqual(self.counted(Append("lobby", new_events), Append("other", new_events)), 1)

    def test_repeated_keys_cost_a_handful_not_one_each(self) -> None:
        new_events = [say(str(number), key=f"k{number}") for number in range(1000)]
        self.counted(Append("lobby", new_events[:500]))
        # The attempt, begin, which are repeated, the rest, commit.
        self.assertEqual(self.counted(Append("lobby", new_events)), 5)

    def test_binary_costs_no_more_statements_than_begin_and_commit(self) -> None:
        new_events: list[NewMessage] = [raw(bytes([number])) for number in range(200)] + [say("NUL \x00")] * 200
        self.assertEqual(self.counted(Append("lobby", new_events)), 3)
        self.assertEqual(self.counted(Append("lobby", [say("NUL \x00")] * 200)), 1)

    def test_nothing_to_keep_is_no_statement(self) -> None:
        self.assertEqual(self.counted(Append("lobby", [])), 0)

    def test_the_search_for_repeated_keys_uses_the_index(self) -> None:
        with closing(connection.connect(self.path, "ro")) as reader:
            plan = reader.execute(f"EXPLAIN QUERY PLAN {append._REPEATED}", {"rows": "[]", "packed": b""}).fetchall()
        self.assertIn("SEARCH e USING INDEX event_key (room=? AND author=? AND key=?)", [step[-1] for step in plan])


class AllOrNothingTests(SQLiteCase):
    def setUp(self) -> None:
        super().setUp()
        self.kept = self.opened()
        self.addCleanup(lambda: self.kept.close())
        self.say(self.kept, "one", "two")

    def fail_at(self, text: str) -> None:
        self.sql(
            f"CREATE TRIGGER fail BEFORE INSERT ON event WHEN new.text = '{text}'"
            " BEGIN SELECT RAISE(ABORT, 'a disk that fails'); END"
        )

    def test_a_failure_in_the_middle_of_a_batch_changes_nothing_and_passes(self) -> None:
        """Neither rooms, nor messages, nor amendments, nor topics of the batch are there; the next one is numbered as if
        nothing had been."""
        self.fail_at("three")
        batch = [
            Append("new", [say("x")]),
            Append("lobby", [edit(1, "changed"), reaction(2), delete(2), say("before", key="k"), say("three"), say("after")]),
        ]
        before = self.successResultOf(self.kept.page("lobby", 10))
        self.failureResultOf(self.kept.append(batch), Unavailable)
        self.assertEqual(self.texts(self.kept), ["one", "two"])
        self.assertEqual(self.successResultOf(self.kept.page("lobby", 10)), before)
        self.assertEqual(self.successResultOf(self.kept.read("new", 0, 10, 10)), [])

        self.sql("DROP TRIGGER fail")
        [new, lobby] = self.successResultOf(self.kept.append(batch))
        self.assertEqual({type(outcome) for outcome in new + lobby}, {Appended})
        self.assertEqual(self.texts(self.kept), ["one", None, "changed", None, None, "before", "three", "after"])
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_a_failure_in_the_one_statement_of_new_messages(self) -> None:
        self.fail_at("four")
        self.failureResultOf(self.kept.append([Append("lobby", [say("three"), say("four")])]), Unavailable)
        self.sql("DROP TRIGGER fail")
        [[outcome]] = self.successResultOf(self.kept.append([Append("lobby", [say("three")])]))
        assert isinstance(outcome, Appended)
        self.assertEqual(outcome.event.seq, 3)

    def test_the_operator_reads_of_it_once_and_of_its_end(self) -> None:
        events: list[LogEvent] = []
        self.patch(SQLiteStore, "log", Logger(observer=cast(ILogObserver, events.append)))
        self.fail_at("three")
        for _ in range(3):
            failure = self.failureResultOf(self.kept.append([Append("lobby", [say("three")])]), Unavailable)
            self.assertEqual(str(failure.value), "the store cannot keep messages now; try again with the same key")
        self.sql("DROP TRIGGER fail")
        self.say(self.kept, "three", "four")
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                f"Nothing can be kept in {self.path}: a disk that fails (SQLITE_CONSTRAINT_TRIGGER)",
                f"{self.path} keeps messages again",
            ],
        )

    def test_locked_by_another_process_beyond_patience(self) -> None:
        """Writing fails, reading goes on, and when the lock is gone so is the trouble."""
        self.patch(connection, "BUSY_SECONDS", 0)
        self.successResultOf(self.kept.close())
        self.kept = self.opened()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.failureResultOf(self.kept.append([Append("lobby", [say("three")])]), Unavailable)
        self.failureResultOf(self.kept.append([Append("new", [say("x")])]), Unavailable)
        self.failureResultOf(self.kept.probe(), Unavailable)
        self.failureResultOf(self.kept.mark_read("u1", "lobby", 1), Unavailable)
        self.assertEqual(self.texts(self.kept), ["one", "two"])
        other.execute("ROLLBACK")
        self.successResultOf(self.kept.probe())
        self.say(self.kept, "three")
        self.assertEqual(self.texts(self.kept), ["one", "two", "three"])

    def test_numbers_that_no_file_can_hold(self) -> None:
        """A client may name any integer; it finds nothing and breaks nothing."""
        for number in (2**53, 2**63, 2**100, -(2**100)):
            self.assertIsNone(self.successResultOf(self.kept.event("lobby", number)))
            self.successResultOf(self.kept.read("lobby", number, 10, 10))
            for place in ("before", "after", "around"):
                page = self.successResultOf(self.kept.page("lobby", 10, **{place: number}))
                self.assertEqual(page.head, 2)
            self.successResultOf(self.kept.mark_read("u1", "lobby", number))
            [[outcome, _]] = self.successResultOf(
                self.kept.append([Append("lobby", [delete(number), say("x", reply_to=number)])])
            )
            self.assertNotIsInstance(outcome, Appended)
            self.purge_to_two()

    def purge_to_two(self) -> None:
        self.successResultOf(self.kept.close())
        self.sql("DELETE FROM event WHERE seq > 2")
        self.kept = self.opened()


class ByHand:
    """A worker that works when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Work] = []

    def do(self, work: Work) -> None:
        self.waiting.append(work)

    def quit(self) -> None:
        pass

    def go(self) -> None:
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()


class WaitingTests(SQLiteCase):
    """What happens between asking and the worker's answer."""

    def setUp(self) -> None:
        super().setUp()
        self.writer = ByHand()
        self.kept = self.store(writer=self.writer)
        self.now(self.kept.open())
        self.now(self.kept.append([Append("lobby", [say(str(number)) for number in range(9)])]))

    def tearDown(self) -> None:
        self.now(self.kept.close())

    def now(self, answer: Deferred[T]) -> T:
        while self.writer.waiting:
            self.writer.go()
        return self.successResultOf(answer)

    def test_marks_that_come_meanwhile_are_one_transaction(self) -> None:
        first = self.kept.mark_read("u1", "lobby", 1)
        others = [self.kept.mark_read(f"u{number % 3}", "lobby", number) for number in range(2, 8)]
        self.assertEqual(len(self.writer.waiting), 1)
        self.writer.go()
        self.assertEqual(self.successResultOf(first), 1)
        self.assertEqual(len(self.writer.waiting), 1)
        self.writer.go()
        self.assertEqual([self.successResultOf(mark) for mark in others], [5, 6, 7, 5, 6, 7])
        self.assertEqual(self.writer.waiting, [])

    def test_appends_need_not_wait_for_one_another(self) -> None:
        answers = [self.kept.append([Append("lobby", [say("x", key=key)])]) for key in ("a", "b", "a")]
        self.writer.go()
        outcomes = [self.successResultOf(answer)[0][0] for answer in answers]
        self.assertEqual([type(outcome) for outcome in outcomes], [Appended, Appended, Duplicate])

    def test_a_long_purge_lets_appends_in_between(self) -> None:
        self.patch(writer, "PURGE_EVENTS", 2)
        purged = self.kept.purge("lobby", 1, None)
        self.writer.go()
        appended = self.kept.append([Append("lobby", [say("between")])])
        self.writer.go()
        self.successResultOf(appended)
        self.assertNoResult(purged)
        while self.writer.waiting:
            self.writer.go()
        self.assertEqual(self.successResultOf(purged).first, 10)

    def test_closing_finishes_what_is_under_way(self) -> None:
        appended = self.kept.append([Append("lobby", [say("last")])])
        closed = self.kept.close()
        self.assertNoResult(closed)
        self.writer.go()
        self.successResultOf(appended)
        self.successResultOf(closed)
        self.failureResultOf(self.kept.append([Append("lobby", [say("too late")])]), Unavailable)
        self.assertEqual(self.texts(self.opened_again())[-1], "last")

    def opened_again(self) -> SQLiteStore:
        store = self.opened()
        self.addCleanup(store.close)
        return store


class FileTests(SQLiteCase):
    """What is said of a file, and who may read it."""

    def test_a_new_file_is_for_its_user_only(self) -> None:
        store = self.opened()
        self.say(store, "private")
        modes = {name: stat.S_IMODE(os.stat(os.path.join(self.directory, name)).st_mode) for name in os.listdir(self.directory)}
        self.assertEqual(modes, dict.fromkeys(["chat.db", "chat.db-wal", "chat.db-shm", "chat.db.lock"], 0o600))
        self.successResultOf(store.close())

    def test_each_commit_waits_for_the_disk(self) -> None:
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
        self.sql("CREATE TABLE mine (x)")
        self.refusal()
        self.sql("DROP TABLE mine")
        self.successResultOf(self.opened().close())

    def test_no_such_directory(self) -> None:
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
        os.mkdir(self.path)
        self.assertEqual(self.refusal(), f"{self.path} is a directory; name a file in it: sqlite:{self.path}/chat.db")

    def test_not_a_database(self) -> None:
        with open(self.path, "w") as file:
            file.write("Dear diary,\n" * 1000)
        self.assertEqual(self.refusal(), f"{self.path} is not a SQLite database; move it away or use another --store")

    def test_the_database_of_another_program(self) -> None:
        self.sql("CREATE TABLE bookmarks (url TEXT)")
        self.assertEqual(self.refusal(), f"{self.path} is a database of another program; move it away or use another --store")

    def test_a_damaged_database(self) -> None:
        store = self.opened()
        self.say(store, *(f"{number} {'x' * 1000}" for number in range(100)))
        self.successResultOf(store.close())
        with open(self.path, "r+b") as file:
            file.seek(4096 * 8)
            file.write(b"\xff" * 4096 * 10)
        self.assertRegex(
            self.refusal(), rf"^{self.path} is damaged \(.+\); restore a backup, or save what is left with: sqlite3 "
        )

    def test_a_truncated_database(self) -> None:
        store = self.opened()
        self.say(store, *(f"{number} {'x' * 1000}" for number in range(100)))
        self.successResultOf(store.close())
        os.truncate(self.path, os.path.getsize(self.path) // 2)
        self.assertRegex(self.refusal(), rf"^{self.path} is damaged \(.+\); restore a backup, or save")

    def test_an_old_sqlite(self) -> None:
        self.patch(sqlite3, "sqlite_version_info", (3, 37, 2))
        self.patch(sqlite3, "sqlite_version", "3.37.2")
        self.assertEqual(
            self.refusal(), "SQLite 3.37.2 is too old, 3.38.0 is needed; use a Python that was built with a newer one"
        )
        self.assertEqual(os.listdir(self.directory), [])


class UpgradeTests(SQLiteCase):
    older = schema_steps()[:1]
    newer = [*older, "ALTER TABLE room ADD COLUMN colour TEXT; UPDATE room SET colour = 'green';", "CREATE TABLE more (x);"]

    def made_by_the_older(self) -> None:
        store = self.opened(self.older)
        self.say(store, "one")
        self.successResultOf(store.close())

    def version(self, path: str) -> int:
        with closing(sqlite3.connect(path)) as other:
            return int(other.execute("PRAGMA user_version").fetchone()[0])

    def test_the_project_has_steps(self) -> None:
        self.assertGreaterEqual(len(schema_steps()), 1)

    def test_steps_forward_keep_the_log_and_a_copy(self) -> None:
        self.made_by_the_older()
        store = self.opened(self.newer)
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
        restored = self.opened(self.older)
        self.assertEqual(self.texts(restored), ["one"])
        self.successResultOf(restored.close())

    def test_a_step_that_fails_is_undone(self) -> None:
        self.made_by_the_older()
        broken = [*self.older, "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1);"]
        self.assertIn("cannot be used (no such table: nowhere", self.refusal(steps=broken))
        self.assertEqual(self.version(self.path), 1)
        store = self.opened(self.newer)
        self.assertEqual(self.texts(store), ["one"])
        self.successResultOf(store.close())

    def test_a_newer_database_is_left_alone(self) -> None:
        self.made_by_the_older()
        self.successResultOf(self.opened(self.newer).close())
        self.assertEqual(
            self.refusal(steps=self.older),
            f"{self.path} was written by a newer version (schema 3, this one knows 1); install that version again, or start "
            f"from the copy that it made: {self.path}.before-…",
        )
        self.assertEqual(self.version(self.path), 3)

    def test_a_new_database_takes_all_steps_and_needs_no_copy(self) -> None:
        self.successResultOf(self.opened(self.newer).close())
        self.assertEqual(self.version(self.path), 3)
        self.assertEqual(sorted(os.listdir(self.directory)), ["chat.db", "chat.db.lock"])


class BackupTests(SQLiteCase):
    def test_a_copy_while_a_server_writes(self) -> None:
        store = self.opened()
        self.say(store, "one", "two")
        target = os.path.join(self.directory, "copy.db")
        backup(self.path, target)
        self.say(store, "three")
        self.successResultOf(store.close())
        self.assertEqual(stat.S_IMODE(os.stat(target).st_mode), 0o600)
        self.assertEqual(sorted(os.listdir(self.directory)), ["chat.db", "chat.db.lock", "copy.db"])
        restored = self.store(target)
        self.successResultOf(restored.open())
        self.assertEqual(self.texts(restored), ["one", "two"])
        self.successResultOf(restored.close())

    def test_a_restored_copy_goes_on_under_other_ids(self) -> None:
        """So that a cursor of the lost future is noticed."""
        store = self.opened()
        self.say(store, "one")
        target = os.path.join(self.directory, "copy.db")
        backup(self.path, target)
        self.say(store, "two")
        lost = self.successResultOf(store.event("lobby", 2))
        self.successResultOf(store.close())
        os.replace(target, self.path)
        restored = self.opened()
        self.say(restored, "another two")
        found = self.successResultOf(restored.event("lobby", 2))
        assert lost is not None
        assert found is not None
        self.assertNotEqual(found.id, lost.id)
        self.successResultOf(restored.close())

    def failed(self, source: str, target: str) -> str:
        before = sorted(os.listdir(self.directory))
        error = self.assertRaises(StoreError, backup, source, target)
        self.assertEqual(sorted(os.listdir(self.directory)), before)
        return str(error)

    def test_nothing_is_overwritten(self) -> None:
        self.successResultOf(self.opened().close())
        self.assertEqual(self.failed(self.path, self.path), f"{self.path} exists; move it away or choose another name")

    def test_no_source(self) -> None:
        self.assertIn("could not be copied", self.failed(self.path, os.path.join(self.directory, "copy.db")))

    def test_a_target_that_cannot_be_written(self) -> None:
        self.successResultOf(self.opened().close())
        target = os.path.join(self.directory, "nowhere", "copy.db")
        self.assertEqual(
            self.failed(self.path, target), f"{target} cannot be written (No such file or directory); choose another place"
        )

    def test_a_damaged_database_is_no_backup(self) -> None:
        store = self.opened()
        self.say(store, *(f"{number} {'x' * 1000}" for number in range(100)))
        self.successResultOf(store.close())
        with open(self.path, "r+b") as file:
            file.seek(4096 * 8)
            file.write(b"\xff" * 4096 * 10)
        self.assertIn("is damaged", self.failed(self.path, os.path.join(self.directory, "copy.db")))


class SharedTokensTests(SQLiteCase):
    """The command line beside a server."""

    def shared(self, steps: Sequence[str] | None = None) -> SharedTokens:
        tokens = SharedTokens(self.path, steps)
        self.successResultOf(tokens.open())
        return tokens

    def test_the_server_sees_what_the_command_line_does(self) -> None:
        store = self.opened()
        self.addCleanup(store.close)
        tokens = self.shared()
        self.successResultOf(tokens.create_token(token(1), b"1" * 32))
        self.assertEqual(self.successResultOf(store.find_token(b"1" * 32)), token(1))
        self.assertEqual(self.successResultOf(tokens.list_tokens()), [token(1)])
        self.successResultOf(tokens.revoke_token("t1", 7000))
        self.assertEqual(self.successResultOf(store.revoked_since(7000)), ["t1"])
        self.assertEqual(self.successResultOf(tokens.revoked_since(7001)), [])
        self.say(store, "goes on")

    def test_tokens_before_the_first_start(self) -> None:
        tokens = self.shared()
        self.successResultOf(tokens.create_token(token(1), b"1" * 32))
        self.failureResultOf(tokens.create_token(token(1), b"1" * 32), Conflict)
        store = self.opened()
        self.assertEqual(self.successResultOf(store.find_token(b"1" * 32)), token(1))
        self.assertEqual(self.successResultOf(tokens.find_token(b"1" * 32)), token(1))
        self.successResultOf(store.close())

    def test_a_server_of_another_version(self) -> None:
        store = self.opened(UpgradeTests.newer)
        self.addCleanup(store.close)
        failure = self.failureResultOf(SharedTokens(self.path, UpgradeTests.older).open(), StoreError)
        self.assertEqual(
            str(failure.value), f"{self.path} is in use by a server of another version; use the command of that version"
        )

    def test_errors_are_the_store_s(self) -> None:
        with open(self.path, "w") as file:
            file.write("Dear diary,\n" * 1000)
        self.failureResultOf(SharedTokens(self.path).open(), StoreError)
        self.failureResultOf(SharedTokens("/sys/chat.db").open(), StoreError)
        self.failureResultOf(SharedTokens(self.path).list_tokens(), StoreError)


class PageTests(SQLiteCase):
    def steps_of_a_page(self, amendments: int) -> int:
        """Instructions of SQLite's machine for the newest page of 10 messages with that many reactions behind them."""
        path = os.path.join(self.directory, f"{amendments}.db")
        store = self.store(path)
        self.successResultOf(store.open())
        self.say(store, *(str(number) for number in range(20)))
        reactions = [NewReaction(ALICE, None, 1, "x", number % 2 == 0) for number in range(amendments)]
        self.successResultOf(store.append([Append("lobby", reactions)]))
        steps = 0

        def count() -> None:
            nonlocal steps
            steps += 1

        with closing(connection.connect(path, "rw")) as reader:
            reader.set_progress_handler(count, 1)
            page = queries.page(reader, "lobby", 10, common.place(10, None, None, None))
        self.assertEqual(len(page.events), 10)
        self.successResultOf(store.close())
        return steps

    def test_amendments_cost_a_page_nothing(self) -> None:
        """A page reads the messages on it, however many reactions lie between them and the head."""
        self.assertLess(self.steps_of_a_page(5_000), 1.1 * self.steps_of_a_page(50))

    def test_a_database_of_before_gets_the_index(self) -> None:
        """Opening one upgrades it, and it shows the same page."""
        store = self.opened(schema_steps()[:1])
        self.say(store, "one", "two")
        self.successResultOf(store.close())

        store = self.opened()

        self.assertEqual(self.texts(store), ["one", "two"])
        self.successResultOf(store.close())
        with closing(sqlite3.connect(self.path)) as other:
            self.assertIn(("event_shown",), other.execute("SELECT name FROM sqlite_schema WHERE type = 'index'").fetchall())
