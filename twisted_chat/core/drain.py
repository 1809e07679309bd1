"""The end of a server: accept nothing new, commit what came, tell every client when to come back, close."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from twisted_chat.core.broadcast import FanOut
from twisted_chat.core.commit import GroupCommit
from twisted_chat.core.connections import ChatSession, Sessions
from twisted_chat.core.scheduler import Scheduler, TimingWheel
from twisted_chat.errors import CloseCode, Restarting

#: Sessions that are closed in one turn of the reactor: some ten milliseconds, so that sockets are read and ended meanwhile.
CLOSED_IN_TURN = 200
#: Seconds over which clients are asked to come back after a restart, at least; and the rate that the spread aims at.
RETURN_SECONDS = 10.0
RETURNS_PER_SECOND = 200.0
#: The same where other nodes are there to take them at once: a writer waits for no more than 2 s in all.
MOVE_SECONDS = 0.8


class Drain:
    """Ends the sessions of a server.

    :param random: a number from [0, 1) at each call, to spread reconnects.
    :param nodes: those that are known to live, this one included.
    :param stop_following: stops the programs that follow rooms; fires when their deliveries in progress have ended.
    :ivar began: nothing new is accepted any more.
    """

    def __init__(
        self,
        sessions: Sessions,
        commits: GroupCommit,
        fan_out: FanOut,
        timers: TimingWheel,
        random: Callable[[], float],
        scheduler: Scheduler,
        nodes: Callable[[], int],
        stop_following: Callable[[], Deferred[None]],
    ) -> None:
        self.began = False
        self._sessions = sessions
        self._commits = commits
        self._fan_out = fan_out
        self._timers = timers
        self._random = random
        self._scheduler = scheduler
        self._nodes = nodes
        self._stop_following = stop_following

    def check(self) -> None:
        """:class:`Restarting` once the end has begun."""
        if self.began:
            raise Restarting("the server is restarting", retry_after_ms=self._return_ms())

    def begin(self) -> Deferred[None]:
        """Close every connection with 1012 when everything is committed; fires when all of it is written and programs have stopped."""
        for session in self._sessions:
            session.send_waiting()
        self.began = True
        return self._commits.idle().addCallback(lambda _: self._close_all())

    def _close_all(self) -> Deferred[None]:
        self._fan_out.finish()
        closed: Deferred[None] = Deferred()
        self._close_some(list(self._sessions), closed)
        return closed.addCallback(lambda _: self._end())

    def _close_some(self, sessions: list[ChatSession], closed: Deferred[None]) -> None:
        for session in sessions[:CLOSED_IN_TURN]:
            session.bye(CloseCode.RESTART, "restart", retry=True, retry_after_ms=self._return_ms())
            session.close(CloseCode.SERVICE_RESTART, "restart")
        del sessions[:CLOSED_IN_TURN]
        if sessions:
            self._scheduler.at_next(lambda: self._close_some(sessions, closed))
        else:
            closed.callback(None)

    def _end(self) -> Deferred[None]:
        self._timers.stop()
        return self._stop_following()

    def _return_ms(self) -> int:
        others = self._nodes() - 1
        if others:
            first, least = 0, MOVE_SECONDS
        else:
            first, least = 500, RETURN_SECONDS
        spread = max(least, len(self._sessions) / (RETURNS_PER_SECOND * max(1, others)))
        return first + int(self._random() * spread * 1000)
