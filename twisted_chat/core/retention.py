"""Retention: the store removes the oldest events of rooms whose policy does not keep all of them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from twisted_chat.core.configuration import Configuration
from twisted_chat.core.rooms import Rooms
from twisted_chat.interfaces import LogStore, RoomRecord

_DAY_MS = 86_400_000


class Retention:
    """Applies ``keep_events`` and ``keep_days`` of the room policies.

    :param now_seconds: the wall clock, seconds since 1970.
    """

    log = Logger()

    def __init__(self, store: LogStore, rooms: Rooms, configuration: Configuration, now_seconds: Callable[[], float]) -> None:
        self._store = store
        self._rooms = rooms
        self._configuration = configuration
        self._now_seconds = now_seconds

    def apply(self) -> None:
        """Begin one round over all rooms."""
        now_ms = int(self._now_seconds() * 1000)
        for name in self._rooms.names:
            policy = self._configuration.policy(name)
            if policy.durable and (policy.keep_events or policy.keep_days):
                oldest = now_ms - int(policy.keep_days * _DAY_MS) if policy.keep_days else None
                purge = self._store.purge(name, policy.keep_events or None, oldest)
                purge.addCallback(self._purged)
                purge.addErrback(lambda failure: self.log.failure("Retention failed", failure))

    def _purged(self, record: RoomRecord) -> None:
        room = self._rooms.in_memory(record.name)
        if room is not None:
            room.events_removed(record)
