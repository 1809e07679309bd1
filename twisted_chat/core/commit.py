"""Group commit: what queued up while the last transaction ran is the next one; there is no timer.

In:   new events of all senders (:meth:`GroupCommit.submit`).
Out:  one batch at a time to the store; its events to the announcer; outcomes to the senders.  Both come after the commit.

See ``docs/decisions/03-group-commit.rst`` and ``docs/decisions/02-acknowledged-means-committed.rst``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Struct
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.core.announcer import Announcer
from twisted_chat.core.configuration import Configuration
from twisted_chat.core.room import Room
from twisted_chat.core.scheduler import Scheduler
from twisted_chat.errors import ChatError, Unavailable, as_chat_error
from twisted_chat.events import Event, NewEvent
from twisted_chat.store_contract import Append, Appended, LogStore, Outcome

#: Turns of the reactor that a small batch waits for more; together less than the fsync that is saved.
MAX_DELAY_TURNS = 16
#: Seconds that it waits at most: turns are long while a large room is written to.
MAX_DELAY_SECONDS = 0.01
#: The part of the last batch that is enough to begin, and the number of events that is enough in any case: more would not make one
#: cheaper.
ENOUGH_PART = 7 / 8
ENOUGH_EVENTS = 512

#: Events in one transaction: some 40 ms of SQLite's time, so that an acknowledgement never waits for much more.
BATCH_EVENTS = 8_192

#: Bytes of content in one transaction, and so in the memory of its one statement, which holds them several times.  With twice as
#: much, 64 MiB that one connection pushes made the process grow by 100 MiB instead of 65.
BATCH_BYTES = 4_194_304
#: Bytes that an event that waits costs beside its content (objects and list entries).
EVENT_BYTES = 256

Done = Callable[[Sequence[Outcome]], None]


class AppendRequest(Struct, frozen=True, eq=False, gc=False):
    """New events of one sender for one room, from one read of its socket.

    :ivar done: called with one outcome for each event, after the events have been announced; None: nobody waits for it.
    :ivar failed: called instead when none of them could be kept.
    :ivar size: bytes of their texts and data, roughly; each event costs :data:`EVENT_BYTES` besides while it waits.
    """

    room: Room
    new_events: list[NewEvent]
    done: Done | None
    failed: Callable[[ChatError], None]
    size: int = 0


class GroupCommit:
    """Commits the append requests for all durable rooms.

    :ivar waiting_events: events that no transaction has taken yet; ``waiting_bytes`` their approximate memory.
    :ivar healthy: the last commit succeeded.
    """

    log = Logger()

    def __init__(
        self,
        store: LogStore,
        announcer: Announcer,
        scheduler: Scheduler,
        configuration: Configuration,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._announcer = announcer
        self._scheduler = scheduler
        self._configuration = configuration
        self._waiting: list[AppendRequest] = []
        self._running: list[AppendRequest] = []
        self._delay = BatchDelay(scheduler, lambda: self.waiting_events, self._start_batch, now)
        self._idle: list[Deferred[None]] = []
        self._answers: list[Callable[[], None]] = []
        #: Requests that are committed and wait for events of others to be announced first.
        self._late = 0
        self.waiting_events = 0
        self.waiting_bytes = 0
        self.healthy = True

    def submit(self, request: AppendRequest) -> None:
        """Commit it with the next batch; :class:`Unavailable` when too much is waiting already."""
        limits = self._configuration.limits
        count = len(request.new_events)
        events, size = self.waiting_events + count, self.waiting_bytes + request.size + EVENT_BYTES * count
        if events > limits.uncommitted or size > limits.uncommitted_bytes:
            raise Unavailable(f"the store is behind by {self.waiting_events} messages; try again", retry_after_ms=1000)
        self._waiting.append(request)
        self.waiting_events, self.waiting_bytes = events, size
        if not self._running:
            self._delay.start()

    @property
    def busy(self) -> bool:
        """Whether anything submitted has not been answered."""
        return bool(self._running or self._waiting or self._answers or self._late)

    def idle(self) -> Deferred[None]:
        """Fires when everything submitted has been answered."""
        if not self.busy:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._idle.append(waiter)
        return waiter

    def _start_batch(self) -> None:
        batch = self._running = self._take_batch()
        appends: dict[Room, list[NewEvent]] = {}
        for request in batch:
            new_events = appends.get(request.room)
            if new_events is None:
                appends[request.room] = list(request.new_events)
            else:
                new_events.extend(request.new_events)
        rooms = list(appends)
        self._announcer.commit_began(rooms)
        maybeDeferred(self._store.append, [Append(room.name, new_events) for room, new_events in appends.items()]).addCallbacks(
            self._committed, self._failed, callbackArgs=(batch, rooms), errbackArgs=(batch, rooms)
        )

    def _take_batch(self) -> list[AppendRequest]:
        taken = count = size = 0
        for request in self._waiting:
            if taken and (count + len(request.new_events) > BATCH_EVENTS or size + request.size > BATCH_BYTES):
                break
            taken += 1
            count += len(request.new_events)
            size += request.size
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self.waiting_events -= count
        self.waiting_bytes -= size + EVENT_BYTES * count
        return batch

    def _committed(self, outcomes: list[list[Outcome]], batch: list[AppendRequest], rooms: list[Room]) -> None:
        self.healthy = True
        self._answer_batch(lambda: self._deliver(dict(zip(rooms, outcomes, strict=True)), batch), rooms)

    def _failed(self, failure: Failure, batch: list[AppendRequest], rooms: list[Room]) -> None:
        error = as_chat_error(failure, self.log, "committing a batch")
        if self.healthy:
            self.log.error("Nothing can be kept: {error}", error=error.message)
        self.healthy = False
        self._answer_batch(lambda: self._refuse(error, batch), rooms)

    def _answer_batch(self, answer: Callable[[], None], rooms: list[Room]) -> None:
        """Tell the senders of a batch what became of it, in the order of the batches, while the store works on the next one.

        A store in memory answers the next batch before this one has been told; so there is a queue.
        """

        def work() -> None:
            try:
                answer()
            finally:
                self._announcer.commit_ended(rooms)

        self._answers.append(work)
        if len(self._answers) > 1:
            return
        while self._answers:
            self._start_next()
            try:
                self._answers[0]()
            except Exception:
                self.log.failure("Bug while answering a batch")
            del self._answers[0]
        self._fire_idle()

    def _deliver(self, outcomes: dict[Room, list[Outcome]], batch: list[AppendRequest]) -> None:
        late: dict[Room, int] = {}
        for room, results in outcomes.items():
            events: list[Event] = [result.event for result in results if type(result) is Appended]
            if events and not self._announcer.announce(room, events):
                late[room] = events[-1].seq
        places = dict.fromkeys(outcomes, 0)
        for request in batch:
            room = request.room
            start = places[room]
            end = places[room] = start + len(request.new_events)
            if request.done is not None:
                if room in late:
                    self._answer_late(late[room], request, outcomes[room][start:end])
                else:
                    self._answer_sender(request, outcomes[room][start:end])

    def _answer_sender(self, request: AppendRequest, outcomes: list[Outcome]) -> None:
        assert request.done is not None
        try:
            request.done(outcomes)
        except Exception:
            self.log.failure("Bug while telling a sender what was committed")

    def _answer_late(self, seq: int, request: AppendRequest, outcomes: list[Outcome]) -> None:
        def work() -> None:
            self._late -= 1
            self._answer_sender(request, outcomes)
            self._fire_idle()

        self._late += 1
        self._announcer.when_announced(request.room, seq, work)

    def _refuse(self, error: ChatError, batch: list[AppendRequest]) -> None:
        for request in batch:
            try:
                request.failed(error)
            except Exception:
                self.log.failure("Bug while telling a sender what was not committed")

    def _start_next(self) -> None:
        self._running = []
        if self._waiting:
            self._delay.start_now()

    def _fire_idle(self) -> None:
        if self._idle and not self.busy:
            waiters, self._idle = self._idle, []
            for waiter in waiters:
                self._scheduler.at_next(partial(waiter.callback, None))


class BatchDelay:
    """Decides when a batch begins: at the end of the turn, or a few turns later while much fewer events wait than usual.

    After a batch has been delivered its senders answer, but not all in one turn of the reactor.  Beginning with the first of them
    makes two batches out of one (1 line, then the other 15), and each batch costs an fsync and one write per member: in a room of
    1,000 that halved the deliveries.  Waiting for the others costs some turns without anything to do, 15 us each, and only where
    recent batches were larger; a room in which one user writes at a time waits for nothing.  Nearly all are waited for, not
    half of them: two batches of 16 instead of one of 32 took 1.3 times the CPU for each line and delivered 0.9 times as many.

    :param waiting: how many events wait.
    :param begin: begins the batch.
    :param now: monotonic seconds.
    """

    __slots__ = ("_begin", "_expected", "_now", "_scheduler", "_since", "_turns", "_waiting", "scheduled")

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
        self.scheduled = False

    def start(self) -> None:
        """An event waits: begin soon.  Calling it again before that changes nothing."""
        if not self.scheduled:
            self.scheduled = True
            self._turns = 0
            self._scheduler.at_end(self._check)

    def start_now(self) -> None:
        """The events that wait had time enough: begin at once unless they are few."""
        self.scheduled = True
        self._turns = 0
        self._check()

    def _check(self) -> None:
        waiting = self._waiting()
        enough = min(ENOUGH_EVENTS, int(self._expected * ENOUGH_PART))
        if waiting < enough and self._turns < MAX_DELAY_TURNS and self._in_time():
            self._turns += 1
            self._scheduler.at_next(self._check)
            return
        # The expectation falls slowly: one small batch among large ones is an accident.
        self._expected = max(waiting, self._expected * 3 // 4)
        self.scheduled = False
        self._begin()

    def _in_time(self) -> bool:
        now = self._now()
        if not self._turns:
            self._since = now
        return now - self._since < MAX_DELAY_SECONDS
