"""What waits to be acknowledged."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.client.errors import QueueFull
from twisted_chat.client.outbox import FIRST_TOGETHER, MOST_TOGETHER, Outbox, Pace, Pending, committed_event, rate_of
from twisted_chat.events import Author, Deleted, Edited, Message, Reacted, TopicSet
from twisted_chat.protocol.commands import Delete, Edit, React, Send, Topic
from twisted_chat.protocol.replies import PostOk, SendRate


def pending(key: str, room: str = "lobby", text: str = "hi") -> Pending:
    return Pending(Send(room=room, key=key, text=text), Deferred())


class OutboxTests(SynchronousTestCase):
    def test_order_and_bound(self) -> None:
        """The outbox keeps the order of each room, within one bound for all rooms."""
        outbox = Outbox(3)

        for key, room in (("a", "lobby"), ("b", "ops"), ("c", "lobby")):
            outbox.check_space()
            outbox.add(pending(key, room))

        self.assertEqual([each.key for each in outbox.of_room("lobby")], ["a", "c"])
        self.assertRaises(QueueFull, outbox.check_space)

        found = outbox.find("lobby", "a")
        assert found is not None

        self.assertTrue(outbox.remove(found))
        self.assertFalse(outbox.remove(found))

        outbox.check_space()
        self.assertEqual(len(outbox), 2)

    def test_same_key_again(self) -> None:
        """What was settled stays settled, also when the program says the same key again before the answer to the first."""
        outbox = Outbox(3)
        first, second = pending("a"), pending("a")

        outbox.add(first)

        self.assertTrue(outbox.remove(first))

        outbox.add(second)
        self.assertFalse(outbox.remove(first))
        self.assertEqual(outbox.of_room("lobby"), [second])

    def test_groups(self) -> None:
        """A group has as many commands as are allowed and fit in a message, but at least one."""
        outbox = Outbox(100)

        for number in range(10):
            outbox.add(pending(f"k{number}", text="x" * 100))

        self.assertEqual([each.key for each in outbox.first("lobby", 3, 65_536)], ["k0", "k1", "k2"])

        size = len(outbox.of_room("lobby")[0].wire)
        self.assertEqual(len(outbox.first("lobby", 256, 4 * (size + 32) + 2)), 4)
        self.assertEqual(len(outbox.first("lobby", 256, 10)), 1)
        self.assertEqual(outbox.first("ops", 3, 65_536), [])


class PaceTests(SynchronousTestCase):
    def test_pace(self) -> None:
        """More and more together while all goes well; one by one after a refusal, so that the order holds."""
        pace = Pace()

        self.assertEqual(pace.together, FIRST_TOGETHER)

        for _ in range(20):
            pace.kept()

        self.assertEqual(pace.together, MOST_TOGETHER)

        pace.held_back()
        self.assertEqual(pace.together, 1)

    def test_rate(self) -> None:
        """A little below what the server allows; nothing at all where it has no bound."""
        clock = Clock()

        bucket = rate_of(SendRate(burst=10, per_second=2.0), clock.seconds)

        self.assertEqual(bucket.available(), 10)

        bucket.take(10)
        clock.advance(1.0)

        self.assertEqual(bucket.available(), 1)
        self.assertGreater(rate_of(SendRate(burst=10, per_second=0.0), clock.seconds).available(), 1_000_000)


class CommittedTests(SynchronousTestCase):
    def test_events(self) -> None:
        """The event of a command is made of the command and its answer."""
        by = Author("u1", "alice")
        ok = PostOk(id=1, room="lobby", key="k", seq=7, event="e7", duplicate=False)
        for command, event in (
            (Send(room="lobby", key="k", text="hi", reply_to=3), Message(7, "e7", 5, by, "k", "hi", None, 3)),
            (Send(room="lobby", key="k", data=b"\0"), Message(7, "e7", 5, by, "k", None, b"\0")),
            (
                Edit(room="lobby", key="k", of=3, revision=1, text="ho"),
                Edited(seq=7, id="e7", at=5, by=by, key="k", of=3, revision=2, text="ho"),
            ),
            (Delete(room="lobby", key="k", of=3), Deleted(seq=7, id="e7", at=5, by=by, key="k", of=3)),
            (
                React(room="lobby", key="k", of=3, emoji="+"),
                Reacted(seq=7, id="e7", at=5, by=by, key="k", of=3, emoji="+", on=True),
            ),
            (Topic(room="lobby", key="k", text="t"), TopicSet(seq=7, id="e7", at=5, by=by, key="k", text="t")),
        ):
            self.assertEqual(committed_event(command, ok, by, 5), event)
