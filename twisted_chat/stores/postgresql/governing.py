"""What a batch changes of settings, members and sanctions: decided event by event in the order of the batch."""

from __future__ import annotations

from typing import TypeAlias

from twisted_chat.core import governance
from twisted_chat.errors import Conflict
from twisted_chat.events import Author, Governance, NewMember, NewSanction, NewSettings
from twisted_chat.standings import Standing
from twisted_chat.stores.postgresql.governed_events import Governed
from twisted_chat.stores.postgresql.rows import RoomRow

#: (room, id of a person or of an address)
Somebody: TypeAlias = tuple[int, str]


def concerned(new_event: NewMember | NewSanction) -> list[str]:
    """The ids of those whose standing the event may change."""
    if isinstance(new_event, NewSanction) and new_event.address is not None:
        return [new_event.person.id, _address_id(new_event.address)]
    return [new_event.person.id]


def _address_id(address: str) -> str:
    return f"a{address}"


class Governing:
    """Decides the events of one batch that are about settings, members and sanctions.

    :ivar standings: those that the batch is about, where there are any.
    :ivar owners: how many owners its rooms have, by room.
    :ivar changed: the standings that are to be written.
    :ivar settled: the rooms that have other settings, by name.
    """

    def __init__(self) -> None:
        self.standings: dict[Somebody, Standing] = {}
        self.owners: dict[int, int] = {}
        self.changed: dict[Somebody, Standing] = {}
        self.settled: dict[str, RoomRow] = {}

    def decide(self, room: RoomRow, new_event: Governance, seq: int, event_id: str, at: int) -> Governed:
        """The event, whose result the room and the standings have then; :class:`ChatError` if it is refused, and nothing has changed."""
        if isinstance(new_event, NewSettings):
            governance.check_settings(new_event, room.head, room.settings)
            room.settings, room.archived = new_event.settings, new_event.archived
            self.settled[room.name] = room
            return governance.settings_event(new_event, seq, event_id, at)
        if not room.head:
            raise Conflict("room: must be created first")
        owners = self.owners.get(room.id, 0)
        before = self._standing(room, new_event.person.id, new_event.person)
        if isinstance(new_event, NewMember):
            self._change(room, before, governance.change_member(new_event, before, owners))
            return governance.member_event(new_event, seq, event_id, at)
        after = governance.sanction(new_event, before, owners)
        if new_event.what != "kick":
            self._change(room, before, after)
            if new_event.address is not None:
                place = self._standing(room, _address_id(new_event.address), new_event.person)
                self._change(room, place, governance.sanction(new_event, place, owners))
        return governance.sanction_event(new_event, seq, event_id, at)

    def _standing(self, room: RoomRow, person_id: str, person: Author) -> Standing:
        return self.standings.get((room.id, person_id)) or Standing(room.name, person_id, person.name)

    def _change(self, room: RoomRow, before: Standing, after: Standing) -> None:
        somebody = (room.id, after.person)
        self.standings[somebody] = self.changed[somebody] = after
        change = (after.role == "owner") - (before.role == "owner")
        self.owners[room.id] = self.owners.get(room.id, 0) + change
