"""The part of the store that answers questions about standings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred

from twisted_chat.standings import Standing, StandingNews
from twisted_chat.stores.postgresql import standings
from twisted_chat.stores.postgresql.connection import Connection

T = TypeVar("T")


class StandingReads:
    """Implements :class:`StandingStore <twisted_chat.standings.StandingStore>` by questions that a subclass asks in a thread."""

    def _read(self, question: Callable[[Connection], T]) -> Deferred[T]:
        raise NotImplementedError

    def standings(self, person: str) -> Deferred[list[Standing]]:
        return self._read(lambda connection: standings.of_person(connection, person))

    def standing(self, room: str, person: str) -> Deferred[Standing]:
        return self._read(lambda connection: standings.one(connection, room, person))

    def members(self, room: str, search: str, after: tuple[int, str, str] | None, limit: int) -> Deferred[list[Standing]]:
        return self._read(lambda connection: standings.members(connection, room, search, after, limit))

    def sanctions(self, room: str) -> Deferred[list[Standing]]:
        return self._read(lambda connection: standings.sanctions(connection, room))

    def all_sanctions(self, now_ms: int) -> Deferred[list[Standing]]:
        return self._read(lambda connection: standings.all_sanctions(connection, now_ms))

    def standing_news(self, since: int, limit: int) -> Deferred[StandingNews]:
        return self._read(lambda connection: standings.news(connection, since, limit))
