"""Give the reactor a clock that nobody can set.

Twisted's reactors take the time of the day for their timers.  When that is set back by an hour (by NTP after a start with a wrong clock, or
by hand), no timer fires for an hour: no deadline of a slow request, no ping, and every rate that has been used up stays so.

Attributes of Twisted used here, each pinned by ``tests/test_internals_clock.py``:

===========  ========================================================================================================
``seconds``  of ``ReactorBase``: the clock of ``callLater`` and of the main loop; replaced on this one object
``seconds``  of a ``DelayedCall``: the clock by which it is put off
===========  ========================================================================================================
"""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.base import ReactorBase


def use_monotonic_time(reactor: Any) -> bool:
    """Let the reactor's timers follow the monotonic clock; calls that wait keep the time that is left to them.

    False if it stays as it is: other reactors (asyncio's, a test's) have clocks of their own.
    """
    if not isinstance(reactor, ReactorBase) or reactor.seconds is not ReactorBase.seconds:
        return False
    now = reactor.seconds()
    left = [(call, max(0.0, call.getTime() - now)) for call in reactor.getDelayedCalls()]
    vars(reactor)["seconds"] = time.monotonic
    for call, seconds in left:
        waiting: Any = call
        waiting.seconds = time.monotonic
        waiting.reset(seconds)
    return True
