"""The contract of reading: after a number, by pages, and what retention leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.json import encode

from tests.store_contract.case import ALICE, BEGIN, StoreCase, delete, edit, raw, reaction, say
from twisted_chat.errors import NoSuchEvent
from twisted_chat.events import (
    Author,
    Message,
    NewTopic,
    Reaction,
)
from twisted_chat.store_contract import Aged, Page, RoomRecord


class ReadingContract(StoreCase):
    def test_reading_a_room_that_is_not_there(self) -> None:
        """An unknown room reads as an empty one."""
        self.assertEqual(self.log("nowhere"), [])
        self.assertEqual(self.page("nowhere"), Page((), 0, False, False))
        self.assertIsNone(self.event("nowhere", 1))
        self.assertEqual(self.purge("nowhere", 1, 1), RoomRecord("nowhere"))

    def test_read_after_a_number(self) -> None:
        """Reading begins after the given number and ends at the limit or the head; a number without event is None."""
        self.appended("lobby", *(say(str(n)) for n in range(1, 11)))

        self.assertEqual(self.texts("lobby", 7), ["8", "9", "10"])
        self.assertEqual(self.texts("lobby", 7, limit=2), ["8", "9"])
        self.assertEqual(self.log("lobby", 10), [])
        self.assertEqual(self.log("lobby", 99), [])
        self.assertIsNone(self.event("lobby", 0))
        self.assertIsNone(self.event("lobby", 11))

    def test_read_stops_before_too_many_bytes_but_moves_on(self) -> None:
        """A read ends before it exceeds the bytes, counted in UTF-8 or as data, but always returns one event."""
        self.appended("lobby", say("ä" * 50), raw(bytes(100)), say("x" * 100), say("y"), reaction(1), edit(1, "z" * 100))

        self.assertEqual(len(self.log("lobby", max_bytes=99)), 1, "the first one always comes")
        self.assertEqual(len(self.log("lobby", max_bytes=199)), 1)
        self.assertEqual(len(self.log("lobby", max_bytes=200)), 2)
        self.assertEqual(len(self.log("lobby", max_bytes=300)), 3)
        self.assertEqual(len(self.log("lobby", max_bytes=301)), 5)
        self.assertEqual(len(self.log("lobby", max_bytes=401)), 6)
        self.assertEqual(len(self.log("lobby", 2, max_bytes=0)), 1)

    # -- pages

    def fill(self) -> None:
        """Messages 1, 3, 5, 7, 9 with reactions to the first between them, and a topic at 10."""
        for n in (1, 3, 5, 7, 9):
            self.appended("lobby", say(str(n)))
            if n < 9:
                self.appended("lobby", reaction(1, f"e{n}"))
        self.appended("lobby", NewTopic(ALICE, None, "tea"))

    def assert_page(self, page: Page, seqs: Sequence[int], more_before: bool, more_after: bool) -> None:
        self.assertEqual([event.seq for event in page.events], list(seqs))
        self.assertEqual((page.head, page.more_before, page.more_after), (10, more_before, more_after))

    def test_the_newest_page(self) -> None:
        """Without a place a page has the newest entries, and says whether there are older ones."""
        self.fill()

        self.assert_page(self.page("lobby", 3), [7, 9, 10], True, False)
        self.assert_page(self.page("lobby", 6), [1, 3, 5, 7, 9, 10], False, False)
        self.assert_page(self.page("lobby", 7), [1, 3, 5, 7, 9, 10], False, False)

    def test_page_before(self) -> None:
        """A page before a number has the entries just below it."""
        self.fill()

        self.assert_page(self.page("lobby", 2, before=7), [3, 5], True, True)
        self.assert_page(self.page("lobby", 2, before=6), [3, 5], True, True)
        self.assert_page(self.page("lobby", 2, before=5), [1, 3], False, True)
        self.assert_page(self.page("lobby", 2, before=1), [], False, True)
        self.assert_page(self.page("lobby", 2, before=99), [9, 10], True, False)

    def test_page_after(self) -> None:
        """A page after a number has the entries just above it."""
        self.fill()

        self.assert_page(self.page("lobby", 2, after=3), [5, 7], True, True)
        self.assert_page(self.page("lobby", 2, after=7), [9, 10], True, False)
        self.assert_page(self.page("lobby", 2, after=10), [], True, False)
        self.assert_page(self.page("lobby", 2, after=0), [1, 3], False, True)

    def test_page_around(self) -> None:
        """A page around a number has entries of both sides, and more of one where the other ends."""
        self.fill()

        self.assert_page(self.page("lobby", 3, around=5), [3, 5, 7], True, True)
        self.assert_page(self.page("lobby", 4, around=5), [3, 5, 7, 9], True, True)
        self.assert_page(self.page("lobby", 1, around=5), [5], True, True)
        self.assert_page(self.page("lobby", 4, around=1), [1, 3, 5, 7], False, True)
        self.assert_page(self.page("lobby", 4, around=10), [5, 7, 9, 10], True, False)
        self.assert_page(self.page("lobby", 9, around=99), [1, 3, 5, 7, 9, 10], False, False)

    def test_a_page_shows_reactions_of_the_messages_on_it(self) -> None:
        """The reactions of a message are on its page, wherever they are in the log."""
        self.fill()
        [first] = self.page("lobby", 1, after=0).events
        assert isinstance(first, Message)

        self.assertEqual(first.reactions, tuple(Reaction(f"e{n}", ("u2",)) for n in (1, 3, 5, 7)))

    def test_a_page_is_about_a_megabyte_at_most(self) -> None:
        """Long texts and many reactions make it shorter, and what is left out is on the next page."""
        people = [Author(f"u{number:020}", "x") for number in range(50)]
        for _ in range(60):
            self.appended("lobby", say("x" * 16_000))
        self.appended("lobby", *(reaction(7, f"e{number}", by=person) for number in range(50) for person in people))
        places: list[dict[str, Any]] = [{"before": 61}, {"after": 0}, {"around": 7}, {"around": 60}, {}]

        for place in places:
            page = self.page("lobby", 60, **place)
            self.assertLess(len(encode(page.events)), 1_200_000)
            self.assertGreater(len(page.events), 45)
            seqs = [event.seq for event in page.events]
            self.assertEqual(seqs, list(range(seqs[0], seqs[-1] + 1)))
            self.assertIn(place.get("around", seqs[0]), seqs)
            self.assertEqual((page.more_before, page.more_after), (seqs[0] > 1, seqs[-1] < 60))

    def test_neither_escapes_nor_long_ids_make_a_page_larger(self) -> None:
        """A page stays below its bytes as JSON, with characters that JSON escapes and with long ids of people."""
        people = [Author("u" + "x" * 120 + str(number), "x") for number in range(50)]
        for number in range(1, 31):
            self.appended("lobby", say("\x01" * 9_000 if number % 2 else "short"))
        for number in range(2, 31, 2):
            self.appended("lobby", *(reaction(number, f"e{emoji}", by=person) for emoji in range(20) for person in people))
        page = self.page("lobby", 30)

        self.assertLess(len(encode(page.events)), 1_001_000)
        self.assertGreater(len(page.events), 5)
        self.assertTrue(page.more_before)

    # -- retention

    def test_keep_the_newest(self) -> None:
        """A purge by number keeps the newest events; what was purged is read by nobody and cannot be amended."""
        events = self.appended("lobby", *(say(str(n), key=f"k{n}") for n in range(1, 11)))

        self.assertEqual(self.purge("lobby", 4), RoomRecord("lobby", 7, 10, events[-1].id))
        self.assertEqual(self.log("lobby"), events[6:])
        self.assertEqual(self.log("lobby", 3), events[6:])
        self.assertEqual(self.log("lobby", 8), events[8:])
        self.assertIsNone(self.event("lobby", 6))
        self.assertEqual(self.page("lobby"), Page(tuple(events[6:]), 10, False, False))
        self.refused("lobby", edit(6, "x"), NoSuchEvent)
        self.assertEqual(self.purge("lobby", 4).first, 7)
        self.assertEqual(self.purge("lobby", 100).first, 7)

    def test_keep_the_young(self) -> None:
        """A purge by time keeps the events from that time on; of two bounds the stricter one counts."""
        for n in range(5):
            self.appended("lobby", say(str(n)), say(str(n)))
            self.clock.advance(10)
        cut = int((BEGIN + 20) * 1000)

        self.assertEqual(self.purge("lobby", None, cut).first, 5)
        self.assertEqual(self.purge("lobby", 100, cut + 1).first, 7)
        self.assertEqual(self.purge("lobby", 3, cut + 1).first, 8)

    def test_a_purged_room_goes_on_counting(self) -> None:
        """A room without events keeps head and topic, and keys of purged messages are free again."""
        events = self.appended("lobby", say("1", key="k"), say("2"), NewTopic(ALICE, None, "tea"))

        self.assertEqual(self.purge("lobby", 0), RoomRecord("lobby", 4, 3, events[2].id, "tea"))
        self.assertEqual(self.log("lobby"), [])
        self.assertEqual(self.page("lobby"), Page((), 3, False, False))

        [again] = self.appended("lobby", say("again", key="k"))

        self.assertEqual(again.seq, 4)
        self.assertEqual(self.log("lobby"), [again])

    def test_purging_takes_the_present_state_with_it(self) -> None:
        """A purge removes edits and reactions of purged messages, not of those that stay."""
        self.appended("lobby", say("1"), say("2"), edit(1, "one"), edit(2, "two"), reaction(1), reaction(2))
        self.purge("lobby", 5)
        [shown] = self.page("lobby").events
        assert isinstance(shown, Message)

        self.assertEqual((shown.seq, shown.text, len(shown.reactions)), (2, "two", 1))
        self.refused("lobby", edit(1, "again", revision=2), NoSuchEvent)

        self.appended("lobby", edit(2, "second", revision=2), delete(2))
        self.assertEqual([event.seq for event in self.log("lobby")], [2, 3, 4, 5, 6, 7, 8])

    def aged(self, before_ms: int, after: Aged | None = None, limit: int = 100) -> list[Aged]:
        return self.successResultOf(self.store.aged(before_ms, after, limit))

    def test_rooms_by_the_age_of_their_oldest_event(self) -> None:
        """Retention finds the rooms that have something old, and no others."""
        for room in ("b", "a", "c"):
            self.appended(room, say("1"))
            self.clock.advance(1)
            self.appended(room, say("2"))
        self.successResultOf(self.store.archive("empty", False))
        at = int(BEGIN * 1000)
        b, a, c = Aged(at, "b"), Aged(at + 1000, "a"), Aged(at + 2000, "c")

        self.assertEqual(self.aged(at), [])
        self.assertEqual(self.aged(at + 2000), [b, a])
        self.assertEqual(self.aged(at + 2001), [b, a, c])
        self.assertEqual(self.aged(at + 2001, limit=2), [b, a])
        self.assertEqual(self.aged(at + 2001, after=a), [c])
        self.assertEqual(self.aged(at + 2001, after=Aged(at + 1000, "")), [a, c])

        self.purge("b", 1)
        self.purge("a", 0)

        self.assertEqual(self.aged(at + 9000), [Aged(at + 1000, "b"), c])

        self.clock.advance(10)
        self.appended("a", say("3"), say("4"))

        self.assertEqual(self.aged(at + 90_000), [Aged(at + 1000, "b"), c, Aged(at + 13_000, "a")])
