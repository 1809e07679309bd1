"""What one more costs a client that has much to do: the same, in instructions and bytes that no machine changes."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.counting import instructions
from twisted_chat.client import journal as journal_module
from twisted_chat.client.connection import encode
from twisted_chat.client.journal import Journal
from twisted_chat.protocol.commands import Send
from twisted_chat.testing import MemoryChat
from twisted_chat.users import User


class JournalEffortTests(SynchronousTestCase):
    def test_bytes_written(self) -> None:
        """Each message that waits is written a bounded number of times, however many wait."""
        self.patch(journal_module, "SLACK_BYTES", 1_024)
        path = self.mktemp()
        written: list[int] = []
        write, replace = os.write, os.replace

        def count(descriptor: int, data: bytes) -> int:
            written.append(write(descriptor, data))
            return written[-1]

        def count_file(source: str, target: str) -> None:
            written.append(os.path.getsize(source))
            replace(source, target)

        self.patch(os, "write", count)
        self.patch(os, "replace", count_file)
        journal = Journal(path)
        self.addCleanup(journal.close)
        journal.open("device-1")

        for number in range(2_000):
            post = Send(room="lobby", key=f"k{number}", text="hi")
            journal.put(post, encode(post))
            journal.put(Send(room="ops", key="one"), b'{"type":"send","room":"ops","key":"one"}')
            journal.done("ops", "one")
            journal.sync()

        self.assertLess(sum(written), 4 * 2_000 * len(b'{"put":{"type":"send","room":"lobby","key":"k1000","text":"hi"}}') * 2)


class RoomsEffortTests(SynchronousTestCase):
    def cost(self, rooms: int) -> int:
        """The instructions for one message to a client in so many rooms."""
        chat = MemoryChat(people={"tc_alice": User(id="u1", name="alice"), "tc_bob": User(id="u2", name="bob")})
        client, bob = chat.client("alice", journal=self.mktemp()), chat.client("bob")
        for number in range(rooms):
            client.room(f"r{number}")
        there = bob.room("r0")
        chat.settle()
        there.send("first")
        chat.settle()
        there.send("second")

        cost = instructions(chat.settle, "twisted_chat/client")

        client.stopService()
        bob.stopService()
        chat.settle()
        return cost

    def test_a_message(self) -> None:
        """Receiving one message in one of 200 rooms is as cheap as in one of 20: the others are not looked at."""
        few, many = self.cost(20), self.cost(200)

        self.assertLess(many, 1.1 * few)
