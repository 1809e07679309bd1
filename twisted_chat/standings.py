"""What people are in a room: their roles there, and who is muted or banned.  The contract of the stores that keep it.

The events of a room's log say what changed (``MemberChanged``, ``Sanctioned``); the store keeps their result in the same transaction,
because retention removes events, and nobody reads a whole log to find out who a member is.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import Deferred

#: The rank of each role; who has the higher rank decides about the others.
RANKS = {"reader": 1, "member": 2, "moderator": 3, "owner": 4}
#: The rank of somebody without a role, and of the administrators of the server, who are in no room's list of members.
NO_RANK, ADMIN_RANK = 0, 5
#: The time of a sanction that does not end by itself: the largest integer of JSON.
FOREVER = 2**53 - 1
#: The id of an address or network, as a person, begins with it; ids of users and guests begin with other letters.
ADDRESS = "a"


def rank(role: str | None) -> int:
    """The rank of a role."""
    return NO_RANK if role is None else RANKS[role]


def folded(name: str) -> str:
    """The name as members are ordered and searched by: Python's ``casefold``, which no database has; stores keep it beside the name."""
    return name.casefold()


class Standing(Struct, frozen=True):
    """What one person is in one room.

    :ivar person: the id of a user or guest; or ``a`` and an address or network, from which guests are muted or banned.
    :ivar name: the person's name at the last change; it says nothing where there is nothing to remember.
    :ivar muted: until when, milliseconds since 1970 (:data:`FOREVER`); 0: not.
    :ivar banned: likewise.
    """

    room: str
    person: str
    name: str
    role: str | None = None
    muted: int = 0
    banned: int = 0

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to remember."""
        return self.role is None and not self.muted and not self.banned


def with_role(standing: Standing, name: str, role: str | None) -> Standing:
    """The standing with that role; with a new one a ban, which can only have ended by itself, is forgotten."""
    return replace(standing, name=name, role=role, banned=standing.banned if role is None else 0)


def with_sanction(standing: Standing, name: str, what: str, on: bool, until: int | None) -> Standing:
    """The standing after a sanction or its end; who is banned is no member any more, and a kick leaves nothing."""
    end = 0 if not on else FOREVER if until is None else until
    if what == "ban":
        return replace(standing, name=name, banned=end, role=None if end else standing.role)
    return replace(standing, name=name, muted=end) if what == "mute" else standing


class StandingNews(Struct, frozen=True):
    """Standings that were changed, by whatever process, in the order of their last changes; each is as it is now.

    A standing that was changed several times is there once, at the number of its last change.

    :ivar number: where to go on.
    :ivar standings: also those in which there is nothing left (:attr:`Standing.nothing`).
    """

    number: int
    standings: tuple[Standing, ...]


class StandingStore(Protocol):
    """The results of all changes of members and sanctions; the log's ``append`` writes them.

    What is written, and in which order, says ``core/governance.py``.  An event that changes nothing (somebody gets the role that the
    person has, with the same name) is in the log and gives no news.  Retention and archiving change no standing.
    """

    def standings(self, person: str) -> Deferred[list[Standing]]:
        """All rooms in which the person has a role or a sanction, by name of the room; it costs what it answers."""

    def standing(self, room: str, person: str) -> Deferred[Standing]:
        """What the person is in the room; a standing with nothing in it if there is none."""

    def members(self, room: str, search: str, after: tuple[int, str, str] | None, limit: int) -> Deferred[list[Standing]]:
        """At most ``limit`` members of the room: owners first, then by rank, name and id.

        Names are compared by the characters of their folded form (:func:`folded`), ids by their characters.  A page costs at most a
        look at each member of the room.

        :param search: only those whose folded name contains it when it is folded, too; empty: everybody.
        :param after: only those behind this (rank, name, id); it need not be there any more.
        """

    def sanctions(self, room: str) -> Deferred[list[Standing]]:
        """Everybody in the room who is muted or banned, by id; also those whose time has passed."""

    def all_sanctions(self, now_ms: int) -> Deferred[list[Standing]]:
        """Everybody who is muted or banned beyond that time, in whatever room, by name of the room and id."""

    def standing_news(self, since: int, limit: int) -> Deferred[StandingNews]:
        """What has changed after that number, at most ``limit`` standings; it costs what it answers, and no clock decides.

        Numbers become visible in their order: what is not in an answer has a greater number than ``number``.
        """
