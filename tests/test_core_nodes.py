"""Several nodes: who is in a room, who has a name, and which session of a device is the newest, on whatever node."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, CAROL, ChatHarness, Client, JsonClient, guest
from tests.harness.nodes import Cluster, Node
from twisted_chat.bus import CONNECTED, NodeAlive, NodeGone, NodeState, Presence, PresenceChanged, StateWanted
from twisted_chat.core import nodes
from twisted_chat.core.presence import GRACE_SECONDS
from twisted_chat.errors import CloseCode, Conflict, LimitReached
from twisted_chat.limits import RoomPolicy
from twisted_chat.users import User


class NodesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = Cluster(self)
        self.network = self.cluster.network

    def here(self, client: JsonClient, room: str = "lobby") -> dict[str, int]:
        """Who is in the room with how many connections, as the client is told when it asks."""
        return {one["id"]: one["connections"] for one in client.ask("presence", room=room)["people"]}

    def watcher(self, node: Node, user: User = CAROL) -> JsonClient:
        client = node.json(user)
        client.ask("join", room="lobby", presence=True)
        client.take()
        return client

    def changes(self, client: JsonClient) -> list[tuple[str, int]]:
        """What the client was told of presence: who has how many connections now, 0 for who left."""
        found = []
        for push in client.take("presence"):
            found += [(one["id"], one["connections"]) for one in push.get("came", [])]
            found += [(one, 0) for one in push.get("left", [])]
        return found


class PresenceTests(NodesCase):
    def test_over_all_nodes(self) -> None:
        """Connections of one person on several nodes are added up; who leaves is gone after the time of grace everywhere."""
        one, two = self.cluster.nodes(2)
        carol = self.watcher(two)
        first, second = one.json(ALICE, "lobby"), two.json(ALICE, "lobby")

        self.assertEqual(self.here(carol), {"u3": 1, "u1": 2})

        first.lose()

        self.assertEqual(self.here(carol), {"u3": 1, "u1": 1})

        second.lose()
        self.cluster.pass_time(GRACE_SECONDS - 1)

        self.assertIn("u1", self.here(carol))

        self.cluster.pass_time(1)

        self.assertEqual(self.here(carol), {"u3": 1})

    def test_a_room_that_comes_into_memory_later(self) -> None:
        """The first one who joins a room on a node sees who is in it on the others."""
        one, two = self.cluster.nodes(2)
        one.json(ALICE, "tea")

        self.assertIsNone(two.core.rooms.in_memory("tea"))
        self.assertEqual(self.here(two.json(BOB, "tea"), "tea"), {"u1": 1, "u2": 1})

    def test_a_node_that_ends(self) -> None:
        """Its clients are asked to come back within a second, because other nodes are there; the last one's wait until it is back."""
        one, two = self.cluster.nodes(2)
        clients = [one.json(guest(f"p{number}", number), "lobby") for number in range(50)]
        self.cluster.pass_time(1)

        one.core.drain.begin()
        one.turn()
        delays = [bye["retry_after_ms"] for client in clients for bye in client.take("bye")]

        self.assertEqual(len(delays), 50)
        self.assertLess(max(delays), 1_000)
        self.assertGreater(max(delays) - min(delays), 500)

        one.kill()
        last = [two.json(guest(f"q{number}", number), "lobby") for number in range(50)]
        self.cluster.pass_time(11)
        two.core.drain.begin()
        two.turn()

        self.assertGreater(max(bye["retry_after_ms"] for client in last for bye in client.take("bye")), 5_000)

    def test_a_node_that_comes_later(self) -> None:
        one, _ = self.cluster.nodes(2)
        one.json(ALICE, "lobby")
        three = self.cluster.node()
        carol = self.watcher(three)

        self.cluster.pass_time(1)

        self.assertEqual(self.here(carol), {"u1": 1, "u3": 1})

    def test_who_moves_does_not_flap(self) -> None:
        """A client that loses its node and is on another one some seconds later never left."""
        one, two, three = self.cluster.nodes(3)
        alice = one.json(ALICE, "lobby")
        carol = self.watcher(three)

        alice.lose()
        self.cluster.pass_time(8)
        two.json(ALICE, "lobby")
        self.cluster.pass_time(GRACE_SECONDS + 1)

        self.assertEqual(self.changes(carol), [])

    def test_who_was_on_a_node_that_died(self) -> None:
        """They are gone within 15 s, but for those who have come back on another node."""
        one, two = self.cluster.nodes(2)
        one.json(ALICE, "lobby")
        one.json(BOB, "lobby")
        carol = self.watcher(two)

        one.kill()
        self.cluster.pass_time(5)
        two.json(BOB, "lobby")
        self.changes(carol)
        self.cluster.pass_time(10)

        self.assertEqual(self.here(carol), {"u2": 1, "u3": 1})
        self.assertNotIn(("u2", 0), self.changes(carol))
        self.assertEqual(two.core.nodes.count, 1)

    def test_many_who_were_on_a_node_that_died(self) -> None:
        """They leave some in each turn; who has come back by then stays."""
        self.patch(nodes, "STATE_ENTRIES", 4)
        one, two = self.cluster.nodes(2)
        people = [one.json(guest(f"p{number}", number), "lobby") for number in range(9)]
        presence = two.core.rooms.find(CAROL, "lobby").presence
        two.one_turn = True

        self.network.buses[two.node].take(NodeGone(one.node))
        left = [presence.elsewhere]
        while left[-1]:
            two.turn()
            left.append(presence.elsewhere)

        self.assertEqual(sorted(left, reverse=True), left)
        self.assertGreater(len(set(left)), 2)

        self.cluster.pass_time(2)
        self.network.buses[two.node].take(NodeGone(one.node))
        people[0].lose()
        self.cluster.pass_time(4)

        self.assertEqual(presence.elsewhere, 8)

    def test_a_node_that_only_seemed_dead(self) -> None:
        """It was stopped or cut off for a while: when it is heard again, its people are back."""
        one, two = self.cluster.nodes(2)
        one.json(ALICE, "lobby")
        carol = self.watcher(two)

        self.network.cut_off(one.node)
        self.cluster.pass_time(15)

        self.assertEqual(self.here(carol), {"u3": 1})

        self.network.heal()
        self.cluster.pass_time(2)

        self.assertEqual(self.here(carol), {"u1": 1, "u3": 1})

    def test_what_was_lost_is_told_again(self) -> None:
        """A change that did not arrive is noticed within about a second, be it one that others follow or the last one."""
        one, two = self.cluster.nodes(2)
        carol = self.watcher(two)
        bob = one.json(BOB, "lobby")
        self.network.lost = 1.0
        one.json(ALICE, "lobby")
        bob.ask("leave", room="lobby")
        self.network.heal()

        self.cluster.pass_time(1.5)

        self.assertEqual(self.here(carol), {"u1": 1, "u3": 1, "u2": 1}, "with bob in his time of grace")

        self.network.lost = 1.0
        bob.ask("join", room="lobby")
        self.network.heal()
        bob.ask("join", room="tea")

        self.cluster.pass_time(1.5)

        self.assertEqual(two.core.rooms.find(CAROL, "lobby").presence.elsewhere, 2)

    def test_a_large_state_is_told_in_parts(self) -> None:
        """Each part in a turn of its own; what changes meanwhile is right in the end, and so it is when a part is lost."""
        self.patch(nodes, "STATE_ENTRIES", 4)
        one = self.cluster.node()
        people = [one.json(guest(f"p{number}", number), "lobby") for number in range(9)]
        two = self.cluster.node()
        carol = self.watcher(two)
        self.cluster.clock.advance(0.5)
        one.one_turn = True

        people[0].lose()
        one.json(ALICE, "lobby")
        self.cluster.pass_time(3)

        told = [(part.part, part.parts) for part in self.network.sent if isinstance(part, NodeState)]
        self.assertEqual(told[:5], [(part, 5) for part in range(1, 6)])
        self.assertEqual(two.core.rooms.find(CAROL, "lobby").presence.elsewhere, 9)
        self.assertEqual(len(self.here(carol)), 10)

    def test_many_who_ask_are_told_once(self) -> None:
        """Who needs the state of a node gets it from the answer to another one, too."""
        one = self.cluster.node()
        one.json(ALICE, "lobby")
        others = [self.cluster.node() for _ in range(4)]
        self.network.sent.clear()

        self.cluster.pass_time(1)

        self.assertEqual(
            len([state for state in self.network.sent if isinstance(state, NodeState) and state.node == one.node]), 1
        )
        self.assertEqual([other.core.nodes.members_elsewhere("lobby") for other in others], [1] * 4)

    def test_a_state_that_does_not_come_is_asked_for_again(self) -> None:
        one = self.cluster.node()
        one.json(ALICE, "lobby")
        two = self.cluster.node()
        self.network.sent.clear()
        self.patch(one.core.nodes, "_tell_state", lambda: None)

        self.cluster.pass_time(6)

        asked = [message for message in self.network.sent if message == StateWanted(one.node)]
        self.assertEqual(len(asked), 6, "every second")
        self.assertEqual(two.core.nodes.count, 2)

    def test_something_late_of_a_node_that_is_gone(self) -> None:
        """It is asked for a minute, and then it is forgotten again."""
        [one] = self.cluster.nodes(1)
        self.network.buses[one.node].take(PresenceChanged("gone", 7, Presence("lobby", ALICE.author, 1)))
        carol = self.watcher(one)

        for _ in range(50):
            carol.session.heard()
            self.cluster.pass_time(1)

        self.assertEqual((one.core.nodes.count, self.here(carol)), (2, {"u1": 1, "u3": 1}))

        self.cluster.pass_time(15)

        self.assertEqual((one.core.nodes.count, self.here(carol)), (1, {"u3": 1}))
        self.assertNotIn(StateWanted("gone"), self.network.sent[-3:])

    def test_the_size_of_a_room(self) -> None:
        """It bounds the connections of all nodes, and lists count them."""
        self.cluster.rooms = {"small": RoomPolicy(size=2)}
        one, two = self.cluster.nodes(2)
        one.json(ALICE, "small", "tea").ask("send", room="tea", text="hello")
        two.json(BOB, "small")
        carol = two.json(CAROL)

        self.assertEqual(carol.ask("join", room="small")["code"], LimitReached.code)
        members = {room.name: room.members for room in two.core.rooms.visible(CAROL).rooms}
        self.assertEqual((members["small"], members["tea"]), (2, 1))

    def test_one_node_says_no_more_than_it_has_to(self) -> None:
        """Without others there are no heartbeats, nothing is counted for them, and a message that is sent costs nothing here."""
        chat = self.cluster.node()
        said = [type(message) for message in self.network.sent]
        self.assertEqual(said, [NodeAlive])

        alone = ChatHarness(self)
        alice = alone.json(ALICE, "lobby")
        told: list[object] = []
        alone.core.notices._bus.subscribe(told.append)
        alice.ask("send", room="lobby", text="hello")
        alone.pass_time(5)

        self.assertEqual(told, [])
        self.assertEqual((alone.core.rates.users.spent, len(alone.core.rates.buckets(ALICE, None))), (None, 1))
        self.assertEqual(len(chat.core.rates.buckets(ALICE, None)), 2)


class NamesTests(NodesCase):
    def test_look_alikes_on_another_node(self) -> None:
        """A guest cannot have a name that looks like that of somebody who is connected elsewhere, in a room or not."""
        one, two = self.cluster.nodes(2)
        bella = one.json(guest("bella"))

        self.assertRaises(Conflict, two.core.check_may_enter, guest("be11a", 2), None)
        two.core.check_may_enter(guest("bella", 2), None)

        bella.lose()

        two.core.check_may_enter(guest("be11a", 2), None)

    def test_a_user_on_several_nodes(self) -> None:
        """The name is free when the user has left all of them, or one of them has died."""
        one, two, three = self.cluster.nodes(3)
        first = one.json(guest("bella"))
        two.json(guest("bella"))

        first.lose()

        self.assertRaises(Conflict, three.core.check_may_enter, guest("be11a", 2), None)

        two.kill()
        self.cluster.pass_time(11)

        three.core.check_may_enter(guest("be11a", 2), None)

    def test_a_name_that_changes(self) -> None:
        one, two = self.cluster.nodes(2)
        sessions = two.core.sessions
        sessions.learn_name("x", "g1", "bella")
        sessions.learn_name("y", "g1", "anna")

        sessions.learn_name("x", "g1", "clara")

        two.core.check_may_enter(guest("be11a", 2), None)
        self.assertRaises(Conflict, sessions.check_name, guest("c1ara", 2))

        for node in "xy":
            sessions.learn_name(node, "g1", None)

        self.assertEqual((sessions._names_elsewhere, sessions._elsewhere), ({}, {}))
        self.assertEqual(one.core.nodes.count, 2)


class DeviceTests(NodesCase):
    def device(self, node: Node) -> JsonClient:
        return node.json(ALICE, "lobby", device="device-of-alice")

    def ended(self, *clients: Client) -> list[bool]:
        return [client.closed == CloseCode.REPLACED for client in clients]

    def test_a_newer_one_elsewhere(self) -> None:
        """The old connection of a device ends when it connects to another node; other devices and users stay."""
        one, two = self.cluster.nodes(2)
        old = self.device(one)
        others = [one.json(ALICE, device="another-one"), one.json(BOB, device="device-of-alice"), one.json(ALICE)]

        new = self.device(two)

        self.assertEqual(self.ended(old, new, *others), [True, False, False, False, False])

    def test_clocks_that_differ(self) -> None:
        """The newer one stays also where the clock of its node is behind."""
        one, two = self.cluster.node(clock_ahead=60), self.cluster.node()
        self.cluster.pass_time(1)
        old = self.device(one)
        three = self.cluster.node(clock_ahead=-60)
        self.cluster.pass_time(1)

        new = self.device(three)

        self.assertEqual(self.ended(old, new), [True, False])

        newest = self.device(two)

        self.assertEqual(self.ended(new, newest), [True, False])

    def test_a_client_that_had_gone_on(self) -> None:
        """A node that was stopped reads the hello of a client that is on another node by now: the connection there stays."""
        one, two = self.cluster.nodes(2)
        now = self.device(two)
        gone = one.stranger(ALICE)
        one.one_turn = True

        gone.say({"type": "hello", "device": "device-of-alice"})
        gone.lose()
        self.cluster.pass_time(3)

        self.assertEqual(self.ended(now), [False])

    def test_both_at_once(self) -> None:
        """When neither node knows of the other session, exactly one of them ends."""
        for seed in range(20):
            self.cluster = Cluster(self, seed=seed)
            one, two = self.cluster.nodes(2)
            self.cluster.network.delay = 0.5
            clients = [self.device(one), self.device(two)]
            self.cluster.pass_time(3)

            self.assertEqual(sorted(self.ended(*clients)), [False, True])

    def test_the_message_was_lost(self) -> None:
        """Then the state of the node tells of it, and the older session ends a little later."""
        one, two = self.cluster.nodes(2)
        old = self.device(one)
        self.network.lost = 1.0
        new = self.device(two)

        self.assertEqual(self.ended(old, new), [False, False])

        self.network.heal()
        self.cluster.pass_time(2)

        self.assertEqual(self.ended(old, new), [True, False])

    def test_cut_off_from_one_another(self) -> None:
        """Both have a session while their nodes are cut off; afterwards one of them."""
        one, two = self.cluster.nodes(2)
        self.network.cut_off(one.node)
        clients = [self.device(one), self.device(two)]
        self.cluster.pass_time(20)

        self.assertEqual(self.ended(*clients), [False, False])

        self.network.heal()
        self.cluster.pass_time(3)

        self.assertEqual(sorted(self.ended(*clients)), [False, True])


class StateOfANodeTests(NodesCase):
    def test_what_is_told_of_a_session(self) -> None:
        """Each step has the next version, with absolute numbers; the place without a name stands for the server itself."""
        one = self.cluster.node()
        self.network.sent.clear()
        alice = one.json(ALICE, "lobby")
        alice.lose()

        told = [(message.version, message.presence) for message in self.network.sent if isinstance(message, PresenceChanged)]

        places = [(CONNECTED, 1), (CONNECTED, 0), (CONNECTED, 1), ("lobby", 1), ("lobby", 0), (CONNECTED, 0)]
        self.assertEqual(
            told, [(version, Presence(room, ALICE.author, count)) for version, (room, count) in enumerate(places, 1)]
        )

    def test_what_comes_twice_or_late_changes_nothing(self) -> None:
        one, two = self.cluster.nodes(2)
        self.network.repeated = 1.0
        alice = one.json(ALICE, "lobby")
        carol = self.watcher(two)

        self.assertEqual(self.here(carol), {"u1": 1, "u3": 1})

        alice.lose()
        self.cluster.pass_time(GRACE_SECONDS)
        for message in self.network.sent[:]:
            if isinstance(message, PresenceChanged) and message.node == one.node:
                self.network.buses[two.node].take(message)

        self.assertEqual(self.here(carol), {"u3": 1})
