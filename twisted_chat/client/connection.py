"""One connection from hello to its end: commands out, one answer for each, pushes in.

::

    -> GET /ws (token in a header)          <- 101
    -> hello                                <- welcome           the line is open
    -> [send, send, send]                   <- event …, ok, ok, ok
                                            <- ping
    -> pong

Nothing here survives the connection; what must is kept by :mod:`twisted_chat.client.room` and ``outbox``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar, get_args

import msgspec
from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_chat.client.errors import Closed, ConnectionProblem, refusal
from twisted_chat.client.transport import Socket, Transport
from twisted_chat.errors import ChatError, Unauthenticated
from twisted_chat.events import Author, Event
from twisted_chat.protocol.commands import Command, Hello, Ping
from twisted_chat.protocol.replies import (
    ByePush,
    Error,
    GapPush,
    LivePush,
    Ok,
    PingPush,
    PongPush,
    PresencePush,
    Push,
    ReadPush,
    RemovedPush,
    RightsPush,
    TypingPush,
    Welcome,
)

#: Seconds in all for TCP, TLS, the handshake and the welcome: a server that accepts and says nothing is none.
CONNECT_SECONDS = 10.0
#: Seconds beyond the server's ping interval after which silence means that the connection is dead.
PATIENCE = 10.0
#: Seconds for the server to answer the close frame.
CLOSE_SECONDS = 2.0

T = TypeVar("T")
A = TypeVar("A", bound=Struct)


class UnknownEvent(Struct, frozen=True, kw_only=True):
    """An event of a kind that this version does not know; it has its place in the log all the same."""

    seq: int
    id: str
    at: int
    by: Author
    kind: str
    key: str | None = None


AnyEvent = Event | UnknownEvent
_KINDS = frozenset(str(event.__struct_config__.tag) for event in get_args(Event))


class _Head(Struct):
    """What every object has."""

    type: str
    id: int | str | None = None
    room: str = ""
    kind: str = ""


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_event: Callable[[bytes], Event] = msgspec.json.Decoder(Event).decode
_decode_unknown = msgspec.json.Decoder(UnknownEvent).decode
_decode_error = msgspec.json.Decoder(Error).decode
_decode_push: Callable[[bytes], Push] = msgspec.json.Decoder(
    LivePush | GapPush | RemovedPush | RightsPush | TypingPush | ReadPush | PresencePush | PingPush | PongPush | ByePush
).decode
_PUSHES = frozenset({"live", "gap", "removed", "rights", "typing", "read", "presence", "ping", "pong", "bye"})
_PONG = b'{"type":"pong"}'


class ConnectionListener(Protocol):
    """Who is told what comes."""

    def event(self, room: str, event: AnyEvent) -> None:
        """The next event of a room's log."""

    def push(self, push: Push) -> None:
        """Something that is in no log."""


def encode(command: Command) -> bytes:
    """The command as it is on the wire and in files: without what is absent."""
    fields = {name: value for name in command.__struct_fields__ if (value := getattr(command, name)) is not None}
    return msgspec.json.encode({"type": command.__struct_config__.tag, **fields})


def decode_event(text: bytes, kind: str) -> AnyEvent:
    """One event of a log."""
    return _decode_event(text) if kind in _KINDS else _decode_unknown(text)


class ClientConnection:
    """A connection.  :meth:`open` makes one; :meth:`try_out` and :meth:`greet` are its two halves.

    :ivar welcome: what the server said to the hello.
    :ivar reached: somebody was there.
    :ivar understood: a frame of the server has come through.
    """

    log = Logger()
    welcome: Welcome

    def __init__(self, clock: IReactorTime, listener: ConnectionListener, patience: float = PATIENCE) -> None:
        self._clock = clock
        self._listener = listener
        self._patience = patience
        self._socket: Socket | None = None
        self._opened: Deferred[None] = Deferred()
        self.understood = False
        self._answers: dict[int, tuple[Deferred[Any], type[Any]]] = {}
        self._last_id = 0
        self._heard_at = 0.0
        self._watch: IDelayedCall | None = None
        self._bye: ByePush | None = None
        self._waiting: list[Deferred[ConnectionProblem]] = []
        self._problem: ConnectionProblem | None = None

    @property
    def reached(self) -> bool:
        return self._socket is not None

    async def open(self, transport: Transport, hello: Hello, token: str | None, seconds: float = CONNECT_SECONDS) -> None:
        """Done when the server has said welcome; raises :class:`ConnectionProblem`, and then there is no connection left."""

        async def connect_and_greet() -> None:
            await self._connect(transport, token)
            await self._say_hello(hello)

        await self._within(seconds, connect_and_greet())
        self._watch_silence()

    async def try_out(self, transport: Transport, token: str | None, seconds: float = CONNECT_SECONDS) -> None:
        """Done when a word of the server has come through, and nobody has been greeted yet; raises as :meth:`open`."""

        async def connect_and_ask() -> None:
            await self._connect(transport, token)
            await self.ask(Ping(), Ok)

        await self._within(seconds, connect_and_ask())

    async def greet(self, hello: Hello, seconds: float = CONNECT_SECONDS) -> None:
        """Go on after :meth:`try_out`; raises as :meth:`open`."""
        await self._within(seconds, self._say_hello(hello))
        self._watch_silence()

    async def _within(self, seconds: float, steps: Coroutine[Deferred[Any], Any, None]) -> None:
        """Take these steps in that time, or end."""
        try:
            await Deferred.fromCoroutine(steps).addTimeout(seconds, self._clock)
        except TimeoutError:
            late = ConnectionProblem(f"there was no welcome within {seconds:g} s")
            await self._end(late)
            raise late from None
        except ConnectionProblem as problem:
            await self._end(problem)
            raise
        except CancelledError:
            self.abort(ConnectionProblem("the client was stopped"))
            raise
        except Exception as error:
            unreachable = ConnectionProblem(_why(error))
            await self._end(unreachable)
            raise unreachable from error

    async def _connect(self, transport: Transport, token: str | None) -> None:
        await transport.connect(self, token)
        await self._opened

    async def _say_hello(self, hello: Hello) -> None:
        try:
            self.welcome = await self.ask(hello, Welcome)
        except ChatError as error:
            after = (error.retry_after_ms or 0) / 1000
            wants_token = isinstance(error, Unauthenticated)
            raise ConnectionProblem(
                f"hello: {error.message}", retry=error.retry, retry_after=after, wants_token=wants_token
            ) from error

    def _watch_silence(self) -> None:
        if self._problem is None:
            silence = self.welcome.ping_ms / 1000 + self._patience
            self._watch = self._clock.callLater(silence, self._look, silence)

    async def _end(self, problem: ConnectionProblem) -> None:
        """Not open, and nothing is left: at most one connection at a time."""
        if self._socket is not None:
            self.abort(problem)
            await self.when_ended()

    def when_ended(self) -> Deferred[ConnectionProblem]:
        """Fires with the reason when the connection has ended; never fails."""
        if self._problem is not None:
            return succeed(self._problem)
        waiting: Deferred[ConnectionProblem] = Deferred()
        self._waiting.append(waiting)
        return waiting

    # Out

    def ask(self, command: Command, answer: type[A]) -> Deferred[A]:
        """Send one command; fires with the answer, fails with :class:`ChatError` or :class:`ConnectionProblem`."""
        (deferred,) = self.ask_all([encode(command)], answer)
        return deferred

    def ask_all(self, commands: Sequence[bytes], answer: type[A]) -> list[Deferred[A]]:
        """Send commands (:func:`encode`\\ d, without an id) as one message, so that they take effect together and in order."""
        if self._problem is not None or self._socket is None:
            return [fail(self._problem or Closed(1006, "there is no connection")) for _ in commands]
        deferreds: list[Deferred[A]] = []
        texts = []
        for command in commands:
            self._last_id += 1
            texts.append(b'{"id":%d,' % self._last_id + command[1:])
            deferred: Deferred[A] = Deferred()
            self._answers[self._last_id] = (deferred, answer)
            deferreds.append(deferred)
        self._socket.send_text(texts[0] if len(texts) == 1 else b"[" + b",".join(texts) + b"]")
        return deferreds

    def tell(self, command: Command) -> None:
        """Send a command that needs no answer."""
        if self._problem is None and self._socket is not None:
            self._socket.send_text(encode(command))

    async def close(self) -> None:
        """Say goodbye and end; done when the connection is gone."""
        if self._problem is not None or self._socket is None:
            return
        self._socket.say_goodbye()
        late = self._clock.callLater(CLOSE_SECONDS, self._socket.give_up, ConnectionProblem("the goodbye was not answered"))
        try:
            await self.when_ended()
        finally:
            if late.active():
                late.cancel()

    def abort(self, problem: ConnectionProblem) -> None:
        """End at once."""
        if self._problem is None and self._socket is not None:
            self._socket.give_up(problem)

    # The socket tells

    def connected(self, socket: Socket) -> None:
        """There is a transport."""
        self._socket = socket

    def opened(self) -> None:
        """Frames may be sent."""
        if not self._opened.called:
            self._opened.callback(None)

    def heard(self) -> None:
        """Anything at all came."""
        self._heard_at = self._clock.seconds()

    def received(self, text: bytes) -> None:
        """A message: one object, or an array of them."""
        try:
            if text[:1] == b"[":
                for part in _decode_array(text):
                    self._one(bytes(part))
            else:
                self._one(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.abort(ConnectionProblem(f"what the server says cannot be understood: {error}"))

    def _one(self, text: bytes) -> None:
        if self._problem is not None:
            return
        head = _decode_head(text)
        self.understood = True
        if head.type == "event":
            self._listener.event(head.room, decode_event(text, head.kind))
        elif head.id is not None:
            self._answer(head, text)
        elif head.type in _PUSHES:
            self._push(_decode_push(text))
        elif head.type == "error":
            self.log.warn("The server says: {message}", message=_decode_error(text).message)

    def _answer(self, head: _Head, text: bytes) -> None:
        waiting = self._answers.get(head.id) if isinstance(head.id, int) else None
        if waiting is None:
            return
        deferred, answer = waiting
        # What cannot be understood ends the connection, and with it the waiting for this answer.
        result = refusal(_decode_error(text)) if head.type == "error" else msgspec.json.decode(text, type=answer)
        del self._answers[head.id]  # type: ignore[arg-type]
        if isinstance(result, Exception):
            deferred.errback(result)
        else:
            deferred.callback(result)

    def _push(self, push: Push) -> None:
        match push:
            case PingPush():
                if self._socket is not None:
                    self._socket.send_text(_PONG)
            case ByePush():
                self._bye = push
            case PongPush():
                pass
            case _:
                self._listener.push(push)

    def lost(self, problem: ConnectionProblem) -> None:
        """The connection has ended."""
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        if self._bye is not None and isinstance(problem, Closed):
            problem = _with_bye(problem, self._bye)
        self._problem = problem
        if not self._opened.called:
            self._opened.errback(problem)
            # Whoever waits for it has it; whoever comes later is told by ask_all.
            self._opened.addErrback(lambda _: None)
        answers, self._answers = self._answers, {}
        for deferred, _ in answers.values():
            deferred.errback(problem)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(problem)

    def _look(self, silence: float) -> None:
        """Heartbeat: the server says something at least every ``ping_ms``, or is gone."""
        left = self._heard_at + silence - self._clock.seconds()
        if left <= 0:
            self.abort(ConnectionProblem(f"the server said nothing for {silence:g} s"))
        else:
            self._watch = self._clock.callLater(left, self._look, silence)


def _with_bye(closed: Closed, bye: ByePush) -> Closed:
    """A connection that breaks after the bye and before the close frame ended for the reason of the bye."""
    after = bye.retry_after_ms / 1000 if isinstance(bye.retry_after_ms, int) else 0.0
    if closed.code in (1005, 1006):
        return Closed(bye.code, bye.reason, after)
    return Closed(closed.code, closed.reason or bye.reason, after)


def _why(error: Exception) -> str:
    if isinstance(error, ConnectError):
        return f"the server cannot be reached: {error}".rstrip(".")
    return f"the server cannot be reached: {type(error).__name__}: {error}".rstrip(": .")
