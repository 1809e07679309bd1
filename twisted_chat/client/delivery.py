"""Delivery of one room's events to the program: handlers, ``async for`` loops, and how far the saved cursor may go.

In:   the next event of the log, or a notice that is in no log.
Out:  calls of handlers and items of loops, in the order of the log; a cursor to save, once every event up to it has been handled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeVar
from weakref import WeakSet

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_chat.client.connection import AnyEvent
from twisted_chat.client.errors import ClientStopped, RoomLeft
from twisted_chat.events import Cursor

#: Events that wait for a slow ``async for``.  Beyond, they are left with the server and read again when there is space.
INBOX_EVENTS = 10_000

T = TypeVar("T")


class _EventInProgress:
    """One event that the program handles: the saved cursor waits for it."""

    __slots__ = ("cursor", "handlers")

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.handlers = 0


class Delivery:
    """What the program has asked to be given of one room.

    :param room: its name, for the log.
    :param save: keeps a cursor; None: none is kept.
    :param resume: called when loops have space again after :attr:`full`.
    :ivar full: a loop has as many events waiting as it may; no more are taken until ``resume``.
    """

    log = Logger()

    def __init__(self, room: str, save: Callable[[Cursor], None] | None, resume: Callable[[], None]) -> None:
        self.full = False
        self._room = room
        self._save = save
        self._resume = resume
        self._handlers: list[tuple[type[Any], Callable[[Any], object]]] = []
        self._readings: WeakSet[Reading] = WeakSet()
        self._in_progress: deque[_EventInProgress] = deque()

    @property
    def waiting(self) -> list[int]:
        """How many events wait in each loop."""
        return [len(reading) for reading in self._readings]

    def add_handler(self, kind: type[T], handler: Callable[[T], object]) -> Callable[[], None]:
        """Call ``handler`` with everything of that kind; the answer is a function that ends it."""
        entry = (kind, handler)
        self._handlers.append(entry)

        def remove() -> None:
            if entry in self._handlers:
                self._handlers.remove(entry)

        return remove

    def new_reading(self) -> Reading:
        """An ``async for`` over what comes from now on."""
        reading = Reading(self)
        self._readings.add(reading)
        return reading

    def deliver(self, event: AnyEvent, cursor: Cursor) -> None:
        """The next event of the log."""
        progress = _EventInProgress(cursor)
        if self._save is not None:
            self._in_progress.append(progress)
        self._call_handlers(event, progress)
        for reading in list(self._readings):
            progress.handlers += 1
            if reading.add(event, progress) >= INBOX_EVENTS:
                self.full = True
        self._save_handled()

    def notify(self, notice: object) -> None:
        """Something that is in no log."""
        self._call_handlers(notice, None)

    def end(self, error: Exception) -> None:
        """Loops end when they have handled what waits."""
        for reading in list(self._readings):
            reading.end(error)

    def event_handled(self, progress: _EventInProgress) -> None:
        """One handler or loop is done with that event."""
        progress.handlers -= 1
        self._save_handled()

    def event_taken(self) -> None:
        """A loop has taken an event out of its inbox."""
        if self.full and all(len(reading) <= INBOX_EVENTS // 2 for reading in self._readings):
            self._resume()

    def _call_handlers(self, item: object, progress: _EventInProgress | None) -> None:
        for kind, handler in list(self._handlers):
            if not isinstance(item, kind):
                continue
            try:
                result = handler(item)
            except Exception:
                self.log.failure("A handler of {room} failed", room=self._room)
                continue
            if isawaitable(result):
                self._run(result, progress)

    def _run(self, result: Awaitable[object], progress: _EventInProgress | None) -> None:
        async def wait() -> object:
            return await result

        running = result if isinstance(result, Deferred) else Deferred.fromCoroutine(wait())
        running.addErrback(lambda failure: self.log.failure("A handler of {room} failed", failure, room=self._room))
        if progress is not None:
            progress.handlers += 1
            running.addBoth(lambda _: self.event_handled(progress))

    def _save_handled(self) -> None:
        """The saved cursor goes up to the first event that is still in progress."""
        done: Cursor | None = None
        while self._in_progress and self._in_progress[0].handlers <= 0:
            done = self._in_progress.popleft().cursor
        if done is not None and self._save is not None:
            self._save(done)


class Reading(AsyncIterator[AnyEvent]):
    """One ``async for`` over a room."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._inbox: deque[tuple[AnyEvent, _EventInProgress]] = deque()
        self._waiting: Deferred[None] | None = None
        self._current: _EventInProgress | None = None
        self._ended: Exception | None = None

    def __len__(self) -> int:
        return len(self._inbox)

    def add(self, event: AnyEvent, progress: _EventInProgress) -> int:
        """One more event; answers how many wait."""
        self._inbox.append((event, progress))
        self._wake()
        return len(self._inbox)

    def end(self, error: Exception) -> None:
        """The loop ends when it has handled what waits."""
        self._ended = error
        self._wake()

    async def __anext__(self) -> AnyEvent:
        if self._current is not None:
            current, self._current = self._current, None
            self._delivery.event_handled(current)
        while not self._inbox:
            if self._ended is not None:
                if isinstance(self._ended, ClientStopped | RoomLeft):
                    raise StopAsyncIteration
                raise self._ended
            self._waiting = Deferred()
            await self._waiting
        event, self._current = self._inbox.popleft()
        self._delivery.event_taken()
        return event

    def __del__(self) -> None:
        # The loop was left: nobody will handle what it had been given.
        for progress in [progress for _, progress in self._inbox] + ([self._current] if self._current is not None else []):
            progress.handlers -= 1

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
