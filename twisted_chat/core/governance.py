"""Who may change what of members and sanctions, decided at the commit; every store decides by it, like by ``amendments.py``.

In:   what is to happen, and the standing that it concerns as the store has it in the same transaction.
Out:  the standing afterwards, and the event; or the :class:`ChatError` that says why not.

The permissions (``permissions.py``) have said before that the person may do such things at all.  What depends on the other person stands
here, because two moderators on two servers may change the same person at the same moment.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from twisted_chat.errors import ChatError, Conflict, Forbidden
from twisted_chat.events import (
    Governance,
    MemberChanged,
    NewEvent,
    NewMember,
    NewSanction,
    NewSettings,
    RoomChanged,
    RoomSettings,
    Sanctioned,
)
from twisted_chat.standings import ADDRESS, RANKS, Standing, rank, with_role, with_sanction
from twisted_chat.store_contract import Appended, Outcome


class Creations:
    """The creations of a room in one ``Append`` that created nothing; one object for each ``Append``.

    Who creates a room names its members in the same request, with the authority of an owner.  If there is such a room already, or the
    request is repeated, these members must not come into it, so everything else of the same author in this ``Append`` is refused.
    """

    def __init__(self) -> None:
        self._failed: dict[str, ChatError] = {}

    def note(self, new: NewEvent, outcome: Outcome) -> None:
        """Take in the outcome of the next event."""
        if isinstance(new, NewSettings) and new.creates and not isinstance(outcome, Appended):
            self._failed[new.by.id] = outcome if isinstance(outcome, ChatError) else _exists()

    def check(self, new: NewEvent, head: int) -> None:
        """Return if the event may be decided; others than changes of the room, its members and sanctions always may.

        :param head: the number of the room's newest event.
        """
        if not isinstance(new, NewSettings | NewMember | NewSanction):
            return
        failed = self._failed.get(new.by.id)
        if failed is not None:
            raise failed
        if not head and not isinstance(new, NewSettings):
            raise Conflict("room: must be created first")


def check_settings(new: NewSettings, head: int, present: RoomSettings) -> None:
    """Return if the room may get these settings.

    :param head: the number of the room's newest event.
    """
    if new.creates:
        if head:
            raise _exists()
    elif new.settings.access != present.access:
        raise Conflict(f"access: the room is {present.access} and stays so")


def change_member(new: NewMember, standing: Standing, owners: int, now_ms: int = 0) -> Standing:
    """The standing of the person after the change.

    :param standing: that of the person, before.
    :param owners: how many owners the room has.
    :param now_ms: the time of the commit; a ban that has ended by itself is forgotten with a new role.
    """
    if not (new.role is None and new.by.id == new.person.id):
        if rank(standing.role) >= new.authority and new.authority < RANKS["owner"]:
            raise Forbidden(f"person: {new.person.name} has a role that only a higher one changes")
        if rank(new.role) > new.authority:
            raise Forbidden("role: nobody gives a higher role than the own one")
        if new.role is not None and standing.banned > now_ms:
            raise Conflict(f"person: {new.person.name} is banned; end the ban first")
    if new.role != "owner":
        _check_last_owner(standing, owners)
    return with_role(standing, new.person.name, new.role)


def sanction(new: NewSanction, standing: Standing, owners: int) -> Standing:
    """The standing of the person after the sanction or its end; of a guest's address likewise, which has no role."""
    if rank(standing.role) >= new.authority:
        raise Forbidden(f"person: {new.person.name} has a role that you may not act against")
    if new.what == "ban" and new.on:
        _check_last_owner(standing, owners)
    return with_sanction(standing, new.person.name, new.what, new.on, new.until)


def standings_after(new: NewMember | NewSanction, present: Callable[[str], Standing], owners: int, now_ms: int) -> list[Standing]:
    """The standings that are others after the event, in the order in which they get their numbers.

    :param present: the standing of the person with that id in the room, with nothing in it if there is none.
    :param owners: how many owners the room has.
    :param now_ms: the time of the commit.
    """
    before = present(new.person.id)
    leaves = isinstance(new, NewMember) and new.role is None and new.by.id == new.person.id
    if not leaves and rank(present(new.by.id).role) < rank(new.acting_as or None):
        # Demoted, or banned, by a change that was under way when this one was asked for.
        raise Forbidden("role: yours has just been changed")
    if isinstance(new, NewMember):
        pairs = [(before, change_member(new, before, owners, now_ms))]
    else:
        pairs = [(before, sanction(new, before, owners))]
        if new.address is not None and new.what != "kick":
            address = present(ADDRESS + new.address)
            # Named by the guest's id, so that the end of the sanction finds it when the guest has left.
            pairs.append((address, replace(sanction(new, address, owners), name=new.person.id)))
    return [after for before, after in pairs if after != before and not (before.nothing and after.nothing)]


def _exists() -> Conflict:
    return Conflict("room: exists already")


def _check_last_owner(standing: Standing, owners: int) -> None:
    if standing.role == "owner" and owners <= 1:
        raise Conflict("role: the room needs an owner; make somebody else owner first")


def event_of(new: Governance, seq: int, event_id: str, at: int) -> RoomChanged | MemberChanged | Sanctioned:
    """The event of an accepted change."""
    head = (seq, event_id, at, new.by, new.key)
    match new:
        case NewSettings():
            return RoomChanged(*head, settings=new.settings, archived=new.archived)
        case NewMember():
            return MemberChanged(*head, person=new.person, role=new.role)
        case NewSanction():
            return Sanctioned(*head, person=new.person, what=new.what, on=new.on, until=new.until, reason=new.reason)
