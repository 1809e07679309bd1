"""The end of a room's log as this process knows it: its numbers, and a cache of its newest events.

In:   events that the store (or an ephemeral room) has numbered, in order (:meth:`RoomLog.append`).
Out:  head and first number; events after a position, out of the cache or by a read of the store.

It does not know who reads it: subscriptions, broadcasts and rooms stand above it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol

from twisted.internet.defer import Deferred

from twisted_chat.events import Deleted, Edited, Event, Message
from twisted_chat.limits import Limits
from twisted_chat.store_contract import RoomRecord

#: Bytes that an event costs beside its content (objects, list entries, the frame's header), measured with ``tracemalloc``.
OVERHEAD = 400

#: Reads the log of a room after a number: the store's ``read`` with its bounds filled in.
ReadLog = Callable[[str, int], "Deferred[list[Event]]"]


class ReadLogPart(Protocol):
    """Reads events of a room after a number: at most ``most``, and as many as one read gives."""

    def __call__(self, room: str, after: int, most: int = ..., /) -> Deferred[list[Event]]: ...


class EventCache:
    """A window of the log that ends at its head.

    :ivar base: the number of the first event here; the window covers ``base`` … ``base + len(events) - 1``.
    :ivar weight: approximate bytes of memory.
    """

    __slots__ = ("_edits", "_max_bytes", "_max_events", "_weights", "base", "events", "weight")

    def __init__(self, head: int, max_events: int, max_bytes: int) -> None:
        self.base = head + 1
        self.events: list[Event] = []
        self._weights: list[int] = []
        #: The numbers of the edits here, by the number of their message.
        self._edits: dict[int, list[int]] = {}
        self.weight = 0
        self._max_events = max_events
        self._max_bytes = max_bytes

    def configure(self, limits: Limits) -> None:
        """Go on with other bounds; a cache that is too large for them is trimmed with the next events."""
        self._max_events = limits.recent_events
        self._max_bytes = limits.recent_bytes

    def extend(self, events: Sequence[Event]) -> None:
        """Add the next events; the caller trims when there are too many."""
        self.events.extend(events)
        weights = [
            OVERHEAD + len(event.text) if type(event) is Message and event.text is not None else self._note(event)
            for event in events
        ]
        self._weights.extend(weights)
        self.weight += sum(weights)

    def _note(self, event: Event) -> int:
        if type(event) is Edited:
            self._edits.setdefault(event.of, []).append(event.seq)
        return weigh(event)

    @property
    def full(self) -> bool:
        """Whether it is time to :meth:`trim`."""
        return self.weight > self._max_bytes or len(self.events) > self._max_events

    def trim(self) -> None:
        """Drop the oldest events, down to half of what is allowed."""
        self._trim(self._max_events // 2, self._max_bytes // 2)

    def after(self, position: int) -> int | None:
        """The index in ``events`` of the first event after number ``position``; None if that has been dropped."""
        return position + 1 - self.base if position + 1 >= self.base else None

    def clear(self) -> None:
        """Free the memory; everything can be read from the store."""
        self._trim(0, 0)

    def restart(self, seq: int) -> None:
        """Drop everything; the next event has the number ``seq``."""
        self.clear()
        self.base = seq

    def edits_of(self, seq: int) -> int:
        """How many edits of that message are here."""
        return len(self._edits.get(seq, ()))

    def replace_deleted(self, deleted: Deleted) -> list[int]:
        """Remove the content of a deleted message and of its edits, found by their numbers; answers the indexes that changed."""
        changed = []
        for seq in (deleted.of, *self._edits.pop(deleted.of, ())):
            index = seq - self.base
            if not 0 <= index < len(self.events):
                continue
            match event := self.events[index]:
                case Message() if not event.gone:
                    self.events[index] = Message(event.seq, event.id, event.at, event.by, event.key, gone=True)
                case Edited():
                    self.events[index] = Edited(
                        seq=event.seq, id=event.id, at=event.at, by=event.by, key=event.key, of=event.of, revision=event.revision
                    )
                case _:
                    continue
            changed.append(index)
            self._reweigh(index)
        return changed

    def _reweigh(self, index: int) -> None:
        weight = weigh(self.events[index])
        self.weight += weight - self._weights[index]
        self._weights[index] = weight

    def _trim(self, max_events: int, max_bytes: int) -> None:
        # Down to half at once: deleting from the front of a list moves the rest, so it must be rare.
        gone = len(self.events) - max_events if len(self.events) > max_events else 0
        sums = list(accumulate(self._weights, initial=0))
        gone = max(gone, bisect_left(sums, sums[-1] - max_bytes))
        edited = {event.of for event in self.events[:gone] if type(event) is Edited}
        del self.events[:gone], self._weights[:gone]
        self.base += gone
        for of in edited & self._edits.keys():
            seqs = self._edits[of]
            del seqs[: bisect_left(seqs, self.base)]
            if not seqs:
                del self._edits[of]
        self.weight -= sums[gone]


class RoomLog:
    """What this process knows of one room's log.

    :ivar head: the newest number; ``head_id`` the id of that event; ``first`` the oldest number that is kept.
    :ivar durable: False: the events are in the cache only, and older ones are gone.
    :ivar dropped: deliveries that were lost because a reader of an ephemeral room was slow.
    """

    __slots__ = ("_read", "_read_in_turn", "cache", "dropped", "durable", "epoch", "first", "head", "head_id", "name")

    def __init__(
        self,
        record: RoomRecord,
        epoch: str,
        durable: bool,
        limits: Limits,
        read: ReadLogPart,
        read_in_turn: ReadLog | None = None,
    ) -> None:
        self.name = record.name
        self.epoch = epoch
        self.durable = durable
        self.first = record.first
        self.head = record.head
        self.head_id = record.head_id
        self.cache = EventCache(record.head, limits.recent_events, limits.recent_bytes)
        self.dropped = 0
        self._read = read
        self._read_in_turn = read_in_turn or read

    def append(self, events: Sequence[Event]) -> None:
        """Add the next events; an ``AssertionError`` if the numbers do not go on from the head."""
        if events[0].seq != self.head + 1:
            raise AssertionError(f"{self.name}: announced {events[0].seq} after {self.head}")
        self.head, self.head_id = events[-1].seq, events[-1].id
        self.cache.extend(events)

    def skip_to(self, seq: int) -> None:
        """The events before number ``seq`` are gone from the store: the log goes on there."""
        self.head = seq - 1
        self.head_id = ""
        self.cache.restart(seq)

    def read(self, after: int, most: int | None = None) -> Deferred[list[Event]]:
        """Events after that number from the store, oldest first; at most so many, and as many as one read gives."""
        return self._read(self.name, after) if most is None else self._read(self.name, after, most)

    def read_in_turn(self, after: int) -> Deferred[list[Event]]:
        """The same for readers that are behind, who take turns."""
        return self._read_in_turn(self.name, after)


def weigh(event: Event) -> int:
    """Approximate bytes of memory that an event in the cache costs."""
    if type(event) is Message:
        if event.text is not None:
            return OVERHEAD + len(event.text)
        if event.data is not None:
            return OVERHEAD + len(event.data)
    return OVERHEAD
