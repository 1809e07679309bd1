"""Messages between nodes that stand in no log.

A node is one run of a server; its id is the ``run_id`` of its chat.  Several nodes share the rooms through one store.  Data that must
not be lost is in the logs, and the store's ``follow`` announces it.  The messages here may be lost, delayed or repeated on the way to
other nodes:

* The state of a node (connected users, their rooms and devices) is sent as absolute values.  Each change has the next ``version`` of its
  node, and each second :class:`NodeAlive` contains the newest one, so that a gap is detected.  A node that detects a gap requests the
  full state (:class:`StateWanted`), which is sent as :class:`NodeState`.
* :class:`NodeAlive` and :class:`EphemeralEvents` have a ``number``; repetitions are ignored, and lost ones are not sent again.

See ``docs/decisions/12-nodes-tell-their-state.rst``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias, Union

import msgspec
from msgspec import Struct

from twisted_chat.events import Author, Message, TopicSet

#: In the place of a room's name: the node itself, for users who are connected to it, in a room or not.
CONNECTED = ""


class Presence(Struct, frozen=True, array_like=True, gc=False):
    """The number of connections of a user in a room (or :data:`CONNECTED`) on one node; 0: the user has left."""

    room: str
    by: Author
    connections: int


class Device(Struct, frozen=True, array_like=True, gc=False):
    """The newest session of a user's device on one node.

    :ivar at: when it said hello; of two sessions the one with the greater (``at``, node) is the newer one.
    """

    user: str
    device: str
    at: int


class PresenceChanged(Struct, frozen=True, gc=False, tag=True):
    """A change of a node's state: connections of a user."""

    node: str
    version: int
    presence: Presence


class DeviceConnected(Struct, frozen=True, gc=False, tag=True):
    """A change of a node's state: a new session of a device.  Older sessions of the same user and device end, on any node."""

    node: str
    version: int
    device: Device


class NodeState(Struct, frozen=True, tag=True):
    """A part of the full state of a node.  Entries that are in no part are removed.

    :ivar version: the state contains all changes up to this one.
    :ivar part: 1 to ``parts``.
    """

    node: str
    version: int
    part: int
    parts: int
    presences: list[Presence] = []
    devices: list[Device] = []


class StateWanted(Struct, frozen=True, gc=False, tag=True):
    """A request for the full state of that node."""

    node: str


class NodeAlive(Struct, frozen=True, tag=True):
    """The heartbeat of a node, each second.

    :ivar number: one more each time.
    :ivar version: the newest version of its state.
    :ivar at: the latest time of a device's session that it knows; milliseconds, never decreases.
    :ivar spent: tokens taken on that node since its last heartbeat: name of the rate -> user or address -> count.
    """

    node: str
    number: int
    version: int
    at: int
    spent: dict[str, dict[str, int]] = {}


class NodeGone(Struct, frozen=True, gc=False, tag=True):
    """The node has ended or is dead: no user is connected to it."""

    node: str


class TypingNoticed(Struct, frozen=True, gc=False, tag=True):
    """A user is writing in a room."""

    room: str
    user: str
    name: str
    guest: bool


class ReadMarkMoved(Struct, frozen=True, gc=False, tag=True):
    """A user has read a room up to number ``seq``; ``origin`` names the session that said so."""

    room: str
    user: str
    seq: int
    origin: str


class EventsRemoved(Struct, frozen=True, gc=False, tag=True):
    """Retention removed the events before number ``first`` from the store."""

    room: str
    first: int


class EphemeralEvents(Struct, frozen=True, tag=True):
    """Events of a room that keeps nothing, with the numbers of the node on which they were sent; each node has its own numbers.

    :ivar number: increases by one with each such message of the node.
    """

    node: str
    number: int
    room: str
    events: list[Message | TopicSet]


BusMessage: TypeAlias = Union[
    PresenceChanged,
    DeviceConnected,
    NodeState,
    StateWanted,
    NodeAlive,
    NodeGone,
    TypingNoticed,
    ReadMarkMoved,
    EventsRemoved,
    EphemeralEvents,
]


class Bus(Protocol):
    """Carries messages between nodes.

    On its own node a message is never lost.  On the way to others it may be lost, delayed or repeated.  Messages of one node arrive in
    the order in which they were published (a different order is treated as loss, and the full state is requested each time).  A bus that
    cannot deliver drops the oldest messages: its memory is bounded, and ``publish`` neither waits nor raises.

    The bus detects dead nodes.  When a node has given no sign of life to the transport for 10 s of the common clock (the database's, not
    this machine's), or has ended, the bus passes :class:`NodeGone` to the handlers of this node, and then no message of that node until
    it is alive again.  While the bus itself is disconnected it declares no node dead.
    """

    def publish(self, message: BusMessage) -> None:
        """Give the message to the handlers of this node before returning, and to those of the other nodes soon."""

    def subscribe(self, handler: Callable[[BusMessage], None]) -> None:
        """Call ``handler`` for each message, from whatever node, in the reactor's thread."""


_encoder = msgspec.json.Encoder()
_raw_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_decoder = msgspec.json.Decoder(BusMessage)


def encode_messages(messages: Iterable[BusMessage]) -> bytes:
    """The messages as a JSON array, for other nodes."""
    return _encoder.encode(list(messages))


def decode_messages(encoded: bytes) -> list[BusMessage]:
    """The messages in the array; unknown ones are skipped, because nodes are upgraded one by one.

    :class:`msgspec.DecodeError` if it is not an array of anything.
    """
    found: list[BusMessage] = []
    try:
        messages = _raw_decoder.decode(encoded)
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None
    for raw in messages:
        try:
            found.append(_decoder.decode(raw))
        except msgspec.ValidationError:
            continue
    return found
