"""One wheel for all connections: who is silent is asked, who stays silent is dead; no timer per connection.

A visit costs a set operation; a timer per connection would cost 10,000 entries in the reactor's heap and, in Autobahn's batched
timers, 120 microseconds to cancel.
"""

from __future__ import annotations

from typing import Protocol

from twisted.logger import Logger

from twisted_chat.core.scheduler import CallLater

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
