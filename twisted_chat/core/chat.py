"""The hub: the rooms, the sessions in them, and what every edge asks of the chat.

It gets the store, the clock and randomness from outside and knows no socket: ``docs/embedding.rst`` shows how another
program drives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import islice
from math import ceil
from typing import Protocol

from msgspec.structs import replace
from twisted.internet.defer import Deferred, DeferredSemaphore, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.core.broadcast import FanOut
from twisted_chat.core.commit import AppendRequest, GroupCommit
from twisted_chat.core.ephemeral import EphemeralLog
from twisted_chat.core.json_session import JsonSession
from twisted_chat.core.presence import PresenceList
from twisted_chat.core.ratelimit import TokenBucket
from twisted_chat.core.room import Room
from twisted_chat.core.scheduler import CallLater, Scheduler, TimingWheel
from twisted_chat.core.session import Session
from twisted_chat.core.subscription import CATCH_UP_BYTES, CATCH_UP_EVENTS
from twisted_chat.core.text_session import TextSession
from twisted_chat.errors import (
    BadRequest,
    ChatError,
    CloseCode,
    Conflict,
    Forbidden,
    LimitReached,
    NoSuchRoom,
    Restarting,
    SlowMode,
    Unauthenticated,
)
from twisted_chat.events import Cursor, Event, NewEvent, NewMessage
from twisted_chat.interfaces import (
    Admission,
    Appended,
    Connection,
    Dialect,
    Duplicate,
    LogStore,
    Opened,
    Outcome,
    Page,
    RoomRecord,
)
from twisted_chat.limits import Limits, RoomPolicies
from twisted_chat.names import person_name, room_name, skeleton
from twisted_chat.protocol.replies import Me, ReadPush, TypingPush
from twisted_chat.users import Credential, User

#: Reads of the store for readers that catch up, under way at once: bounds memory when thousands resume together.
READS_AT_ONCE = 16

#: Seconds between two ``typing`` of one person in one room that are passed on.
TYPING_EVERY = 3.0

#: Rooms in one list: more is not read by anybody, and an answer of megabytes would delay others.
ROOMS_TOLD = 1_000

#: Seconds over which clients are asked to come back after a restart, at least; and the rate that the spread aims at.
RETURN_SECONDS = 10.0
RETURNS_PER_SECOND = 200.0


_LIMITS = Limits()
_POLICIES = RoomPolicies()


class Clock(Protocol):
    """The reactor's or a test's clock (``IReactorTime``)."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> object: ...


class MakeGuest(Protocol):
    """Makes guests: :mod:`twisted_chat.auth.authenticator`."""

    def __call__(self, name: str | None, device: str | None, /) -> User: ...


def refuse_credentials(credential: Credential) -> Deferred[User]:
    """The ``identify`` of a hub without any way to prove who one is."""
    return fail(Unauthenticated("token: this server knows no tokens"))


class Chat:
    """One chat.

    :param store: open; ``opened`` is what opening it answered.
    :param clock: monotonic time and delayed calls.
    :param now_seconds: the wall clock, seconds since 1970.
    :param life: a short random name of this life of the server, in the ids of events that are kept nowhere.
    :param random: a number from [0, 1) at each call, to spread reconnects.
    :param identify: finds the person behind a credential said in ``hello``.
    :param guest: makes the person of a guest; None: a guest stays who the ticket says.
    """

    log = Logger()

    def __init__(
        self,
        store: LogStore,
        opened: Opened,
        clock: Clock,
        *,
        now_seconds: Callable[[], float],
        run_id: str,
        random: Callable[[], float],
        limits: Limits = _LIMITS,
        policies: RoomPolicies = _POLICIES,
        identify: Callable[[Credential], Deferred[User]] = refuse_credentials,
        guest: MakeGuest | None = None,
        server: str = "twisted_chat",
    ) -> None:
        self.store = store
        self.epoch = opened.epoch
        self.limits = limits
        #: Whether there is any bound on how fast a connection or a person may send.
        self.metered = limits.send_per_second > 0 or limits.person_per_second > 0
        self.policies = policies
        self.server = server
        self.identify = identify
        self.now = clock.seconds
        self.now_seconds = now_seconds
        self.call_later: CallLater = clock.callLater
        self.scheduler = Scheduler(self.call_later)
        self._fan_out = FanOut(self.scheduler)
        self.wheel = TimingWheel(self.call_later)
        self.commits = GroupCommit(store, self.scheduler, limits.uncommitted, self.now)
        self.sessions: set[Session] = set()
        self.draining = False
        self.dropped_connections = 0
        self._guest = guest
        self._random = random
        self._ephemeral = EphemeralLog(self.scheduler, lambda: int(now_seconds() * 1000), run_id, self.now)
        self._ephemeral_epoch = f"~{run_id}"
        self._reads = DeferredSemaphore(READS_AT_ONCE)
        self._rooms: dict[str, Room] = {}
        self._skeletons: dict[str, str] = {}
        self._records = {record.name: record for record in opened.rooms}
        self._by_person: dict[str, set[Session]] = {}
        self._person_buckets: dict[str, TokenBucket] = {}
        self._names: dict[str, dict[str, str]] = {}
        self._reserved: dict[str, str] = {}
        self._last_post: dict[tuple[str, str], float] = {}
        self._typed: dict[tuple[str, str], float] = {}
        for name in self._records:
            self._skeletons[skeleton(name)] = name

    def start(self) -> None:
        """Begin the heartbeat."""
        self.wheel.start()
        self.call_later(60.0, self._tidy)

    # Connections

    def check_may_enter(self, user: User, raw_room: str | None) -> None:
        """What :meth:`open_session` would refuse, for the time before the upgrade when it can still be said in HTTP."""
        if self.draining:
            raise Restarting("the server is restarting", retry_after_ms=self._return_ms())
        self.check_name(user)
        if raw_room is not None:
            self.room_for(user, raw_room).check_size()

    def open_session(self, connection: Connection, admission: Admission) -> Session:
        """A connection is open: the session that takes its messages.  :class:`ChatError` if it may not be after all."""
        self.check_may_enter(admission.user, None if admission.dialect is Dialect.JSON else admission.room)
        session = (
            JsonSession(self, connection, admission)
            if admission.dialect is Dialect.JSON
            else TextSession(self, connection, admission)
        )
        self.add_session(session)
        return session

    def add_session(self, session: Session) -> None:
        """Count a session in and look after it (edges with sessions of their own kind, too)."""
        self.sessions.add(session)
        self._enter_person(session)
        if session.connection.congested:
            # Already: the link could not say so to a session that was not there yet.
            session.congested()
        session.on_timer(self.wheel.tick)

    def session_lost(self, session: Session, slot: int) -> None:
        """A session's connection has ended."""
        self.sessions.discard(session)
        self._leave_person(session)
        if slot >= 0:
            self.wheel.forget(slot, session)

    def rename(self, session: Session, user: User) -> None:
        """The session turned out to be of ``user`` (before it has joined anything)."""
        before = session.user
        # First it gives its name up, or it could not take one that looks like it.
        self._leave_person(session)
        try:
            self.check_name(user)
            session.become(user)
        finally:
            self._enter_person(session)
        if user.expires != before.expires:
            session.set_timer(1)

    def replace_device(self, session: JsonSession) -> None:
        """Another connection of the same person and device is the old one that the network has not given up yet."""
        if session.device is None:
            return
        for other in list(self._by_person.get(session.user.id, ())):
            if other is not session and isinstance(other, JsonSession) and other.device == session.device:
                other.bye(CloseCode.REPLACED, "replaced", retry=False)
                other.close(CloseCode.REPLACED, "replaced by a newer connection of the same device")

    def guest_as(self, user: User, name: str | None, device: str | None) -> User:
        """Who a session without a token is after its hello: guests choose a name, others keep theirs."""
        if not user.guest:
            return user
        if self._guest is None or (name is None and device is None):
            return user
        if device is None:
            return _renamed(user, name)
        if name is None and not _is_named_by_id(user):
            name = user.name
        return self._guest(name, device)

    # People

    def reserve_names(self, people: Iterable[tuple[str, str]]) -> None:
        """Names (person's id, name) that no guest may take or imitate, here or not."""
        for user, name in people:
            self._reserved[skeleton(name)] = user

    def check_name(self, user: User) -> None:
        """:class:`Conflict` if the name looks like that of somebody else.

        Two guests may have the very same name (one person in two tabs, or back before the old connection is given up); nobody may
        have one that only looks the same, and guests not that of somebody with a token.
        """
        if not user.guest:
            return
        shape = skeleton(user.name)
        if self._reserved.get(shape, user.id) != user.id:
            raise Conflict(f"name: {user.name} looks like the name of somebody else")
        for other, name in self._names.get(shape, {}).items():
            if other != user.id and (name != user.name or not other.startswith("g")):
                raise Conflict(f"name: {user.name} looks like the name of somebody else")

    def person_bucket(self, user: str) -> TokenBucket:
        """The rate of one person over all connections."""
        bucket = self._person_buckets.get(user)
        if bucket is None:
            bucket = TokenBucket(self.limits.person_burst, self.limits.person_per_second, self.now)
            self._person_buckets[user] = bucket
        return bucket

    def end_tokens(self, tokens: Iterable[str]) -> None:
        """These tokens were revoked: their connections end."""
        revoked = set(tokens)
        for session in list(self.sessions):
            if session.user.token_id in revoked:
                session.end(Unauthenticated("the token was revoked"))

    def _enter_person(self, session: Session) -> None:
        user = session.user
        self._by_person.setdefault(user.id, set()).add(session)
        self._names.setdefault(skeleton(user.name), {})[user.id] = user.name

    def _leave_person(self, session: Session) -> None:
        user = session.user
        sessions = self._by_person.get(user.id, set())
        sessions.discard(session)
        if not sessions:
            self._by_person.pop(user.id, None)
        shape = skeleton(user.name)
        if any(skeleton(other.user.name) == shape for other in sessions):
            return
        names = self._names.get(shape, {})
        names.pop(user.id, None)
        if not names:
            self._names.pop(shape, None)

    # Rooms and rights

    def room_name(self, raw: str) -> str:
        """The one form of a room's name."""
        return raw if raw in self._rooms else room_name(raw)

    def room_for(self, user: User, raw: str) -> Room:
        """The room, made if need be and allowed; :class:`NoSuchRoom` also for one that the person may not see."""
        room = self._rooms.get(raw)
        name = room_name(raw) if room is None else room.name
        # First of all, so that who may not see a room learns nothing of it, and makes none.
        if not self.may_see(user, name):
            raise NoSuchRoom(f"room: there is no {name}")
        return room or self._make_room(name)

    def rooms(self, user: User) -> list[Room]:
        """The rooms that the person may see, by name, at most :data:`ROOMS_TOLD`."""
        names = (name for name in sorted({*self._records, *self._rooms}) if self.may_see(user, name))
        return [self._make_room(name) for name in islice(names, ROOMS_TOLD)]

    def learn_rooms(self, rooms: Mapping[str, bool]) -> None:
        """The rooms in the store by name, and whether each is archived: another process makes, archives and opens rooms."""
        for name, archived in rooms.items():
            room = self._rooms.get(name)
            if room is not None and room.archived != archived:
                room.archive(archived)
            record = self._records.get(name)
            if record is None:
                # Whatever its log has was said through this hub, and then the room is in use and stays so.
                self._records[name] = RoomRecord(name, archived=archived)
                self._skeletons.setdefault(skeleton(name), name)
            elif record.archived != archived:
                self._records[name] = replace(record, archived=archived)

    @property
    def all_rooms(self) -> Iterable[Room]:
        """The rooms in use, for metrics and retention."""
        return self._rooms.values()

    def may_see(self, user: User, room: str) -> bool:
        """Whether the room exists for this person."""
        if user.guest and not self.policies.policy(room).guests:
            return False
        return user.rooms is None or any(fnmatchcase(room, pattern) for pattern in user.rooms)

    def can(self, user: User, room: Room) -> tuple[str, ...]:
        """What the person may do there, for the ``can`` of a join."""
        moderates = "moderate" in user.rights
        rights = []
        if self._may_write(user, room):
            rights.append("send")
            if room.durable:
                rights += ["edit", "delete", "react"]
            if not user.guest:
                rights.append("topic")
        if moderates:
            rights.append("moderate")
        return tuple(rights)

    def check_may_write(self, user: User, room: Room) -> None:
        """:class:`Forbidden` unless the person may write there."""
        if not room.open_to_all and not self._may_write(user, room):
            raise Forbidden(f"room: {room.name} is {'archived' if room.archived else 'not for you to write in'}")

    def check_slow_mode(self, user: User, room: Room) -> None:
        """The person says something there: :class:`SlowMode` if it is too early for that."""
        wait = self.slow_mode_wait(user, room)
        if wait > 0:
            raise SlowMode(f"room: {room.name} is in slow mode, wait {wait:.1f} s", retry_after_ms=ceil(wait * 1000))
        if room.policy.slow_mode:
            self._last_post[room.name, user.id] = self.now()

    def slow_mode_wait(self, user: User, room: Room) -> float:
        """Seconds until the person may say something there again."""
        at = self._last_post.get((room.name, user.id))
        if at is None or not room.policy.slow_mode or "moderate" in user.rights:
            return 0.0
        return at + room.policy.slow_mode - self.now()

    def _may_write(self, user: User, room: Room) -> bool:
        if room.archived:
            return False
        match room.policy.writers:
            case "moderators":
                return "moderate" in user.rights
            case "users":
                return not user.guest
            case _:
                return True

    def _make_room(self, name: str) -> Room:
        known = self._rooms.get(name)
        if known is not None:
            return known
        record = self._records.get(name)
        policy = self.policies.policy(name)
        if record is None:
            if not (self.policies.create or name == "lobby" or name in self.policies.table):
                raise NoSuchRoom(f"room: there is no {name}")
            like = self._skeletons.get(skeleton(name))
            if like is not None:
                raise Conflict(f"room: {name} looks like {like}")
            if len(self._skeletons) >= self.limits.rooms:
                raise LimitReached(f"room: there are {self.limits.rooms} rooms already")
            self._skeletons[skeleton(name)] = name
        presence = PresenceList(name, self.scheduler, self.call_later)
        room = Room(
            record or RoomRecord(name),
            self.epoch if policy.durable else self._ephemeral_epoch,
            policy,
            self.limits,
            self._read_log,
            presence,
            self._fan_out,
        )
        self._rooms[name] = room
        return room

    # The logs

    def submit(self, request: AppendRequest) -> None:
        """Number, keep and deliver; :class:`ChatError` if that cannot begin."""
        if self.draining:
            raise Restarting("the server is restarting", retry_after_ms=self._return_ms())
        (self.commits if request.room.durable else self._ephemeral).submit(request)

    def post(self, user: User, raw_room: str, new_event: NewEvent) -> Deferred[Appended | Duplicate]:
        """Say something without a connection (HTTP, embedding programs); fires when it is on disk."""
        result: Deferred[Appended | Duplicate] = Deferred()

        def done(outcomes: Iterable[Outcome]) -> None:
            (outcome,) = outcomes
            if isinstance(outcome, ChatError):
                result.errback(outcome)
            else:
                result.callback(outcome)

        room = self.room_for(user, raw_room)
        self.check_may_write(user, room)
        if type(new_event) is NewMessage:
            self.check_slow_mode(user, room)
        self.submit(AppendRequest(room, [new_event], done, result.errback))
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
    ) -> Deferred[Page]:
        """A page of messages in their present state."""
        room = self.room_for(user, raw_room)
        limit = min(limit, self.limits.history)
        if not room.durable:
            return succeed(_page_of(room, limit, before, after, around))
        return self.store.page(room.name, limit, before=before, after=after, around=around)

    def read(self, user: User, raw_room: str, after: int, limit: int) -> Deferred[list[Event]]:
        """The log after a number, as it is."""
        room = self.room_for(user, raw_room)
        if room.durable:
            return self.store.read(room.name, after, min(limit, self.limits.history), CATCH_UP_BYTES * 4)
        start = room.recent.after(max(after, room.recent.base - 1)) or 0
        return succeed(room.recent.events[start : start + limit])

    def check_cursor(self, room: Room, since: Cursor) -> Deferred[str | None]:
        """None if everything after the cursor can be given, else why not: ``epoch``, ``fork``, ``ahead``, ``expired``."""
        if since.epoch != room.epoch:
            return succeed("epoch")
        if since.seq > room.head:
            return succeed("ahead")
        first = room.first if room.durable else room.recent.base
        if since.seq < first - 1:
            return succeed("expired")
        if since.seq == 0:
            return succeed(None)
        if since.id is None:
            raise BadRequest("since: needs the id of the event at seq")
        if since.seq == room.head:
            return succeed(None if since.id == room.head_id else "fork")
        place = room.recent.after(since.seq - 1)
        if place is not None:
            return succeed(None if room.recent.events[place].id == since.id else "fork")
        if not room.durable:
            return succeed(None)
        event = self._reads.run(self.store.event, room.name, since.seq)
        return event.addCallback(lambda found: "expired" if found is None else None if found.id == since.id else "fork")

    def read_marks(self, user: User) -> Deferred[dict[str, int]]:
        """How far the person has read; nothing is known of guests without a device."""
        return self.store.read_marks(user.id).addErrback(self._no_marks)

    def _no_marks(self, failure: Failure) -> dict[str, int]:
        # A store that cannot be read now does not keep anybody from saying hello.
        self.log.failure("Could not read marks", failure)
        return {}

    def mark_read(self, user: User, room: Room, seq: int, by: Session) -> Deferred[int]:
        """Keep a read mark and tell the person's other devices."""

        def marked(mark: int) -> int:
            for session in self._by_person.get(user.id, ()):
                if session is not by and isinstance(session, JsonSession):
                    session.see_read(ReadPush(room=room.name, seq=mark))
            return mark

        return self.store.mark_read(user.id, room.name, seq).addCallback(marked)

    def typing(self, by: JsonSession, room: Room) -> None:
        """Tell the room's other members that somebody is writing, at most every :data:`TYPING_EVERY` seconds."""
        user, now = by.user, self.now()
        if now - self._typed.get((room.name, user.id), -TYPING_EVERY) < TYPING_EVERY:
            return
        self._typed[room.name, user.id] = now
        push = TypingPush(room=room.name, by=Me(id=user.id, name=user.name, guest=user.guest))
        for session in room.live_members():
            if isinstance(session, JsonSession) and session.user.id != user.id:
                session.see_typing(push)

    def retain(self) -> None:
        """Apply the retention of the rooms' policies."""
        now_ms = int(self.now_seconds() * 1000)
        for name in {*self._records, *self._rooms}:
            policy = self.policies.policy(name)
            if policy.durable and (policy.keep_events or policy.keep_days):
                oldest = now_ms - int(policy.keep_days * 86_400_000) if policy.keep_days else None
                purge = self.store.purge(name, policy.keep_events or None, oldest)
                purge.addCallback(self._retained)
                purge.addErrback(lambda failure: self.log.failure("Retention failed", failure))

    def _retained(self, record: RoomRecord) -> None:
        if record.name in self._rooms:
            self._rooms[record.name].retained(record)

    def _read_log(self, room: str, after: int) -> Deferred[list[Event]]:
        return self._reads.run(self.store.read, room, after, CATCH_UP_EVENTS, CATCH_UP_BYTES)

    # The end

    def drain(self) -> Deferred[None]:
        """Take nothing new, commit what came, tell everybody when to come back, close with 1012; fires when all is written."""
        for session in list(self.sessions):
            session.say_rest()
        self.draining = True
        return self.commits.idle().addCallback(lambda _: self._close_all())

    def _close_all(self) -> None:
        self._fan_out.finish()
        for session in list(self.sessions):
            if isinstance(session, JsonSession):
                session.bye(CloseCode.RESTART, "restart", retry=True, retry_after_ms=self._return_ms())
            session.close(CloseCode.SERVICE_RESTART, "restart")
        self.wheel.stop()

    def _return_ms(self) -> int:
        spread = max(RETURN_SECONDS, len(self.sessions) / RETURNS_PER_SECOND)
        return 500 + int(self._random() * spread * 1000)

    def _tidy(self) -> None:
        """Once a minute: what nobody needs any more."""
        self.call_later(60.0, self._tidy)
        now = self.now()
        for user in [user for user in self._person_buckets if user not in self._by_person]:
            if self._person_buckets[user].available() >= self.limits.person_burst:
                del self._person_buckets[user]
        for place in [place for place, at in self._last_post.items() if now - at > self.policies.policy(place[0]).slow_mode]:
            del self._last_post[place]
        self._typed = {place: at for place, at in self._typed.items() if now - at < TYPING_EVERY}
        weight = sum(room.recent.weight for room in self._rooms.values())
        if weight > self.limits.recent_bytes_total:
            for room in sorted(self._rooms.values(), key=lambda room: (room.members, room.recent.weight)):
                if room.durable:
                    weight -= room.recent.weight
                    room.forget_recent()
                if weight <= self.limits.recent_bytes_total // 2:
                    break
        if self.commits.busy:
            # What is on its way to the log of a room must find the room when it comes back.
            return
        for name, room in list(self._rooms.items()):
            if not room.members and not room.head and name not in self._records and name != "lobby":
                del self._rooms[name]
                self._skeletons.pop(skeleton(name), None)


def _is_named_by_id(user: User) -> bool:
    """Whether nobody chose the guest's name; the person of the device then has one by its own id, the same after each return."""
    return user.name.startswith("guest-") and user.id.endswith(user.name.removeprefix("guest-"))


def _renamed(user: User, name: str | None) -> User:
    if name is None:
        return user
    return User(
        id=user.id,
        name=person_name(name),
        guest=user.guest,
        expires=user.expires,
        rights=user.rights,
        rooms=user.rooms,
    )


def _page_of(room: Room, limit: int, before: int | None, after: int | None, around: int | None) -> Page:
    """A page out of what an ephemeral room still has in memory."""
    events = room.recent.events
    if around is not None:
        after = max(0, around - limit // 2 - 1)
    if after is not None:
        start = min(len(events), room.recent.after(max(after, room.recent.base - 1)) or 0)
        end = min(len(events), start + limit)
    else:
        end = len(events) if before is None else max(0, min(len(events), before - room.recent.base))
        start = max(0, end - limit)
    return Page(tuple(events[start:end]), room.head, start > 0, end < len(events))
