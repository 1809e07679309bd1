"""The HTTP API of rooms with members: make rooms and conversations, change them, their members and sanctions.

Each request is what the command of the same name does in ``chat.v1.json``; ``Idempotency-Key`` is the command's key.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote_to_bytes

from msgspec import UNSET, Meta, Struct, UnsetType

from twisted_chat.core.chat import Chat
from twisted_chat.core.governance_commands import members_ok, place, sanctions_ok
from twisted_chat.core.governing import LISTED_MEMBERS, Changes
from twisted_chat.errors import BadRequest
from twisted_chat.protocol.commands import People, PersonId, Positive, Reason, RoomName, ShortText
from twisted_chat.protocol.replies import MemberBrief, SanctionBrief
from twisted_chat.store_contract import Appended, Duplicate
from twisted_chat.web.api import Api, idempotency_key
from twisted_chat.web.handshake import decoded_room
from twisted_chat.web.responses import Response
from twisted_chat.web.routing import ApiRequest, Route, Who, json_answer


class CreateBody(Struct, frozen=True, kw_only=True):
    """A new room: a public one with a ``name``, or a private one with a ``title``; ``people`` are made its members."""

    name: RoomName = ""
    access: ShortText = "public"
    title: ShortText = ""
    people: People = ()


class DirectBody(Struct, frozen=True, kw_only=True):
    """The ids of the others in a conversation."""

    people: People


class RoomFound(Struct, frozen=True, kw_only=True):
    """The room that was made, or found."""

    room: str


class SettingsBody(Struct, frozen=True, kw_only=True):
    """New settings of a room; what is left out stays as it is."""

    title: ShortText | UnsetType = UNSET
    writers: ShortText | UnsetType = UNSET
    slow_mode: float | UnsetType | None = UNSET
    archived: bool | UnsetType = UNSET


class RoleBody(Struct, frozen=True, kw_only=True):
    """The role of a person: ``owner``, ``moderator``, ``member`` or ``reader``."""

    role: ShortText


class SanctionBody(Struct, frozen=True, kw_only=True):
    """A ``mute``, ``ban`` or ``kick``, or (``on`` false) the end of a mute or ban.

    :ivar until: when it ends by itself, milliseconds since 1970; absent: never.
    """

    person: PersonId
    what: ShortText
    on: bool = True
    until: Positive | None = None
    reason: Reason = ""


class Changed(Struct, frozen=True, kw_only=True):
    """The change is in the room's log, as the event of that number and id."""

    room: str
    seq: int
    event: str
    duplicate: bool


class MembersQuery(Struct, frozen=True, kw_only=True):
    """Which members: those whose names contain ``search``, behind the ``next`` of the answer before."""

    search: ShortText = ""
    after: Annotated[str, Meta(max_length=512)] = ""
    limit: Positive = 200


class MemberList(Struct, frozen=True, kw_only=True):
    """The members of a room, the highest roles first."""

    members: tuple[MemberBrief, ...]
    next: str | UnsetType = UNSET


class SanctionList(Struct, frozen=True, kw_only=True):
    """Who is muted or banned in a room."""

    sanctions: tuple[SanctionBrief, ...]


class RoomsApi:
    """The endpoints."""

    def __init__(self, core: Chat, api: Api) -> None:
        self._core = core
        self._governing = core.governing
        self._api = api

    def routes(self) -> list[Route]:
        """The routes of the endpoints."""
        room = "/api/v1/rooms/{room}"
        member, sanctions, who = f"{room}/members/{{person}}", f"{room}/sanctions", (Who,)

        def route(method: bytes, path: str, endpoint: object, answers: type[Struct], **more: object) -> Route:
            more.setdefault("query", who)
            return Route(method=method, path=path, endpoint=endpoint, answers=answers, public=True, **more)  # type: ignore[arg-type]

        return [
            route(b"POST", "/api/v1/rooms", self.create, RoomFound, body=CreateBody, status=201),
            route(b"POST", "/api/v1/direct", self.direct, RoomFound, body=DirectBody),
            route(b"PATCH", room, self.change, Changed, body=SettingsBody),
            route(b"GET", f"{room}/members", self.members, MemberList, query=(MembersQuery, Who)),
            route(b"PUT", member, self.set_role, Changed, body=RoleBody),
            route(b"DELETE", member, self.remove, Changed),
            route(b"GET", sanctions, self.sanctions, SanctionList),
            route(b"POST", sanctions, self.sanction, Changed, body=SanctionBody, status=201),
        ]

    async def create(self, call: ApiRequest) -> Response:
        """Make a room with you as its owner."""
        user = await call.user()
        body, address = call.json(CreateBody), call.client.address
        self._api.check_rate(address, user)
        key = idempotency_key(call, user)
        room = await self._governing.create(user, body.access, body.name, body.title, body.people, key, address)
        return json_answer(RoomFound(room=room.name), 201)

    async def direct(self, call: ApiRequest) -> Response:
        """Find your conversation with these people, or make it."""
        user = await call.user()
        body = call.json(DirectBody)
        self._api.check_rate(call.client.address, user)
        return json_answer(RoomFound(room=await self._governing.direct(user, body.people, call.client.address)))

    async def change(self, call: ApiRequest) -> Response:
        """Change a room of which you are an owner."""
        user = await call.user()
        body, room = call.json(SettingsBody), decoded_room(call.segments[0])
        self._api.check_rate(call.client.address, user)
        changes = Changes(title=body.title, writers=body.writers, slow_mode=body.slow_mode, archived=body.archived)
        key = idempotency_key(call, user)
        return _changed(room, await self._governing.change_settings(user, room, changes, key, call.client.address))

    async def members(self, call: ApiRequest) -> Response:
        """The members of a room."""
        user = await self._api.reader(call)
        query, room = call.query(MembersQuery), decoded_room(call.segments[0])
        after = place(query.after)
        found = await self._governing.members(user, room, query.search, after, query.limit, call.client.address)
        answer = members_ok(0, room, found, len(found) == min(query.limit, LISTED_MEMBERS))
        return json_answer(MemberList(members=answer.members, next=answer.next))

    async def set_role(self, call: ApiRequest) -> Response:
        """Give a person a role in the room."""
        return await self._set_role(call, call.json(RoleBody).role)

    async def remove(self, call: ApiRequest) -> Response:
        """End a membership: somebody else's, or your own."""
        return await self._set_role(call, None)

    async def _set_role(self, call: ApiRequest, role: str | None) -> Response:
        user = await call.user()
        room, person = decoded_room(call.segments[0]), _person(call.segments[1])
        self._api.check_rate(call.client.address, user)
        key = idempotency_key(call, user)
        return _changed(room, await self._governing.set_member(user, room, person, role, key, call.client.address))

    async def sanctions(self, call: ApiRequest) -> Response:
        """Who is muted or banned in the room, for those who decide about it."""
        user = await self._api.reader(call)
        room = decoded_room(call.segments[0])
        people = await self._governing.sanctions(user, room, call.client.address)
        return json_answer(SanctionList(sanctions=sanctions_ok(0, room, people).sanctions))

    async def sanction(self, call: ApiRequest) -> Response:
        """Mute, ban or remove somebody, or end a mute or ban."""
        user = await call.user()
        body, room = call.json(SanctionBody), decoded_room(call.segments[0])
        self._api.check_rate(call.client.address, user)
        outcome = await self._governing.sanction(
            user,
            room,
            body.person,
            body.what,
            on=body.on,
            until=body.until,
            reason=body.reason,
            key=idempotency_key(call, user),
            address=call.client.address,
        )
        return _changed(room, outcome, 201)


def _changed(room: str, outcome: Appended | Duplicate, status: int = 200) -> Response:
    event, duplicate = outcome.event, isinstance(outcome, Duplicate)
    return json_answer(Changed(room=room, seq=event.seq, event=event.id, duplicate=duplicate), 200 if duplicate else status)


def _person(segment: bytes) -> str:
    person = unquote_to_bytes(segment)
    if not person.isascii():
        raise BadRequest("person: must be the id of a person")
    return person.decode()
