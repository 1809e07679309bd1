"""What a question costs the SQLite store, counted in instructions of SQLite's machine: the answer's size, not the database's."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing

from tests.harness.sqlite_files import SQLiteCase
from tests.store_contract.case import ALICE
from twisted_chat.events import Author, Message, NewDeletion, NewEdit, NewEvent, NewMember, NewMessage, NewReaction
from twisted_chat.store_contract import Append, RoomNews
from twisted_chat.stores import pages
from twisted_chat.stores.sqlite import connection, database, erasing, queries, standings, writer
from twisted_chat.stores.sqlite.store import SQLiteStore
from twisted_chat.stores.workers import Work


class Later:
    """A worker that does one thing when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Work] = []

    def run(self, work: Work) -> None:
        self.waiting.append(work)

    def go(self) -> None:
        self.waiting.pop(0)()

    def finish_all(self) -> None:
        while self.waiting:
            self.go()

    def finish(self) -> None:
        self.waiting.clear()


class CostCase(SQLiteCase):
    def setUp(self) -> None:
        super().setUp()
        database.prepare(self.path, database.schema_steps())

    def instructions(self, work: Callable[[sqlite3.Connection], object]) -> int:
        steps = 0

        def count() -> None:
            nonlocal steps
            steps += 1

        with closing(connection.connect(self.path, "rw")) as counted:
            counted.set_progress_handler(count, 1)
            work(counted)
        return steps


class RetentionTests(CostCase):
    def test_rooms_with_nothing_old_cost_nothing(self) -> None:
        """Finding old rooms costs the same with 500 rooms and with 5,000."""

        def steps(rooms: int) -> int:
            self.sql(
                f"WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rooms})"
                " INSERT INTO room (name, oldest) SELECT 'r' || n, 1000 + n FROM n WHERE true ON CONFLICT DO NOTHING"
            )
            return self.instructions(lambda counted: self.assertEqual(len(queries.aged(counted, 1_005, None, 100)), 4))

        self.assertEqual(steps(5_000), steps(500))


class ReactionTests(CostCase):
    def put(self, people: int) -> None:
        """That many people react to the one message there is."""
        database.prepare(self.path, database.schema_steps())
        store = self.opened()
        self.say(store, "popular")
        new_events = [NewReaction(Author(f"u{number}", "x"), None, 1, "x", True) for number in range(people)]
        self.successResultOf(store.append([Append("lobby", new_events)]))
        self.successResultOf(store.close())

    def at(self, people: int, work: Callable[[sqlite3.Connection], object]) -> int:
        self.path = os.path.join(self.directory, f"{people}.db")
        self.put(people)
        return self.instructions(work)

    def test_a_page_costs_the_same_whether_hundreds_or_thousands_reacted(self) -> None:
        def page(counted: sqlite3.Connection) -> None:
            [message] = queries.page(counted, "lobby", 10, pages.place(10, None, None, None), "u5").events
            assert isinstance(message, Message)
            self.assertEqual(len(message.reactions[0].by), pages.NAMES)

        self.assertEqual(self.at(5_000, page), self.at(500, page))

    def test_reacting_costs_the_same_whether_hundreds_or_thousands_reacted(self) -> None:
        def toggle(counted: sqlite3.Connection) -> None:
            log = writer.Log(counted, secrets.token_bytes)
            for emoji in ("x", "new"):
                for on in (True, False):
                    log.append([Append("lobby", [NewReaction(ALICE, None, 1, emoji, on)])], 1)

        few, many = self.at(500, toggle), self.at(5_000, toggle)
        self.assertLess(many, 1.1 * few)

    def test_toggling_leaves_nothing_behind(self) -> None:
        """Adding and removing a reaction 2,000 times does not make a page more expensive."""
        self.put(100)

        def page(counted: sqlite3.Connection) -> None:
            queries.page(counted, "lobby", 10, pages.place(10, None, None, None))

        before = self.instructions(page)
        store = self.opened()
        toggles = [NewReaction(ALICE, None, 1, "x", number % 2 == 0) for number in range(2_000)]
        self.successResultOf(store.append([Append("lobby", toggles)]))
        self.successResultOf(store.close())
        self.assertEqual(self.instructions(page), before)


class AmendedTests(CostCase):
    """A message with many amendments goes a slice at a time."""

    def amended(self, edits: int) -> SQLiteStore:
        self.path = os.path.join(self.directory, f"{edits}.db")
        store = self.opened()
        self.say(store, "secret 0", "other")
        new_events: list[NewEvent] = [NewEdit(ALICE, None, 1, number, f"secret {number}") for number in range(1, edits + 1)]
        new_events += [NewReaction(Author(f"u{number}", "x"), None, 1, "x", True) for number in range(edits)]
        self.successResultOf(store.append([Append("lobby", new_events)]))
        return store

    def count(self, statement: str) -> int:
        with closing(sqlite3.connect(self.path)) as other:
            return int(other.execute(statement).fetchone()[0])

    def largest_step(self, edits: int, deletion: bool) -> int:
        """The instructions of the longest transaction of a deletion, or of retention."""
        self.successResultOf(self.amended(edits).close())
        steps: list[int] = []
        with closing(connection.connect(self.path, "rw")) as counted:
            log = writer.Log(counted, secrets.token_bytes)
            counted.set_progress_handler(lambda: steps.__setitem__(-1, steps[-1] + 1), 1)
            steps.append(0)
            if deletion:
                log.append([Append("lobby", [NewDeletion(ALICE, None, 1)])], 1)
            while log.erase() if deletion else log.purge("lobby", 2 * edits, None):
                steps.append(0)
        self.assertEqual(self.count("SELECT count(*) FROM edit") + self.count("SELECT count(*) FROM reaction"), 0)
        return max(steps)

    def test_no_transaction_grows_with_the_amendments(self) -> None:
        """The largest transaction of a deletion or purge is the same for 300 amendments and for 3,000."""
        self.patch(erasing, "SLICE_ROWS", 100)
        for deletion in (True, False):
            few, many = self.largest_step(300, deletion), self.largest_step(3_000, deletion)
            self.assertLess(many, 1.1 * few)

    def test_appends_come_between_the_slices(self) -> None:
        """Appends are committed between the slices of an erasure, and a restart finishes it."""
        self.patch(erasing, "SLICE_ROWS", 10)
        self.successResultOf(self.amended(35).close())
        worker = Later()
        store = self.store(writer=worker)
        opened = store.open()
        worker.go()
        self.successResultOf(opened)

        deleted = store.append([Append("lobby", [NewDeletion(ALICE, None, 1)])])
        worker.go()

        self.successResultOf(deleted)
        left = "SELECT count(*) FROM event WHERE text LIKE 'secret%'"
        self.assertEqual(self.count(left), 25)
        self.assertEqual([text for text in self.texts(store) if text], ["other"])

        said = store.append([Append("lobby", [NewMessage(ALICE, None, "between")])])
        worker.go()
        worker.go()

        self.successResultOf(said)
        self.assertEqual(self.count(left), 15)

        closed = store.close()
        worker.finish_all()
        self.successResultOf(closed)

        store = self.opened()

        self.assertEqual((self.count(left), self.count("SELECT count(*) FROM erasing")), (0, 0))
        self.successResultOf(store.close())


class RoomNewsTests(CostCase):
    def test_news_cost_the_same_however_many_rooms_there_are(self) -> None:
        """Asking for changes of rooms costs the same with 500 rooms and with 5,000."""

        def steps(rooms: int) -> tuple[int, int]:
            self.path = os.path.join(self.directory, f"{rooms}.db")
            database.prepare(self.path, database.schema_steps())
            self.sql(
                f"WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rooms})"
                " INSERT INTO room (name) SELECT 'r' || n FROM n"
            )
            none = self.instructions(lambda counted: self.assertEqual(queries.room_news(counted, rooms, 9).archived, {}))
            self.sql("UPDATE room SET archived = 1 WHERE name = 'r7'")

            def one(counted: sqlite3.Connection) -> None:
                self.assertEqual(queries.room_news(counted, rooms, 9), RoomNews(rooms + 1, {"r7": True}))

            return none, self.instructions(one)

        self.assertEqual(steps(5_000), steps(500))


class StandingTests(CostCase):
    """Each question costs what it answers."""

    def fill(self, rooms: int, people: int) -> None:
        """Rooms with people in them, the last room with ten people."""
        self.path = os.path.join(self.directory, f"{rooms}-{people}.db")
        database.prepare(self.path, database.schema_steps())
        numbers = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {})"
        self.sql(
            f"{numbers.format(rooms)} INSERT INTO room (id, name) SELECT n, 'r' || n FROM n",
            f"{numbers.format(people)} INSERT INTO standing"
            " SELECT room.id, printf('u%05d', room.id * 10000 + n), printf('n%05d', n), printf('n%05d', n), iif(n = 1, 4, 2), 0, 0,"
            f" (room.id - 1) * {people} + n FROM room CROSS JOIN n WHERE room.id < {rooms}",
            f"{numbers.format(10)} INSERT INTO standing"
            f" SELECT {rooms}, 'v' || n, 'n' || n, 'n' || n, 2, iif(n = 5, 99, 0), 0, 1000000 + n FROM n",
        )

    def test_questions(self) -> None:
        """With 20 rooms of 20 people and with 200 rooms of 200."""

        def steps(rooms: int, people: int) -> list[int]:
            self.fill(rooms, people)
            last = f"r{rooms}"
            questions: list[tuple[Callable[[sqlite3.Connection], Sequence[object]], int]] = [
                (lambda counted: standings.of_person(counted, "v3"), 1),
                (lambda counted: [standings.one(counted, last, "v3")], 1),
                (lambda counted: standings.members(counted, last, "", None, 5), 5),
                (lambda counted: standings.members(counted, "r1", "", None, 5), 5),
                (lambda counted: standings.sanctions(counted, last), 1),
                (lambda counted: standings.sanctions(counted, "r1"), 0),
                (lambda counted: standings.all_sanctions(counted, 7), 1),
                (lambda counted: standings.news(counted, 1_000_005, 100).standings, 5),
                (lambda counted: [standings.last_news(counted)], 1),
            ]
            return [
                self.instructions(lambda counted: self.assertEqual(len(question(counted)), count))  # noqa: B023
                for question, count in questions
            ]

        self.assertEqual(steps(200, 200), steps(20, 20))

    def test_a_change(self) -> None:
        """A new role costs the same in a room of 20 people and in one of 200."""

        def steps(rooms: int, people: int) -> int:
            self.fill(rooms, people)
            new = NewMember(Author("u1", "x"), None, Author("w", "w"), "reader", 4)

            def change(counted: sqlite3.Connection) -> None:
                standings.change(counted, 1, "r1", new, 5)

            return self.instructions(change)

        self.assertAlmostEqual(steps(200, 200), steps(20, 20), delta=20)
