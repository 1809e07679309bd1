"""What goes between nodes and is in no log: who comes and goes, who types, who has read how far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, Union

from msgspec import Struct

from twisted_chat.events import Author


class PresenceChanged(Struct, frozen=True, gc=False):
    """A connection of a user has entered a room, or left it."""

    room: str
    by: Author
    entered: bool


class TypingNoticed(Struct, frozen=True, gc=False):
    """A user is writing in a room."""

    room: str
    user: str
    name: str
    guest: bool


class ReadMarkMoved(Struct, frozen=True, gc=False):
    """A user has read a room up to number ``seq``; ``origin`` names the session that said so."""

    room: str
    user: str
    seq: int
    origin: str


BusMessage: TypeAlias = Union[PresenceChanged, TypingNoticed, ReadMarkMoved]


class Bus(Protocol):
    """Carries between nodes what is in no log; a message may be lost on the way to other nodes, never on its own node.

    What must not be lost is in the logs, and the store's ``follow`` tells of it.
    """

    def publish(self, message: BusMessage) -> None:
        """Give the message to the handlers of this node before returning, and to those of the other nodes soon."""

    def subscribe(self, handler: Callable[[BusMessage], None]) -> None:
        """Call ``handler`` for each message, from whatever node."""
