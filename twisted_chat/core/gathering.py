"""When a batch begins: at the end of the turn, or a few turns later while much less has come than of late.

After a batch has been delivered its senders answer, but not all in one turn of the reactor.  Beginning with the first of them
makes two batches out of one (1 line, then the other 15), and each batch costs an fsync and one write per member: in a room of
1,000 that halved the deliveries.  Waiting for the others costs some turns without anything to do, 15 us each, and only where
batches have been larger of late; a room in which one person writes at a time waits for nothing.  Nearly all are waited for, not
half of them: two batches of 16 instead of one of 32 took 1.3 times the CPU for each line and delivered 0.9 times as many.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_chat.core.scheduler import Scheduler

#: Turns of the reactor that a small batch waits for more; together less than the fsync that is saved.
MOST_TURNS = 16
#: … and seconds: turns are long while a large room is written to.
MOST_SECONDS = 0.01
#: The part of what came last time that is enough to begin, and what is enough in any case: more would not make a line cheaper.
NEARLY_ALL = 7 / 8
ENOUGH = 512


class BatchDelay:
    """Decides when to begin.

    :param waiting: how much has come.
    :param begin: takes what has come.
    :param now: monotonic seconds.
    """

    __slots__ = ("_begin", "_expected", "_now", "_scheduler", "_since", "_turns", "_waiting", "under_way")

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
        self.under_way = False

    def start(self) -> None:
        """Something has come: begin soon.  Again while it is under way: nothing happens."""
        if not self.under_way:
            self.under_way = True
            self._turns = 0
            self._scheduler.at_end(self._look)

    def start_now(self) -> None:
        """What has come had time enough to: begin at once unless it is little."""
        self.under_way = True
        self._turns = 0
        self._look()

    def _look(self) -> None:
        waiting = self._waiting()
        enough = min(ENOUGH, int(self._expected * NEARLY_ALL))
        if waiting < enough and self._turns < MOST_TURNS and self._in_time():
            self._turns += 1
            self._scheduler.at_next(self._look)
            return
        # Slowly downwards: one small batch among large ones is an accident.
        self._expected = max(waiting, self._expected * 3 // 4)
        self.under_way = False
        self._begin()

    def _in_time(self) -> bool:
        now = self._now()
        if not self._turns:
            self._since = now
        return now - self._since < MOST_SECONDS
