"""Where a store's blocking calls happen: in threads of its own, or in a test at once.

A store is given its workers and a way back into the reactor's thread; it never asks for a reactor.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Protocol, TypeAlias

Work: TypeAlias = Callable[[], object]


class CallInReactor(Protocol):
    """``reactor.callFromThread``, or a test's stand-in."""

    def __call__(self, callable: Callable[..., object], /, *args: object) -> object: ...


class Worker(Protocol):
    """Does what it is given, in that order if it has one thread.  What it is given must not raise."""

    def run(self, work: Work) -> None: ...

    def finish(self) -> None:
        """Finish what was given before and end."""


class Threads:
    """``count`` threads that share one queue.  They are daemons: a disk that hangs for ever must not keep the process."""

    def __init__(self, name: str, count: int = 1) -> None:
        self._count = count
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        for number in range(count):
            Thread(target=self._run, name=f"{name}-{number}", daemon=True).start()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            del work  # what it held need not live until the next comes

    def run(self, work: Work) -> None:
        self._queue.put(work)

    def finish(self) -> None:
        for _ in range(self._count):
            self._queue.put(None)


class AtOnce:
    """Does everything in the caller's thread: for the command line and for tests."""

    def run(self, work: Work) -> None:
        work()

    def finish(self) -> None:
        pass


def call_at_once(callable: Callable[..., object], /, *args: object) -> object:
    """The way back for :class:`AtOnce`: there is no other thread."""
    return callable(*args)
