"""Accounts in PostgreSQL while many servers change them at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

from psycopg import errors

from tests.harness.postgresql import DatabaseCase
from twisted_chat.accounts import AccountChange, AccountRecord, Bound, InvitationRecord, KeptAccount, Note
from twisted_chat.errors import ChatError
from twisted_chat.stores.account_tables import Tables
from twisted_chat.stores.postgresql import accounts, address, schema
from twisted_chat.stores.postgresql.connection import Patience, connect

AT_ONCE = 20
SECRET = b"s" * 32


def note(number: int = 0) -> Note:
    return Note(number, "", "", "test", str(number))


class AtOnceTests(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.address = address.parse(self.url)
        with closing(connect(self.address, Patience())) as connection:
            schema.prepare(connection, self.address, schema.schema_steps())
            self.invited(accounts.tables(connection))

    def invited(self, tables: Tables) -> None:
        tables.create_invitation(InvitationRecord("i1", 1), SECRET, note())

    def at_once(self, work: object) -> Counter[str]:
        """What became of the same work over 20 connections at the same moment."""
        barrier = Barrier(AT_ONCE)

        def one(number: int) -> str:
            with closing(connect(self.address, Patience())) as connection:
                tables = accounts.tables(connection)
                barrier.wait(30)
                try:
                    return str(work(tables, number))  # type: ignore[operator]
                except ChatError as error:
                    return error.code

        with ThreadPoolExecutor(AT_ONCE) as threads:
            return Counter(threads.map(one, range(AT_ONCE)))

    def tables(self) -> Tables:
        connection = connect(self.address, Patience())
        self.addCleanup(connection.close)
        return accounts.tables(connection)

    def test_one_invitation(self) -> None:
        """One of them gets an account."""

        def sign_up(tables: Tables, number: int) -> str:
            tables.create_account(
                KeptAccount(AccountRecord(f"u{number}", f"person {chr(65 + number)}", 1), ""), note(number), SECRET
            )
            return "made"

        self.assertEqual(self.at_once(sign_up), {"made": 1, "forbidden": AT_ONCE - 1})
        self.assertEqual(len(self.tables().list_accounts("", "", 100)), 1)

    def test_one_name(self) -> None:
        """One of them gets it, whoever makes an account or takes another name."""
        for number in range(AT_ONCE // 2):
            record = AccountRecord(f"v{number}", f"former {chr(65 + number)}", 1)
            self.tables().create_account(KeptAccount(record, ""), note(), None)

        def take(tables: Tables, number: int) -> str:
            name = "paypal" if number % 3 else "PayPaI"
            if number % 2:
                tables.create_account(KeptAccount(AccountRecord(f"u{number}", name, 1), ""), note(number), None)
            else:
                tables.change_account(f"v{number // 2}", AccountChange(name=name), note(number))
            return "taken"

        self.assertEqual(self.at_once(take), {"taken": 1, "conflict": AT_ONCE - 1})

    def test_numbers(self) -> None:
        """Entries of the audit log and changes have their numbers one after another, and attempts are all counted."""
        self.assertEqual(self.at_once(lambda tables, number: tables.note(note(number))), {"None": AT_ONCE})
        numbers = [entry.number for entry in self.tables().read_audit(None, 0, 100)]
        self.assertEqual(numbers, list(range(AT_ONCE + 1, 0, -1)))
        bound = Bound("k", 5, 60_000)
        waits = self.at_once(lambda tables, number: tables.take_attempt([bound], 1_000))
        self.assertEqual(waits["0"], 5)

    def test_the_audit_log_only_grows(self) -> None:
        """The database refuses to change or delete entries."""
        with closing(connect(self.address, Patience())) as connection:
            for statement in ("UPDATE twisted_chat.audit SET action = 'nothing'", "DELETE FROM twisted_chat.audit"):
                error = self.assertRaises(errors.RaiseException, connection.execute, statement)
                self.assertIn("only grows", str(error))
        self.assertEqual(len(self.tables().read_audit(None, 0, 10)), 1)
