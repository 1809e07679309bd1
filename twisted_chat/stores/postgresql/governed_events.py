"""Events of settings, members and sanctions as rows of table ``event``: what each has beside the columns of all events is a JSON object."""

from __future__ import annotations

from typing import TypeAlias, Union

from msgspec import Struct
from msgspec.json import Decoder, encode

from twisted_chat.events import Author, Event, MemberChanged, RoomChanged, RoomSettings, Sanctioned

#: The column ``kind``.
ROOM, MEMBER, SANCTION = 6, 7, 8
#: The settings of a room for which nobody has decided any.
USUAL = RoomSettings()

Governed: TypeAlias = Union[RoomChanged, MemberChanged, Sanctioned]


class _Room(Struct, frozen=True, omit_defaults=True):
    settings: RoomSettings
    archived: bool = False


class _Member(Struct, frozen=True, omit_defaults=True):
    person: Author
    role: str | None = None


class _Sanction(Struct, frozen=True, omit_defaults=True):
    person: Author
    what: str
    on: bool = True
    until: int | None = None
    reason: str = ""


_decode_settings = Decoder(RoomSettings).decode
_decode_room = Decoder(_Room).decode
_decode_member = Decoder(_Member).decode
_decode_sanction = Decoder(_Sanction).decode


def kind_and_text(event: Governed) -> tuple[int, str]:
    """The columns ``kind`` and ``text`` of the event."""
    match event:
        case RoomChanged():
            return ROOM, encode(_Room(event.settings, event.archived)).decode()
        case MemberChanged():
            return MEMBER, encode(_Member(event.person, event.role)).decode()
        case Sanctioned():
            return SANCTION, encode(_Sanction(event.person, event.what, event.on, event.until, event.reason)).decode()


def governed_event(kind: int, head: tuple[int, str, int, Author, str | None], text: str) -> Event:
    """The event of these columns; ``head`` is what all events have."""
    if kind == ROOM:
        room = _decode_room(text)
        return RoomChanged(*head, settings=room.settings, archived=room.archived)
    if kind == MEMBER:
        member = _decode_member(text)
        return MemberChanged(*head, person=member.person, role=member.role)
    assert kind == SANCTION, kind
    its = _decode_sanction(text)
    return Sanctioned(*head, person=its.person, what=its.what, on=its.on, until=its.until, reason=its.reason)


def settings_text(settings: RoomSettings) -> str:
    """The settings as table ``room`` has them; the usual ones are empty."""
    return "" if settings == USUAL else encode(settings).decode()


def settings_of(text: str) -> RoomSettings:
    """The settings of such a text."""
    return _decode_settings(text) if text else USUAL
