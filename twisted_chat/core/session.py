"""One connection's part in the chat, whatever its dialect: its rooms, its cursors, its rate, its life.

In: messages from the link (the dialect's subclass), ``congested``/``drained``/``lost``.  Out: bytes to the link.  A session never
writes to another session: what it says goes to the log, and the log goes to everybody (architecture, "The way of a message").
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from math import ceil
from typing import TYPE_CHECKING

from twisted.logger import Logger

from twisted_chat.core.ratelimit import TokenBucket
from twisted_chat.core.room import Room
from twisted_chat.core.subscription import Subscription, SubscriptionState
from twisted_chat.errors import ChatError, CloseCode, RateLimited, TokenExpired
from twisted_chat.interfaces import Connection
from twisted_chat.protocol.replies import PresencePush
from twisted_chat.users import User

if TYPE_CHECKING:
    from twisted_chat.core.chat import Chat

#: Bytes given to one connection that catches up before the others have their turn.
FEED_BYTES = 262_144


class SessionState(Enum):
    """The states of a session."""

    OPEN = auto()
    CLOSING = auto()  #: the close frame has been sent
    LOST = auto()


class Session:
    """What all dialects share.  Subclasses say how commands arrive and answers leave."""

    log = Logger()

    __slots__ = (
        "_bucket",
        "_congested_at",
        "_feeding",
        "_outbox",
        "_slot",
        "address",
        "author",
        "connection",
        "core",
        "heard_at",
        "state",
        "subscriptions",
        "user",
    )

    def __init__(self, core: Chat, connection: Connection, user: User, address: str) -> None:
        self.core = core
        self.connection = connection
        self.become(user)
        self.address = address
        self.state = SessionState.OPEN
        self.subscriptions: dict[str, Subscription] = {}
        self.heard_at = core.wheel.tick
        self._bucket: TokenBucket | None = None
        self._congested_at: int | None = None
        self._feeding = False
        self._outbox: list[bytes] = []
        self._slot = -1

    def become(self, user: User) -> None:
        """The session is that person's."""
        self.user = user
        self.author = user.author

    # What the link calls

    def received(self, texts: Sequence[bytes]) -> None:
        """Text messages, in order; each is valid UTF-8."""
        raise AssertionError(f"{type(self).__name__} takes no messages")

    def received_binary(self, data: bytes) -> None:
        """One binary message."""
        raise AssertionError(f"{type(self).__name__} takes no messages")

    def heard(self) -> None:
        """Anything at all came from the peer."""
        self.heard_at = self.core.wheel.tick

    def congested(self) -> None:
        """The link has unsent bytes: nothing is written directly until they are gone."""
        if self._congested_at is None:
            self._congested_at = self.core.wheel.tick
            for subscription in self.subscriptions.values():
                subscription.fall_behind()

    def drained(self) -> None:
        """The link takes bytes again: read on."""
        self._congested_at = None
        # What it was sent before could not reach it, so its silence meant nothing.
        self.heard_at = self.core.wheel.tick
        self.feed()

    def say_rest(self) -> None:
        """The server is about to end: say now what waits for its rate."""

    def lost(self) -> None:
        """The connection has ended."""
        if self.state is SessionState.LOST:
            return
        self.state = SessionState.LOST
        for room in list(self.subscriptions):
            self.leave_room(room)
        self._outbox.clear()
        self.core.session_lost(self, self._slot)

    # Reading the logs

    def feed(self) -> None:
        """Give every reader that is behind its next part, in turns, until all are at the head or the link is full."""
        self._feeding = False
        given = 0
        while self.state is SessionState.OPEN and not self.connection.congested:
            behind = [
                subscription for subscription in self.subscriptions.values() if subscription.state is SubscriptionState.BEHIND
            ]
            if not behind:
                break
            if given >= FEED_BYTES:
                self.feed_soon()
                return
            for subscription in behind:
                if subscription.state is SubscriptionState.BEHIND and not self.connection.congested:
                    given += subscription.feed()
        # That a reader is live must be said before the next event is written to it directly.
        self.flush()

    def feed_soon(self) -> None:
        """Feed in the next turn."""
        if not self._feeding and self.state is SessionState.OPEN:
            self._feeding = True
            self.core.scheduler.at_next(self.feed)

    def caught_up(self, subscription: Subscription) -> None:
        """That reader is live."""

    def missed(self, subscription: Subscription, count: int) -> None:
        """Events are gone that this reader has not taken."""

    def read_failed(self, subscription: Subscription, reason: object) -> None:
        """The log could not be read: try again in a second; the position is where it was."""
        self.log.error("Could not read room {room}: {reason}", room=subscription.room.name, reason=str(reason))
        self.core.call_later(1.0, subscription.retry)

    def presence_changed(self, push: PresencePush) -> None:
        """Somebody came or went."""

    # Membership

    def leave_room(self, room: str) -> None:
        subscription = self.subscriptions.pop(room)
        subscription.leave()
        subscription.room.members -= 1
        subscription.room.presence.leave(self.user.id)
        subscription.room.presence.unwatch(self)

    def enter_room(self, room: Room, subscription: Subscription) -> None:
        room.check_size()
        self.subscriptions[room.name] = subscription
        room.members += 1
        room.presence.enter(self.author)

    # Rates and sizes

    @property
    def bucket(self) -> TokenBucket:
        """The connection's own rate."""
        if self._bucket is None:
            limits = self.core.limits
            self._bucket = TokenBucket(limits.send_burst, limits.send_per_second, self.core.now)
        return self._bucket

    def allowed(self, wanted: int) -> int:
        """How many of ``wanted`` messages the connection and the person may send now; they are taken from both."""
        own, shared = self.bucket, self.core.person_bucket(self.user.id)
        count = min(wanted, own.available(), shared.available())
        own.take(count)
        shared.take(count)
        return count

    def wait_for_rate(self) -> float:
        """Seconds until one message may be sent."""
        return max(self.bucket.wait(), self.core.person_bucket(self.user.id).wait())

    def check_rate(self) -> None:
        """One message now, or :class:`RateLimited`."""
        if not self.allowed(1):
            wait = self.wait_for_rate()
            raise RateLimited(f"send: too fast, wait {wait:.1f} s", retry_after_ms=ceil(wait * 1000))

    # Life

    def on_timer(self, tick: int) -> int:
        """Heartbeat: ask after silence, end after twice that (protocol, "Heartbeat both can see")."""
        if self.state is not SessionState.OPEN:
            return 0
        limits = self.core.limits
        expires = self.user.expires
        if expires is not None and expires <= self.core.now_seconds():
            self.end(TokenExpired("the token has expired"))
            return 0
        interval = max(1, round(limits.ping_seconds))
        next_visit = interval
        if self._congested_at is not None:
            # It cannot see a ping; whether it is slow or gone shows in its taking bytes.
            if tick - self._congested_at >= limits.stalled_seconds:
                self.close(CloseCode.TOO_SLOW, "took nothing for too long; come back and resume")
                self.connection.abort()
                return 0
        elif not self.connection.paused:
            silent = tick - self.heard_at
            if silent >= 2 * interval:
                self.close(CloseCode.NO_PONG, "no sign of life")
                self.connection.abort()
                return 0
            if silent >= interval:
                self.ping()
            else:
                next_visit = interval - silent
        if expires is not None:
            next_visit = min(next_visit, max(1, ceil(expires - self.core.now_seconds())))
        return self.set_timer(next_visit)

    def set_timer(self, ticks: int) -> int:
        """Be visited again, and only then."""
        if self._slot >= 0:
            self.core.wheel.forget(self._slot, self)
        self._slot = self.core.wheel.set_timer(ticks, self)
        return ticks

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.connection.ping()

    def end(self, error: ChatError, *, code: int | None = None) -> None:
        """Close because of ``error``."""
        self.close(code if code is not None else error.close_code, error.message)

    def close(self, code: int, reason: str) -> None:
        """End the connection with that code."""
        if self.state is SessionState.OPEN:
            self.flush()
            self.state = SessionState.CLOSING
            for subscription in self.subscriptions.values():
                # Also one that reads the store: nothing may follow a close frame.
                subscription.leave()
            self.connection.close(code, reason)

    # Answers

    def reply(self, data: bytes) -> None:
        """Bytes for this client alone; all of a turn leave in one write."""
        if self.state is SessionState.OPEN:
            if not self._outbox:
                self.core.scheduler.at_end(self.flush)
            self._outbox.append(data)

    def flush(self) -> None:
        """Write the answers collected."""
        if self._outbox and self.state is SessionState.OPEN:
            outbox, self._outbox = self._outbox, []
            self.connection.write(self.join_replies(outbox))

    def join_replies(self, replies: Sequence[bytes]) -> bytes:
        """What goes on the wire for these answers."""
        return b"".join(replies)
