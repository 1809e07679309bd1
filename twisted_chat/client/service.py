"""The client as a Twisted service: one coroutine connects, serves the connection, and waits for the next.

::

    CONNECTING --welcome--> ONLINE --connection ends--> WAITING --delay--> CONNECTING …
         `------------- does not work ---------------------^
    any of them --stopService--> STOPPED          any of them --another attempt cannot help--> ENDED

Sequential code is what holds "at most one connection": the next attempt begins when the last connection is gone.
"""

# super() calls into Service, which Twisted has not typed.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import random as random_numbers
import secrets
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_chat.client.address import find
from twisted_chat.client.audience import Audience
from twisted_chat.client.connection import CONNECT_SECONDS, PATIENCE, AnyEvent, ClientConnection
from twisted_chat.client.errors import ClientEnded, ClientError, ClientStopped, ConnectionProblem
from twisted_chat.client.fallback import Choice, Ways
from twisted_chat.client.http_session import HttpTransport
from twisted_chat.client.joining import join_and_send
from twisted_chat.client.keeping import Keeper
from twisted_chat.client.outbox import KeyMaker, Outbox, rate_of
from twisted_chat.client.reconnect import LONGEST_SECONDS, Backoff, Pause, Token, TokenSource
from twisted_chat.client.room import ClientRoom
from twisted_chat.client.transport import TransportName
from twisted_chat.client.websocket import SocketFactory
from twisted_chat.core.ratelimit import TokenBucket
from twisted_chat.events import Cursor
from twisted_chat.names import room_name
from twisted_chat.protocol.commands import Hello
from twisted_chat.protocol.replies import Me, Push

#: Messages that wait to be acknowledged: minutes of a busy bot, some MB.
QUEUE = 1_000
#: Seconds for a clean stop to send what waits.
FLUSH_SECONDS = 5.0
#: Seconds of connection after which it counts as stable, so that the next break is answered fast.
STABLE_SECONDS = 10.0


_COMES_BACK = "{where}: {problem}; trying again in {delay:.1f} s"
_OTHER_USER = (
    "{where}: the server takes this client for {now}, before it was {before}; "
    "what was not acknowledged may be kept under both names"
)


class State(Enum):
    """What the client is doing."""

    STOPPED = auto()
    CONNECTING = auto()
    ONLINE = auto()
    WAITING = auto()  #: for the next attempt
    ENDED = auto()  #: for good: see ``problem``


class ChatClient(Service):
    """A client of a chat that comes back, and loses and doubles nothing.

    :param reactor: the reactor, or a ``Clock`` if ``where`` is an endpoint that needs none.
    :param where: ``wss://chat.example.org``, a client endpoint string (``tls:chat.example.org:443``, ``unix:/run/chat.sock``) or
        an endpoint.
    :param token: who we are, or a function that fetches that (it may be a coroutine): asked at first and when the server refuses
        the last one, once.  None: a guest.
    :param name: a guest's name.
    :param journal: a file that keeps what was accepted and how far was read over the end of the program.
    :param device: a guest's secret, 8 to 64 characters, that makes it the same guest again; by default out of the journal, or
        random.
    :param queue: how many messages may wait to be acknowledged.
    :param host: for the ``Host`` header, and ``path`` for the path, where ``where`` does not tell.
    :param trust_root: the certificates that may sign the server's, for ``wss``; None: the platform's.
    :param client_certificate: a ``PrivateCertificate`` to show, for ``wss``.
    :param transport: ``auto``: a WebSocket, and HTTP where the network lets none through; ``websocket`` or ``http``: only that.
    :param connect_seconds: for TCP, TLS, the handshake and the welcome in all.
    :param flush_seconds: for a clean stop to send what waits.
    :param longest_wait: seconds to which the wait between two attempts grows, before what the server asks for.
    :param patience: seconds beyond the server's ping interval after which silence means that the connection is dead.
    :ivar state: what the client is doing; ``problem`` why it is not online.
    :ivar me: who the server takes us for; None before the first welcome.
    :ivar kept: the outbox, the cursors and the journal.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        where: str | IStreamClientEndpoint,
        *,
        token: Token = None,
        name: str | None = None,
        journal: str | None = None,
        device: str | None = None,
        queue: int = QUEUE,
        host: str | None = None,
        path: str | None = None,
        trust_root: Any = None,
        client_certificate: Any = None,
        transport: Choice = "auto",
        connect_seconds: float = CONNECT_SECONDS,
        flush_seconds: float = FLUSH_SECONDS,
        longest_wait: float = LONGEST_SECONDS,
        patience: float = PATIENCE,
        random: Callable[[], float] = random_numbers.random,
        unique: Callable[[], str] = lambda: secrets.token_hex(16),
        now_seconds: Callable[[], float] = time.time,
    ) -> None:
        self.clock: IReactorTime = reactor
        self.random, self.now_seconds = random, now_seconds
        self.where = find(reactor, where, host=host, path=path, trust_root=trust_root, client_certificate=client_certificate)
        self.state = State.STOPPED
        self.problem: Exception | None = None
        self.over: ClientError | None = None
        self.me: Me | None = None
        self.rate: TokenBucket = TokenBucket(1, 0, reactor.seconds)
        self.rooms: dict[str, ClientRoom] = {}
        self.kept = Keeper(journal, queue, device, unique())
        self._token, self._guest_name = TokenSource(token, self.where.name), name
        self._flush_seconds = flush_seconds
        self.new_key = KeyMaker(unique()[:24]).new_key
        self._ways = _ways(self, reactor, transport, patience, connect_seconds)
        self._backoff, self._pause = Backoff(random, most=longest_wait), Pause(reactor)
        self._connection: ClientConnection | None = None
        self._running: Deferred[None] | None = None
        self._stopping: Deferred[None] | None = None
        self._send_call: IDelayedCall | None = None
        self._due: dict[str, None] = {}  #: rooms that may have something to join or to send: not all of thousands at each message
        self._audience = Audience(self, self.where.name, (self.state, self.transport))

    # What programs call

    def room(self, name: str, *, history: int | None = 0, presence: bool = False, since: Cursor | None = None) -> ClientRoom:
        """Be in a room from now on, over all connections; the same room again gives the same object.

        :param history: how many of the last events come first when there is no cursor; None: all there are.
        :param presence: receive who enters and leaves (``PresencePush``, ``room.people``).
        :param since: read on from there; without it from where the journal says.
        """
        name = room_name(name)
        room = self.rooms.get(name)
        if room is None:
            self.kept.open()
            cursor = since or self.kept.cursor(name)
            room = self.rooms[name] = ClientRoom(self, name, history, presence, cursor, self._forget_room)
            self.send_soon(name)
        return room

    def watch(self, watcher: Callable[[ChatClient], object]) -> None:
        """Call ``watcher(client)`` whenever ``client.state`` changes, and when the client moves to another transport."""
        self._audience.watch(watcher)

    def when_online(self) -> Deferred[None]:
        """Fires when there is a connection; fails when there will be none."""
        if self.state is State.ONLINE:
            return succeed(None)
        if self.over is not None:
            return fail(self.over)
        return self._audience.wait()

    def when_empty(self) -> Deferred[None]:
        """Fires when everything that was accepted is settled."""
        return self.kept.when_empty()

    def retry_now(self) -> None:
        """Do not wait any longer for the next attempt, or to try a WebSocket again: the network is back, or is another one."""
        self._ways.try_now()
        self._pause.end()

    @property
    def transport(self) -> TransportName:
        """How the client is connected, or tries to be, or was last."""
        return self._ways.transport

    # Service

    def startService(self) -> None:
        """Begin; :class:`StateError` if the file cannot be used."""
        self.kept.open()
        super().startService()
        self.over = self.problem = None
        self._token.forget_renewal()
        self._backoff.reset()
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: self.log.failure("The client of {where} failed", failure, where=self.where.name))

    def stopService(self) -> Deferred[None]:
        """Send what waits, for at most ``flush_seconds``, say goodbye, and end; fires when the connection is gone."""
        if self._stopping is None:
            super().stopService()
            self._stopping = Deferred.fromCoroutine(self._stop())
        waiter: Deferred[None] = Deferred()

        def stopped(result: object) -> object:
            self._stopping = None
            waiter.callback(None)
            return result

        self._stopping.addBoth(stopped)
        return waiter

    async def _stop(self) -> None:
        # Out of whatever called us: a coroutine cannot be cancelled from inside itself.
        await deferLater(self.clock, 0)
        if len(self.outbox) and self.over is None:
            try:
                await self.when_empty().addTimeout(self._flush_seconds, self.clock)
            except Exception:
                self.log.warn("{count} messages were not acknowledged before the stop", count=len(self.outbox))
            await deferLater(self.clock, 0)
        connection = self._connection
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
        if connection is not None:
            await connection.close()
            # Called from inside the transport's end: let it, and its connector, come to theirs.
            await deferLater(self.clock, 0)
        self._finish(State.STOPPED, ClientStopped("the client was stopped"))

    # Connections

    async def _run(self) -> None:
        try:
            while True:
                problem = await self._connect_once()
                if not self._token.may_retry(problem):
                    self._finish(State.ENDED, ClientEnded(problem))
                    return
                delay = self._backoff.wait(problem.retry_after)
                self._set_state(State.WAITING, problem)
                self.log.warn(_COMES_BACK, where=self.where.name, problem=str(problem), delay=delay)
                await self._pause.wait(delay)
        except CancelledError:
            return

    async def _connect_once(self) -> ConnectionProblem:
        """One connection, from the attempt to the end; answers why there is none any more."""
        self._set_state(State.CONNECTING, self.problem)
        try:
            await self._token.fetch()
            connection = await self._ways.open(self._hello(), self._token.token)
            while True:
                problem, better = await self._serve(connection)
                if better is None:
                    return problem
                connection = await self._ways.go_on(better, self._hello())
        except ConnectionProblem as refused:
            return refused

    async def _serve(self, connection: ClientConnection) -> tuple[ConnectionProblem, ClientConnection | None]:
        """A connection from its welcome to its end; answers why it ended, and which one takes its place at once."""
        since = self.clock.seconds()
        self._welcomed(connection)
        try:
            ended = await self._ways.when_ended(connection, self._token.token)
        finally:
            self._connection = None
            for room in list(self.rooms.values()):
                room.subscription.disconnected()
        if self.clock.seconds() - since >= STABLE_SECONDS:
            self._backoff.reset()
            self._token.forget_renewal()
        return ended

    def _hello(self) -> Hello:
        return Hello(name=self._guest_name, device=self.kept.device, capabilities=("batch", "presence"))

    def _welcomed(self, connection: ClientConnection) -> None:
        welcome = connection.welcome
        if self.me is not None and self.me.id != welcome.user.id and len(self.outbox):
            self.log.warn(_OTHER_USER, where=self.where.name, now=welcome.user.id, before=self.me.id)
        self._connection = connection
        self.me = welcome.user
        if welcome.user.guest and self._guest_name is None:
            self._guest_name = welcome.user.name  # the server made it up, and it stays ours
        self.rate = rate_of(welcome.limits.send, self.clock.seconds)
        for name in {pending.room for pending in self.outbox.everything()} - set(self.rooms):
            self.room(name)  # accepted by an earlier run; this one does not know the room
        self._set_state(State.ONLINE, None)
        self._audience.end_waiting()
        self._due = dict.fromkeys(self.rooms)
        self._write_soon()

    def _set_state(self, state: State, problem: Exception | None) -> None:
        self.problem, self.state = problem, state
        self._audience.tell((state, self.transport))

    def _finish(self, state: State, error: ClientError) -> None:
        self.over = error
        if state is State.ENDED:
            self.log.error("{where}: {error}", where=self.where.name, error=str(error))
        if self._send_call is not None:
            self._send_call.cancel()
            self._send_call = None
        self.kept.write_cursors()
        self._audience.end_waiting(error)
        for room in list(self.rooms.values()):
            room.subscription.client_ended(error)
        if state is State.STOPPED:
            self.kept.close()
        self._set_state(state, error.cause if isinstance(error, ClientEnded) else None)

    # The connection calls

    def event(self, room: str, event: AnyEvent) -> None:
        """An event of a room's log."""
        found = self.rooms.get(room)
        if found is not None:
            found.subscription.receive_event(event)

    def push(self, push: Push) -> None:
        """Something that is in no log."""
        found = self.rooms.get(getattr(push, "room", ""))
        if found is not None:
            found.subscription.receive_push(push)

    # Rooms call (Outlet)

    @property
    def outbox(self) -> Outbox:
        """What is accepted and not settled, of all rooms."""
        return self.kept.outbox

    def save_cursor(self, room: str, cursor: Cursor | None) -> None:
        """Events up to there have been handled; None: the room was left."""
        if self.kept.has_journal:
            self.kept.move_cursor(room, cursor)
            self._write_soon()

    def send_soon(self, room: str) -> None:
        """At the end of this turn: put on disk what was accepted, join that room, send what it has."""
        self._due[room] = None
        self._write_soon()

    def _write_soon(self) -> None:
        if self._send_call is None and self.kept.usable:
            self._send_call = self.clock.callLater(0, self._send)

    def _forget_room(self, room: ClientRoom) -> None:
        self.rooms.pop(room.name, None)
        self.save_cursor(room.name, None)

    def _send(self) -> None:
        self._send_call = None
        self.kept.write_cursors()
        try:
            self.kept.sync()
        except ClientError as error:
            self.log.error("{error}; nothing is sent until it can be", error=str(error))
            self._send_call = self.clock.callLater(1.0, self._send)
            return
        if (connection := self._connection) is None:
            return
        due = [room.subscription for name in self._due if (room := self.rooms.get(name)) is not None]
        self._due.clear()
        join_and_send(connection, due, lambda: connection is self._connection)


def _ways(client: ChatClient, reactor: Any, choice: Choice, patience: float, seconds: float) -> Ways:
    websocket, http = SocketFactory(client.where, reactor), HttpTransport(client.where, reactor, client.random)
    return Ways(reactor, websocket, http, choice, lambda: ClientConnection(reactor, client, patience), seconds)
