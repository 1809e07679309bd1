"""Workers for the blocking calls of a store: threads of its own, or in tests the caller's thread.

A store is given its workers and a function that returns to the reactor's thread; it does not use the reactor itself.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Protocol, TypeAlias

Work: TypeAlias = Callable[[], object]


class CallInReactor(Protocol):
    """``reactor.callFromThread``, or a test's substitute."""

    def __call__(self, callable: Callable[..., object], /, *args: object) -> object: ...


class Worker(Protocol):
    """Calls the functions that it is given, in their order if it has one thread.  They must not raise."""

    def run(self, work: Work) -> None: ...

    def finish(self) -> None:
        """Finish the functions that were given before, and end."""


class Threads:
    """``count`` threads that share one queue.  They are daemons, so that a disk that hangs does not keep the process from ending."""

    def __init__(self, name: str, count: int = 1) -> None:
        self._count = count
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        for number in range(count):
            Thread(target=self._run, name=f"{name}-{number}", daemon=True).start()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            del work  # free what it references before the next one comes

    def run(self, work: Work) -> None:
        self._queue.put(work)

    def finish(self) -> None:
        for _ in range(self._count):
            self._queue.put(None)


class AtOnce:
    """Calls functions at once in the caller's thread, for the command line and for tests."""

    def run(self, work: Work) -> None:
        work()

    def finish(self) -> None:
        pass


def call_at_once(callable: Callable[..., object], /, *args: object) -> object:
    """Call the function at once: the counterpart of ``callFromThread`` for :class:`AtOnce`."""
    return callable(*args)
