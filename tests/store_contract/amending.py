"""The contract of amendments: edits, deletions, reactions, topics."""

from __future__ import annotations

from tests.store_contract.case import ALICE, BEGIN, BOB, CAROL, StoreCase, delete, edit, raw, reaction, say
from twisted_chat.core import amendments
from twisted_chat.errors import Conflict, Forbidden, Gone, LimitReached, NoSuchEvent
from twisted_chat.events import (
    Author,
    Deleted,
    Edited,
    Message,
    NewTopic,
    Reacted,
    Reaction,
    TopicSet,
)
from twisted_chat.store_contract import Appended, Duplicate


class AmendingContract(StoreCase):
    def test_edit(self) -> None:
        """The log keeps message and edit apart, and a page shows the message with the new text."""
        message, edited = self.appended("lobby", say("x"), edit(1, "y", key="e"))

        self.assertEqual(edited, Edited(2, edited.id, int(BEGIN * 1000), ALICE, "e", of=1, revision=2, text="y"))
        self.assertEqual(self.event("lobby", 1), message, "the log shows what was said first")

        [shown] = self.page("lobby").events
        self.assertEqual(shown, amendments.fold(message, edited))  # type: ignore[arg-type]

    def test_edits_count_revisions(self) -> None:
        """Each edit raises the revision; an edit of an old revision or by somebody else is refused."""
        self.appended("lobby", say("x"), edit(1, "y"), edit(1, "z", revision=2))

        self.refused("lobby", edit(1, "late", revision=2), Conflict)
        self.refused("lobby", edit(1, "not mine", revision=3, by=BOB), Forbidden)

        [shown] = self.page("lobby").events
        assert isinstance(shown, Message)

        self.assertEqual((shown.text, shown.revision, shown.edited_at), ("z", 3, int(BEGIN * 1000)))

    def test_amending_what_is_no_message(self) -> None:
        """Edits, deletions and reactions need a message: other events and unknown numbers are refused."""
        self.appended("lobby", say("x"), edit(1, "y"), NewTopic(ALICE, None, "tea"), reaction(1))
        for of in (0, -1, 2, 3, 4, 5, 6, 99):
            self.refused("lobby", edit(of, "z"), NoSuchEvent)
            self.refused("lobby", delete(of), NoSuchEvent)
            self.refused("lobby", reaction(of), NoSuchEvent)
        self.refused("nowhere", edit(1, "z"), NoSuchEvent)

    def test_delete_leaves_a_tombstone_and_takes_all_texts(self) -> None:
        """A deletion erases the texts of the message and of its edits, keeps all numbers, and ends further amendments."""
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
        """A deletion erases binary data too."""
        self.appended("lobby", raw(b"secret"), delete(1))
        [message, _] = self.log("lobby")
        self.assertEqual(message, Message(1, message.id, message.at, ALICE, gone=True))

    def test_who_may_delete(self) -> None:
        """The author deletes the own message; others only if the request allows any author."""
        self.appended("lobby", say("x"), say("y"))
        self.refused("lobby", delete(1, BOB), Forbidden)
        self.appended("lobby", delete(1, BOB, any_author=True), delete(2))

    def test_reactions(self) -> None:
        """A page shows each emoji with its people in the order in which they added it; adding twice counts once."""
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
        """The order of emoji is that of their first use; an emoji that everybody has removed starts anew at the end."""
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
        """The number of different emoji on a message is bounded, and removing the last use of one makes room for another."""
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
        """A topic is an event of the log, and the last one is the topic of the room."""
        self.appended("lobby", NewTopic(ALICE, None, "tea"))
        [topic] = self.appended("lobby", NewTopic(BOB, "k", "cake"))

        self.assertEqual(topic, TopicSet(2, topic.id, topic.at, BOB, "k", text="cake"))
        self.assertEqual(self.purge("lobby").topic, "cake")

    def test_a_page_names_the_first_people_and_the_reader(self) -> None:
        """For each emoji a page names the first 50 people, and the reader if among the others, with a count of all."""
        people = [Author(f"u{number}", "x") for number in range(60)]
        self.appended("lobby", say("x"), *(reaction(1, by=person) for person in people), reaction(1, "🎉", by=people[59]))
        first = tuple(person.id for person in people[:50])

        def by(reader: str | None) -> tuple[Reaction, ...]:
            [shown] = self.page("lobby", reader=reader).events
            assert isinstance(shown, Message)
            return shown.reactions

        self.assertEqual(by(None), (Reaction("👍", first, 60), Reaction("🎉", ("u59",))))
        self.assertEqual(by("u3"), by(None))
        self.assertEqual(by("nobody"), by(None))
        self.assertEqual(by("u57"), (Reaction("👍", (*first, "u57"), 60), Reaction("🎉", ("u59",))))

        self.appended("lobby", *(reaction(1, on=False, by=person) for person in people[1:10]))
        first = tuple(person.id for person in (people[0], *people[10:59]))
        self.assertEqual(by(None), (Reaction("👍", first, 51), Reaction("🎉", ("u59",))))
        self.assertEqual(by("u59"), (Reaction("👍", (*first, "u59")), Reaction("🎉", ("u59",))))

    def test_a_reaction_on_and_off_leaves_no_count_behind(self) -> None:
        """Adding and removing twice leaves a message without reactions."""
        self.appended("lobby", say("x"), reaction(1), reaction(1), reaction(1, on=False), reaction(1, on=False))
        [shown] = self.page("lobby").events
        assert isinstance(shown, Message)

        self.assertEqual(shown.reactions, ())

    def test_a_message_of_many_edits_is_gone_at_once(self) -> None:
        """Whatever the store still has to erase: nobody reads it any more."""
        self.appended("lobby", say("secret", key="m"), reaction(1))
        edits = [edit(1, f"secret {n}", revision=n, key=f"e{n}") for n in range(1, 3_001)]
        self.appended("lobby", *edits)
        self.appended("lobby", say("between"), delete(1))

        self.assertEqual(set(self.texts("lobby")), {None, "between"})
        [shown, _] = self.page("lobby").events
        self.assertEqual(shown, self.event("lobby", 1))
        [outcome] = self.append("lobby", edit(1, "secret 9", key="e9"))
        assert isinstance(outcome, Duplicate)
        self.assertNotIn("secret", repr((shown, outcome, self.event("lobby", 9))))

        self.purge("lobby", 2_000)
        self.appended("lobby", say("later"))

        self.assertEqual(set(self.texts("lobby")), {None, "between", "later"})
