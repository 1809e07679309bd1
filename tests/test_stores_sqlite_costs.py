"""What a question costs the SQLite store, counted in instructions of SQLite's machine: the answer's size, not the database's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

from tests.harness.sqlite_files import SQLiteCase
from twisted_chat.stores.sqlite import connection, database, queries


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
        def steps(rooms: int) -> int:
            self.sql(
                f"WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rooms})"
                " INSERT INTO room (name, oldest) SELECT 'r' || n, 1000 + n FROM n WHERE true ON CONFLICT DO NOTHING"
            )
            return self.instructions(lambda counted: self.assertEqual(len(queries.aged(counted, 1_005, None, 100)), 4))

        self.assertEqual(steps(5_000), steps(500))
