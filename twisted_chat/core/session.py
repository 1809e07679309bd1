"""One connection's part in the chat, whatever its dialect: its rooms, its positions, its rate, its end.

In:   messages from the connection (the dialect's subclass); ``congested``, ``drained`` and ``lost`` from the connection.
Out:  bytes to the connection.  A session never writes to another session: what it sends goes to the log, and the log goes to everybody
      (``docs/architecture.rst``, the way of a message).
"""

from __future__ import annotations

from enum import Enum, auto
from math import ceil

from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.core.broadcast import Broadcast
from twisted_chat.core.catching_up import Reader
from twisted_chat.core.chat import Chat
from twisted_chat.core.ratelimit import ConnectionRate, TokenBucket
from twisted_chat.core.room import Room
from twisted_chat.core.subscription import Subscription
from twisted_chat.errors import ChatError, CloseCode, RateLimited, TokenExpired, Unavailable
from twisted_chat.interfaces import Connection
from twisted_chat.protocol.replies import PresencePush, ReadPush
from twisted_chat.users import User

#: Pings, notes of typing, refused commands and the like of one connection: at once, and per second.  A program at work sends a few; as many
#: as fit into a connection took all of the server's time.
UNRATED_BURST = 500
UNRATED_PER_SECOND = 50.0


class SessionState(Enum):
    """The states of a session."""

    OPEN = auto()
    CLOSING = auto()  #: the close frame has been sent
    LOST = auto()


class Membership(Subscription):
    """A session's subscription to a room, and the room itself."""

    __slots__ = ("room",)

    def __init__(self, room: Room, broadcast: Broadcast, connection: Connection, session: Session) -> None:
        super().__init__(broadcast, connection, session)
        self.room = room


class Spectator:
    """What others do; a dialect that can show it overrides these."""

    __slots__ = ()

    def presence_changed(self, push: PresencePush) -> None:
        """Somebody entered or left a room."""

    def see_typing(self, push: bytes) -> None:
        """Others in a room are writing: the JSON of a ``TypingPush``."""

    def see_read(self, push: ReadPush) -> None:
        """The user read on another device."""


class Session(Spectator, Reader):
    """What all dialects share.  Subclasses say how commands arrive and answers leave.

    :ivar memberships: the rooms that the connection is in, by name.
    :ivar heard_at: the tick at which anything last came from the peer.
    """

    log = Logger()

    #: The client's own name for its device, and when the session with it began; only rich clients have one.
    device: str | None = None
    device_at: int = 0

    __slots__ = (
        "_congested_at",
        "_pinged_at",
        "_rate",
        "_timer_slot",
        "_unrated",
        "address",
        "author",
        "core",
        "heard_at",
        "memberships",
        "state",
        "user",
    )

    def __init__(self, core: Chat, connection: Connection, user: User, address: str) -> None:
        super().__init__()
        self.core = core
        self.connection = connection
        self.become(user)
        self.address = address
        self.state = SessionState.OPEN
        self.memberships: dict[str, Membership] = {}
        self.heard_at = core.timers.tick
        self._rate: ConnectionRate | None = None
        self._congested_at: int | None = None
        #: The tick of the last ping; not after ``heard_at``: nothing is asked that has not been answered.
        self._pinged_at = 0
        self._timer_slot = -1
        self._unrated: TokenBucket | None = None

    def become(self, user: User) -> None:
        """The session belongs to that user."""
        self.user = user
        self.author = user.author

    @property
    def rate(self) -> ConnectionRate:
        """How fast the connection may send."""
        if self._rate is None:
            self._rate = ConnectionRate(self.core.rates)
        return self._rate

    def count_unrated(self, count: int = 1) -> None:
        """Count messages that no other rate counts, because each costs little; the connection ends if they are far too many."""
        if self._unrated is None:
            self._unrated = TokenBucket(UNRATED_BURST, UNRATED_PER_SECOND, self.core.now)
        if self._unrated.available() >= count:
            self._unrated.take(count)
        elif self.state is SessionState.OPEN:
            self.end(RateLimited("too many commands that do nothing"))

    # What the connection calls

    def heard(self) -> None:
        """Anything at all came from the peer."""
        self.heard_at = self.core.timers.tick

    def congested(self) -> None:
        """The connection has unsent bytes: nothing is written directly until they are gone."""
        if self._congested_at is None:
            self._congested_at = self.core.timers.tick
            for membership in self.memberships.values():
                membership.fall_behind()

    def drained(self) -> None:
        """The connection takes bytes again: read on."""
        self._congested_at = None
        # What it was sent before could not reach it, so its silence meant nothing.
        self.heard_at = self.core.timers.tick
        self.feed()

    def lost(self) -> None:
        """The connection has ended."""
        if self.state is SessionState.LOST:
            return
        self.state = SessionState.LOST
        for room in list(self.memberships):
            self.leave_room(room)
        self.core.sessions.remove(self)
        self.core.governing.guests.note(self.user, self.address)
        if self._timer_slot >= 0:
            self.core.timers.cancel(self._timer_slot, self)

    # Reading the logs

    @property
    def takes_events(self) -> bool:
        return self.state is SessionState.OPEN and not self.connection.congested

    def feed(self) -> None:
        """Give every subscription that is behind its next part, in turns, until all are at the head or the connection is full."""
        self.core.catching_up.feed(self)

    def feed_soon(self) -> None:
        """Feed in the next turn."""
        if self.state is SessionState.OPEN:
            self.core.catching_up.later(self)

    def read_failed(self, subscription: Subscription, failure: Failure) -> None:
        """The log could not be read: try again in a second; the position is where it was."""
        # A store that is away says so itself, once for all subscriptions.
        if not failure.check(Unavailable):
            self.log.error("Could not read room {room}: {reason}", room=subscription.log.name, reason=failure.getErrorMessage())
        self.core.call_later(1.0, subscription.retry)

    # Rooms

    def enter_room(self, membership: Membership) -> None:
        """The connection is in that room from now on; :class:`LimitReached` if nobody more fits in."""
        room = membership.room
        room.check_size()
        self.memberships[room.name] = membership
        room.members += 1
        self.core.nodes.enter(self.user, room)

    def leave_room(self, name: str) -> None:
        """The connection leaves the room of that name."""
        membership = self.memberships.pop(name)
        membership.close()
        self.forget(membership)
        room = membership.room
        room.members -= 1
        self.core.nodes.leave(self.user, room)
        room.presence.unwatch(self)

    def standing_changed(self, room: str, error: ChatError | None) -> None:
        """What the user may do in a room has changed; ``error``: it may not be in it any more, and has no other room."""
        if error is not None:
            self.end(error)

    # Life

    def on_timer(self, tick: int) -> int:
        """Ping an idle peer, close an unresponsive one, and end the session with its token.

        Answers in how many ticks the next check is; 0: never.
        """
        if self.state is not SessionState.OPEN:
            return 0
        limits = self.core.limits
        expires = self.user.expires
        if expires is not None and expires <= self.core.now_seconds():
            self.end(TokenExpired("the token has expired"))
            return 0
        interval = max(1, round(limits.ping_seconds))
        next_check = interval
        if self._congested_at is not None:
            # It cannot see a ping; whether it is slow or gone shows in its taking bytes.
            if tick - self._congested_at >= limits.stalled_seconds:
                return _drop(self, CloseCode.TOO_SLOW, "took nothing for too long; come back and resume")
        elif not self.connection.paused:
            silent = tick - self.heard_at
            unanswered = tick - self._pinged_at
            if silent < interval:
                next_check = interval - silent
            elif self._pinged_at <= self.heard_at:
                self._pinged_at = tick
                self.ping()
            elif unanswered >= interval:
                return _drop(self, CloseCode.NO_PONG, "no sign of life")
            else:
                next_check = interval - unanswered
        if expires is not None:
            next_check = min(next_check, max(1, ceil(expires - self.core.now_seconds())))
        return self.set_timer(next_check)

    def set_timer(self, ticks: int) -> int:
        """Check again in so many ticks, and only then."""
        if self._timer_slot >= 0:
            self.core.timers.cancel(self._timer_slot, self)
        self._timer_slot = self.core.timers.schedule(ticks, self)
        return ticks

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self.connection.ping()

    def take_answers(self) -> bytes:
        """What waits to be written to this client alone; it does not wait any more."""
        return b""

    def send_waiting(self) -> None:
        """The server is about to end: submit now what waits for its rate."""

    def bye(self, code: int, reason: str, retry: bool, retry_after_ms: int | None = None) -> None:
        """Tell the client why the connection is about to end, and when to come back, if the dialect can say so."""

    def end(self, error: ChatError) -> None:
        """Close because of ``error``."""
        self.close(error.close_code, error.message)

    def close(self, code: int, reason: str) -> None:
        """End the connection with that code."""
        if self.state is SessionState.OPEN:
            last = self.take_answers()
            self.state = SessionState.CLOSING
            for membership in self.memberships.values():
                # Also one that reads the store: nothing may follow a close frame.
                membership.close()
            self.connection.close(code, reason, last)


def _drop(session: Session, code: CloseCode, reason: str) -> int:
    session.close(code, reason)
    session.connection.abort()
    return 0
