"""Coming back after a lost connection: how long to wait, with which token, and when to give up.

Full jitter (a number between nothing and the bound, which doubles from 0.5 s to 30 s) spreads a thousand clients that lost their
server in the same moment evenly; waiting "about" the bound would bring them back in waves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_chat.client.errors import ConnectionProblem

#: Seconds.  The first attempts come fast, because most breaks are short.
FIRST_SECONDS = 0.5
#: Seconds.  Nobody wants to wait longer for a server that is back.
LONGEST_SECONDS = 30.0


class Backoff:
    """The waits of one client.

    :param random: a number from [0, 1) at each call.
    """

    def __init__(self, random: Callable[[], float], first: float = FIRST_SECONDS, most: float = LONGEST_SECONDS) -> None:
        self._random = random
        self._first = first
        self._most = most
        self._bound = min(first, most)

    def wait(self, asked: float = 0.0) -> float:
        """Seconds until the next attempt: what the server ``asked`` for, which is spread already, and our own share on top."""
        delay = asked + self._random() * self._bound
        self._bound = min(self._most, self._bound * 2)
        return delay

    def reset(self) -> None:
        """The connection is stable: the next wait is short again."""
        self._bound = self._first


#: A token, or a function that fetches one (it may be a coroutine); None: a guest.
Token = str | Callable[[], "str | Awaitable[str]"] | None


class TokenSource:
    """The token of one client, fetched at first and, once for each stable connection, when the server refuses it."""

    log = Logger()

    def __init__(self, source: Token, server: str) -> None:
        self._source = source
        self._server = server
        self._renewed = False
        self.token: str | None = None

    def forget_renewal(self) -> None:
        """The last token was good: a refused one may be renewed again."""
        self._renewed = False

    async def fetch(self) -> None:
        """Have a token; :class:`ConnectionProblem` if the function fails."""
        source = self._source
        if not callable(source):
            self.token = source
            return
        if self.token is not None:
            return
        try:
            token = source()
            self.token = await token if isawaitable(token) else token
        except CancelledError:
            raise
        except Exception as error:
            self.log.failure("{server}: no token could be fetched", server=self._server)
            raise ConnectionProblem(f"no token could be fetched: {type(error).__name__}: {error}") from error

    def may_retry(self, problem: ConnectionProblem) -> bool:
        """Whether another attempt can help; a refused token is fetched again once."""
        if not problem.wants_token:
            return problem.retry
        if not callable(self._source) or self._renewed:
            return False
        self._renewed = True
        self.token = None
        return True


class Pause:
    """The wait between two attempts, which can be cut short."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: Deferred[None] | None = None

    def end(self) -> None:
        """Wait no longer."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def wait(self, seconds: float) -> None:
        """Wait that long, or until :meth:`end`."""
        waiting = self._waiting = Deferred()
        call = self._clock.callLater(seconds, self.end)
        try:
            await waiting
        finally:
            self._waiting = None
            if call.active():
                call.cancel()
