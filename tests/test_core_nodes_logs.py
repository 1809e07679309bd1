"""Several nodes and the rooms' logs: resuming on another node, rooms that come into memory late, retention, rates, ephemeral rooms."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, CAROL, UNBOUND, ChatHarness, Json, JsonClient, guest
from tests.harness.nodes import Cluster, Node
from twisted_chat.bus import EphemeralEvents
from twisted_chat.errors import CloseCode
from twisted_chat.events import Event, Message, NewMessage
from twisted_chat.limits import RoomPolicy


class LogsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = Cluster(self)
        self.network = self.cluster.network

    def say(self, client: JsonClient, *texts: str, room: str = "lobby") -> list[Json]:
        return [client.ask("send", room=room, text=text, key=f"k-{text}") for text in texts]

    def cursor(self, node: Node, room: str = "lobby") -> Json:
        log = node.core.rooms.find(ALICE, room).log
        return {"epoch": log.epoch, "seq": log.head, "id": log.head_id}

    def deaf(self, *nodes: Node) -> None:
        """These get no hint about what others have written."""
        for node in nodes:
            node.core._stop_news()


class ResumingTests(LogsCase):
    def test_a_cursor_ahead_of_this_node(self) -> None:
        """A client that comes from a faster node is no reset: it waits for what it has, and goes on behind it."""
        one, two = self.cluster.nodes(2)
        two.json(BOB, "lobby")
        self.deaf(two)
        alice = one.json(ALICE, "lobby")
        self.say(alice, "one", "two")
        since = self.cursor(one)

        self.assertEqual(self.cursor(two)["seq"], 0)

        moved = two.json(ALICE)
        answer = moved.ask("join", room="lobby", since=since)
        self.say(alice, "three")
        moved.ask("send", room="lobby", text="four")

        self.assertEqual((answer["recovered"], answer["from"], answer["head"]), (True, 3, 2))
        self.assertEqual(moved.texts(), ["three", "four"])

    def test_it_waits_until_the_event_is_announced(self) -> None:
        """Also where the log cannot be read for a while, and where this node commits something itself meanwhile."""
        one, two = self.cluster.nodes(2)
        bob = two.json(BOB, "lobby")
        self.deaf(two)
        self.say(one.json(ALICE, "lobby"), "one", "two")
        since = self.cursor(one)
        moved = two.json(ALICE)
        two.store.holding = True

        moved.say({"type": "join", "id": "j", "room": "lobby", "since": since})
        two.store.release()
        bob.say({"type": "send", "id": "s", "room": "lobby", "text": "three"})

        self.assertEqual(moved.take(), [])

        two.store.holding = False
        two.store.release_all()
        self.cluster.pass_time(1)

        answer, *came = moved.take()
        self.assertEqual((answer["type"], answer["recovered"], answer["from"]), ("ok", True, 3))
        self.assertEqual([one["text"] for one in came if one["type"] == "event"], ["three"])

    def test_a_cursor_that_no_log_has(self) -> None:
        """It is ahead of the store, or the store has another event there: the client is told so."""
        one, two = self.cluster.nodes(2)
        two.json(BOB, "lobby")
        self.deaf(two)
        self.say(one.json(ALICE, "lobby"), "one", "two")
        since = self.cursor(one)
        moved = two.json(ALICE)

        ahead = moved.ask("join", room="lobby", since={**since, "seq": 9})
        moved.ask("leave", room="lobby")
        fork = moved.ask("join", room="lobby", since={**since, "id": "another"})

        self.assertEqual((ahead["recovered"], ahead["why"]), (False, "ahead"))
        self.assertEqual((fork["recovered"], fork["why"]), (False, "fork"))

    def test_a_read_mark_beyond_the_head_of_this_node(self) -> None:
        """The client has read it on another node; the mark reaches its sessions on all of them, and ends at the head of the log."""
        one, two = self.cluster.nodes(2)
        alice, other = two.json(ALICE, "lobby"), one.json(ALICE, "lobby")
        self.deaf(two)
        self.say(one.json(BOB, "lobby"), "one", "two")

        self.assertEqual(alice.ask("read", room="lobby", seq=2)["seq"], 2)
        self.assertEqual([push["seq"] for push in other.take("read")], [2])
        self.assertEqual(alice.ask("read", room="lobby", seq=99)["seq"], 2)

    def test_typing(self) -> None:
        one, two = self.cluster.nodes(2)
        alice, bob = one.json(ALICE, "lobby"), two.json(BOB, "lobby")

        alice.ask("typing", room="lobby")

        self.assertEqual([push["by"]["name"] for push in bob.take("typing")], ["alice"])
        self.assertEqual(alice.take("typing"), [])


class OpeningTests(LogsCase):
    """A room comes into memory on a node after others have written to it."""

    def setUp(self) -> None:
        super().setUp()
        self.one, self.two = self.cluster.nodes(2)
        self.deaf(self.two)
        alice = self.one.json(ALICE, "lobby")
        self.say(alice, *map(str, range(1, 10)))
        alice.ask("topic", room="lobby", text="weather")

    def test_who_joins_gets_what_was_asked_for(self) -> None:
        """Nothing old comes as if it was said now; head and topic are those of the log."""
        bob = self.two.json(BOB)

        answer = bob.ask("join", room="lobby")

        self.assertEqual((answer["head"], answer["from"], answer["topic"]), (10, 11, "weather"))
        self.assertEqual(bob.texts(), [])

        tail = self.two.json(CAROL)
        tail.ask("join", room="lobby", tail=3)

        self.assertEqual(tail.texts(), ["8", "9"])

    def test_a_plain_client(self) -> None:
        self.two.store.holding = True
        carol, bob = self.two.plain(CAROL, history=3), self.two.plain(BOB)
        carol.say("hello")
        gone = self.two.plain(ALICE)
        gone.lose()
        self.two.store.holding = False
        self.two.store.release_all()
        self.two.turn()

        self.assertEqual(carol.take(), ["8", "9", "hello"])
        self.assertEqual(bob.take(), ["hello"])

    def test_resuming(self) -> None:
        [eighth] = self.successResultOf(self.cluster.store.read("lobby", 7, 1, 1))
        bob = self.two.json(BOB)

        answer = bob.ask("join", room="lobby", since={"epoch": self.one.core.epoch, "seq": 8, "id": eighth.id})

        self.assertEqual((answer["recovered"], answer["from"]), (True, 9))
        self.assertEqual(bob.texts(), ["9"])

    def test_something_is_sent_before_the_store_has_answered(self) -> None:
        """It comes behind what was there, with its number, and once."""
        self.two.store.holding = True
        bob = self.two.stranger(BOB)
        bob.say(
            {"type": "hello"},
            {"type": "join", "id": "j", "room": "lobby"},
            {"type": "send", "id": "s", "room": "lobby", "text": "x"},
        )
        while "append" in self.two.store.waiting:
            self.two.store.release(self.two.store.waiting.index("append"))
        self.two.store.holding = False
        self.two.store.release_all()
        self.cluster.pass_time(1)

        came = bob.take()
        self.assertEqual([one.get("seq") for one in came if one["type"] == "ok" and one["id"] == "s"], [11])
        self.assertEqual([one["text"] for one in came if one["type"] == "event" and one["seq"] > 10], ["x"])
        self.assertEqual(self.cursor(self.two)["seq"], 11)

    def test_a_store_that_cannot_be_asked(self) -> None:
        """Who joins is told so, and the next one asks again."""
        bob = self.two.json(BOB)
        self.two.store.deaf = True
        carol = self.two.plain(CAROL)

        self.assertEqual(bob.ask("join", room="lobby")["code"], "unavailable")
        self.assertEqual(carol.closed, CloseCode.STORE_UNAVAILABLE)

        self.two.store.deaf = False

        self.assertEqual(bob.ask("join", room="lobby")["head"], 10)

    def test_a_program_that_follows(self) -> None:
        """It gets what comes from now on."""
        got: list[str | None] = []

        def deliver(events: Any) -> None:
            got.extend(event.text for event in events)

        self.two.store.holding = True
        self.two.core.follow(BOB, "lobby", deliver)
        self.two.store.holding = False
        self.two.store.release_all()
        self.cluster.pass_time(1)
        self.two.core.post(BOB, "lobby", NewMessage(BOB.author, None, "new"))
        self.cluster.pass_time(1)

        self.assertEqual(got, ["new"])

    def test_the_list_of_rooms_by_hints(self) -> None:
        """A hint about a room that is not in memory moves its head in the list, and one about an unknown room makes it known."""
        three = self.cluster.node()
        self.say(self.one.json(ALICE, "lobby", "tea"), "a", room="tea")
        self.say(self.one.json(ALICE, "lobby"), "10")

        self.assertEqual({room.name: room.head for room in three.core.rooms.visible(BOB).rooms}, {"lobby": 11, "tea": 1})
        self.assertEqual(three.json(BOB).ask("join", room="tea")["head"], 1)

    def test_one_node_asks_nothing(self) -> None:
        alone = ChatHarness(self)
        self.patch(alone.store, "record", None)

        self.assertEqual(alone.json(ALICE).ask("join", room="tea")["type"], "ok")


class RatesTests(LogsCase):
    """A person has one rate, whatever nodes they use."""

    def sent(self, *clients: JsonClient) -> int:
        return sum(client.ask("send", room="lobby", text="x")["type"] == "ok" for client in clients)

    def test_of_a_person(self) -> None:
        """A burst on each node before they know of one another, at most; in the long run the rate of one."""
        self.cluster.limits = replace(UNBOUND, person_burst=10, person_per_second=2.0, refusals=10_000)
        nodes = self.cluster.nodes(3)
        clients = [node.json(ALICE, "lobby") for node in nodes]

        count = 0
        for _ in range(600):
            count += self.sent(*clients)
            self.cluster.clock.advance(0.1)

        self.assertLessEqual(count, 3 * 10 + 60 * 2.0 + 3)
        self.assertGreaterEqual(count, 60 * 2.0)

    def test_of_a_person_who_moves_at_random(self) -> None:
        """However the messages are spread over the nodes: in no ten seconds more than the bursts of all and the rate."""
        for seed in range(10):
            self.cluster = Cluster(self, replace(UNBOUND, person_burst=10, person_per_second=2.0, refusals=10_000), seed=seed)
            self.cluster.network.delay = 0.5
            dice, nodes = self.cluster.dice, self.cluster.nodes(3)
            clients = [node.json(ALICE, "lobby") for node in nodes]
            counts = []
            for _ in range(80):
                client = dice.choice(clients)
                counts.append(self.sent(*[client] * dice.choice([0, 1, 2, 5, 20])))
                self.cluster.pass_time(0.5)

            windows = [sum(counts[begin : begin + 20]) for begin in range(len(counts) - 20)]
            self.assertLessEqual(max(windows), 3 * 10 + 10 * 2)
            # What is owed of the beginning, and of what was sent before the others knew, is paid back meanwhile.
            self.assertLessEqual(sum(counts), 3 * 10 + 40 * 2.0 + 10)

    def test_it_is_known_within_two_seconds(self) -> None:
        self.cluster.limits = replace(UNBOUND, person_burst=10, person_per_second=0.01)
        one, two = self.cluster.nodes(2)
        first, second = one.json(ALICE, "lobby"), two.json(ALICE, "lobby")

        self.assertEqual(self.sent(*[first] * 10), 10)

        self.cluster.pass_time(2)

        self.assertEqual(self.sent(*[second] * 10), 0)
        self.assertEqual(self.sent(two.json(BOB, "lobby")), 1)

    def test_what_is_told_twice_counts_once(self) -> None:
        self.cluster.limits = replace(UNBOUND, person_burst=10, person_per_second=0.01)
        self.network.repeated = 1.0
        one, two = self.cluster.nodes(2)

        self.sent(*[one.json(ALICE, "lobby")] * 4)
        self.cluster.pass_time(3)

        self.assertEqual(self.sent(*[two.json(ALICE, "lobby")] * 10), 6)

    def test_guests_of_one_address(self) -> None:
        self.cluster.limits = replace(UNBOUND, person_burst=2, person_per_second=0.01, guests_per_address=2)
        one, two = self.cluster.nodes(2)

        sent = [self.sent(*[one.json(guest(f"a{number}"), "lobby")] * 2) for number in range(2)]
        self.cluster.pass_time(2)

        self.assertEqual(sent, [2, 2])
        self.assertEqual(self.sent(two.json(guest("b"), "lobby")), 0)

    def test_new_rooms(self) -> None:
        """Making them is rated over all nodes, and a room that was given back is given back on all."""
        self.cluster.limits = replace(UNBOUND, rooms_made_burst=2, rooms_made_per_second=0.0001)
        one, two = self.cluster.nodes(2)
        alice, other = one.json(ALICE, "a", "b"), two.json(ALICE)
        self.cluster.pass_time(1)

        self.assertEqual(other.ask("join", room="c")["code"], "rate_limited")

        alice.lose()
        self.cluster.pass_time(62)

        self.assertEqual(two.json(ALICE).ask("join", room="c")["type"], "ok")

    def test_slow_mode(self) -> None:
        """A message counts on every node, also where the room was not in memory then; old messages hold up nobody."""
        self.cluster.rooms = {"lobby": RoomPolicy(slow_mode=30)}
        one, two, three = self.cluster.nodes(3)
        first, second = one.json(ALICE, "lobby"), two.json(ALICE, "lobby")

        self.assertEqual([self.sent(first), self.sent(second)], [1, 0])

        third = three.json(ALICE, "lobby")

        self.assertEqual(self.sent(third), 0)

        self.cluster.pass_time(20)

        self.assertEqual(self.sent(third), 0)

        self.cluster.pass_time(10)
        four = self.cluster.node()

        self.assertEqual(self.sent(four.json(ALICE, "lobby")), 1)


class RetentionTests(LogsCase):
    def setUp(self) -> None:
        super().setUp()
        self.cluster.rooms = {"few": RoomPolicy(keep_events=2)}

    def test_the_others_learn_the_first_number(self) -> None:
        """Whether they have the room in memory or not; a room that grew on another node is counted, too."""
        one, two, three = self.cluster.nodes(3)
        alice = two.json(ALICE, "few")
        self.say(alice, *"abcde", room="few")

        self.assertIsNone(one.core.rooms.in_memory("few"))

        self.successResultOf(one.core.retention.apply())
        self.say(alice, "f", room="few")
        self.successResultOf(one.core.retention.apply())
        self.cluster.pass_time(1)

        self.assertEqual([node.core.rooms.kept("few") for node in (one, two, three)], [2, 2, 2])
        self.assertEqual(alice.ask("join", room="few")["first"], 5)
        self.assertEqual(three.json(BOB).ask("join", room="few")["first"], 5)

    def test_one_node_at_a_time(self) -> None:
        """Who does not get the lease does nothing now, and knows what has grown when it gets it."""
        one, _ = self.cluster.nodes(2)
        self.say(one.json(ALICE, "few"), *"abcde", room="few")
        leased: list[tuple[str, float]] = []

        def lease(name: str, seconds: float) -> Deferred[bool]:
            leased.append((name, seconds))
            answer: Deferred[bool] = Deferred()
            answer.callback(len(leased) > 1)
            return answer

        self.patch(one.store, "lease", lease)
        self.successResultOf(one.core.retention.apply())

        self.assertEqual(one.core.rooms.kept("few"), 5)

        self.successResultOf(one.core.retention.apply())

        self.assertEqual(one.core.rooms.kept("few"), 2)
        self.assertEqual(leased, [("retention", 600.0)] * 2)

    def test_removed_before_it_was_announced(self) -> None:
        """A node that has not announced them yet goes on behind them."""
        one, two = self.cluster.nodes(2)
        bob = two.json(BOB, "few")
        self.deaf(two)
        alice = one.json(ALICE, "few")
        self.say(alice, *"abcde", room="few")

        self.successResultOf(one.core.retention.apply())

        self.assertEqual(bob.ask("join", room="few")["first"], 1)

        bob.ask("send", room="few", text="f")
        self.cluster.pass_time(1)

        self.assertEqual(bob.texts(), ["d", "e", "f"])
        self.assertEqual(bob.ask("join", room="few")["first"], 4)


class EphemeralTests(LogsCase):
    def setUp(self) -> None:
        super().setUp()
        self.cluster.rooms = {"loud": RoomPolicy(durable=False)}

    def test_heard_on_every_node(self) -> None:
        """With the numbers of each node; the topic is told, too, and a reply to a number of another node is an ordinary message."""
        one, two = self.cluster.nodes(2)
        alice, bob = one.json(ALICE, "loud"), two.json(BOB, "loud")

        bob.ask("send", room="loud", text="here")
        bob.take()
        alice.ask("send", room="loud", text="one", reply_to=1)
        alice.ask("topic", room="loud", text="weather")
        came = [event for event in bob.take() if event["type"] == "event"]

        self.assertEqual(
            [(event["seq"], event.get("text"), event.get("reply_to")) for event in came], [(2, "one", None), (3, "weather", None)]
        )
        self.assertEqual(two.core.rooms.find(BOB, "loud").topic, "weather")
        self.assertEqual([each["seq"] for each in alice.take("event")], [1, 2, 3])

    def test_the_order_of_each_sender(self) -> None:
        """Messages take any time, and some of them come twice; each sender's come in order and once."""
        nodes = self.cluster.nodes(3)
        self.network.delay, self.network.repeated = 0.4, 0.3
        clients = [node.json(user, "loud") for node, user in zip(nodes, (ALICE, BOB, CAROL), strict=True)]
        for number in range(50):
            for client in clients:
                client.say({"type": "send", "room": "loud", "text": f"{client.session.user.name} {number}"})
            self.cluster.clock.advance(0.03)
        self.cluster.pass_time(2)

        for client in clients:
            events = client.take("event")
            self.assertEqual([event["seq"] for event in events], [*range(1, 151)])
            for name in ("alice", "bob", "carol"):
                texts = [event["text"] for event in events if event["by"]["name"] == name]
                self.assertEqual(texts, [f"{name} {number}" for number in range(50)])

    def test_a_retry_on_another_node(self) -> None:
        """The key is known there, and nothing is said twice."""
        one, two = self.cluster.nodes(2)
        bob = two.json(BOB, "loud")
        self.say(one.json(ALICE, "loud"), "x", room="loud")

        [again] = self.say(two.json(ALICE, "loud"), "x", room="loud")

        self.assertTrue(again["duplicate"])
        self.assertEqual(bob.texts(), ["x"])

    def test_a_cursor_of_another_node(self) -> None:
        """Numbers are those of one node, so it cannot be resumed, and the client is told so."""
        one, two = self.cluster.nodes(2)
        self.say(one.json(ALICE, "loud"), "x", room="loud")

        answer = two.json(ALICE).ask("join", room="loud", since=self.cursor(one, "loud"))

        self.assertEqual((answer["recovered"], answer["why"]), (False, "epoch"))

    def test_what_is_not_for_it(self) -> None:
        """Of rooms that are not in memory, or that keep their events, nothing is taken from the bus."""
        one, two = self.cluster.nodes(2)
        lobby = two.json(BOB, "lobby")
        event: list[Any] = [*map(_message, range(2))]
        for number, room in enumerate(("lobby", "other"), 1):
            self.network.buses[two.node].take(EphemeralEvents(one.node, number, room, event))
        two.turn()

        self.assertEqual(lobby.texts(), [])
        self.assertIsNone(two.core.rooms.in_memory("other"))

    def test_slow_mode(self) -> None:
        self.cluster.rooms = {"loud": RoomPolicy(durable=False, slow_mode=30)}
        one, two = self.cluster.nodes(2)
        other = two.json(ALICE, "loud")

        self.say(one.json(ALICE, "loud"), "x", room="loud")

        self.assertEqual(other.ask("send", room="loud", text="y")["code"], "slow_mode")


def _message(number: int) -> Event:
    return Message(number + 1, f"i{number}", 0, ALICE.author, None, "x")
