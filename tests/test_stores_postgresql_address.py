"""The URL of a database: what is added to it, and that its password is shown nowhere; texts as PostgreSQL can hold them."""

from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from psycopg import conninfo
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.serving import environment
from twisted_chat.store_contract import StoreError
from twisted_chat.stores.postgresql import address
from twisted_chat.stores.postgresql.escaping import SEPARATOR, escape, nullable_texts, plain, texts
from twisted_chat.stores.postgresql.store import PostgreSQLStore
from twisted_chat.stores.urls import make_store, shown_store, store_file
from twisted_chat.stores.workers import call_at_once

SECRET = "s3cret"


class AddressTests(SynchronousTestCase):
    def parameters(self, url: str) -> dict[str, object]:
        return dict(conninfo.conninfo_to_dict(address.parse(url).conninfo))

    def test_what_the_url_does_not_say(self) -> None:
        """Nothing waits for ever, and of several hosts the one that accepts writes is used."""
        found = self.parameters("postgresql://chat@db1,db2/chat")
        self.assertEqual(found["target_session_attrs"], "read-write")
        self.assertEqual((found["connect_timeout"], found["tcp_user_timeout"], found["keepalives_idle"]), ("5", "10000", "5"))
        self.assertEqual((found["host"], found["dbname"], found["user"]), ("db1,db2", "chat", "chat"))

    def test_what_the_url_says_counts(self) -> None:
        url = "postgresql://chat@db/chat?connect_timeout=9&sslmode=verify-full&target_session_attrs=any&options=-cgeqo%3Doff"
        found = self.parameters(url)
        self.assertEqual((found["connect_timeout"], found["sslmode"], found["target_session_attrs"]), ("9", "verify-full", "any"))
        self.assertEqual(found["options"], "-cgeqo=off")

    def test_the_environment_is_libpqs(self) -> None:
        """What it sets is not overridden by what is added."""
        self.patch(os, "environ", {"PGHOST": "db9", "PGDATABASE": "talk", "PGCONNECT_TIMEOUT": "7"})
        self.assertNotIn("connect_timeout", self.parameters("postgresql://"))
        self.assertEqual(address.parse("postgresql://").shown, "postgresql://db9/talk")

    def test_it_is_shown_without_its_password(self) -> None:
        for url in (
            f"postgresql://chat:{SECRET}@db:5433/chat",
            f"postgres://chat@db:5433/chat?password={SECRET}",
            f"postgresql://chat@db:5433/chat?sslpassword={SECRET}&password={SECRET}",
        ):
            parsed = address.parse(url)
            self.assertEqual((parsed.shown, repr(parsed)), ("postgresql://chat@db:5433/chat",) * 2)
            self.assertEqual(shown_store(url), "postgresql://chat@db:5433/chat")
            self.assertIn(SECRET, parsed.conninfo)

    def test_a_url_that_is_none(self) -> None:
        for url in (f"postgresql://chat:{SECRET}@db/chat?colour=green", f"postgresql://chat:{SECRET}@[db/chat"):
            error = self.assertRaises(StoreError, make_store, url, Clock(), call_at_once)
            self.assertNotIn(SECRET, str(error))
            self.assertNotIn("\n", str(error))
            self.assertIn("--store postgresql://chat:***@", str(error))

    def test_an_error_of_libpq_is_one_line_without_password(self) -> None:
        error = ValueError(f"connection to postgresql://chat:{SECRET}@db failed\n  password='{SECRET}' refused\n")
        self.assertEqual(address.one_line(error), "connection to postgresql://chat:***@db failed; password=*** refused")

    def test_a_password_that_is_not_encoded(self) -> None:
        """Libpq would take a part of it for something else, and what it says would show it."""
        passwords = ("a@s3cret", "s3cret/x", "1/s3cret", "%zzs3cret", "a s3cret", "[s3cret")
        for url in (
            *(f"postgresql://chat:{password}@[::1/chat" for password in passwords),
            *(f"postgresql://chat:{password}@db/chat" for password in passwords),
            # Refused by libpq 17, taken by libpq 16.
            f"postgresql://db/chat?password='x {SECRET}\"",
        ):
            with self.subTest(url=url):
                try:
                    said = address.parse(url).shown
                except StoreError as error:
                    said = str(error)
                self.assertNotIn(SECRET, said)
        for url in (f"postgresql://db/chat?password=%zz{SECRET}", f"postgres:{SECRET}"):
            with self.subTest(url=url):
                refused = self.assertRaises(StoreError, address.parse, url)
                self.assertNotIn(SECRET, str(refused))
        refused = self.assertRaises(StoreError, address.parse, "postgresql://chat:a@b@db/chat")
        self.assertIn("have to be written as %40 and %2F", str(refused))

    def test_it_is_no_file(self) -> None:
        """A backup is not a copy of a file there."""
        error = self.assertRaises(StoreError, store_file, f"postgresql://chat:{SECRET}@db/chat")
        self.assertIn("PostgreSQL has its own tools", str(error))
        self.assertNotIn(SECRET, str(error))

    def test_both_schemes_make_the_store(self) -> None:
        for url in ("postgresql://db/chat", "postgres://db/chat"):
            store = make_store(url, Clock(), call_at_once, "postgresql://other/chat")
            self.assertIsInstance(store, PostgreSQLStore)
            assert isinstance(store, PostgreSQLStore)
            store._finish_workers(None)

    def test_without_psycopg_the_error_names_the_extra(self) -> None:
        """Everything else works without it."""
        program = (
            "import sys; sys.modules['psycopg'] = None\n"
            "from twisted_chat.stores.urls import make_store\n"
            "from twisted_chat.store_contract import StoreError\n"
            "from twisted.internet.task import Clock\n"
            "make_store('memory:', Clock(), None)\n"
            "try:\n    make_store('postgresql://db/chat', Clock(), None)\n"
            "except StoreError as error:\n    print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True)
        self.assertIn('pip install "twisted_chat[postgresql]"', done.stdout)


class EscapingTests(SynchronousTestCase):
    @given(st.text(alphabet=st.sampled_from("\x00\x01\x1fn01sa\u00e9\U0001f600") | st.characters(exclude_categories=["Cs"])))
    def test_a_text_is_kept_as_something_that_postgresql_can_hold(self, text: str) -> None:
        kept = escape(text)
        assert "\x00" not in kept and SEPARATOR not in kept
        assert plain(kept) == text

    @given(st.lists(st.none() | st.text(alphabet="\x00\x01\x1fna", max_size=3)))
    def test_texts_come_apart_again(self, values: list[str | None]) -> None:
        """As ``string_to_array`` and the slice behind it take them apart."""
        column = nullable_texts(values)
        parts = column.split(SEPARATOR)[1:] if column else []
        assert [None if part == "\x01n" else plain(part) for part in parts] == values

    @given(st.lists(st.text(alphabet="\x00\x01\x1fna", max_size=3)))
    def test_texts_without_gaps_are_the_same_column(self, values: list[str]) -> None:
        assert texts(values) == nullable_texts(values)
