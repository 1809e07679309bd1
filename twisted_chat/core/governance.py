"""Who may change what of members and sanctions, decided at the commit; every store decides by it, like by ``amendments.py``.

In:   what is to happen, and the standing that it concerns as the store has it in the same transaction.
Out:  the standing afterwards, and the event; or the :class:`ChatError` that says why not.

The permissions (``permissions.py``) have said before that the person may do such things at all.  What depends on the other person stands
here, because two moderators on two servers may change the same person at the same moment.
"""

from __future__ import annotations

from msgspec.structs import replace

from twisted_chat.errors import Conflict, Forbidden
from twisted_chat.events import MemberChanged, NewMember, NewSanction, NewSettings, RoomChanged, RoomSettings, Sanctioned
from twisted_chat.standings import FOREVER, RANKS, Standing, rank


def check_settings(new: NewSettings, head: int, present: RoomSettings) -> None:
    """Return if the room may get these settings.

    :param head: the number of the room's newest event.
    """
    if new.creates:
        if head:
            raise Conflict("room: exists already")
    elif new.settings.access != present.access:
        raise Conflict(f"access: the room is {present.access} and stays so")


def change_member(new: NewMember, standing: Standing, owners: int) -> Standing:
    """The standing of the person after the change.

    :param standing: that of the person, before.
    :param owners: how many owners the room has.
    """
    if not (new.role is None and new.by.id == new.person.id):
        if rank(standing.role) >= new.authority and new.authority < RANKS["owner"]:
            raise Forbidden(f"person: {new.person.name} has a role that only a higher one changes")
        if rank(new.role) > new.authority:
            raise Forbidden("role: nobody gives a higher role than the own one")
        if new.role is not None and standing.banned:
            raise Conflict(f"person: {new.person.name} is banned; end the ban first")
    if new.role != "owner":
        _check_last_owner(standing, owners)
    return replace(standing, name=new.person.name, role=new.role)


def sanction(new: NewSanction, standing: Standing, owners: int) -> Standing:
    """The standing of the person after the sanction or its end; of a guest's address likewise, which has no role.

    Who is banned is no member any more.
    """
    if rank(standing.role) >= new.authority:
        raise Forbidden(f"person: {new.person.name} has a role that you may not act against")
    until = 0 if not new.on else FOREVER if new.until is None else new.until
    if new.what == "ban" and until:
        _check_last_owner(standing, owners)
        return replace(standing, name=new.person.name, banned=until, role=None)
    if new.what == "ban":
        return replace(standing, name=new.person.name, banned=0)
    if new.what == "mute":
        return replace(standing, name=new.person.name, muted=until)
    return standing


def _check_last_owner(standing: Standing, owners: int) -> None:
    if standing.role == "owner" and owners <= 1:
        raise Conflict("role: the room needs an owner; make somebody else owner first")


def settings_event(new: NewSettings, seq: int, event_id: str, at: int) -> RoomChanged:
    """The event of accepted settings."""
    return RoomChanged(seq, event_id, at, new.by, new.key, settings=new.settings, archived=new.archived)


def member_event(new: NewMember, seq: int, event_id: str, at: int) -> MemberChanged:
    """The event of an accepted change of a member."""
    return MemberChanged(seq, event_id, at, new.by, new.key, person=new.person, role=new.role)


def sanction_event(new: NewSanction, seq: int, event_id: str, at: int) -> Sanctioned:
    """The event of an accepted sanction."""
    return Sanctioned(
        seq, event_id, at, new.by, new.key, person=new.person, what=new.what, on=new.on, until=new.until, reason=new.reason
    )
