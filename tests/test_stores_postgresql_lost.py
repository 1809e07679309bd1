"""A connection is lost while a batch is on its way: it is kept exactly once, and its sender learns what became of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from twisted.internet.task import Clock

from tests.harness.postgresql import PASSWORD, USER, DatabaseCase, shared
from tests.harness.tcp_proxy import TcpProxy
from tests.harness.waiting import wait_until
from tests.store_contract.case import ALICE, BOB, configure, edit, member, raw, sanction, say
from twisted_chat.errors import Conflict, Unavailable
from twisted_chat.events import NewEvent, RoomSettings
from twisted_chat.standings import Standing
from twisted_chat.store_contract import Append, Appended, Duplicate, Outcome
from twisted_chat.stores.postgresql import address, connection, writer
from twisted_chat.stores.postgresql.connection import Connection
from twisted_chat.stores.postgresql.store import PostgreSQLStore
from twisted_chat.stores.workers import AtOnce, call_at_once

#: The last one is refused.
GOVERNANCE: tuple[NewEvent, ...] = (
    configure(creates=True, title="The den"),
    member(ALICE, "owner"),
    sanction(BOB, "mute", until=7),
    say("hello"),
    member(ALICE, None),
)


class LostCase(DatabaseCase):
    """A store behind a proxy, that waits for no answer longer than a moment."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(Connection, "answer_seconds", 1.5)
        self.patch(connection, "IDLE_MS", 1000)
        self.patch(connection, "TRANSACTION_MS", 1000)
        self.proxy = TcpProxy(shared().port)
        self.addCleanup(self.proxy.close)
        self.kept = self.opened(f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.proxy.port}/{self.database}")
        self.append("lobby", say("first"))

    def opened(self, url: str) -> PostgreSQLStore:
        store = PostgreSQLStore(address.parse(url), Clock(), AtOnce(), AtOnce(), call_at_once)
        self.successResultOf(store.open())
        self.addCleanup(lambda: self.successResultOf(store.close()))
        return store

    def append(self, room: str, *new_events: NewEvent) -> list[Outcome]:
        [outcomes] = self.successResultOf(self.kept.append([Append(room, new_events)]))
        return outcomes

    def log(self) -> list[tuple[int, str]]:
        """What is in the database, whatever the store believes."""
        rows = self.sql("SELECT seq, coalesce(text, encode(data, 'escape')) FROM twisted_chat.event ORDER BY room, seq")
        return [(seq, text) for seq, text in rows]

    def assert_governed(self, outcomes: list[Outcome]) -> None:
        """:data:`GOVERNANCE` was applied exactly once, in a database that had one room before."""
        events = [outcome.event for outcome in outcomes if isinstance(outcome, Appended)]
        self.assertEqual(self.successResultOf(self.kept.read("den", 0, 99, 9999)), events)
        self.assertEqual(len(events), 4)
        news = self.successResultOf(self.kept.standing_news(0, 99))
        alice, bob = Standing("den", "u1", "alice", "owner"), Standing("den", "u2", "bob", None, 7)
        self.assertEqual(news.standings, (alice, bob))
        # Numbers of the news: two rooms were made, one of them has settings, and two people have standings.
        self.assertEqual(self.sql("SELECT number FROM twisted_chat.news"), [(5,)])
        self.assertEqual(news.number, 5)
        self.assertEqual(self.successResultOf(self.kept.record("den")).settings, RoomSettings(title="The den"))

    def meanwhile(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work)
        thread.start()
        self.addCleanup(thread.join, 30)
        return thread


def is_append(data: bytes) -> bool:
    """The statement of new messages, by its parameters."""
    return b"\x1fsecond" in data


class AnswerLostTests(LostCase):
    """The database has committed, and its answer never comes."""

    see: Callable[[bytes], bool]

    def lose_the_answer(self, when: Callable[[bytes], bool]) -> None:
        def see(data: bytes) -> bool:
            if when(data):
                # Until the end of the connection; the next one is not hurt.
                self.proxy.hold_answers = True
                self.meanwhile(self.let_new_ones_through)
            return False

        self.proxy.hold_requests = see

    def let_new_ones_through(self) -> None:
        wait_until(lambda: self.proxy.held, bool)
        self.proxy.let_new_ones_through()

    def test_new_messages(self) -> None:
        self.lose_the_answer(is_append)
        [outcome] = self.append("lobby", say("second"))
        assert isinstance(outcome, Appended)
        self.assertEqual(outcome.event.seq, 2)
        self.assertEqual(self.log(), [(1, "first"), (2, "second")])
        self.assertEqual(self.successResultOf(self.kept.event("lobby", 2)), outcome.event)
        [outcome] = self.append("lobby", say("third"))
        self.assertEqual(self.log()[2:], [(3, "third")])

    def test_the_answer_to_the_question_about_it_is_lost_too(self) -> None:
        """It is asked again, and the same comes out."""
        asked: list[bytes] = []

        def see(data: bytes) -> bool:
            if is_append(data) or (b"closed = true" in data and len(asked) < 2):
                asked.append(data)
                self.proxy.hold_answers = True
                self.meanwhile(self.let_new_ones_through_again)
            return False

        self.see = self.proxy.hold_requests = see
        [outcome] = self.append("lobby", say("second"))
        assert isinstance(outcome, Appended)
        self.assertEqual(len(asked), 2)
        self.assertEqual(self.log(), [(1, "first"), (2, "second")])

    def let_new_ones_through_again(self) -> None:
        before = self.proxy.held
        wait_until(lambda: self.proxy.held > before)
        self.proxy.let_new_ones_through()
        self.proxy.hold_requests = self.see

    def test_a_batch_of_any_kind(self) -> None:
        self.lose_the_answer(lambda data: b"COMMIT" in data)
        outcomes = self.append("lobby", edit(1, "other"), raw(b"bytes", key="k"), say("after"))
        self.assertEqual([type(outcome) for outcome in outcomes], [Appended] * 3)
        self.assertEqual(self.log(), [(1, "first"), (2, "other"), (3, "bytes"), (4, "after")])
        self.assertEqual(self.append("lobby", raw(b"bytes", key="k")), [Duplicate(outcomes[1].event)])  # type: ignore[union-attr]

    def test_settings_members_and_sanctions(self) -> None:
        """Decided once: the answer is that of the first try, and nothing is changed a second time."""
        self.lose_the_answer(lambda data: b"COMMIT" in data)
        *outcomes, refused = self.append("den", *GOVERNANCE)
        self.assertEqual([type(outcome) for outcome in outcomes], [Appended] * 4)
        self.assertIsInstance(refused, Conflict)
        self.assert_governed(outcomes)

    def test_the_connection_is_reset_instead(self) -> None:
        def see(data: bytes) -> bool:
            if is_append(data):
                self.proxy.hold_requests = lambda data: False
                self.proxy.hold_answers = True
                self.meanwhile(self.cut)
            return False

        self.proxy.hold_requests = see
        [outcome] = self.append("lobby", say("second"))
        assert isinstance(outcome, Appended)
        self.assertEqual(self.log(), [(1, "first"), (2, "second")])

    def cut(self) -> None:
        wait_until(lambda: self.proxy.held, bool)
        self.proxy.let_new_ones_through()
        self.proxy.cut()


class RequestLateTests(LostCase):
    """The statement is stuck in a network that heals later: it may not be executed after it was sent again."""

    def hold(self, when: Callable[[bytes], bool]) -> None:
        def see(data: bytes) -> bool:
            if when(data):
                self.meanwhile(self.let_new_ones_through)
                return True
            return False

        self.proxy.hold_requests = see

    def let_new_ones_through(self) -> None:
        wait_until(lambda: self.proxy.held, bool)
        self.proxy.let_new_ones_through()

    def backends(self) -> int:
        [(count,)] = self.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(count)

    def test_new_messages(self) -> None:
        """Without keys, which would keep the second one away."""
        self.hold(is_append)
        [outcome] = self.append("lobby", say("second"))
        assert isinstance(outcome, Appended)
        self.assertEqual(self.log(), [(1, "first"), (2, "second")])
        self.assertGreater(self.proxy.held, 0)
        before = self.backends()

        self.proxy.release()
        self.proxy.cut()

        wait_until(self.backends, lambda count: count < before)
        self.assertEqual(self.log(), [(1, "first"), (2, "second")])

    def test_settings_members_and_sanctions(self) -> None:
        """What arrives late changes nobody's standing a second time."""
        self.hold(lambda data: b"COMMIT" in data)
        outcomes = self.append("den", *GOVERNANCE)
        self.proxy.release()
        self.assert_governed(outcomes)

    def test_a_commit_of_a_batch_of_any_kind(self) -> None:
        """The database ends a transaction whose client says nothing, and only then the next one gets its rooms."""
        self.hold(lambda data: b"COMMIT" in data)
        outcomes = self.append("lobby", raw(b"bytes"), say("after"))
        self.assertEqual([type(outcome) for outcome in outcomes], [Appended] * 2)
        self.proxy.release()
        self.assertEqual(self.log(), [(1, "first"), (2, "bytes"), (3, "after")])


class AwayTests(LostCase):
    """The database does not come back soon."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(writer, "RESOLVE_SECONDS", 1.0)
        self.patch(writer, "RETRY_SECONDS", 0.5)

    def test_nothing_was_sent_so_nothing_is_kept(self) -> None:
        self.proxy.target = 1
        self.proxy.cut()
        for _ in range(2):
            failure = self.failureResultOf(self.kept.append([Append("lobby", [say("second")])]), Unavailable)
            self.assertEqual(str(failure.value), "the store cannot keep messages now; try again with the same key")
            self.assertEqual(failure.value.retry_after_ms, 1000)
        self.failureResultOf(self.kept.read("lobby", 0, 10, 10), Unavailable)
        self.failureResultOf(self.kept.probe(), Unavailable)

        self.proxy.target = shared().port

        self.append("lobby", say("second"))
        self.assertEqual(self.log(), [(1, "first"), (2, "second")])
        self.successResultOf(self.kept.probe())

    def test_what_was_sent_may_be_kept_and_a_retry_finds_it(self) -> None:
        """The sender is told that this is not known, sends the same key again, and gets the first event."""

        def see(data: bytes) -> bool:
            if is_append(data):
                self.proxy.hold_answers = True
                self.proxy.target = 1
            return False

        self.proxy.hold_requests = see
        failure = self.failureResultOf(self.kept.append([Append("lobby", [say("second", key="k")])]), Unavailable)
        self.assertIn("whether it is kept is not known yet; send it again with the same key", str(failure.value))
        self.assertEqual(failure.value.retry_after_ms, 1000)

        self.proxy.cut()
        self.proxy.release()
        self.proxy.target = shared().port

        [outcome] = self.append("lobby", say("second", key="k"))
        assert isinstance(outcome, Duplicate)
        self.assertEqual(self.log(), [(1, "first"), (2, "second")])
