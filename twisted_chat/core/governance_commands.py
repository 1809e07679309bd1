"""The commands of ``chat.v1.json`` that change who may do what in a room, or tell about it.

In:   a command of one session (:func:`run`).
Out:  its answer, when the change is in the log; the change itself goes to everybody as an event.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_never

from msgspec import UNSET, DecodeError
from msgspec.json import decode, encode
from twisted.internet.defer import Deferred

from twisted_chat.core.answering import AnsweringSession
from twisted_chat.core.governing import LISTED_MEMBERS, Changes
from twisted_chat.core.joining import about_room
from twisted_chat.errors import BadRequest, ChatError
from twisted_chat.protocol.commands import (
    Create,
    Direct,
    GovernanceCommand,
    Id,
    Member,
    Members,
    Sanction,
    Sanctions,
    Settings,
)
from twisted_chat.protocol.replies import (
    MemberBrief,
    MembersOk,
    PostOk,
    RemovedPush,
    RightsPush,
    RoomOk,
    RoomPush,
    SanctionBrief,
    SanctionsOk,
)
from twisted_chat.standings import RANKS, Standing, rank
from twisted_chat.store_contract import Appended, Duplicate


def run(session: AnsweringSession, command: GovernanceCommand) -> None:
    """Carry the command out and answer."""
    if not isinstance(command, Members | Sanctions):
        session.rate.check(session.user, session.address)
    working = Deferred.fromCoroutine(_work(session, command))
    session.answer_later(command.id, working, lambda answer: None if answer is None else session.push(answer))


def standing_push(session: AnsweringSession, room: str, error: ChatError | None) -> RemovedPush | RightsPush | RoomPush:
    """What a client is told when what its user may do in a room has changed; ``error``: why it left the room."""
    if error is not None:
        return RemovedPush(room=room, code=error.code, message=error.message)
    core, user = session.core, session.user
    membership = session.memberships.get(room)
    about = about_room(core.rooms.settings(room), core.permissions.role(user, room))
    if membership is None:
        return RoomPush(room=room, **about)
    found = membership.room
    return RightsPush(room=room, archived=found.archived, can=core.permissions.can(user, found, session.address), **about)


async def _work(session: AnsweringSession, command: GovernanceCommand) -> Any:
    core, user, address = session.core, session.user, session.address
    governing, command_id = core.governing, command.id
    match command:
        case Create():
            room = await governing.create(user, command.access, command.room, command.title, command.people, command.key, address)
            return None if command_id is None else RoomOk(id=command_id, room=room.name)
        case Direct():
            name = await governing.direct(user, command.people, address)
            return None if command_id is None else RoomOk(id=command_id, room=name)
        case Settings():
            changes = Changes(
                title=command.title, writers=command.writers, slow_mode=command.slow_mode, archived=command.archived
            )
            return await _posted(command, governing.change_settings(user, command.room, changes, command.key, address))
        case Member():
            setting = governing.set_member(user, command.room, command.person, command.role, command.key, address)
            return await _posted(command, setting)
        case Sanction():
            sanctioning = governing.sanction(
                user,
                command.room,
                command.person,
                command.what,
                on=command.on,
                until=command.until,
                reason=command.reason,
                key=command.key,
                address=address,
            )
            return await _posted(command, sanctioning)
        case Members():
            after = place(command.after)
            found = await governing.members(user, command.room, command.search, after, command.limit, address)
            full = len(found) == min(command.limit, LISTED_MEMBERS)
            return None if command_id is None else members_ok(command_id, core.rooms.name_of(command.room), found, full)
        case Sanctions():
            people = await governing.sanctions(user, command.room, address)
            return None if command_id is None else sanctions_ok(command_id, core.rooms.name_of(command.room), people)
        case _:
            assert_never(command)


async def _posted(command: Settings | Member | Sanction, posting: Coroutine[Any, Any, Appended | Duplicate]) -> PostOk | None:
    outcome = await posting
    if command.id is None:
        return None
    event, key = outcome.event, UNSET if command.key is None else command.key
    return PostOk(command.id, command.room, event.seq, event.id, type(outcome) is Duplicate, key, event.at)


def members_ok(command_id: Id, room: str, found: list[Standing], full: bool) -> MembersOk:
    """The answer with these members; ``full``: there may be more."""
    members = tuple(MemberBrief(id=each.person, name=each.name, role=each.role or "") for each in found)
    return MembersOk(id=command_id, room=room, members=members, next=_next(found[-1]) if full and found else UNSET)


def sanctions_ok(command_id: Id, room: str, found: list[Standing]) -> SanctionsOk:
    """The answer with these sanctions."""
    people = tuple(
        SanctionBrief(id=each.person, name=each.name, muted=each.muted or UNSET, banned=each.banned or UNSET) for each in found
    )
    return SanctionsOk(id=command_id, room=room, sanctions=people)


def _next(last: Standing) -> str:
    return encode((rank(last.role), last.name, last.person)).decode()


def place(after: str) -> tuple[int, str, str] | None:
    """Where to go on, from the ``next`` of an answer."""
    if not after:
        return None
    try:
        found = decode(after, type=tuple[int, str, str])
    except DecodeError:
        found = None
    if found is None or not 0 <= found[0] <= max(RANKS.values()):
        raise BadRequest("after: must be the next of an answer")
    return found
