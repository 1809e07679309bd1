"""Readers that fall behind: what they cost, what they get later, and what they are told of a gap."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, CAROL, ChatHarness, MemoryConnection
from twisted_chat.core import broadcast
from twisted_chat.events import Message
from twisted_chat.limits import Limits, RoomPolicy


class CatchingUpTests(SynchronousTestCase):
    def test_a_reader_that_does_not_read_costs_a_cursor(self) -> None:
        """P5: a megabyte passes; it holds one frame, the others have everything at once, and later it has, too."""
        chat = ChatHarness(self, Limits(send_per_second=0, person_per_second=0, recent_events=50))
        writer, subscription = chat.json(ALICE, "lobby"), chat.plain(BOB)
        stuck = chat.plain(CAROL, connection=MemoryConnection(capacity=10))

        for number in range(1_000):
            writer.say({"type": "send", "room": "lobby", "text": f"{number:04}" + "x" * 1_000})

        self.assertEqual([str(line)[:4] for line in subscription.take()], [f"{number:04}" for number in range(1_000)])
        self.assertLess(stuck.connection.most_unsent, 1_100)

        stuck.connection.read()
        chat.turn()

        self.assertEqual([str(line)[:4] for line in stuck.take()], [f"{number:04}" for number in range(1_000)])
        self.assertLess(stuck.connection.writes, 40)

    def test_a_reader_takes_what_its_socket_takes(self) -> None:
        """A byte at a time, from the ring and from the store: the frames stay whole and in order."""
        self.patch(broadcast, "CATCH_UP_BYTES", 60)
        for keep in (1, 1_000):
            chat = ChatHarness(self, Limits(send_per_second=0, person_per_second=0, recent_events=keep))
            writer = chat.json(ALICE, "lobby")
            slow = chat.json(BOB, "lobby", connection=MemoryConnection(buffers=keep == 1))
            slow.connection.capacity = 0
            for number in range(20):
                writer.say({"type": "send", "room": "lobby", "text": f"m{number}"})
            for _ in range(20_000):
                slow.connection.read(1)
                chat.turn()
            self.assertEqual(slow.texts(), [f"m{number}" for number in range(20)])

    def test_what_was_deleted_is_not_shown_to_who_catches_up(self) -> None:
        """Neither out of memory nor out of the store; the number stays, as a tombstone."""
        for keep in (1, 1_000):
            chat = ChatHarness(self, Limits(send_per_second=0, person_per_second=0, recent_events=keep))
            writer, slow, plain = chat.json(ALICE, "lobby"), chat.json(BOB, "lobby"), chat.plain(CAROL)
            writer.ask("send", room="lobby", text="first")
            for each in (slow, plain):
                each.take()
                each.connection.capacity = 0
            for text in ("x", "secret", "y"):
                writer.ask("send", room="lobby", text=text)
            writer.ask("edit", room="lobby", of=3, revision=1, text="secret, too")
            writer.ask("delete", room="lobby", of=3)
            for each in (slow, plain):
                each.connection.read()
            chat.turn()
            events = slow.take("event")
            self.assertEqual([event["seq"] for event in events], [2, 3, 4, 5, 6])
            self.assertEqual((events[1].get("gone"), events[1].get("text")), (True, None))
            self.assertEqual((events[3]["kind"], events[3].get("text")), ("edit", None))
            self.assertEqual(plain.take(), ["x", "y"])

    def test_a_store_that_is_ahead_of_the_announcement_doubles_nothing(self) -> None:
        """A read may see a commit whose answer is still on its way."""
        chat = ChatHarness(self, Limits(send_per_second=0, person_per_second=0, query_per_second=0, recent_events=1))
        writer = chat.json(ALICE, "lobby")
        for text in ("one", "two", "three"):
            writer.ask("send", room="lobby", text=text)
        chat.store.holding = True
        subscription = chat.stranger(BOB)
        chat.store.holding = False
        subscription.say({"type": "hello"})
        chat.store.release_all()
        chat.store.holding = True

        subscription.say({"type": "join", "id": 77, "room": "lobby", "tail": 3})
        writer.say({"type": "send", "id": 78, "room": "lobby", "text": "four"})

        self.assertEqual(chat.store.waiting, ["read", "append"])

        chat.store.work(1)
        chat.store.work(0)
        chat.store.reply(1)
        chat.turn()
        chat.store.holding = False
        chat.store.release_all()
        chat.turn()

        self.assertEqual(subscription.texts(), ["one", "two", "three", "four"])

    def test_nothing_follows_the_close_frame(self) -> None:
        """Nothing follows the close frame, also when the store was being read for the connection."""
        chat = ChatHarness(self, Limits(send_per_second=0, person_per_second=0, recent_events=1))
        writer = chat.json(ALICE, "lobby")
        for text in ("one", "two", "three"):
            writer.ask("send", room="lobby", text=text)
        subscription = chat.json(BOB)
        chat.store.holding = True

        subscription.say({"type": "join", "id": 1, "room": "lobby", "tail": 3}, {"type": "bye", "id": 2})

        self.assertEqual(subscription.closed, 1000)

        chat.store.holding = False
        chat.store.release_all()
        chat.turn()

        self.assertEqual(subscription.texts(), [])

    def test_a_store_that_cannot_be_read_is_asked_once_a_second(self) -> None:
        """A store that cannot be read is asked once a second, and reading goes on where it was."""
        chat = ChatHarness(self, Limits(send_per_second=0, person_per_second=0, recent_events=1))
        writer, subscription = chat.json(ALICE, "lobby"), chat.json(BOB)
        for text in ("one", "two", "three"):
            writer.ask("send", room="lobby", text=text)
        chat.store.deaf = True

        subscription.ask("join", room="lobby", tail=3)

        self.assertEqual(subscription.take(), [])

        chat.store.deaf = False
        chat.turn()

        self.assertEqual(subscription.take(), [])

        chat.pass_time(1)
        self.assertEqual(subscription.texts(), ["one", "two", "three"])

    def test_retention_that_overtakes_a_reader_is_told(self) -> None:
        """A reader that retention overtakes is told how much it misses (P4)."""
        chat = ChatHarness(
            self, Limits(send_per_second=0, person_per_second=0, recent_events=1), {"lobby": RoomPolicy(keep_events=2)}
        )
        writer, slow = chat.json(ALICE, "lobby"), chat.json(BOB, "lobby")
        slow.connection.capacity = 0

        for number in range(1, 7):
            writer.ask("send", room="lobby", text=f"m{number}")
        chat.core.retention.apply()
        slow.connection.read()
        chat.turn()
        came = [(one["type"], one.get("dropped", one.get("seq"))) for one in slow.take()]

        # The first had been handed to the socket.
        self.assertEqual(came, [("event", 1), ("gap", 3), ("event", 5), ("event", 6), ("live", 6)])

    def test_a_broken_socket_is_left_behind(self) -> None:
        """A broken socket is dropped, and the others of the room get everything."""
        chat = ChatHarness(self)
        writer, broken, subscription = chat.json(ALICE, "lobby"), chat.plain(BOB), chat.plain(CAROL)
        broken.connection.broken = True

        writer.ask("send", room="lobby", text="hello")
        writer.ask("send", room="lobby", text="again")

        self.assertTrue(broken.connection.aborted)
        self.assertEqual(subscription.take(), ["hello", "again"])

        broken.lose()
        self.assertEqual(chat.core.rooms.find(ALICE, "lobby").members, 2)

    def test_an_ephemeral_room_tells_what_is_lost(self) -> None:
        """A room that keeps nothing tells a slow reader how much it missed, and stores nothing."""
        chat = ChatHarness(
            self, Limits(send_per_second=0, person_per_second=0, recent_events=4), {"live": RoomPolicy(durable=False)}
        )
        writer, slow = chat.json(ALICE, "live"), chat.json(BOB, "live")
        slow.connection.capacity = 0

        for number in range(1, 10):
            writer.ask("send", room="live", text=f"m{number}")
        slow.connection.read()
        chat.turn()
        came = slow.take()
        dropped = sum(one["dropped"] for one in came if one["type"] == "gap")
        events = [one["seq"] for one in came if one["type"] == "event"]

        self.assertEqual(events, sorted(events))
        self.assertEqual(len(events) + dropped, 9)
        self.assertGreater(dropped, 0)
        self.assertEqual(chat.core.rooms.find(ALICE, "live").log.dropped, dropped)
        self.assertEqual(chat.log("live"), [])

    def test_announcing_past_a_hole_is_an_error(self) -> None:
        """A room that would announce past a hole raises an error (P1)."""
        chat = ChatHarness(self)
        lobby = chat.core.rooms.find(ALICE, "lobby")
        with self.assertRaisesRegex(AssertionError, "lobby: announced 2 after 0"):
            lobby.announce([Message(2, "x-2", 0, ALICE.author, text="hi")])
