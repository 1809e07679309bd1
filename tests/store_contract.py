"""The store contract as stories; every store's test module runs them on its store.

``StoreContract`` is what all stores promise, ``DurableContract`` what those promise that outlive their process.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.core import amendments
from twisted_chat.errors import ChatError, Conflict, Forbidden, Gone, LimitReached, NoSuchEvent, Unavailable
from twisted_chat.events import (
    Author,
    Cursor,
    Deleted,
    Edited,
    Event,
    Message,
    NewDeletion,
    NewEdit,
    NewEvent,
    NewMessage,
    NewReaction,
    NewTopic,
    Reacted,
    Reaction,
    TopicSet,
)
from twisted_chat.interfaces import Append, Appended, Duplicate, Opened, Outcome, Page, RoomRecord, Store, TokenRecord

ALICE, BOB, CAROL = Author("u1", "alice"), Author("u2", "bob"), Author("u3", "carol")
BEGIN = 1_763_880_000.0  # seconds: some day in November 2025
ALL = 1_000_000

#: Texts that a store could spoil: quotes, controls, NUL, astral and combining characters, things that look like JSON or SQL.
AWKWARD = [
    "",
    " ",
    "plain",
    "'; drop table event; --",
    '{"text": "not an object"}',
    "[1, 2]",
    "null",
    "true",
    "12",
    "1e3",
    '\\ \\u0000 \\n " / \b\f\n\r\t',
    "NUL \x00 in the middle",
    "\x00",
    "".join(map(chr, range(1, 32))) + "\x7f\x80\x85\u2028\u2029\ufeff\uffff",
    "e\u0301 👩\u200d👩\u200d👧 \U0010ffff עברית",
    "x" * 20_000,
]


def say(text: str, by: Author = ALICE, key: str | None = None, reply_to: int | None = None) -> NewMessage:
    return NewMessage(by, key, text, reply_to=reply_to)


def raw(data: bytes, by: Author = ALICE, key: str | None = None) -> NewMessage:
    return NewMessage(by, key, data=data)


def edit(of: int, text: str, revision: int = 1, by: Author = ALICE, key: str | None = None) -> NewEdit:
    return NewEdit(by, key, of, revision, text)


def delete(of: int, by: Author = ALICE, key: str | None = None, any_author: bool = False) -> NewDeletion:
    return NewDeletion(by, key, of, any_author)


def reaction(of: int, emoji: str = "👍", on: bool = True, by: Author = BOB, key: str | None = None) -> NewReaction:
    return NewReaction(by, key, of, emoji, on)


def token(number: int, created: int = 1000, expires: int | None = None, rights: tuple[str, ...] = ()) -> TokenRecord:
    return TokenRecord(f"t{number}", f"u{number}", f"person {number}", created, expires, None, rights)


class StoreCase(SynchronousTestCase):
    """A store that is open, on a clock that a test advances."""

    store: Store

    def make_store(self) -> Store:
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(BEGIN)
        self.randomness = random.Random(2025)
        self.store = self.make_store()
        self.opened = self.open()
        self.addCleanup(self.close)

    def open(self) -> Opened:
        return self.successResultOf(self.store.open())

    def close(self) -> None:
        self.successResultOf(self.store.close())

    def append(self, room: str, *new_events: NewEvent) -> list[Outcome]:
        [outcomes] = self.successResultOf(self.store.append([Append(room, new_events)]))
        return outcomes

    def appended(self, room: str, *new_events: NewEvent) -> list[Event]:
        """Append what must succeed."""
        outcomes = self.append(room, *new_events)
        events = [outcome.event for outcome in outcomes if isinstance(outcome, Appended)]
        self.assertEqual(len(events), len(new_events), outcomes)
        return events

    def refused(self, room: str, new_event: NewEvent, error: type[ChatError]) -> None:
        before = self.log(room)
        [outcome] = self.append(room, new_event)
        self.assertIsInstance(outcome, error)
        self.assertEqual(self.log(room), before)

    def log(self, room: str, after: int = 0, limit: int = ALL, max_bytes: int = ALL * ALL) -> list[Event]:
        return self.successResultOf(self.store.read(room, after, limit, max_bytes))

    def texts(self, room: str, after: int = 0, limit: int = ALL, max_bytes: int = ALL * ALL) -> list[str | None]:
        return [getattr(event, "text", None) for event in self.log(room, after, limit, max_bytes)]

    def page(
        self, room: str, limit: int = ALL, before: int | None = None, after: int | None = None, around: int | None = None
    ) -> Page:
        return self.successResultOf(self.store.page(room, limit, before=before, after=after, around=around))

    def event(self, room: str, seq: int) -> Event | None:
        return self.successResultOf(self.store.event(room, seq))

    def purge(self, room: str, keep_events: int | None = None, keep_after_ms: int | None = None) -> RoomRecord:
        return self.successResultOf(self.store.purge(room, keep_events, keep_after_ms))


class StoreContract(StoreCase):
    # -- numbering and keeping

    def test_events_are_numbered_from_one_and_returned_as_they_are_kept(self) -> None:
        """What the sender gets is what every reader gets."""
        events = self.appended("lobby", say("one"), say("two", BOB, "k1", reply_to=1), raw(b"\x00\xff"))
        self.assertEqual([event.seq for event in events], [1, 2, 3])
        self.assertEqual({event.at for event in events}, {int(BEGIN * 1000)})
        self.assertEqual(events[1], Message(2, events[1].id, int(BEGIN * 1000), BOB, "k1", "two", reply_to=1))
        self.assertEqual(self.log("lobby"), events)
        self.assertEqual([self.event("lobby", seq) for seq in (1, 2, 3)], events)

    def test_an_id_is_the_batch_and_the_number(self) -> None:
        """Ten characters of randomness per commit and room tell this history from any other."""
        [[one], [two]] = self.successResultOf(self.store.append([Append("a", [say("x")]), Append("b", [say("x")])]))
        assert isinstance(one, Appended)
        assert isinstance(two, Appended)
        three, four = self.appended("a", say("y"), say("z"))
        batches = [event.id.split("-")[0] for event in (one.event, two.event, three, four)]
        self.assertEqual(len(set(batches)), 3)
        self.assertEqual(batches[2], batches[3])
        for event in (one.event, two.event, three, four):
            self.assertRegex(event.id, rf"^[0-9A-HJKMNP-TV-Z]{{10}}-{event.seq}$")

    def test_rooms_count_each_for_itself_and_a_room_may_come_twice_in_a_batch(self) -> None:
        answer = self.successResultOf(
            self.store.append(
                [Append("a", [say("a1")]), Append("b", [say("b1"), say("b2")]), Append("a", [say("a2")]), Append("c", [])]
            )
        )
        self.assertEqual([len(outcomes) for outcomes in answer], [1, 2, 1, 0])
        self.assertEqual(self.texts("a"), ["a1", "a2"])
        self.assertEqual(self.texts("b"), ["b1", "b2"])
        self.assertEqual([event.seq for event in self.log("a")], [1, 2])

    def test_an_empty_batch_is_no_error(self) -> None:
        self.assertEqual(self.successResultOf(self.store.append([])), [])
        self.assertEqual(self.successResultOf(self.store.append([Append("a", [])])), [[]])

    def test_text_is_kept_as_given(self) -> None:
        """In bodies, names, keys and topics, alone or among others, in the answer and when read again."""
        new_events: list[NewEvent] = []
        for number, text in enumerate(AWKWARD):
            new_events.append(say(text, Author(f"id {text[:50]}", f"name {text[:50]}"), f"{number} {text[:50]}"))
            new_events.append(NewTopic(ALICE, None, text))
        events = self.appended("lobby", *new_events)
        events += self.appended("lobby", *(say(text, key="k" + text[:50]) for text in AWKWARD))
        for text in AWKWARD:
            events += self.appended("lobby", say(text))
            events += self.appended("lobby", edit(events[-1].seq, text, key=f"edit {text[:50]}"))
            events += self.appended("lobby", reaction(1, text[:10]))
        self.assertEqual(self.log("lobby"), events)
        for event in events:
            self.assertEqual(self.event("lobby", event.seq), event)
        repeated = self.append("lobby", *(say("again", key="k" + text[:50]) for text in AWKWARD))
        self.assertEqual({type(outcome) for outcome in repeated}, {Duplicate})

    def test_binary_is_kept_as_given_beside_text(self) -> None:
        everything = bytes(range(256))
        events = self.appended("lobby", raw(b""), say("between"), raw(everything), say("NUL \x00"), raw(everything * 100))
        self.assertEqual([getattr(event, "data", None) for event in events], [b"", None, everything, None, everything * 100])
        self.assertEqual(self.log("lobby"), events)
        self.assertEqual(list(self.page("lobby").events), events)

    # -- the same key

    def test_a_retry_gets_the_first_event(self) -> None:
        [first] = self.appended("lobby", say("hello", key="k1"))
        self.assertEqual(self.append("lobby", say("hello", key="k1")), [Duplicate(first)])
        self.assertEqual(self.append("lobby", say("other words", key="k1")), [Duplicate(first)])
        self.assertEqual(self.log("lobby"), [first])

    def test_retries_between_new_messages_leave_no_hole(self) -> None:
        first, second = self.appended("lobby", say("1", key="a"), say("2", key="b"))
        outcomes = self.append(
            "lobby",
            say("3"),
            say("2 again", key="b"),
            say("4", key="c"),
            say("1 again", key="a"),
            say("4 again", key="c"),
            say("5"),
        )
        third, fourth, fifth = (self.event("lobby", seq) for seq in (3, 4, 5))
        assert third and fourth and fifth
        self.assertEqual(
            outcomes,
            [Appended(third), Duplicate(second), Appended(fourth), Duplicate(first), Duplicate(fourth), Appended(fifth)],
        )
        self.assertEqual(self.texts("lobby"), ["1", "2", "3", "4", "5"])

    def test_a_key_belongs_to_its_author_and_room(self) -> None:
        self.appended("lobby", say("x", ALICE, "k"), say("x", BOB, "k"), say("x", ALICE, None), say("x", ALICE, None))
        self.appended("other", say("x", ALICE, "k"))
        self.assertEqual(len(self.log("lobby")), 4)

    def test_a_renamed_author_is_the_same_author(self) -> None:
        [first] = self.appended("lobby", say("x", ALICE, "k"))
        self.assertEqual(self.append("lobby", say("x", Author("u1", "alice cooper"), "k")), [Duplicate(first)])

    def test_amendments_repeat_too(self) -> None:
        events = self.appended("lobby", say("x"), edit(1, "y", key="e"), reaction(1, key="r"), NewTopic(ALICE, "t", "tea"))
        new_events: list[NewEvent] = [edit(1, "y", key="e"), reaction(1, key="r"), NewTopic(ALICE, "t", "tea")]
        self.assertEqual(self.append("lobby", *new_events), [Duplicate(event) for event in events[1:]])
        [gone] = self.appended("lobby", delete(1, key="d"))
        self.assertEqual(self.append("lobby", delete(1, key="d")), [Duplicate(gone)])

    def test_an_amendment_twice_in_one_batch(self) -> None:
        self.appended("lobby", say("x"))
        outcomes = self.append("lobby", edit(1, "y", key="e"), edit(1, "y", key="e"), edit(1, "y", key="f"))
        self.assertEqual([type(outcome) for outcome in outcomes], [Appended, Duplicate, Conflict])

    def test_a_refused_draft_does_not_use_up_its_key(self) -> None:
        self.refused("lobby", edit(1, "y", key="e"), NoSuchEvent)
        self.appended("lobby", say("x"), edit(1, "y", key="e"))
        outcomes = self.append("lobby", edit(1, "z", revision=9, key="f"), edit(1, "z", revision=2, key="f"))
        self.assertEqual([type(outcome) for outcome in outcomes], [Conflict, Appended])

    def test_a_retry_of_what_was_deleted_meanwhile_does_not_say_it_again(self) -> None:
        self.appended("lobby", say("secret", key="k"), delete(1))
        [outcome] = self.append("lobby", say("secret", key="k"))
        assert isinstance(outcome, Duplicate)
        assert isinstance(outcome.event, Message)
        self.assertTrue(outcome.event.gone)

    # -- amendments

    def test_edit(self) -> None:
        message, edited = self.appended("lobby", say("x"), edit(1, "y", key="e"))
        self.assertEqual(edited, Edited(2, edited.id, int(BEGIN * 1000), ALICE, "e", of=1, revision=2, text="y"))
        self.assertEqual(self.event("lobby", 1), message, "the log shows what was said first")
        [shown] = self.page("lobby").events
        self.assertEqual(shown, amendments.fold(message, edited))  # type: ignore[arg-type]

    def test_edits_count_revisions(self) -> None:
        self.appended("lobby", say("x"), edit(1, "y"), edit(1, "z", revision=2))
        self.refused("lobby", edit(1, "late", revision=2), Conflict)
        self.refused("lobby", edit(1, "not mine", revision=3, by=BOB), Forbidden)
        [shown] = self.page("lobby").events
        assert isinstance(shown, Message)
        self.assertEqual((shown.text, shown.revision, shown.edited_at), ("z", 3, int(BEGIN * 1000)))

    def test_amending_what_is_no_message(self) -> None:
        self.appended("lobby", say("x"), edit(1, "y"), NewTopic(ALICE, None, "tea"), reaction(1))
        for of in (0, -1, 2, 3, 4, 5, 6, 99):
            self.refused("lobby", edit(of, "z"), NoSuchEvent)
            self.refused("lobby", delete(of), NoSuchEvent)
            self.refused("lobby", reaction(of), NoSuchEvent)
        self.refused("nowhere", edit(1, "z"), NoSuchEvent)

    def test_delete_leaves_a_tombstone_and_takes_all_texts(self) -> None:
        self.appended(
            "lobby", say("secret one", key="k"), say("stays"), edit(1, "secret two"), edit(1, "secret three", revision=2)
        )
        self.appended("lobby", reaction(1), delete(1))
        log = self.log("lobby")
        self.assertEqual([event.seq for event in log], [1, 2, 3, 4, 5, 6])
        self.assertEqual(log[0], Message(1, log[0].id, log[0].at, ALICE, "k", gone=True))
        self.assertEqual(log[2], Edited(3, log[2].id, log[2].at, ALICE, of=1, revision=2, text=None))
        self.assertEqual(log[3], Edited(4, log[3].id, log[3].at, ALICE, of=1, revision=3, text=None))
        self.assertEqual(log[5], Deleted(6, log[5].id, log[5].at, ALICE, of=1))
        self.assertEqual(list(self.page("lobby").events), log[:2])
        for new_event in (edit(1, "back", revision=3), reaction(1, "🎉"), delete(1)):
            self.refused("lobby", new_event, Gone)

    def test_delete_takes_data(self) -> None:
        self.appended("lobby", raw(b"secret"), delete(1))
        [message, _] = self.log("lobby")
        self.assertEqual(message, Message(1, message.id, message.at, ALICE, gone=True))

    def test_who_may_delete(self) -> None:
        self.appended("lobby", say("x"), say("y"))
        self.refused("lobby", delete(1, BOB), Forbidden)
        self.appended("lobby", delete(1, BOB, any_author=True), delete(2))

    def test_reactions(self) -> None:
        self.appended("lobby", say("x"))
        [put] = self.appended("lobby", reaction(1, "👍", by=BOB, key="r"))
        self.assertEqual(put, Reacted(2, put.id, put.at, BOB, "r", of=1, emoji="👍", on=True))
        self.appended("lobby", reaction(1, "🎉", by=ALICE), reaction(1, "👍", by=ALICE), reaction(1, "👍", by=ALICE))
        [shown] = self.page("lobby").events
        assert isinstance(shown, Message)
        self.assertEqual(shown.reactions, (Reaction("👍", ("u2", "u1")), Reaction("🎉", ("u1",))))
        self.appended(
            "lobby", reaction(1, "👍", on=False, by=BOB), reaction(1, "👍", by=BOB), reaction(1, "🎉", on=False, by=ALICE)
        )
        [shown] = self.page("lobby").events
        assert isinstance(shown, Message)
        self.assertEqual(shown.reactions, (Reaction("👍", ("u1", "u2")),))

    def test_an_emoji_keeps_its_place_while_somebody_holds_it(self) -> None:
        self.appended("lobby", say("x"), reaction(1, "1", by=ALICE), reaction(1, "2", by=BOB), reaction(1, "1", by=CAROL))
        self.appended("lobby", reaction(1, "1", on=False, by=ALICE))
        [shown] = self.page("lobby").events
        assert isinstance(shown, Message)
        self.assertEqual(shown.reactions, (Reaction("1", ("u3",)), Reaction("2", ("u2",))))
        self.appended("lobby", reaction(1, "1", on=False, by=CAROL), reaction(1, "1", by=ALICE))
        [shown] = self.page("lobby").events
        assert isinstance(shown, Message)
        self.assertEqual(shown.reactions, (Reaction("2", ("u2",)), Reaction("1", ("u1",))))

    def test_too_many_different_emoji(self) -> None:
        self.appended("lobby", say("x"), *(reaction(1, f"e{n}") for n in range(amendments.EMOJI_PER_MESSAGE)))
        self.refused("lobby", reaction(1, "one more"), LimitReached)
        self.appended("lobby", reaction(1, "e7", by=CAROL), reaction(1, "e7", on=False), reaction(1, "e8", on=False))
        self.appended("lobby", reaction(1, "one more"))

    def test_all_in_one_batch_in_its_order(self) -> None:
        """A message said in a batch can be amended in the same batch."""
        outcomes = self.append(
            "lobby",
            say("one", key="k"),
            edit(1, "two"),
            say("again", key="k"),
            edit(1, "stale"),
            reaction(1),
            say("next"),
            delete(1),
            edit(1, "late", revision=2),
            say("last"),
        )
        kinds = [type(outcome) for outcome in outcomes]
        self.assertEqual(kinds, [Appended, Appended, Duplicate, Conflict, Appended, Appended, Appended, Gone, Appended])
        self.assertEqual([event.seq for event in self.log("lobby")], [1, 2, 3, 4, 5, 6])
        self.assertEqual(self.texts("lobby"), [None, None, None, "next", None, "last"])

    def test_topic(self) -> None:
        self.appended("lobby", NewTopic(ALICE, None, "tea"))
        [topic] = self.appended("lobby", NewTopic(BOB, "k", "cake"))
        self.assertEqual(topic, TopicSet(2, topic.id, topic.at, BOB, "k", text="cake"))
        self.assertEqual(self.purge("lobby").topic, "cake")

    # -- reading

    def test_reading_a_room_that_is_not_there(self) -> None:
        self.assertEqual(self.log("nowhere"), [])
        self.assertEqual(self.page("nowhere"), Page((), 0, False, False))
        self.assertIsNone(self.event("nowhere", 1))
        self.assertEqual(self.purge("nowhere", 1, 1), RoomRecord("nowhere"))

    def test_read_after_a_number(self) -> None:
        self.appended("lobby", *(say(str(n)) for n in range(1, 11)))
        self.assertEqual(self.texts("lobby", 7), ["8", "9", "10"])
        self.assertEqual(self.texts("lobby", 7, limit=2), ["8", "9"])
        self.assertEqual(self.log("lobby", 10), [])
        self.assertEqual(self.log("lobby", 99), [])
        self.assertIsNone(self.event("lobby", 0))
        self.assertIsNone(self.event("lobby", 11))

    def test_read_stops_before_too_many_bytes_but_moves_on(self) -> None:
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
        self.fill()
        self.assert_page(self.page("lobby", 3), [7, 9, 10], True, False)
        self.assert_page(self.page("lobby", 6), [1, 3, 5, 7, 9, 10], False, False)
        self.assert_page(self.page("lobby", 7), [1, 3, 5, 7, 9, 10], False, False)

    def test_page_before(self) -> None:
        self.fill()
        self.assert_page(self.page("lobby", 2, before=7), [3, 5], True, True)
        self.assert_page(self.page("lobby", 2, before=6), [3, 5], True, True)
        self.assert_page(self.page("lobby", 2, before=5), [1, 3], False, True)
        self.assert_page(self.page("lobby", 2, before=1), [], False, True)
        self.assert_page(self.page("lobby", 2, before=99), [9, 10], True, False)

    def test_page_after(self) -> None:
        self.fill()
        self.assert_page(self.page("lobby", 2, after=3), [5, 7], True, True)
        self.assert_page(self.page("lobby", 2, after=7), [9, 10], True, False)
        self.assert_page(self.page("lobby", 2, after=10), [], True, False)
        self.assert_page(self.page("lobby", 2, after=0), [1, 3], False, True)

    def test_page_around(self) -> None:
        self.fill()
        self.assert_page(self.page("lobby", 3, around=5), [3, 5, 7], True, True)
        self.assert_page(self.page("lobby", 4, around=5), [3, 5, 7, 9], True, True)
        self.assert_page(self.page("lobby", 1, around=5), [5], True, True)
        self.assert_page(self.page("lobby", 4, around=1), [1, 3, 5, 7], False, True)
        self.assert_page(self.page("lobby", 4, around=10), [5, 7, 9, 10], True, False)
        self.assert_page(self.page("lobby", 9, around=99), [1, 3, 5, 7, 9, 10], False, False)

    def test_a_page_shows_reactions_of_the_messages_on_it(self) -> None:
        self.fill()
        [first] = self.page("lobby", 1, after=0).events
        assert isinstance(first, Message)
        self.assertEqual(first.reactions, tuple(Reaction(f"e{n}", ("u2",)) for n in (1, 3, 5, 7)))

    # -- retention

    def test_keep_the_newest(self) -> None:
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
        for n in range(5):
            self.appended("lobby", say(str(n)), say(str(n)))
            self.clock.advance(10)
        cut = int((BEGIN + 20) * 1000)
        self.assertEqual(self.purge("lobby", None, cut).first, 5)
        self.assertEqual(self.purge("lobby", 100, cut + 1).first, 7)
        self.assertEqual(self.purge("lobby", 3, cut + 1).first, 8)

    def test_a_purged_room_goes_on_counting(self) -> None:
        events = self.appended("lobby", say("1", key="k"), say("2"), NewTopic(ALICE, None, "tea"))
        self.assertEqual(self.purge("lobby", 0), RoomRecord("lobby", 4, 3, events[2].id, "tea"))
        self.assertEqual(self.log("lobby"), [])
        self.assertEqual(self.page("lobby"), Page((), 3, False, False))
        [again] = self.appended("lobby", say("again", key="k"))
        self.assertEqual(again.seq, 4)
        self.assertEqual(self.log("lobby"), [again])

    def test_purging_takes_the_present_state_with_it(self) -> None:
        self.appended("lobby", say("1"), say("2"), edit(1, "one"), edit(2, "two"), reaction(1), reaction(2))
        self.purge("lobby", 5)
        [shown] = self.page("lobby").events
        assert isinstance(shown, Message)
        self.assertEqual((shown.seq, shown.text, len(shown.reactions)), (2, "two", 1))
        self.refused("lobby", edit(1, "again", revision=2), NoSuchEvent)
        self.appended("lobby", edit(2, "second", revision=2), delete(2))
        self.assertEqual([event.seq for event in self.log("lobby")], [2, 3, 4, 5, 6, 7, 8])

    # -- marks, archive, probe

    def test_read_marks_only_rise_and_end_at_the_head(self) -> None:
        self.appended("a", *(say(str(n)) for n in range(9)))
        self.appended("b", say("x"))
        marks = [self.successResultOf(self.store.mark_read("u1", "a", seq)) for seq in (3, 7, 5, 99)]
        self.assertEqual(marks, [3, 7, 7, 9])
        self.assertEqual(self.successResultOf(self.store.mark_read("u2", "a", 1)), 1)
        self.assertEqual(self.successResultOf(self.store.mark_read("u1", "b", 1)), 1)
        self.assertEqual(self.successResultOf(self.store.mark_read("u1", "nowhere", 5)), 0)
        self.assertEqual(self.successResultOf(self.store.read_marks("u1")), {"a": 9, "b": 1})
        self.assertEqual(self.successResultOf(self.store.read_marks("u9")), {})

    def test_archive(self) -> None:
        [event] = self.appended("lobby", say("x"))
        self.assertEqual(self.successResultOf(self.store.archive("lobby", True)), RoomRecord("lobby", 1, 1, event.id, "", True))
        self.assertFalse(self.successResultOf(self.store.archive("lobby", False)).archived)
        self.assertEqual(self.successResultOf(self.store.archive("new", True)), RoomRecord("new", archived=True))
        self.assertEqual(self.successResultOf(self.store.rooms()), {"lobby": False, "new": True})

    def test_cursors_of_readers(self) -> None:
        """Each reader has one cursor for each room; the last that was saved counts, and deleting concerns one reader."""
        one, two = Cursor("epoch", 3, "x-3"), Cursor("epoch", 5, "x-5")
        for reader, room, cursor in (
            ("hook", "a", one),
            ("hook", "a", two),
            ("hook", "b", Cursor("epoch", 0)),
            ("index", "a", one),
        ):
            self.successResultOf(self.store.save_cursor(reader, room, cursor))

        self.assertEqual(self.successResultOf(self.store.load_cursors("hook")), {"a": two, "b": Cursor("epoch", 0)})
        self.successResultOf(self.store.delete_cursors("hook"))
        self.assertEqual(self.successResultOf(self.store.load_cursors("hook")), {})
        self.assertEqual(self.successResultOf(self.store.load_cursors("index")), {"a": one})

    def test_cursors_go_forward(self) -> None:
        """A cursor that was saved late changes nothing; one of another epoch, and one that rewinds, do."""

        def save(cursor: Cursor, *, rewind: bool = False) -> Cursor:
            self.successResultOf(self.store.save_cursor("hook", "a", cursor, rewind=rewind))
            return self.successResultOf(self.store.load_cursors("hook"))["a"]

        five = Cursor("epoch", 5, "x-5")
        self.assertEqual(save(five), five)
        self.assertEqual(save(Cursor("epoch", 4, "x-4")), five)
        self.assertEqual(save(Cursor("epoch", 5, "y-5")), five)
        six = Cursor("epoch", 6, "x-6")
        self.assertEqual(save(six), six)
        self.assertEqual(save(five, rewind=True), five)
        other = Cursor("other", 1, "z-1")
        self.assertEqual(save(other), other)

    def test_news(self) -> None:
        """Heads that are told never go back, and a reader that has stopped is told nothing; stopping twice is no error."""
        told: list[tuple[str, int]] = []
        stopped: list[object] = []
        stops = [self.store.follow(lambda heads: told.extend(heads.items())) for _ in range(2)]
        stop = self.store.follow(stopped.append)
        self.append("lobby", say("one"))
        stop()
        stop()

        self.append("lobby", say("two"), say("three"))
        self.clock.advance(1)

        heads = [head for _, head in told]
        self.assertEqual(heads, sorted(heads))
        self.assertLessEqual({room for room, _ in told}, {"lobby"})
        self.assertEqual(stopped, [])
        for each in stops:
            each()

    def test_probe(self) -> None:
        self.assertIsNone(self.successResultOf(self.store.probe()))

    def test_a_closed_store_is_unavailable(self) -> None:
        self.close()
        for answer in (self.store.append([Append("lobby", [say("x")])]), self.store.read("lobby", 0, 1, 1), self.store.probe()):
            self.failureResultOf(answer, Unavailable)

    # -- tokens

    def test_tokens(self) -> None:
        first, second = token(1, 2000, 3000, ("moderate", "metrics")), token(2, 1000)
        self.successResultOf(self.store.create_token(first, b"1" * 32))
        self.successResultOf(self.store.create_token(second, b"2" * 32))
        self.assertEqual(self.successResultOf(self.store.find_token(b"1" * 32)), first)
        self.assertEqual(self.successResultOf(self.store.find_token(b"2" * 32)), second)
        self.assertIsNone(self.successResultOf(self.store.find_token(b"3" * 32)))
        self.assertEqual(self.successResultOf(self.store.list_tokens()), [second, first])

    def test_a_token_is_made_once(self) -> None:
        self.successResultOf(self.store.create_token(token(1), b"1" * 32))
        self.failureResultOf(self.store.create_token(token(1), b"2" * 32), Conflict)
        self.failureResultOf(self.store.create_token(token(2), b"1" * 32), Conflict)
        self.assertEqual(self.successResultOf(self.store.list_tokens()), [token(1)])

    def test_revoking(self) -> None:
        self.successResultOf(self.store.create_token(token(1), b"1" * 32))
        self.successResultOf(self.store.create_token(token(2), b"2" * 32))
        revoked = self.successResultOf(self.store.revoke_token("t1", 5000))
        assert revoked is not None
        self.assertEqual(revoked.revoked, 5000)
        self.assertEqual(self.successResultOf(self.store.revoke_token("t1", 6000)), revoked)
        self.assertEqual(self.successResultOf(self.store.find_token(b"1" * 32)), revoked)
        self.assertIsNone(self.successResultOf(self.store.revoke_token("t9", 5000)))
        self.assertEqual(self.successResultOf(self.store.revoked_since(5000)), ["t1"])
        self.assertEqual(self.successResultOf(self.store.revoked_since(5001)), [])

    # -- against the model

    def test_random_histories(self) -> None:
        """Whatever happens in whatever order: the slow and obvious model gives the same."""
        for seed in range(self.histories):
            self.random_history(random.Random(seed), f"room-{seed}", f"other-{seed}")

    #: How many random histories are tried, of some 60 batches each.
    histories = 12

    def random_history(self, dice: random.Random, *rooms: str) -> None:
        models = {room: Model() for room in rooms}
        for _ in range(60):
            self.clock.advance(dice.choice([0, 1, 60]))
            batch = [Append(room, random_drafts(dice, models[room])) for room in dice.choices(rooms, k=dice.randint(1, 3))]
            answer = self.successResultOf(self.store.append(batch))
            for append, outcomes in zip(batch, answer, strict=True):
                models[append.room].expect(self, append.new_events, outcomes)
            room = dice.choice(rooms)
            if dice.random() < 0.1:
                keep = dice.choice([None, dice.randint(0, 40)])
                young = dice.choice([None, int((self.clock.seconds() - dice.choice([0, 30, 600])) * 1000)])
                record = self.purge(room, keep, young)
                models[room].purge(keep, young)
                self.assertEqual((record.first, record.head), (models[room].purged + 1, models[room].head))
            if dice.random() < 0.1:
                self.between()
            self.compare(dice, room, models[room])

    def between(self) -> None:
        """What may happen at any time and must change nothing."""

    def compare(self, dice: random.Random, room: str, model: Model) -> None:
        after, read = 0, []
        while events := self.log(room, after, dice.randint(1, 50), dice.choice([0, 100, ALL])):
            read += events
            after = events[-1].seq
        self.assertEqual(read, model.kept())
        self.assertEqual([event.seq for event in read], list(range(model.purged + 1, model.head + 1)))
        limit, pivot = dice.randint(1, 30), dice.randint(0, model.head + 2)
        shown = model.shown()
        older, newer = [e for e in shown if e.seq < pivot], [e for e in shown if e.seq > pivot]
        at = [e for e in shown if e.seq == pivot]
        self.assertEqual(
            self.page(room, limit, before=pivot),
            Page(tuple(older[-limit:]), model.head, len(older) > limit, bool(at or newer)),
        )
        self.assertEqual(
            self.page(room, limit, after=pivot),
            Page(tuple(newer[:limit]), model.head, bool(older or at), len(newer) > limit),
        )
        around = self.page(room, limit, around=pivot)
        begin = shown.index(around.events[0]) if around.events else 0
        self.assertEqual(list(around.events), shown[begin : begin + limit])
        self.assertTrue(not at or at[0] in around.events)
        self.assertEqual((around.more_before, around.more_after), (begin > 0, begin + limit < len(shown)))


class Model:
    """One room, slow and obvious: the present state is folded from the whole log each time that it is asked for."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.purged = 0

    @property
    def head(self) -> int:
        return len(self.events)

    def kept(self) -> list[Event]:
        return self.events[self.purged :]

    def shown(self) -> list[Event]:
        state: dict[int, Event] = {}
        for event in self.kept():
            if isinstance(event, Message | TopicSet):
                state[event.seq] = event
            elif event.of in state:
                message = state[event.of]
                assert isinstance(message, Message)
                state[event.of] = amendments.fold(message, event)
        return list(state.values())

    def expect(self, case: SynchronousTestCase, new_events: Sequence[NewEvent], outcomes: Sequence[Outcome]) -> None:
        """Check the outcomes of the drafts one by one and take in what was appended."""
        case.assertEqual(len(new_events), len(outcomes))
        for new_event, outcome in zip(new_events, outcomes, strict=True):
            first = [e for e in self.kept() if new_event.key is not None and (e.by.id, e.key) == (new_event.by.id, new_event.key)]
            if first:
                assert isinstance(outcome, Duplicate), outcome
                case.assertEqual(outcome.event.seq, first[0].seq)
                continue
            try:
                event = self.event(new_event, outcome)
            except ChatError as error:
                case.assertEqual((type(outcome), str(outcome)), (type(error), str(error)))
                continue
            case.assertEqual(outcome, Appended(event))
            self.events.append(event)
            if isinstance(event, Deleted):
                self.erase(event.of)

    def event(self, new_event: NewEvent, outcome: Outcome) -> Event:
        at, event_id = (outcome.event.at, outcome.event.id) if isinstance(outcome, Appended) else (0, "")
        head = (self.head + 1, event_id, at, new_event.by, new_event.key)
        match new_event:
            case NewMessage():
                return Message(*head, new_event.text, new_event.data, new_event.reply_to)
            case NewTopic():
                return TopicSet(*head, text=new_event.text)
        messages = [event for event in self.shown() if isinstance(event, Message) and event.seq == new_event.of]
        amendments.check(amendments.standing(messages[0]) if messages else None, new_event)
        match new_event:
            case NewEdit():
                return Edited(*head, of=new_event.of, revision=new_event.revision + 1, text=new_event.text)
            case NewDeletion():
                return Deleted(*head, of=new_event.of)
            case NewReaction():
                return Reacted(*head, of=new_event.of, emoji=new_event.emoji, on=new_event.on)

    def erase(self, of: int) -> None:
        for index, event in enumerate(self.events):
            if isinstance(event, Message) and event.seq == of:
                self.events[index] = amendments.tombstone(event)
            elif isinstance(event, Edited) and event.of == of:
                self.events[index] = Edited(
                    event.seq, event.id, event.at, event.by, event.key, of=of, revision=event.revision, text=None
                )

    def purge(self, keep_events: int | None, keep_after_ms: int | None) -> None:
        if keep_events is not None:
            self.purged = max(self.purged, self.head - keep_events)
        while keep_after_ms is not None and self.purged < self.head and self.events[self.purged].at < keep_after_ms:
            self.purged += 1


def random_drafts(dice: random.Random, model: Model) -> list[NewEvent]:
    return [random_draft(dice, model) for _ in range(dice.randint(0, 8))]


def random_draft(dice: random.Random, model: Model) -> NewEvent:
    by = dice.choice([ALICE, BOB, CAROL])
    key = dice.choice([None, f"k{dice.randint(1, 60)}"])
    of = dice.randint(max(1, model.head - 8), model.head + 3)
    match dice.randint(1, 12):
        case 1 | 2:
            return NewEdit(by, key, of, dice.randint(1, 2), dice.choice(AWKWARD))
        case 3:
            return NewDeletion(by, key, of, dice.random() < 0.5)
        case 4 | 5:
            return NewReaction(by, key, of, dice.choice("123"), dice.random() < 0.7)
        case 6:
            return NewTopic(by, key, dice.choice(AWKWARD))
        case 7:
            return NewMessage(by, key, data=dice.randbytes(dice.randint(0, 40)))
    return NewMessage(by, key, dice.choice(AWKWARD), reply_to=dice.choice([None, 1, 7]))


class DurableContract(StoreContract):
    """What is kept over a restart: everything."""

    def restart(self) -> Opened:
        self.close()
        self.store = self.make_store()
        return self.open()

    def between(self) -> None:
        self.restart()

    def test_a_restart_changes_nothing(self) -> None:
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
        events = self.appended("lobby", say("1"), say("2"))
        self.purge("lobby", 0)
        [record] = self.restart().rooms
        self.assertEqual(record, RoomRecord("lobby", 3, 2, events[1].id))
        [event] = self.appended("lobby", say("3"))
        self.assertEqual(event.seq, 3)
