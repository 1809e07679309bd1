"""When work is done: at the end of a reactor turn, in the next turn, or once a second.

Reads of one turn become one batch for the store, and frames of one turn become one write per connection
(``docs/decisions/03-group-commit.rst``, ``docs/decisions/06-encode-once.rst``).  The end of a turn needs no timer: a turn ends when the
reactor has handled everything that was ready.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

Work = Callable[[], None]


class CallLater(Protocol):
    """``reactor.callLater`` or that of a ``Clock``."""

    def __call__(self, delay: float, work: Work, /) -> IDelayedCall: ...


class Scheduler:
    """Runs work at the end of this turn, or of the next one."""

    log = Logger()

    def __init__(self, call_later: CallLater) -> None:
        self._call_later = call_later
        self._work: list[Work] = []
        self._next: list[Work] = []
        self._scheduled = False

    def at_end(self, work: Work) -> None:
        """Do ``work`` when everything that is ready has been read; from inside such work: still in this turn."""
        self._work.append(work)
        self._schedule()

    def at_next(self, work: Work) -> None:
        """Do ``work`` after the reactor has looked at its sockets once more, so that long work takes turns."""
        self._next.append(work)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_later(0, self._run)

    def _run(self) -> None:
        self._work, self._next = self._work + self._next, []
        while self._work:
            work, self._work = self._work, []
            for each in work:
                try:
                    each()
                except Exception:
                    self.log.failure("Work at the end of a turn failed")
        self._scheduled = False
        if self._next:
            self._schedule()


#: Slots of one second.  A call further ahead is made early, and its target schedules itself again.
SLOTS = 128


class TimerTarget(Protocol):
    """A session, as the timing wheel sees it."""

    def on_timer(self, tick: int) -> object:
        """Run the periodic check."""


class TimingWheel:
    """One timer for all connections, which ticks once per second.

    A call costs a set operation; a timer for each connection would cost 10,000 entries in the reactor's heap and, in Autobahn's batched
    timers, 120 microseconds to cancel.

    :ivar tick: seconds since the wheel was started: a clock that costs nothing to read.
    """

    log = Logger()

    def __init__(self, call_later: CallLater) -> None:
        self.tick = 0
        self._call_later = call_later
        self._slots: list[set[TimerTarget]] = [set() for _ in range(SLOTS)]
        self._running = False

    def start(self) -> None:
        """Begin to tick."""
        if not self._running:
            self._running = True
            self._call_later(1.0, self._advance)

    def stop(self) -> None:
        """Tick no more."""
        self._running = False

    def schedule(self, ticks: int, target: TimerTarget) -> int:
        """Call ``target.on_timer`` in so many ticks, at most ``SLOTS - 1``; answers the slot for :meth:`cancel`."""
        slot = (self.tick + max(1, min(ticks, SLOTS - 1))) % SLOTS
        self._slots[slot].add(target)
        return slot

    def cancel(self, slot: int, target: TimerTarget) -> None:
        """Do not call it."""
        self._slots[slot].discard(target)

    def _advance(self) -> None:
        if not self._running:
            return
        self._call_later(1.0, self._advance)
        self.tick += 1
        slot = self.tick % SLOTS
        due, self._slots[slot] = self._slots[slot], set()
        for target in due:
            try:
                target.on_timer(self.tick)
            except Exception:
                self.log.failure("Bug in a periodic check")
