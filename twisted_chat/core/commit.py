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

from twisted_chat.core.room import Room
from twisted_chat.core.scheduler import Scheduler
from twisted_chat.errors import ChatError, InternalError, Unavailable
from twisted_chat.events import Event, NewEvent
from twisted_chat.interfaces import Append, Appended, LogStore, Outcome

#: Turns of the reactor that a small batch waits for more; together less than the fsync that is saved.
MOST_TURNS = 16
#: … and seconds: turns are long while a large room is written to.
MOST_SECONDS = 0.01
#: The part of what came last time that is enough to begin, and what is enough in any case: more would not make a line cheaper.
NEARLY_ALL = 7 / 8
ENOUGH = 512

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


class BatchDelay:
    """Decides when a batch begins: at the end of the turn, or a few turns later while much less has come than of late.

    After a batch has been delivered its senders answer, but not all in one turn of the reactor.  Beginning with the first of them
    makes two batches out of one (1 line, then the other 15), and each batch costs an fsync and one write per member: in a room of
    1,000 that halved the deliveries.  Waiting for the others costs some turns without anything to do, 15 us each, and only where
    batches have been larger of late; a room in which one person writes at a time waits for nothing.  Nearly all are waited for, not
    half of them: two batches of 16 instead of one of 32 took 1.3 times the CPU for each line and delivered 0.9 times as many.

    :param waiting: how much has come.
    :param begin: takes what has come.
    :param now: monotonic seconds.
    """

    __slots__ = ("_begin", "_expected", "_now", "_scheduler", "_since", "_turns", "_waiting", "under_way")

    def __init__(
        self, scheduler: Scheduler, waiting: Callable[[], int], begin: Callable[[], None], now: Callable[[], float]
    ) -> None:
        self._scheduler = scheduler
        self._now = now
        self._since = 0.0
        self._waiting = waiting
        self._begin = begin
        self._expected = 0
        self._turns = 0
        self.under_way = False

    def start(self) -> None:
        """Something has come: begin soon.  Again while it is under way: nothing happens."""
        if not self.under_way:
            self.under_way = True
            self._turns = 0
            self._scheduler.at_end(self._look)

    def start_now(self) -> None:
        """What has come had time enough to: begin at once unless it is little."""
        self.under_way = True
        self._turns = 0
        self._look()

    def _look(self) -> None:
        waiting = self._waiting()
        enough = min(ENOUGH, int(self._expected * NEARLY_ALL))
        if waiting < enough and self._turns < MOST_TURNS and self._in_time():
            self._turns += 1
            self._scheduler.at_next(self._look)
            return
        # Slowly downwards: one small batch among large ones is an accident.
        self._expected = max(waiting, self._expected * 3 // 4)
        self.under_way = False
        self._begin()

    def _in_time(self) -> bool:
        now = self._now()
        if not self._turns:
            self._since = now
        return now - self._since < MOST_SECONDS
