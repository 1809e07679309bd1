"""What has to be looked at from time to time: tokens revoked and rooms archived elsewhere, what retention lets go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_chat.core.chat import Chat
from twisted_chat.interfaces import RoomStore, TokenRecord, TokenStore

#: Seconds between two looks for revoked tokens; a connection has to end within 5 s of the revocation, by whatever process.
REVOCATION_SECONDS = 2.0
#: Milliseconds by which the looks overlap, for a revocation that was written while we looked.
REVOCATION_OVERLAP_MS = 5_000
#: Seconds between two looks who has tokens: their names are theirs, and pages from disk are no longer welcome.
BEARERS_SECONDS = 15.0
#: Seconds between two looks which rooms another process has made or archived.
ROOMS_SECONDS = 3.0
#: Rooms in one look, some 10 ms; the rest comes with the next.
ROOMS_TOLD = 1_000
#: Seconds between two rounds of retention, which is counted in days.
RETENTION_SECONDS = 300.0


class PeriodicTask(Service):
    """Calls ``work`` every ``seconds``; a failure is logged once, until it has worked again, and does not end it."""

    log = Logger()

    def __init__(self, clock: IReactorTime, seconds: float, name: str, work: Callable[[], Deferred[None] | None]) -> None:
        self.setName(name)
        self._seconds = seconds
        self._work = work
        self._failing = False
        self._loop = LoopingCall(self._round)
        self._loop.clock = clock

    def startService(self) -> None:
        super().startService()
        self._loop.start(self._seconds, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    async def _once(self) -> None:
        try:
            await (self._work() or _nothing())
            self._failing = False
        except Exception:
            if not self._failing:
                self.log.failure("{chore}: the periodic task failed; it is tried again", chore=self.name)
            self._failing = True

    def _round(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._once())


async def _nothing() -> None:
    """For work that is done at once."""


def revocation(store: TokenStore, core: Chat, clock: IReactorTime, now_seconds: Callable[[], float]) -> PeriodicTask:
    """Ends the connections of tokens that were revoked, also by another process."""
    seen_until = int(now_seconds() * 1000)

    async def look() -> None:
        nonlocal seen_until
        now = int(now_seconds() * 1000)
        core.sessions.end_tokens(await store.revoked_since(seen_until - REVOCATION_OVERLAP_MS))
        seen_until = now

    return PeriodicTask(clock, REVOCATION_SECONDS, "revocation", lambda: Deferred.fromCoroutine(look()))


def bearers(store: TokenStore, clock: IReactorTime, seen: Callable[[Sequence[TokenRecord]], None]) -> PeriodicTask:
    """Tells ``seen`` who has a token, also those that another process made."""

    known: Sequence[TokenRecord] = ()

    async def look() -> None:
        nonlocal known
        tokens = await store.list_tokens()
        if tokens != known:
            known = tokens
            seen(tokens)

    return PeriodicTask(clock, BEARERS_SECONDS, "bearers", lambda: Deferred.fromCoroutine(look()))


def rooms(store: RoomStore, core: Chat, clock: IReactorTime, since: int) -> PeriodicTask:
    """Tells the hub of rooms that another process made, archived or opened again.

    :param since: the number of the last change that the hub knows.
    """

    async def look() -> None:
        nonlocal since
        news = await store.room_news(since, ROOMS_TOLD)
        core.rooms.learn(news.archived)
        since = news.number

    return PeriodicTask(clock, ROOMS_SECONDS, "rooms", lambda: Deferred.fromCoroutine(look()))


def retention(core: Chat, clock: IReactorTime) -> PeriodicTask:
    """Lets the store forget what the rooms' policies do not keep."""
    return PeriodicTask(clock, RETENTION_SECONDS, "retention", lambda: core.retention.apply())
