"""The chat: what every edge asks of the core.

It puts the parts together and holds no tables of its own: rooms, sessions, permissions, history, notices and commits are parts with a
module each.  It gets the store, the clock and randomness from outside and knows no socket: ``docs/embedding.rst`` shows how another
program drives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_chat.bus import Bus
from twisted_chat.core.announcer import Announcer
from twisted_chat.core.broadcast import FanOut
from twisted_chat.core.catching_up import CatchUp, ReadTurns
from twisted_chat.core.commit import AppendRequest, GroupCommit
from twisted_chat.core.configuration import Configuration
from twisted_chat.core.connections import ChatSession, Sessions
from twisted_chat.core.drain import Drain
from twisted_chat.core.effects import Effects
from twisted_chat.core.ephemeral import EphemeralLog
from twisted_chat.core.follow import Deliver, Follower, Followers, OnReset
from twisted_chat.core.governing import Directory, Governing, NoDirectory
from twisted_chat.core.history import History
from twisted_chat.core.log import RoomLog
from twisted_chat.core.nodes import Nodes
from twisted_chat.core.notices import LocalBus, Notices
from twisted_chat.core.opening import Openings
from twisted_chat.core.permissions import Action, Permissions
from twisted_chat.core.presence import PresenceList
from twisted_chat.core.ratelimit import SharedRates
from twisted_chat.core.retention import Retention
from twisted_chat.core.roles import Roles, known_now
from twisted_chat.core.room import Room, effective_policy
from twisted_chat.core.rooms import Rooms
from twisted_chat.core.scheduler import CallLater, Scheduler, TimingWheel
from twisted_chat.core.spending import Spending
from twisted_chat.core.writing import Writers
from twisted_chat.errors import ChatError, Unauthenticated, Unavailable
from twisted_chat.events import Cursor, Event, NewEvent, NewMessage
from twisted_chat.interfaces import Admission, Connection, Dialect, SocketSession
from twisted_chat.limits import Limits, RoomPolicies
from twisted_chat.store_contract import Appended, Duplicate, FollowedStore, Opened, Outcome, Page, RoomRecord
from twisted_chat.users import Credential, User

#: Seconds between two rounds in which the parts forget what nobody needs any more.
TIDY_SECONDS = 60

_LIMITS = Limits()
_NOBODY = NoDirectory()
_POLICIES = RoomPolicies()


class Clock(Protocol):
    """The reactor's or a test's clock (``IReactorTime``)."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> IDelayedCall: ...


class MakeGuest(Protocol):
    """Makes the users of guests: :mod:`twisted_chat.auth.authenticator`."""

    def __call__(self, name: str | None, device: str | None, /) -> User: ...


class DialectSession(ChatSession, SocketSession, Protocol):
    """A session for messages of one dialect."""


class OpenSession(Protocol):
    """The session class of a dialect."""

    def __call__(self, core: Chat, connection: Connection, admission: Admission, /) -> DialectSession: ...


def refuse_credentials(credential: Credential) -> Deferred[User]:
    """The ``identify`` of a chat without any authenticator."""
    return fail(Unauthenticated("token: this server knows no tokens"))


class Chat:
    """One chat.

    :param store: open; ``opened`` is what opening it answered.
    :param clock: monotonic time and delayed calls.
    :param now_seconds: the wall clock, seconds since 1970.
    :param run_id: random id of this server run: of this node among others, and in the ids of events that are not kept.
    :param random: a number from [0, 1) at each call, to spread reconnects.
    :param dialects: the session class of each dialect.
    :param identify: finds the user behind a credential that came in ``hello``.
    :param guest: makes the user of a guest; None: a guest stays who the admission says.
    :param directory: finds people who are not connected, so that they can be made members of rooms, and has the audit log.
    :param bus: carries what is in no log between the nodes that share the store; None: there is only this one.
    :ivar room_news: the number of the last change of rooms that was known at the start; ``standing_news``: likewise of standings.
    """

    log = Logger()

    def __init__(
        self,
        store: FollowedStore,
        opened: Opened,
        clock: Clock,
        *,
        now_seconds: Callable[[], float],
        run_id: str,
        random: Callable[[], float],
        dialects: Mapping[Dialect, OpenSession],
        limits: Limits = _LIMITS,
        policies: RoomPolicies = _POLICIES,
        identify: Callable[[Credential], Deferred[User]] = refuse_credentials,
        guest: MakeGuest | None = None,
        bus: Bus | None = None,
        directory: Directory = _NOBODY,
        server: str = "twisted_chat",
    ) -> None:
        self.store, self.epoch, self.server = store, opened.epoch, server
        self.room_news, self.standing_news = opened.news, opened.standing_news
        self.now, self.now_seconds = clock.seconds, now_seconds
        self.call_later: CallLater = clock.callLater
        self._identify, self.make_guest = identify, guest
        self._dialects = dialects
        self._ephemeral_epoch = f"~{run_id}"

        self.configuration = Configuration(limits, policies)
        self.scheduler = Scheduler(self.call_later)
        self.timers = TimingWheel(self.call_later)
        self._fan_out = FanOut(self.scheduler)
        self.catching_up = CatchUp(self.scheduler, self.now)
        self.rates = SharedRates(self.configuration, self.now)
        self.history = History(store, self.configuration, self._when_announced)
        self._read_turns = ReadTurns(self.history.read_for_catch_up, self.scheduler)
        self.sessions = Sessions(self.scheduler.at_next)
        self.roles = Roles(store, self.sessions, self.now, self._now_ms)
        self.permissions = Permissions(self.configuration, self.roles, self.now)
        self.rooms = Rooms(opened.rooms, self.configuration, self.permissions, self._make_room, self.now, self._members_elsewhere)
        self._join_nodes(bus, run_id)
        self.announcer = Announcer(self.scheduler, self.call_later, self._saw)
        self.commits = GroupCommit(store, self.announcer, self.scheduler, self.configuration, self.now)
        removed, at_next = self.notices.events_removed, self.scheduler.at_next
        self.retention = Retention(store, self.rooms, self.configuration, self._take_grown, removed, now_seconds, at_next)
        self.followers = Followers(self.history, store, self.call_later, self.openings.current)
        self.drain = self._make_drain(random)
        rooms, roles, sessions = self.rooms, self.roles, self.sessions
        self.effects = Effects(store, rooms, roles, self.permissions, sessions)
        self.governing = Governing(store, rooms, roles, self.permissions, sessions, self.submit, self._now_ms, directory)
        self._each_minute: list[Callable[[], None]] = []
        self._stop_news: Callable[[], None] = lambda: None

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self.configuration.limits

    def start(self) -> Deferred[None]:
        """Begin the timers, and follow what others write to the store; fires when all mutes and bans are known."""
        self.timers.start()
        self.timers.schedule(TIDY_SECONDS, self)
        self.nodes.start()
        self._stop_news = self.store.follow(self._logs_grew)
        return self.roles.open()

    def configure(self, limits: Limits, policies: RoomPolicies) -> None:
        """Replace the limits and policies; connections keep what they were told, and a room stays durable or ephemeral."""
        self.configuration.replace(limits, policies)
        for room in self.rooms:
            room.log.cache.configure(limits)
            room.set_policy(replace(policies.policy(room.name), durable=room.policy.durable))

    def identify(self, credential: Credential) -> Deferred[User]:
        """The user behind the credential, whose roles are known when it fires."""
        return self._identify(credential).addCallback(lambda user: known_now(self.roles, user))

    # Connections

    def check_may_enter(self, user: User, raw_room: str | None, address: str | None = None) -> None:
        """Whether a connection may be opened, while a refusal can still be answered in HTTP; raises :class:`ChatError` if not.

        :param raw_room: the room that the connection is for; None: it joins by command.
        """
        self.drain.check()
        self.sessions.check_name(user)
        if raw_room is not None:
            self.rooms.find(user, raw_room, address).check_size()

    def open_session(self, connection: Connection, admission: Admission) -> DialectSession:
        """A connection is open, after :meth:`check_may_enter` in the same turn of the reactor: the session that takes its messages."""
        session = self._dialects[admission.dialect](self, connection, admission)
        self.add_session(session)
        return session

    def add_session(self, session: ChatSession) -> None:
        """Count a session, and begin its timer (also for edges with sessions of their own)."""
        self.sessions.add(session)
        if session.connection.congested:
            # Already: the connection could not say so to a session that was not there yet.
            session.congested()
        session.on_timer(self.timers.tick)

    # The logs

    def submit(self, request: AppendRequest) -> None:
        """Number, keep and deliver; :class:`ChatError` if that cannot begin."""
        if self.drain.began:
            self.drain.check()
        (self.commits if request.room.durable else self._ephemeral).submit(request)

    def post(self, user: User, raw_room: str, new_event: NewEvent, address: str | None = None) -> Deferred[Appended | Duplicate]:
        """Append an event without a connection (HTTP, embedding programs); fires when it is on disk.

        :param address: from where the user asks; None: the program itself asks.
        """
        if (loading := self.roles.load(user)) is not None:
            return loading.addCallback(lambda _: self.post(user, raw_room, new_event, address))
        result: Deferred[Appended | Duplicate] = Deferred()

        def done(outcomes: Sequence[Outcome]) -> None:
            (outcome,) = outcomes
            if isinstance(outcome, ChatError):
                result.errback(outcome)
            else:
                result.callback(outcome)

        room = self.rooms.find(user, raw_room, address)
        self.permissions.check(user, Action.SEND, room, address)
        if type(new_event) is NewMessage:
            self.permissions.check_slow_mode(user, room, address)
        self.governing.guests.note(user, address)
        self.submit(AppendRequest(room, [new_event], done, result.errback, _size(new_event)))
        return result

    def page(
        self,
        user: User,
        raw_room: str,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
        address: str | None = None,
    ) -> Deferred[Page]:
        """A page of messages in their present state.

        :param address: from where a guest asks, likewise of :meth:`read`.
        """
        if (loading := self.roles.load(user)) is not None:
            return loading.addCallback(
                lambda _: self.page(user, raw_room, limit, before=before, after=after, around=around, address=address)
            )
        room = self.rooms.find(user, raw_room, address)
        page = self.history.page(room.log, limit, before=before, after=after, around=around, reader=user.id)
        return self.permissions.still_seen(user, room, address, page)

    def follow(
        self,
        user: User,
        raw_room: str,
        deliver: Deliver,
        *,
        name: str | None = None,
        since: Cursor | None = None,
        on_reset: OnReset | None = None,
    ) -> Follower:
        """Deliver every event of the room to a program, in order and at least once, as fast as the program takes them.

        It ends with :meth:`Follower.stop`, or when the chat ends.

        :param name: keeps the cursor in the store under this name (1 to 128 characters), so that a restart goes on there.
        :param since: where to start when no cursor is kept; None: with what comes from now on.
        :param on_reset: called when the cursor cannot be resumed; delivery goes on with the first event that is kept.
        """
        return self.followers.start(self.rooms.find(user, raw_room), deliver, name=name, since=since, on_reset=on_reset)

    def read(self, user: User, raw_room: str, after: int, limit: int, address: str | None = None) -> Deferred[list[Event]]:
        """The log after a number, as it is."""
        if (loading := self.roles.load(user)) is not None:
            return loading.addCallback(lambda _: self.read(user, raw_room, after, limit, address))
        room = self.rooms.find(user, raw_room, address)
        return self.permissions.still_seen(user, room, address, self.history.read(room.log, after, limit))

    def each_minute(self, work: Callable[[], None]) -> None:
        """Call ``work`` once a minute, for an edge that has something to forget; it must not raise."""
        self._each_minute.append(work)

    def on_timer(self, tick: int) -> int:
        """Once a minute: forget what nobody needs any more."""
        self.timers.schedule(TIDY_SECONDS, self)
        self.rates.prune(self.sessions)
        for work in self._each_minute:
            work()
        self.permissions.tidy(self.rooms.settings)
        self.roles.tidy()
        self.notices.tidy()
        self.rooms.shrink_caches()
        if not self.commits.busy:
            # An event on its way to the log of a room must find the room when it comes back.
            self.rooms.forget_empty()
        return TIDY_SECONDS

    def _stop_following(self) -> Deferred[None]:
        """At the end: no news from the store any more, and no deliveries to programs."""
        self._stop_news()
        return self.followers.stop()

    def _logs_grew(self, heads: Mapping[str, int]) -> None:
        for name, head in heads.items():
            room = self.rooms.in_memory(name)
            if room is None:
                self.rooms.grew(name, head)
            elif room.durable:
                self.announcer.hint(room, head)

    def _take_grown(self) -> set[str]:
        return {room.name for room in self.announcer.take_grown()} | self.rooms.take_grown()

    def _when_announced(self, name: str, seq: int) -> Deferred[None]:
        room = self.rooms.in_memory(name)
        if room is None:
            return fail(Unavailable(f"room: {name} is not in memory any more; try again"))
        announced: Deferred[None] = Deferred()
        self.announcer.announce_to(room, seq, lambda: announced.callback(None))
        return announced

    def _saw(self, room: Room, events: Sequence[Event]) -> None:
        self.permissions.saw_messages(room, events, self._now_ms())

    def _members_elsewhere(self, room: str) -> int:
        return self.nodes.members_elsewhere(room)

    def _make_drain(self, random: Callable[[], float]) -> Drain:
        nodes, stop = self.nodes, self._stop_following
        return Drain(self.sessions, self.commits, self._fan_out, self.timers, random, self.scheduler, lambda: nodes.count, stop)

    def _join_nodes(self, bus: Bus | None, node: str) -> None:
        shared, all_bus = bus is not None, bus or LocalBus()
        writers = Writers(self.configuration, self.scheduler, self.call_later)
        self.notices = Notices(all_bus, self.store, self.rooms, self.sessions, writers, self.now, node)
        spending = Spending(self.rates, self.rooms, shared=shared)
        self.nodes = Nodes(
            all_bus, node, self.rooms, self.sessions, spending, self.scheduler, self.timers, self.now, self._now_ms, shared=shared
        )
        self.openings = Openings(self.store, self._saw, shared=shared)
        self._ephemeral = EphemeralLog(self.scheduler, self._now_ms, node, self.now, self.rooms, bus, self._saw)

    def _make_room(self, record: RoomRecord) -> Room:
        policy = effective_policy(self.configuration.policy(record.name), record.settings)
        epoch = self.epoch if policy.durable else self._ephemeral_epoch
        log = RoomLog(record, epoch, policy.durable, self.limits, self.history.read_for_catch_up, self._read_turns.read)
        presence = PresenceList(record.name, self.scheduler, self.timers)
        self.nodes.fill(record.name, presence)
        room = Room(record, log, self.configuration.policy(record.name), presence, self._fan_out)
        room.on_governed = self.effects.announced
        room.govern(self.roles.governs(room.name))
        self.openings.opened(room)
        return room

    def _now_ms(self) -> int:
        return int(self.now_seconds() * 1000)


def _size(new_event: NewEvent) -> int:
    if isinstance(new_event, NewMessage):
        return len(new_event.text or new_event.data or b"")
    return len(getattr(new_event, "text", ""))
