"""May this user do that in this room?  The one place that answers it.

In:   a user, an action, a room (or, to see it, its name).
Out:  nothing, or the error that the client is told.  Who may not see a room learns nothing of it: for them there is no such room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from enum import Enum
from fnmatch import fnmatchcase
from functools import lru_cache
from math import ceil
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred

from twisted_chat.core.configuration import Configuration
from twisted_chat.core.connections import address_block
from twisted_chat.core.roles import Roles
from twisted_chat.core.room import Room, effective_policy
from twisted_chat.errors import Banned, Forbidden, Muted, NoSuchRoom, SlowMode
from twisted_chat.events import Event, Message, RoomSettings
from twisted_chat.limits import RoomPolicy
from twisted_chat.standings import ADMIN_RANK, NO_RANK, RANKS
from twisted_chat.users import User

T = TypeVar("T")


class Action(Enum):
    """What a user may do in a room that the user may see; the value is its name in ``can`` of the protocol."""

    SEND = "send"
    EDIT = "edit"
    DELETE = "delete"
    REACT = "react"
    TOPIC = "topic"
    #: Delete what others wrote.
    MODERATE = "moderate"
    #: Mute, remove or ban people who have no higher role.
    SANCTION = "sanction"
    #: Make people members, or end it, and set roles that are not higher than the own one.
    MEMBERS = "members"
    #: Change the room itself: title, who may write, slow mode, archived.
    SETTINGS = "settings"


#: Where dates end: a sanction until later has no end that could be written.
_YEAR_10000_MS = 253_402_300_800_000
#: Actions on events of the log, which need a room that keeps them.
_NEED_LOG = frozenset({Action.EDIT, Action.DELETE, Action.REACT, Action.MODERATE})
#: What those who decide in a room may do there beyond writing.
_OF_MODERATORS = frozenset({Action.MODERATE, Action.SANCTION, Action.MEMBERS})
#: What somebody who is muted may not do.
_WRITE = frozenset({Action.SEND, Action.EDIT, Action.REACT, Action.TOPIC})
#: What may be done in a direct conversation, in which nobody decides about others.
_AMONG_EQUALS = frozenset({Action.SEND, Action.EDIT, Action.DELETE, Action.REACT})
#: The least rank that may write, by the ``writers`` of the room; guests have none.
_WRITERS_RANK = {"all": NO_RANK, "users": NO_RANK, "members": RANKS["member"], "moderators": RANKS["moderator"]}


class RoomState(Protocol):
    """What decides of a room: :class:`Room`, or one in a list."""

    @property
    def name(self) -> str: ...

    @property
    def access(self) -> str: ...

    @property
    def durable(self) -> bool: ...

    @property
    def archived(self) -> bool: ...

    @property
    def policy(self) -> RoomPolicy: ...


class Permissions:
    """Answers by the user's rights, the user's role and sanctions in the room, and the room's policy; keeps the times of slow mode.

    :param now: monotonic seconds.
    """

    def __init__(self, configuration: Configuration, roles: Roles, now: Callable[[], float]) -> None:
        self._configuration = configuration
        self._roles = roles
        self._now = now
        #: When each user last said something in a room with slow mode.
        self._last_message: dict[tuple[str, str], float] = {}
        #: When guests of each address last did: a guest who comes back without a device is another user.
        self._of_guests: dict[tuple[str, str], list[float]] = {}

    def may_see(self, user: User, room: str, access: str) -> bool:
        """Whether the room exists for this user.

        :param access: the room's (:class:`~twisted_chat.events.RoomSettings`).
        """
        if user.guest and not self._configuration.policy(room).guests:
            return False
        if access != "public" and self._roles.role(user, room) is None:
            return False
        return self.may_name(user, room)

    def may_name(self, user: User, room: str) -> bool:
        """Whether rooms of that name are among those that the user's token is for."""
        return user.rooms is None or any(fnmatchcase(room, pattern) for pattern in user.rooms)

    def check_may_see(self, user: User, room: str, access: str, address: str | None = None) -> None:
        """:class:`NoSuchRoom` unless the room exists for this user, :class:`Banned` if the user may not enter it.

        :param address: from where a guest asks; None: not known, then only bans of the user itself count.
        """
        if not self.may_see(user, room, access):
            raise NoSuchRoom(f"room: there is no {room}")
        banned = self._roles.banned(user, room, address) if self._roles.governs(room) else 0
        if banned:
            raise Banned(f"room: you are banned from {room}{_until(banned)}")

    def still_seen(self, user: User, room: Room, address: str | None, found: Deferred[T]) -> Deferred[T]:
        """What was found, if the user may still see the room: reading takes time, in which somebody can be removed."""

        def check(result: T) -> T:
            self.check_may_see(user, room.name, room.access, address)
            return result

        return found.addCallback(check)

    def rank(self, user: User, room: RoomState) -> int:
        """How much the user decides in the room, which the user may see (:mod:`twisted_chat.standings`)."""
        role = None if user.guest else self._roles.role(user, room.name)
        own = NO_RANK if role is None else RANKS[role]
        if not user.rights or room.access == "direct":
            return own
        if "admin" in user.rights:
            return ADMIN_RANK
        return max(own, RANKS["moderator"]) if "moderate" in user.rights else own

    def acting_as(self, user: User, room: RoomState) -> str:
        """The role by which the user has that rank there; empty if it comes from the user's rights, or there is none."""
        role = self._roles.role(user, room.name)
        return role if role is not None and RANKS[role] == self.rank(user, room) else ""

    def rooms_of(self, user: User) -> Iterator[str]:
        """The names of the rooms in which the user has a role."""
        return self._roles.rooms_of(user)

    def role(self, user: User, room: str) -> str | None:
        """The user's role in the room, if any; guests have none."""
        return None if user.guest else self._roles.role(user, room)

    def _everything(self, user: User, room: RoomState, address: str | None) -> tuple[int, bool, bool, str, bool, bool, str]:
        """What decides of all actions, in the order of :func:`_allowed`."""
        muted = self._roles.governs(room.name) and bool(self._roles.muted(user, room.name, address))
        return self.rank(user, room), user.guest, muted, room.access, room.durable, room.archived, room.policy.writers

    def allowed(self, user: User, action: Action, room: RoomState, address: str | None = None) -> bool:
        """Whether the user, who may see the room, may do that there."""
        return action in _allowed(*self._everything(user, room, address))

    def check(self, user: User, action: Action, room: Room, address: str | None = None) -> None:
        """:class:`Forbidden` or :class:`Muted` unless the user may do that there.

        :param address: from where a guest asks, because guests are muted by address, too.
        """
        if self.allowed(user, action, room, address):
            return
        muted = self._roles.muted(user, room.name, address)
        if muted and action in _WRITE:
            raise Muted(f"room: you are muted in {room.name}{_until(muted)}")
        if action in _OF_MODERATORS:
            raise Forbidden(f"room: you are not a moderator of {room.name}")
        if action is Action.SETTINGS:
            raise Forbidden(f"room: you are not an owner of {room.name}")
        if action is Action.TOPIC and user.guest:
            raise Forbidden("topic: guests do not set topics")
        if room.archived:
            raise Forbidden(f"room: {room.name} is archived")
        if action in _NEED_LOG and not room.durable:
            raise Forbidden("this room keeps nothing, so nothing in it can be edited, deleted or reacted to")
        raise Forbidden(f"room: you may not write in {room.name}")

    def can(self, user: User, room: RoomState, address: str | None = None) -> tuple[str, ...]:
        """Everything that the user may do there, for the ``can`` of a join."""
        return _can(*self._everything(user, room, address))

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
        return bool(room.policy.slow_mode) and self.rank(user, room) < RANKS["moderator"]

    def tidy(self, settings: Callable[[str], RoomSettings]) -> None:
        """Forget times that slow mode does not need any more.

        :param settings: what the owners of the room of that name decided.
        """

        def slow_mode(room: str) -> float:
            return effective_policy(self._configuration.policy(room), settings(room)).slow_mode

        now = self._now()
        self._last_message = {place: at for place, at in self._last_message.items() if now - at <= slow_mode(place[0])}
        self._of_guests = {place: at for place, at in self._of_guests.items() if now - at[-1] <= slow_mode(place[0])}


def _until(end_ms: int) -> str:
    return "" if end_ms >= _YEAR_10000_MS else f" until {datetime.fromtimestamp(end_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


@lru_cache(1024)
def _allowed(rank: int, guest: bool, muted: bool, access: str, durable: bool, archived: bool, writers: str) -> frozenset[Action]:
    """All that somebody may do in a room that they see, by what decides it: the table of permissions.

    A member with the role ``reader`` may only read.
    """
    moderates, may_write = rank >= RANKS["moderator"], rank >= _WRITERS_RANK[writers] and rank != RANKS["reader"]
    if guest and writers != "all":
        may_write = False
    if archived or not (may_write or moderates):
        allowed: frozenset[Action] = frozenset()
    elif access == "direct":
        allowed = _AMONG_EQUALS
    else:
        allowed = _WRITE | {Action.DELETE}
    if guest:
        allowed = allowed - {Action.TOPIC}
    if muted:
        allowed = allowed - _WRITE
    if access != "direct" and moderates:
        # Also in an archived room: what should not have been said must not stay because nobody may write there.
        allowed = allowed | _OF_MODERATORS | {Action.DELETE}
    if access != "direct" and rank >= RANKS["owner"]:
        allowed = allowed | {Action.SETTINGS}
    if not durable:
        # Nor is its log, by which all nodes agree about roles and sanctions.
        allowed = allowed - _NEED_LOG - {Action.SANCTION, Action.MEMBERS, Action.SETTINGS}
    return allowed


@lru_cache(1024)
def _can(rank: int, guest: bool, muted: bool, access: str, durable: bool, archived: bool, writers: str) -> tuple[str, ...]:
    allowed = _allowed(rank, guest, muted, access, durable, archived, writers)
    return tuple(action.value for action in Action if action in allowed)
