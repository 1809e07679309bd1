"""Deliver new events of a room to its live subscribers.

In:   events that the log has numbered (:meth:`Broadcast.announce`).
Out:  bytes, one ``send`` for each live subscriber; who does not take all of them leaves its shard and catches up later.

A :class:`Broadcast` is for one encoding: events are encoded once, however many subscribers there are.  Its subscriptions stand in
shards of at most 512.  A single shard is written to at once.  Several take turns, one in each turn of the reactor, so that a
room of 15,000 holds up the others for the time of one shard and not of 30; the next commit runs beside it; and a shard that has
waited writes everything that is new by then.

The loop over flat lists in :func:`~twisted_chat.core.subscription.send_to_all` is the hot path of the server; see
``docs/performance.rst`` before changing it, and ``docs/decisions/06-encode-once.rst``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from twisted.logger import Logger

from twisted_chat.core.log import RoomLog
from twisted_chat.core.scheduler import Scheduler
from twisted_chat.core.subscription import CATCH_UP_BYTES, Shard, Subscription
from twisted_chat.events import Event
from twisted_chat.protocol.encoders import Encoding

#: Subscriptions in one shard: two or three milliseconds of writing.  With 256, a room of 1,000 made the next lines come in more and
#: smaller batches (0.8 times the deliveries at 16 durable lines in progress).
SHARD_SUBSCRIBERS = 512


class FanOut:
    """The shards that are behind their room, of all large rooms; those that have waited longest are written to first."""

    log = Logger()

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiting: deque[tuple[Broadcast, Shard]] = deque()

    def add(self, broadcast: Broadcast, shards: Sequence[Shard]) -> None:
        """These have something to write: if no other shard waits, the first of them are written to now."""
        idle = not self._waiting
        for shard in shards:
            if not shard.waiting:
                shard.waiting = True
                self._waiting.append((broadcast, shard))
        if idle:
            self._write_some()

    def finish(self) -> None:
        """Write everything now: the server is about to end."""
        while self._waiting:
            self._write_next()

    def write(self, broadcast: Broadcast, shard: Shard) -> None:
        """Write to that shard now.  A failure there is logged and concerns no other shard."""
        try:
            shard.write()
        except Exception:
            self.log.failure("Writing to subscribers of {room} failed", room=broadcast.log.name)
        broadcast.shard_written()

    def _write_some(self) -> None:
        written = 0
        while self._waiting and written < SHARD_SUBSCRIBERS:
            written += self._write_next()
        if self._waiting:
            self._scheduler.at_next(self._write_some)

    def _write_next(self) -> int:
        broadcast, shard = self._waiting.popleft()
        shard.waiting = False
        count = len(shard.subscriptions)
        self.write(broadcast, shard)
        return count


class Broadcast:
    """The live subscriptions to a room in one encoding, and the encoded recent events."""

    def __init__(self, log: RoomLog, encoding: Encoding, fan_out: FanOut) -> None:
        self.log = log
        self.encoding = encoding
        self.shards: list[Shard] = []
        self._fan_out = fan_out
        #: Aligned with the cache of the log: the item at an index is that of the event at the same index.
        self._items: list[bytes] = []
        self._base = log.cache.base
        #: What shards at this position write, while one waits, and until the log has more or something in it is erased.
        self._chunk_position = -1
        self._chunk: tuple[list[bytes], bytes] = ([], b"")

    def enter(self, subscription: Subscription) -> None:
        """The subscription is at the head: write to it with a shard from now on."""
        head = self.log.head
        for shard in reversed(self.shards):
            if shard.position == head and len(shard.subscriptions) < SHARD_SUBSCRIBERS:
                break
        else:
            shard = Shard(self, head)
            self.shards.append(shard)
        shard.enter(subscription)

    def drop_if_empty(self, shard: Shard) -> None:
        """Forget the shard if its last subscription has left."""
        if not shard.subscriptions and shard in self.shards:
            self.shards.remove(shard)

    def announce(self, events: Sequence[Event]) -> None:
        """The log has these next events: write them to all live subscriptions, at once or in turns."""
        shards = self.shards
        if not shards:
            return
        items = self._encode(events)
        self._chunk_position, self._chunk = events[0].seq - 1, (items, self.encoding.join(items))
        if len(shards) == 1 and not shards[0].waiting:
            self._fan_out.write(self, shards[0])
        else:
            self._merge_shards()
            self._fan_out.add(self, self.shards)

    def write_all(self) -> None:
        """Write to every shard now, because what it would need is about to leave the cache."""
        for shard in [*self.shards]:
            self._fan_out.write(self, shard)

    def make_all_behind(self) -> None:
        """Take every live subscription out of its shard; each reads on from its position."""
        for shard in [*self.shards]:
            for subscription in [*shard.subscriptions]:
                subscription.fall_behind()
                subscription.subscriber.feed_soon()

    def shard_written(self) -> None:
        """A shard has been written to: when none waits any more, the bytes need not stay in memory."""
        if not any(shard.waiting for shard in self.shards):
            self._forget_chunk()

    def chunk_after(self, position: int) -> tuple[list[bytes], bytes]:
        """All encoded events after the position of a shard, and the bytes of one write with all of them."""
        if position != self._chunk_position:
            start = self.log.cache.after(position)
            assert start is not None, "the cache drops nothing before the shards have it"
            self._fill()
            items = self._items[start:]
            self._chunk_position, self._chunk = position, (items, self.encoding.join(items))
        return self._chunk

    def items_after(self, position: int) -> list[bytes] | None:
        """Encoded events after ``position``, at most :data:`CATCH_UP_BYTES` beyond the first; None: not in the cache any more."""
        start = self.log.cache.after(position)
        if start is None:
            return None
        self._fill()
        items = self._items
        end, size = start, 0
        while end < len(items) and (size < CATCH_UP_BYTES):
            size += len(items[end])
            end += 1
        return items[start:end]

    def encode_again(self, indexes: Sequence[int]) -> None:
        """Events of the cache changed at these indexes."""
        self._forget_chunk()
        encoded = len(self._items)
        for index in indexes:
            # What has not been encoded yet will be as it is now.
            if index < encoded:
                self._items[index] = self.encoding.items([self.log.cache.events[index]])[0]

    def trim(self) -> None:
        """Drop the items of events that are not in the cache any more."""
        gone = self.log.cache.base - self._base
        if gone:
            del self._items[:gone]
            self._base += gone

    def live_subscriptions(self) -> list[Subscription]:
        """At the head and not congested."""
        return [subscription for shard in self.shards for subscription in shard.subscriptions]

    def _forget_chunk(self) -> None:
        self._chunk_position, self._chunk = -1, ([], b"")

    def _merge_shards(self) -> None:
        """Shards that have become small, and have the same position, become one."""
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
        missing = self.log.cache.events[len(self._items) :]
        if missing:
            self._items.extend(self.encoding.items(missing))
