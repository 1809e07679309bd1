"""Readers that are programs: a webhook, a search index, another program's code.

In:   a room, a cursor to start from, and ``deliver``, which takes a batch of events.
Out:  every event after the cursor, in order; the next batch only when the Deferred of the last one has fired.

A follower holds a position and no queue: while ``deliver`` is slow it costs nothing but that number.  A batch that fails is delivered
again, after a growing delay, so each event is delivered at least once; a follower with a name keeps its cursor in the store and goes on
there after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.core.history import History, Unrecoverable
from twisted_chat.core.room import Room
from twisted_chat.core.scheduler import CallLater
from twisted_chat.errors import BadRequest
from twisted_chat.events import Cursor, Event
from twisted_chat.store_contract import CursorStore

#: Events in one batch, at most.
BATCH_EVENTS = 256
#: Characters of a reader's name.
NAME_MAX = 128

#: Seconds before a failed batch is delivered again: the first delay, which doubles, and the longest.
FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0

#: Receives the next events; they count as delivered when its Deferred (if it answers one) fires.
Deliver = Callable[[Sequence[Event]], "Deferred[None] | None"]

#: Called when a cursor cannot be resumed, with the reason, before the first event that is still kept.
OnReset = Callable[[Unrecoverable], None]


class Follower:
    """One program that reads one room.

    :param name: of the reader in the cursor store, 1 to :data:`NAME_MAX` characters; None: its cursor is not kept.
    :param since: where to start if no cursor is kept; None: with what comes from now on.
    :ivar position: everything up to and including this number has been delivered.
    :ivar failures: deliveries that failed in a row.
    """

    log = Logger()

    def __init__(
        self,
        room: Room,
        deliver: Deliver,
        *,
        history: History,
        cursors: CursorStore,
        current: Callable[[Room], Deferred[None] | None],
        call_later: CallLater,
        name: str | None,
        since: Cursor | None,
        on_reset: OnReset | None,
        on_stop: Callable[[Follower], None],
    ) -> None:
        if name is not None and not 1 <= len(name) <= NAME_MAX:
            raise BadRequest(f"name: 1 to {NAME_MAX} characters, this has {len(name)}")
        self._room = room
        self._deliver = deliver
        self._history = history
        self._cursors = cursors
        self._current = current
        self._call_later = call_later
        self._name = name
        self._on_reset = on_reset
        self._on_stop = on_stop
        self._busy = True
        self._stopped = False
        #: The kept cursor is of no use any more, and may be ahead of the one that takes its place.
        self._rewind = False
        #: The next try, after a failure.
        self._next_try: IDelayedCall | None = None
        self._idle: list[Deferred[None]] = []
        self.position = room.log.head
        self.failures = 0
        room.add_listener(self._room_grew)
        self._start(since)

    @property
    def lag(self) -> int:
        """Events that are not delivered yet."""
        return max(0, self._room.log.head - self.position)

    def stop(self) -> Deferred[None]:
        """Deliver nothing more; fires when the delivery in progress has ended and its cursor is kept."""
        if not self._stopped:
            self._stopped = True
            self._room.remove_listener(self._room_grew)
            self._on_stop(self)
            if self._next_try is not None:
                self._next_try.cancel()
                self._next_try = None
                self._pause()
        if not self._busy:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle

    def _start(self, since: Cursor | None) -> None:
        current = self._current(self._room)
        started = (
            self._load() if current is None else current.addCallback(lambda _: self._begin_at_head()).addCallback(self._load)
        )
        started.addCallback(lambda cursors: self._check(cursors.get(self._room.name, since)))
        started.addCallbacks(lambda _: self._next_batch(), lambda failure: self._retry(failure, lambda: self._start(since)))

    def _begin_at_head(self) -> None:
        # What was said before the room came into memory here is not "from now on".
        self.position = self._room.log.head

    def _load(self, _: None = None) -> Deferred[dict[str, Cursor]]:
        return succeed({}) if self._name is None else self._cursors.load_cursors(self._name)

    def _check(self, cursor: Cursor | None) -> Deferred[None] | None:
        if cursor is None:
            return None
        checked = self._history.check_cursor(self._room.log, cursor)
        return checked.addCallback(lambda why: self._begin_at(cursor, why))

    def _begin_at(self, cursor: Cursor, why: Unrecoverable | None) -> None:
        if why is None:
            self.position = cursor.seq
            return
        log = self._room.log
        self.position = (log.first if log.durable else log.cache.base) - 1
        self._rewind = True
        if self._on_reset is not None:
            self._on_reset(why)

    def _room_grew(self) -> None:
        if not self._busy:
            self._next_batch()

    def _next_batch(self) -> None:
        if self._stopped or self.position >= self._room.log.head:
            self._pause()
            return
        self._busy = True
        cached = self._cached_events()
        events = succeed(cached) if cached else self._history.read_for_catch_up(self._room.name, self.position)
        events.addCallback(self._deliver_batch).addErrback(self._retry, self._next_batch)

    def _cached_events(self) -> list[Event]:
        log = self._room.log
        index = log.cache.after(self.position)
        if index is None and not log.durable:
            index = 0
        return [] if index is None else log.cache.events[index : index + BATCH_EVENTS]

    def _deliver_batch(self, events: list[Event]) -> Deferred[None]:
        # The store may be ahead of what has been announced, which the announcement will bring.
        events = [event for event in events[:BATCH_EVENTS] if event.seq <= self._room.log.head]
        if not events:
            # Retention has removed everything up to the head.
            self.position = self._room.log.head
            return succeed(None).addCallback(lambda _: self._next_batch())
        delivered = maybeDeferred(self._deliver, events)
        return delivered.addCallback(lambda _: self._delivered(events[-1]))

    def _delivered(self, last: Event) -> Deferred[None]:
        self.failures = 0
        self.position = last.seq
        saved: Deferred[None] = succeed(None)
        if self._name is not None:
            cursor = Cursor(self._room.log.epoch, last.seq, last.id)
            saved = self._cursors.save_cursor(self._name, self._room.name, cursor, rewind=self._rewind)
            saved.addCallback(self._saved)
            # What cannot be saved now is saved with the next batch; after a crash meanwhile it is delivered again.
            saved.addErrback(lambda failure: self.log.error("Could not save the cursor of {name}", name=self._name))
        return saved.addCallback(lambda _: self._call_soon())

    def _saved(self, _: None) -> None:
        self._rewind = False

    def _call_soon(self) -> None:
        # Not from here: a program that answers at once would make the stack as deep as the log is long.
        self._call_later(0, self._next_batch)

    def _retry(self, failure: Failure, work: Callable[[], None]) -> None:
        delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(self.failures, 10))
        if not self.failures:
            self.log.failure("Following {room} failed, next try in {delay} s", failure, room=self._room.name, delay=delay)
        self.failures += 1
        if self._stopped:
            self._pause()
        else:
            self._next_try = self._call_later(delay, lambda: self._try_again(work))

    def _try_again(self, work: Callable[[], None]) -> None:
        self._next_try = None
        work()

    def _pause(self) -> None:
        self._busy = False
        idle, self._idle = self._idle, []
        for each in idle:
            each.callback(None)


class Followers:
    """All programs that read rooms of one chat.

    :param current: fires when a room is what the store has; None: it is already.
    """

    def __init__(
        self,
        history: History,
        cursors: CursorStore,
        call_later: CallLater,
        current: Callable[[Room], Deferred[None] | None],
    ) -> None:
        self._history = history
        self._cursors = cursors
        self._current = current
        self._call_later = call_later
        self._running: set[Follower] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(
        self, room: Room, deliver: Deliver, *, name: str | None, since: Cursor | None, on_reset: OnReset | None
    ) -> Follower:
        """A new one; :class:`BadRequest` if the name is not valid."""
        follower = Follower(
            room,
            deliver,
            history=self._history,
            cursors=self._cursors,
            current=self._current,
            call_later=self._call_later,
            name=name,
            since=since,
            on_reset=on_reset,
            on_stop=self._running.discard,
        )
        self._running.add(follower)
        return follower

    def stop(self) -> Deferred[None]:
        """Stop all of them; fires when the deliveries in progress have ended."""
        return DeferredList([follower.stop() for follower in list(self._running)]).addCallback(lambda _: None)
