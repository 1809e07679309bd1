"""Periodic tasks: notice tokens and rooms that other processes changed, and remove events that retention does not keep."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_chat.core.accounts import Accounts
from twisted_chat.core.chat import Chat
from twisted_chat.errors import Unavailable
from twisted_chat.standings import StandingStore
from twisted_chat.store_contract import RoomStore, TokenRecord, TokenStore

#: Seconds between two checks for revoked tokens; a connection must end within 2 s of the revocation, whatever process revoked.
REVOCATION_SECONDS = 1.0
#: Revocations in one read.
REVOCATIONS_READ = 1_000
#: Seconds for which connections of a revoked token are looked for: one whose token was checked just before begins a moment later.
REVOKED_SECONDS = 60.0
#: Seconds between two checks who has tokens: their names are reserved, and pages opened from disk are no longer accepted.
BEARERS_SECONDS = 15.0
#: Seconds between two checks which rooms another process has created or archived; an archived one must be closed within 2 s.
ROOMS_SECONDS = 1.0
#: Rooms in one check, some 10 ms; the next check continues.
ROOMS_TOLD = 1_000
#: Seconds between two checks what another process has changed of members and sanctions, which must hold within 1 s.
STANDINGS_SECONDS = 0.5
#: Standings in one read; while there are more the next read follows at once.
STANDINGS_READ = 1_000
#: Seconds between two rounds of retention, whose unit is days.
RETENTION_SECONDS = 300.0


class PeriodicTask(Service):
    """Calls ``work`` every ``seconds``, also after failures; of several failures in a row only the first is logged."""

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
        except Unavailable as error:
            if not self._failing:
                self.log.warn("{chore}: waits for the store: {reason}", chore=self.name, reason=error.message)
            self._failing = True
        except Exception:
            if not self._failing:
                self.log.failure("{chore}: the periodic task failed; it is tried again", chore=self.name)
            self._failing = True

    def _round(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._once())


async def _nothing() -> None:
    """The result of work that is done synchronously."""


def revocation(store: TokenStore, core: Chat, clock: IReactorTime) -> PeriodicTask:
    """Close the connections of tokens that were revoked, also by another process, whatever its clock says."""
    since = 0
    recent: deque[tuple[float, str]] = deque()

    async def look() -> None:
        nonlocal since
        count = REVOCATIONS_READ
        while count == REVOCATIONS_READ:
            found = await store.revocations(since, REVOCATIONS_READ)
            since, count = found.number, len(found.tokens)
            recent.extend((clock.seconds(), token) for token in found.tokens)
        while recent and clock.seconds() - recent[0][0] > REVOKED_SECONDS:
            recent.popleft()
        core.sessions.end_tokens([token for _, token in recent])

    return PeriodicTask(clock, REVOCATION_SECONDS, "revocation", lambda: Deferred.fromCoroutine(look()))


def bearers(store: TokenStore, clock: IReactorTime, seen: Callable[[Sequence[TokenRecord]], None]) -> PeriodicTask:
    """Tell ``seen`` who has a token, also one that another process made."""

    known: Sequence[TokenRecord] = ()

    async def look() -> None:
        nonlocal known
        tokens = await store.list_tokens()
        if tokens != known:
            known = tokens
            seen(tokens)

    return PeriodicTask(clock, BEARERS_SECONDS, "bearers", lambda: Deferred.fromCoroutine(look()))


def accounts(known: Accounts, clock: IReactorTime) -> PeriodicTask:
    """Learn of accounts that another process made or renamed: no guest may have their names."""
    return PeriodicTask(clock, BEARERS_SECONDS, "accounts", lambda: Deferred.fromCoroutine(known.look()))


def rooms(store: RoomStore, core: Chat, clock: IReactorTime, since: int) -> PeriodicTask:
    """Tell the chat of rooms that another process created, archived or opened again.

    :param since: the number of the last change that the chat knows.
    """

    async def look() -> None:
        nonlocal since
        news = await store.room_news(since, ROOMS_TOLD)
        core.rooms.learn(news.archived, news.settings)
        since = news.number

    return PeriodicTask(clock, ROOMS_SECONDS, "rooms", lambda: Deferred.fromCoroutine(look()))


def standings(store: StandingStore, core: Chat, clock: IReactorTime, since: int) -> PeriodicTask:
    """Tell the chat of roles, mutes and bans that other processes changed.

    :param since: the number of the last change before the chat was opened.
    """

    async def look() -> None:
        nonlocal since
        count = STANDINGS_READ
        while count == STANDINGS_READ:
            news = await store.standing_news(since, STANDINGS_READ)
            since, count = news.number, len(news.standings)
            core.roles.learn(news.standings)

    return PeriodicTask(clock, STANDINGS_SECONDS, "standings", lambda: Deferred.fromCoroutine(look()))


def retention(core: Chat, clock: IReactorTime) -> PeriodicTask:
    """Remove events from the store that the rooms' policies do not keep."""
    return PeriodicTask(clock, RETENTION_SECONDS, "retention", lambda: core.retention.apply())
