"""Roles and sanctions on a database that several servers share."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from tests.harness.waiting import wait_until
from tests.store_contract.case import ALICE, BOB, CAROL, configure, edit, member, sanction, say
from tests.test_stores_postgresql_shared import SharedCase
from twisted_chat.errors import Conflict
from twisted_chat.events import Author, NewEvent, NewTopic, RoomSettings
from twisted_chat.standings import Standing
from twisted_chat.store_contract import Append, Appended, Outcome
from twisted_chat.stores.postgresql import address, queries, schema, standings, writer
from twisted_chat.stores.postgresql.admin import Shared, SharedRooms
from twisted_chat.stores.postgresql.connection import Patience, connect
from twisted_chat.stores.postgresql.store import PostgreSQLStore

T = TypeVar("T")


class StandingsCase(SharedCase):
    def append(self, store: PostgreSQLStore, room: str, *new_events: NewEvent) -> list[Outcome]:
        [outcomes] = self.successResultOf(store.append([Append(room, new_events)]))
        return outcomes

    def at_once(self, *works: Callable[[], T]) -> list[T]:
        """Do all of it at the same time, and what came out; what fails in a thread fails the test."""
        done: list[T] = []
        threads = [threading.Thread(target=lambda work=work: done.append(work())) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        self.assertEqual(len(done), len(works))
        return done


class TwoServersTests(StandingsCase):
    ROUNDS = 40

    def test_two_owners_leave_at_the_same_moment(self) -> None:
        """On two servers: one of them stays, whichever it is."""
        stores = [self.opened(), self.opened()]
        self.append(stores[0], "den", configure(creates=True), member(ALICE, "owner"), member(BOB, "owner"))
        for _ in range(10):
            found: list[Outcome] = self.at_once(
                lambda: self.append(stores[0], "den", member(ALICE, None))[0],
                lambda: self.append(stores[1], "den", member(BOB, None, by=BOB))[0],
            )
            self.assertEqual({type(outcome) for outcome in found}, {Appended, Conflict})
            [owner] = self.successResultOf(stores[0].members("den", "", None, 9))
            self.append(stores[0], "den", *(member(who, "owner", by=Author(owner.person, "x")) for who in (ALICE, BOB)))

    def test_whatever_they_do_neither_waits_for_the_other_in_a_circle(self) -> None:
        """Rooms are made, archived, settled and governed by all; who follows the news has what the store has."""
        self.patch(writer, "ATTEMPTS", 1)
        stores = [self.opened(), self.opened()]
        rooms = SharedRooms(address.parse(self.url))
        reader = self.opened()
        known: dict[tuple[str, str], Standing] = {}
        settings: dict[str, RoomSettings] = {}
        since = [0, 0]

        def catch_up() -> None:
            news = self.successResultOf(reader.standing_news(since[0], 5))
            changed = self.successResultOf(reader.room_news(since[1], 5))
            since[:] = [news.number, changed.number]
            known.update({(each.room, each.person): each for each in news.standings})
            settings.update({room: changed.settings.get(room, RoomSettings()) for room in changed.archived})

        def follow() -> None:
            for _ in range(4 * self.ROUNDS):
                catch_up()

        def administrate() -> None:
            dice = random.Random(9)
            for _ in range(self.ROUNDS):
                self.successResultOf(rooms.archive_room(f"room {dice.randrange(8)}", dice.random() < 0.5))
                self.successResultOf(rooms.create_room(f"room {dice.randrange(200)}"))

        self.at_once(lambda: self.govern(stores[0], 1), lambda: self.govern(stores[1], 2), follow, administrate)

        before = [-1, -1]
        while before != since:
            before = list(since)
            catch_up()
        opened = self.successResultOf(self.store().open())
        kept = {(room, each.person): each for room in settings for each in self.successResultOf(reader.sanctions(room))}
        kept |= {
            (room, each.person): each for room in settings for each in self.successResultOf(reader.members(room, "", None, 99))
        }
        self.assertEqual({place: each for place, each in known.items() if not each.nothing}, kept)
        self.assertEqual(settings, {room.name: room.settings for room in opened.rooms})
        self.assertEqual(opened.standing_news, since[0])
        self.assert_no_deadlock(*stores, reader)

    def govern(self, store: PostgreSQLStore, number: int) -> None:
        dice = random.Random(number)
        people = [ALICE, BOB, CAROL]
        for turn in range(self.ROUNDS):
            batch = []
            for room in dice.sample(range(8), 3):
                new_events: list[NewEvent] = [configure(title=f"{number} {turn}"), say("hello")]
                who = dice.choice(people)
                new_events.append(member(who, dice.choice(["owner", "member", None])))
                new_events.append(sanction(dice.choice(people), "mute", on=dice.random() < 0.5, address=f"192.0.2.{turn}"))
                batch.append(Append(f"room {room}", new_events))
            batch.append(Append(f"room {dice.randrange(200)}", [say("hello")]))
            self.successResultOf(store.append(batch))
            self.successResultOf(store.archive(f"room {dice.randrange(8)}", dice.random() < 0.5))
            self.successResultOf(store.append([Append(f"room {room}", [say("quick")]) for room in dice.sample(range(8), 4)]))

    def assert_no_deadlock(self, *stores: PostgreSQLStore) -> None:
        for store in stores:
            self.successResultOf(store.close())
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        wait_until(lambda: self.sql(others)[0][0] <= 1, bool)
        self.assertEqual(self.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"), [(0,)])


class CostTests(StandingsCase):
    """What is asked often is found by an index, in a large database too."""

    def setUp(self) -> None:
        super().setUp()
        self.kept = self.opened()
        self.append(self.kept, "den", configure(creates=True), member(ALICE, "owner"))
        self.sql(
            "INSERT INTO twisted_chat.standing (room, person, name, folded, rank, muted, banned, news)"
            " SELECT CASE WHEN n % 2 = 0 THEN 1 ELSE 100 + n % 500 END, 'u2' || n, 'n' || n,"
            " convert_to('n' || n, 'UTF8'), 2, 0, 0, 100 + n"
            " FROM generate_series(1, 30000) AS n"
        )
        self.sql(
            "INSERT INTO twisted_chat.event (room, seq, at, of, revision, kind, batch, author, name, text)"
            " SELECT 1, n, 0, CASE WHEN n % 100 > 0 THEN 1 END, 1, CASE n % 100 WHEN 0 THEN 1 ELSE 2 END, 'b', 'u', 'n', 't'"
            " FROM generate_series(10, 30000) AS n"
        )
        self.sql("ANALYZE twisted_chat.standing, twisted_chat.event")

    def plan(self, statement: str, asked: dict[str, object] | tuple[object, ...]) -> str:
        with connect(address.parse(self.url), Patience()) as connection:
            rows = connection.execute(f"EXPLAIN {statement}", asked).fetchall()
        plan = "\n".join(row[0] for row in rows)
        self.assertNotIn("Seq Scan on standing ", plan)
        self.assertNotIn("Seq Scan on event ", plan)
        return plan

    def test_pages(self) -> None:
        bounds: dict[str, object] = {"room": "den", "pivot": 20_000, "older": 50, "newer": 50}
        plan = self.plan(queries.PAGE, bounds)
        self.assertEqual(plan.count("using event_shown"), 2, plan)

    def test_standings(self) -> None:
        self.assertIn("standing_person", self.plan(standings.OF_PERSON, ("u77",)))
        self.assertIn("standing_news", self.plan(standings.NEWS, (30_000, 100)))
        where: dict[str, object] = {"room": "den", "search": b"", "rank": 2, "folded": b"n5", "person": "", "limit": 50}
        self.assertIn("standing_members", self.plan(standings.MEMBERS, where))
        self.assertIn("standing_sanctions", self.plan(standings.SANCTIONS, ("den",)))
        self.assertIn("standing_sanctions", self.plan(standings.ALL_SANCTIONS, {"now": 5}))
        self.plan(standings.CONCERNED, standings.asked([(1, "u1"), (2, "u2")]))


class UpgradeTests(StandingsCase):
    def test_a_database_from_before_standings(self) -> None:
        """Its rooms have the usual settings, its pages are those of before, and what is new can be added."""
        self.sql("DROP SCHEMA twisted_chat CASCADE")
        old = schema.schema_steps()[:2]
        self.successResultOf(Shared(address.parse(self.url), old).upgrade())
        self.sql("INSERT INTO twisted_chat.room (name, head, batch, news, oldest) VALUES ('lobby', 2, 'b', 1, 5)")
        self.sql("UPDATE twisted_chat.news SET number = 1")
        self.sql(
            "INSERT INTO twisted_chat.event (room, seq, at, kind, batch, author, name, text)"
            " SELECT id, n, 5, CASE n WHEN 1 THEN 1 ELSE 5 END, 'b', 'u1', 'alice', 'text'"
            " FROM twisted_chat.room, generate_series(1, 2) AS n"
        )

        store = self.store()
        opened = self.successResultOf(store.open())

        self.addCleanup(lambda: self.successResultOf(store.close()))
        self.assertEqual([(room.name, room.settings) for room in opened.rooms], [("lobby", RoomSettings())])
        self.assertEqual((opened.news, opened.standing_news), (1, 0))
        self.append(store, "lobby", edit(1, "new"), member(ALICE, "owner"), NewTopic(ALICE, None, "tea"), configure(title="Hall"))
        page = self.successResultOf(store.page("lobby", 10))
        self.assertEqual([event.seq for event in page.events], [1, 2, 4, 5, 6])
        self.assertEqual(self.successResultOf(store.standing("lobby", "u1")), Standing("lobby", "u1", "alice", "owner"))


del SharedCase, StandingsCase
