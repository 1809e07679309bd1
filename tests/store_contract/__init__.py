"""The store contract as stories; every store's test module runs them on its store.

``StoreContract`` is what all stores promise, ``DurableContract`` what those promise that outlive their process.
"""

from __future__ import annotations

from tests.store_contract.accounts import AccountsContract
from tests.store_contract.amending import AmendingContract
from tests.store_contract.appending import AppendingContract
from tests.store_contract.case import ALICE, BOB, CAROL, configure, delete, edit, member, raw, reaction, sanction, say, token
from tests.store_contract.governing import GoverningContract
from tests.store_contract.histories import HistoriesContract
from tests.store_contract.machine import MachineContract
from tests.store_contract.reading import ReadingContract
from tests.store_contract.records import RecordsContract
from twisted_chat.errors import Conflict
from twisted_chat.events import Cursor, NewTopic, RoomSettings
from twisted_chat.store_contract import Duplicate, Opened, RoomRecord


class StoreContract(
    AppendingContract,
    AmendingContract,
    GoverningContract,
    ReadingContract,
    RecordsContract,
    AccountsContract,
    HistoriesContract,
    MachineContract,
):
    """What every store promises."""


class DurableContract(StoreContract):
    """What is kept over a restart: everything."""

    keeps = True

    def restart(self) -> Opened:
        self.close()
        self.store = self.make_store()
        return self.open()

    def between(self) -> None:
        self.restart()

    def test_a_restart_changes_nothing(self) -> None:
        """Logs, pages, rooms, marks, tokens, cursors, epoch and secret are the same after a restart, and retries are still found."""
        self.appended("a", say("1", key="k"), say("2"), edit(1, "one"), reaction(2), raw(b"\x00"), NewTopic(ALICE, None, "tea"))
        self.appended("b", say("x"), say("y"), delete(1))
        self.successResultOf(self.store.archive("b", True))
        self.successResultOf(self.store.mark_read("u1", "a", 2))
        self.successResultOf(self.store.create_token(token(1), b"1" * 32))
        self.purge("b", 2)
        logs, pages = [self.log(room) for room in "ab"], [self.page(room) for room in "ab"]
        records = [self.purge(room) for room in "ab"]

        self.successResultOf(self.store.save_cursor("hook", "a", Cursor(self.opened.epoch, 2, "x-2")))

        opened = self.restart()

        self.assertEqual(self.successResultOf(self.store.load_cursors("hook")), {"a": Cursor(self.opened.epoch, 2, "x-2")})
        self.assertEqual((opened.epoch, opened.secret), (self.opened.epoch, self.opened.secret))
        self.assertEqual(sorted(opened.rooms, key=lambda room: room.name), records)
        self.assertEqual([self.log(room) for room in "ab"], logs)
        self.assertEqual([self.page(room) for room in "ab"], pages)
        self.assertEqual(self.successResultOf(self.store.read_marks("u1")), {"a": 2})
        self.assertEqual(self.successResultOf(self.store.list_tokens()), [token(1)])
        self.assertEqual(self.append("a", say("1", key="k")), [Duplicate(logs[0][0])])
        [event] = self.appended("a", say("next"))
        self.assertEqual(event.seq, 7)

    def test_an_emptied_room_goes_on_counting_after_a_restart(self) -> None:
        """A room whose events were all purged keeps its head, and the next event gets the next number."""
        events = self.appended("lobby", say("1"), say("2"))
        self.purge("lobby", 0)
        [record] = self.restart().rooms

        self.assertEqual(record, RoomRecord("lobby", 3, 2, events[1].id))

        [event] = self.appended("lobby", say("3"))
        self.assertEqual(event.seq, 3)

    def test_rooms_and_people_after_a_restart(self) -> None:
        """Settings, roles, sanctions, and the numbers of their news are those of before."""
        self.appended(
            "den",
            configure(creates=True, access="private", title="The den", writers="members", slow_mode=1.5),
            member(ALICE, "owner"),
            member(BOB, "reader"),
            sanction(CAROL, until=9, address="192.0.2.0/24"),
        )
        self.appended("closed", configure(archived=True))
        news, people = self.standing_news(), [self.standing("den", person) for person in ("u1", "u2", "u3", "a192.0.2.0/24")]

        opened = self.restart()

        self.assertEqual(opened.standing_news, news.number)
        rooms = {record.name: (record.settings, record.archived) for record in opened.rooms}
        den = RoomSettings("private", "The den", "members", 1.5)
        self.assertEqual(rooms, {"den": (den, False), "closed": (RoomSettings(), True)})
        self.assertEqual(self.standing_news(), news)
        self.assertEqual([self.standing("den", standing.person) for standing in people], people)
        self.refused("den", member(ALICE, None), Conflict)
        self.appended("den", member(BOB, "owner"))
        after = self.standing_news(news.number)
        self.assertEqual([standing.person for standing in after.standings], ["u2"])
