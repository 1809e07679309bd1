"""Readers that are behind take turns with those at the head."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, ChatHarness, JsonClient, MemoryConnection, guest
from twisted_chat.core import catching_up
from twisted_chat.core.catching_up import READS_AT_ONCE, TURN_SECONDS
from twisted_chat.limits import RoomPolicy
from twisted_chat.testing import UNBOUND

#: Seconds that one write takes here.
WRITE = 0.001


class SlowConnection(MemoryConnection):
    """A write takes a while."""

    def __init__(self, chat: ChatHarness) -> None:
        super().__init__()
        self._clock = chat.clock

    def send(self, data: bytes) -> int:
        self._clock.rightNow += WRITE
        return super().send(data)


class TurnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        # One write at each visit.
        self.patch(catching_up, "FEED_BYTES", 1)

    def late(self, chat: ChatHarness, count: int) -> list[JsonClient]:
        """Clients that ask for everything, in one turn."""
        clients = [chat.json(guest(f"p{number}", number), connection=SlowConnection(chat)) for number in range(count)]
        for client in clients:
            client.session.received([b'{"type":"join","room":"lobby","tail":9999}'])
        return clients

    def test_by_time(self) -> None:
        """However many are behind, a turn gives them only a few milliseconds, and all get everything in the end."""
        chat = ChatHarness(self, UNBOUND, rooms={"lobby": RoomPolicy(durable=False)})
        chat.json(ALICE, "lobby").say([{"type": "send", "room": "lobby", "text": "x" * 1_000}] * 500)
        chat.one_turn = True

        began = chat.clock.rightNow
        clients = self.late(chat, 50)
        turns = [chat.clock.rightNow - began]
        while sum(len(client.texts()) for client in clients) or len(turns) < 20:
            began = chat.clock.rightNow
            chat.turn()
            turns.append(chat.clock.rightNow - began)

        self.assertLess(max(turns), TURN_SECONDS + 2 * WRITE)
        self.assertEqual({client.session.memberships["lobby"].lag for client in clients}, {0})

    def test_what_is_acknowledged_meanwhile(self) -> None:
        """Somebody at the head is answered in the turns between."""
        chat = ChatHarness(self, UNBOUND, rooms={"lobby": RoomPolicy(durable=False)})
        bob = chat.json(BOB, "lobby")
        bob.say([{"type": "send", "room": "lobby", "text": "x" * 1_000}] * 500)
        clients = self.late(chat, 50)
        chat.one_turn = True
        bob.take()
        turns = 0

        bob.say({"type": "send", "id": 1, "room": "lobby", "text": "now"})
        while not bob.take("ok"):
            chat.turn()
            turns += 1

        self.assertLess(turns, 20)
        self.assertGreater(max(client.session.memberships["lobby"].lag for client in clients), 0)

    def test_one_near_the_head_does_not_wait(self) -> None:
        """Who joins at the head is live at once, though many are behind."""
        chat = ChatHarness(self, UNBOUND, rooms={"lobby": RoomPolicy(durable=False)})
        chat.json(ALICE, "lobby").say([{"type": "send", "room": "lobby", "text": "x" * 1_000}] * 500)
        self.late(chat, 50)
        chat.one_turn = True
        bob = chat.json(BOB)

        bob.say({"type": "join", "room": "lobby"})

        self.assertEqual(len(bob.take("live")), 1)

    def test_reads_of_the_store(self) -> None:
        """Few reads at once, so that their answers do not come all in one turn; and all are answered."""
        chat = ChatHarness(self, UNBOUND)
        chat.json(ALICE, "lobby").say([{"type": "send", "room": "lobby", "text": "x"}] * 10)
        chat.core.rooms.find(ALICE, "lobby").clear_cache()
        clients = [chat.json(guest(f"p{number}", number)) for number in range(9)]
        chat.store.holding = True

        for client in clients:
            client.say({"type": "join", "room": "lobby", "tail": 9_999})

        self.assertEqual(chat.store.waiting.count("read"), READS_AT_ONCE)

        while chat.store.held():
            chat.store.release()
            chat.turn()

        self.assertEqual([len(client.texts()) for client in clients], [10] * 9)
