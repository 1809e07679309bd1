"""Random walks of several nodes, against an obvious model: who has which connection open, and what each log has.

People connect anywhere, move with and without closing the old connection, join, leave, send and send again; messages between nodes are
late, lost and doubled, hints of the store are lost; nodes are killed, cut off and added.  When all of that has ended: each node shows the
same people, of each device one session is left, and each reader has had every event of each room once and in order, wherever it was.
"""

from __future__ import annotations

import random
from collections import Counter

from msgspec.structs import replace
from pytest import mark
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, UNBOUND, Json, JsonClient
from tests.harness.nodes import Cluster, Node
from twisted_chat.errors import CloseCode
from twisted_chat.users import User

ROOMS = "ab"
#: Walks of each kind.
SEEDS = 15
#: Seconds without a connection up to which nobody may be told to have left: the time of grace, less what messages take.
NEVER_LEFT = 15.0
#: Seconds after which a change is known on all nodes, also where messages are lost now and then.
KNOWN = 8.0


class Person:
    """Somebody with one device, who goes from node to node, and remembers for each room what came.

    :ivar client: the newest connection; older ones may be open still.
    :ivar sent: texts by room that were not acknowledged yet.
    """

    def __init__(self, walk: Walk, number: int) -> None:
        self.walk = walk
        self.user = User(id=f"u{number}", name=f"p{number}")
        self.node: Node | None = None
        self.client: JsonClient | None = None
        self.cursors: dict[str, Json] = {}
        self.unanswered: dict[str, tuple[str, str]] = {}
        self.acknowledged: list[str] = []

    def connect(self, node: Node) -> None:
        self.node, self.client = node, node.json(self.user, device="device-1")
        self.walk.open[self.client] = (node, self, set())
        for number, (room, text) in self.unanswered.items():
            self.join(room)
            self.client.say({"type": "send", "id": number, "room": room, "text": text, "key": text})

    def join(self, room: str) -> None:
        assert self.client is not None and self.node is not None
        rooms = self.walk.open[self.client][2]
        if room not in rooms:
            rooms.add(room)
            self.walk.entered_at[room, self.user.id] = self.walk.cluster.clock.seconds()
            since = self.cursors.setdefault(room, {"epoch": self.node.core.epoch, "seq": 0})
            self.client.say({"type": "join", "id": f"join {room}", "room": room, "since": since, "presence": True})

    def leave(self, room: str) -> None:
        assert self.client is not None
        self.walk.read(self.client)
        rooms = self.walk.open[self.client][2]
        if room in rooms:
            rooms.discard(room)
            self.walk.left_at[room, self.user.id] = self.walk.cluster.clock.seconds()
            self.client.say({"type": "leave", "room": room})

    def send(self, room: str) -> None:
        assert self.client is not None
        self.join(room)
        self.walk.count += 1
        number, text = f"s{self.walk.count}", f"text {self.walk.count}"
        self.unanswered[number] = room, text
        self.client.say({"type": "send", "id": number, "room": room, "text": text, "key": text})

    def take(self, message: Json) -> None:
        """What came on the newest connection."""
        case = self.walk.case
        if message["type"] == "event":
            cursor = self.cursors[message["room"]]
            case.assertEqual(message["seq"], cursor["seq"] + 1, f"{self.user.name} in {message['room']}")
            self.cursors[message["room"]] = {**cursor, "seq": message["seq"], "id": message["id"]}
        elif message["type"] == "ok" and str(message["id"]).startswith("join"):
            case.assertTrue(message["recovered"], message)
        elif message["type"] == "ok":
            self.acknowledged.append(self.unanswered.pop(message["id"])[1])
        elif message["type"] in ("error", "gap"):
            case.fail(f"{self.user.name}: {message}")


class Walk:
    """One random walk.

    :ivar open: the connections that are open, with node, person and the rooms that they have joined.
    :ivar left_at: when somebody last left a room, by room and user; ``entered_at`` likewise.
    """

    def __init__(self, case: SynchronousTestCase, seed: int, *, calm: bool) -> None:
        self.case = case
        self.calm = calm
        self.dice = random.Random(seed)
        self.cluster = Cluster(case, replace(UNBOUND, ping_seconds=1e5), seed=seed)
        self.nodes = self.cluster.nodes(3)
        for node in self.nodes:
            self.lose_hints(node)
        network = self.cluster.network
        network.delay, network.lost, network.repeated = 0.5, self.dice.choice([0, 0.05, 0.3]), self.dice.choice([0, 0.2])
        self.lossless = calm and not network.lost
        self.people = [Person(self, number) for number in range(5)]
        self.open: dict[JsonClient, tuple[Node, Person, set[str]]] = {}
        self.left_at: dict[tuple[str, str], float] = {}
        self.entered_at: dict[tuple[str, str], float] = {}
        self.count = 0

    def lose_hints(self, node: Node) -> None:
        store = node.store
        store.hints = self.dice.choice([0.0, 0.5, 1.0])  # type: ignore[attr-defined]

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
            self.cluster.pass_time(self.dice.choice([0, 0, 0, 0.1, 0.5, 2.0]))
            self.read_all()
        self.cluster.network.heal()
        for node in self.nodes:
            node.store.hints = 1.0  # type: ignore[attr-defined]
        # What is still to be noticed, then the time of grace.
        for seconds in (5, 25):
            self.cluster.pass_time(seconds)
            self.read_all()
        self.check()

    def step(self) -> None:
        dice, person = self.dice, self.dice.choice(self.people)
        action = dice.random()
        if person.client is None or action < 0.15:
            if person.client is not None and dice.random() < 0.7:
                self.lose(person.client)
            person.connect(dice.choice(self.nodes))
        elif action < 0.3:
            self.lose(person.client)
        elif action < 0.5:
            person.join(dice.choice(ROOMS))
        elif action < 0.6:
            person.leave(dice.choice(ROOMS))
        elif action < 0.9 or self.calm:
            person.send(dice.choice(ROOMS))
        elif action < 0.93:
            self.kill(dice.choice(self.nodes))
        elif action < 0.96:
            self.cluster.network.cut_off(dice.choice(self.nodes).node)
        else:
            self.cluster.network.heal()

    def kill(self, node: Node) -> None:
        self.nodes.remove(node)
        node.kill()
        for client, (where, person, _) in [*self.open.items()]:
            if where is node:
                self.read(client)
                del self.open[client]
                if person.client is client:
                    person.client = None
        self.nodes.append(self.cluster.node())
        self.lose_hints(self.nodes[-1])

    def lose(self, client: JsonClient) -> None:
        self.read(client)
        _, person, rooms = self.open.pop(client)
        for room in rooms:
            self.left_at[room, person.user.id] = self.cluster.clock.seconds()
        if person.client is client:
            person.client = None
        client.lose()

    def read_all(self) -> None:
        for client in [*self.open]:
            if client in self.open:
                self.read(client)
                if client.closed is not None:
                    self.case.assertEqual(client.closed, CloseCode.REPLACED)
                    self.lose(client)

    def read(self, client: JsonClient) -> None:
        _, person, _ = self.open[client]
        for message in client.take():
            if message["type"] == "presence" and self.calm:
                self.check_left(message)
            elif person.client is client:
                person.take(message)

    def check_left(self, push: Json) -> None:
        """Nobody who had a connection a moment ago has left; of a short visit the messages may all have been lost."""
        now, room = self.cluster.clock.seconds(), push["room"]
        for user in push.get("left", []):
            inside = any(room in rooms for _, person, rooms in self.open.values() if person.user.id == user)
            if inside:
                self.case.assertLess(now - self.entered_at[room, user], KNOWN, f"{user} is in {room}")
            if self.lossless:
                away = 0.0 if inside else now - self.left_at[room, user]
                self.case.assertGreater(away, NEVER_LEFT, f"{user} was said to have left {room}")

    def check(self) -> None:
        case = self.case
        sessions = Counter(person.user.id for _, person, _ in self.open.values())
        case.assertEqual([user for user, count in sessions.items() if count > 1], [], "devices with two sessions")
        for room in ROOMS:
            here = {person.user.id: 1 for _, person, rooms in self.open.values() if room in rooms}
            for node in self.nodes:
                listed = node.core.rooms.find(ALICE, room).presence.snapshot().people
                assert isinstance(listed, tuple)
                case.assertEqual({one.id: one.connections for one in listed}, here, f"{room} on {node.node}")
        case.assertEqual({node.core.nodes.count for node in self.nodes}, {len(self.nodes)})
        self.check_logs()

    def check_logs(self) -> None:
        case, node = self.case, self.nodes[0]
        said: list[str] = []
        for room in ROOMS:
            events = node.log(room)
            said += [event.text for event in events]  # type: ignore[union-attr,misc]
            case.assertEqual([event.seq for event in events], [*range(1, len(events) + 1)])
            for client, (_, person, rooms) in self.open.items():
                # An old connection stays where the node of the newer one died before anybody heard of it.
                if room in rooms and person.client is client:
                    case.assertEqual(person.cursors[room]["seq"], len(events), f"{person.user.name} in {room}")
        case.assertEqual(len(said), len(set(said)), "said twice")
        for person in self.people:
            case.assertEqual(set(person.acknowledged) - set(said), set())
            if person.client is not None:
                case.assertEqual(person.unanswered, {})


@mark.slow
class WalkTests(SynchronousTestCase):
    def test_calm(self) -> None:
        """All nodes live, so nobody is said to have left who was only on the way."""
        for seed in range(SEEDS):
            with self.subTest(seed=seed):
                Walk(self, seed, calm=True).run(100)

    def test_stormy(self) -> None:
        """Nodes are killed, cut off and added."""
        for seed in range(SEEDS):
            with self.subTest(seed=seed):
                Walk(self, seed, calm=False).run(100)
