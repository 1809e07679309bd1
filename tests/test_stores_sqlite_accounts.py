"""Accounts in a file: databases of before, the audit log against SQL, costs with very many accounts."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.harness.sqlite_files import SQLiteCase
from twisted_chat.accounts import AccountRecord, Bound, KeptAccount, Note
from twisted_chat.stores.sqlite import accounts, database
from twisted_chat.stores.sqlite.connection import connect, transaction
from twisted_chat.stores.sqlite.database import schema_steps


def account(number: int) -> KeptAccount:
    return KeptAccount(AccountRecord(f"u{number:08}", f"x{number}", number), "hash")


class AccountFilesTests(SQLiteCase):
    def test_a_database_of_before(self) -> None:
        """Its tokens are access tokens, without a label, and as valid as before."""
        database.prepare(self.path, schema_steps()[:5])
        self.sql("INSERT INTO token (id, secret_hash, person, name, created, rights) VALUES ('t1', x'01', 'u1', 'n', 1, '[]')")
        store = self.opened()
        self.addCleanup(store.close)
        found = self.successResultOf(store.find_token(b"\x01"))
        assert found is not None
        self.assertEqual((found.kind, found.label, found.revoked), ("token", "", None))
        self.assertEqual(self.successResultOf(store.list_tokens()), [found])
        self.assertEqual(self.successResultOf(store.accounts.account_tokens("u1", "token")), [found])

    def test_the_audit_log_only_grows(self) -> None:
        """The database refuses to change or delete entries, whoever asks."""
        store = self.opened()
        self.addCleanup(store.close)
        self.successResultOf(store.accounts.note(Note(1, "", "", "test")))
        for statement in ("UPDATE audit SET action = 'nothing'", "DELETE FROM audit"):
            self.assertRaises(sqlite3.IntegrityError, self.sql, statement)
        self.assertEqual(len(self.successResultOf(store.accounts.read_audit(None, 0, 10))), 1)

    def steps(self, count: int) -> dict[str, int]:
        """How many steps of SQLite's machine each question takes with so many accounts."""
        database.prepare(self.path, schema_steps())
        taken: dict[str, int] = {}
        with closing(connect(self.path, "rw")) as connection:
            tables = accounts.tables(connection)
            with transaction(connection):
                connection.execute("DELETE FROM account")
                connection.execute("DELETE FROM account_look")
                connection.execute("DELETE FROM attempt")
                for number in range(count):
                    tables.insert_account(account(number))
            steps = [0]

            def step() -> int:
                steps[0] += 1
                return 0

            connection.set_progress_handler(step, 1)
            bounds = [Bound("a", 5, 1), Bound("b", 5, 1)]
            for name, ask in (
                ("news", lambda: tables.account_news(count - 1, 10)),
                ("named", lambda: tables.account_named("x5")),
                ("id", lambda: tables.account("u00000005")),
                ("list", lambda: tables.list_accounts("", "u00000005", 10)),
                ("create", lambda: tables.create_account(account(count), Note(1, "", "", "x"), None)),
                ("attempt", lambda: tables.take_attempt(bounds, 1_000)),
            ):
                steps[0] = 0
                ask()
                taken[name] = steps[0]
        return taken

    def test_costs(self) -> None:
        """None of them reads over the others: 20 times as many accounts cost next to nothing more."""
        few, many = self.steps(100), self.steps(2_000)
        for name, steps in many.items():
            self.assertLessEqual(steps, few[name] * 1.2 + 10, name)
