"""What a batch changes of settings, members and sanctions: decided event by event in the order of the batch."""

from __future__ import annotations

from typing import TypeAlias

from twisted_chat.core import governance
from twisted_chat.events import Governance, NewMember, NewSanction, NewSettings
from twisted_chat.standings import ADDRESS, Standing
from twisted_chat.stores.postgresql.rows import RoomRow

#: (room, id of a person or of an address)
Somebody: TypeAlias = tuple[int, str]


def concerned(new_event: NewMember | NewSanction) -> list[str]:
    """The ids of those whose standings the event may change, or by whose standing it is decided."""
    address = new_event.address if isinstance(new_event, NewSanction) else None
    people = [new_event.person.id, new_event.by.id] if new_event.acting_as else [new_event.person.id]
    return people if address is None else [*people, ADDRESS + address]


class Governing:
    """Decides the events of one batch that are about settings, members and sanctions.

    :param at: the time of the commit.
    :ivar standings: those that the batch is about, where there are any.
    :ivar owners: how many owners its rooms have, by room.
    :ivar changed: the standings that are to be written, in the order of their last changes.
    :ivar settled: the rooms that have other settings, by name.
    """

    def __init__(self, at: int) -> None:
        self._at = at
        self.standings: dict[Somebody, Standing] = {}
        self.owners: dict[int, int] = {}
        self.changed: dict[Somebody, Standing] = {}
        self.settled: dict[str, RoomRow] = {}

    def decide(self, room: RoomRow, new_event: Governance) -> None:
        """Change the room or the standings as the event says; :class:`ChatError` if it is refused, and nothing has changed."""
        if isinstance(new_event, NewSettings):
            governance.check_settings(new_event, room.head, room.settings)
            if (room.settings, room.archived) != (new_event.settings, new_event.archived):
                room.settings, room.archived = new_event.settings, new_event.archived
                self.settled[room.name] = room
            return

        def present(person: str) -> Standing:
            return self.standings.get((room.id, person)) or Standing(room.name, person, "")

        for after in governance.standings_after(new_event, present, self.owners.get(room.id, 0), self._at):
            change = (after.role == "owner") - (present(after.person).role == "owner")
            self.owners[room.id] = self.owners.get(room.id, 0) + change
            somebody = (room.id, after.person)
            self.standings[somebody] = after
            self.changed.pop(somebody, None)
            self.changed[somebody] = after
