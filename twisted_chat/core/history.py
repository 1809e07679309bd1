"""Reading what was said: pages of messages, parts of the log, and whether a cursor can be resumed.

In:   a room and a place in it.
Out:  a Deferred of events, out of the room's cache where that has them, else of the store.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from twisted.internet.defer import Deferred, DeferredSemaphore, succeed

from twisted_chat.core.configuration import Configuration
from twisted_chat.core.log import RoomLog
from twisted_chat.core.subscription import CATCH_UP_BYTES, CATCH_UP_EVENTS
from twisted_chat.errors import BadRequest
from twisted_chat.events import Cursor, Event
from twisted_chat.store_contract import LogStore, Page

#: Reads of the store for subscriptions that catch up, in progress at once: bounds memory when thousands resume together.
CONCURRENT_READS = 64


class Unrecoverable(Enum):
    """Why a cursor cannot be resumed; the value is ``why`` of the protocol."""

    EPOCH = "epoch"  #: another log, for example a new database
    AHEAD = "ahead"  #: beyond the head: the log was restored from a backup
    EXPIRED = "expired"  #: retention removed what comes next
    FORK = "fork"  #: another event has that number: the log was restored from a backup


class History:
    """Reads the logs of all rooms.

    :param announced: fires when the event of that room and number, which is in the store, has been announced.
    """

    def __init__(self, store: LogStore, configuration: Configuration, announced: Callable[[str, int], Deferred[None]]) -> None:
        self._announced = announced
        self._store = store
        self._configuration = configuration
        self._reads = DeferredSemaphore(CONCURRENT_READS)

    def page(
        self,
        log: RoomLog,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
        reader: str | None = None,
    ) -> Deferred[Page]:
        """At most ``limit`` messages in their present state; without a place: the newest.

        :param reader: the id of a user who is named among those who reacted, however many they are.
        """
        limit = min(limit, self._configuration.limits.history)
        if not log.durable:
            return succeed(_page_of_cache(log, limit, before, after, around))
        return self._store.page(log.name, limit, before=before, after=after, around=around, reader=reader)

    def read(self, log: RoomLog, after: int, limit: int) -> Deferred[list[Event]]:
        """At most ``limit`` events of the log after a number, as the log has them."""
        limit = min(limit, self._configuration.limits.history)
        if log.durable:
            return self._store.read(log.name, after, limit, CATCH_UP_BYTES * 4)
        start = log.cache.after(max(after, log.cache.base - 1)) or 0
        return succeed(log.cache.events[start : start + limit])

    def read_for_catch_up(self, room: str, after: int, most: int = CATCH_UP_EVENTS) -> Deferred[list[Event]]:
        """At most so many events of the log after a number, for a subscription that catches up."""
        return self._reads.run(self._store.read, room, after, min(most, CATCH_UP_EVENTS), CATCH_UP_BYTES)

    def check_cursor(self, log: RoomLog, since: Cursor) -> Deferred[Unrecoverable | None]:
        """None if everything after the cursor can be delivered, else why not.

        Where the cursor is ahead of what has been announced, the client may come from another node, which was faster; then this
        waits until its event has been announced here, too.
        """
        if since.epoch != log.epoch:
            return succeed(Unrecoverable.EPOCH)
        if since.seq > log.head:
            if not log.durable or since.id is None:
                return succeed(Unrecoverable.AHEAD)
            return self._reads.run(self._store.event, log.name, since.seq).addCallback(self._check_ahead, log, since)
        first = log.first if log.durable else log.cache.base
        if since.seq < first - 1:
            return succeed(Unrecoverable.EXPIRED)
        if since.seq == 0:
            return succeed(None)
        if since.id is None:
            raise BadRequest("since: needs the id of the event at seq")
        if since.seq == log.head and log.head_id:
            return succeed(_check_id(since, log.head_id))
        index = log.cache.after(since.seq - 1)
        if index is not None and index < len(log.cache.events):
            return succeed(_check_id(since, log.cache.events[index].id))
        if not log.durable:
            return succeed(None)
        found = self._reads.run(self._store.event, log.name, since.seq)
        return found.addCallback(lambda event: Unrecoverable.EXPIRED if event is None else _check_id(since, event.id))

    def _check_ahead(
        self, event: Event | None, log: RoomLog, since: Cursor
    ) -> Unrecoverable | Deferred[Unrecoverable | None] | None:
        why = Unrecoverable.AHEAD if event is None else _check_id(since, event.id)
        return why or self._announced(log.name, since.seq).addCallback(lambda _: None)


def _check_id(since: Cursor, event_id: str) -> Unrecoverable | None:
    return None if since.id == event_id else Unrecoverable.FORK


def _page_of_cache(log: RoomLog, limit: int, before: int | None, after: int | None, around: int | None) -> Page:
    """A page out of what an ephemeral room still has in memory."""
    cache, events = log.cache, log.cache.events
    if around is not None:
        after = max(0, around - limit // 2 - 1)
    if after is not None:
        start = min(len(events), cache.after(max(after, cache.base - 1)) or 0)
        end = min(len(events), start + limit)
    else:
        end = len(events) if before is None else max(0, min(len(events), before - cache.base))
        start = max(0, end - limit)
    return Page(tuple(events[start:end]), log.head, start > 0, end < len(events))
