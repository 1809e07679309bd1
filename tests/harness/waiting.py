"""Waits for a condition in another process or thread: the only loop of the tests that looks again and again, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

#: Seconds.  A program starts in one or two; machines under load take more.
PATIENCE = 60.0
#: Seconds between two looks whether something has happened.
LOOK_SECONDS = 0.05

T = TypeVar("T")


def wait_until(ask: Callable[[], T], fits: Callable[[T], object] = bool, patience: float = PATIENCE) -> T:
    """Ask until the answer fits, and return it; ``AssertionError`` with the last answer after the deadline."""
    deadline = time.monotonic() + patience
    while not fits(answer := ask()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience:g} s; last: {answer!r}")
        time.sleep(LOOK_SECONDS)
    return answer


async def until(true: Callable[[], object], patience: float = PATIENCE) -> None:
    """The same while the reactor of this process runs, for tests whose condition is a state of this process."""
    from twisted.internet import reactor as installed
    from twisted.internet.task import deferLater

    reactor: Any = installed
    deadline = reactor.seconds() + patience
    while not true():
        if reactor.seconds() > deadline:
            raise AssertionError(f"not within {patience:g} s")
        await deferLater(reactor, LOOK_SECONDS)
