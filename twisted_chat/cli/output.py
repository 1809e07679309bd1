"""Events for people and for programs.

For people: one line each, further lines of a text indented, so that nobody can write what looks like somebody else's line; everything
that could act on a terminal is shown as an escape.  For programs: the event's own shape and the room, in ASCII.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import IO, Any

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred

from twisted_chat.client import Deleted, Edited, Message, Reacted, TopicSet
from twisted_chat.client.connection import AnyEvent
from twisted_chat.server.logging import visible, without_secrets


class Status(IntEnum):
    """Exit statuses."""

    DONE = 0
    FAILED = 1  #: something of it was not done: a message not acknowledged, a check that failed, nothing of that name
    USAGE = 2  #: the command line
    NO_SERVER = 3  #: not reached, or lost for longer than --wait
    REFUSED = 4  #: the server knows who we are, or not, and says no
    STORE = 5  #: the database or another file
    INTERRUPTED = 130  #: by Ctrl+C
    NO_READER = 141  #: whoever read our output has gone


class CliError(Exception):
    """The command ends here: one line with cause and cure."""

    def __init__(self, message: str, status: Status) -> None:
        super().__init__(message)
        self.status = status


class CommandContext(Struct):
    """The outside.

    :ivar read: bytes from the standard input, as ``os.read``; it may block, so it is called by ``in_thread``.
    :ivar reactor: the reactor or a test's clock; None for verbs that need none.
    """

    stdout: IO[str]
    stderr: IO[str]
    environ: Mapping[str, str]
    read: Callable[[int], bytes]
    in_thread: Callable[[Callable[[], bytes]], Deferred[bytes]]
    now_seconds: Callable[[], float]
    reactor: Any = None
    #: Whether people sit at both ends.
    input_terminal: bool = False
    output_terminal: bool = False
    error_terminal: bool = False

    def say(self, line: str) -> None:
        """A line for the standard output; what came from others has to be escaped already."""
        self.stdout.write(line + "\n")
        self.stdout.flush()

    def say_json(self, value: object) -> None:
        """One object on a line.  ASCII: what others wrote reaches no terminal as it is."""
        self.say(json.dumps(value, ensure_ascii=True, separators=(",", ":")))

    def note(self, line: str) -> None:
        """A line beside the output."""
        self.stderr.write(visible(without_secrets(line)) + "\n")
        self.stderr.flush()


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
