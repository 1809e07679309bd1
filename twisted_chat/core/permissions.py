"""May this user do that in this room?  The one place that answers it.

In:   a user, an action, a room (or, to see it, its name).
Out:  nothing, or the error that the client is told.  Who may not see a room learns nothing of it: for them there is no such room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from fnmatch import fnmatchcase
from functools import lru_cache
from math import ceil
from typing import Protocol

from twisted_chat.core.configuration import Configuration
from twisted_chat.core.connections import address_block
from twisted_chat.core.room import Room
from twisted_chat.errors import Forbidden, NoSuchRoom, SlowMode
from twisted_chat.events import Event, Message
from twisted_chat.limits import RoomPolicy
from twisted_chat.users import User


class Action(Enum):
    """What a user may do in a room that the user may see; the value is its name in ``can`` of the protocol."""

    SEND = "send"
    EDIT = "edit"
    DELETE = "delete"
    REACT = "react"
    TOPIC = "topic"
    MODERATE = "moderate"


#: Actions on events of the log, which need a room that keeps them.
_NEED_LOG = frozenset({Action.EDIT, Action.DELETE, Action.REACT})


class RoomState(Protocol):
    """What decides of a room: :class:`Room`, or one in a list."""

    @property
    def durable(self) -> bool: ...

    @property
    def archived(self) -> bool: ...

    @property
    def policy(self) -> RoomPolicy: ...


class Permissions:
    """Answers by the user's rights and the room's policy, and keeps the times of slow mode.

    :param now: monotonic seconds.
    """

    def __init__(self, configuration: Configuration, now: Callable[[], float]) -> None:
        self._configuration = configuration
        self._now = now
        #: When each user last said something in a room with slow mode.
        self._last_message: dict[tuple[str, str], float] = {}
        #: When guests of each address last did: a guest who comes back without a device is another user.
        self._of_guests: dict[tuple[str, str], list[float]] = {}

    def may_see(self, user: User, room: str) -> bool:
        """Whether the room exists for this user."""
        if user.guest and not self._configuration.policy(room).guests:
            return False
        return user.rooms is None or any(fnmatchcase(room, pattern) for pattern in user.rooms)

    def check_may_see(self, user: User, room: str) -> None:
        """:class:`NoSuchRoom` unless the room exists for this user."""
        if not self.may_see(user, room):
            raise NoSuchRoom(f"room: there is no {room}")

    def allowed(self, user: User, action: Action, room: RoomState) -> bool:
        """Whether the user, who may see the room, may do that there."""
        return action in _allowed(_moderates(user), user.guest, room.durable, room.archived, room.policy.writers)

    def check(self, user: User, action: Action, room: Room) -> None:
        """:class:`Forbidden` unless the user may do that there."""
        if self.allowed(user, action, room):
            return
        if action is Action.MODERATE:
            raise Forbidden(f"room: you are not a moderator of {room.name}")
        if action is Action.TOPIC and user.guest:
            raise Forbidden("topic: guests do not set topics")
        if room.archived:
            raise Forbidden(f"room: {room.name} is archived")
        if action in _NEED_LOG and not room.durable:
            raise Forbidden("this room keeps nothing, so nothing in it can be edited, deleted or reacted to")
        raise Forbidden(f"room: you may not write in {room.name}")

    def can(self, user: User, room: RoomState) -> tuple[str, ...]:
        """Everything that the user may do there, for the ``can`` of a join."""
        return _can(_moderates(user), user.guest, room.durable, room.archived, room.policy.writers)

    def check_slow_mode(self, user: User, room: Room, address: str | None = None) -> None:
        """The user sends a message there: :class:`SlowMode` if it is too early for that.

        :param address: from where, so that guests are also counted by address; None: the program itself sends it.
        """
        wait = self.slow_mode_wait(user, room, address)
        if wait > 0:
            raise SlowMode(f"room: {room.name} is in slow mode, wait {wait:.1f} s", retry_after_ms=ceil(wait * 1000))
        if not room.policy.slow_mode:
            return
        now = self._last_message[room.name, user.id] = self._now()
        most = self._configuration.limits.guests_per_address
        if user.guest and address is not None and most:
            times = self._of_guests.setdefault((room.name, address_block(address)), [])
            times.append(now)
            del times[:-most]

    def saw_messages(self, room: Room, events: Sequence[Event], now_ms: int) -> None:
        """These were said in the room on another node, or while it was not in memory here: slow mode counts them, too."""
        if not room.policy.slow_mode:
            return
        now = self._now()
        for event in events:
            if type(event) is Message:
                at = now - max(0, now_ms - event.at) / 1000
                place = room.name, event.by.id
                self._last_message[place] = max(at, self._last_message.get(place, at))

    def slow_mode_wait(self, user: User, room: Room, address: str | None = None) -> float:
        """Seconds until the user may send a message there again."""
        if not self.has_slow_mode(user, room):
            return 0.0
        period, now = room.policy.slow_mode, self._now()
        at = self._last_message.get((room.name, user.id))
        wait = 0.0 if at is None else at + period - now
        most = self._configuration.limits.guests_per_address
        if user.guest and address is not None and most:
            times = self._of_guests.get((room.name, address_block(address)), ())
            if len(times) >= most:
                wait = max(wait, times[-most] + period - now)
        return wait

    def has_slow_mode(self, user: User, room: Room) -> bool:
        """Whether slow mode concerns the user there; moderators are exempt."""
        return bool(room.policy.slow_mode) and not _moderates(user)

    def tidy(self) -> None:
        """Forget times that slow mode does not need any more."""
        now, policy = self._now(), self._configuration.policy
        self._last_message = {place: at for place, at in self._last_message.items() if now - at <= policy(place[0]).slow_mode}
        self._of_guests = {place: at for place, at in self._of_guests.items() if now - at[-1] <= policy(place[0]).slow_mode}


def _moderates(user: User) -> bool:
    return "moderate" in user.rights


@lru_cache(256)
def _allowed(moderator: bool, guest: bool, durable: bool, archived: bool, writers: str) -> frozenset[Action]:
    """All that somebody may do in a room, by what decides it."""
    allowed = set()
    if not archived and (writers == "all" or moderator or (writers == "users" and not guest)):
        allowed = set(Action)
    if guest:
        allowed.discard(Action.TOPIC)
    if not durable:
        allowed -= _NEED_LOG
    if moderator:
        allowed.add(Action.MODERATE)
    else:
        allowed.discard(Action.MODERATE)
    return frozenset(allowed)


@lru_cache(256)
def _can(moderator: bool, guest: bool, durable: bool, archived: bool, writers: str) -> tuple[str, ...]:
    allowed = _allowed(moderator, guest, durable, archived, writers)
    return tuple(action.value for action in Action if action in allowed)
