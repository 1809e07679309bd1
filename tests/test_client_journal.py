"""The file of a client: what was accepted and how far was read."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.client import journal as journal_module
from twisted_chat.client.connection import encode
from twisted_chat.client.errors import StateError
from twisted_chat.client.journal import Journal
from twisted_chat.client.outbox import Post
from twisted_chat.events import Cursor
from twisted_chat.protocol.commands import Delete, Edit, React, Send, Topic

CURSOR = Cursor("E", 7, "e7")


class JournalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()
        self.journals: list[Journal] = []
        self.addCleanup(self.close)

    def close(self) -> None:
        for journal in self.journals:
            journal.close()

    def journal(self) -> Journal:
        journal = Journal(self.path)
        self.journals.append(journal)
        return journal

    def put(self, journal: Journal, key: str, room: str = "lobby") -> None:
        post = Send(room=room, key=key, text="hi")
        journal.put(post, encode(post))

    def killed(self, journal: Journal) -> None:
        """As kill -9: nothing is said to the file any more."""
        journal.close()

    def test_new(self) -> None:
        """A new journal has no messages, and keeps the device with which it was opened first."""
        journal = self.journal()

        self.assertEqual(journal.open("device-1"), [])
        self.assertEqual(journal.device, "device-1")

        self.killed(journal)
        again = self.journal()
        again.open("device-2")

        self.assertEqual(again.device, "device-1")

    def test_accepted(self) -> None:
        """What is not acknowledged is there again, in order, whatever it was."""
        journal = self.journal()
        journal.open("device-1")
        posts: list[Post] = [
            Send(room="lobby", key="a", text="hi", reply_to=3),
            Send(room="lobby", key="b", data=b"\0\xff"),
            Edit(room="lobby", key="c", of=3, revision=1, text="ho"),
            Delete(room="ops", key="d", of=3),
            React(room="ops", key="e", of=3, emoji="+", on=False),
            Topic(room="ops", key="f", text="t"),
        ]

        for post in posts:
            journal.put(post, encode(post))
        journal.done("lobby", "b")
        self.killed(journal)

        self.assertEqual(self.journal().open("x"), [posts[0], *posts[2:]])

    def test_before_sync(self) -> None:
        """What ``put`` has taken is with the operating system: the end of the process loses none of it."""
        journal = self.journal()

        journal.open("device-1")
        self.put(journal, "a")

        self.assertIn(b'"key":"a"', Path(self.path).read_bytes())

    def test_cursors(self) -> None:
        """A journal restores the last cursor of each room, and none of a room that was left."""
        journal = self.journal()
        journal.open("device-1")
        journal.move({"lobby": Cursor("E", 1, "e1"), "ops": CURSOR})
        journal.move({"lobby": CURSOR, "ops": None})
        self.killed(journal)
        again = self.journal()

        again.open("x")

        self.assertEqual(again.cursors, {"lobby": CURSOR})

    def test_torn(self) -> None:
        """A line that was being written at the end is as if it had never been; what follows is not spoilt by it."""
        journal = self.journal()

        journal.open("device-1")
        self.put(journal, "a")
        self.killed(journal)
        with open(self.path, "ab") as file:
            file.write(b'{"put":{"type":"send","room":"lob')
        again = self.journal()

        self.assertEqual([post.key for post in again.open("x")], ["a"])

        self.put(again, "b")
        self.killed(again)

        self.assertEqual([post.key for post in self.journal().open("x")], ["a", "b"])

    def test_damaged(self) -> None:
        """Anything else that cannot be read is said, with its line and the cure."""
        Path(self.path).write_text('{"device":"device-1"}\nnonsense\n{"device":"device-1"}\n')

        with self.assertRaises(StateError) as caught:
            self.journal().open("x")
        self.assertIn("line 2 cannot be read", str(caught.exception))
        self.assertIn("move the file away", str(caught.exception))

    def test_two_programs(self) -> None:
        """A second program cannot open a journal that one has open."""
        self.journal().open("device-1")
        with self.assertRaises(StateError) as caught:
            self.journal().open("device-2")
        self.assertIn("another program uses it", str(caught.exception))

    def test_stays_small(self) -> None:
        """What is of no use any more is thrown away, and nothing else is."""
        self.patch(journal_module, "SLACK_BYTES", 4_096)
        journal = self.journal()

        journal.open("device-1")
        self.put(journal, "kept")
        for number in range(1_000):
            self.put(journal, f"k{number}")
            journal.done("lobby", f"k{number}")
            journal.move({"lobby": Cursor("E", number, f"e{number}")})
            journal.sync()
            self.assertLess(os.path.getsize(self.path), 8_192)
        self.killed(journal)
        again = self.journal()

        self.assertEqual([post.key for post in again.open("x")], ["kept"])
        self.assertEqual(again.cursors["lobby"].seq, 999)

    def test_no_place(self) -> None:
        """A journal in a directory that does not exist is refused when it is opened."""
        with self.assertRaises(StateError) as caught:
            Journal("/nowhere/at/all/journal").open("x")
        self.assertIn("cannot be used: No such file or directory", str(caught.exception))

    def test_disk_full(self) -> None:
        """What could not be kept was not accepted, and half a line is taken back."""
        journal = self.journal()

        journal.open("device-1")
        self.put(journal, "a")
        real = os.write

        def full(descriptor: int, data: bytes) -> int:
            if len(data) > 20:
                return real(descriptor, data[:20])
            raise OSError(28, "No space left on device")

        self.patch(os, "write", full)

        self.assertRaises(StateError, self.put, journal, "b")

        self.patch(os, "write", real)
        self.put(journal, "c")
        self.killed(journal)

        self.assertEqual([post.key for post in self.journal().open("x")], ["a", "c"])

    def test_only_the_owner_may_read(self) -> None:
        """The file holds the guest's secret: whatever the umask is, also one that was there, and the one it is rewritten to."""
        self.addCleanup(os.umask, os.umask(0))
        with open(self.path, "wb"):
            os.chmod(self.path, 0o644)
        journal = self.journal()

        journal.open("device-1")

        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)

        self.patch(journal_module, "SLACK_BYTES", -1)
        seen: list[int] = []
        real = os.replace

        def replace(source: str, target: str) -> None:
            seen.append(os.stat(source).st_mode & 0o777)
            real(source, target)

        self.patch(os, "replace", replace)
        self.put(journal, "k")
        journal.sync()

        self.assertEqual([*seen, os.stat(self.path).st_mode & 0o777], [0o600, 0o600])
