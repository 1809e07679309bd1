"""A chat is moved between SQLite and PostgreSQL, in both directions."""

from __future__ import annotations

from random import Random

from tests.harness.postgresql import shared
from tests.test_stores_transfers import MoveTests
from twisted_chat.cli.output import Status
from twisted_chat.interfaces import Store
from twisted_chat.stores.postgresql import address
from twisted_chat.stores.postgresql.store import PostgreSQLStore
from twisted_chat.stores.workers import AtOnce, call_at_once


class BetweenCase(MoveTests):
    def new_database(self) -> str:
        name = shared().new_database()
        self.addCleanup(shared().drop_database, name)
        return shared().url(name)

    def store_of(self, url: str) -> Store:
        if url.startswith("sqlite:"):
            return super().store_of(url)
        randomness = Random(len(url)).randbytes
        return PostgreSQLStore(address.parse(url), self.clock, AtOnce(), AtOnce(), call_at_once, randomness)


class ToPostgreSQLTests(BetweenCase):
    def target_url(self) -> str:
        return self.new_database()

    def test_a_server_runs(self) -> None:
        """The import waits until no server uses the database."""
        self.fill()
        self.successResultOf(self.opened(self.new)[0].close())
        shared().execute("INSERT INTO twisted_chat.node (id) VALUES ('n1')", database=self.new.rpartition("/")[2])

        self.shell("export", "--everything", "--store", self.old, "-o", self.exported)
        line = self.shell("import", "--store", self.new, self.exported, status=Status.STORE)

        self.assertIn("is in use by a server", line)
        self.assertNotIn("secret-of-the-tests", line)


class FromPostgreSQLTests(BetweenCase):
    def source_url(self) -> str:
        return self.new_database()


class PostgreSQLTests(BetweenCase):
    """From one database to another."""

    def source_url(self) -> str:
        return self.new_database()

    def target_url(self) -> str:
        return self.new_database()


del BetweenCase, MoveTests
