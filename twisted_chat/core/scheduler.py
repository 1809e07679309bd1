"""The end of a reactor turn: what was collected while sockets were read is done once, together.

Reads of one turn become one batch for the store, frames of one turn become one write per member (design decisions 3
and 6).  There is no timer: a turn ends when the reactor has handled everything that was ready.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

Work = Callable[[], None]


class CallLater(Protocol):
    """``reactor.callLater`` or that of a ``Clock``."""

    def __call__(self, delay: float, work: Work, /) -> object: ...


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


#: Slots of one second.  A visit further ahead is made early and put off again.
SLOTS = 128


class TimerTarget(Protocol):
    """A session as the wheel sees it."""

    def on_timer(self, tick: int) -> int:
        """Look after yourself; answers in how many ticks (seconds) to come again, 0: never."""


class TimingWheel:
    """Turns once per second.

    :ivar tick: seconds since the wheel was made: a clock that costs nothing to read.
    """

    log = Logger()

    def __init__(self, call_later: CallLater) -> None:
        self.tick = 0
        self._call_later = call_later
        self._slots: list[set[TimerTarget]] = [set() for _ in range(SLOTS)]
        self._running = False

    def start(self) -> None:
        """Begin to turn."""
        if not self._running:
            self._running = True
            self._call_later(1.0, self._turn)

    def stop(self) -> None:
        """Turn no more."""
        self._running = False

    def set_timer(self, ticks: int, session: TimerTarget) -> int:
        """Visit ``session`` in so many ticks; answers the slot for :meth:`forget`."""
        slot = (self.tick + max(1, min(ticks, SLOTS - 1))) % SLOTS
        self._slots[slot].add(session)
        return slot

    def forget(self, slot: int, session: TimerTarget) -> None:
        """Do not visit it."""
        self._slots[slot].discard(session)

    def _turn(self) -> None:
        if not self._running:
            return
        self._call_later(1.0, self._turn)
        self.tick += 1
        slot = self.tick % SLOTS
        due, self._slots[slot] = self._slots[slot], set()
        for session in due:
            try:
                session.on_timer(self.tick)
            except Exception:
                self.log.failure("A visit of the heartbeat failed")
