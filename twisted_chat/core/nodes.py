"""Exchange of the nodes' states, so that presence, names, devices and rates cover all nodes.

In:   users that enter and leave rooms on this node; messages of other nodes from the bus.
Out:  changes, heartbeats and, on request, the full state of this node, to the bus; the states of other nodes are applied to the
      presence of rooms, the sessions and the rates.

Events of this node are applied directly, not through the bus.  A single node publishes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from math import ceil
from typing import assert_never

from twisted_chat.bus import (
    CONNECTED,
    Bus,
    BusMessage,
    Device,
    DeviceConnected,
    NodeAlive,
    NodeGone,
    NodeState,
    Presence,
    PresenceChanged,
    StateWanted,
)
from twisted_chat.core.connections import ChatSession, Sessions
from twisted_chat.core.node_state import Entry, KnownNode
from twisted_chat.core.presence import PresenceList
from twisted_chat.core.room import Room
from twisted_chat.core.rooms import Rooms
from twisted_chat.core.scheduler import Scheduler, TimingWheel
from twisted_chat.core.spending import Spending
from twisted_chat.events import Author
from twisted_chat.users import User

#: Seconds between two heartbeats: rates used on other nodes count within 2 s, and lost changes are detected within that time.
ALIVE_SECONDS = 1
#: Seconds between two requests for the same full state.
ASK_SECONDS = 1.0
#: Requests without a heartbeat after which a node is removed: a late message of a node that has ended.
ASKED_MOST = 60
#: Seconds between two transmissions of the full state of this node, however many nodes request it.
TELL_SECONDS = 1.0
#: Entries in one part of the full state, some 2 ms.
STATE_ENTRIES = 500

_OF_A_NODE = PresenceChanged | DeviceConnected | NodeState | NodeAlive | NodeGone


class Nodes:
    """This node and its replicas of the others.

    :param node: the id of this one.
    :ivar shared: there may be other nodes; if not, nothing is published.
    :param now: monotonic seconds; ``now_ms`` the wall clock.
    """

    def __init__(
        self,
        bus: Bus,
        node: str,
        rooms: Rooms,
        sessions: Sessions,
        spending: Spending,
        scheduler: Scheduler,
        timers: TimingWheel,
        now: Callable[[], float],
        now_ms: Callable[[], int],
        *,
        shared: bool,
    ) -> None:
        self._bus = bus
        self._node = node
        self._rooms = rooms
        self._sessions = sessions
        self._spending = spending
        self._scheduler = scheduler
        self._timers = timers
        self._now = now
        self._now_ms = now_ms
        self.shared = shared
        self._own = KnownNode()
        self._others: dict[str, KnownNode] = {}
        self._number = 0
        #: The newest version of this node's state, and the newest time of any device's session.
        self._version = 0
        self._at = 0
        self._told_at = -TELL_SECONDS
        self._telling = False
        if shared:
            sessions.tell_changes(lambda user, count: self._change(CONNECTED, user.author, count))
            bus.subscribe(self._receive)

    @property
    def count(self) -> int:
        """The number of live nodes, this one included."""
        return 1 + len(self._others)

    def start(self) -> None:
        """Begin to publish heartbeats."""
        if self.shared:
            self.on_timer(self._timers.tick)

    # What happens on this node

    def enter(self, user: User, room: Room) -> None:
        """One more connection of that user is in the room."""
        self._own_changed(user.author, room, 1)

    def leave(self, user: User, room: Room) -> None:
        """One connection of that user has left the room."""
        self._own_changed(user.author, room, -1)

    def device_connected(self, session: ChatSession) -> None:
        """A session has said which device it is: older ones of the same user and device end, wherever they are."""
        if session.device is None:
            return
        # Later than all known times, so that the new session is the newer one even if this clock is behind.
        session.device_at = self._at = max(self._at + 1, self._now_ms())
        device = Device(session.user.id, session.device, session.device_at)
        self._end_older(device, self._node)
        if self.shared:
            # A node that was stopped for a while reads hellos of clients that have connected to another node meanwhile.  Those
            # connections end in the next turn; publishing them as the newest would end the clients' present ones.
            at_next = self._scheduler.at_next
            at_next(lambda: at_next(lambda: self._tell_device(session, device)))

    def fill(self, room: str, presence: PresenceList) -> None:
        """A room was loaded into memory: add the users of other nodes to its presence."""
        for node, known in self._others.items():
            for entry in known.rooms.get(room, {}).values():
                presence.tell(entry.author, entry.connections, node)
        # Now, so that who joins sees them in the list and does not see them come.
        presence.send_changes()

    def members_elsewhere(self, room: str) -> int:
        """Connections in the room by other nodes."""
        return sum(entry.connections for known in self._others.values() for entry in known.rooms.get(room, {}).values())

    def on_timer(self, tick: int) -> None:
        """Each second: publish a heartbeat, and request the states in which changes are missing."""
        self._timers.schedule(ALIVE_SECONDS, self)
        self._number += 1
        self._bus.publish(NodeAlive(self._node, self._number, self._version, self._at, self._spending.take()))
        for node, known in list(self._others.items()):
            if known.asked < ASKED_MOST:
                self._ask(node, known)
            else:
                self._take(NodeGone(node))

    def _own_changed(self, author: Author, room: Room, more: int) -> None:
        connections = room.presence.change_own(author, more)
        if self.shared:
            self._change(room.name, author, connections)

    def _change(self, room: str, author: Author, connections: int) -> None:
        self._version += 1
        presence = Presence(room, author, connections)
        self._own.take_change(self._version, presence)
        self._bus.publish(PresenceChanged(self._node, self._version, presence))

    def _tell_device(self, session: ChatSession, device: Device) -> None:
        if session in self._sessions.of_user(device.user):
            self._version += 1
            self._bus.publish(DeviceConnected(self._node, self._version, device))

    # Messages of the bus

    def _receive(self, message: BusMessage) -> None:
        if isinstance(message, StateWanted):
            if message.node == self._node:
                self._tell_state()
        elif isinstance(message, _OF_A_NODE) and message.node != self._node:
            self._take(message)

    def _take(self, message: PresenceChanged | DeviceConnected | NodeState | NodeAlive | NodeGone) -> None:
        match message:
            case PresenceChanged() | DeviceConnected():
                self._changed(message)
            case NodeState():
                for presence in self._known(message.node).take_state(message):
                    self._apply(presence, message.node)
                for device in message.devices:
                    self._end_older(device, message.node)
            case NodeAlive():
                self._heard(message)
            case NodeGone():
                known = self._others.pop(message.node, None)
                if known is not None:
                    self._forget_some(message.node, known.presences())
            case _:
                assert_never(message)

    def _changed(self, message: PresenceChanged | DeviceConnected) -> None:
        known = self._known(message.node)
        if not known.take_number(message.version):
            return
        if isinstance(message, PresenceChanged):
            known.take_change(message.version, message.presence)
            self._apply(message.presence, message.node)
        else:
            self._end_older(message.device, message.node)
        self._ask(message.node, known)

    def _heard(self, message: NodeAlive) -> None:
        known = self._known(message.node)
        if message.number <= known.heard:
            return
        known.heard, known.asked = message.number, 0
        known.take_newest(message.version)
        self._at = max(self._at, message.at)
        self._spending.add(message.spent)
        self._ask(message.node, known)

    def _forget_some(self, node: str, presences: Iterator[tuple[str, Entry]]) -> None:
        """Remove users of a dead node, some in each turn: 10,000 at once blocked the reactor for 100 ms."""
        some = list(islice(presences, STATE_ENTRIES))
        known = self._others.get(node)
        for room, entry in some:
            # Unless the node is live again and has the user.
            if known is None or entry.author.id not in known.rooms.get(room, {}):
                self._apply(Presence(room, entry.author, 0), node, lost=True)
        if some:
            self._scheduler.at_next(lambda: self._forget_some(node, presences))

    def _known(self, node: str) -> KnownNode:
        known = self._others.get(node)
        if known is None:
            known = self._others[node] = KnownNode()
        return known

    def _ask(self, node: str, known: KnownNode) -> None:
        now = self._now()
        if known.has_gap and (known.asked_at is None or now - known.asked_at >= ASK_SECONDS):
            known.asked_at, known.asked = now, known.asked + 1
            self._bus.publish(StateWanted(node))

    def _apply(self, presence: Presence, node: str, *, lost: bool = False) -> None:
        if presence.room == CONNECTED:
            self._sessions.learn_name(node, presence.by.id, presence.by.name if presence.connections else None)
            return
        room = self._rooms.in_memory(presence.room)
        if room is not None:
            room.presence.tell(presence.by, presence.connections, node, lost=lost)

    def _end_older(self, device: Device, node: str) -> None:
        self._at = max(self._at, device.at)
        # At the same time, the session on the node with the greater id is the newer one.  If the session here is newer, the other node
        # has received it, or will detect the gap.
        self._sessions.end_older(device.user, device.device, device.at + (self._node < node))

    # The full state

    def _tell_state(self) -> None:
        now = self._now()
        if self._telling or now - self._told_at < TELL_SECONDS:
            return  # who still needs it will request it again
        self._telling, self._told_at = True, now
        places = [(room, entry.author.id) for room, entry in self._own.presences()]
        newest: dict[tuple[str, str], int] = {}
        for session in self._sessions:
            if session.device is not None:
                place = session.user.id, session.device
                newest[place] = max(session.device_at, newest.get(place, 0))
        devices = [Device(user, device, at) for (user, device), at in newest.items()]
        parts = max(1, ceil(max(len(places), len(devices)) / STATE_ENTRIES))
        self._tell_part(NodeState(self._node, self._version, 1, parts), places, devices)

    def _tell_part(self, part: NodeState, places: list[tuple[str, str]], devices: list[Device]) -> None:
        """Changes meanwhile were published with newer versions, so the present values may be sent in this state."""
        begin = (part.part - 1) * STATE_ENTRIES
        entries = [(room, self._own.rooms.get(room, {}).get(user)) for room, user in places[begin : begin + STATE_ENTRIES]]
        presences = [Presence(room, entry.author, entry.connections) for room, entry in entries if entry is not None]
        self._bus.publish(
            NodeState(part.node, part.version, part.part, part.parts, presences, devices[begin : begin + STATE_ENTRIES])
        )
        if part.part < part.parts:
            following = NodeState(part.node, part.version, part.part + 1, part.parts)
            self._scheduler.at_next(lambda: self._tell_part(following, places, devices))
        else:
            self._telling = False
