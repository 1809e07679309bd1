"""Batches small queries: those that arrive while one is running are sent together in the next one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
A = TypeVar("A")


class Gathered(Generic[K, V, A]):
    """Runs one query at a time.

    :param put: runs the query for all keys with their values, and returns the results by key.
    :param merge: combines two values for the same key.
    :param most: how many keys one query has; None: all that wait.
    """

    def __init__(
        self, put: Callable[[Mapping[K, V]], Deferred[dict[K, A]]], merge: Callable[[V, V], V], most: int | None = None
    ) -> None:
        self._put = put
        self._most = most
        self._merge = merge
        self._waiting: list[tuple[K, V, Deferred[A]]] = []
        self._asking = False

    def ask(self, key: K, value: V) -> Deferred[A]:
        answer: Deferred[A] = Deferred()
        self._waiting.append((key, value, answer))
        if not self._asking:
            self._ask()
        return answer

    def _ask(self) -> None:
        waiting, self._waiting = self._waiting[: self._most], [] if self._most is None else self._waiting[self._most :]
        self._asking = bool(waiting)
        if not waiting:
            return
        values: dict[K, V] = {}
        for key, value, _ in waiting:
            values[key] = self._merge(values[key], value) if key in values else value
        self._put(values).addCallbacks(self._answered, self._failed, callbackArgs=(waiting,), errbackArgs=(waiting,))

    def _answered(self, answers: Mapping[K, A], waiting: list[tuple[K, V, Deferred[A]]]) -> None:
        self._ask()
        for key, _, answer in waiting:
            answer.callback(answers[key])

    def _failed(self, failure: Failure, waiting: list[tuple[K, V, Deferred[A]]]) -> None:
        self._ask()
        for _, _, answer in waiting:
            answer.errback(failure)
