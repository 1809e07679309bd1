"""Group commit: what queued up while the last transaction ran is the next one; there is no timer (design decision 3).

Drafts come in from sessions, go to the store as one batch, and come back as events that the rooms announce and as
outcomes for those who sent them.  Both come after the commit (design decision 2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Struct
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.core.gathering import BatchDelay
from twisted_chat.core.room import Room
from twisted_chat.core.scheduler import Scheduler
from twisted_chat.drafts import NewEvent, NewMessage, NewTopic
from twisted_chat.errors import ChatError, Forbidden, InternalError, Unavailable
from twisted_chat.events import Event, Message, TopicSet
from twisted_chat.interfaces import Append, Appended, Duplicate, LogStore, Outcome

#: Drafts in one transaction: some 40 ms of SQLite's time, so that an acknowledgement never waits for much more.
BATCH_EVENTS = 8_192

Done = Callable[[Sequence[Outcome]], None]


class AppendRequest(Struct, frozen=True, eq=False, gc=False):
    """Drafts of one sender for one room, from one read of its socket.

    :ivar done: called with one outcome for each draft, after the events have been announced; None: nobody waits for it.
    :ivar failed: called instead when none of them could be kept.
    """

    room: Room
    new_events: list[NewEvent]
    done: Done | None
    failed: Callable[[ChatError], None]


class GroupCommit:
    """Takes postings for all durable rooms.

    :ivar waiting_drafts: drafts that no transaction has taken yet.
    """

    log = Logger()

    def __init__(self, store: LogStore, scheduler: Scheduler, most_waiting: int, now: Callable[[], float]) -> None:
        self._store = store
        self._scheduler = scheduler
        self._most_waiting = most_waiting
        self._waiting: list[AppendRequest] = []
        self._running: list[AppendRequest] = []
        self._gathering = BatchDelay(scheduler, lambda: self.waiting_events, self._start, now)
        self._idle: list[Deferred[None]] = []
        self._answers: list[Callable[[], None]] = []
        self.waiting_events = 0
        self.healthy = True

    def submit(self, request: AppendRequest) -> None:
        """Commit it with the next batch; :class:`Unavailable` when too much is waiting already."""
        if self.waiting_events + len(request.new_events) > self._most_waiting:
            raise Unavailable(f"the store is behind by {self.waiting_events} messages; try again", retry_after_ms=1000)
        self._waiting.append(request)
        self.waiting_events += len(request.new_events)
        if not self._running:
            self._gathering.start()

    @property
    def busy(self) -> bool:
        """Whether anything submitted has not been answered."""
        return bool(self._running or self._waiting or self._answers)

    def idle(self) -> Deferred[None]:
        """Fires when everything submitted has been answered."""
        if not self.busy:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._idle.append(waiter)
        return waiter

    def _start(self) -> None:
        batch = self._running = self._take()
        appends: dict[Room, list[NewEvent]] = {}
        for request in batch:
            new_events = appends.get(request.room)
            if new_events is None:
                appends[request.room] = list(request.new_events)
            else:
                new_events.extend(request.new_events)
        rooms = list(appends)
        maybeDeferred(self._store.append, [Append(room.name, new_events) for room, new_events in appends.items()]).addCallbacks(
            self._committed, self._failed, callbackArgs=(batch, rooms), errbackArgs=(batch,)
        )

    def _take(self) -> list[AppendRequest]:
        taken = count = 0
        for request in self._waiting:
            if taken and count + len(request.new_events) > BATCH_EVENTS:
                break
            taken += 1
            count += len(request.new_events)
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self.waiting_events -= count
        return batch

    def _committed(self, outcomes: list[list[Outcome]], batch: list[AppendRequest], rooms: list[Room]) -> None:
        self.healthy = True
        self._answer(lambda: self._deliver(dict(zip(rooms, outcomes, strict=True)), batch))

    def _failed(self, failure: Failure, batch: list[AppendRequest]) -> None:
        error = failure.value
        if not isinstance(error, ChatError):
            self.log.failure("The store failed in a way it should not", failure)
            error = InternalError("the server could not keep the message; see its log")
        elif self.healthy:
            self.log.error("Nothing can be kept: {error}", error=str(error))
        self.healthy = False
        self._answer(lambda: self._refuse(error, batch))

    def _answer(self, tell: Callable[[], None]) -> None:
        """Tell what became of a batch, in the order of the batches, while the store works on the next one.

        A store in memory answers the next batch before this one has been told; so there is a queue.
        """
        self._answers.append(tell)
        if len(self._answers) > 1:
            return
        while self._answers:
            self._next()
            try:
                self._answers[0]()
            except Exception:
                self.log.failure("Telling what was committed failed")
            del self._answers[0]

    def _deliver(self, outcomes: dict[Room, list[Outcome]], batch: list[AppendRequest]) -> None:
        for room, results in outcomes.items():
            events: list[Event] = [result.event for result in results if type(result) is Appended]
            if events:
                try:
                    room.announce(events)
                except Exception:
                    self.log.failure("Announcing in {room} failed", room=room.name)
        places = dict.fromkeys(outcomes, 0)
        for request in batch:
            start = places[request.room]
            end = places[request.room] = start + len(request.new_events)
            if request.done is not None:
                try:
                    request.done(outcomes[request.room][start:end])
                except Exception:
                    self.log.failure("Telling a sender what was committed failed")

    def _refuse(self, error: ChatError, batch: list[AppendRequest]) -> None:
        for request in batch:
            try:
                request.failed(error)
            except Exception:
                self.log.failure("Telling a sender what was not committed failed")

    def _next(self) -> None:
        self._running = []
        if self._waiting:
            self._gathering.start_now()
        elif self._idle:
            waiters, self._idle = self._idle, []
            for waiter in waiters:
                self._scheduler.at_next(partial(waiter.callback, None))


#: Keys of ephemeral messages that are remembered, so that a retry is answered and not repeated.
REMEMBERED_KEYS = 10_000


class EphemeralLog:
    """Numbers what is posted to rooms that keep nothing; the same way as :class:`GroupCommit`, without a store.

    :param life: no other life of a server has this name; with a count of the batches it makes the ids of events.
    """

    log = Logger()

    def __init__(self, scheduler: Scheduler, now_ms: Callable[[], int], run_id: str, now: Callable[[], float]) -> None:
        self._gathering = BatchDelay(scheduler, lambda: self._new_events, self._announce, now)
        self._new_events = 0
        self._now_ms = now_ms
        self._run_id = run_id
        self._batches = 0
        self._waiting: dict[Room, list[AppendRequest]] = {}
        self._keys: dict[tuple[str, str, str], Event] = {}

    def submit(self, request: AppendRequest) -> None:
        """Announce it at the end of this turn."""
        self._new_events += len(request.new_events)
        waiting = self._waiting.get(request.room)
        if waiting is not None:
            waiting.append(request)
            return
        self._waiting[request.room] = [request]
        self._gathering.start()

    def _announce(self) -> None:
        waiting, self._waiting, self._new_events = self._waiting, {}, 0
        for room, requests in waiting.items():
            try:
                self._announce_room(room, requests)
            except Exception:
                self.log.failure("Announcing in an ephemeral room failed")

    def _announce_room(self, room: Room, requests: list[AppendRequest]) -> None:
        self._batches += 1
        now, batch = self._now_ms(), f"{self._run_id}{self._batches:x}"
        events: list[Event] = []
        answers: list[tuple[Done, list[Outcome]]] = []
        for request in requests:
            if request.done is None:
                self._number_unasked(room, request.new_events, events, batch, now)
            else:
                answers.append(
                    (request.done, [self._number(room, new_event, events, batch, now) for new_event in request.new_events])
                )
        if events:
            room.announce(events)
        for done, outcomes in answers:
            done(outcomes)

    def _number_unasked(self, room: Room, new_events: list[NewEvent], events: list[Event], batch: str, now: int) -> None:
        """As :meth:`_number` for each of a plain client's lines, of which nobody asks what became: 0.4 us less."""
        seq = room.head + len(events)
        for new_event in new_events:
            if type(new_event) is NewMessage and new_event.key is None:
                seq += 1
                events.append(
                    Message(seq, f"{batch}-{seq}", now, new_event.by, None, new_event.text, new_event.data, new_event.reply_to)
                )
            else:
                self._number(room, new_event, events, batch, now)
                seq = room.head + len(events)

    def _number(self, room: Room, new_event: NewEvent, events: list[Event], batch: str, now: int) -> Outcome:
        key, seq = new_event.key, room.head + len(events) + 1
        if key is not None:
            first = self._keys.get((room.name, new_event.by.id, key))
            if first is not None:
                return Duplicate(first)
        event: Event
        if type(new_event) is NewMessage:
            event = Message(seq, f"{batch}-{seq}", now, new_event.by, key, new_event.text, new_event.data, new_event.reply_to)
        elif type(new_event) is NewTopic:
            event = TopicSet(seq=seq, id=f"{batch}-{seq}", at=now, by=new_event.by, key=key, text=new_event.text)
        else:
            return Forbidden("this room keeps nothing, so nothing in it can be edited, deleted or reacted to")
        events.append(event)
        if key is not None:
            self._keys[(room.name, new_event.by.id, key)] = event
            if len(self._keys) > REMEMBERED_KEYS:
                del self._keys[next(iter(self._keys))]
        return Appended(event)
