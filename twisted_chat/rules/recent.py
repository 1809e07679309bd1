"""The recent events of a room, ready for readers that are a little behind (design decision 5)."""

from __future__ import annotations

from collections.abc import Sequence

from twisted_chat.words.events import Deleted, Edited, Event, Message

#: Bytes that an event costs beside its content (objects, list entries, the frame's header), measured with ``tracemalloc``.
OVERHEAD = 400


class Recent:
    """A window of the log that ends at its head.

    :ivar base: the number of the first event here; the window covers ``base`` … ``base + len(events) - 1``.
    :ivar weight: bytes, roughly.
    """

    __slots__ = ("_max_bytes", "_max_events", "base", "events", "weight")

    def __init__(self, head: int, max_events: int, max_bytes: int) -> None:
        self.base = head + 1
        self.events: list[Event] = []
        self.weight = 0
        self._max_events = max_events
        self._max_bytes = max_bytes

    def extend(self, events: Sequence[Event]) -> None:
        """Take the next events; forget the oldest when there are too many."""
        self.events.extend(events)
        self.weight += OVERHEAD * len(events) + sum(
            [len(event.text) if type(event) is Message and event.text is not None else weigh(event) for event in events]
        )
        if self.weight > self._max_bytes or len(self.events) > self._max_events:
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
        return changed

    def _trim(self, max_events: int, max_bytes: int) -> None:
        # Down to half at once: deleting from the front of a list moves the rest, so it must be rare.
        weight, keep = 0, len(self.events)
        for index in range(len(self.events) - 1, -1, -1):
            weight += weigh(self.events[index])
            if weight > max_bytes or len(self.events) - index > max_events:
                break
            keep = index
        else:
            keep = 0
        del self.events[:keep]
        self.base += keep
        self.weight = sum([weigh(event) for event in self.events])


def weigh(event: Event) -> int:
    """Bytes of memory that keeping ``event`` ready costs, roughly."""
    if type(event) is Message:
        if event.text is not None:
            return OVERHEAD + len(event.text)
        if event.data is not None:
            return OVERHEAD + len(event.data)
    return OVERHEAD
