"""The fan-out: rows are written to in turns, each as a cursor of its own."""

from __future__ import annotations

import gc
from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, ChatHarness, PlainClient, guest
from twisted_chat.core import broadcast, room
from twisted_chat.core.log import RoomLog
from twisted_chat.core.scheduler import Scheduler
from twisted_chat.core.subscription import send_to_all
from twisted_chat.events import Deleted, Event, Message
from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.protocol.encoders import JsonEncoding
from twisted_chat.store_contract import RoomRecord


class SendToAllTests(SynchronousTestCase):
    def test_tells_who_did_not_take_all(self) -> None:
        """A broadcast returns the place and the bytes taken of each socket that did not take all; -1 for a broken one."""

        def refuse(data: bytes) -> int:
            raise BlockingIOError

        def fail(data: bytes) -> int:
            raise ConnectionResetError

        self.assertEqual(send_to_all([len, lambda data: 2, refuse, fail, len], b"four"), [(1, 2), (2, 0), (3, -1)])


def held(line: bytes) -> int:
    """How many tuples hold those bytes."""
    tuples = [each for each in gc.get_objects() if type(each) is tuple]
    return sum(any(type(item) is bytes and item == line for item in each) for each in tuples)


class CountedEncoding(JsonEncoding):
    """Counts the events that it encodes."""

    encoded = 0

    def items(self, events: Sequence[Event]) -> list[bytes]:
        self.encoded += len(events)
        return super().items(events)


def nothing(room: str, after: int, most: int = 0, /) -> Deferred[list[Event]]:
    """The store has no events."""
    return succeed([])


class EncodeAgainTests(SynchronousTestCase):
    def test_a_deletion_encodes_what_it_changes(self) -> None:
        """Not all that the window has and nobody has asked for."""
        log = RoomLog(RoomRecord("lobby"), "e", True, Limits(), nothing)
        log.append([Message(seq, "x", 0, ALICE.author, None, f"text {seq}") for seq in range(1, 1_001)])
        encoding = CountedEncoding("lobby")
        items = broadcast.Broadcast(log, encoding, broadcast.FanOut(Scheduler(Clock().callLater)))

        items.encode_again(log.cache.replace_deleted(Deleted(1_001, "x", 0, ALICE.author, of=7)))

        self.assertEqual(encoding.encoded, 0)
        self.assertIn(b'"gone":true', (items.items_after(6) or [b""])[0])
        self.assertEqual(encoding.encoded, 1_000)

        items.encode_again(log.cache.replace_deleted(Deleted(1_001, "x", 0, ALICE.author, of=9)))

        self.assertEqual(encoding.encoded, 1_001)
        self.assertIn(b'"gone":true', (items.items_after(8) or [b""])[0])


class ManyEditsTests(SynchronousTestCase):
    def test_a_deletion_of_a_message_with_many_edits_drops_the_cache(self) -> None:
        """It takes no text out one by one, and nobody is shown any of them or misses an event."""
        self.patch(room, "ERASED_IN_PLACE", 5)
        for edits, cached in ((5, 8), (6, 0)):
            chat = ChatHarness(self)
            alice, bob = chat.json(ALICE, "lobby"), chat.json(BOB, "lobby")
            alice.ask("send", room="lobby", text="secret")
            for revision in range(1, edits + 1):
                alice.ask("edit", room="lobby", of=1, revision=revision, text="secret")
            alice.ask("send", room="lobby", text="other")
            bob.take()

            alice.ask("delete", room="lobby", of=1)

            self.assertEqual(len(chat.core.rooms.find(ALICE, "lobby").log.cache.events), cached)
            self.assertEqual([event["kind"] for event in bob.take() if event["type"] == "event"], ["delete"])

            carol = chat.json(guest("carol"))
            carol.ask("join", room="lobby", tail=50)
            events = [event for event in carol.take() if event["type"] == "event"]
            self.assertEqual([event["seq"] for event in events], list(range(1, edits + 4)))
            self.assertEqual([event["text"] for event in events if "text" in event], ["other"])


class FanOutTests(SynchronousTestCase):
    """Rows of two; five members make three of them."""

    def setUp(self) -> None:
        self.patch(broadcast, "SHARD_SUBSCRIBERS", 2)
        self.begin()

    def begin(self, recent_events: int = 1_000, room: str = "lobby") -> None:
        limits = Limits(send_per_second=0, person_per_second=0, query_per_second=0, recent_events=recent_events)
        self.chat = ChatHarness(self, limits, {"live": RoomPolicy(durable=False)})
        self.room = room
        self.members = [self.chat.plain(BOB, room) for _ in range(5)]
        self.writer = self.chat.json(ALICE, room)
        self.chat.one_turn = True

    def shown(self) -> list[list[str | bytes]]:
        return [member.take() for member in self.members]

    def say(self, text: str) -> None:
        self.writer.say({"type": "send", "room": self.room, "text": text})

    def settle(self) -> None:
        self.chat.one_turn = False
        self.chat.turn()

    def test_a_row_in_each_turn(self) -> None:
        """A large room is written to one shard in each turn."""
        self.say("hello")

        self.assertEqual(self.shown(), [["hello"], ["hello"], [], [], []])

        self.chat.turn()
        self.assertEqual(self.shown(), [[], [], ["hello"], ["hello"], []])

        self.chat.turn()
        self.assertEqual(self.shown(), [[], [], [], [], ["hello"]])

    def test_what_comes_meanwhile_is_written_together(self) -> None:
        """The rows that still wait get both lines in one write; the others get the second when it is their turn again."""
        self.say("one")
        self.say("two")
        self.settle()

        self.assertEqual(self.shown(), [["one", "two"]] * 5)
        self.assertEqual([member.connection.writes for member in self.members], [2, 2, 1, 1, 1])

    def test_another_room_does_not_wait(self) -> None:
        """A message to a small room arrives while a large room is still being written to."""
        other = self.chat.plain(BOB, "den")

        self.say("hello")
        other.say("quick")

        self.assertEqual(other.take(), ["quick"])
        self.assertEqual(self.shown()[4], [], "the large room is not done")

    def test_who_joins_meanwhile(self) -> None:
        """Nobody gets a line twice or not at all, whichever row there is room in."""
        self.say("one")
        new: list[PlainClient] = [self.chat.plain(BOB, "lobby", history=1), self.chat.plain(BOB, "lobby")]

        self.say("two")
        self.settle()

        self.assertEqual([member.take() for member in new], [["one", "two"], ["two"]])
        self.assertEqual(self.shown(), [["one", "two"]] * 5)

    def test_who_falls_behind_meanwhile(self) -> None:
        """A reader that falls behind during a broadcast reads on from what its row had."""
        self.say("one")
        slow = self.members[4]

        slow.session.congested()
        self.settle()

        self.assertEqual(slow.take(), [])

        slow.session.drained()
        self.assertEqual(slow.take(), ["one"])

    def test_who_leaves_meanwhile(self) -> None:
        """Members that leave between two turns change nothing for the others."""
        self.say("one")
        self.members.pop(2).lose()
        self.members.pop(2).lose()
        self.say("two")
        self.settle()

        self.assertEqual(self.shown(), [["one", "two"]] * 3)

    def test_rows_that_became_small_are_merged(self) -> None:
        """Shards that have lost members are merged, and nobody misses or doubles an event by it."""
        for place in (0, 1):
            self.members.pop(place).lose()
        self.say("hello")

        self.assertEqual(self.shown(), [["hello"], ["hello"], []])

        self.say("again")
        self.settle()

        self.assertEqual(self.shown(), [["again"], ["again"], ["hello", "again"]])

    def test_what_is_erased_meanwhile_is_not_written(self) -> None:
        """Members in later shards are not sent a text that was deleted meanwhile."""
        self.say("secret")
        self.writer.say({"type": "delete", "room": "lobby", "of": 1})
        self.settle()

        self.assertEqual(self.shown(), [["secret"], ["secret"], [], [], []])

    def test_what_is_erased_at_once_is_not_written_late(self) -> None:
        """Said and taken back in one batch: the rows that come later do not show it any more."""
        said, deleted = {"type": "send", "room": "lobby", "text": "secret"}, {"type": "delete", "room": "lobby", "of": 1}

        self.writer.say([said, deleted])
        self.settle()

        self.assertEqual(self.shown(), [["secret"], ["secret"], [], [], []])

    def test_nothing_is_forgotten_that_a_row_still_needs(self) -> None:
        """An ephemeral room has nothing else: no row loses a line because its turn comes late."""
        self.begin(recent_events=2, room="live")
        for number in range(10):
            self.say(f"m{number}")
        self.settle()

        self.assertEqual(self.shown(), [[f"m{number}" for number in range(10)]] * 5)
        self.assertEqual(self.chat.core.rooms.find(ALICE, "live").log.dropped, 0)

    def test_what_was_written_does_not_stay_in_memory(self) -> None:
        """The bytes of a batch, which may be megabytes, are freed when the last shard has them."""
        text = "m" * 10_000

        self.say(text)
        line = b"\x81\x7e" + len(text).to_bytes(2, "big") + text.encode()

        self.assertEqual(held(line), 1, "a shard still waits for it")

        self.settle()

        self.assertEqual(held(line), 0)

    def test_a_write_that_fails_in_an_unforeseen_way(self) -> None:
        """Its row is broken off, because nobody knows who has had it; the others get it, and the next one."""

        def fail(data: bytes) -> int:
            raise ValueError("unforeseen")

        self.members[3].session.memberships["lobby"].shard.sends[1] = fail  # type: ignore[union-attr]

        self.say("one")
        self.settle()

        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

        self.say("two")
        self.settle()

        self.assertEqual([member.connection.aborted for member in self.members], [False, False, True, True, False])

        for broken in (3, 2):
            self.members.pop(broken).lose()

        self.assertEqual(self.shown(), [["one", "two"]] * 3)

    def test_the_end_waits_for_all_rows(self) -> None:
        """A stop sends the last message to all shards before it closes the connections."""
        self.say("hello")
        self.chat.core.drain.begin()
        self.settle()

        self.assertEqual([member.connection.frames()[:1] for member in self.members][2:], [[(0x81, b"hello")]] * 3)
        self.assertEqual({member.closed for member in self.members}, {1012})
