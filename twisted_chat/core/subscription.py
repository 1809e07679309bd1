"""A subscription is a cursor: one subscriber's position in one room's log, and how it moves on.

In:   a position to start from; later only "your connection takes bytes again" (:meth:`Subscription.feed`).
Out:  bytes to the connection; a subscription that keeps up stands in a shard and is written to with the others of it.

A subscription that does not keep up leaves its shard and keeps nothing but its position.  When its connection has drained it reads on
from the log's cache, or from the store.  Replay after a reconnect is the same code (``docs/decisions/04-live-is-not-a-second-path.rst``,
``docs/decisions/05-slow-reader-costs-a-cursor.rst``).

A :class:`Shard` and its subscriptions stand in one module because each changes the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum, auto
from typing import Protocol

from twisted.python.failure import Failure

from twisted_chat.core.log import RoomLog
from twisted_chat.events import Event
from twisted_chat.interfaces import Connection, Send
from twisted_chat.protocol.encoders import Encoding
from twisted_chat.users import User

#: Bytes that a subscription that catches up is given in one write; bounds what a connection holds beside its cursor.
CATCH_UP_BYTES = 65_536
#: Events read from the store at once for one subscription.
CATCH_UP_EVENTS = 512


class SubscriptionState(IntEnum):
    """Where a subscription stands.  Not an ``Enum``, whose hash is a Python function.

    ::

         ,-----------caught_up------------------,
        NEW --started--> BEHIND --caught_up--> LIVE
                          |  ^  ^                |
        store_read_began  v  |  `-- fell_behind -'
                         READING            any state --closed--> CLOSED
    """

    NEW = auto()  #: its position is not known yet
    BEHIND = auto()  #: has a position and is fed when its connection takes bytes
    READING = auto()  #: behind, and a read of the store is in progress or waits to be repeated
    LIVE = auto()  #: at the head; written to with its shard
    CLOSED = auto()


#: Every change of state that there is.  Anything else is a bug, and raises.
TRANSITIONS = {
    (SubscriptionState.NEW, "started"): SubscriptionState.BEHIND,
    (SubscriptionState.NEW, "caught_up"): SubscriptionState.LIVE,
    (SubscriptionState.BEHIND, "caught_up"): SubscriptionState.LIVE,
    (SubscriptionState.BEHIND, "store_read_began"): SubscriptionState.READING,
    (SubscriptionState.READING, "store_read_ended"): SubscriptionState.BEHIND,
    (SubscriptionState.LIVE, "fell_behind"): SubscriptionState.BEHIND,
    **{(state, "closed"): SubscriptionState.CLOSED for state in SubscriptionState},
}


class Source(Protocol):
    """What a subscription reads from: a broadcast, which is for one room and one encoding."""

    log: RoomLog
    encoding: Encoding

    def enter(self, subscription: Subscription) -> None:
        """The subscription is at the head: write to it with a shard from now on."""

    def items_after(self, position: int) -> list[bytes] | None:
        """Encoded events after ``position`` for one catch-up write; None: not in the cache any more."""

    def chunk_after(self, position: int) -> tuple[list[bytes], bytes]:
        """All encoded events after the position of a shard, and the bytes of one write with all of them."""

    def drop_if_empty(self, shard: Shard) -> None:
        """A shard may have lost its last subscription."""


class Subscriber(Protocol):
    """A session, as its subscriptions see it."""

    user: User

    def see_typing(self, push: bytes) -> None:
        """Others in the room are writing: the JSON of a ``TypingPush``."""

    def fell_behind(self, subscription: Subscription) -> None:
        """The subscription is BEHIND from now on: feed it when the connection takes bytes."""

    def caught_up(self, subscription: Subscription) -> None:
        """The subscription is live."""

    def missed(self, subscription: Subscription, count: int) -> None:
        """Events are gone that this subscription has not delivered: of an ephemeral room, or by retention."""

    def feed_soon(self) -> None:
        """There is more to feed."""

    def read_failed(self, subscription: Subscription, failure: Failure) -> None:
        """The store could not be read: call ``subscription.retry()`` after a pause."""


class Subscription:
    """One subscriber's cursor in one room.

    :ivar position: everything up to and including this number has been handed over; while LIVE the shard's position counts.
    :ivar shard: where it is written to, at index ``place``; while LIVE.
    :ivar dropped: events of an ephemeral room that were gone before this subscription delivered them.
    """

    __slots__ = ("connection", "dropped", "log", "place", "position", "shard", "source", "state", "subscriber")

    def __init__(self, source: Source, connection: Connection, subscriber: Subscriber) -> None:
        self.source = source
        self.log = source.log
        self.connection = connection
        self.subscriber = subscriber
        self.state = SubscriptionState.NEW
        self.position = 0
        self.shard: Shard | None = None
        self.place = -1
        self.dropped = 0

    def start(self, position: int) -> None:
        """Read from after ``position``."""
        self.position = position
        self._change("started")

    def start_live(self) -> None:
        """Read from the head of the log; the connection takes bytes, and nothing that was written to it before is missing."""
        self.position = self.log.head
        self.source.enter(self)
        self.subscriber.caught_up(self)

    def feed(self) -> int:
        """Give the connection what it takes, at most one write; answers the bytes given.

        Called while BEHIND and not congested.  Afterwards the subscription is LIVE, READING, still BEHIND, or congested.
        """
        if self.position >= self.log.head:
            self.source.enter(self)
            self.subscriber.caught_up(self)
            return 0
        items = self.source.items_after(self.position)
        if items is None:
            return self._feed_from_store()
        return self._give(items, lambda count: self.position + count)

    def fall_behind(self) -> None:
        """The connection is congested by something else: leave the shard, keeping the position."""
        if self.shard is not None:
            self.shard.leave(self)

    def close(self) -> None:
        """End."""
        self.fall_behind()
        self._change("closed")

    def retry(self) -> None:
        """Read on after a failure of the store."""
        if self.state is SubscriptionState.READING:
            self._change("store_read_ended")
            self.subscriber.feed_soon()

    @property
    def lag(self) -> int:
        """Events between its position and the head of the log."""
        position = self.position if self.shard is None else self.shard.position
        return max(0, self.log.head - position)

    # Called by the shard

    def enter_shard(self, shard: Shard, place: int) -> None:
        """It is written to with that shard, at that index of it."""
        if self.shard is None:
            self._change("caught_up")
        self.shard = shard
        self.place = place

    def leave_shard(self, position: int) -> None:
        """It is not written to with its shard any more; it has everything up to ``position``."""
        self._change("fell_behind")
        self.position = position
        self.shard = None

    def abort(self) -> None:
        """End, and end the connection, because delivery is uncertain."""
        self._change("closed")
        self.connection.abort()

    def _change(self, event: str) -> None:
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            raise AssertionError(f"{event} while {self.state.name}")
        self.state = following
        if following is SubscriptionState.BEHIND:
            self.subscriber.fell_behind(self)

    def _feed_from_store(self) -> int:
        log = self.log
        if not log.durable:
            gap = log.cache.base - 1 - self.position
            self.dropped += gap
            log.dropped += gap
            self.position += gap
            self.subscriber.missed(self, gap)
            return 0
        self._change("store_read_began")
        log.read_in_turn(self.position).addCallbacks(self._store_answered, self._store_failed)
        return 0

    def _store_answered(self, events: list[Event]) -> None:
        if self.state is not SubscriptionState.READING:
            return
        self._change("store_read_ended")
        head = self.log.head
        if events and events[-1].seq > head:
            # The store is ahead of what has been announced, which the announcement will bring.
            events = [event for event in events if event.seq <= head]
            if not events:
                self.subscriber.feed_soon()
                return
        if not events:
            # Nothing after the position though the head is beyond it: retention removed it meanwhile.
            self.position = max(self.position, min(self.log.first - 1, self.log.head))
        elif not self.connection.congested:
            gap = events[0].seq - 1 - self.position
            if gap:
                # Retention removed events that this subscription had not delivered.
                self.position += gap
                self.subscriber.missed(self, gap)
            self._give(self.source.encoding.items(events), lambda count: events[count - 1].seq)
        self.subscriber.feed_soon()

    def _store_failed(self, failure: Failure) -> None:
        # It stays READING, so that nothing feeds it before the pause is over: a store that fails at once would be asked for ever.
        if self.state is SubscriptionState.READING:
            self.subscriber.read_failed(self, failure)

    def _give(self, items: list[bytes], position_after: Callable[[int], int]) -> int:
        encoding = self.source.encoding
        chunk = encoding.join(items)
        if not chunk:
            self.position = position_after(len(items))
            return 0
        try:
            taken = self.connection.send(chunk)
        except BlockingIOError:
            taken = 0
        except OSError:
            self.close()
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


def send_to_all(sends: Sequence[Send], chunk: bytes) -> list[tuple[int, int]]:
    """Give ``chunk`` to each; answers (place, bytes taken) of those that did not take all, -1 for a broken socket.

    This loop over a flat list is the hot path of the server: with 1,000 subscribers it is all there is, and looking at an object for
    each of them would cost as much as Python's share of the whole write.  See ``docs/performance.rst`` before changing it.
    """
    size = len(chunk)
    short = []
    for place, send in enumerate(sends):
        try:
            taken = send(chunk)
        except BlockingIOError:
            taken = 0
        except OSError:
            taken = -1
        if taken != size:
            short.append((place, taken))
    return short


class Shard:
    """Subscriptions that have all been given the same.

    :ivar position: everything up to and including this number.
    :ivar subscriptions: written to directly; the ``send`` of each is at the same index of ``sends``.
    :ivar waiting: for its turn in the fan-out.
    """

    __slots__ = ("_leaving", "_writing", "position", "sends", "source", "subscriptions", "waiting")

    def __init__(self, source: Source, position: int) -> None:
        self.source = source
        self.position = position
        self.subscriptions: list[Subscription] = []
        self.sends: list[Send] = []
        self.waiting = False
        self._writing = False
        self._leaving: list[Subscription] = []

    def enter(self, subscription: Subscription) -> None:
        """The subscription has what the shard has."""
        subscription.enter_shard(self, len(self.subscriptions))
        self.subscriptions.append(subscription)
        self.sends.append(subscription.connection.send)

    def leave(self, subscription: Subscription) -> None:
        """The subscription is not written to any more; its position is the shard's."""
        subscription.leave_shard(self.position)
        if self._writing:
            # It has taken this write whole (a transport with a buffer of its own); places must not move now.
            self._leaving.append(subscription)
        else:
            self._remove(subscription)
            self.source.drop_if_empty(self)

    def write(self) -> None:
        """Send everybody what the log has after the shard's position."""
        source = self.source
        first, head = self.position + 1, source.log.head
        if first > head or not self.subscriptions:
            return
        items, chunk = source.chunk_after(self.position)
        self.position = head
        if not chunk:
            return
        self._writing = True
        try:
            short = send_to_all(self.sends, chunk)
        except Exception:
            # Delivery is uncertain for all of them: each connection ends, and its client resumes from what it has.
            self._writing = False
            self._abort_all()
            raise
        self._writing = False
        if short or self._leaving:
            self._remove_congested(short, items, first)
            source.drop_if_empty(self)

    def take_over(self, other: Shard) -> None:
        """Add the subscriptions of a shard that has the same position."""
        subscriptions, other.subscriptions, other.sends = other.subscriptions, [], []
        for subscription in subscriptions:
            self.enter(subscription)

    def _abort_all(self) -> None:
        self._leaving = []
        for subscription in [*self.subscriptions]:
            self._remove(subscription)
            subscription.shard = None
            subscription.abort()
        self.source.drop_if_empty(self)

    def _remove_congested(self, short: list[tuple[int, int]], items: Sequence[bytes], first: int) -> None:
        congested = [(self.subscriptions[place], taken) for place, taken in short]
        leaving, self._leaving = self._leaving, []
        # A transport may say that it is full from inside a send that takes only a part: it is removed once.
        removed = {subscription for subscription, _ in congested}
        for subscription in leaving:
            if subscription not in removed:
                self._remove(subscription)
        encoding = self.source.encoding
        for subscription, taken in congested:
            self._remove(subscription)
            count, rest = (0, b"") if taken < 0 else encoding.cut(items, taken)
            if subscription.shard is None:
                # It left from inside its send.
                subscription.position = first - 1 + count
            else:
                subscription.leave_shard(first - 1 + count)
            if taken < 0:
                subscription.connection.abort()
            elif rest:
                subscription.connection.buffer_rest(rest)
            else:
                subscription.subscriber.feed_soon()

    def _remove(self, subscription: Subscription) -> None:
        # The last one takes the free place: order within the shard means nothing.
        last, last_send = self.subscriptions.pop(), self.sends.pop()
        if last is not subscription:
            place = subscription.place
            self.subscriptions[place], self.sends[place] = last, last_send
            last.place = place
        subscription.place = -1
