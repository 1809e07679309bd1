"""What one node knows of another: whatever is lost or comes twice, in the end it is what the other one has."""

from __future__ import annotations

import random
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.bus import NodeState, Presence
from twisted_chat.core.node_state import KnownNode
from twisted_chat.events import Author

ANN, BEA = Author("u1", "ann"), Author("u2", "bea")

Places = dict[tuple[str, str], tuple[str, int]]


def places(known: KnownNode) -> Places:
    return {(room, entry.author.id): (entry.author.name, entry.connections) for room, entry in known.presences()}


def change(known: KnownNode, version: int, presence: Presence) -> bool:
    new = known.take_number(version)
    if new:
        known.take_change(version, presence)
    return new


class KnownNodeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.known = KnownNode()

    def test_changes_in_order(self) -> None:
        change(self.known, 1, Presence("lobby", ANN, 1))
        change(self.known, 2, Presence("lobby", ANN, 2))
        change(self.known, 3, Presence("lobby", BEA, 1))
        change(self.known, 4, Presence("lobby", BEA, 0))

        self.assertEqual(places(self.known), {("lobby", "u1"): ("ann", 2)})
        self.assertFalse(self.known.has_gap)

    def test_a_change_that_comes_again(self) -> None:
        change(self.known, 1, Presence("lobby", ANN, 1))
        change(self.known, 2, Presence("lobby", ANN, 0))

        self.assertFalse(change(self.known, 1, Presence("lobby", ANN, 1)))
        self.assertEqual((self.known.rooms, self.known.has_gap), ({}, False))

    def test_a_gap_is_filled_by_the_full_state(self) -> None:
        """What it has not got is no more, but for what a newer change has told."""
        change(self.known, 1, Presence("lobby", ANN, 1))
        change(self.known, 3, Presence("lobby", BEA, 1))

        self.assertTrue(self.known.has_gap)

        changed = self.known.take_state(NodeState("n", 2, 1, 1))

        self.assertEqual(changed, [Presence("lobby", ANN, 0)])
        self.assertEqual(places(self.known), {("lobby", "u2"): ("bea", 1)})
        self.assertFalse(self.known.has_gap)

    def test_the_last_change_is_missing(self) -> None:
        """Its version is known from the heartbeat; an older state does not fill the gap."""
        change(self.known, 1, Presence("lobby", ANN, 1))
        self.known.take_newest(3)
        self.known.take_state(NodeState("n", 2, 1, 1))

        self.assertTrue(self.known.has_gap)

        self.known.take_state(NodeState("n", 3, 1, 1))

        self.assertFalse(self.known.has_gap)

        self.known.take_newest(3)
        self.known.take_newest(2)

        self.assertFalse(self.known.has_gap)

    def test_a_part_that_is_missing(self) -> None:
        """The parts behind it are of no use, and the gap stays."""
        self.known.take_newest(5)
        parts = [NodeState("n", 5, number, 3, [Presence(f"r{number}", ANN, 1)]) for number in (1, 2, 3)]
        self.known.take_state(parts[0])
        self.known.take_state(parts[2])

        self.assertTrue(self.known.has_gap)

        for part in parts:
            self.known.take_state(part)

        self.assertEqual((sorted(self.known.rooms), self.known.has_gap), (["r1", "r2", "r3"], False))

    def test_who_left_while_the_state_was_told_does_not_come_back(self) -> None:
        """Not even when the part that has them comes twice."""
        self.known.take_newest(5)
        first, second = NodeState("n", 5, 1, 2, [Presence("lobby", ANN, 1)]), NodeState("n", 5, 2, 2)
        self.known.take_state(first)
        change(self.known, 6, Presence("lobby", ANN, 0))
        self.known.take_state(first)
        self.known.take_state(second)

        self.assertEqual((self.known.rooms, self.known.has_gap), ({}, False))

    def test_an_older_state_that_comes_again(self) -> None:
        """It neither begins again nor takes anything away."""
        old = NodeState("n", 2, 1, 1, [Presence("lobby", ANN, 1)])
        self.known.take_newest(2)
        self.known.take_state(old)
        change(self.known, 3, Presence("lobby", ANN, 0))
        change(self.known, 4, Presence("lobby", BEA, 1))

        self.assertEqual(self.known.take_state(old), [])
        self.assertEqual(places(self.known), {("lobby", "u2"): ("bea", 1)})


class RandomTests(SynchronousTestCase):
    """A node whose messages are lost and repeated, against what it really has."""

    def test_random_histories(self) -> None:
        for seed in range(300):
            with self.subTest(seed=seed):
                self.run_history(random.Random(seed))

    def run_history(self, dice: random.Random) -> None:
        truth: Places = {}
        known = KnownNode()
        told: Places = {}
        version = 0
        state: Iterator[NodeState] = iter(())
        lost, repeated = dice.random() / 2, dice.random() / 2
        sent: list[NodeState | tuple[int, Presence]] = []
        for step in range(200):
            if step == 150:
                lost = 0.0
            if dice.random() < 0.7:
                version += 1
                author = Author(f"u{dice.randrange(6)}", dice.choice(["a", "b"]))
                presence = Presence(dice.choice("xyz"), author, dice.randrange(3))
                put(truth, presence)
                message: NodeState | tuple[int, Presence] = version, presence
            else:
                following = next(state, None)
                if following is None:
                    state = full_state(truth, version, dice.randrange(1, 4))
                    continue
                message = following
            sent.append(message)
            for _ in range(1 + (dice.random() < repeated)):
                if dice.random() >= lost:
                    self.take(known, message, told)
            if dice.random() < repeated:
                self.take(known, dice.choice(sent[-3:]), told)
            if dice.random() < 0.1 and dice.random() >= lost:
                known.take_newest(version)
        known.take_newest(version)
        for part in state if not known.has_gap else ():
            self.take(known, part, told)
        for _ in range(2):
            if known.has_gap:
                for part in full_state(truth, version, 3):
                    self.take(known, part, told)
        self.assertFalse(known.has_gap)
        self.assertEqual(places(known), truth)
        self.assertEqual(told, truth, "what was answered as changed")

    def take(self, known: KnownNode, message: NodeState | tuple[int, Presence], told: Places) -> None:
        if isinstance(message, NodeState):
            for presence in known.take_state(message):
                put(told, presence)
        elif change(known, *message):
            put(told, message[1])


def put(found: Places, presence: Presence) -> None:
    place = presence.room, presence.by.id
    if presence.connections:
        found[place] = presence.by.name, presence.connections
    else:
        found.pop(place, None)


def full_state(truth: Places, version: int, parts: int) -> Iterator[NodeState]:
    """The state in parts, each as it is when it is told."""
    keys = list(truth)
    for part in range(parts):
        some = [(room, user, *truth[room, user]) for room, user in keys[part::parts] if (room, user) in truth]
        presences = [Presence(room, Author(user, name), count) for room, user, name, count in some]
        yield NodeState("n", version, part + 1, parts, presences)
