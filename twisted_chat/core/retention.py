"""Retention: the store removes the oldest events of rooms whose policy does not keep all of them.

Only rooms that may have something to remove are looked at: by number those that have grown since the last round, by age those that
the store finds by the time of their oldest event.  A look over all rooms, with a call of the store for each, blocked everybody for
36 s and took 2 GB with 100,000 rooms in which nothing was to be removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from twisted_chat.core.configuration import Configuration
from twisted_chat.core.room import Room
from twisted_chat.core.rooms import Rooms
from twisted_chat.interfaces import Aged, LogStore
from twisted_chat.limits import RoomPolicies, RoomPolicy

_DAY_MS = 86_400_000
#: Rooms in one slice of a round, some 2 ms; then everybody else has a turn.
SLICE_ROOMS = 500


class Retention:
    """Applies ``keep_events`` and ``keep_days`` of the room policies.

    :param take_grown: the rooms whose logs have grown since the last call.
    :param now_seconds: the wall clock, seconds since 1970.
    :param at_next: calls what it is given in the next turn of the reactor.
    """

    log = Logger()

    def __init__(
        self,
        store: LogStore,
        rooms: Rooms,
        configuration: Configuration,
        take_grown: Callable[[], Set[Room]],
        now_seconds: Callable[[], float],
        at_next: Callable[[Callable[[], None]], None],
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._configuration = configuration
        self._take_grown = take_grown
        self._now_seconds = now_seconds
        self._at_next = at_next
        self._running = False
        #: The policies by which all rooms have been counted; from then on only those that grow.
        self._counted_by: RoomPolicies | None = None

    def apply(self) -> Deferred[None]:
        """One round; fires when it is over, at once if one is running already."""
        return succeed(None) if self._running else Deferred.fromCoroutine(self._apply())

    async def _apply(self) -> None:
        self._running = True
        try:
            await self._apply_numbers()
            await self._apply_ages()
        except Exception:
            self.log.failure("Retention failed")
            self._counted_by = None
        finally:
            self._running = False

    async def _apply_numbers(self) -> None:
        """Rooms that keep so many events: those that have grown, or all when the policies are new."""
        grown = self._take_grown()
        policies = self._configuration.policies
        if not any(policy.keep_events for policy in _all(policies)):
            return
        if self._counted_by is policies:
            await self._count([room.name for room in grown])
            return
        names = self._rooms.names_after("", SLICE_ROOMS)
        while names:
            await self._count(names)
            names = self._rooms.names_after(names[-1], SLICE_ROOMS)
        self._counted_by = policies

    async def _count(self, names: Iterable[str]) -> None:
        for number, name in enumerate(names, 1):
            policy = self._configuration.policy(name)
            if policy.keep_events and self._rooms.kept(name) > policy.keep_events:
                await self._purge(name, policy)
            if not number % SLICE_ROOMS:
                await self._pause()

    async def _apply_ages(self) -> None:
        """Rooms that keep events for some days: those whose oldest event is older than the shortest of these times."""
        policies = self._configuration.policies
        days = [policy.keep_days for policy in _all(policies) if policy.keep_days]
        if not days:
            return
        before = self._oldest(min(days))
        found: list[Aged] = await self._store.aged(before, None, SLICE_ROOMS)
        while found:
            for aged in found:
                policy = self._configuration.policy(aged.room)
                if policy.keep_days and aged.at < self._oldest(policy.keep_days):
                    await self._purge(aged.room, policy)
            if len(found) < SLICE_ROOMS:
                break
            await self._pause()
            found = await self._store.aged(before, found[-1], SLICE_ROOMS)

    async def _purge(self, name: str, policy: RoomPolicy) -> None:
        if not policy.durable:
            return
        oldest = self._oldest(policy.keep_days) if policy.keep_days else None
        self._rooms.events_removed(await self._store.purge(name, policy.keep_events or None, oldest))

    def _oldest(self, days: float) -> int:
        return int(self._now_seconds() * 1000) - int(days * _DAY_MS)

    def _pause(self) -> Deferred[None]:
        turn: Deferred[None] = Deferred()
        self._at_next(lambda: turn.callback(None))
        return turn


def _all(policies: RoomPolicies) -> Iterable[RoomPolicy]:
    return (*policies.table.values(), policies.default)
