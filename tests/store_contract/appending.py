"""The contract of appending: numbers, keys, retries."""

from __future__ import annotations

from tests.store_contract.case import ALICE, AWKWARD, BEGIN, BOB, StoreCase, delete, edit, raw, reaction, say
from twisted_chat.errors import Conflict, NoSuchEvent
from twisted_chat.events import (
    Author,
    Message,
    NewEvent,
    NewTopic,
)
from twisted_chat.store_contract import Append, Appended, Duplicate


class AppendingContract(StoreCase):
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
        """Each room of a batch has its own numbers, and the outcomes have the order of the batch."""
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
        """Data of any bytes, and texts with U+0000, come back unchanged in a batch with both."""
        everything = bytes(range(256))
        events = self.appended("lobby", raw(b""), say("between"), raw(everything), say("NUL \x00"), raw(everything * 100))

        self.assertEqual([getattr(event, "data", None) for event in events], [b"", None, everything, None, everything * 100])
        self.assertEqual(self.log("lobby"), events)
        self.assertEqual(list(self.page("lobby").events), events)

    # -- the same key

    def test_a_retry_gets_the_first_event(self) -> None:
        """A key that is sent again returns the first event, even with another text, and appends nothing."""
        [first] = self.appended("lobby", say("hello", key="k1"))

        self.assertEqual(self.append("lobby", say("hello", key="k1")), [Duplicate(first)])
        self.assertEqual(self.append("lobby", say("other words", key="k1")), [Duplicate(first)])
        self.assertEqual(self.log("lobby"), [first])

    def test_retries_between_new_messages_leave_no_hole(self) -> None:
        """A batch of new and repeated messages numbers only the new ones, without gaps."""
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
        """The same key of another author or in another room is another message; without a key nothing is a repeat."""
        self.appended("lobby", say("x", ALICE, "k"), say("x", BOB, "k"), say("x", ALICE, None), say("x", ALICE, None))
        self.appended("other", say("x", ALICE, "k"))
        self.assertEqual(len(self.log("lobby")), 4)

    def test_a_renamed_author_is_the_same_author(self) -> None:
        """Keys go by the author's id, not by the name."""
        [first] = self.appended("lobby", say("x", ALICE, "k"))
        self.assertEqual(self.append("lobby", say("x", Author("u1", "alice cooper"), "k")), [Duplicate(first)])

    def test_amendments_repeat_too(self) -> None:
        """Edits, reactions, topics and deletions with a known key return their first event."""
        events = self.appended("lobby", say("x"), edit(1, "y", key="e"), reaction(1, key="r"), NewTopic(ALICE, "t", "tea"))
        new_events: list[NewEvent] = [edit(1, "y", key="e"), reaction(1, key="r"), NewTopic(ALICE, "t", "tea")]

        self.assertEqual(self.append("lobby", *new_events), [Duplicate(event) for event in events[1:]])

        [gone] = self.appended("lobby", delete(1, key="d"))
        self.assertEqual(self.append("lobby", delete(1, key="d")), [Duplicate(gone)])

    def test_an_amendment_twice_in_one_batch(self) -> None:
        """A repeated key within a batch is a duplicate, and an edit of a revision that the batch has changed conflicts."""
        self.appended("lobby", say("x"))
        outcomes = self.append("lobby", edit(1, "y", key="e"), edit(1, "y", key="e"), edit(1, "y", key="f"))
        self.assertEqual([type(outcome) for outcome in outcomes], [Appended, Duplicate, Conflict])

    def test_a_refused_draft_does_not_use_up_its_key(self) -> None:
        """The key of an amendment that was refused can be used again."""
        self.refused("lobby", edit(1, "y", key="e"), NoSuchEvent)

        self.appended("lobby", say("x"), edit(1, "y", key="e"))
        outcomes = self.append("lobby", edit(1, "z", revision=9, key="f"), edit(1, "z", revision=2, key="f"))

        self.assertEqual([type(outcome) for outcome in outcomes], [Conflict, Appended])

    def test_a_retry_of_what_was_deleted_meanwhile_does_not_say_it_again(self) -> None:
        """The retry of a deleted message returns its tombstone and appends nothing."""
        self.appended("lobby", say("secret", key="k"), delete(1))
        [outcome] = self.append("lobby", say("secret", key="k"))
        assert isinstance(outcome, Duplicate)
        assert isinstance(outcome.event, Message)

        self.assertTrue(outcome.event.gone)
