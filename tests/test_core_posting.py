"""Commands become new events, or errors that name the field."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.core.posting import PostCommand, new_event_of
from twisted_chat.errors import ChatError
from twisted_chat.events import NewDeletion, NewEvent, NewMessage, NewReaction
from twisted_chat.protocol.commands import Delete, Edit, React, Send
from twisted_chat.users import User

USER = User(id="u1", name="bob")


def new_event(command: PostCommand, user: User = USER) -> NewEvent:
    return new_event_of(command, user.author, 100)


class NewEventTests(SynchronousTestCase):
    def refused(self, command: PostCommand, user: User = USER) -> str:
        error = self.assertRaises(ChatError, new_event, command, user)
        return f"{error.code}: {error.message}"

    def test_message(self) -> None:
        """Text or bytes, with the key and what it answers."""
        self.assertEqual(
            new_event(Send(room="lobby", text="hi", key="k", reply_to=3)), NewMessage(USER.author, "k", "hi", None, 3)
        )
        self.assertEqual(new_event(Send(room="lobby", data=b"\0")), NewMessage(USER.author, None, None, b"\0"))

    def test_empty(self) -> None:
        """A message has either a text or data, and it is not empty."""
        self.assertEqual(self.refused(Send(room="lobby")), "bad_request: text: give either text or data")
        self.assertEqual(self.refused(Send(room="lobby", text="a", data=b"a")), "bad_request: text: give either text or data")
        self.assertEqual(self.refused(Send(room="lobby", text="")), "bad_request: text: must not be empty")
        self.assertEqual(self.refused(Send(room="lobby", data=b"")), "bad_request: data: must not be empty")
        self.assertIn("delete it", self.refused(Edit(room="lobby", of=1, revision=1, text="")))

    def test_too_big(self) -> None:
        """The bound is in bytes of UTF-8, also for edits and data."""
        new_event(Send(room="lobby", text="x" * 100))
        new_event(Send(room="lobby", text="ü" * 50))
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
            self.assertEqual(new_event(React(room="lobby", of=1, emoji=emoji)), NewReaction(USER.author, None, 1, emoji, True))
        for emoji in (" ", "\u200d", "a\n", "\u202e"):
            self.assertTrue(self.refused(React(room="lobby", of=1, emoji=emoji)).startswith("bad_request: emoji: "), ascii(emoji))

    def test_deleting_what_others_wrote(self) -> None:
        """A deletion by a moderator is marked, because the store decides by the mark."""
        own = new_event_of(Delete(room="lobby", of=1), USER.author, 100)

        any_author = new_event_of(Delete(room="lobby", of=1), USER.author, 100, any_author=True)

        self.assertEqual(own, NewDeletion(USER.author, None, 1, False))
        self.assertEqual(any_author, NewDeletion(USER.author, None, 1, True))
