"""Joining rooms: find where to read from, answer, then read (``docs/protocol.rst``, "Join is resume").

A cursor that has to be looked up in the store answers later; the room counts as joined from the beginning, so that what the
client sends behind the join is not refused meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType
from msgspec.structs import asdict
from twisted.python.failure import Failure

from twisted_chat.core.room import Room
from twisted_chat.core.session import SessionState
from twisted_chat.core.subscription import Subscription
from twisted_chat.errors import ChatError, InternalError, LimitReached, NotJoined
from twisted_chat.protocol.commands import Id, JoinRoom
from twisted_chat.protocol.encoders import JsonBatchEncoding, JsonEncoding
from twisted_chat.protocol.frames import BARE, DEFLATED
from twisted_chat.protocol.replies import JoinAllOk, Joined, JoinFailed, JoinOk, error_body

if TYPE_CHECKING:
    from twisted_chat.core.json_session import JsonSession

#: Told what a join found, and how to begin to read; or why there is nothing to read.
Found = Callable[[Joined | ChatError, Callable[[], None]], None]


def join_one(session: JsonSession, command_id: Id | None, wanted: JoinRoom) -> None:
    """Join a room and answer; what is wrong at once is raised."""

    def found(found: Joined | ChatError, begin: Callable[[], None]) -> None:
        if isinstance(found, ChatError):
            session.refused(command_id, found)
        elif command_id is not None:
            session.push(JoinOk(id=command_id, **asdict(found)))
        begin()

    _join(session, wanted, found)


def join_all(session: JsonSession, command_id: Id | None, wanted: Sequence[JoinRoom]) -> None:
    """Join several rooms: one answer when all of them know where they start, then their events."""
    answers: list[Joined | JoinFailed | None] = [None] * len(wanted)
    begins: list[Callable[[], None]] = []

    def found(place: int, found: Joined | ChatError, begin: Callable[[], None]) -> None:
        failed = isinstance(found, ChatError)
        answers[place] = JoinFailed(room=wanted[place].room, error=error_body(found)) if failed else found  # type: ignore[arg-type, assignment]
        begins.append(begin)
        if len(begins) == len(wanted):
            if command_id is not None:
                session.push(JoinAllOk(id=command_id, rooms=tuple(answer for answer in answers if answer is not None)))
            for each in begins:
                each()

    for place, room in enumerate(wanted):
        try:
            _join(session, room, partial(found, place))
        except ChatError as error:
            found(place, error, _nothing)


def _join(session: JsonSession, wanted: JoinRoom, found: Found) -> None:
    core, user = session.core, session.user
    room = core.room_for(user, wanted.room)
    if room.name in session.subscriptions:
        # Joining twice moves nothing; only presence may be asked for now.
        if wanted.presence:
            room.presence.watch(session)
        found(_joined(session, room, room.head + 1, UNSET, UNSET), _nothing)
        return
    if len(session.subscriptions) >= core.limits.rooms_per_connection:
        raise LimitReached(f"room: at most {core.limits.rooms_per_connection} rooms on one connection")
    checked = None if wanted.since is None else core.check_cursor(room, wanted.since)
    subscription = _subscription(session, room)
    session.enter_room(room, subscription)

    def start(why: str | None) -> None:
        if session.subscriptions.get(room.name) is not subscription:
            found(NotJoined(f"room: {room.name} was left before it was joined"), _nothing)
            return
        position = _position(room, wanted, why)
        recovered = UNSET if wanted.since is None else why is None
        found(_joined(session, room, position + 1, recovered, why or UNSET), lambda: begin(position))

    def begin(position: int) -> None:
        if session.state is not SessionState.OPEN or session.subscriptions.get(room.name) is not subscription:
            return
        if wanted.presence:
            room.presence.watch(session)
            session.push(room.presence.snapshot())
        # The answer leaves before the first event.
        session.flush()
        subscription.start(position)
        session.feed()

    def failed(failure: Failure) -> None:
        if session.subscriptions.get(room.name) is subscription:
            session.leave_room(room.name)
        error = failure.value
        if not isinstance(error, ChatError):
            session.log.failure("Could not check a cursor", failure)
            error = InternalError("the server could not do it; see its log")
        found(error, _nothing)

    if checked is None:
        start(None)
    else:
        checked.addCallbacks(start, failed).addErrback(lambda failure: session.log.failure("A join failed", failure))


def _subscription(session: JsonSession, room: Room) -> Subscription:
    encoding = JsonBatchEncoding if session.batch else JsonEncoding
    framing = DEFLATED if session.connection.deflated else BARE
    return Subscription(room.broadcast((encoding, framing), lambda name: encoding(name, framing)), session.connection, session)


def _position(room: Room, wanted: JoinRoom, why: str | None) -> int:
    if wanted.since is not None and why is None:
        return wanted.since.seq
    if wanted.tail is not None:
        return max(room.first - 1, room.head - wanted.tail)
    return room.head if wanted.since is None else room.first - 1


def _joined(session: JsonSession, room: Room, start: int, recovered: bool | UnsetType, why: str | UnsetType) -> Joined:
    return Joined(
        room=room.name,
        epoch=room.epoch,
        head=room.head,
        head_id=room.head_id,
        first=room.first,
        from_=start,
        recovered=recovered,
        why=why,
        durable=room.durable,
        topic=room.topic,
        can=session.core.can(session.user, room),
    )


def _nothing() -> None:
    """There is nothing to begin."""
