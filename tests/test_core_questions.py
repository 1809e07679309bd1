"""Large answers to one client come one after another, as fast as it takes them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, UNBOUND, ChatHarness, JsonClient, MemoryConnection
from twisted_chat.core.questions import MOST_WAITING

#: Bytes of a page of the room that :meth:`QuestionsCase.client` joins.
PAGE = 90_000


class QuestionsCase(SynchronousTestCase):
    def client(self, asked: int) -> tuple[JsonClient, MemoryConnection]:
        """Somebody whose socket takes nothing more, in a room with long messages; and the connection."""
        chat = ChatHarness(self, UNBOUND)
        client = chat.json(ALICE, "lobby")
        for _ in range(9):
            client.ask("send", room="lobby", text="x" * 10_000)
        client.take()
        client.connection.capacity = 0
        client.say([{"type": "history", "id": number, "room": "lobby"} for number in range(asked)])
        return client, client.connection


class SlowTests(QuestionsCase):
    def test_holds_one_page(self) -> None:
        """Of many pages that a client asks for and does not read the server holds one."""
        _, connection = self.client(40)

        self.assertLess(PAGE, connection.unsent_bytes)
        self.assertLess(connection.most_unsent, 2 * PAGE)

    def test_all_come(self) -> None:
        """When the client reads, all of them come, in their order."""
        client, connection = self.client(40)

        for _ in range(40):
            connection.read()
            client.chat.turn()

        self.assertEqual([answer["id"] for answer in client.take("ok")], list(range(40)))
        self.assertLess(connection.most_unsent, 2 * PAGE)

    def test_is_not_read(self) -> None:
        """A client with very many questions is not read until they have been answered."""
        client, connection = self.client(MOST_WAITING + 1)
        paused = connection.paused

        connection.read()
        client.chat.turn()

        self.assertEqual((paused, connection.paused), (True, False))
        self.assertEqual(len(client.take("ok")), MOST_WAITING + 1)

    def test_leaves(self) -> None:
        """The questions of a client that has left are not answered."""
        client, connection = self.client(3)
        unsent = connection.unsent_bytes

        client.lose()
        connection.read()
        client.chat.turn()

        self.assertGreater(unsent, PAGE)
        self.assertEqual(len(client.take("ok")), 1)


class TurnTests(QuestionsCase):
    def test_one_list_in_a_turn(self) -> None:
        """Many lists of rooms are made one in each turn of the reactor; in the first, which reads the socket and then answers, two."""
        chat = ChatHarness(self, UNBOUND)
        client = chat.json(ALICE, "lobby")
        chat.one_turn = True

        client.say([{"type": "rooms", "id": number} for number in range(5)])
        came = [len(client.take("ok"))]
        for _ in range(5):
            chat.turn()
            came.append(len(client.take("ok")))

        self.assertEqual(came, [2, 1, 1, 1, 0, 0])
