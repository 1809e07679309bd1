"""What people are in rooms: the part of the store that only asks the table of standings."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred

from twisted_chat.standings import Standing, StandingNews
from twisted_chat.stores.sqlite import standings

T = TypeVar("T")


class Asking(ABC):
    """The standings of the store contract; how a reader is asked says the store."""

    @abstractmethod
    def _read(self, question: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        """Ask it in a reader's thread."""

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
