"""A chat is moved between SQLite and PostgreSQL, in both directions."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.harness.postgresql import shared
from tests.store_contract.case import ALICE
from tests.test_stores_transfers import MoveTests
from twisted_chat.cli.output import Status
from twisted_chat.events import Message
from twisted_chat.store_contract import RoomRecord, Store, StoreError
from twisted_chat.stores.kept import Identity
from twisted_chat.stores.postgresql import address
from twisted_chat.stores.postgresql.store import PostgreSQLStore
from twisted_chat.stores.postgresql.transfer import incoming
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

    def test_a_server_starts_meanwhile(self) -> None:
        """It has read what was there before the import, so the import is given up."""
        self.fill()
        self.successResultOf(self.opened(self.new)[0].close())
        with self.assertRaisesRegex(StoreError, "is in use by a server"), incoming(self.new) as target:
            target.room(RoomRecord("lobby", 1, 1, "AAAA-1"))
            target.event(Message(1, "AAAA-1", 5, ALICE, None, "hello"))
            shared().execute("INSERT INTO twisted_chat.node (id) VALUES ('n1')", database=self.new.rpartition("/")[2])

        self.assertEqual(self.opened(self.new)[1].rooms, ())

    def test_an_identity_among_rooms(self) -> None:
        """It is no statement for the middle of a copy, and is refused there."""
        self.fill()
        self.successResultOf(self.opened(self.new)[0].close())
        with self.assertRaisesRegex(StoreError, "has messages"), incoming(self.new) as target:
            target.room(RoomRecord("lobby", 1, 1, "AAAA-1"))
            target.event(Message(1, "AAAA-1", 5, ALICE, None, "hello"))
            target.identity(Identity("E", b"s" * 32))

    def test_what_postgresql_cannot_hold(self) -> None:
        """It is the file that is wrong, not the database."""
        self.fill()
        self.shell("export", "--everything", "--store", self.old, "-o", self.exported)
        key = "".join(chr(0x4E00 + 7919 * number % 20_000) for number in range(10_000))
        exported = Path(self.exported).read_text()
        self.assertIn('"key":"k6"', exported)
        Path(self.exported).write_text(exported.replace('"key":"k6"', f'"key":"{key}"'))

        line = self.shell("import", "--store", self.new, self.exported, status=Status.STORE)

        self.assertIn("the import is not a valid log: index row requires", line)

    def test_no_password_is_shown(self) -> None:
        """What the commands say names the databases without their passwords."""
        self.fill()

        self.move()
        self.shell("import", "--json", "--store", self.new, self.exported, status=Status.STORE)
        line = self.shell("export", "--store", self.new, "nowhere", status=Status.FAILED)

        self.assertIn("postgresql://chat@127.0.0.1", self.out.getvalue())
        self.assertNotIn("secret-of-the-tests", self.out.getvalue() + line)

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
