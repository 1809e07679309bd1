"""What may become of a message."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.core.amendments import EMOJI_PER_MESSAGE, MessageState, check, fold, react, standing
from twisted_chat.errors import BadRequest, Conflict, Forbidden, Gone, LimitReached, NoSuchEvent
from twisted_chat.events import Author, Deleted, Edited, Message, NewDeletion, NewEdit, NewReaction, Reacted, Reaction

ALICE, BOB = Author("u1", "alice"), Author("u2", "bob")


def edit(by: Author = ALICE, revision: int = 1) -> NewEdit:
    return NewEdit(by, None, of=7, revision=revision, text="better")


def delete(by: Author = ALICE, any_author: bool = False) -> NewDeletion:
    return NewDeletion(by, None, of=7, any_author=any_author)


def reaction(emoji: str = "👍", on: bool = True) -> NewReaction:
    return NewReaction(BOB, None, of=7, emoji=emoji, on=on)


class CheckTests(SynchronousTestCase):
    def test_author_may_edit_delete_and_anybody_react(self) -> None:
        """Everything is allowed to the author, and reactions to all."""
        for new_event in (edit(), delete(), reaction(), reaction(on=False)):
            check(MessageState("u1"), new_event)

    def test_a_message_that_is_not_there(self) -> None:
        """Amending an unknown message is refused, and the error names the number."""
        for new_event in (edit(), delete(), reaction()):
            error = self.assertRaises(NoSuchEvent, check, None, new_event)
            self.assertEqual(error.message, "of: there is no message 7")

    def test_nothing_happens_to_a_deleted_message(self) -> None:
        """A deleted message cannot be amended by anybody, moderators included."""
        for new_event in (edit(), edit(BOB), delete(), delete(BOB, any_author=True), reaction()):
            self.assertRaises(Gone, check, MessageState("u1", gone=True), new_event)

    def test_only_the_author_edits(self) -> None:
        """An edit by somebody else is refused."""
        self.assertRaises(Forbidden, check, MessageState("u1"), edit(BOB))

    def test_somebody_else_deletes_only_with_the_right_to(self) -> None:
        self.assertRaises(Forbidden, check, MessageState("u1"), delete(BOB))
        check(MessageState("u1"), delete(BOB, any_author=True))

    def test_an_edit_of_an_old_revision_learns_the_present_one(self) -> None:
        """The conflict names the present revision; only an edit of that one passes."""
        error = self.assertRaises(Conflict, check, MessageState("u1", revision=3), edit(revision=2))

        self.assertEqual(error.message, "revision: message 7 is at revision 3, not 2")
        self.assertRaises(Conflict, check, MessageState("u1", revision=3), edit(revision=4))

        check(MessageState("u1", revision=3), edit(revision=3))

    def test_binary_has_no_text_to_edit(self) -> None:
        self.assertRaises(BadRequest, check, MessageState("u1", binary=True), edit())

    def test_different_emoji_are_bounded_and_those_that_are_there_are_not(self) -> None:
        """At the bound a further emoji is refused; a present one may still be added, and any may be removed."""
        full = MessageState("u1", emoji={f"e{number}" for number in range(EMOJI_PER_MESSAGE)})

        self.assertRaises(LimitReached, check, full, reaction("one more"))

        check(full, reaction("e0"))
        check(full, reaction("one more", on=False))

    def test_what_is_so_already_may_be_wished_again(self) -> None:
        """Adding a present emoji, or removing an absent one, is allowed."""
        check(MessageState("u1", emoji={"👍"}), reaction())
        check(MessageState("u1"), reaction(on=False))


class FoldTests(SynchronousTestCase):
    message = Message(7, "B-7", 1000, ALICE, "k", "hello", reply_to=3)

    def reacted(self, seq: int, by: Author, emoji: str, on: bool = True) -> Reacted:
        return Reacted(seq, f"B-{seq}", 2000, by, of=7, emoji=emoji, on=on)

    def test_edit(self) -> None:
        """An edit changes text and revision of a copy of the message."""
        after = fold(self.message, Edited(8, "B-8", 2000, ALICE, of=7, revision=2, text="better"))
        self.assertEqual(after, Message(7, "B-7", 1000, ALICE, "k", "better", reply_to=3, revision=2, edited_at=2000))
        self.assertEqual(self.message.text, "hello", "the original is left alone")

    def test_delete_leaves_number_author_and_key(self) -> None:
        after = fold(self.message, Deleted(8, "B-8", 2000, ALICE, of=7))
        self.assertEqual(after, Message(7, "B-7", 1000, ALICE, "k", gone=True))
        self.assertEqual(fold(after, self.reacted(9, BOB, "👍")), after)

    def test_reactions_come_in_the_order_in_which_they_were_put(self) -> None:
        message = self.message
        for seq, (by, emoji, on) in enumerate(
            [(ALICE, "👍", True), (BOB, "🎉", True), (BOB, "👍", True), (ALICE, "👍", False), (ALICE, "👍", True)], 8
        ):
            message = fold(message, self.reacted(seq, by, emoji, on))
        self.assertEqual(message.reactions, (Reaction("👍", ("u2", "u1")), Reaction("🎉", ("u2",))))

    def test_an_emoji_that_nobody_holds_is_not_there(self) -> None:
        after = react((Reaction("👍", ("u1",)),), "u1", "👍", False)
        self.assertEqual(after, ())
        self.assertEqual(react(after, "u1", "👍", False), ())

    def test_putting_twice_is_putting_once(self) -> None:
        once = react((), "u1", "👍", True)
        self.assertEqual(react(once, "u1", "👍", True), once)

    def test_standing_is_what_a_folded_message_says(self) -> None:
        """The state by which amendments are checked follows from a message in its present state."""
        message = fold(self.message, self.reacted(8, BOB, "👍"))
        self.assertEqual(standing(message), MessageState("u1", emoji={"👍"}))
        self.assertEqual(standing(Message(7, "B-7", 0, BOB, data=b"")), MessageState("u2", binary=True))
