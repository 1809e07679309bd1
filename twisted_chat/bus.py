"""What goes between nodes and is in no log.

A node is one run of a server; its id is the ``run_id`` of its chat.  Several nodes share the rooms through one store; what must not be
lost is in the logs, and the store's ``follow`` tells of it.  Everything here may be lost, late or doubled on its way to other nodes, and
the rules of each message say why that does no harm:

* The state of a node (who is connected to it, in which rooms, with which devices) is told in absolute values.  Each change has the next
  ``version`` of its node, and :class:`NodeAlive` names the newest one each second, so a hole is noticed; who has one asks for the whole
  state (:class:`StateWanted`), which comes as :class:`NodeState`.
* Of what is only added up or shown once (:class:`NodeAlive`, :class:`EphemeralEvents`), each message has a ``number``; one that came
  before is ignored, one that is lost is missed.

See ``docs/decisions/12-nodes-tell-their-state.rst``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias, Union

import msgspec
from msgspec import Struct

from twisted_chat.events import Author, Message, TopicSet

#: The place of the server itself among the rooms of a node's state: who is connected, in a room or in none.
CONNECTED = ""


class Presence(Struct, frozen=True, array_like=True, gc=False):
    """How many connections a user has in a room (or :data:`CONNECTED`) by one node; 0: none any more."""

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
    """A part of a node's state: connections of a user."""

    node: str
    version: int
    presence: Presence


class DeviceConnected(Struct, frozen=True, gc=False, tag=True):
    """A part of a node's state: a device has a new session, and older ones of the same user and device end on whatever node."""

    node: str
    version: int
    device: Device


class NodeState(Struct, frozen=True, tag=True):
    """A part of the whole state of a node.  What no part has is no more.

    :ivar version: the whole has all changes up to this one.
    :ivar part: 1 to ``parts``.
    """

    node: str
    version: int
    part: int
    parts: int
    presences: list[Presence] = []
    devices: list[Device] = []


class StateWanted(Struct, frozen=True, gc=False, tag=True):
    """Somebody has a hole in the state of that node, which answers with :class:`NodeState`."""

    node: str


class NodeAlive(Struct, frozen=True, tag=True):
    """What a node says each second.

    :ivar number: one more each time.
    :ivar version: the newest one of its state.
    :ivar at: the newest time that it gave to, or knows of, a device's session; milliseconds, never falling.
    :ivar spent: what was taken on that node since its last one: name of the rate -> user or address -> count.
    """

    node: str
    number: int
    version: int
    at: int
    spent: dict[str, dict[str, int]] = {}


class NodeGone(Struct, frozen=True, gc=False, tag=True):
    """The node has ended, or is not heard any more: nobody is connected to it."""

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
    """What was said in a room that keeps nothing, with the numbers of the node on which it was said; each node gives its own.

    :ivar number: one more with each of that node.
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

    On its own node a message is never lost.  On the way to others it may be lost, late or doubled; what comes of one node comes in the
    order in which it was published there, holes apart (otherwise the state of that node is told again and again).  A bus that cannot
    deliver drops the oldest messages and goes on: its memory is bounded, and ``publish`` neither waits nor raises.

    The bus finds out which nodes live.  When a node has not been heard for 10 s of the common clock (the database's, not this machine's),
    it gives :class:`NodeGone` to the handlers of this node, and after that nothing of the node until it is alive again.  While the bus
    itself is cut off it says nothing of the kind.
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
    """The messages in the array; those that this version does not know are left out, because nodes are upgraded one by one.

    :class:`msgspec.DecodeError` if it is not an array of anything.
    """
    found: list[BusMessage] = []
    for raw in _raw_decoder.decode(encoded):
        try:
            found.append(_decoder.decode(raw))
        except msgspec.ValidationError:
            continue
    return found
