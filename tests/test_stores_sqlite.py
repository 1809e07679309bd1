"""The SQLite store keeps the store contract over restarts, and commits all or nothing."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent

from tests import store_contract
from tests.harness.sqlite_files import FileCase, SQLiteCase
from tests.store_contract.case import ALICE, BOB, configure, delete, edit, member, raw, reaction, say
from twisted_chat.errors import Unavailable
from twisted_chat.events import NewMessage, NewReaction, NewTopic, RoomSettings
from twisted_chat.store_contract import Aged, Append, Appended, Duplicate, Revocations
from twisted_chat.stores import pages
from twisted_chat.stores.sqlite import append, connection, database, erasing, queries, writer
from twisted_chat.stores.sqlite.database import schema_steps
from twisted_chat.stores.sqlite.store import SQLiteStore
from twisted_chat.stores.workers import AtOnce, Work, call_at_once

T = TypeVar("T")


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
        self.patch(erasing, "SLICE_ROWS", 2)
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
        """A batch of new messages is one statement, whatever its size and number of rooms."""
        new_events = [say(str(number), key=f"k{number}") for number in range(1000)]

        self.assertEqual(self.counted(Append("lobby", new_events)), 1)

        new_events = [say(str(number), BOB, key=f"k{number}") for number in range(1000)]
        self.assertEqual(self.counted(Append("lobby", new_events), Append("other", new_events)), 1)

    def test_repeated_keys_cost_a_handful_not_one_each(self) -> None:
        """A batch with 500 repeated keys costs five statements."""
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
        """The query plan for repeated keys uses the index of keys."""
        with closing(connection.connect(self.path, "ro")) as reader:
            plan = reader.execute(f"EXPLAIN QUERY PLAN {append.REPEATED}", {"rows": "[]", "packed": b""}).fetchall()
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
        """A failing message of a batch undoes the others, and their numbers are used again."""
        self.fail_at("four")
        self.failureResultOf(self.kept.append([Append("lobby", [say("three"), say("four")])]), Unavailable)

        self.sql("DROP TRIGGER fail")
        [[outcome]] = self.successResultOf(self.kept.append([Append("lobby", [say("three")])]))
        assert isinstance(outcome, Appended)

        self.assertEqual(outcome.event.seq, 3)

    def test_the_operator_reads_of_it_once_and_of_its_end(self) -> None:
        """Repeated failures are logged once, and so is their end."""
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
                page = self.successResultOf(self.kept.page("lobby", 10, **cast(dict[str, Any], {place: number})))
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

    def run(self, work: Work) -> None:
        self.waiting.append(work)

    def finish(self) -> None:
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
        """Read marks that arrive while others are written become one transaction."""
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
        """Appends given at once are done in order, and find each other's keys."""
        answers = [self.kept.append([Append("lobby", [say("x", key=key)])]) for key in ("a", "b", "a")]
        self.writer.go()
        outcomes = [self.successResultOf(answer)[0][0] for answer in answers]

        self.assertEqual([type(outcome) for outcome in outcomes], [Appended, Appended, Duplicate])

    def test_a_long_purge_lets_appends_in_between(self) -> None:
        """A purge is done in slices, between which appends are committed."""
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
        """Closing waits for the appends before it, and refuses those after it."""
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
            page = queries.page(reader, "lobby", 10, pages.place(10, None, None, None))
        self.assertEqual(len(page.events), 10)
        self.successResultOf(store.close())
        return steps

    def test_amendments_cost_a_page_nothing(self) -> None:
        """A page reads the messages on it, however many reactions lie between them and the head."""
        self.assertLess(self.steps_of_a_page(5_000), 1.1 * self.steps_of_a_page(50))

    def test_sending_writes_nothing_for_pages(self) -> None:
        """Runs of amendments grow with amendments only, and retention removes those that are wholly removed."""
        store = self.opened()
        react = [NewReaction(ALICE, None, 1, emoji, True) for emoji in "abc"]
        self.say(store, "one", "two")
        self.successResultOf(store.append([Append("lobby", react[:2])]))
        self.successResultOf(store.append([Append("lobby", react[2:])]))
        self.say(store, "three")
        self.successResultOf(
            store.append([Append("lobby", [NewReaction(ALICE, None, 2, "d", True), NewTopic(ALICE, None, "t")])])
        )
        self.successResultOf(store.append([Append("lobby", [NewReaction(ALICE, None, 2, "e", True)])]))
        self.assertEqual(self.runs(), [(3, 5), (7, 7), (9, 9)])

        self.successResultOf(store.purge("lobby", 5, None))
        self.assertEqual(self.runs(), [(3, 5), (7, 7), (9, 9)])
        for before in range(4, 11):
            with self.subTest(before=before):
                page = self.successResultOf(store.page("lobby", 9, before=before))
                self.assertEqual([event.seq for event in page.events], [seq for seq in (6, 8) if seq < before])

        self.successResultOf(store.purge("lobby", 2, None))
        self.assertEqual(self.runs(), [(9, 9)])
        self.successResultOf(store.close())

    def test_tokens_that_were_revoked_before_they_had_numbers(self) -> None:
        """They are found after the upgrade, in the order of their times, and later ones after them."""
        database.prepare(self.path, schema_steps()[:4])
        self.sql(
            "INSERT INTO token (id, secret_hash, person, name, created, revoked, rights) VALUES"
            " ('t1', x'01', 'u', 'n', 1, 3000, '[]'), ('t2', x'02', 'u', 'n', 1, NULL, '[]'), ('t3', x'03', 'u', 'n', 1, 2000, '[]')"
        )

        store = self.opened()

        self.assertEqual(self.successResultOf(store.revocations(0, 9)), Revocations(2, ("t3", "t1")))
        self.successResultOf(store.revoke_token("t2", 1))
        self.assertEqual(self.successResultOf(store.revocations(2, 9)), Revocations(3, ("t2",)))
        self.successResultOf(store.close())

    def runs(self) -> list[tuple[int, int]]:
        """The runs of amendments: the first and the last number of each."""
        with closing(sqlite3.connect(self.path)) as other:
            return other.execute("SELECT first, last FROM amendment_run ORDER BY room, first").fetchall()

    def test_a_database_of_before_is_upgraded(self) -> None:
        """It shows the same pages."""
        database.prepare(self.path, schema_steps()[:1])
        self.sql(
            "INSERT INTO room (id, name) VALUES (1, 'lobby')",
            "INSERT INTO event (room, seq, batch, at, kind, author, name, text) VALUES"
            " (1, 1, 'b', 5, 1, 'u1', 'alice', 'one'), (1, 2, 'b', 6, 1, 'u1', 'alice', 'two')",
            "INSERT INTO event (room, seq, batch, at, kind, author, name, extra)"
            """ SELECT 1, value, 'b', 7, 3, 'u1', 'alice', '{"of":1}' FROM json_each('[3, 4, 5, 7, 8, 9]')""",
            "INSERT INTO event (room, seq, batch, at, kind, author, name, text) VALUES (1, 6, 'b', 7, 5, 'u1', 'alice', 'tea')",
        )

        store = self.opened()

        page = self.successResultOf(store.page("lobby", 9))
        self.assertEqual([event.seq for event in page.events], [1, 2, 6])
        self.assertEqual(self.runs(), [(3, 5), (7, 9)])
        self.assertEqual(self.successResultOf(store.aged(9, None, 9)), [Aged(5, "lobby")])
        self.successResultOf(store.close())

    def test_rooms_of_before_have_the_usual_settings(self) -> None:
        """Nobody has a role in them; they get owners like new ones, and their news goes on."""
        database.prepare(self.path, schema_steps()[:5])
        self.sql(
            "INSERT INTO room (id, name) VALUES (1, 'lobby')",
            "INSERT INTO event (room, seq, batch, at, kind, author, name, text) VALUES (1, 1, 'b', 5, 1, 'u1', 'alice', 'one')",
        )
        store = self.store()

        opened = self.successResultOf(store.open())

        self.assertEqual((opened.rooms[0].settings, opened.standing_news), (RoomSettings(), 0))
        self.successResultOf(store.append([Append("lobby", [configure(title="x"), member(ALICE, "owner")])]))
        news = self.successResultOf(store.room_news(opened.news, 9))
        self.assertEqual((news.number, news.settings), (opened.news + 1, {"lobby": RoomSettings(title="x")}))
        self.successResultOf(store.close())
