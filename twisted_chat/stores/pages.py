"""Which entries a page of history shows, the same for every store.

A page is cut at a pivot: entries up to it, newest first, and entries behind it, oldest first.  A store fetches one more of
each than can be shown, and :func:`cut` answers what is shown and whether there is more on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from msgspec import Struct

#: Behind every number that a room can reach (2^53 is where JavaScript stops counting).
END = 2**53

T = TypeVar("T")


class Place(Struct, frozen=True):
    """Where a page is cut: at most ``older`` entries with numbers up to ``pivot``, at most ``newer`` behind it."""

    pivot: int
    older: int
    newer: int


def place(limit: int, before: int | None, after: int | None, around: int | None) -> Place:
    """The place that a reader asks for; without one, the newest entries."""
    if around is not None:
        return Place(around, limit, limit)
    if after is not None:
        return Place(after, 0, limit)
    return Place(END if before is None else before - 1, limit, 0)


def cut(where: Place, limit: int, older: Sequence[T], newer: Sequence[T]) -> tuple[list[T], bool, bool]:
    """The entries to show, oldest first; whether there are older ones; whether there are newer ones.

    :param older: up to ``where.older + 1`` entries up to the pivot, newest first.
    :param newer: up to ``where.newer + 1`` entries behind the pivot, oldest first.
    """
    behind = min(len(newer), where.newer, limit // 2 if where.older else limit)
    up_to = min(len(older), where.older, limit - behind)
    behind = min(len(newer), where.newer, limit - up_to)
    shown = [*reversed(older[:up_to]), *newer[:behind]]
    return shown, len(older) > up_to, len(newer) > behind
