"""The client as a Twisted service: its life is one coroutine that connects, serves the connection, and waits for the next.

::

    CONNECTING --welcome--> ONLINE --connection ends--> WAITING --delay--> CONNECTING …
         `------------- does not work ---------------------^
    any of them --stopService--> STOPPED          any of them --what coming back cannot help--> ENDED

Sequential code is what holds "at most one connection": the next attempt begins when the last connection is gone.
"""

# super() calls into Service, which Twisted has not typed.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import random as random_numbers
import secrets
import time
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from inspect import isawaitable
from typing import Any

import msgspec
from msgspec import Struct
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_chat.client.address import find
from twisted_chat.client.backoff import MOST, Backoff
from twisted_chat.client.connection import CONNECT_SECONDS, PATIENCE, AnyEvent, ClientConnection
from twisted_chat.client.errors import ClientEnded, ClientError, ClientStopped, ConnectionProblem, Postponed, refusal
from twisted_chat.client.journal import Journal
from twisted_chat.client.outbox import Outbox, Pending, rate_of
from twisted_chat.client.room import ClientRoom, RoomState
from twisted_chat.client.websocket import SocketFactory
from twisted_chat.core.ratelimit import TokenBucket
from twisted_chat.events import Cursor
from twisted_chat.names import room_name
from twisted_chat.protocol.commands import Hello, Join
from twisted_chat.protocol.replies import ErrorBody, Joined, Me, Ok, Push

#: Messages that wait to be acknowledged: minutes of a busy bot, some MB.
QUEUE = 1_000
#: Seconds for a clean stop to send what waits.
FLUSH_SECONDS = 5.0
#: Seconds of connection after which it counts as stable, so that the next break is answered fast.
STABLE_SECONDS = 10.0


class _JoinAllOk(Ok, frozen=True, kw_only=True, tag="ok"):
    """The answer to a join; each room is looked at by itself."""

    rooms: list[msgspec.Raw]


class _Failed(Struct):
    error: ErrorBody | None = None


_decode_failed = msgspec.json.Decoder(_Failed).decode
_decode_joined = msgspec.json.Decoder(Joined).decode

Token = str | Callable[[], "str | Awaitable[str]"] | None


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
    :param connect_seconds: for TCP, TLS, the handshake and the welcome in all.
    :param flush_seconds: for a clean stop to send what waits.
    :param longest_wait: seconds to which the wait between two attempts grows, before what the server asks for.
    :param patience: seconds beyond the server's ping interval after which silence means that the connection is dead.
    :ivar state: what the client is doing; ``problem`` why it is not online.
    :ivar me: who the server takes us for; None before the first welcome.
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
        connect_seconds: float = CONNECT_SECONDS,
        flush_seconds: float = FLUSH_SECONDS,
        longest_wait: float = MOST,
        patience: float = PATIENCE,
        random: Callable[[], float] = random_numbers.random,
        unique: Callable[[], str] = lambda: secrets.token_hex(16),
        now_seconds: Callable[[], float] = time.time,
    ) -> None:
        self.clock: IReactorTime = reactor
        self.random = random
        self.where = find(reactor, where, host=host, path=path, trust_root=trust_root, client_certificate=client_certificate)
        self.state = State.STOPPED
        self.problem: Exception | None = None
        self.over: ClientError | None = None
        self.me: Me | None = None
        self.outbox = Outbox(queue)
        self.rate: TokenBucket = TokenBucket(1, 0, reactor.seconds)
        self.rooms: dict[str, ClientRoom] = {}
        self._token_source = token
        self._token: str | None = None
        self._token_renewed = False
        self._guest_name = name
        self._given_device = device
        self._device = device or unique()
        self._journal = Journal(journal) if journal is not None else None
        self._journal_open = False
        self._cursors: dict[str, Cursor | None] = {}
        self._connect_seconds = connect_seconds
        self._flush_seconds = flush_seconds
        self._patience = patience
        self._now_seconds = now_seconds
        self._sockets = SocketFactory(self.where, reactor)
        self._key_start = unique()[:24]
        self._key_number = 0
        self._backoff = Backoff(random, most=longest_wait)
        self._line: ClientConnection | None = None
        self._life: Deferred[None] | None = None
        self._stopping: Deferred[None] | None = None
        self._nap: Deferred[None] | None = None
        self._pumping: IDelayedCall | None = None
        self._watchers: list[Callable[[ChatClient], object]] = []
        self._online_waiters: list[Deferred[None]] = []
        self._empty_waiters: list[Deferred[None]] = []

    # What programs call

    def room(self, name: str, *, history: int | None = 0, presence: bool = False, since: Cursor | None = None) -> ClientRoom:
        """Be in a room from now on, over all connections; the same room again gives the same object.

        :param history: how many of the last events come first when there is no cursor; None: all there are.
        :param presence: be told who comes and goes (``PresencePush``, ``room.people``).
        :param since: read on from there; without it from where the journal says.
        """
        name = room_name(name)
        room = self.rooms.get(name)
        if room is None:
            self._open_journal()
            kept = self._journal.cursors.get(name) if self._journal is not None else None
            room = self.rooms[name] = ClientRoom(self, name, history, presence, since or kept)
            self.pump_soon()
        return room

    def watch(self, watcher: Callable[[ChatClient], object]) -> None:
        """Call ``watcher(client)`` whenever ``client.state`` changes."""
        self._watchers.append(watcher)

    def when_online(self) -> Deferred[None]:
        """Fires when there is a connection; fails when there will be none."""
        if self.state is State.ONLINE:
            return succeed(None)
        if self.over is not None:
            return fail(self.over)
        return self._wait_in(self._online_waiters)

    def when_empty(self) -> Deferred[None]:
        """Fires when everything that was accepted is settled."""
        return self._wait_in(self._empty_waiters) if len(self.outbox) else succeed(None)

    def retry_now(self) -> None:
        """Do not wait any longer for the next attempt: the network is back."""
        nap, self._nap = self._nap, None
        if nap is not None:
            nap.callback(None)

    # Service

    def startService(self) -> None:
        """Begin; :class:`StateError` if the file cannot be used."""
        self._open_journal()
        super().startService()
        self.over = self.problem = None
        self._token_renewed = False
        self._backoff.reset()
        self._life = Deferred.fromCoroutine(self._live())
        self._life.addErrback(lambda failure: self.log.failure("The client of {where} failed", failure, where=self.where.name))

    def stopService(self) -> Deferred[None]:
        """Send what waits, for at most ``flush_seconds``, say goodbye, and end; fires when the connection is gone."""
        if self._stopping is None:
            super().stopService()
            self._stopping = Deferred.fromCoroutine(self._stop()).addBoth(self._stopped)
        return self._wait_for_stop()

    def _wait_for_stop(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()

        def stopped(result: object) -> object:
            waiter.callback(None)
            return result

        assert self._stopping is not None
        self._stopping.addBoth(stopped)
        return waiter

    def _stopped(self, result: Any) -> Any:
        self._stopping = None
        return result

    async def _stop(self) -> None:
        # Out of whatever called us: a coroutine cannot be cancelled from inside itself.
        await deferLater(self.clock, 0)
        if len(self.outbox) and self.over is None:
            try:
                await self.when_empty().addTimeout(self._flush_seconds, self.clock)
            except Exception:
                self.log.warn("{count} messages were not acknowledged before the stop", count=len(self.outbox))
            await deferLater(self.clock, 0)
        if self._line is not None:
            line = self._line
            life, self._life = self._life, None
            if life is not None:
                life.cancel()
            await line.close()
            # Told from inside the transport's end: let it, and its connector, come to theirs.
            await deferLater(self.clock, 0)
        elif self._life is not None:
            life, self._life = self._life, None
            life.cancel()
        self._finish(State.STOPPED, ClientStopped("the client was stopped"))

    # The life

    async def _live(self) -> None:
        try:
            while True:
                problem = await self._once()
                if not self._may_come_back(problem):
                    self._finish(State.ENDED, ClientEnded(problem))
                    return
                delay = self._backoff.wait(problem.retry_after)
                self._set(State.WAITING, problem)
                self.log.warn(
                    "{where}: {problem}; trying again in {delay:.1f} s", where=self.where.name, problem=str(problem), delay=delay
                )
                await self._sleep(delay)
        except CancelledError:
            return

    async def _once(self) -> ConnectionProblem:
        """One connection, from the attempt to the end; answers why there is none any more."""
        self._set(State.CONNECTING, self.problem)
        line = ClientConnection(self.clock, self, self._patience)
        try:
            await self._fetch_token()
            hello = Hello(name=self._guest_name, device=self._who(), capabilities=("batch", "presence"))
            await line.open(self._sockets, hello, self._token, self._connect_seconds)
        except ConnectionProblem as refused:
            return refused
        since = self.clock.seconds()
        self._welcome(line)
        try:
            problem = await line.when_ended()
        finally:
            self._line = None
            for room in list(self.rooms.values()):
                room.disconnected()
        if self.clock.seconds() - since >= STABLE_SECONDS:
            self._backoff.reset()
            self._token_renewed = False
        return problem

    def _welcome(self, line: ClientConnection) -> None:
        welcome = line.welcome
        if self.me is not None and self.me.id != welcome.user.id and len(self.outbox):
            self.log.warn(
                "{where}: we are {now} now and were {before}; what was not acknowledged may be kept under both names",
                where=self.where.name,
                now=welcome.user.id,
                before=self.me.id,
            )
        self._line = line
        self.me = welcome.user
        if welcome.user.guest and self._guest_name is None:
            # The name that the server made up stays ours.
            self._guest_name = welcome.user.name
        self.rate = rate_of(welcome.limits.send, self.clock.seconds)
        for name in {pending.room for pending in self.outbox.everything()} - set(self.rooms):
            self.room(name)  # accepted by an earlier run; this one does not know the room
        self._set(State.ONLINE, None)
        waiters, self._online_waiters = self._online_waiters, []
        for waiter in waiters:
            waiter.callback(None)
        self.pump_soon()

    def _may_come_back(self, problem: ConnectionProblem) -> bool:
        if not problem.wants_token:
            return problem.retry
        if not callable(self._token_source) or self._token_renewed:
            return False
        self._token_renewed = True
        self._token = None
        return True

    async def _fetch_token(self) -> None:
        source = self._token_source
        if not callable(source):
            self._token = source
            return
        if self._token is not None:
            return
        try:
            token = source()
            self._token = await token if isawaitable(token) else token
        except CancelledError:
            raise
        except Exception as error:
            self.log.failure("{where}: no token could be had", where=self.where.name)
            raise ConnectionProblem(f"no token could be had: {type(error).__name__}: {error}") from error

    async def _sleep(self, delay: float) -> None:
        nap = self._nap = Deferred()
        call = self.clock.callLater(delay, self.retry_now)
        try:
            await nap
        finally:
            self._nap = None
            if call.active():
                call.cancel()

    def _set(self, state: State, problem: Exception | None) -> None:
        self.problem = problem
        if state is self.state:
            return
        self.state = state
        for watcher in list(self._watchers):
            try:
                watcher(self)
            except Exception:
                self.log.failure("A watcher of {where} failed", where=self.where.name)

    def _finish(self, state: State, error: ClientError) -> None:
        self.over = error
        if state is State.ENDED:
            self.log.error("{where}: {error}", where=self.where.name, error=str(error))
        if self._pumping is not None:
            self._pumping.cancel()
            self._pumping = None
        self._save_cursors()
        waiters, self._online_waiters = self._online_waiters, []
        for waiter in waiters:
            waiter.errback(error)
        for room in list(self.rooms.values()):
            room.end(error)
        if self._journal is not None and state is State.STOPPED:
            self._journal.close()
            self._journal_open = False
        self._set(state, error.cause if isinstance(error, ClientEnded) else None)

    # The line tells

    def event(self, room: str, event: AnyEvent) -> None:
        """An event of a room's log."""
        found = self.rooms.get(room)
        if found is not None:
            found.event(event)

    def push(self, push: Push) -> None:
        """Something that is in no log."""
        found = self.rooms.get(getattr(push, "room", ""))
        if found is not None:
            found.push(push)

    # Rooms call

    def new_key(self) -> str:
        """A key that was never used."""
        self._key_number += 1
        return f"{self._key_start}-{self._key_number}"

    def now_ms(self) -> int:
        """The wall clock, where the server's time is not known."""
        return int(self._now_seconds() * 1000)

    def keep(self, pending: Pending) -> None:
        """It is accepted from here on."""
        if self._journal is not None:
            self._journal.put(pending.command, pending.wire)

    def settle(self, pending: Pending) -> bool:
        """It has been kept or refused; False if that was known."""
        if not self.outbox.remove(pending):
            return False
        if self._journal is not None:
            self._quietly(lambda journal: journal.done(pending.room, pending.key))
        if not len(self.outbox):
            waiters, self._empty_waiters = self._empty_waiters, []
            for waiter in waiters:
                waiter.callback(None)
        return True

    def drop(self, pending: Pending, error: Exception) -> None:
        """It will not be acknowledged while this program runs."""
        if self._journal is not None and isinstance(error, ClientStopped):
            self.outbox.remove(pending)
            error = Postponed(f"the client was stopped; the message is in {self._journal.path} and goes out at the next start")
        elif not self.settle(pending):
            return
        if pending.result is not None:
            pending.result.errback(error)

    def forget(self, room: ClientRoom) -> None:
        """The program left that room."""
        self.rooms.pop(room.name, None)
        if self._journal is not None:
            self._cursors[room.name] = None
            self.pump_soon()

    @property
    def keeps(self) -> bool:
        """Whether there is a file that keeps cursors."""
        return self._journal is not None

    def save_cursor(self, room: str, cursor: Cursor) -> None:
        """So far was read and handled."""
        if self._journal is not None:
            self._cursors[room] = cursor
            self.pump_soon()

    def pump_soon(self) -> None:
        """At the end of this turn: put on disk what was accepted, join, send."""
        if self._pumping is None and self._journal_is_usable():
            self._pumping = self.clock.callLater(0, self._pump)

    def _journal_is_usable(self) -> bool:
        return self._journal is None or self._journal_open

    def _pump(self) -> None:
        self._pumping = None
        self._save_cursors()
        if self._journal is not None:
            try:
                self._journal.sync()
            except ClientError as error:
                self.log.error("{error}; nothing is sent until it can be", error=str(error))
                self._pumping = self.clock.callLater(1.0, self._pump)
                return
        if self._line is None:
            return
        self._join()
        for room in list(self.rooms.values()):
            room.pump()

    def _join(self) -> None:
        line = self._line
        assert line is not None
        wanted = [room for room in self.rooms.values() if room.wants_in]
        most = min(line.welcome.limits.rooms, 100)
        for start in range(0, len(wanted), most):
            rooms = wanted[start : start + most]
            for room in rooms:
                room.joining()
            answer = line.ask(Join(rooms=tuple(room.wish() for room in rooms)), _JoinAllOk)
            answer.addCallback(self._joined, line, rooms)
            answer.addErrback(self._not_joined, rooms)
            answer.addErrback(lambda failure: self.log.failure("A join failed in a way it should not", failure))

    def _joined(self, answer: _JoinAllOk, line: ClientConnection, rooms: list[ClientRoom]) -> None:
        for room, found in zip(rooms, answer.rooms, strict=True):
            if line is not self._line or room.standing is not RoomState.JOINING:
                continue
            error = _decode_failed(found).error
            if error is not None:
                room.refuse(refusal(error))
            else:
                room.enter(line, _decode_joined(found))

    def _not_joined(self, failure: Any, rooms: list[ClientRoom]) -> None:
        if failure.check(ConnectionProblem):
            return
        for room in rooms:
            if room.standing is RoomState.JOINING:
                room.refuse(failure.value)

    # Inside

    def _open_journal(self) -> None:
        journal = self._journal
        if journal is None or self._journal_open:
            return
        posts = journal.open(self._device)
        self._journal_open = True
        assert journal.device is not None
        for post in posts:
            self.outbox.add(Pending(post, None))

    def _who(self) -> str:
        if self._given_device is None and self._journal is not None and self._journal.device is not None:
            return self._journal.device
        return self._device

    def _save_cursors(self) -> None:
        cursors, self._cursors = self._cursors, {}
        if cursors and self._journal is not None:
            self._quietly(lambda journal: journal.move(cursors))

    def _quietly(self, write: Callable[[Journal], None]) -> None:
        """Write what may be lost: then something is read or sent twice, and the server knows its key."""
        assert self._journal is not None
        try:
            write(self._journal)
        except ClientError as error:
            self.log.error("{error}", error=str(error))

    def _wait_in(self, waiters: list[Deferred[None]]) -> Deferred[None]:
        waiter: Deferred[None] = Deferred(lambda cancelled: waiters.remove(cancelled))
        waiters.append(waiter)
        return waiter
