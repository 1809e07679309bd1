"""PostgreSQL is killed, hangs, changes over to a standby, or loses what it had kept: what a server then does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.postgresql import PASSWORD, USER, PostgreSQL, Pump
from tests.harness.waiting import wait_until
from tests.store_contract.case import say
from twisted_chat.errors import Unavailable
from twisted_chat.store_contract import Append, Appended, Duplicate, Outcome
from twisted_chat.stores.postgresql import address, connection, store, writer
from twisted_chat.stores.postgresql.connection import Connection
from twisted_chat.stores.postgresql.feed import Feed
from twisted_chat.stores.postgresql.store import PostgreSQLStore
from twisted_chat.stores.workers import AtOnce, Threads, call_at_once


class FailureCase(SynchronousTestCase):
    """A PostgreSQL of its own for each test, and a store on it."""

    def setUp(self) -> None:
        self.postgresql = PostgreSQL(fsync=False)
        self.addCleanup(self.postgresql.remove)
        self.database = self.postgresql.new_database()
        self.url = self.postgresql.url(self.database)

    def opened(self, url: str | None = None) -> PostgreSQLStore:
        kept = PostgreSQLStore(address.parse(url or self.url), Clock(), AtOnce(), AtOnce(), call_at_once)
        self.successResultOf(kept.open())
        self.addCleanup(lambda: self.successResultOf(kept.close()))
        return kept

    def append(self, kept: PostgreSQLStore, *texts: str) -> list[Outcome]:
        new_events = [say(text, key=text) for text in texts]
        [outcomes] = self.successResultOf(kept.append([Append("lobby", new_events)]))
        return outcomes

    def unavailable(self, kept: PostgreSQLStore, *texts: str) -> str:
        new_events = [say(text, key=text) for text in texts]
        return str(self.failureResultOf(kept.append([Append("lobby", new_events)]), Unavailable).value)

    def texts(self, kept: PostgreSQLStore) -> list[object]:
        events = self.successResultOf(kept.read("lobby", 0, 1000, 10**9))
        return [getattr(event, "text", None) for event in events]

    def meanwhile(self, work: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=work)
        thread.start()
        self.addCleanup(thread.join, 60)
        return thread


class AwayTests(FailureCase):
    def test_killed_and_started_again(self) -> None:
        """A short absence costs a sender nothing but time."""
        kept = self.opened()
        self.append(kept, "one")
        self.postgresql.kill()
        self.patch(writer, "RETRY_SECONDS", 60.0)
        sender = self.meanwhile(lambda: self.append(kept, "two"))
        self.postgresql.start()
        sender.join(60)
        self.assertEqual(self.texts(kept), ["one", "two"])

    def test_it_hangs_and_goes_on(self) -> None:
        """Senders are told in bounded time that the outcome is not known; the same keys find what became of it."""
        self.patch(Connection, "answer_seconds", 1.0)
        self.patch(writer, "RESOLVE_SECONDS", 2.0)
        kept = self.opened()
        self.append(kept, "one")
        self.postgresql.suspend()
        began = time.monotonic()
        self.assertIn("not known yet; send it again with the same key", self.unavailable(kept, "two"))
        self.failureResultOf(kept.read("lobby", 0, 10, 10), Unavailable)
        self.assertLess(time.monotonic() - began, 15)
        # What has waited behind that read need not wait as long again.
        began = time.monotonic()
        for _ in range(100):
            self.failureResultOf(kept.read("lobby", 0, 10, 10), Unavailable)
        self.assertLess(time.monotonic() - began, 1)
        self.patch(connection, "AWAY_SECONDS", 0.0)
        wait_until(lambda: time.monotonic() >= kept._connections._away_until)
        self.postgresql.resume()
        [outcome] = self.append(kept, "two")
        self.assertIsInstance(outcome, Appended | Duplicate)
        self.assertEqual(self.texts(kept), ["one", "two"])

    def test_a_store_is_closed_while_it_hangs(self) -> None:
        """In bounded time, with appends and reads under way, and the threads end."""
        self.patch(Connection, "answer_seconds", 3600.0)
        self.patch(store, "CLOSE_SECONDS", 1.0)
        pump = Pump()
        where = address.parse(self.url)
        feed = Feed(where, "one", pump)
        kept = PostgreSQLStore(where, Clock(), Threads("chat-writer"), Threads("chat-reader", 2), pump, node="one", feed=feed)
        pump.answer(kept.open())
        kept.follow(lambda heads: None)
        pump.answer(kept.append([Append("lobby", [say("one")])]))
        self.postgresql.suspend()
        self.addCleanup(self.postgresql.resume)
        failed: list[object] = []
        for waiting in (kept.append([Append("lobby", [say("two")])]), kept.read("lobby", 0, 10, 10), kept.probe()):
            waiting.addBoth(failed.append)

        began = time.monotonic()
        pump.answer(kept.close())

        self.assertLess(time.monotonic() - began, 10)
        pump.until(lambda: len(failed) == 3)
        wait_until(
            lambda: [thread.name for thread in threading.enumerate() if thread.name.startswith("chat-")], lambda left: not left
        )


class StandbyWaitTests(FailureCase):
    """A commit waits for a synchronous standby that is not there: it is in the log of the primary, and may be lost with it."""

    def hurt_in_commit(self, then: str) -> None:
        """What happens to the connection that waits."""
        self.postgresql.set("synchronous_standby_names", "nobody")
        self.wait_for_a_commit_that_waits()

        def hurt() -> None:
            pid, began = self.waiting("application_name = 'twisted_chat'")
            self.postgresql.execute(f"SELECT {then}({pid})", database="postgres")
            # The same connection may soon wait with another statement, which began later.
            find = f"SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = {pid} AND query_start = '{began}'"
            wait_until(lambda: self.postgresql.execute(find, database="postgres"), lambda found: not found)
            self.postgresql.set("synchronous_standby_names", "")

        self.meanwhile(hurt)

    def wait_for_a_commit_that_waits(self) -> None:
        """The checkpointer reads the changed setting for all, when it comes to that: commits before wait for nobody, and those after do."""
        found = threading.Event()

        def commit() -> None:
            while not found.is_set():
                self.postgresql.execute("SELECT pg_logical_emit_message(true, '', '')", database="postgres")

        self.meanwhile(commit)
        try:
            self.waiting("datname = 'postgres'")
        finally:
            found.set()

    def waiting(self, where: str) -> tuple[int, str]:
        """The process that waits for the standby, and when its statement began."""
        find = f"SELECT pid, query_start::text FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND {where}"
        [(pid, began)] = wait_until(lambda: self.postgresql.execute(find, database="postgres"), bool)
        return int(pid), began

    def test_its_connection_is_terminated(self) -> None:
        """The batch is found, once, and nobody has to send it again."""
        kept = self.opened()
        self.append(kept, "one")
        self.hurt_in_commit("pg_terminate_backend")
        [outcome] = self.append(kept, "two")
        assert isinstance(outcome, Appended)
        self.assertEqual(outcome.event.seq, 2)
        self.assertEqual(self.texts(kept), ["one", "two"])

    def test_the_wait_is_cancelled(self) -> None:
        """It is not acknowledged before somebody has asked by its key."""
        kept = self.opened()
        self.append(kept, "one")
        self.hurt_in_commit("pg_cancel_backend")
        self.assertIn("not known yet; send it again with the same key", self.unavailable(kept, "two"))
        [outcome] = self.append(kept, "two")
        self.assertIsInstance(outcome, Duplicate)
        self.assertEqual(self.texts(kept), ["one", "two"])


class FailOverTests(FailureCase):
    """Two hosts in the URL, of which one takes writes."""

    def setUp(self) -> None:
        super().setUp()
        self.primary = self.postgresql
        self.standby = PostgreSQL(fsync=False, primary=self.primary)
        self.addCleanup(self.standby.remove)
        hosts = f"127.0.0.1:{self.standby.port},127.0.0.1:{self.primary.port}"
        self.kept = self.opened(f"postgresql://{USER}:{PASSWORD}@{hosts}/{self.database}")
        self.ended: list[str] = []
        self.kept.when_ended(self.ended.append)
        self.patch(writer, "RETRY_SECONDS", 30.0)

    def wait_for_the_standby(self) -> None:
        [(position,)] = self.primary.execute("SELECT pg_current_wal_lsn()::text", database="postgres")
        wait_until(
            lambda: self.standby.execute(f"SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn", database="postgres"),
            lambda rows: rows == [(True,)],
        )

    def test_the_standby_has_everything(self) -> None:
        """Numbers go on, and whoever sent something meanwhile has it acknowledged."""
        self.append(self.kept, "one", "two")
        self.wait_for_the_standby()
        self.primary.kill()
        self.meanwhile(self.standby.promote)
        [outcome] = self.append(self.kept, "three")
        assert isinstance(outcome, Appended)
        self.assertEqual(outcome.event.seq, 3)
        self.assertEqual(self.texts(self.kept), ["one", "two", "three"])
        self.assertEqual(self.ended, [])

    def test_the_standby_was_behind(self) -> None:
        """The numbers of what was lost are given again, so this server ends and does not mix two histories."""
        self.append(self.kept, "one")
        self.wait_for_the_standby()
        self.standby.stop()
        self.append(self.kept, "two", "three")
        self.primary.kill()
        self.standby.start()
        self.standby.promote()

        self.unavailable(self.kept, "four")

        [said] = self.ended
        self.assertIn("the database has lost what it had kept in lobby: it was replaced by an older state", said)
        self.assertNotIn(PASSWORD, said)
        self.failureResultOf(self.kept.read("lobby", 0, 10, 10), Unavailable)
        self.failureResultOf(self.kept.probe(), Unavailable)
        self.assertEqual(len(self.ended), 1)

        again = self.opened(self.standby.url(self.database))
        self.assertEqual(self.texts(again), ["one"])
        self.append(again, "four")
