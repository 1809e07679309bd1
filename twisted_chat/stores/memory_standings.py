"""The part of the store in memory that keeps what people are in rooms: roles and sanctions, and the order of their changes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from twisted_chat.core import governance
from twisted_chat.events import NewMember, NewSanction
from twisted_chat.standings import Standing, StandingNews, folded, rank


class MemoryStandings:
    """All standings; also those in which nothing is left, because the news reports them.

    :ivar number: of the last change.
    """

    def __init__(self) -> None:
        self.number = 0
        #: By room and person, and by person and room.
        self._rooms: dict[str, dict[str, Standing]] = {}
        self._people: dict[str, dict[str, Standing]] = {}
        #: The number of the last change of each standing; and these numbers in order, each with its place in the list beside it.
        self._numbers: dict[tuple[str, str], int] = {}
        self._changes: list[int] = []
        self._changed: list[tuple[str, str]] = []

    def change(self, room: str, new: NewMember | NewSanction, now_ms: int) -> None:
        """Decide and keep a change; an error of the table if it is refused, and then nothing is kept."""
        owners = sum(standing.role == "owner" for standing in self._rooms.get(room, {}).values())
        for standing in governance.standings_after(new, lambda person: self.standing(room, person), owners, now_ms):
            self._keep(standing)

    def _keep(self, standing: Standing) -> None:
        self._rooms.setdefault(standing.room, {})[standing.person] = standing
        self._people.setdefault(standing.person, {})[standing.room] = standing
        place = standing.room, standing.person
        before = self._numbers.get(place)
        if before is not None:
            index = bisect_left(self._changes, before)
            del self._changes[index], self._changed[index]
        self.number += 1
        self._numbers[place] = self.number
        self._changes.append(self.number)
        self._changed.append(place)

    def standing(self, room: str, person: str) -> Standing:
        return self._rooms.get(room, {}).get(person) or Standing(room, person, "")

    def standings(self, person: str) -> list[Standing]:
        return [standing for _, standing in sorted(self._people.get(person, {}).items()) if not standing.nothing]

    def members(self, room: str, search: str, after: tuple[int, str, str] | None, limit: int) -> list[Standing]:
        wanted, behind = folded(search), None if after is None else _place(*after)
        members = sorted(
            (_place(rank(standing.role), standing.name, standing.person), standing)
            for standing in self._rooms.get(room, {}).values()
            if standing.role is not None and wanted in folded(standing.name)
        )
        return [standing for place, standing in members if behind is None or place > behind][:limit]

    def sanctions(self, room: str) -> list[Standing]:
        found = sorted(self._rooms.get(room, {}).items())
        return [standing for _, standing in found if standing.muted or standing.banned]

    def all_sanctions(self, now_ms: int) -> list[Standing]:
        rooms = sorted(self._rooms)
        return [each for room in rooms for each in self.sanctions(room) if max(each.muted, each.banned) > now_ms]

    def news(self, since: int, limit: int) -> StandingNews:
        begin = bisect_right(self._changes, since)
        numbers = self._changes[begin : begin + limit]
        changed = self._changed[begin : begin + limit]
        return StandingNews(numbers[-1] if numbers else since, tuple(self.standing(*place) for place in changed))


def _place(of_rank: int, name: str, person: str) -> tuple[int, str, str]:
    """What members are ordered by."""
    return -of_rank, folded(name), person
