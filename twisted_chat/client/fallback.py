"""Which way to the server: a WebSocket, or a session by HTTP where none comes through.

::

    WebSocket --nobody at all, or the server's own word----------------> problem
        `---- something else answers, or nothing --> HTTP --welcome----> online by HTTP, a WebSocket is tried now and then beside it
                                                      `---- no word ---> problem

A WebSocket from which no word of the server comes says nothing about the reason: the server may be down, or the network lets none
through.  One request by HTTP tells: only if the server's welcome comes that way is the WebSocket taken for blocked.  A WebSocket that
is tried beside a session is asked for a word of the server, too, because some proxies let the handshake through and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_chat.client.connection import ClientConnection
from twisted_chat.client.errors import Closed, ConnectionProblem, HandshakeRefused
from twisted_chat.client.reconnect import Pause
from twisted_chat.client.transport import Transport, TransportName
from twisted_chat.protocol.commands import Hello, Ping
from twisted_chat.protocol.replies import Ok

#: Seconds between two tries whether a WebSocket comes through: at first, and at most; each failure doubles them.
FIRST_TRIAL = 60.0
LONGEST_TRIAL = 600.0
#: Seconds for which it is remembered that none comes through; networks change.
BLOCKED_SECONDS = 600.0
#: Of so many attempts that fail in a row one is by WebSocket all the same: what is remembered may be wrong.
ATTEMPTS = 3

#: What a program may ask for.
Choice = Literal["auto", "websocket", "http"]
#: What our server says to a handshake that was changed on its way: ours are well-formed.
_CHANGED = frozenset({400, 426})
_UNAUTHORIZED = 401
#: What a server says that knows no sessions by HTTP.
_NO_SUCH_PATH = "not_found"
#: Close codes of our server.
_OUR_CODES = range(4400, 4600)


class Ways:
    """Opens the connections of one client.

    :param make: a new connection.
    :param seconds: for TCP, TLS, the handshake and the welcome in all.
    :ivar transport: how the client is connected, or tries to be, or was last.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        websocket: Transport,
        http: Transport,
        choice: Choice,
        make: Callable[[], ClientConnection],
        seconds: float,
    ) -> None:
        if choice not in get_args(Choice):
            raise ValueError(f"transport: {choice!r} is none of {', '.join(get_args(Choice))}")
        self._clock = clock
        self._websocket, self._http = websocket, http
        self._choice = choice
        self._make = make
        self._seconds = seconds
        self.transport: TransportName = "http" if choice == "http" else "websocket"
        self._proven = choice == "websocket"  #: a WebSocket has come through
        self._blocked_until = 0.0
        self._failures = 0
        self._pause = Pause(clock)
        self._next_trial = 0.0  #: seconds from the next welcome by HTTP to the next trial

    async def open(self, hello: Hello, token: str | None) -> ClientConnection:
        """A connection with its welcome; raises :class:`ConnectionProblem`."""
        try:
            connection = await (self._open_http if self._begins_by_http() else self._open_websocket)(hello, token)
        except ConnectionProblem:
            self._failures += 1
            raise
        self._failures = 0
        return connection

    async def when_ended(
        self, connection: ClientConnection, token: str | None
    ) -> tuple[ConnectionProblem, ClientConnection | None]:
        """Why the connection has ended, and the one that has been tried out and takes its place, if that is the reason."""
        if self.transport == "websocket" or self._choice != "auto":
            return await connection.when_ended(), None
        found: list[ClientConnection] = []
        looking = Deferred.fromCoroutine(self._try_websockets(connection, token, found))
        looking.addErrback(lambda failure: failure.trap(CancelledError, ConnectionProblem))
        looking.addErrback(lambda failure: self.log.failure("Bug while a WebSocket was tried", failure))
        try:
            problem = await connection.when_ended()
        except CancelledError:
            looking.cancel()
            for better in found:
                better.abort(ConnectionProblem("the client was stopped"))
            raise
        looking.cancel()
        return problem, found[0] if found else None

    async def go_on(self, better: ClientConnection, hello: Hello) -> ClientConnection:
        """Use the WebSocket that was tried out; raises :class:`ConnectionProblem`."""
        self.transport = "websocket"
        await better.greet(hello, self._seconds)
        self._came_through()
        return better

    def try_now(self) -> None:
        """The network may be another one: look whether a WebSocket comes through."""
        self._blocked_until = self._next_trial = 0.0
        self._pause.end()

    def _begins_by_http(self) -> bool:
        if self._choice != "auto":
            return self._choice == "http"
        return self._clock.seconds() < self._blocked_until and self._failures % ATTEMPTS != ATTEMPTS - 1

    async def _open_websocket(self, hello: Hello, token: str | None) -> ClientConnection:
        self.transport = "websocket"
        connection = self._make()
        began = self._clock.seconds()
        try:
            # While it is not known whether a WebSocket comes through, half of the time is left for the other way.
            await connection.open(self._websocket, hello, token, self._seconds if self._proven else self._seconds / 2)
        except ConnectionProblem as problem:
            if self._choice != "auto" or not _may_be_blocked(connection, problem):
                raise
            left = max(self._seconds / 2, self._seconds - (self._clock.seconds() - began))
            return await self._open_http(hello, token, left, problem)
        self._came_through()
        return connection

    async def _open_http(
        self, hello: Hello, token: str | None, seconds: float | None = None, before: ConnectionProblem | None = None
    ) -> ClientConnection:
        """By HTTP, perhaps because of what came ``before``."""
        self.transport = "http"
        connection = self._make()
        try:
            await connection.open(self._http, hello, token, seconds or self._seconds)
        except ConnectionProblem as problem:
            if before is None or _is_of_the_server(connection, problem):
                raise
            self.transport = "websocket"
            # Where one of the two may pass, it is not over.
            raise (before if before.retry or not problem.retry else problem) from None
        return connection

    def _came_through(self) -> None:
        self._proven = True
        self._blocked_until = self._next_trial = 0.0

    async def _try_websockets(self, connection: ClientConnection, token: str | None, found: list[ClientConnection]) -> None:
        """Try WebSockets beside the session by HTTP until one comes through; then say goodbye to the session."""
        while True:
            await self._pause.wait(self._next_trial)
            self._next_trial = min(LONGEST_TRIAL, max(FIRST_TRIAL, 2 * self._next_trial))
            tried = self._make()
            try:
                await tried.try_out(self._websocket, token, self._seconds)
            except ConnectionProblem as problem:
                # Only if the other way is open still: else it is the network that is gone.
                await connection.ask(Ping(), Ok)
                self._blocked_until = self._clock.seconds() + BLOCKED_SECONDS
                self.log.info("No WebSocket comes through ({problem}); going by HTTP", problem=str(problem))
                continue
            found.append(tried)
            await connection.close()
            return


def _may_be_blocked(connection: ClientConnection, problem: ConnectionProblem) -> bool:
    """Whether another way may lead where this one did not."""
    if not connection.reached or problem.retry_after:
        return False  # who says when to come back means all ways
    if isinstance(problem, HandshakeRefused) and problem.status in _CHANGED:
        return True
    return not _is_of_the_server(connection, problem)


def _is_of_the_server(connection: ClientConnection, problem: ConnectionProblem) -> bool:
    """Whether it is the chat that says so, and not something in between."""
    if connection.understood:
        return True
    if isinstance(problem, HandshakeRefused):
        if problem.error is None:
            return problem.status == _UNAUTHORIZED
        return problem.error.code != _NO_SUCH_PATH
    return isinstance(problem, Closed) and problem.code in _OUR_CODES
