"""Readers that are behind take turns: with one another, and by time with everybody who is at the head.

In:   sessions with subscriptions that are behind (:meth:`CatchUp.feed`, :meth:`CatchUp.later`); reads of the store that these need.
Out:  each gets its next part; in one turn of the reactor no more than :data:`TURN_SECONDS` of it.

Without that, 100 clients that came back 10,000 messages behind made the acknowledgements of all others wait for up to three seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred

from twisted_chat.core.log import ReadLog
from twisted_chat.core.scheduler import Scheduler
from twisted_chat.core.subscription import Subscription, SubscriptionState
from twisted_chat.events import Event
from twisted_chat.interfaces import Connection

#: Bytes given to one connection that catches up before the others have their turn.
FEED_BYTES = 262_144
#: Seconds of one turn of the reactor for all that catch up; the last of them may take the time of one write more.
TURN_SECONDS = 0.01
#: Events that may be missing from one that does not wait for its turn: a connection that was full for a moment, or joins at the head.
NEAR_EVENTS = 64
#: Reads of the store in progress for them; each answer is some milliseconds of work.
READS_AT_ONCE = 4


class Reader:
    """The part of a session that reads logs.

    :ivar behind: its subscriptions that have to be fed; None: none, as nearly always.
    :ivar queued: it waits for its turn.
    """

    __slots__ = ("behind", "connection", "queued")

    connection: Connection

    def __init__(self) -> None:
        self.behind: dict[Subscription, None] | None = None
        self.queued = False

    def fell_behind(self, subscription: Subscription) -> None:
        """That subscription has to be fed."""
        # A dictionary of those alone: one who has joined many rooms need not look at each of them.
        if self.behind is None:
            self.behind = {}
        self.behind[subscription] = None

    def forget(self, subscription: Subscription) -> None:
        """That subscription is closed."""
        if self.behind is not None:
            self.behind.pop(subscription, None)
            if not self.behind:
                self.behind = None

    def feed_part(self) -> bool:
        """Give every subscription that is behind its next parts, in turns; whether there is more to give."""
        given = 0
        while self.takes_events and (behind := self.behind) is not None:
            if given >= FEED_BYTES:
                return True
            for subscription in [*behind]:
                if subscription.state is SubscriptionState.BEHIND and not self.connection.congested:
                    given += subscription.feed()
                if subscription.state is not SubscriptionState.BEHIND:
                    behind.pop(subscription, None)
            if not behind:
                # An emptied dictionary has 200 bytes.
                self.behind = None
        # That a subscription is live must be said before the next event is written to it directly.
        self.flush()
        return False

    @property
    def takes_events(self) -> bool:
        """Whether anything may be written."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write the answers collected; a dialect without answers has none."""

    def caught_up(self, subscription: Subscription) -> None:
        """That subscription is live."""

    def missed(self, subscription: Subscription, count: int) -> None:
        """Events are gone that this subscription has not delivered."""


class CatchUp:
    """The readers of one chat that are behind.

    :param now: monotonic seconds.
    """

    def __init__(self, scheduler: Scheduler, now: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._now = now
        self._queue: deque[Reader] = deque()
        self._spent = 0.0
        self._scheduled = False

    def start(self, reader: Reader, subscription: Subscription, position: int) -> None:
        """Let a new subscription of the reader read from after ``position``."""
        if position == subscription.log.head and reader.behind is None and reader.takes_events:
            # As nearly always: nothing to catch up with, and no turn to wait for.
            subscription.start_live()
            reader.flush()
        else:
            subscription.start(position)
            self.feed(reader)

    def feed(self, reader: Reader) -> None:
        """Feed it now if nobody waits and the turn has time left, or if it needs little; in its turn otherwise."""
        busy = self._queue or self._spent >= TURN_SECONDS
        if busy and sum(subscription.lag for subscription in reader.behind or ()) > NEAR_EVENTS:
            self.later(reader)
        else:
            self._visit(reader)

    def later(self, reader: Reader) -> None:
        """Feed it behind those that wait."""
        if not reader.queued:
            reader.queued = True
            self._queue.append(reader)
            self._run_soon()

    def _run_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._scheduler.at_next(self._run)

    def _run(self) -> None:
        self._scheduled = False
        self._spent = 0.0
        # Each once in a turn, so that a reader alone does not keep the reactor from its sockets.
        for _ in range(len(self._queue)):
            if self._spent >= TURN_SECONDS:
                break
            reader = self._queue.popleft()
            reader.queued = False
            self._visit(reader)
        if self._queue:
            self._run_soon()

    def _visit(self, reader: Reader) -> None:
        began = self._now()
        try:
            more = reader.feed_part()
        finally:
            self._spent += self._now() - began
            if self._spent >= TURN_SECONDS:
                self._run_soon()
        if more:
            self.later(reader)


class ReadTurns:
    """Reads of the store for those that catch up: a few at once, so that their answers do not come all in one turn."""

    def __init__(self, read: ReadLog, scheduler: Scheduler) -> None:
        self._read = read
        self._scheduler = scheduler
        self._waiting: deque[tuple[str, int, Deferred[list[Event]]]] = deque()
        self._running = 0

    def read(self, room: str, after: int) -> Deferred[list[Event]]:
        """As the store's read, in its turn."""
        if self._running < READS_AT_ONCE:
            return self._begin(room, after)
        answer: Deferred[list[Event]] = Deferred()
        self._waiting.append((room, after, answer))
        return answer

    def _begin(self, room: str, after: int) -> Deferred[list[Event]]:
        self._running += 1
        return self._read(room, after).addBoth(self._ended)

    def _ended(self, result: list[Event]) -> list[Event]:
        self._running -= 1
        if self._waiting:
            self._scheduler.at_next(self._begin_next)
        return result

    def _begin_next(self) -> None:
        while self._waiting and self._running < READS_AT_ONCE:
            room, after, answer = self._waiting.popleft()
            self._begin(room, after).chainDeferred(answer)
