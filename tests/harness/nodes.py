"""Several nodes in one process: chats on one store, and a bus between them that delays, loses and repeats what a test says.

``Cluster`` builds them.  A node that is killed stops where it is: nothing is said good-bye to, and the bus finds it out ten seconds later.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import BEGIN, UNBOUND, ChatHarness, HeldStore
from twisted_chat.bus import BusMessage, NodeGone, decode_messages, encode_messages
from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.stores.memory import MemoryStore

#: Seconds after which a node that is not heard counts as dead.
DEAD_SECONDS = 10.0
#: Seconds between two looks of a node at the heads of all logs, beside hints that may be lost.
POLL_SECONDS = 1.5


class Network:
    """The way between the nodes.  What goes from one node to another keeps its order.

    :ivar delay: seconds that a message takes, at most.
    :ivar lost: the part of the messages that is lost; ``repeated`` the part that comes twice.
    :ivar sent: all messages, in the order in which they were published.
    """

    def __init__(self, clock: Clock, dice: random.Random) -> None:
        self.clock = clock
        self.dice = dice
        self.delay = self.lost = self.repeated = 0.0
        self.sent: list[BusMessage] = []
        self.buses: dict[str, NodeBus] = {}
        self._cut: set[str] = set()
        self._dead: list[str] = []
        self._last: dict[tuple[str, str], float] = {}

    def join(self, node: str) -> NodeBus:
        """The bus of a new node."""
        bus = self.buses[node] = NodeBus(self, node)
        return bus

    def carry(self, sender: str, message: BusMessage) -> None:
        """Send a message to all nodes but its own."""
        self.sent.append(message)
        for receiver in self.buses:
            if receiver == sender or self._cut & {sender, receiver} or self.dice.random() < self.lost:
                continue
            for _ in range(1 + (self.dice.random() < self.repeated)):
                self._deliver_later(sender, receiver, encode_messages([message]))

    def stop(self, node: str) -> None:
        """The node is killed, or leaves: the others are told when it has not been heard for a while."""
        del self.buses[node]
        self.clock.callLater(DEAD_SECONDS, self._tell_dead, node)

    def cut_off(self, node: str) -> None:
        """The node lives, and nothing comes from it or to it."""
        self._cut.add(node)
        self.clock.callLater(DEAD_SECONDS, lambda: self._tell_gone(node) if node in self._cut else None)

    def heal(self) -> None:
        """Nobody is cut off any more, and nothing is lost."""
        cut, self._cut = self._cut, set()
        for name in cut & self.buses.keys():
            # It looks who lives, and learns what the others were told meanwhile.
            for node in self._dead:
                self.buses[name].take(NodeGone(node))
        self.lost = self.repeated = 0.0

    def _tell_dead(self, node: str) -> None:
        self._dead.append(node)
        self._tell_gone(node)

    def _tell_gone(self, node: str) -> None:
        for name, bus in list(self.buses.items()):
            if name not in self._cut:
                bus.take(NodeGone(node))

    def _deliver_later(self, sender: str, receiver: str, encoded: bytes) -> None:
        now, way = self.clock.seconds(), (sender, receiver)
        at = self._last[way] = max(self._last.get(way, 0.0), now + self.dice.random() * self.delay)
        self.clock.callLater(at - now, self._deliver, sender, receiver, encoded)

    def _deliver(self, sender: str, receiver: str, encoded: bytes) -> None:
        if sender in self.buses and receiver in self.buses:
            for message in decode_messages(encoded):
                self.buses[receiver].take(message)


class NodeBus:
    """The bus as one node sees it."""

    def __init__(self, network: Network, node: str) -> None:
        self._network = network
        self._node = node
        self._handlers: list[Callable[[BusMessage], None]] = []

    def publish(self, message: BusMessage) -> None:
        self.take(message)
        if self._node in self._network.buses:
            self._network.carry(self._node, message)

    def subscribe(self, handler: Callable[[BusMessage], None]) -> None:
        self._handlers.append(handler)

    def take(self, message: BusMessage) -> None:
        for handler in self._handlers:
            handler(message)


class NodeStore(HeldStore):
    """The store as one node sees it: hints that may be lost, and a look at all heads from time to time.

    :ivar hints: the part of the hints that comes.
    """

    def __init__(self, inner: MemoryStore, clock: Clock, dice: random.Random) -> None:
        super().__init__(inner, clock)
        self.hints = 1.0
        self._dice = dice

    def follow(self, on_news: Callable[[Mapping[str, int]], None]) -> Callable[[], None]:
        stopped: list[None] = []

        def hint(heads: Mapping[str, int]) -> None:
            if self._dice.random() < self.hints:
                on_news(heads)

        def poll() -> None:
            if not stopped:
                self.clock.callLater(POLL_SECONDS, poll)
                self.inner.open().addCallback(lambda opened: on_news({room.name: room.head for room in opened.rooms}))

        stop_hints = self.inner.follow(hint)
        poll()

        def stop() -> None:
            stopped.append(None)
            stop_hints()

        return stop


class Node(ChatHarness):
    """One of the nodes.

    :ivar network: between all of them.
    """

    network: Network

    def kill(self) -> None:
        """It ends without a word, and its clients with it."""
        self.core.timers.stop()
        self.core._stop_news()
        self.network.stop(self.node)


class Cluster:
    """Nodes on one store in memory, with one clock."""

    def __init__(
        self, case: SynchronousTestCase, limits: Limits = UNBOUND, rooms: dict[str, RoomPolicy] | None = None, seed: int = 1
    ) -> None:
        self.case = case
        self.limits = limits
        self.rooms = rooms
        self.dice = random.Random(seed)
        self.clock = Clock()
        self.clock.advance(BEGIN)
        self.store = MemoryStore(self.clock, self.dice.randbytes)
        self.network = Network(self.clock, self.dice)

    def node(self, *, clock_ahead: float = 0.0) -> Node:
        """One node more.

        :param clock_ahead: seconds by which its wall clock is ahead of the others.
        """
        node = Node(
            self.case,
            self.limits,
            self.rooms,
            store=NodeStore(self.store, self.clock, self.dice),
            seed=self.dice.getrandbits(32),
            bus=self.network.join,
            clock_ahead=clock_ahead,
        )
        node.network = self.network
        return node

    def nodes(self, count: int) -> list[Node]:
        """Some nodes, which know of one another."""
        nodes = [self.node() for _ in range(count)]
        self.pass_time(1)
        return nodes

    def pass_time(self, seconds: float, step: float = 0.5) -> None:
        """Time goes by on all nodes."""
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step
