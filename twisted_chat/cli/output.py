"""Events for people and for programs.

For people: one line each, further lines of a text indented, so that nobody can write what looks like somebody else's line; everything
that could act on a terminal is shown as an escape.  For programs: the event's own shape and the room, in ASCII.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec

from twisted_chat.client import Deleted, Edited, Message, Reacted, TopicSet
from twisted_chat.client.connection import AnyEvent
from twisted_chat.server.logging import visible

#: Before each further line of a text.
INDENT = "         | "


def shown(event: AnyEvent) -> str:
    """What a person sees, without a line end."""
    at = datetime.fromtimestamp(event.at / 1000, UTC).astimezone().strftime("%H:%M:%S")
    name = visible(event.by.name)
    match event:
        case Message(gone=True):
            said = f"{name} said something that was deleted"
        case Message(data=bytes(data)):
            said = f"{name}: ({len(data)} bytes)"
        case Message():
            said = f"{name}: {_lines(event.text or '')}"
        case Edited():
            said = f"{name} edited {event.of}{', which was deleted' if event.text is None else f': {_lines(event.text)}'}"
        case Deleted():
            said = f"{name} deleted {event.of}"
        case Reacted():
            said = f"{name} {'put' if event.on else 'took'} {visible(event.emoji)} {'on' if event.on else 'off'} {event.of}"
        case TopicSet():
            said = f"{name} set the topic: {visible(event.text)}"
        case _:
            said = f"{name}: ({visible(event.kind)})"
    return f"{at} {said}"


def as_json(room: str, event: AnyEvent) -> dict[str, object]:
    """The event as the protocol has it, with its room."""
    fields: dict[str, object] = json.loads(msgspec.json.encode(event))
    return {"room": room, **fields}


def _lines(text: str) -> str:
    return f"\n{INDENT}".join(visible(line.expandtabs(4)) for line in text.split("\n"))
