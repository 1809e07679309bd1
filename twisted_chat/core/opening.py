"""Rooms that come into memory on one of several nodes: what the others have written meanwhile.

In:   a room made of what this node knew at its start, or has heard since.
Out:  the room with the head, topic and first number that the store has now; until then whoever joins it waits.

Without that, the first one who joins a room on a node that did not have it would be sent everything that was said there since the node
was started, as if it was said now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.core.room import Room
from twisted_chat.errors import Unavailable
from twisted_chat.events import Event
from twisted_chat.store_contract import LogStore, RoomRecord

#: Events at the end of a log that are looked at for slow mode.
LAST_EVENTS = 200
_LAST_BYTES = 1_048_576


class Openings:
    """Asks the store once for each room that comes into memory.

    :param shared: other nodes may write to the rooms; else nothing is asked.
    :param saw: takes the last events of a room with slow mode.
    """

    log = Logger()

    def __init__(self, store: LogStore, saw: Callable[[Room, Sequence[Event]], None], *, shared: bool) -> None:
        self._store = store
        self._saw = saw
        self._shared = shared
        self._waiting: dict[Room, list[Deferred[None]]] = {}

    def opened(self, room: Room) -> None:
        """The room has come into memory."""
        if self._shared and room.durable:
            room.stale = True
            self._waiting[room] = []
            self._look(room)

    def current(self, room: Room) -> Deferred[None] | None:
        """Fires when the room is what the store has, or fails with ``Unavailable``; None: it is already."""
        if not room.stale:
            return None
        waiter: Deferred[None] = Deferred()
        waiting = self._waiting.get(room)
        if waiting is None:
            self._waiting[room] = [waiter]
            self._look(room)
        else:
            waiting.append(waiter)
        return waiter

    def _look(self, room: Room) -> None:
        found = self._store.record(room.name).addCallback(lambda record: self._refresh(room, record))
        found.addBoth(self._end, room)

    def _refresh(self, room: Room, record: RoomRecord) -> Deferred[None]:
        room.refresh(record)
        if not room.policy.slow_mode:
            return succeed(None)
        after = max(record.first - 1, record.head - LAST_EVENTS)
        return self._store.read(room.name, after, LAST_EVENTS, _LAST_BYTES).addCallback(lambda events: self._saw(room, events))

    def _end(self, result: Failure | None, room: Room) -> None:
        waiters = self._waiting.pop(room)
        if not isinstance(result, Failure):
            room.stale = False
        elif not result.check(Unavailable):
            self.log.error("Room {room} could not be looked up: {reason}", room=room.name, reason=result.getErrorMessage())
        for waiter in waiters:
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(None)
