"""A reader is a cursor: one member's place in one room's log, and how it moves on (design decisions 4 and 5).

At the head a reader stands in a row and is written to directly (``core/broadcast.py``).  One that does not keep up leaves the row and
keeps nothing but its position; when its socket has drained it reads on from the room's recent events, or from the store.
Replay after a reconnect is the same thing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from twisted_chat.events import Event
from twisted_chat.interfaces import Connection

if TYPE_CHECKING:
    from twisted_chat.core.broadcast import Broadcast, Shard
    from twisted_chat.core.room import Room


#: Bytes that a reader who catches up is given in one write; bounds what a connection can hold beside its cursor.
CATCH_UP_BYTES = 65_536
#: Events read from the store at once for one reader.
CATCH_UP_EVENTS = 512


class SubscriptionState(Enum):
    """Where a reader stands."""

    WAITING = auto()  #: not yet told where it starts
    BEHIND = auto()  #: has a position and is fed when its link takes bytes
    READING = auto()  #: behind, and a read of the store is under way
    LIVE = auto()  #: at the head; written to directly
    LEFT = auto()


class Subscription:
    """One member's cursor in one room.

    :ivar position: everything up to and including this number has been handed over; while LIVE the row's counts.
    :ivar row: where it is written to directly, at ``place``; while LIVE.
    :ivar dropped: events of an ephemeral room that were forgotten before this reader took them.
    """

    __slots__ = ("broadcast", "connection", "dropped", "place", "position", "shard", "state", "subscriber")

    def __init__(self, broadcast: Broadcast, connection: Connection, subscriber: Subscriber) -> None:
        self.broadcast = broadcast
        self.connection = connection
        self.subscriber = subscriber
        self.state = SubscriptionState.WAITING
        self.position = 0
        self.shard: Shard | None = None
        self.place = -1
        self.dropped = 0

    @property
    def room(self) -> Room:
        return self.broadcast.room

    def start(self, position: int) -> None:
        """Read from after ``position``."""
        self.position = position
        self.state = SubscriptionState.BEHIND

    def feed(self) -> int:
        """Give the link what it takes, at most one write; answers the bytes given.

        Called while BEHIND and not congested.  Afterwards the reader is LIVE, READING, still BEHIND, or congested.
        """
        broadcast = self.broadcast
        room = broadcast.room
        if self.position >= room.head:
            broadcast.enter(self)
            self.subscriber.caught_up(self)
            return 0
        items = broadcast.items_after(self.position)
        if items is None:
            return self._feed_from_store()
        return self._give(items, lambda count: self.position + count)

    def fall_behind(self) -> None:
        """The link is congested by something else: leave the row, keeping its place in the log."""
        if self.shard is not None:
            self.shard.leave(self)

    def leave(self) -> None:
        """End."""
        self.fall_behind()
        self.state = SubscriptionState.LEFT

    def _feed_from_store(self) -> int:
        room = self.room
        if not room.durable:
            gap = room.recent.base - 1 - self.position
            self.dropped += gap
            room.dropped += gap
            self.position += gap
            self.subscriber.missed(self, gap)
            return 0
        self.state = SubscriptionState.READING
        room.read_log(room.name, self.position).addCallbacks(self._store_answered, self._store_failed)
        return 0

    def _store_answered(self, events: list[Event]) -> None:
        if self.state is not SubscriptionState.READING:
            return
        self.state = SubscriptionState.BEHIND
        head = self.room.head
        if events and events[-1].seq > head:
            # The store is ahead of what has been announced, which the announcement will bring.
            events = [event for event in events if event.seq <= head]
            if not events:
                self.subscriber.feed_soon()
                return
        if not events:
            # Nothing after the position though the head is beyond it: retention took it meanwhile.
            self.position = max(self.position, min(self.room.first - 1, self.room.head))
        elif not self.connection.congested:
            gap = events[0].seq - 1 - self.position
            if gap:
                # Retention was faster than this reader.
                self.position += gap
                self.subscriber.missed(self, gap)
            self._give(self.broadcast.encoding.items(events), lambda count: events[count - 1].seq)
        self.subscriber.feed_soon()

    def _store_failed(self, reason: object) -> None:
        # It stays READING, so that nothing feeds it before the pause is over: a store that fails at once would be asked for ever.
        if self.state is SubscriptionState.READING:
            self.subscriber.read_failed(self, reason)

    def retry(self) -> None:
        """Read on after a failure."""
        if self.state is SubscriptionState.READING:
            self.state = SubscriptionState.BEHIND
            self.subscriber.feed_soon()

    def _give(self, items: list[bytes], position_after: Callable[[int], int]) -> int:
        encoding = self.broadcast.encoding
        chunk = encoding.join(items)
        if not chunk:
            self.position = position_after(len(items))
            return 0
        try:
            taken = self.connection.send(chunk)
        except BlockingIOError:
            taken = 0
        except OSError:
            self.leave()
            self.connection.abort()
            return 0
        if taken == len(chunk):
            self.position = position_after(len(items))
        else:
            count, rest = encoding.cut(items, taken)
            self.position = position_after(count)
            if rest:
                self.connection.buffer_rest(rest)
        return taken


class Subscriber(Protocol):
    """What a reader tells its session."""

    def caught_up(self, subscription: Subscription) -> None:
        """The reader is live."""

    def missed(self, subscription: Subscription, count: int) -> None:
        """Events are gone that this reader has not taken: of an ephemeral room, or by retention."""

    def feed_soon(self) -> None:
        """There is more to feed."""

    def read_failed(self, subscription: Subscription, reason: object) -> None:
        """The store could not be read: call ``subscription.retry()`` after a pause."""
