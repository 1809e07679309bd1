"""Sending of one room's messages, in order, over however many connections, each into the log once.

In:   commands with keys; they go to the outbox, and from there in groups to whichever connection there is.
Out:  for each a Deferred with the committed event, or the error with which the server refused it for good.

It knows the client only as an :class:`Outlet`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import UnsetType
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.client.connection import AnyEvent, ClientConnection
from twisted_chat.client.errors import ClientError, ConnectionProblem
from twisted_chat.client.keeping import Keeper
from twisted_chat.client.outbox import MOST_FAULTS, Pace, Pending, Post, committed_event, longest_wait
from twisted_chat.client.reconnect import Backoff
from twisted_chat.core.ratelimit import TokenBucket
from twisted_chat.errors import ChatError, InternalError, TooBig
from twisted_chat.events import Author, Cursor
from twisted_chat.protocol.replies import Me, PostOk


class Outlet(Protocol):
    """What a room asks of its client.

    :ivar now_seconds: the wall clock, where the server's time is not known.
    :ivar new_key: makes a key that was never used.
    :ivar kept: the outbox of all rooms, and what outlives the program.
    :ivar rate: how fast the server lets this connection send.
    :ivar over: why nothing is sent any more; None while the client runs or may be started.
    :ivar me: who the server takes us for.
    """

    clock: IReactorTime
    random: Callable[[], float]
    now_seconds: Callable[[], float]
    new_key: Callable[[], str]
    kept: Keeper
    rate: TokenBucket
    over: ClientError | None
    me: Me | None

    def save_cursor(self, room: str, cursor: Cursor) -> None:
        """Events up to there have been handled."""

    def send_soon(self, room: str) -> None:
        """At the end of this turn: put on disk what was accepted, join that room, send what it has."""


class Sender:
    """The messages of one room on their way.

    One group is on the wire at a time; the next one is what queued up meanwhile.
    """

    log = Logger()

    def __init__(self, room: str, outlet: Outlet) -> None:
        self._room = room
        self._outlet = outlet
        self._pace = Pace()
        self._backoff = Backoff(outlet.random)
        self._connection: ClientConnection | None = None
        self._in_flight = False
        self._later: IDelayedCall | None = None

    @property
    def waiting(self) -> bool:
        """Whether nothing is sent for a while, because the server asked for it."""
        return self._later is not None

    def post(self, command: Post, refusal: Exception | None) -> Deferred[Any]:
        """Accept the command, unless there is a reason to refuse everything; the same key again gives the same result."""
        outlet = self._outlet
        known = outlet.kept.outbox.find(self._room, command.key)
        if known is not None:
            return _follow(known)
        error = refusal or outlet.over
        if error is not None:
            return fail(error)
        pending = Pending(command, Deferred())
        try:
            outlet.kept.accept(pending)
        except ClientError as problem:
            return fail(problem)
        outlet.send_soon(self._room)
        assert pending.result is not None
        return pending.result

    def connected(self, connection: ClientConnection) -> None:
        """The room is joined over that connection."""
        self._connection = connection
        self._backoff.reset()

    def left(self) -> None:
        """The room is not joined any more, though the connection may be there."""
        self._connection = None

    def disconnected(self) -> None:
        """The connection is gone; what was on the wire is sent again, under the same keys."""
        self._connection = None
        self._in_flight = False
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def wait(self, asked: float) -> None:
        """Send and join nothing for as long as the server asked (seconds) and a share of our own."""
        self._wait(self._backoff.wait(asked))

    def send_group(self) -> None:
        """Send what waits, if it may be sent."""
        connection, outlet = self._connection, self._outlet
        if connection is None or self._in_flight or self._later is not None:
            return
        limits = connection.welcome.limits
        allowed = min(self._pace.together, outlet.rate.available())
        group = outlet.kept.outbox.first(self._room, max(1, allowed), limits.frame)
        if not group:
            return
        if len(group[0].wire) + 32 > limits.frame:
            self._refuse(group[0], TooBig(f"text: with all around it, a message may have {limits.frame} bytes"))
            outlet.send_soon(self._room)
            return
        if allowed == 0:
            self._wait(outlet.rate.wait())
            return
        outlet.rate.take(len(group))
        self._in_flight = True
        answers = _GroupAnswers(self, connection, group)
        for pending, answer in zip(group, connection.ask_all([pending.wire for pending in group], PostOk), strict=True):
            answer.addCallbacks(answers.committed, answers.refused, callbackArgs=(pending,), errbackArgs=(pending,))

    def see_own_event(self, event: AnyEvent) -> None:
        """Our own event in the log says more than an acknowledgement, which may be lost."""
        pending = self._outlet.kept.outbox.find(self._room, event.key)
        if pending is not None:
            self._settle(pending, event)

    def drop_all(self, error: Exception) -> None:
        """Nothing of this room will be acknowledged any more."""
        for pending in self._outlet.kept.outbox.of_room(self._room):
            self._outlet.kept.drop(pending, error)

    # Called by the answers of a group

    def post_committed(self, pending: Pending, ok: PostOk) -> None:
        """It is in the log."""
        me = self._outlet.me
        assert me is not None, "an answer without a welcome"
        at = int(self._outlet.now_seconds() * 1000) if isinstance(ok.at, UnsetType) else ok.at
        self._settle(pending, committed_event(pending.command, ok, Author(me.id, me.name), at))

    def post_refused(self, pending: Pending, error: ChatError) -> bool:
        """It is not; whether it will be tried again."""
        if isinstance(error, InternalError):
            pending.faults += 1
        if error.retry and pending.faults < MOST_FAULTS:
            return True
        self._refuse(pending, error)
        return False

    def group_answered(self, connection: ClientConnection, committed: int, held_back: Sequence[ChatError]) -> None:
        """Every command of the group is answered; some may have to be sent again."""
        if connection is not self._connection and self._connection is not None:
            return
        self._in_flight = False
        if held_back:
            self._pace.held_back()
            self.wait(longest_wait(held_back))
        elif committed:
            self._pace.kept()
            self._backoff.reset()
        self._outlet.send_soon(self._room)

    def _settle(self, pending: Pending, event: AnyEvent) -> None:
        if self._outlet.kept.settle(pending) and pending.result is not None:
            pending.result.callback(event)

    def _refuse(self, pending: Pending, error: Exception) -> None:
        if not self._outlet.kept.settle(pending):
            return
        if pending.result is not None:
            pending.result.errback(error)
        else:
            self.log.error("What was accepted before is refused: {key}: {error}", key=pending.key, error=str(error))

    def _wait(self, seconds: float) -> None:
        if self._later is None:
            self._later = self._outlet.clock.callLater(seconds, self._wait_over)

    def _wait_over(self) -> None:
        self._later = None
        self._outlet.send_soon(self._room)


class _GroupAnswers:
    """The answers to one group, until the last of them."""

    def __init__(self, sender: Sender, connection: ClientConnection, group: Sequence[Pending]) -> None:
        self._sender = sender
        self._connection = connection
        self._open = len(group)
        self._committed = 0
        self._held_back: list[ChatError] = []

    def committed(self, ok: PostOk, pending: Pending) -> None:
        self._committed += 1
        self._sender.post_committed(pending, ok)
        self._count_down()

    def refused(self, failure: Failure, pending: Pending) -> None:
        error = failure.value
        if isinstance(error, ChatError) and self._sender.post_refused(pending, error):
            self._held_back.append(error)
        elif not isinstance(error, ChatError | ConnectionProblem):
            self._sender.log.failure("An answer cannot be understood", failure)
        self._count_down()

    def _count_down(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._sender.group_answered(self._connection, self._committed, self._held_back)


def _follow(pending: Pending) -> Deferred[Any]:
    """Another Deferred for the same result."""
    follower: Deferred[Any] = Deferred()
    if pending.result is None:
        pending.result = Deferred()

    def committed(event: object) -> object:
        follower.callback(event)
        return event

    def refused(failure: Failure) -> Failure:
        follower.errback(failure)
        return failure

    pending.result.addCallbacks(committed, refused)
    return follower
