"""The entries of a page of history, chosen in the same way for every store.

A page is cut at a pivot: entries up to it, newest first, and entries after it, oldest first.  A store fetches one more of each than
can be shown, and :func:`cut` returns the entries to show and whether there are more on either side.  Neither long texts nor reactions
make a page larger than :data:`PAGE_BYTES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from msgspec import Struct
from msgspec.json import encode

from twisted_chat.events import Edited, Event, Message, Reaction, TopicSet

#: Greater than the number of any event (JavaScript has no exact integers beyond 2^53).
END = 2**53

#: Approximate bytes of the largest page: clients accept it in one frame, and it delays others by a few milliseconds only.
PAGE_BYTES = 1_000_000
#: People named for each emoji, as many as a tooltip can show.  The names of a million people took 29 MB and 3 s.
NAMES = 50
#: Bytes of an emoji and of a usual id as JSON.
EMOJI_BYTES, NAME_BYTES = 60, 30

T = TypeVar("T")


class Place(Struct, frozen=True):
    """Where a page is cut: at most ``older`` entries with numbers up to ``pivot``, and at most ``newer`` after it."""

    pivot: int
    older: int
    newer: int


def place(limit: int, before: int | None, after: int | None, around: int | None) -> Place:
    """The place that a reader asks for; by default, the newest entries."""
    if around is not None:
        return Place(around, limit, limit)
    if after is not None:
        return Place(after, 0, limit)
    return Place(END if before is None else before - 1, limit, 0)


def cut(
    where: Place, limit: int, older: Sequence[T], newer: Sequence[T], weigh: Callable[[T], int]
) -> tuple[list[T], bool, bool]:
    """The entries to show, oldest first; whether there are older ones; whether there are newer ones.

    :param older: up to ``where.older + 1`` entries up to the pivot, newest first.
    :param newer: up to ``where.newer + 1`` entries after the pivot, oldest first.
    :param weigh: bytes of an entry; from the pivot outwards, the first is shown and as many more as :data:`PAGE_BYTES` allow.
    """
    behind = min(len(newer), where.newer, limit // 2 if where.older else limit)
    up_to = min(len(older), where.older, limit - behind)
    behind = min(len(newer), where.newer, limit - up_to)
    up_to, behind = _lighten(older[:up_to], newer[:behind], weigh)
    shown = [*reversed(older[:up_to]), *newer[:behind]]
    return shown, len(older) > up_to, len(newer) > behind


def _lighten(older: Sequence[T], newer: Sequence[T], weigh: Callable[[T], int]) -> tuple[int, int]:
    """How many of each fit into a page, taken from the pivot outwards."""
    up_to = behind = weight = 0
    while up_to < len(older) or behind < len(newer):
        backwards = up_to < len(older) and (up_to <= behind or behind == len(newer))
        weight += weigh(older[up_to] if backwards else newer[behind])
        if up_to + behind and weight > PAGE_BYTES:
            break
        if backwards:
            up_to += 1
        else:
            behind += 1
    return up_to, behind


def weigh(event: Event, counts: Mapping[str, int]) -> int:
    """Approximate bytes of an event in a page, with reactions that it does not have yet, by the number of people of each emoji."""
    named = sum(EMOJI_BYTES + NAME_BYTES * min(count, NAMES) for count in counts.values())
    return len(encode(event)) + named


def content_bytes(event: Event) -> int:
    """Bytes of the event's content: text in UTF-8, or data."""
    match event:
        case Message(data=bytes(data)):
            return len(data)
        case Message(text=str(text)) | Edited(text=str(text)) | TopicSet(text=text):
            return len(text) if text.isascii() else len(text.encode())
    return 0


def shorten(emoji: str, first: Sequence[str], count: int, reader: str | None) -> Reaction:
    """A reaction as a page shows it.

    :param first: the first :data:`NAMES` people.
    :param reader: the reader, if one of the people.
    """
    by = tuple(first) if reader is None or reader in first else (*first, reader)
    return Reaction(emoji, by, count if count > len(by) else 0)
