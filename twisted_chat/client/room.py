"""A room as a program sees it: events in, commands out, over however many connections.

The room keeps a cursor: a (re)join says how far it has read, and the server goes on from there.  What a program sends goes to the
outbox and from there, in order, to whichever connection there is.  A program takes events by :meth:`ClientRoom.on` (called at once, may
be a coroutine) or by ``async for`` (one after the other, each when the last is done).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from enum import Enum, auto
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

import msgspec
from msgspec import Struct, UnsetType
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.client.backoff import Backoff
from twisted_chat.client.connection import AnyEvent, ClientConnection, decode_event
from twisted_chat.client.errors import ClientEnded, ClientError, ClientStopped, ConnectionProblem, RoomLeft
from twisted_chat.client.outbox import MOST_FAULTS, Pace, Pending, Post, committed_event, longest_wait
from twisted_chat.errors import ChatError, InternalError, TooBig
from twisted_chat.events import Author, Cursor
from twisted_chat.protocol.commands import (
    Command,
    Delete,
    Edit,
    History,
    JoinRoom,
    Leave,
    Presence,
    React,
    Read,
    Send,
    Topic,
    Typing,
)
from twisted_chat.protocol.replies import (
    Joined,
    LivePush,
    Ok,
    PostOk,
    PresenceOk,
    PresencePush,
    PresenceState,
    Present,
    ReadOk,
)

if TYPE_CHECKING:
    from twisted_chat.client.service import ChatClient

#: Events that wait for a slow ``async for``.  Beyond, they are left with the server and read again when there is space.
INBOX_EVENTS = 10_000
#: More than any room has: everything from the beginning.
_ALL = 2**53 - 1

T = TypeVar("T")
A = TypeVar("A", bound=Struct)


class RoomState(Enum):
    """How a room stands with the present connection."""

    OUT = auto()  #: not joined, or not yet
    JOINING = auto()
    IN = auto()  #: joined; what was missed is being read
    LIVE = auto()  #: everything that there is has been read
    REFUSED = auto()  #: the server will not have us in
    LEFT = auto()  #: by the program


class Reset(Struct, frozen=True):
    """The log does not go on where we stopped reading: forget what was read, what follows is the room as it is now.

    :ivar why: ``epoch`` (another database), ``fork`` or ``ahead`` (restored from a backup), ``expired`` (not kept so long).
    """

    room: str
    why: str


class HistoryPage(Struct, frozen=True):
    """A page of messages in their present state, oldest first."""

    events: tuple[AnyEvent, ...]
    head: int
    more_before: bool
    more_after: bool


class _HistoryOk(Ok, frozen=True, kw_only=True, tag="ok"):
    head: int
    events: list[msgspec.Raw]
    more_before: bool
    more_after: bool


class _Kind(Struct):
    kind: str


_decode_kind = msgspec.json.Decoder(_Kind).decode


class _Delivery:
    """One event on its way through the program: the saved cursor waits for it."""

    __slots__ = ("cursor", "under_way")

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.under_way = 0


class _Question:
    """A command that may be asked again: it waits for a connection, and for the next one if that breaks."""

    def __init__(self, command: Command, answer: type[Any], result: Deferred[Any], backoff: Backoff) -> None:
        self.command = command
        self.backoff = backoff
        self.answer = answer
        self.result = result
        self.later: IDelayedCall | None = None

    def wait_no_more(self) -> None:
        """It is asked anew by the next connection, or not at all."""
        if self.later is not None and self.later.active():
            self.later.cancel()


class ClientRoom:
    """A room that the program wants to be in.  Made by :meth:`~twisted_chat.client.ChatClient.room`.

    :ivar name: its name.
    :ivar standing: how it stands with the present connection.
    :ivar cursor: how far was read.
    :ivar joined: what the server said of the room at the last join; None before the first.
    :ivar people: with presence: who is here, by id.  ``count``: how many, also in rooms too large for a list.
    """

    log = Logger()

    def __init__(self, client: ChatClient, name: str, history: int | None, presence: bool, cursor: Cursor | None) -> None:
        self.name = name
        self.standing = RoomState.OUT
        self.cursor = cursor
        self.joined: Joined | None = None
        self.people: dict[str, Present] = {}
        self.count = 0
        self._client = client
        self._history = _ALL if history is None else history
        self._presence = presence
        self._presence_version = -1
        self._position = 0
        self._holding = False
        self._line: ClientConnection | None = None
        self._refused: Exception | None = None
        self._handlers: list[tuple[type[Any], Callable[[Any], object]]] = []
        self._readings: WeakSet[Reading] = WeakSet()
        self._deliveries: deque[_Delivery] = deque()
        self._waiters: list[Deferred[None]] = []
        self._questions: list[_Question] = []
        self._pace = Pace()
        self._backoff = Backoff(client.random)
        self._in_flight = False
        self._later: IDelayedCall | None = None

    # Saying something: each answers the committed event

    def send(
        self, text: str | None = None, *, data: bytes | None = None, reply_to: int | None = None, key: str | None = None
    ) -> Deferred[Any]:
        """Say something; fires with the committed :class:`~twisted_chat.events.Message`.

        Offline it waits.  However often the connection breaks, it is in the log once.

        :param data: bytes instead of text.
        :param key: our own name for it, at most 64 characters: saying the same key again is no second message, also days later.
        """
        return self._post(Send(room=self.name, key=key or self._client.new_key(), text=text, data=data, reply_to=reply_to))

    def edit(self, of: int, revision: int, text: str, *, key: str | None = None) -> Deferred[Any]:
        """Give the own message number ``of`` another text; ``Conflict`` if ``revision`` is not its present one."""
        return self._post(Edit(room=self.name, key=key or self._client.new_key(), of=of, revision=revision, text=text))

    def delete(self, of: int, *, key: str | None = None) -> Deferred[Any]:
        """Take the message number ``of`` back."""
        return self._post(Delete(room=self.name, key=key or self._client.new_key(), of=of))

    def react(self, of: int, emoji: str, on: bool = True, *, key: str | None = None) -> Deferred[Any]:
        """Put an emoji on message number ``of``, or take it away."""
        return self._post(React(room=self.name, key=key or self._client.new_key(), of=of, emoji=emoji, on=on))

    def set_topic(self, text: str, *, key: str | None = None) -> Deferred[Any]:
        """Give the room a topic."""
        return self._post(Topic(room=self.name, key=key or self._client.new_key(), text=text))

    def typing(self) -> None:
        """The program (or its person) is writing: told to the others, or not, as it happens."""
        if self._line is not None and self.standing in (RoomState.IN, RoomState.LIVE):
            self._line.tell(Typing(room=self.name))

    # Asking: each waits for a connection if need be

    async def history(
        self, *, before: int | None = None, after: int | None = None, around: int | None = None, limit: int = 50
    ) -> HistoryPage:
        """A page of messages by number; without a place the newest ones."""
        ask = History(room=self.name, before=before, after=after, around=around, limit=limit)
        page = await self._ask(ask, _HistoryOk)
        events = tuple(decode_event(bytes(event), _decode_kind(event).kind) for event in page.events)
        return HistoryPage(events, page.head, page.more_before, page.more_after)

    async def mark_read(self, seq: int) -> int:
        """The person has read up to there; answers the mark, a maximum over all devices."""
        return (await self._ask(Read(room=self.name, seq=seq), ReadOk)).seq

    async def presence(self) -> PresenceState:
        """Who is here now."""
        return await self._ask(Presence(room=self.name), PresenceOk)

    # Taking part

    def on(self, kind: type[T], handler: Callable[[T], object]) -> Callable[[], None]:
        """Call ``handler`` with each event (``Message``, ``Edited``, …) or notice (``TypingPush``, ``Reset``, …) of that kind.

        It is called in the order of the log; if it is a coroutine it goes on by itself, and its failure is logged.  ``object`` is
        every kind.  The answer is a function that ends it.
        """
        entry = (kind, handler)
        self._handlers.append(entry)

        def off() -> None:
            if entry in self._handlers:
                self._handlers.remove(entry)

        return off

    def __aiter__(self) -> AsyncIterator[AnyEvent]:
        """The events of the log from now on, one after the other."""
        reading = Reading(self)
        self._readings.add(reading)
        return reading

    def when_joined(self) -> Deferred[None]:
        """Fires when the room is joined; fails if the server refuses for good."""
        if self._refused is not None:
            return fail(self._refused)
        if self.standing in (RoomState.IN, RoomState.LIVE):
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        return waiter

    def leave(self) -> None:
        """Be in the room no more; what is not acknowledged fails with :class:`RoomLeft`."""
        if self._line is not None and self.standing in (RoomState.IN, RoomState.LIVE):
            self._line.tell(Leave(room=self.name))
        self._client.forget(self)
        self._stop(RoomLeft(f"{self.name} was left"))
        self.standing = RoomState.LEFT

    # The client calls

    def wish(self) -> JoinRoom:
        """How to join now."""
        since = self.cursor
        if since is not None and since.id is None:
            # The connection broke before the first event of everything that there is.
            since = Cursor(since.epoch, 0)
        return JoinRoom(room=self.name, since=since, tail=self._history, presence=self._presence)

    @property
    def wants_in(self) -> bool:
        """Whether to join at the next opportunity."""
        return self.standing is RoomState.OUT and self._later is None

    def joining(self) -> None:
        """The join is on its way."""
        self.standing = RoomState.JOINING

    def enter(self, line: ClientConnection, joined: Joined) -> None:
        """The server let us in; the events from ``joined.from_`` on follow."""
        self._line = line
        self.joined = joined
        self.standing = RoomState.IN
        self._holding = False
        self._backoff.reset()
        known = self.cursor
        if known is None:
            self._begin(joined)
        elif joined.recovered is True or _goes_on(known, joined):
            self._position = known.seq
        else:
            self._begin(joined)
            self._notice(Reset(self.name, joined.why if isinstance(joined.why, str) else "expired"))
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)
        for question in list(self._questions):
            self._put(question)
        self._client.pump_soon()

    def refuse(self, error: ChatError) -> None:
        """The server did not let us in."""
        self.standing = RoomState.OUT
        if error.retry:
            self._try_later(self._backoff.wait((error.retry_after_ms or 0) / 1000))
            return
        self.log.error("{room} cannot be joined: {error}", room=self.name, error=str(error))
        self._stop(error)
        self.standing = RoomState.REFUSED

    def disconnected(self) -> None:
        """The connection is gone."""
        self._line = None
        self._in_flight = False
        self._presence_version = -1
        for question in self._questions:
            question.wait_no_more()
        if self.standing not in (RoomState.REFUSED, RoomState.LEFT):
            self.standing = RoomState.OUT
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def end(self, error: ClientError) -> None:
        """The client is stopped, or has given up."""
        self._stop(error)
        self._refused = None
        self.standing = RoomState.OUT

    def event(self, event: AnyEvent) -> None:
        """The next event of the log."""
        me = self._client.me
        if me is not None and event.by.id == me.id:
            self._is_committed(event)
        if self._holding or self.joined is None or event.seq <= self._position:
            return
        self._position = event.seq
        cursor = self.cursor = Cursor(self.joined.epoch, event.seq, event.id)
        self._deliver(event, _Delivery(cursor))

    def push(self, push: object) -> None:
        """Something that is in no log."""
        if isinstance(push, LivePush):
            if self.standing not in (RoomState.IN, RoomState.LIVE):
                return  # about a join that was left before; the present one is not answered yet
            self.standing = RoomState.LIVE
        elif isinstance(push, PresencePush):
            self._see_presence(push)
        self._notice(push)

    def pump(self) -> None:
        """Send what waits, if it may be sent."""
        line = self._line
        if line is None or self._in_flight or self._later is not None or self.standing not in (RoomState.IN, RoomState.LIVE):
            return
        limits = line.welcome.limits
        allowed = min(self._pace.together, self._client.rate.available())
        group = self._client.outbox.first(self.name, max(1, allowed), limits.frame)
        if not group:
            return
        if len(group[0].wire) + 32 > limits.frame:
            self._settle_refused(group[0], TooBig(f"text: with all around it, a message may have {limits.frame} bytes"))
            self._client.pump_soon()
            return
        if allowed == 0:
            self._try_later(self._client.rate.wait())
            return
        self._client.rate.take(len(group))
        self._in_flight = True
        answers = _Answers(self, line, group)
        for pending, answer in zip(group, line.ask_all([pending.wire for pending in group], PostOk), strict=True):
            answer.addCallbacks(answers.kept, answers.refused, callbackArgs=(pending,), errbackArgs=(pending,))

    # Inside: what was sent

    def _post(self, command: Post) -> Deferred[Any]:
        outbox = self._client.outbox
        if (known := outbox.find(self.name, command.key)) is not None:
            return _follow(known)
        error = self._refused or self._client.over
        if error is None and self.standing is RoomState.LEFT:
            error = RoomLeft(f"{self.name} was left")
        if error is not None:
            return fail(error)
        pending = Pending(command, Deferred())
        try:
            outbox.check_space()
            self._client.keep(pending)
        except ClientError as problem:
            return fail(problem)
        outbox.add(pending)
        self._client.pump_soon()
        assert pending.result is not None
        return pending.result

    def _is_committed(self, event: AnyEvent) -> None:
        """Our own event in the log says more than an acknowledgement, which may be lost."""
        pending = self._client.outbox.find(self.name, event.key)
        if pending is not None:
            self._settle(pending, event)

    def _settle(self, pending: Pending, event: AnyEvent) -> None:
        if self._client.settle(pending) and pending.result is not None:
            pending.result.callback(event)

    def _settle_refused(self, pending: Pending, error: Exception) -> None:
        if not self._client.settle(pending):
            return
        if pending.result is not None:
            pending.result.errback(error)
        else:
            self.log.error("What was accepted before is refused: {key}: {error}", key=pending.key, error=str(error))

    def answered(self, line: ClientConnection, kept: int, held_back: Sequence[ChatError]) -> None:
        """A whole group is answered."""
        if line is not self._line:
            return
        self._in_flight = False
        if held_back:
            self._pace.held_back()
            self._try_later(self._backoff.wait(longest_wait(held_back)))
        elif kept:
            self._pace.kept()
            self._backoff.reset()
        self._client.pump_soon()

    def post_kept(self, pending: Pending, ok: PostOk) -> None:
        """It is in the log."""
        me = self._client.me
        assert me is not None, "an answer without a welcome"
        self._settle(pending, committed_event(pending.command, ok, Author(me.id, me.name), self._client.now_ms()))

    def post_refused(self, pending: Pending, error: ChatError) -> bool:
        """It is not; whether it will be tried again."""
        if isinstance(error, InternalError):
            pending.faults += 1
        if error.retry and pending.faults < MOST_FAULTS:
            return True
        self._settle_refused(pending, error)
        return False

    def _try_later(self, seconds: float) -> None:
        if self._later is None:
            self._later = self._client.clock.callLater(seconds, self._now)

    def _now(self) -> None:
        self._later = None
        self._client.pump_soon()

    # Inside: questions

    def _ask(self, command: Command, answer: type[A]) -> Deferred[A]:
        error = self._refused or self._client.over
        if error is not None:
            return fail(error)

        def cancelled(_: object) -> None:
            question.wait_no_more()
            self._questions.remove(question)

        result: Deferred[A] = Deferred(cancelled)
        question = _Question(command, answer, result, Backoff(self._client.random))
        self._questions.append(question)
        if self.standing in (RoomState.IN, RoomState.LIVE):
            self._put(question)
        return result

    def _put(self, question: _Question) -> None:
        if self._line is None or question not in self._questions:
            return

        def answered(answer: object) -> None:
            if question in self._questions:
                self._questions.remove(question)
                question.result.callback(answer)

        def failed(failure: Failure) -> None:
            error = failure.value
            if question not in self._questions or isinstance(error, ConnectionProblem):
                return  # the next connection asks again
            if isinstance(error, ChatError) and error.retry:
                wait = question.backoff.wait((error.retry_after_ms or 0) / 1000)
                question.later = self._client.clock.callLater(wait, self._put, question)
                return
            self._questions.remove(question)
            question.result.errback(failure)

        self._line.ask(question.command, question.answer).addCallbacks(answered, failed)

    # Inside: what comes

    def _begin(self, joined: Joined) -> None:
        """Read what the join gives.  Until its first event the cursor is the head, so that nothing after it is missed."""
        self._position = joined.from_ - 1
        if self._history == _ALL or joined.head == 0:
            self.cursor = Cursor(joined.epoch, self._position)
        else:
            self.cursor = Cursor(joined.epoch, joined.head, joined.head_id)
        if joined.from_ > joined.head:
            self._save(self.cursor)

    def _deliver(self, event: AnyEvent, delivery: _Delivery) -> None:
        if self._client.keeps:
            self._deliveries.append(delivery)
        self._call(event, delivery)
        for reading in list(self._readings):
            delivery.under_way += 1
            if reading.take(event, delivery) >= INBOX_EVENTS:
                self._holding = True
        self._confirm()

    def _notice(self, notice: object) -> None:
        self._call(notice, None)

    def _call(self, said: object, delivery: _Delivery | None) -> None:
        for kind, handler in list(self._handlers):
            if not isinstance(said, kind):
                continue
            try:
                result = handler(said)
            except Exception:
                self.log.failure("A handler of {room} failed", room=self.name)
                continue
            if isawaitable(result):
                self._look_after(result, delivery)

    def _look_after(self, result: Awaitable[object], delivery: _Delivery | None) -> None:
        async def run() -> object:
            return await result

        running = result if isinstance(result, Deferred) else Deferred.fromCoroutine(run())
        running.addErrback(lambda failure: self.log.failure("A handler of {room} failed", failure, room=self.name))
        if delivery is not None:
            delivery.under_way += 1
            running.addBoth(lambda _: self.handled(delivery))

    def handled(self, delivery: _Delivery) -> None:
        """Somebody is done with that event."""
        delivery.under_way -= 1
        self._confirm()

    def space(self) -> None:
        """An ``async for`` has taken an event: read on, if that had to wait for it."""
        if not self._holding or self._line is None or self.standing not in (RoomState.IN, RoomState.LIVE):
            return
        if all(len(reading) <= INBOX_EVENTS // 2 for reading in self._readings):
            # What is on its way is dropped until the answer to the join, which says that everything after the cursor follows.
            self._line.tell(Leave(room=self.name))
            self.standing = RoomState.OUT
            self._client.pump_soon()

    def _confirm(self) -> None:
        """The saved cursor goes up to the first event that is still under way."""
        done: Cursor | None = None
        while self._deliveries and self._deliveries[0].under_way <= 0:
            done = self._deliveries.popleft().cursor
        if done is not None:
            self._save(done)

    def _save(self, cursor: Cursor) -> None:
        self._client.save_cursor(self.name, cursor)

    def _see_presence(self, push: PresencePush) -> None:
        self.count = push.count
        if isinstance(push.previous, UnsetType):
            self.people = {} if isinstance(push.people, UnsetType) else {user.id: user for user in push.people}
        elif push.previous != self._presence_version:
            # One was missed: start from the whole list again.
            self._ask(Presence(room=self.name, on=True), PresenceOk).addCallbacks(self._see_all, lambda _: None)
            return
        else:
            for user in () if isinstance(push.came, UnsetType) else push.came:
                self.people[user.id] = user
            for gone in () if isinstance(push.left, UnsetType) else push.left:
                self.people.pop(gone, None)
        self._presence_version = push.version

    def _see_all(self, state: PresenceState) -> None:
        self.count = state.count
        self.people = {} if isinstance(state.people, UnsetType) else {user.id: user for user in state.people}
        self._presence_version = state.version

    def _stop(self, error: Exception) -> None:
        """No more of anything."""
        self._refused = error
        self.disconnected()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(error)
        questions, self._questions = self._questions, []
        for question in questions:
            question.result.errback(error)
        for pending in self._client.outbox.of_room(self.name):
            self._client.drop(pending, error)
        for reading in list(self._readings):
            reading.end(error)


class _Answers:
    """The answers to one group, until the last of them."""

    def __init__(self, room: ClientRoom, line: ClientConnection, group: Sequence[Pending]) -> None:
        self._room = room
        self._line = line
        self._open = len(group)
        self._kept = 0
        self._held_back: list[ChatError] = []

    def kept(self, ok: PostOk, pending: Pending) -> None:
        self._kept += 1
        self._room.post_kept(pending, ok)
        self._one_less()

    def refused(self, failure: Failure, pending: Pending) -> None:
        error = failure.value
        if isinstance(error, ChatError) and self._room.post_refused(pending, error):
            self._held_back.append(error)
        elif not isinstance(error, ChatError | ConnectionProblem):
            self._room.log.failure("An answer cannot be understood", failure)
        self._one_less()

    def _one_less(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._room.answered(self._line, self._kept, self._held_back)


class Reading(AsyncIterator[AnyEvent]):
    """One ``async for`` over a room."""

    def __init__(self, room: ClientRoom) -> None:
        self._room = room
        self._inbox: deque[tuple[AnyEvent, _Delivery]] = deque()
        self._waiting: Deferred[None] | None = None
        self._current: _Delivery | None = None
        self._ended: Exception | None = None

    def __len__(self) -> int:
        return len(self._inbox)

    def take(self, event: AnyEvent, delivery: _Delivery) -> int:
        """One more event; answers how many wait."""
        self._inbox.append((event, delivery))
        self._wake()
        return len(self._inbox)

    def end(self, error: Exception) -> None:
        """What waits is still read; then it is over."""
        self._ended = error
        self._wake()

    async def __anext__(self) -> AnyEvent:
        if self._current is not None:
            current, self._current = self._current, None
            self._room.handled(current)
        while not self._inbox:
            if self._ended is not None:
                if isinstance(self._ended, ClientStopped | RoomLeft):
                    raise StopAsyncIteration
                raise self._ended
            self._waiting = Deferred()
            await self._waiting
        event, self._current = self._inbox.popleft()
        self._room.space()
        return event

    def __del__(self) -> None:
        # The loop was left: nobody will handle what it had been given.
        for delivery in [delivery for _, delivery in self._inbox] + ([self._current] if self._current is not None else []):
            delivery.under_way -= 1

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


def _goes_on(known: Cursor, joined: Joined) -> bool:
    """Nothing was missed though the cursor had no id that the server could have compared."""
    return known.id is None and known.epoch == joined.epoch and joined.from_ <= known.seq + 1


def _follow(pending: Pending) -> Deferred[Any]:
    """Another Deferred for the same result."""
    follower: Deferred[Any] = Deferred()
    if pending.result is None:
        pending.result = Deferred()

    def kept(event: object) -> object:
        follower.callback(event)
        return event

    def refused(failure: Failure) -> Failure:
        follower.errback(failure)
        return failure

    pending.result.addCallbacks(kept, refused)
    return follower


__all__ = ["ClientEnded", "ClientRoom", "HistoryPage", "Reading", "Reset", "RoomState"]
