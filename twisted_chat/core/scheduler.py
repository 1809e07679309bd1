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
