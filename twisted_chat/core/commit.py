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

from twisted_chat.core.gathering import Gathering
from twisted_chat.core.room import Room
from twisted_chat.core.scheduler import Turn
from twisted_chat.drafts import Draft, MessageDraft, TopicDraft
from twisted_chat.errors import ChatError, Forbidden, InternalError, Unavailable
from twisted_chat.events import Event, Message, TopicSet
from twisted_chat.interfaces import Append, Appended, LogStore, Outcome, Repeated

#: Drafts in one transaction: some 40 ms of SQLite's time, so that an acknowledgement never waits for much more.
BATCH_DRAFTS = 8_192

Done = Callable[[Sequence[Outcome]], None]


class Posting(Struct, frozen=True, eq=False, gc=False):
    """Drafts of one sender for one room, from one read of its socket.

    :ivar done: called with one outcome for each draft, after the events have been announced; None: nobody waits for it.
    :ivar failed: called instead when none of them could be kept.
    """

    room: Room
    drafts: list[Draft]
    done: Done | None
    failed: Callable[[ChatError], None]


class GroupCommit:
    """Takes postings for all durable rooms.

    :ivar waiting_drafts: drafts that no transaction has taken yet.
    """

    log = Logger()

    def __init__(self, store: LogStore, turn: Turn, most_waiting: int, now: Callable[[], float]) -> None:
        self._store = store
        self._turn = turn
        self._most_waiting = most_waiting
        self._waiting: list[Posting] = []
        self._running: list[Posting] = []
        self._gathering = Gathering(turn, lambda: self.waiting_drafts, self._start, now)
        self._idle: list[Deferred[None]] = []
        self._answers: list[Callable[[], None]] = []
        self.waiting_drafts = 0
        self.healthy = True

    def submit(self, posting: Posting) -> None:
        """Commit it with the next batch; :class:`Unavailable` when too much is waiting already."""
        if self.waiting_drafts + len(posting.drafts) > self._most_waiting:
            raise Unavailable(f"the store is behind by {self.waiting_drafts} messages; try again", retry_after_ms=1000)
        self._waiting.append(posting)
        self.waiting_drafts += len(posting.drafts)
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
        appends: dict[Room, list[Draft]] = {}
        for posting in batch:
            drafts = appends.get(posting.room)
            if drafts is None:
                appends[posting.room] = list(posting.drafts)
            else:
                drafts.extend(posting.drafts)
        rooms = list(appends)
        maybeDeferred(self._store.append, [Append(room.name, drafts) for room, drafts in appends.items()]).addCallbacks(
            self._committed, self._failed, callbackArgs=(batch, rooms), errbackArgs=(batch,)
        )

    def _take(self) -> list[Posting]:
        taken = count = 0
        for posting in self._waiting:
            if taken and count + len(posting.drafts) > BATCH_DRAFTS:
                break
            taken += 1
            count += len(posting.drafts)
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self.waiting_drafts -= count
        return batch

    def _committed(self, outcomes: list[list[Outcome]], batch: list[Posting], rooms: list[Room]) -> None:
        self.healthy = True
        self._answer(lambda: self._deliver(dict(zip(rooms, outcomes, strict=True)), batch))

    def _failed(self, failure: Failure, batch: list[Posting]) -> None:
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

    def _deliver(self, outcomes: dict[Room, list[Outcome]], batch: list[Posting]) -> None:
        for room, results in outcomes.items():
            events: list[Event] = [result.event for result in results if type(result) is Appended]
            if events:
                try:
                    room.announce(events)
                except Exception:
                    self.log.failure("Announcing in {room} failed", room=room.name)
        places = dict.fromkeys(outcomes, 0)
        for posting in batch:
            start = places[posting.room]
            end = places[posting.room] = start + len(posting.drafts)
            if posting.done is not None:
                try:
                    posting.done(outcomes[posting.room][start:end])
                except Exception:
                    self.log.failure("Telling a sender what was committed failed")

    def _refuse(self, error: ChatError, batch: list[Posting]) -> None:
        for posting in batch:
            try:
                posting.failed(error)
            except Exception:
                self.log.failure("Telling a sender what was not committed failed")

    def _next(self) -> None:
        self._running = []
        if self._waiting:
            self._gathering.start_now()
        elif self._idle:
            waiters, self._idle = self._idle, []
            for waiter in waiters:
                self._turn.at_next(partial(waiter.callback, None))


#: Keys of ephemeral messages that are remembered, so that a retry is answered and not repeated.
REMEMBERED_KEYS = 10_000


class EphemeralLog:
    """Numbers what is posted to rooms that keep nothing; the same way as :class:`GroupCommit`, without a store.

    :param life: no other life of a server has this name; with a count of the batches it makes the ids of events.
    """

    log = Logger()

    def __init__(self, turn: Turn, now_ms: Callable[[], int], life: str, now: Callable[[], float]) -> None:
        self._gathering = Gathering(turn, lambda: self._drafts, self._announce, now)
        self._drafts = 0
        self._now_ms = now_ms
        self._life = life
        self._batches = 0
        self._waiting: dict[Room, list[Posting]] = {}
        self._keys: dict[tuple[str, str, str], Event] = {}

    def submit(self, posting: Posting) -> None:
        """Announce it at the end of this turn."""
        self._drafts += len(posting.drafts)
        waiting = self._waiting.get(posting.room)
        if waiting is not None:
            waiting.append(posting)
            return
        self._waiting[posting.room] = [posting]
        self._gathering.start()

    def _announce(self) -> None:
        waiting, self._waiting, self._drafts = self._waiting, {}, 0
        for room, postings in waiting.items():
            try:
                self._announce_room(room, postings)
            except Exception:
                self.log.failure("Announcing in an ephemeral room failed")

    def _announce_room(self, room: Room, postings: list[Posting]) -> None:
        self._batches += 1
        now, batch = self._now_ms(), f"{self._life}{self._batches:x}"
        events: list[Event] = []
        answers: list[tuple[Done, list[Outcome]]] = []
        for posting in postings:
            if posting.done is None:
                self._number_unasked(room, posting.drafts, events, batch, now)
            else:
                answers.append((posting.done, [self._number(room, draft, events, batch, now) for draft in posting.drafts]))
        if events:
            room.announce(events)
        for done, outcomes in answers:
            done(outcomes)

    def _number_unasked(self, room: Room, drafts: list[Draft], events: list[Event], batch: str, now: int) -> None:
        """As :meth:`_number` for each of a plain client's lines, of which nobody asks what became: 0.4 us less."""
        seq = room.head + len(events)
        for draft in drafts:
            if type(draft) is MessageDraft and draft.key is None:
                seq += 1
                events.append(Message(seq, f"{batch}-{seq}", now, draft.by, None, draft.text, draft.data, draft.reply_to))
            else:
                self._number(room, draft, events, batch, now)
                seq = room.head + len(events)

    def _number(self, room: Room, draft: Draft, events: list[Event], batch: str, now: int) -> Outcome:
        key, seq = draft.key, room.head + len(events) + 1
        if key is not None:
            first = self._keys.get((room.name, draft.by.id, key))
            if first is not None:
                return Repeated(first)
        event: Event
        if type(draft) is MessageDraft:
            event = Message(seq, f"{batch}-{seq}", now, draft.by, key, draft.text, draft.data, draft.reply_to)
        elif type(draft) is TopicDraft:
            event = TopicSet(seq=seq, id=f"{batch}-{seq}", at=now, by=draft.by, key=key, text=draft.text)
        else:
            return Forbidden("this room keeps nothing, so nothing in it can be edited, deleted or reacted to")
        events.append(event)
        if key is not None:
            self._keys[(room.name, draft.by.id, key)] = event
            if len(self._keys) > REMEMBERED_KEYS:
                del self._keys[next(iter(self._keys))]
        return Appended(event)
