"""Joining rooms: find where to read from, answer, then read (``docs/protocol.rst``, "Join is resume").

In:   what a client wants to join, and its session.
Out:  the answer, then the events from the start position on.

A cursor that has to be looked up in the store is answered later; the room counts as joined from the beginning, so that what the
client sends behind the join is not refused meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypedDict

from msgspec import UNSET, UnsetType
from msgspec.structs import asdict
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_chat.core.answering import AnsweringSession
from twisted_chat.core.history import Unrecoverable
from twisted_chat.core.room import Room
from twisted_chat.core.session import Membership, Session, SessionState
from twisted_chat.errors import ChatError, LimitReached, NotJoined, as_chat_error
from twisted_chat.events import Author, RoomSettings
from twisted_chat.protocol.commands import Id, JoinRoom
from twisted_chat.protocol.encoders import JsonBatchEncoding, JsonEncoding
from twisted_chat.protocol.frames import BARE, DEFLATED
from twisted_chat.protocol.replies import JoinAllOk, Joined, JoinFailed, JoinOk, error_body

#: Receives what a join found, and how to begin to read; or why there is nothing to read.
Found = Callable[["Joined | ChatError", Callable[[], None]], None]


def join_one(session: AnsweringSession, command_id: Id | None, wanted: JoinRoom) -> None:
    """Join a room and answer; what is wrong at once is raised."""

    def found(found: Joined | ChatError, begin: Callable[[], None]) -> None:
        if isinstance(found, ChatError):
            session.error(command_id, found)
        elif command_id is not None:
            session.push(JoinOk(id=command_id, **asdict(found)))
        begin()

    _join(session, wanted, found)


def join_all(session: AnsweringSession, command_id: Id | None, wanted: Sequence[JoinRoom]) -> None:
    """Join several rooms: one answer when all of them know where they start, then their events."""
    answers: list[Joined | JoinFailed | None] = [None] * len(wanted)
    begins: list[Callable[[], None]] = []

    def found(place: int, found: Joined | ChatError, begin: Callable[[], None]) -> None:
        answers[place] = JoinFailed(room=wanted[place].room, error=error_body(found)) if isinstance(found, ChatError) else found
        begins.append(begin)
        if len(begins) == len(wanted):
            if command_id is not None:
                session.push(JoinAllOk(id=command_id, rooms=tuple(_still(session, each) for each in answers if each is not None)))
            for each in begins:
                each()

    for place, room in enumerate(wanted):
        try:
            _join(session, room, partial(found, place))
        except ChatError as error:
            found(place, error, _nothing_to_read)


def _still(session: AnsweringSession, answer: Joined | JoinFailed) -> Joined | JoinFailed:
    """The answer, unless the room was left, or its member removed, while other rooms were looked up."""
    if isinstance(answer, JoinFailed) or answer.room in session.memberships:
        return answer
    return JoinFailed(room=answer.room, error=error_body(_left(answer.room)))


def _left(room: str) -> NotJoined:
    return NotJoined(f"room: {room} was left before it was joined")


def joined_reply(
    session: Session, room: Room, start: int, recovered: bool | UnsetType, why: Unrecoverable | UnsetType | None
) -> Joined:
    """The answer to a join, in every dialect that has one.

    :param start: the number of the first event that follows.
    """
    log = room.log
    return Joined(
        room=room.name,
        epoch=log.epoch,
        head=log.head,
        head_id=log.head_id,
        first=log.first,
        from_=start,
        recovered=recovered,
        why=why.value if isinstance(why, Unrecoverable) else UNSET,
        durable=log.durable,
        topic=room.topic,
        can=session.core.permissions.can(session.user, room, session.address),
        **about_room(room.settings, session.core.permissions.role(session.user, room.name)),
    )


class About(TypedDict):
    """The fields of a reply that tell about a room with members; absent where there is nothing to tell."""

    access: str | UnsetType
    title: str | UnsetType
    people: tuple[Author, ...] | UnsetType
    role: str | UnsetType


_NOTHING: About = {"access": UNSET, "title": UNSET, "people": UNSET, "role": UNSET}


def about_room(settings: RoomSettings, role: str | None) -> About:
    """What somebody with that role is told about a room with these settings."""
    if role is None and not settings.title and settings.access == "public":
        return _NOTHING
    return {
        "access": UNSET if settings.access == "public" else settings.access,
        "title": settings.title or UNSET,
        "people": settings.people or UNSET,
        "role": role or UNSET,
    }


def _join(session: AnsweringSession, wanted: JoinRoom, found: Found) -> None:
    core = session.core
    room = core.rooms.find(session.user, wanted.room, session.address)
    if room.name in session.memberships:
        # Joining twice moves nothing; only presence may be asked for now.
        if wanted.presence:
            room.presence.watch(session)
        found(joined_reply(session, room, room.head + 1, UNSET, UNSET), _nothing_to_read)
        return
    if len(session.memberships) >= core.limits.rooms_per_connection:
        raise LimitReached(f"room: at most {core.limits.rooms_per_connection} rooms on one connection")
    current = core.openings.current(room)
    if current is None:
        checked = _check(session, room, wanted)
    else:
        checked = current.addCallback(lambda _: _check(session, room, wanted))
    _Join(session, room, wanted, found).start(checked)


def _check(session: AnsweringSession, room: Room, wanted: JoinRoom) -> Deferred[Unrecoverable | None] | None:
    return None if wanted.since is None else session.core.history.check_cursor(room.log, wanted.since)


class _Join:
    """One join, which may wait for the store."""

    def __init__(self, session: AnsweringSession, room: Room, wanted: JoinRoom, found: Found) -> None:
        self._session = session
        self._room = room
        self._wanted = wanted
        self._found = found
        encoding = JsonBatchEncoding if session.batch else JsonEncoding
        framing = DEFLATED if session.connection.deflated else BARE
        broadcast = room.broadcast((encoding, framing), lambda name: encoding(name, framing))
        self._membership = Membership(room, broadcast, session.connection, session)
        session.enter_room(self._membership)

    def start(self, checked: Deferred[Unrecoverable | None] | None) -> None:
        """Answer when the cursor has been checked."""
        if checked is None:
            self._cursor_checked(None)
            return
        log = self._session.log
        checked.addCallbacks(self._cursor_checked, self._check_failed).addErrback(
            lambda failure: log.failure("Bug while joining a room", failure)
        )

    @property
    def _is_joined(self) -> bool:
        return self._session.memberships.get(self._room.name) is self._membership

    def _cursor_checked(self, why: Unrecoverable | None) -> None:
        if not self._is_joined:
            self._found(_left(self._room.name), _nothing_to_read)
            return
        position = self._start_position(why)
        recovered = UNSET if self._wanted.since is None else why is None
        answer = joined_reply(self._session, self._room, position + 1, recovered, why)
        self._found(answer, lambda: self._begin(position))

    def _check_failed(self, failure: Failure) -> None:
        if self._is_joined:
            self._session.leave_room(self._room.name)
        self._found(as_chat_error(failure, self._session.log, "checking a cursor"), _nothing_to_read)

    def _begin(self, position: int) -> None:
        session = self._session
        if session.state is not SessionState.OPEN or not self._is_joined:
            return
        if self._wanted.presence:
            self._room.presence.watch(session)
            session.push(self._room.presence.snapshot())
        # The answer leaves before the first event.
        session.flush()
        session.core.catching_up.start(session, self._membership, position)

    def _start_position(self, why: Unrecoverable | None) -> int:
        wanted, log = self._wanted, self._room.log
        if wanted.since is not None and why is None:
            return wanted.since.seq
        if wanted.tail is not None:
            return max(log.first - 1, log.head - wanted.tail)
        return log.head if wanted.since is None else log.first - 1


def _nothing_to_read() -> None:
    """The room was joined before, or is not joined."""
