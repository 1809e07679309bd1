"""What one more costs where there are many: the same, in instructions that no machine changes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, ChatHarness, guest
from tests.harness.counting import instructions
from tests.harness.nodes import Cluster
from twisted_chat.core import drain, ephemeral
from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.testing import UNBOUND

#: How much more one more may cost among ten times as many.
MORE = 1.1


class EffortTests(SynchronousTestCase):
    def assert_flat(self, few: int, many: int) -> None:
        self.assertLess(many, MORE * few, f"{few} instructions among few, {many} among ten times as many")

    def test_a_room_more(self) -> None:
        """A connection that is in 1,000 rooms joins another one as cheaply as one that is in 100."""
        chat = ChatHarness(self, replace(UNBOUND, rooms_per_connection=1_000))
        client = chat.json(ALICE)

        def join(number: int) -> int:
            return instructions(lambda: client.say({"type": "join", "id": 1, "room": f"r{number:04}"}), "twisted_chat/core")

        costs = [join(number) for number in range(1_000)]

        self.assertEqual(len(client.take("ok")), 1_000)
        self.assert_flat(costs[100], costs[999])

    def test_a_guest_more_of_the_same_name(self) -> None:
        """The name of 300 guests is found free for the next one of that name as cheaply as among 30."""
        chat = ChatHarness(self, UNBOUND)

        costs = [instructions(lambda number=number: chat.plain(guest("anna", number))) for number in range(300)]  # type: ignore[misc]

        self.assert_flat(costs[30], costs[299])

    def test_a_rich_guest_more_of_the_same_name(self) -> None:
        """The same where the name comes in the hello."""
        chat = ChatHarness(self, UNBOUND)

        def connect(number: int) -> None:
            chat.stranger(guest(f"x{number}", number)).say({"type": "hello", "id": 1, "name": "anna"})

        costs = [instructions(lambda number=number: connect(number)) for number in range(300)]  # type: ignore[misc]

        self.assert_flat(costs[30], costs[299])

    def test_a_server_that_ends(self) -> None:
        """Connections are closed in slices, each told when to come back, and the end is told after the last of them."""
        self.patch(drain, "CLOSED_IN_TURN", 2)
        chat = ChatHarness(self, UNBOUND)
        clients = [chat.json(guest(f"p{number}", number)) for number in range(5)]
        chat.one_turn = True

        ended = chat.core.drain.begin()
        closed = [sum(client.closed is not None for client in clients)]
        while closed[-1] < 5:
            self.assertNoResult(ended)
            chat.turn()
            closed.append(sum(client.closed is not None for client in clients))

        self.assertEqual(closed, [2, 4, 5])
        self.successResultOf(ended)
        self.assertEqual([len(client.take("bye")) for client in clients], [1] * 5)

    def test_a_heartbeat_of_a_node(self) -> None:
        """What a node says each second costs what was sent since the last time, not what there is of users."""
        cluster = Cluster(self, replace(Limits(), guests_per_address=0))

        def cost(count: int) -> int:
            node = cluster.node()
            clients = [node.json(guest(f"p{number}", number), "lobby") for number in range(count)]
            for client in clients:
                client.ask("send", room="lobby", text="x")
            for _ in range(70):
                clients[0].session.heard()
                cluster.pass_time(1)
            clients[0].ask("send", room="lobby", text="x")
            return instructions(lambda: node.core.nodes.on_timer(0), "twisted_chat/core")

        self.assert_flat(cost(3), cost(30))

    def test_a_key_more_in_an_ephemeral_room(self) -> None:
        """The oldest of the remembered keys is forgotten without a look through those that were forgotten before it."""
        self.patch(ephemeral, "REMEMBERED_KEYS", 3)
        looks: list[None] = []

        class Keys(OrderedDict[Any, Any]):
            def __iter__(self) -> Any:
                looks.append(None)
                return super().__iter__()

        chat = ChatHarness(self, UNBOUND, rooms={"lobby": RoomPolicy(durable=False)})
        client = chat.json(ALICE, "lobby")
        log: Any = chat.core._ephemeral
        log._keys = Keys(log._keys)
        looks.clear()

        for number in range(9):
            client.ask("send", room="lobby", text="x", key=f"k{number}")

        self.assertEqual(looks, [])
        self.assertEqual([key for *_, key in log._keys], ["k6", "k7", "k8"])
