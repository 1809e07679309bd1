"""Commands become drafts, or errors that name the field."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.core.posting import PostCommand, draft_of
from twisted_chat.drafts import DeleteDraft, Draft, MessageDraft, ReactionDraft, TopicDraft
from twisted_chat.errors import ChatError
from twisted_chat.protocol.commands import Delete, Edit, React, Send, Topic
from twisted_chat.users import Person

GUEST = Person(id="g1", name="alice", guest=True)
USER = Person(id="u1", name="bob")
MODERATOR = Person(id="u2", name="carol", rights=frozenset({"moderate"}))


def draft(command: PostCommand, person: Person = USER) -> Draft:
    return draft_of(command, person.author, person, 100)


class DraftingTests(SynchronousTestCase):
    def refused(self, command: PostCommand, person: Person = USER) -> str:
        error = self.assertRaises(ChatError, draft, command, person)
        return f"{error.code}: {error.message}"

    def test_message(self) -> None:
        """Text or bytes, with the key and what it answers."""
        self.assertEqual(draft(Send(room="lobby", text="hi", key="k", reply_to=3)), MessageDraft(USER.author, "k", "hi", None, 3))
        self.assertEqual(draft(Send(room="lobby", data=b"\0")), MessageDraft(USER.author, None, None, b"\0"))

    def test_empty(self) -> None:
        """There has to be something, and one thing."""
        self.assertEqual(self.refused(Send(room="lobby")), "bad_request: text: give either text or data")
        self.assertEqual(self.refused(Send(room="lobby", text="a", data=b"a")), "bad_request: text: give either text or data")
        self.assertEqual(self.refused(Send(room="lobby", text="")), "bad_request: text: must not be empty")
        self.assertEqual(self.refused(Send(room="lobby", data=b"")), "bad_request: data: must not be empty")
        self.assertIn("delete it", self.refused(Edit(room="lobby", of=1, revision=1, text="")))

    def test_too_big(self) -> None:
        """The bound is in bytes of UTF-8, also for edits and data."""
        draft(Send(room="lobby", text="x" * 100))
        draft(Send(room="lobby", text="ü" * 50))
        for command in (
            Send(room="lobby", text="x" * 101),
            Send(room="lobby", text="ü" * 51),
            Send(room="lobby", text="👍" * 26),
            Send(room="lobby", data=b"x" * 101),
            Edit(room="lobby", of=1, revision=1, text="x" * 101),
        ):
            self.assertTrue(self.refused(command).startswith("too_big: "), command)

    def test_emoji(self) -> None:
        """Anything that can be seen, families and flags included; nothing that cannot."""
        for emoji in ("👍", "👨‍👩‍👧", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "+1"):
            self.assertEqual(draft(React(room="lobby", of=1, emoji=emoji)), ReactionDraft(USER.author, None, 1, emoji, True))
        for emoji in (" ", "\u200d", "a\n", "\u202e"):
            self.assertTrue(self.refused(React(room="lobby", of=1, emoji=emoji)).startswith("bad_request: emoji: "), ascii(emoji))

    def test_rights(self) -> None:
        """Who moderates deletes what others wrote; guests set no topics."""
        self.assertEqual(draft(Delete(room="lobby", of=1)), DeleteDraft(USER.author, None, 1, False))
        self.assertEqual(draft(Delete(room="lobby", of=1), MODERATOR), DeleteDraft(MODERATOR.author, None, 1, True))
        self.assertEqual(draft(Topic(room="lobby", text="t")), TopicDraft(USER.author, None, "t"))
        self.assertEqual(self.refused(Topic(room="lobby", text="t"), GUEST), "forbidden: topic: guests do not set topics")
