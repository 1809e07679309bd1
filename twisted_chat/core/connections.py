"""The open connections: how many there are, in all and from each address, and whose they are.

In:   addresses before a connection is admitted; sessions that begin, change their user and end.
Out:  refusals; the sessions of a user; who has which name.

It knows a session only as a small interface (:class:`ChatSession`), and no dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv6Network
from typing import Protocol

from msgspec import Struct

from twisted_chat.core.reserved import ReservedNames
from twisted_chat.core.scheduler import Work
from twisted_chat.core.subscription import Subscription
from twisted_chat.errors import ChatError, CloseCode, Conflict, LimitReached, Restarting, Unauthenticated
from twisted_chat.interfaces import Connection
from twisted_chat.limits import Limits
from twisted_chat.names import skeletons
from twisted_chat.protocol.replies import ReadPush
from twisted_chat.users import User

#: Milliseconds.  A drained server is back, or its successor is, in a moment.
_DRAIN_RETRY_MS = 2_000
#: Milliseconds.  Connections end at their own pace: no use in asking every second.
_FULL_RETRY_MS = 5_000
#: Bits.  One household or virtual machine has a whole /64 and could take a new address for each connection.
_IPV6_PREFIX = 64


class ConnectionLimiter:
    """Counts what there is of connections, and says no before there are too many.

    :ivar limits: may be replaced while running; what is open stays open.
    :ivar draining: set when the server goes down; nobody new comes in.
    :ivar connections: open ones, of all addresses.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.draining = False
        self.connections = 0
        self._by_address: dict[str, int] = {}

    def check_open(self) -> None:
        """Raise ``Restarting`` while draining."""
        if self.draining:
            raise Restarting("the server is going down for a restart", retry_after_ms=_DRAIN_RETRY_MS)

    def admit(self, address: str) -> None:
        """Count one more connection from there, or raise ``Restarting`` or ``LimitReached``; :meth:`ended` takes it back."""
        self.check_open()
        if self.connections >= self.limits.connections:
            raise LimitReached("connections: the server is full", retry_after_ms=_FULL_RETRY_MS)
        key = address_block(address)
        held = self._by_address.get(key, 0)
        if held >= self.limits.connections_per_address:
            raise LimitReached(
                f"connections: at most {self.limits.connections_per_address} from one address", retry_after_ms=_FULL_RETRY_MS
            )
        self._by_address[key] = held + 1
        self.connections += 1

    def ended(self, address: str) -> None:
        """One of the connections that :meth:`admit` let in from there is over."""
        key = address_block(address)
        held = self._by_address[key] - 1
        if held:
            self._by_address[key] = held
        else:
            del self._by_address[key]
        self.connections -= 1


@lru_cache(4_096)
def address_block(address: str) -> str:
    """What limits per address count: an IPv4 address, or the /64 of an IPv6 address."""
    if ":" not in address:
        return address
    try:
        return str(IPv6Network((address, _IPV6_PREFIX), strict=False))
    except ValueError:
        return address


class Lag(Struct, frozen=True):
    """How far slow clients are behind.

    :ivar behind: sessions whose connection is congested or that are not at the head of each of their rooms.
    :ivar furthest: events between the oldest position and the head of its room.
    :ivar unsent: bytes that wait to be sent, of all connections.
    """

    behind: int
    furthest: int
    unsent: int


class ChatSession(Protocol):
    """A session as the core sees it, whatever its dialect."""

    user: User
    #: From where the connection comes, as limits count it.
    address: str
    device: str | None
    #: When the session of the device began (:class:`twisted_chat.bus.Device`); 0: it has none.
    device_at: int
    connection: Connection

    @property
    def memberships(self) -> Mapping[str, Subscription]:
        """The rooms that the connection is in, by name."""

    def congested(self) -> None:
        """The connection has unsent bytes."""

    def on_timer(self, tick: int) -> object:
        """Run the periodic check."""

    def see_read(self, push: ReadPush) -> None:
        """The user read on another device."""

    def standing_changed(self, room: str, error: ChatError | None) -> None:
        """What the user may do in a room has changed; ``error``: the session is in it, and may not be any more."""

    def see_typing(self, push: bytes) -> None:
        """Others in a room are writing: the JSON of a ``TypingPush``."""

    def send_waiting(self) -> None:
        """The server is about to end: submit now what waits for its rate."""

    def bye(self, code: int, reason: str, retry: bool, retry_after_ms: int | None = None) -> None:
        """Tell the client why the connection is about to end, and when to come back, if the dialect can say so."""

    def end(self, error: ChatError) -> None:
        """Close because of ``error``."""

    def close(self, code: int, reason: str) -> None:
        """Close with that code (RFC 6455 section 7.4)."""

    def become(self, user: User) -> None:
        """The session belongs to that user."""

    def flush(self) -> None:
        """Write the answers collected."""


_NOBODY: dict[str, int] = {}


class Look:
    """Who has a name of one look: the very same name, or names that look alike.

    However many they are, asking whether somebody new may have a name takes the same time.  Nearly always it is one user, and then there
    are no dictionaries, which would have 600 bytes.
    """

    __slots__ = ("_guests", "_name", "_names", "_user")

    def __init__(self) -> None:
        #: The only user who has it, if any.
        self._user: str | None = None
        self._name = ""
        #: From the second one on: how each user writes it, by id, and how many guests write it in each way.
        self._names: dict[str, str] | None = None
        self._guests: dict[str, int] = _NOBODY

    @property
    def is_free(self) -> bool:
        """Nobody has it."""
        return self._user is None and not self._names

    def add(self, user: str, name: str) -> None:
        """The user of that id has the name."""
        if self._names is None:
            if self._user is None or self._user == user:
                self._user, self._name = user, name
                return
            self._names, self._guests = {}, {}
            first, self._user = self._user, None
            self.add(first, self._name)
        self.discard(user)
        self._names[user] = name
        if _is_guest(user):
            self._guests[name] = self._guests.get(name, 0) + 1

    def discard(self, user: str) -> None:
        """The user of that id has it no more."""
        if self._names is None:
            if self._user == user:
                self._user = None
            return
        name = self._names.pop(user, None)
        if name is None or not _is_guest(user):
            return
        if self._guests[name] > 1:
            self._guests[name] -= 1
        else:
            del self._guests[name]

    def is_taken(self, user: str, name: str) -> bool:
        """Whether anybody but that user has it, guests who write it in the same way apart."""
        if self._names is None:
            holder = self._user
            return holder is not None and holder != user and not (self._name == name and _is_guest(holder))
        others = len(self._names) - self._guests.get(name, 0)
        own = self._names.get(user)
        if own is not None and (own != name or not _is_guest(user)):
            others -= 1
        return others > 0


def _is_guest(user: str) -> bool:
    return user.startswith("g")


class Sessions:
    """The open sessions by user, and the names that are taken.

    :param at_next: does work in the next turn of the reactor.
    """

    def __init__(self, at_next: Callable[[Work], None]) -> None:
        self._changed: Callable[[User, int], None] | None = None
        self._sessions: set[ChatSession] = set()
        self._by_user: dict[str, set[ChatSession]] = {}
        #: The look-alike form of each name in use -> who has it.
        self._names: dict[str, Look] = {}
        self._reserved = ReservedNames(at_next)
        #: As ``_names``, for users of other nodes, and the nodes of each of those users.
        self._names_elsewhere: dict[str, Look] = {}
        self._elsewhere: dict[str, dict[str, str]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[ChatSession]:
        """The sessions at this moment; they may end meanwhile."""
        return iter(list(self._sessions))

    def __contains__(self, user: object) -> bool:
        """Whether the user of that id is connected."""
        return user in self._by_user

    @property
    def names_in_use(self) -> list[str]:
        """The look-alike forms of the names of connected users."""
        return sorted(self._names)

    def lag(self) -> Lag:
        """How far the sessions are behind the logs that they read, for metrics."""
        behind = furthest = unsent = 0
        for session in self._sessions:
            unsent += session.connection.unsent_bytes
            lag = max((membership.lag for membership in session.memberships.values()), default=0)
            if lag or session.connection.congested:
                behind += 1
                furthest = max(furthest, lag)
        return Lag(behind, furthest, unsent)

    def of_user(self, user: str) -> list[ChatSession]:
        """The sessions of the user of that id."""
        return list(self._by_user.get(user, ()))

    def add(self, session: ChatSession) -> None:
        """A session has begun."""
        self._sessions.add(session)
        self._enter(session)

    def remove(self, session: ChatSession) -> None:
        """A session has ended."""
        self._sessions.discard(session)
        self._leave(session)

    def change_user(self, session: ChatSession, user: User) -> None:
        """The session turned out to be of ``user``; :class:`Conflict` if that one's name looks like somebody else's."""
        # It gives its name up first, or it could not take one that looks like it.
        self._leave(session)
        try:
            self.check_name(user)
            session.become(user)
        finally:
            self._enter(session)

    def end_older(self, user: str, device: str, at: int) -> None:
        """End the user's sessions with that device that began before ``at``: old connections that the network has not given up yet."""
        for session in self.of_user(user):
            if session.device == device and session.device_at < at:
                session.bye(CloseCode.REPLACED, "replaced", retry=False)
                session.close(CloseCode.REPLACED, "replaced by a newer connection of the same device")

    def end_tokens(self, tokens: Iterable[str]) -> None:
        """End the sessions of tokens that were revoked."""
        revoked = set(tokens)
        if revoked:
            for session in self:
                if session.user.token_id in revoked:
                    session.end(Unauthenticated("the token was revoked"))

    def tell_changes(self, changed: Callable[[User, int], None]) -> None:
        """From now on call ``changed`` with each user whose sessions have changed, and how many there are."""
        self._changed = changed

    def learn_name(self, node: str, user: str, name: str | None) -> None:
        """A user of that name is connected to another node; None: that user is not connected to it any more."""
        known = self._elsewhere.setdefault(user, {})
        before = known.pop(node, None)
        if name is not None:
            known[node] = name
        if not known:
            del self._elsewhere[user]
        if before == name:
            return
        if before is not None and before not in known.values():
            for look in skeletons(before):
                if (holders := self._names_elsewhere.get(look)) is not None:
                    holders.discard(user)
                    if holders.is_free:
                        del self._names_elsewhere[look]
        for each in known.values():
            for look in skeletons(each):
                self._names_elsewhere.setdefault(look, Look()).add(user, each)

    def reserve_names(self, users: Iterable[tuple[str, str]]) -> None:
        """Names (user's id, name) of tokens that no guest may have or imitate, connected or not; they replace those of before."""
        self._reserved.replace(users)

    def reserve_accounts(self, users: Iterable[tuple[str, str]]) -> None:
        """Names of accounts that no guest may have or imitate, besides those of before."""
        self._reserved.add(users)

    def check_name(self, user: User) -> None:
        """:class:`Conflict` if the name looks like that of somebody else.

        Two guests may have the very same name (one person in two tabs, or back before the old connection is given up); nobody may
        have one that only looks the same, and guests not that of somebody with a token.
        """
        if not user.guest:
            return
        for look in skeletons(user.name):
            if self._reserved.is_taken(look, user.id):
                raise Conflict(f"name: {user.name} looks like the name of somebody else")
            for names in (self._names, self._names_elsewhere):
                holders = names.get(look)
                if holders is not None and holders.is_taken(user.id, user.name):
                    raise Conflict(f"name: {user.name} looks like the name of somebody else")

    def _enter(self, session: ChatSession) -> None:
        user = session.user
        self._by_user.setdefault(user.id, set()).add(session)
        for look in skeletons(user.name):
            holders = self._names.get(look)
            if holders is None:
                holders = self._names[look] = Look()
            holders.add(user.id, user.name)
        if self._changed is not None:
            self._changed(user, len(self._by_user[user.id]))

    def _leave(self, session: ChatSession) -> None:
        user = session.user
        sessions = self._by_user.get(user.id, set())
        sessions.discard(session)
        if not sessions:
            self._by_user.pop(user.id, None)
        if self._changed is not None:
            self._changed(user, len(sessions))
        for look in skeletons(user.name):
            if any(look in skeletons(other.user.name) for other in sessions):
                continue
            holders = self._names.get(look)
            if holders is None:
                continue
            holders.discard(user.id)
            if holders.is_free:
                del self._names[look]
