"""What is looked at from time to time."""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.logs import LoggedEvents
from twisted_chat.core.chat import Chat
from twisted_chat.errors import Unavailable
from twisted_chat.events import RoomSettings
from twisted_chat.server.maintenance import (
    BEARERS_SECONDS,
    RETENTION_SECONDS,
    REVOCATIONS_READ,
    ROOMS_SECONDS,
    PeriodicTask,
    bearers,
    retention,
    revocation,
    rooms,
)
from twisted_chat.store_contract import Revocations, RoomNews, RoomStore, TokenStore


class FakeChat:
    """The parts of the core that periodic tasks call, each of which only remembers the calls."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.retained = 0
        self.archived: dict[str, bool] = {}
        self.sessions = self.rooms = self.retention = self

    def end_tokens(self, tokens: list[str]) -> None:
        self.ended += tokens

    def learn(self, rooms: dict[str, bool], settings: dict[str, RoomSettings]) -> None:
        self.archived.update(rooms)

    def apply(self) -> None:
        self.retained += 1


class FakeRooms:
    """Rooms that another process archives."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def room_news(self, since: int, limit: int) -> Deferred[RoomNews]:
        self.asked.append(since)
        return succeed(RoomNews(since + 1, {"plans": True}) if since == 7 else RoomNews(since, {}))


class FakeTokens:
    """Tokens that another process revokes."""

    def __init__(self) -> None:
        self.revoked: list[str] = []
        self.broken = False

    def list_tokens(self) -> Deferred[list[str]]:
        return succeed(["a token"])

    def revocations(self, since: int, limit: int) -> Deferred[Revocations]:
        if self.broken:
            return fail(Unavailable("the disk is full"))
        found = tuple(self.revoked[since : since + limit])
        return succeed(Revocations(since + len(found), found))


class ChoreTests(SynchronousTestCase):
    def test_revoked_elsewhere(self) -> None:
        """A token that another process revoked ends its connections within 2 s, and for a minute those that begin; old ones are not
        looked at for ever."""
        clock, core, tokens = Clock(), FakeChat(), FakeTokens()
        clock.advance(1000)
        chore = revocation(cast(TokenStore, tokens), cast(Chat, core), clock)
        chore.startService()
        self.addCleanup(chore.stopService)
        tokens.revoked += ["t1", "t2"]

        clock.pump([0.5] * 4)

        self.assertEqual(set(core.ended), {"t1", "t2"})

        core.ended.clear()
        clock.pump([0.5] * 4)

        self.assertEqual(set(core.ended), {"t1", "t2"})

        clock.pump([0.5] * 140)
        core.ended.clear()
        clock.pump([0.5] * 10)

        self.assertEqual(core.ended, [])

    def test_store_fails_for_a_while(self) -> None:
        """One line in the log, and what was revoked meanwhile is found afterwards."""
        clock, core, tokens = Clock(), FakeChat(), FakeTokens()
        clock.advance(1000)
        chore = revocation(cast(TokenStore, tokens), cast(Chat, core), clock)
        logged = LoggedEvents()
        self.patch(PeriodicTask, "log", Logger(observer=logged))
        chore.startService()
        self.addCleanup(chore.stopService)
        tokens.broken = True

        clock.pump([0.5] * 20)

        self.assertEqual([formatEvent(event) for event in logged], ["revocation: waits for the store: the disk is full"])

        tokens.revoked += ["t1"]
        clock.pump([0.5] * 40)
        tokens.broken = False
        clock.pump([0.5] * 5)

        self.assertEqual(set(core.ended), {"t1"})

    def test_very_many_revoked(self) -> None:
        """All are found in one look, in reads of bounded size."""
        clock, core, tokens = Clock(), FakeChat(), FakeTokens()
        tokens.revoked = [f"t{number}" for number in range(2 * REVOCATIONS_READ + 1)]
        chore = revocation(cast(TokenStore, tokens), cast(Chat, core), clock)
        chore.startService()
        self.addCleanup(chore.stopService)

        clock.pump([0.5] * 4)

        self.assertEqual(set(core.ended), set(tokens.revoked))

    def test_bearers(self) -> None:
        """Tokens that another process made are seen, too."""
        clock, tokens = Clock(), FakeTokens()
        seen: list[object] = []
        chore = bearers(cast(TokenStore, tokens), clock, seen.append)
        chore.startService()
        self.addCleanup(chore.stopService)

        clock.advance(BEARERS_SECONDS)

        self.assertEqual(seen, [["a token"]])

        clock.advance(BEARERS_SECONDS)
        self.assertEqual(seen, [["a token"]], "news only")

    def test_rooms(self) -> None:
        """Rooms that another process archived are closed."""
        clock, core = Clock(), FakeChat()
        store = FakeRooms()
        chore = rooms(cast(RoomStore, store), cast(Chat, core), clock, 7)
        chore.startService()
        self.addCleanup(chore.stopService)

        clock.advance(ROOMS_SECONDS)

        self.assertEqual(core.archived, {"plans": True})

        clock.advance(ROOMS_SECONDS)
        self.assertEqual(store.asked, [7, 8], "news only")

    def test_retention(self) -> None:
        """Retention runs at each interval, until it is stopped."""
        clock, core = Clock(), FakeChat()
        chore = retention(cast(Chat, core), clock)
        chore.startService()
        clock.advance(RETENTION_SECONDS)

        clock.advance(RETENTION_SECONDS)

        self.assertEqual(core.retained, 2)

        chore.stopService()
        clock.advance(RETENTION_SECONDS)

        self.assertEqual(core.retained, 2)

    def test_slow_work_does_not_pile_up(self) -> None:
        """The next round waits for the last one."""
        clock = Clock()
        begun: list[Deferred[None]] = []

        def begin() -> Deferred[None]:
            begun.append(Deferred())
            return begun[-1]

        chore = PeriodicTask(clock, 1.0, "slow", begin)
        chore.startService()
        self.addCleanup(chore.stopService)
        clock.pump([1.0] * 5)
        self.assertEqual(len(begun), 1)
        begun[0].callback(None)
        clock.pump([1.0] * 2)
        self.assertEqual(len(begun), 2)
