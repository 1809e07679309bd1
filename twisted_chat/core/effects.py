"""What a change of roles, sanctions or settings does to open connections.

In:   events that were announced, in the order of each log (:meth:`Effects.announced`), and standings that changed.
Out:  connections that leave a room, or are told what they may do there now.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted_chat.core.connections import ChatSession, Sessions, address_block
from twisted_chat.core.permissions import Permissions
from twisted_chat.core.roles import Roles
from twisted_chat.core.room import Room
from twisted_chat.core.rooms import Rooms
from twisted_chat.errors import Banned, ChatError, Forbidden, NoSuchRoom, Unavailable
from twisted_chat.events import Event, MemberChanged, RoomChanged, Sanctioned
from twisted_chat.standings import ADDRESS, Standing
from twisted_chat.store_contract import LogStore, RoomRecord


class Effects:
    """Makes changes take effect on this node."""

    def __init__(self, store: LogStore, rooms: Rooms, roles: Roles, permissions: Permissions, sessions: Sessions) -> None:
        self._store = store
        self._rooms = rooms
        self._roles = roles
        self._permissions = permissions
        self._sessions = sessions
        roles.changed = self.changed

    def announced(self, room: Room, event: Event) -> None:
        """An event that changes who may do what was delivered: from here on it holds on this node."""
        if isinstance(event, MemberChanged):
            self._roles.saw_member(room.name, event)
        elif isinstance(event, Sanctioned):
            self._roles.saw_sanction(room.name, event)
            if event.what == "kick":
                self._remove(
                    self._sessions.of_user(event.person.id), room.name, Forbidden(f"room: you were removed from {room.name}")
                )
        elif isinstance(event, RoomChanged):
            self._tell_all(room)

    def changed(self, before: Standing, standing: Standing) -> None:
        """A standing has changed: let it take effect on the connections of that person or address."""
        room = self._rooms.in_memory(standing.room)
        if room is not None:
            room.govern(self._roles.governs(room.name))
        if standing.person.startswith(ADDRESS):
            block = standing.person[len(ADDRESS) :]
            concerned = [each for each in self._sessions if each.user.guest and address_block(each.address) == block]
        else:
            concerned = self._sessions.of_user(standing.person)
        for session in concerned:
            self._take_effect(session, before, standing)

    def _take_effect(self, session: ChatSession, before: Standing, standing: Standing) -> None:
        name = standing.room
        try:
            self._permissions.check_may_see(session.user, name, self._rooms.access(name), session.address)
        except (Banned, NoSuchRoom) as error:
            self._remove([session], name, error)
            return
        if name in session.memberships:
            session.standing_changed(name, None)
        elif before.role is None and standing.role is not None:
            self._tell_new_member(session, name)

    def _tell_new_member(self, session: ChatSession, name: str) -> None:
        if self._rooms.knows(name):
            session.standing_changed(name, None)
            return

        def found(record: RoomRecord) -> None:
            self._rooms.learn({name: record.archived}, {name: record.settings})
            session.standing_changed(name, None)

        # Another node has just made it.  Where the store cannot say now, the list of rooms shows it later.
        self._store.record(name).addCallback(found).addErrback(lambda failure: failure.trap(Unavailable))

    def _remove(self, sessions: Sequence[ChatSession], room: str, error: ChatError) -> None:
        for session in sessions:
            if room in session.memberships:
                session.standing_changed(room, error)

    def _tell_all(self, room: Room) -> None:
        for session in self._sessions:
            if room.name in session.memberships:
                session.standing_changed(room.name, None)
