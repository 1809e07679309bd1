"""Announce the events of each durable room in the order of their numbers, each once.

In:   events that this server has committed (:meth:`Announcer.announce`), and hints that the log of a room has grown because somebody
      else wrote to it (:meth:`Announcer.hint`).
Out:  :meth:`Room.announce` without holes; a callback for what must wait until an event has been announced.

The usual case costs one comparison: the committed events are the next ones and are announced at once.  Where the numbers show
that somebody else's events lie between, the announcer reads those from the log, and then announces its own.  A hint may be lost or
come twice; the log alone decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.core.room import Room
from twisted_chat.core.scheduler import CallLater, Scheduler
from twisted_chat.errors import Unavailable
from twisted_chat.events import Event

#: Seconds between two tries to read a log that could not be read.
RETRY_SECONDS = 1.0


class _Gap:
    """A room whose log has events that are not announced yet.

    :ivar target: the newest number that the log is said to have; a hint may be wrong.
    :ivar committed: the newest number that it had for certain, because this server committed it; 0: none.
    :ivar own: what it committed, batch by batch, which need not be read.
    :ivar waiting: calls, each with the number that has to be announced before.
    """

    __slots__ = ("committed", "own", "target", "waiting")

    def __init__(self) -> None:
        self.target = self.committed = 0
        self.own: deque[Sequence[Event]] = deque()
        self.waiting: list[tuple[int, Callable[[], None]]] = []


class Announcer:
    """The only caller of :meth:`Room.announce` for durable rooms.

    :param saw: called with events that were read from the log, and so are nearly always those of another node.
    """

    log = Logger()

    def __init__(
        self,
        scheduler: Scheduler,
        call_later: CallLater,
        saw: Callable[[Room, Sequence[Event]], None] = lambda room, events: None,
    ) -> None:
        self._saw = saw
        self._scheduler = scheduler
        self._call_later = call_later
        self._gaps: dict[Room, _Gap] = {}
        self._grown: set[Room] = set()
        #: Rooms for which commits of this server are in progress: how many, and the highest number hinted at meanwhile.  Most hints
        #: are about these very commits, and need no read; a foreign event shows as a gap in their numbers.
        self._committing: dict[Room, list[int]] = {}

    @property
    def busy(self) -> bool:
        """Whether any event that is known to be in a log has not been announced."""
        return bool(self._gaps)

    @property
    def behind(self) -> int:
        """Events that are known to be in the logs of rooms and are not announced yet: other nodes wrote them."""
        return sum(max(0, gap.target - room.log.head) for room, gap in self._gaps.items())

    def take_grown(self) -> set[Room]:
        """The rooms whose logs have grown since the last call: retention by number looks at no others."""
        grown, self._grown = self._grown, set()
        return grown

    def commit_began(self, rooms: Iterable[Room]) -> None:
        """A commit for these rooms is in progress; :meth:`commit_ended` follows."""
        for room in rooms:
            self._committing.setdefault(room, [0, 0])[0] += 1

    def commit_ended(self, rooms: Iterable[Room]) -> None:
        """The commit has been announced, or has failed."""
        for room in rooms:
            committing = self._committing[room]
            committing[0] -= 1
            if not committing[0]:
                del self._committing[room]
                self.hint(room, committing[1])

    def announce(self, room: Room, events: Sequence[Event]) -> bool:
        """These events of the room were committed; answers whether they are announced now (else: later, :meth:`when_announced`)."""
        self._grown.add(room)
        head = room.log.head
        if events[0].seq == head + 1:
            try:
                room.announce(events)
            except Exception:
                self.log.failure("Announcing in {room} failed", room=room.name)
            return True
        events = [event for event in events if event.seq > head]
        if not events:
            # They were read from the log before the answer to the commit came.
            return True
        self._fill_to(room, events[-1].seq, committed=True, own=events)
        return room.log.head >= events[-1].seq

    def when_announced(self, room: Room, seq: int, work: Callable[[], None]) -> None:
        """Call ``work`` when the event of that number, which was committed, has been announced."""
        gap = self._gaps.get(room)
        if gap is None or room.log.head >= seq:
            work()
        else:
            gap.waiting.append((seq, work))

    def announce_to(self, room: Room, seq: int, work: Callable[[], None]) -> None:
        """Call ``work`` when the event of that number, which the log has, has been announced."""
        if room.log.head < seq:
            self._fill_to(room, seq, committed=True)
        self.when_announced(room, seq, work)

    def hint(self, room: Room, head: int) -> None:
        """The log of the room may have grown up to that number."""
        if head <= room.log.head:
            return
        committing = self._committing.get(room)
        if committing is not None:
            committing[1] = max(committing[1], head)
        else:
            self._fill_to(room, head, committed=False)

    def _fill_to(self, room: Room, seq: int, *, committed: bool, own: Sequence[Event] = ()) -> None:
        gap = self._gaps.get(room)
        is_new = gap is None
        if gap is None:
            gap = self._gaps[room] = _Gap()
        gap.target = max(gap.target, seq)
        if committed:
            gap.committed = max(gap.committed, seq)
        if own:
            gap.own.append(own)
        if is_new:
            self._read(room)

    def _read(self, room: Room) -> None:
        """Read what others wrote: up to the first event of this server, which is known."""
        head, gap = room.log.head, self._gaps[room]
        # What is not there although it was committed before the read has been removed; what was committed meanwhile has not.
        removed = gap.own[0][0].seq if gap.own else gap.committed + 1
        room.log.read(head, max(1, removed - 1 - head) if gap.own else None).addCallbacks(
            self._store_answered, self._store_failed, callbackArgs=(room, gap.target, removed), errbackArgs=(room,)
        )

    def _store_answered(self, events: list[Event], room: Room, target: int, removed: int) -> None:
        """The log was read.

        :param target: the gap's when the read began.
        :param removed: the events before that number were in the log then, so those that are not there have been removed.
        """
        gap, head = self._gaps[room], room.log.head
        events = [event for event in events if event.seq > head]
        if events:
            if events[0].seq > head + 1:
                # Retention removed what lies between.
                room.skip_to(events[0].seq)
            self._announce(room, events)
            if room.log.head == head:
                # A bug, which is logged: reading the same events again would never end.
                gap.target = head
        elif removed > head + 1:
            # By retention.
            room.skip_to(removed)
        elif gap.target == target and not gap.own:
            # The hint was wrong, or retention removed what it announced.
            gap.target = head
        self._announce_own(room, gap)
        due = [(seq, work) for seq, work in gap.waiting if seq <= room.log.head]
        gap.waiting = [(seq, work) for seq, work in gap.waiting if seq > room.log.head]
        self._call_announced(due, room)
        if gap.target > room.log.head:
            self._scheduler.at_next(lambda: self._read(room))
        else:
            del self._gaps[room]
            self._call_announced(gap.waiting, room)

    def _announce_own(self, room: Room, gap: _Gap) -> None:
        """Announce what this server has committed, as far as nothing of others lies before it."""
        while gap.own and gap.own[0][0].seq <= room.log.head + 1:
            events = [event for event in gap.own.popleft() if event.seq > room.log.head]
            if events:
                self._announce(room, events)

    def _store_failed(self, failure: Failure, room: Room) -> None:
        # A store that is away says so itself, once for all rooms.
        if not failure.check(Unavailable):
            self.log.error("Could not read room {room}: {reason}", room=room.name, reason=failure.getErrorMessage())
        self._call_later(RETRY_SECONDS, lambda: self._read(room))

    def _announce(self, room: Room, events: Sequence[Event]) -> None:
        self._grown.add(room)
        try:
            room.announce(events)
            self._saw(room, events)
        except Exception:
            self.log.failure("Announcing in {room} failed", room=room.name)

    def _call_announced(self, waiting: list[tuple[int, Callable[[], None]]], room: Room) -> None:
        for _, work in waiting:
            try:
                work()
            except Exception:
                self.log.failure("Bug while answering what was committed in {room}", room=room.name)
