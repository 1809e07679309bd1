"""The recent events of a room, ready for readers that are a little behind (design decision 5)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from twisted_chat.events import Deleted, Edited, Event, Message

#: Bytes that an event costs beside its content (objects, list entries, the frame's header), measured with ``tracemalloc``.
OVERHEAD = 400


class EventCache:
    """A window of the log that ends at its head.

    :ivar base: the number of the first event here; the window covers ``base`` … ``base + len(events) - 1``.
    :ivar weight: bytes, roughly.
    """

    __slots__ = ("_max_bytes", "_max_events", "_weights", "base", "events", "weight")

    def __init__(self, head: int, max_events: int, max_bytes: int) -> None:
        self.base = head + 1
        self.events: list[Event] = []
        self._weights: list[int] = []
        self.weight = 0
        self._max_events = max_events
        self._max_bytes = max_bytes

    def extend(self, events: Sequence[Event]) -> None:
        """Take the next events; the caller forgets the oldest when there are too many."""
        self.events.extend(events)
        weights = [
            OVERHEAD + len(event.text) if type(event) is Message and event.text is not None else weigh(event) for event in events
        ]
        self._weights.extend(weights)
        self.weight += sum(weights)

    @property
    def full(self) -> bool:
        """Whether it is time to :meth:`trim`."""
        return self.weight > self._max_bytes or len(self.events) > self._max_events

    def trim(self) -> None:
        """Forget the oldest, down to half of what is allowed."""
        self._trim(self._max_events // 2, self._max_bytes // 2)

    def after(self, position: int) -> int | None:
        """Where in ``events`` the reading goes on after number ``position``; None if that has been forgotten."""
        return position + 1 - self.base if position + 1 >= self.base else None

    def forget(self) -> None:
        """Give the memory back; everything can be read from the store."""
        self._trim(0, 0)

    def replace_deleted(self, deleted: Deleted) -> list[int]:
        """The content of a deleted message leaves the window too; answers the places that changed."""
        changed = []
        for index, event in enumerate(self.events):
            match event:
                case Message() if event.seq == deleted.of and not event.gone:
                    self.events[index] = Message(event.seq, event.id, event.at, event.by, event.key, gone=True)
                case Edited() if event.of == deleted.of:
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
        del self.events[:gone], self._weights[:gone]
        self.base += gone
        self.weight -= sums[gone]


def weigh(event: Event) -> int:
    """Bytes of memory that keeping ``event`` ready costs, roughly."""
    if type(event) is Message:
        if event.text is not None:
            return OVERHEAD + len(event.text)
        if event.data is not None:
            return OVERHEAD + len(event.data)
    return OVERHEAD
