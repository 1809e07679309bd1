"""Who wants to know of a client's state: watchers of each change, and those that wait until it is online."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

T = TypeVar("T")


class Audience(Generic[T]):
    """All of one client.

    :param subject: the client, which watchers are called with; ``name`` for the log.
    :param now: how it is at first; see :meth:`tell`.
    """

    log = Logger()

    def __init__(self, subject: T, name: str, now: object) -> None:
        self._subject = subject
        self._name = name
        self._watchers: list[Callable[[T], object]] = []
        self._waiters: list[Deferred[None]] = []
        self._told = now

    def watch(self, watcher: Callable[[T], object]) -> None:
        """Call it at each change."""
        self._watchers.append(watcher)

    def tell(self, state: object) -> None:
        """This is how it is now; a watcher that fails disturbs nobody."""
        if state == self._told:
            return
        self._told = state
        for watcher in list(self._watchers):
            try:
                watcher(self._subject)
            except Exception:
                self.log.failure("A watcher of {where} failed", where=self._name)

    def wait(self) -> Deferred[None]:
        """Fires with :meth:`end_waiting`."""
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    def end_waiting(self, error: Exception | None = None) -> None:
        """It is online, or never will be."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if error is None:
                waiter.callback(None)
            else:
                waiter.errback(error)
