"""Events of settings, members and sanctions as rows of table ``event``: what each has beside the columns of all events is a JSON object."""

from __future__ import annotations

from typing import TypeAlias, Union

from msgspec import convert
from msgspec.json import Decoder, decode, encode

from twisted_chat.events import Author, Entry, MemberChanged, RoomChanged, RoomSettings, Sanctioned

#: The column ``kind``.
ROOM, MEMBER, SANCTION = 6, 7, 8
#: The settings of a room for which nobody has decided any.
USUAL = RoomSettings()

Governed: TypeAlias = Union[RoomChanged, MemberChanged, Sanctioned]

_TYPES: dict[int, type[Governed]] = {ROOM: RoomChanged, MEMBER: MemberChanged, SANCTION: Sanctioned}
_KINDS: dict[type[Entry], int] = {each: kind for kind, each in _TYPES.items()}
#: What is in columns of its own.
_HEAD = Entry.__struct_fields__

_decode_settings = Decoder(RoomSettings).decode


def kind_and_text(event: Governed) -> tuple[int, str]:
    """The columns ``kind`` and ``text`` of the event."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__ if name not in _HEAD}
    return _KINDS[type(event)], encode(fields).decode()


def governed_event(kind: int, head: tuple[int, str, int, Author, str | None], text: str) -> Governed:
    """The event of these columns; ``head`` is what all events have."""
    return convert({**decode(text), **dict(zip(_HEAD, head, strict=True))}, _TYPES[kind])


def settings_text(settings: RoomSettings) -> str:
    """The settings as table ``room`` has them; the usual ones are empty."""
    return "" if settings == USUAL else encode(settings).decode()


def settings_of(text: str) -> RoomSettings:
    """The settings of such a text."""
    return _decode_settings(text) if text else USUAL
