"""Those who read a room in one encoding, in rows; the fan-out (design decisions 5 and 6).

What comes in: events that the log has numbered.  What goes out: bytes to every reader that is at the head and not congested, one
write each.  The ``send`` of each is in a flat list: with 1,000 members the loop in :func:`send_to_all` is all there is, and looking at
an object for each member would cost as much as Python's share of the whole write.

A large room has several rows, and each row is a cursor of its own: it is written to in a turn of the reactor, and takes all that
the log has by then.  So a fan-out to 15,000 keeps the reactor from others for the time of one row, not of 30; the next commit runs
beside it; and a row that still waits for its turn when the next lines are announced gets both in one write.  A room that fits into
one row is written to at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.logger import Logger

from twisted_chat.core.scheduler import Scheduler
from twisted_chat.core.subscription import CATCH_UP_BYTES, Subscription, SubscriptionState
from twisted_chat.events import Event
from twisted_chat.interfaces import Send
from twisted_chat.protocol.encoders import Encoding

if TYPE_CHECKING:
    from twisted_chat.core.room import Room

#: Members in one row: two or three milliseconds of writing.  With 256, a room of 1,000 made the next lines come in more and smaller
#: batches (0.8 times the deliveries at 16 durable lines under way).
SHARD_SUBSCRIBERS = 512


def send_to_all(sends: Sequence[Send], chunk: bytes) -> list[tuple[int, int]]:
    """Give ``chunk`` to each; answers (place, bytes taken) of those that did not take all, -1 for a broken socket."""
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


class FanOut:
    """The rows that are behind their room, of all large rooms; in turns, those who have waited longest first."""

    log = Logger()

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._shards: deque[Shard] = deque()

    def add(self, shards: Sequence[Shard]) -> None:
        """These have something to write: if nobody waits, the first of them begin now."""
        idle = not self._shards
        for shard in shards:
            if not shard.waiting:
                shard.waiting = True
                self._shards.append(shard)
        if idle:
            self._go_on()

    def finish(self) -> None:
        """Write everything now: the server is about to end."""
        while self._shards:
            self._write_next()

    def write(self, shard: Shard) -> None:
        """Write to that row now.  What fails there is that row's trouble, and nobody else's."""
        try:
            shard.write()
        except Exception:
            self.log.failure("Writing to members of {room} failed", room=shard.broadcast.room.name)
        shard.broadcast.written()

    def _go_on(self) -> None:
        written = 0
        while self._shards and written < SHARD_SUBSCRIBERS:
            written += self._write_next()
        if self._shards:
            self._scheduler.at_next(self._go_on)

    def _write_next(self) -> int:
        shard = self._shards.popleft()
        shard.waiting = False
        count = len(shard.subscriptions)
        self.write(shard)
        return count


class Shard:
    """Readers who have all been given the same.

    :ivar position: everything up to and including this number.
    :ivar readers: written to directly; the ``send`` of each is at the same place of ``sends``.
    :ivar waiting: for its turn in the fan-out.
    """

    __slots__ = ("_leaving", "_writing", "broadcast", "position", "sends", "subscriptions", "waiting")

    def __init__(self, broadcast: Broadcast, position: int) -> None:
        self.broadcast = broadcast
        self.position = position
        self.subscriptions: list[Subscription] = []
        self.sends: list[Send] = []
        self.waiting = False
        self._writing = False
        self._leaving: list[Subscription] = []

    def enter(self, subscription: Subscription) -> None:
        """The reader has what the row has."""
        subscription.state = SubscriptionState.LIVE
        subscription.shard = self
        subscription.place = len(self.subscriptions)
        self.subscriptions.append(subscription)
        self.sends.append(subscription.connection.send)

    def leave(self, subscription: Subscription) -> None:
        """The reader is written to directly no more; its position is the row's."""
        subscription.state = SubscriptionState.BEHIND
        subscription.position = self.position
        if self._writing:
            # It has taken this write whole (a transport with a buffer of its own); places must not move now.
            self._leaving.append(subscription)
            subscription.shard = None
        else:
            self._remove(subscription)
            self.broadcast.drop_if_empty(self)

    def write(self) -> None:
        """Everybody gets what the log has after the row's position."""
        broadcast = self.broadcast
        first, head = self.position + 1, broadcast.room.head
        if first > head or not self.subscriptions:
            return
        items, chunk = broadcast.after(self.position)
        self.position = head
        broadcast.room.delivered += len(self.subscriptions) * (head + 1 - first)
        if not chunk:
            return
        self._writing = True
        try:
            short = send_to_all(self.sends, chunk)
        except Exception:
            # Nobody knows who has it: all of them come back and read on from what they have.
            self._writing = False
            self._break_off()
            raise
        self._writing = False
        if short or self._leaving:
            self._part(short, items, first)
            broadcast.drop_if_empty(self)

    def take_over(self, other: Shard) -> None:
        """The readers of a row that has the same position."""
        subscriptions, other.subscriptions, other.sends = other.subscriptions, [], []
        for subscription in subscriptions:
            self.enter(subscription)

    def _break_off(self) -> None:
        self._leaving = []
        for subscription in [*self.subscriptions]:
            self._remove(subscription)
            subscription.state = SubscriptionState.LEFT
            subscription.connection.abort()
        self.broadcast.drop_if_empty(self)

    def _part(self, short: list[tuple[int, int]], items: Sequence[bytes], first: int) -> None:
        parting = [(self.subscriptions[place], taken) for place, taken in short]
        leaving, self._leaving = self._leaving, []
        # A transport may say that it is full from inside a send that takes only a part: it is removed once.
        parted = {subscription for subscription, _ in parting}
        for subscription in leaving:
            if subscription not in parted:
                self._remove(subscription)
        encoding = self.broadcast.encoding
        for subscription, taken in parting:
            self._remove(subscription)
            subscription.state = SubscriptionState.BEHIND
            if taken < 0:
                subscription.position = first - 1
                subscription.connection.abort()
                continue
            count, rest = encoding.cut(items, taken)
            subscription.position = first - 1 + count
            if rest:
                subscription.connection.buffer_rest(rest)
            else:
                subscription.subscriber.feed_soon()

    def _remove(self, subscription: Subscription) -> None:
        # The last one takes the free place: order within the row means nothing.
        last, last_send = self.subscriptions.pop(), self.sends.pop()
        if last is not subscription:
            place = subscription.place
            self.subscriptions[place], self.sends[place] = last, last_send
            last.place = place
        subscription.place = -1
        subscription.shard = None


class Broadcast:
    """The members who read a room in one encoding, and the encoded recent events."""

    def __init__(self, room: Room, encoding: Encoding, fan_out: FanOut) -> None:
        self.room = room
        self.encoding = encoding
        self.shards: list[Shard] = []
        self._fan_out = fan_out
        self._items: list[bytes] = []
        self._base = room.recent.base
        #: What rows write that have this position, while one waits, and until the log has more or something in it is erased.
        self._after = -1
        self._next: tuple[list[bytes], bytes] = ([], b"")

    def enter(self, subscription: Subscription) -> None:
        """The reader is at the head: write to it directly from now on."""
        head = self.room.head
        for shard in reversed(self.shards):
            if shard.position == head and len(shard.subscriptions) < SHARD_SUBSCRIBERS:
                break
        else:
            shard = Shard(self, head)
            self.shards.append(shard)
        shard.enter(subscription)

    def drop_if_empty(self, shard: Shard) -> None:
        """Nobody is left in that row."""
        if not shard.subscriptions and shard in self.shards:
            self.shards.remove(shard)

    def announce(self, events: Sequence[Event]) -> None:
        """The log has these next events: write them to everybody in the rows, at once or in turns."""
        shards = self.shards
        if not shards:
            return
        items = self._encode(events)
        self._after, self._next = events[0].seq - 1, (items, self.encoding.join(items))
        if len(shards) == 1 and not shards[0].waiting:
            self._fan_out.write(shards[0])
        else:
            self._merge()
            self._fan_out.add(self.shards)

    def write_all(self) -> None:
        """No row stays behind: what it would need is about to be forgotten."""
        for shard in [*self.shards]:
            self._fan_out.write(shard)

    def written(self) -> None:
        """A row has been written to: when none waits any more, the bytes need not stay in memory."""
        if not any(shard.waiting for shard in self.shards):
            self._forget_next()

    def after(self, position: int) -> tuple[list[bytes], bytes]:
        """Encoded events after the position of a row, and the bytes of all of them."""
        if position != self._after:
            start = self.room.recent.after(position)
            assert start is not None, "the room forgets nothing before its rows have it"
            self._fill()
            items = self._items[start:]
            self._after, self._next = position, (items, self.encoding.join(items))
        return self._next

    def items_after(self, position: int) -> list[bytes] | None:
        """Encoded events after ``position``, at most :data:`CATCH_UP_BYTES` beyond the first; None: not in memory any more."""
        start = self.room.recent.after(position)
        if start is None:
            return None
        self._fill()
        items = self._items
        end, size = start, 0
        while end < len(items) and (size < CATCH_UP_BYTES):
            size += len(items[end])
            end += 1
        return items[start:end]

    def refresh(self, places: Sequence[int]) -> None:
        """Recent events changed at these places of the window."""
        self._forget_next()
        self._fill()
        for place in places:
            self._items[place] = self.encoding.items([self.room.recent.events[place]])[0]

    def trim(self) -> None:
        """Follow the window."""
        gone = self.room.recent.base - self._base
        if gone:
            del self._items[:gone]
            self._base += gone

    def _forget_next(self) -> None:
        self._after, self._next = -1, ([], b"")

    def _merge(self) -> None:
        """Rows that have become small, and are at the same place, become one."""
        shards: list[Shard] = []
        for shard in self.shards:
            last = shards[-1] if shards else None
            if (
                last is not None
                and last.position == shard.position
                and len(last.subscriptions) + len(shard.subscriptions) <= SHARD_SUBSCRIBERS
            ):
                last.take_over(shard)
            else:
                shards.append(shard)
        self.shards = shards

    def _encode(self, events: Sequence[Event]) -> list[bytes]:
        items = self.encoding.items(events)
        if self._base + len(self._items) == events[0].seq:
            self._items.extend(items)
        return items

    def _fill(self) -> None:
        self.trim()
        missing = self.room.recent.events[len(self._items) :]
        if missing:
            self._items.extend(self.encoding.items(missing))
