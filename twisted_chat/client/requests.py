"""Requests of one room that may be repeated (history, presence, read marks): each waits for a connection if need be.

In:   a command, and the type of its answer.
Out:  a Deferred with the answer; a request whose connection breaks is sent again over the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_chat.client.connection import ClientConnection
from twisted_chat.client.errors import ConnectionProblem
from twisted_chat.client.reconnect import Backoff
from twisted_chat.errors import ChatError
from twisted_chat.protocol.commands import Command

A = TypeVar("A", bound=Struct)


class _Request:
    """A command that is not answered yet."""

    def __init__(self, command: Command, answer: type[Any], result: Deferred[Any], backoff: Backoff) -> None:
        self.command = command
        self.answer = answer
        self.result = result
        self.backoff = backoff
        self.retry: IDelayedCall | None = None

    def cancel_retry(self) -> None:
        """It is sent again by the next connection, or not at all."""
        if self.retry is not None and self.retry.active():
            self.retry.cancel()


class Requests:
    """The unanswered requests of one room."""

    def __init__(self, clock: IReactorTime, random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._connection: ClientConnection | None = None
        self._open: list[_Request] = []

    def ask(self, command: Command, answer: type[A]) -> Deferred[A]:
        """Send the command when there is a connection; fires with its answer."""

        def cancelled(_: object) -> None:
            request.cancel_retry()
            self._open.remove(request)

        result: Deferred[A] = Deferred(cancelled)
        request = _Request(command, answer, result, Backoff(self._random))
        self._open.append(request)
        self._send(request)
        return result

    def connected(self, connection: ClientConnection) -> None:
        """The room is joined over that connection: send everything that is unanswered."""
        self._connection = connection
        for request in list(self._open):
            self._send(request)

    def disconnected(self) -> None:
        """The room is not joined any more."""
        self._connection = None
        for request in self._open:
            request.cancel_retry()

    def fail_all(self, error: Exception) -> None:
        """Nothing will be answered any more."""
        self.disconnected()
        requests, self._open = self._open, []
        for request in requests:
            request.result.errback(error)

    def _send(self, request: _Request) -> None:
        if self._connection is None or request not in self._open:
            return

        def answered(answer: object) -> None:
            if request in self._open:
                self._open.remove(request)
                request.result.callback(answer)

        def failed(failure: Failure) -> None:
            error = failure.value
            if request not in self._open or isinstance(error, ConnectionProblem):
                return  # the next connection sends it again
            if isinstance(error, ChatError) and error.retry:
                wait = request.backoff.wait((error.retry_after_ms or 0) / 1000)
                request.retry = self._clock.callLater(wait, self._send, request)
                return
            self._open.remove(request)
            request.result.errback(failure)

        self._connection.ask(request.command, request.answer).addCallbacks(answered, failed)
