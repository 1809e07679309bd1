"""Several servers on one database: what each of them may rely on."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.harness.postgresql import PASSWORD, USER, DatabaseCase, shared
from tests.store_contract.case import ALICE, BOB, edit, raw, reaction, say
from twisted_chat.events import Event, NewEvent, NewTopic
from twisted_chat.store_contract import Append, Appended, Duplicate, Opened, Revocations, StoreError
from twisted_chat.stores.postgresql import address, queries, schema
from twisted_chat.stores.postgresql.admin import Shared, SharedRooms, SharedTokens
from twisted_chat.stores.postgresql.connection import Patience, connect
from twisted_chat.stores.postgresql.store import PostgreSQLStore
from twisted_chat.stores.workers import AtOnce, call_at_once


class SharedCase(DatabaseCase):
    def store(self, url: str | None = None, steps: Sequence[str] | None = None) -> PostgreSQLStore:
        return PostgreSQLStore(address.parse(url or self.url), Clock(), AtOnce(), AtOnce(), call_at_once, steps=steps)

    def opened(self) -> PostgreSQLStore:
        store = self.store()
        self.successResultOf(store.open())
        self.addCleanup(lambda: self.successResultOf(store.close()))
        return store

    def log(self, store: PostgreSQLStore, room: str) -> list[Event]:
        return self.successResultOf(store.read(room, 0, 1_000_000, 10**9))

    def refusal(self, opening: Deferred[Opened] | Deferred[None] | Deferred[int]) -> str:
        text = str(self.failureResultOf(opening, StoreError).value)
        self.assertNotIn("\n", text)
        self.assertNotIn(PASSWORD, text)
        return text


class WritersTests(SharedCase):
    #: Batches of each writer.
    ROUNDS = 60
    ROOMS = ("a", "b", "c", "d")

    def write(self, store: PostgreSQLStore, number: int, seen: list[tuple[str, int, str]]) -> None:
        """Batches for several rooms each, in any order; half of the keys are those of the other writer."""
        dice = random.Random(number)
        for turn in range(self.ROUNDS):
            rooms = dice.sample(self.ROOMS, dice.randint(1, 4))
            batch = [Append(room, self.new_events(dice, turn, number)) for room in rooms]
            answers = self.successResultOf(store.append(batch))
            for append, outcomes in zip(batch, answers, strict=True):
                for outcome in outcomes:
                    if isinstance(outcome, Appended):
                        seen.append((append.room, outcome.event.seq, outcome.event.id))

    def new_events(self, dice: random.Random, turn: int, number: int) -> list[NewEvent]:
        common: list[NewEvent] = [say(f"common {turn}", key=f"common {turn}")]
        own: list[NewEvent] = [say(f"{number} {turn} {n}", BOB) for n in range(dice.randint(1, 20))]
        if dice.random() < 0.3:
            own += [edit(1, f"{number} {turn}"), reaction(1), raw(b"bytes"), NewTopic(ALICE, None, "tea")]
        return own + common

    def test_they_number_each_room_without_holes_and_keep_each_key_once(self) -> None:
        """Whatever they do at the same time; and neither waits for the other for ever."""
        stores = [self.opened(), self.opened()]
        seen: list[list[tuple[str, int, str]]] = [[], []]
        finished: list[int] = []

        def write(number: int) -> None:
            self.write(stores[number], number, seen[number])
            finished.append(number)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        self.assertEqual(sorted(finished), [0, 1])

        for room in self.ROOMS:
            log = self.log(stores[0], room)
            self.assertEqual([event.seq for event in log], list(range(1, len(log) + 1)))
            keys = [(event.by.id, event.key) for event in log if event.key is not None]
            self.assertEqual(len(keys), len(set(keys)))
            told = sorted((seq, event_id) for each in seen for name, seq, event_id in each if name == room)
            self.assertEqual(told, [(event.seq, event.id) for event in log])
        self.assertGreater(min(len(each) for each in seen), self.ROUNDS)

    def test_one_sees_at_once_what_the_other_has_kept(self) -> None:
        one, two = self.opened(), self.opened()
        for number in range(6):
            [[outcome]] = self.successResultOf((two if number % 2 else one).append([Append("lobby", [say(str(number))])]))
            assert isinstance(outcome, Appended)
            self.assertEqual(outcome.event.seq, number + 1)
        self.assertEqual(self.log(one, "lobby"), self.log(two, "lobby"))

        [[first]] = self.successResultOf(one.append([Append("lobby", [say("x", key="k")])]))
        [[again]] = self.successResultOf(two.append([Append("lobby", [say("x", key="k")])]))

        assert isinstance(first, Appended)
        self.assertEqual(again, Duplicate(first.event))

    def test_parts_of_many_logs_are_read_by_one_question(self) -> None:
        """Each within its own bounds, in the order of the numbers, and none of a room that is not there."""
        store = self.opened()
        for room in ("a", "b", "c"):
            self.successResultOf(store.append([Append(room, [say(f"{room}{n}") for n in range(1, 11)])]))
        wanted = [
            ("b", 3, 4, 1000),
            ("nowhere", 0, 9, 9),
            ("a", 0, 100, 7),
            ("c", 10, 5, 5),
            ("a", 8, 100, 0),
            ("b", 0, 2**100, 2**100),
        ]

        with connect(address.parse(self.url), Patience()) as connection:
            together = queries.read_all(connection, wanted)
            alone = [queries.read(connection, *part) for part in wanted]

        self.assertEqual(together, alone)
        self.assertEqual([[event.seq for event in part] for part in together[:5]], [[4, 5, 6, 7], [], [1, 2, 3], [], [9]])

    def test_a_lease_is_one_servers_until_it_ends(self) -> None:
        one, two = self.opened(), self.opened()
        self.assertTrue(self.successResultOf(one.lease("retention", 60)))
        self.assertFalse(self.successResultOf(two.lease("retention", 60)))
        self.assertTrue(self.successResultOf(two.lease("other", 60)))
        self.assertTrue(self.successResultOf(one.lease("retention", 0)))
        self.assertTrue(self.successResultOf(two.lease("retention", 60)))
        self.assertFalse(self.successResultOf(one.lease("retention", 60)))

    def test_rooms_are_told_by_whichever_server_made_them(self) -> None:
        one, two = self.opened(), self.opened()
        self.successResultOf(one.append([Append("a", [say("1")])]))
        self.successResultOf(two.append([Append("b", [say("1")]), Append("a", [say("2")])]))
        self.successResultOf(two.archive("a", True))
        self.assertEqual(self.successResultOf(one.room_news(0, 10)).archived, {"a": True, "b": False})

    def test_a_closed_store_leaves_no_writer_behind(self) -> None:
        store = self.opened()
        self.assertEqual(len(self.sql("SELECT id FROM twisted_chat.writer")), 1)
        self.successResultOf(store.close())
        self.assertEqual(self.sql("SELECT id FROM twisted_chat.writer"), [])


class SchemaTests(SharedCase):
    def user(self, *rights: str) -> str:
        """The URL of a new user who may do that and no more."""
        name = f"user_{self.database}"
        self.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        self.addCleanup(shared().execute, f"DROP ROLE {name}", database="postgres")
        self.addCleanup(self.sql, f"DROP OWNED BY {name}")
        for right in rights:
            self.sql(f"GRANT {right} TO {name}")
        return shared().url(self.database, user=name)

    #: What a server needs, as docs/operating.rst says.
    RIGHTS = (
        "USAGE ON SCHEMA twisted_chat",
        "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA twisted_chat",
    )

    def test_a_user_without_the_right_to_make_tables_runs_a_server(self) -> None:
        store = self.store(self.user(*self.RIGHTS))
        self.successResultOf(store.open())
        self.successResultOf(store.append([Append("lobby", [say("x", key="k"), edit(1, "y"), reaction(1)])]))
        self.assertEqual(len(self.log(store, "lobby")), 3)
        self.successResultOf(store.purge("lobby", 1, None))
        self.successResultOf(store.archive("lobby", True))
        self.successResultOf(store.mark_read("u1", "lobby", 1))
        self.successResultOf(store.probe())
        self.successResultOf(store.close())

    def test_but_not_when_the_schema_is_older(self) -> None:
        """The error says which command makes it current, and somebody who may runs that."""
        newer = [*schema.schema_steps(), "CREATE TABLE twisted_chat.more (x integer)"]
        url = self.user(*self.RIGHTS)
        said = self.refusal(self.store(url, newer).open())
        self.assertIn(f"has taken {len(newer) - 1} of {len(newer)} steps of the schema", said)
        self.assertIn("run twisted-chat store upgrade as a user that may", said)

        owner = Shared(address.parse(self.url), newer)
        self.assertEqual(self.successResultOf(owner.upgrade()), 1)
        self.assertEqual(self.successResultOf(owner.upgrade()), 0)

        store = self.store(url, newer)
        self.successResultOf(store.open())
        self.successResultOf(store.close())

    def test_an_empty_database_and_a_user_who_may_do_nothing(self) -> None:
        self.sql("DROP SCHEMA twisted_chat CASCADE")
        self.assertIn(f"0 of {len(schema.schema_steps())} steps", self.refusal(self.store(self.user()).open()))

    def test_a_newer_schema_is_left_alone(self) -> None:
        self.sql("INSERT INTO twisted_chat.step (number) VALUES (99)")
        knows = len(schema.schema_steps())
        self.assertIn(f"was written by a newer version (schema 99, this one knows {knows})", self.refusal(self.store().open()))

    def test_servers_that_start_at_the_same_time(self) -> None:
        """One takes the steps, the other waits, and both have the same epoch and secret."""
        self.sql("DROP SCHEMA twisted_chat CASCADE")
        stores = [self.store() for _ in range(4)]
        opened: list[Opened] = []
        threads = [
            threading.Thread(target=lambda store=store: opened.append(self.successResultOf(store.open()))) for store in stores
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(len(opened), 4)
        self.assertEqual(len({(each.epoch, each.secret) for each in opened}), 1)
        for store in stores:
            self.successResultOf(store.close())

    def test_a_step_that_fails_changes_nothing(self) -> None:
        broken = [*schema.schema_steps(), "CREATE TABLE twisted_chat.more (x integer)", "CREATE TABEL y"]
        self.assertIn("syntax error", self.refusal(Shared(address.parse(self.url), broken).upgrade()))
        self.assertEqual(self.sql("SELECT to_regclass('twisted_chat.more')"), [(None,)])
        self.assertEqual(self.sql("SELECT max(number) FROM twisted_chat.step"), [(len(broken) - 2,)])

    def test_tokens_that_were_revoked_before_they_had_numbers(self) -> None:
        """They are found, in the order of their times, and later ones after them."""
        self.sql("DROP SCHEMA twisted_chat CASCADE")
        self.successResultOf(Shared(address.parse(self.url), schema.schema_steps()[:1]).upgrade())
        self.sql("UPDATE twisted_chat.news SET number = 5")
        for number, revoked in ((1, 3000), (2, None), (3, 2000)):
            self.sql(
                "INSERT INTO twisted_chat.token (id, secret_hash, person, name, created, revoked, rights)"
                f" VALUES ('t{number}', 'x{number}', 'u', 'n', 1, {'NULL' if revoked is None else revoked}, '[]')"
            )

        store = self.store()
        self.successResultOf(store.open())

        self.assertEqual(self.successResultOf(store.revocations(0, 9)), Revocations(7, ("t3", "t1")))
        self.successResultOf(store.revoke_token("t2", 1))
        self.assertEqual(self.successResultOf(store.revocations(7, 9)), Revocations(8, ("t2",)))
        self.successResultOf(store.close())


class LoginTests(SharedCase):
    """How a server shows who it is, and finds out who the database is."""

    def test_the_password_is_in_a_file(self) -> None:
        directory = self.mktemp()
        os.makedirs(directory)
        path = os.path.join(directory, "passwords")
        with open(path, "w") as file:
            file.write(f"127.0.0.1:*:*:{USER}:{PASSWORD}\n")
        os.chmod(path, 0o600)
        os.environ["PGPASSFILE"] = path
        self.addCleanup(os.environ.pop, "PGPASSFILE")
        store = self.store(f"postgresql://{USER}@127.0.0.1:{shared().port}/{self.database}")
        self.successResultOf(store.open())
        self.successResultOf(store.close())

    def test_tls_is_not_given_up(self) -> None:
        """A URL that asks for TLS never leads to a connection without it, such as this PostgreSQL offers."""
        for mode in ("require", "verify-full"):
            said = self.refusal(self.store(f"{self.url}?sslmode={mode}").open())
            self.assertIn("SSL", said)
        store = self.store(f"{self.url}?sslmode=prefer")
        self.successResultOf(store.open())
        self.successResultOf(store.close())


class RefusalTests(SharedCase):
    """Why a database cannot be used: one line, with what helps."""

    def test_no_such_database(self) -> None:
        said = self.refusal(self.store(shared().url("nowhere")).open())
        self.assertIn('database "nowhere" does not exist; create the database, or name another in --store', said)

    def test_a_wrong_password(self) -> None:
        said = self.refusal(self.store(shared().url(self.database, password="wrong-one")).open())
        self.assertIn("password authentication failed", said)
        self.assertIn("PGPASSFILE", said)
        self.assertNotIn("wrong-one", said)

    def test_nobody_there(self) -> None:
        said = self.refusal(self.store(shared().url(self.database, port=1)).open())
        self.assertIn("start the database, or check host and port in --store", said)

    def test_another_encoding(self) -> None:
        shared().execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0", database="postgres")
        self.addCleanup(shared().drop_database, "latin")
        self.assertIn("ENCODING 'UTF8' TEMPLATE template0", self.refusal(self.store(shared().url("latin")).open()))

    def test_too_old(self) -> None:
        from twisted_chat.stores.postgresql import connection

        self.patch(connection, "OLDEST", 990_000)
        self.assertIn("is PostgreSQL 18, and 99 is needed", self.refusal(self.store().open()))

    def test_the_command_line_is_told_the_same(self) -> None:
        where = address.parse(shared().url("nowhere"))
        self.assertIn("create the database", self.refusal(SharedTokens(where).open()))
        self.assertIn("create the database", self.refusal(SharedRooms(where).open()))


class SharedRoomsTests(SharedCase):
    def test_rooms_for_another_process(self) -> None:
        rooms, store = SharedRooms(address.parse(self.url)), self.opened()
        self.successResultOf(rooms.open())
        self.assertTrue(self.successResultOf(rooms.create_room("tea")))
        self.assertFalse(self.successResultOf(rooms.create_room("tea")))
        self.assertFalse(self.successResultOf(rooms.archive_room("nowhere", True)))
        self.assertTrue(self.successResultOf(rooms.archive_room("tea", True)))
        self.successResultOf(store.append([Append("lobby", [say("x")])]))
        self.assertEqual([room.name for room in self.successResultOf(rooms.list_rooms())], ["lobby", "tea"])
        self.assertEqual(self.successResultOf(store.room_news(0, 10)).archived, {"lobby": False, "tea": True})
