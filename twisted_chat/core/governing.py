"""Changes of who may do what in a room: rooms with members, roles, mutes and bans.  Each is an event of the room's log.

In:   what a user wants to change (:meth:`Governing.create` and its neighbours).
Out:  one append for each change, decided finally by the store (``governance.py``); what takes effect then is in ``effects.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from secrets import token_hex
from typing import Protocol

from msgspec import UNSET, Struct, UnsetType, to_builtins
from msgspec.structs import replace
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.accounts import Note
from twisted_chat.core.commit import AppendRequest
from twisted_chat.core.connections import Sessions, address_block
from twisted_chat.core.governance import standings_after
from twisted_chat.core.guest_places import GuestPlaces
from twisted_chat.core.permissions import Action, Permissions
from twisted_chat.core.roles import Roles, known
from twisted_chat.core.room import Room
from twisted_chat.core.rooms import Rooms, generated_name
from twisted_chat.errors import BadRequest, ChatError, Conflict, Forbidden
from twisted_chat.events import (
    Author,
    Event,
    NewEvent,
    NewMember,
    NewSanction,
    NewSettings,
    RoomSettings,
)
from twisted_chat.names import visible_text
from twisted_chat.standings import ADDRESS, ADMIN_RANK, FOREVER, RANKS, Standing
from twisted_chat.store_contract import Appended, Duplicate, FollowedStore, Outcome
from twisted_chat.users import User

#: Characters of a title and of a reason.
TITLE_CHARS, REASON_CHARS = 64, 256
#: People in a direct conversation, and people who are made members together with a private room.
DIRECT_PEOPLE, FIRST_PEOPLE = 16, 128
#: Members in one answer.
LISTED_MEMBERS = 200
#: Seconds of slow mode, at most: a day.
SLOW_MODE_MAX = 86_400.0

_SANCTIONS = frozenset({"mute", "ban", "kick"})
_WRITERS = frozenset({"", "all", "users", "members", "moderators"})
_ID = re.compile(r"[ug][!-~]{1,128}")


class Submit(Protocol):
    """Numbers, keeps and delivers (:meth:`Chat.submit`)."""

    def __call__(self, request: AppendRequest, /) -> None: ...


class Directory(Protocol):
    """What is known of people beyond their connections."""

    def name_of(self, person: str) -> Deferred[str | None]:
        """The name of the person of that id, who need not be connected; None: there is nobody with it."""

    def note(self, note: Note) -> Deferred[None]:
        """Add something to the audit log."""


class NoDirectory:
    """Knows nobody, and keeps no audit log."""

    def name_of(self, person: str) -> Deferred[str | None]:
        return succeed(None)

    def note(self, note: Note) -> Deferred[None]:
        return succeed(None)


class Changes(Struct, frozen=True, kw_only=True):
    """New settings of a room; what is left out stays as it is."""

    title: str | UnsetType = UNSET
    writers: str | UnsetType = UNSET
    slow_mode: float | UnsetType | None = UNSET
    archived: bool | UnsetType = UNSET


class Governing:
    """Carries out changes.

    :param directory: finds people who are not connected, and has the audit log.
    :ivar guests: from where guests came who are not connected.
    """

    log = Logger()

    def __init__(
        self,
        store: FollowedStore,
        rooms: Rooms,
        roles: Roles,
        permissions: Permissions,
        sessions: Sessions,
        submit: Submit,
        now_ms: Callable[[], int],
        directory: Directory,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._roles = roles
        self._permissions = permissions
        self._sessions = sessions
        self._submit = submit
        self._now_ms = now_ms
        self._directory = directory
        self.guests = GuestPlaces()

    async def create(
        self, user: User, access: str, name: str, title: str, people: Sequence[str], key: str | None, address: str | None
    ) -> Room:
        """Make a room with the user as its owner, and people as its members.

        :param name: of a public room; a private one gets a generated one and is shown by its title.
        :param key: a request that is repeated with it finds the room that it made.
        """
        _check_no_guest(user)
        if access not in ("public", "private"):
            raise BadRequest("access: must be public or private")
        if access == "private" and name:
            raise BadRequest("room: a private room has a title, no name")
        title = visible_text(title, "title", TITLE_CHARS) if title or access == "private" else ""
        if len(people) > FIRST_PEOPLE:
            raise BadRequest(f"people: at most {FIRST_PEOPLE}")
        await known(self._roles, user)
        members = [await self._person(each, "people") for each in dict.fromkeys(people) if each != user.id]
        if access == "private":
            identity = token_hex(16) if key is None else _digest("private", user.id, key)
            name = generated_name("private", identity)
        settings = RoomSettings(access=access, title=title)
        try:
            room = self._rooms.create(user, name, settings, address)
        except Conflict:
            again = self._again(user, name, key)
            if again is None:
                raise
            room = again
        await self._found(room, user, settings, key, {user.author: "owner"} | dict.fromkeys(members, "member"), address)
        return room

    async def _found(
        self, room: Room, user: User, settings: RoomSettings, key: str | None, roles: dict[Author, str], address: str | None
    ) -> None:
        """Append the first events of a room: its settings and its members."""
        origin = address or ""
        new = NewSettings(user.author, key, settings, False, True, origin)
        members = [NewMember(user.author, None, person, role, ADMIN_RANK, origin) for person, role in roles.items()]
        await self._append(room, new, *members)

    def _again(self, user: User, name: str, key: str | None) -> Room | None:
        """The room of that name, if it may be one that the user has just made with that key: the store knows whether it is."""
        if key is None:
            return None
        room = self._rooms.in_memory(name)
        if room is not None and room.access == "private" and not room.head:
            return room
        return self._rooms.find(user, name) if self._roles.role(user, name) == "owner" else None

    async def direct(self, user: User, people: Sequence[str], address: str | None) -> str:
        """The name of the conversation of the user with these people, which is made if there is none."""
        _check_no_guest(user)
        ids = sorted({user.id, *people})
        if not 2 <= len(ids) <= DIRECT_PEOPLE:
            raise BadRequest(f"people: 1 to {DIRECT_PEOPLE - 1} others")
        await known(self._roles, user)
        name = generated_name("direct", _digest(*ids))
        if self._roles.role(user, name) is not None:
            return name
        members = [user.author if each == user.id else await self._person(each, "people") for each in ids]
        settings = RoomSettings(access="direct", people=tuple(members))
        try:
            room = self._rooms.create(user, name, settings, address)
            await self._found(room, user, settings, None, dict.fromkeys(members, "member"), address)
        except Conflict:
            # One of the others made it at the same moment; this node hears of it from the store.
            self._roles.learn([await self._store.standing(name, user.id)])
        return name

    async def change_settings(
        self, user: User, raw_room: str, changes: Changes, key: str | None, address: str | None
    ) -> Appended | Duplicate:
        """Change the room itself."""
        room = await self._room(user, raw_room, Action.SETTINGS, address)
        settings = room.settings
        if changes.title is not UNSET:
            optional = room.access == "public" and not changes.title
            settings = replace(settings, title="" if optional else visible_text(changes.title, "title", TITLE_CHARS))
        if changes.writers is not UNSET:
            if changes.writers not in _WRITERS:
                raise BadRequest("writers: must be all, users, members or moderators, or empty: as the configuration says")
            settings = replace(settings, writers=changes.writers)
        if changes.slow_mode is not UNSET:
            if changes.slow_mode is not None and not 0 <= changes.slow_mode <= SLOW_MODE_MAX:
                raise BadRequest(f"slow_mode: 0 to {SLOW_MODE_MAX:.0f} seconds")
            settings = replace(settings, slow_mode=changes.slow_mode)
        archived = room.archived if changes.archived is UNSET else changes.archived
        return await self._append(room, NewSettings(user.author, key, settings, archived, False, address or ""))

    async def set_member(
        self, user: User, raw_room: str, person: str, role: str | None, key: str | None, address: str | None
    ) -> Appended | Duplicate:
        """Give a person a role in the room, or none; everybody may leave."""
        if role is not None and role not in RANKS:
            raise BadRequest(f"role: must be one of {', '.join(RANKS)}, or null")
        leaves = role is None and person == user.id
        room = await self._room(user, raw_room, None if leaves else Action.MEMBERS, address)
        if room.access == "direct":
            raise Forbidden("person: the members of a direct conversation do not change")
        who = user.author if leaves else await self._person(person, "person", room.name)
        rank, acting_as = self._permissions.rank(user, room), self._permissions.acting_as(user, room)
        return await self._append(room, NewMember(user.author, key, who, role, rank, address or "", acting_as))

    async def sanction(
        self,
        user: User,
        raw_room: str,
        person: str,
        what: str,
        *,
        on: bool = True,
        until: int | None = None,
        reason: str = "",
        key: str | None = None,
        address: str | None = None,
    ) -> Appended | Duplicate:
        """Mute, ban or remove a person, or end a mute or ban.

        :param until: milliseconds since 1970; None: until it is ended.
        """
        if what not in _SANCTIONS:
            raise BadRequest("what: must be mute, ban or kick")
        if until is not None and (not on or what == "kick" or not self._now_ms() < until < FOREVER):
            raise BadRequest("until: must be in the future, and belongs to a mute or ban")
        if what == "kick" and not on:
            raise BadRequest("on: a kick does not end")
        reason = visible_text(reason, "reason", REASON_CHARS) if reason else ""
        room = await self._room(user, raw_room, Action.SANCTION, address)
        if person == user.id:
            raise BadRequest("person: must be somebody else")
        who = await self._person(person, "person", room.name, guests=True)
        blocks = {address_block(session.address) for session in self._sessions.of_user(person) if session.user.guest}
        block = min(blocks) if blocks else self.guests.block(person)
        if block is None and who.id.startswith("g") and not on:
            block = await self._sanctioned_block(room.name, person)
        rank, acting_as = self._permissions.rank(user, room), self._permissions.acting_as(user, room)
        new = NewSanction(user.author, key, who, what, on, until, reason, rank, block, address or "", acting_as)
        appended = await self._append(room, new)
        if block is not None:
            # The event does not tell the address; other nodes hear of it from the store.
            self._roles.learn([await self._store.standing(room.name, ADDRESS + block)])
        return appended

    async def _sanctioned_block(self, room: str, guest: str) -> str | None:
        """The address that was sanctioned together with the guest, by whatever node and however long ago."""
        found = await self._store.sanctions(room)
        return next(
            (each.person[len(ADDRESS) :] for each in found if each.person.startswith(ADDRESS) and each.name == guest), None
        )

    async def members(
        self, user: User, raw_room: str, search: str, after: tuple[int, str, str] | None, limit: int, address: str | None
    ) -> list[Standing]:
        """The members of the room, the highest roles first."""
        room = await self._room(user, raw_room, None, address)
        found = await self._store.members(room.name, search, after, min(limit, LISTED_MEMBERS))
        # The answer took some time.
        self._rooms.find(user, room.name, address)
        return found

    async def sanctions(self, user: User, raw_room: str, address: str | None) -> list[Standing]:
        """Who is muted or banned in the room, for those who decide about it; addresses are not told."""
        room = await self._room(user, raw_room, Action.SANCTION, address)
        found, now_ms = await self._store.sanctions(room.name), self._now_ms()
        self._permissions.check(user, Action.SANCTION, self._rooms.find(user, room.name, address))
        return [each for each in found if not each.person.startswith(ADDRESS) and max(each.muted, each.banned) > now_ms]

    async def _room(self, user: User, raw_room: str, action: Action | None, address: str | None) -> Room:
        await known(self._roles, user)
        room = self._rooms.find(user, raw_room, address)
        if action is not None:
            self._permissions.check(user, action, room, address)
        return room

    async def _person(self, person_id: str, field: str, room: str | None = None, *, guests: bool = False) -> Author:
        """The person of that id, with a name."""
        if not _ID.fullmatch(person_id) or (person_id.startswith("g") and not guests):
            raise BadRequest(f"{field}: must be the id of a person{' or guest' if guests else ', who is no guest'}")
        for session in self._sessions.of_user(person_id):
            return session.user.author
        name = None if person_id.startswith("g") else await self._directory.name_of(person_id)
        if name is None and room is not None:
            standing = await self._store.standing(room, person_id)
            name = standing.name or None
        if name is None:
            if not guests:
                raise BadRequest(f"{field}: nobody has the id {person_id}")
            name = person_id[:TITLE_CHARS]
        return Author(person_id, name)

    async def _append(self, room: Room, *new_events: NewEvent) -> Appended | Duplicate:
        """Append them together, and answer with the outcome of the last one; the first refusal is raised."""
        if not room.head and not isinstance(new_events[0], NewSettings):
            # Members and sanctions need a room that is in the store: a public one in which nothing was said yet.  Not for what is refused.
            for each in new_events:
                if isinstance(each, NewMember | NewSanction):
                    standings_after(each, lambda person: Standing(room.name, person, ""), 0, self._now_ms())
            new_events = (NewSettings(new_events[0].by, None, room.settings, room.archived), *new_events)
        result: Deferred[list[Outcome]] = Deferred()
        size = 100 * len(new_events)
        self._submit(AppendRequest(room, list(new_events), lambda found: result.callback(list(found)), result.errback, size))
        outcomes = await result
        if isinstance(outcomes[0], Duplicate):
            # The request is repeated: what came with it was decided then.
            return outcomes[0]
        for outcome in outcomes:
            if isinstance(outcome, ChatError):
                raise outcome
        for new_event, outcome in zip(new_events, outcomes, strict=True):
            if type(outcome) is Appended:
                self._audit(room, new_event, outcome.event)
        return outcomes[-1]  # type: ignore[return-value]

    def _audit(self, room: Room, new_event: NewEvent, event: Event) -> None:
        """Note a change that is in the log; the log is what holds, so nobody waits for the note."""
        match new_event:
            case NewSettings():
                action, subject = "room.create" if new_event.creates else "room.change", room.name
                details = {name: str(value) for name, value in to_builtins(new_event.settings).items() if name != "people"}
                details["archived"] = str(new_event.archived).lower()
            case NewMember():
                action, subject = "room.member", new_event.person.id
                details = {"room": room.name, "role": new_event.role or "none"}
            case NewSanction():
                action, subject = f"room.{new_event.what}", new_event.person.id
                details = {"room": room.name, "on": str(new_event.on).lower(), "reason": new_event.reason}
                if new_event.until is not None:
                    details["until"] = str(new_event.until)
            case _:
                return
        details["event"] = str(event.seq)
        note = Note(event.at, event.by.id, new_event.origin, action, subject, details)
        self._directory.note(note).addErrback(self._not_noted)

    def _not_noted(self, failure: Failure) -> None:
        self.log.error(
            "The audit log misses a change, which is in the log of its room: {reason}", reason=failure.getErrorMessage()
        )


def _digest(*parts: str) -> str:
    """The identity of a room that these determine."""
    return sha256("\0".join(parts).encode()).hexdigest()[:32]


def _check_no_guest(user: User) -> None:
    if user.guest:
        raise Forbidden("room: guests make no rooms with members; sign in first")
