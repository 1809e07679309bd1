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
from twisted_chat.core.rooms import Rooms
from twisted_chat.limits import RoomPolicies, RoomPolicy
from twisted_chat.store_contract import Aged, LogStore

_DAY_MS = 86_400_000
#: The lease of the node that does it, in seconds: two rounds, so that the same one goes on, and another one soon where it has died.
LEASE, LEASE_SECONDS = "retention", 600.0
#: Rooms in one slice of a round, some 2 ms; then everybody else has a turn.
SLICE_ROOMS = 500


class Retention:
    """Applies ``keep_events`` and ``keep_days`` of the room policies.

    :param take_grown: the names of the rooms whose logs have grown since the last call.
    :param removed: told of each room and the first number that it has now.
    :param now_seconds: the wall clock, seconds since 1970.
    :param at_next: calls what it is given in the next turn of the reactor.
    """

    log = Logger()

    def __init__(
        self,
        store: LogStore,
        rooms: Rooms,
        configuration: Configuration,
        take_grown: Callable[[], Set[str]],
        removed: Callable[[str, int], None],
        now_seconds: Callable[[], float],
        at_next: Callable[[Callable[[], None]], None],
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._configuration = configuration
        self._take_grown = take_grown
        self._removed = removed
        self._now_seconds = now_seconds
        self._at_next = at_next
        self._running = False
        #: The policies by which all rooms have been counted; from then on only those that grow.
        self._counted_by: RoomPolicies | None = None
        #: By ``keep_days``: the last room that was older.  Those before it either were purged and are young now, or their policy is
        #: another one.  Once a day all are looked at again, because a clock may have been put back.
        self._seen: dict[float, Aged] = {}
        self._seen_by: RoomPolicies | None = None
        self._seen_since = 0

    def apply(self) -> Deferred[None]:
        """One round; fires when it is over, at once if one is running already.  Of several nodes one does it."""
        return succeed(None) if self._running else Deferred.fromCoroutine(self._apply())

    async def _apply(self) -> None:
        self._running = True
        try:
            if await self._store.lease(LEASE, LEASE_SECONDS):
                await self._apply_numbers()
                await self._apply_ages()
        except Exception:
            self.log.failure("Retention failed")
            self._counted_by = self._seen_by = None
        finally:
            self._running = False

    async def _apply_numbers(self) -> None:
        """Rooms that keep so many events: those that have grown, or all when the policies are new."""
        grown = self._take_grown()
        policies = self._configuration.policies
        if not any(policy.keep_events for policy in _all(policies)):
            return
        if self._counted_by is policies:
            await self._count(grown)
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
        """Rooms that keep events for some days: for each such time those whose oldest event has become older since the last round."""
        policies, now = self._configuration.policies, int(self._now_seconds() * 1000)
        if policies is not self._seen_by or not self._seen_since <= now < self._seen_since + _DAY_MS:
            self._seen, self._seen_by, self._seen_since = {}, policies, now
        for days in sorted({policy.keep_days for policy in _all(policies) if policy.keep_days}):
            await self._apply_age(days, now - int(days * _DAY_MS))

    async def _apply_age(self, days: float, before: int) -> None:
        full = True
        while full:
            found: list[Aged] = await self._store.aged(before, self._seen.get(days), SLICE_ROOMS)
            for aged in found:
                policy = self._configuration.policy(aged.room)
                if policy.keep_days == days:
                    await self._purge(aged.room, policy)
            if found:
                self._seen[days] = found[-1]
            full = len(found) == SLICE_ROOMS
            if full:
                await self._pause()

    async def _purge(self, name: str, policy: RoomPolicy) -> None:
        if not policy.durable:
            return
        now = int(self._now_seconds() * 1000)
        oldest = now - int(policy.keep_days * _DAY_MS) if policy.keep_days else None
        record = await self._store.purge(name, policy.keep_events or None, oldest)
        self._removed(record.name, record.first)

    def _pause(self) -> Deferred[None]:
        turn: Deferred[None] = Deferred()
        self._at_next(lambda: turn.callback(None))
        return turn


def _all(policies: RoomPolicies) -> Iterable[RoomPolicy]:
    return (*policies.table.values(), policies.default)
