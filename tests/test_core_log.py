"""The window of cache events."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.core.log import OVERHEAD, EventCache, weigh
from twisted_chat.events import Author, Deleted, Edited, Event, Message, Reacted

ANN = Author("u1", "ann")


def message(seq: int, text: str | None = "x", data: bytes | None = None) -> Message:
    return Message(seq, f"x-{seq}", 0, ANN, None, text, data)


class LookedAt(list[Event]):
    """A list that remembers the indexes at which it is read."""

    def __init__(self, events: Iterable[Event]) -> None:
        super().__init__(events)
        self.looks: set[object] = set()

    def __getitem__(self, index: Any) -> Any:
        self.looks.add(index)
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Event]:
        self.looks.update(range(len(self)))
        return super().__iter__()


class RecentTests(SynchronousTestCase):
    def test_it_ends_at_the_head(self) -> None:
        """``after`` gives the place to read on from, or None for what has been forgotten."""
        cache = EventCache(10, 100, 1_000_000)

        self.assertEqual((cache.base, cache.after(10), cache.after(9)), (11, 0, None))

        cache.extend([message(11), message(12)])
        self.assertEqual([cache.after(position) for position in (9, 10, 11, 12)], [None, 0, 1, 2])

    def test_it_is_bounded_by_number_and_bytes(self) -> None:
        """The ring is bounded by number and bytes, and is always the end of the log, which a list keeps whole."""
        rng = random.Random(5)
        for max_events, max_bytes in ((10, 1_000_000), (1_000, 10_000), (1, 1), (7, 3_000)):
            cache, log = EventCache(0, max_events, max_bytes), list[Event]()
            for _ in range(200):
                new = [message(len(log) + place + 1, "x" * rng.choice((1, 50, 3_000))) for place in range(rng.randint(1, 4))]
                log += new
                cache.extend(new)
                if cache.full:
                    cache.trim()
                self.assertEqual(cache.events, log[cache.base - 1 :])
                self.assertEqual(cache.base + len(cache.events), len(log) + 1)
                self.assertLessEqual(len(cache.events), max_events)
                self.assertLessEqual(sum(map(weigh, cache.events)), max_bytes)
                self.assertEqual(cache.weight, sum(map(weigh, cache.events)))

    def test_forget(self) -> None:
        """A cleared cache has no events, but knows the number after which it continues."""
        cache = EventCache(0, 100, 1_000_000)

        cache.extend([message(1), message(2)])
        cache.clear()

        self.assertEqual((cache.events, cache.weight, cache.base, cache.after(2), cache.after(1)), ([], 0, 3, 0, None))

    def test_what_was_deleted_leaves_it(self) -> None:
        """The message and its edits keep their numbers and lose their content; nothing else changes."""
        cache = EventCache(0, 100, 1_000_000)
        edited = Edited(seq=3, id="x-3", at=0, by=ANN, of=1, revision=2, text="secret, too")
        other = Edited(seq=4, id="x-4", at=0, by=ANN, of=2, revision=2, text="other")
        reacted = Reacted(seq=5, id="x-5", at=0, by=ANN, of=1, emoji="x", on=True)
        deleted = Deleted(seq=6, id="x-6", at=0, by=ANN, of=1)

        cache.extend([message(1, "secret"), message(2), edited, other, reacted, deleted])

        self.assertEqual(cache.replace_deleted(deleted), [0, 2])
        self.assertNotIn("secret", repr(cache.events))
        self.assertEqual(cache.events[1::2] + cache.events[4:5], [message(2), other, deleted, reacted])
        self.assertEqual([event.seq for event in cache.events], [1, 2, 3, 4, 5, 6])
        self.assertEqual(cache.replace_deleted(Deleted(seq=7, id="x-7", at=0, by=ANN, of=99)), [])

    def test_a_deletion_looks_only_at_what_it_changes(self) -> None:
        """Not at all of the window: with 8,000 events in it that took 4.6 ms of the reactor's time."""
        for others in (10, 1_000):
            cache = EventCache(0, 100_000, 1_000_000_000)
            edited = Edited(seq=2, id="x-2", at=0, by=ANN, of=1, revision=2, text="secret, too")
            cache.extend([message(1, "secret"), edited, *(message(seq) for seq in range(3, others))])
            cache.events = looked_at = LookedAt(cache.events)

            self.assertEqual(cache.replace_deleted(Deleted(seq=others, id="x", at=0, by=ANN, of=1)), [0, 1])
            self.assertEqual(looked_at.looks, {0, 1})

    def test_edits_that_left_the_window_are_not_looked_for(self) -> None:
        """A deletion erases the edits that are still cached, and ignores those that are not."""
        cache = EventCache(0, 4, 1_000_000)
        edits = [Edited(seq=seq, id="x", at=0, by=ANN, of=1, revision=seq, text="secret") for seq in range(2, 7)]

        cache.extend([message(1), *edits])
        cache.trim()

        self.assertEqual(cache.replace_deleted(Deleted(seq=7, id="x", at=0, by=ANN, of=1)), [0, 1])
        self.assertNotIn("secret", repr(cache.events))

        cache.clear()

        self.assertEqual(cache.replace_deleted(Deleted(seq=7, id="x", at=0, by=ANN, of=1)), [])

    def test_weights(self) -> None:
        """The weight of an event is a constant and the bytes of its content."""
        self.assertEqual([weigh(message(1, "ab")) - OVERHEAD, weigh(message(1, None, b"abc")) - OVERHEAD], [2, 3])
