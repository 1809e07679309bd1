"""Output of events, for people and for programs.

For people: one line per event.  Further lines of a text are indented, so that a message cannot imitate another event, and characters
that could control the terminal are escaped.  For programs: the event as in the protocol, with its room, as JSON in ASCII.
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

from twisted_chat.client import Deleted, Edited, MemberChanged, Message, Reacted, RoomChanged, Sanctioned, TopicSet
from twisted_chat.client.connection import AnyEvent
from twisted_chat.server.logging import visible, without_secrets


class Status(IntEnum):
    """Exit statuses."""

    DONE = 0
    FAILED = 1  #: something was not done: a message was not acknowledged, a check failed, a name does not exist
    USAGE = 2  #: the command line or the configuration is wrong
    NO_SERVER = 3  #: not reached, or lost for longer than --wait
    REFUSED = 4  #: the server refuses: the token or a right is missing
    STORE = 5  #: the database or another file cannot be used
    INTERRUPTED = 130  #: by Ctrl+C
    NO_READER = 141  #: the program that reads the output has ended


class CliError(Exception):
    """Ends the command: one line with cause and remedy."""

    def __init__(self, message: str, status: Status) -> None:
        super().__init__(message)
        self.status = status


class CommandContext(Struct):
    """What a command uses of its process: streams, variables, clock, reactor.

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
    #: Whether each of the streams is a terminal.
    input_terminal: bool = False
    output_terminal: bool = False
    error_terminal: bool = False

    def say(self, line: str) -> None:
        """Print a line to the standard output; text of other users must be escaped already."""
        self.stdout.write(line + "\n")
        self.stdout.flush()

    def say_json(self, value: object) -> None:
        """Print an object on one line, in ASCII, so that text of other users cannot control the terminal."""
        self.say(json.dumps(value, ensure_ascii=True, separators=(",", ":")))

    def note(self, line: str) -> None:
        """Print a line to the standard error, escaped and without secrets."""
        self.stderr.write(visible(without_secrets(line)) + "\n")
        self.stderr.flush()


#: Precedes each further line of a text.
INDENT = "         | "


def shown(event: AnyEvent) -> str:
    """The event as text for people, without a line end."""
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
            said = f"{name} {'added' if event.on else 'removed'} {visible(event.emoji)} {'to' if event.on else 'from'} {event.of}"
        case TopicSet():
            said = f"{name} set the topic: {visible(event.text)}"
        case RoomChanged() | MemberChanged() | Sanctioned():
            said = f"{name} {_governed(event)}"
        case _:
            said = f"{name}: ({visible(event.kind)})"
    return f"{at} {said}"


def _governed(event: RoomChanged | MemberChanged | Sanctioned) -> str:
    match event:
        case RoomChanged():
            return f"{'archived' if event.archived else 'changed'} the room"
        case MemberChanged(person=person, role=None):
            return "left the room" if person.id == event.by.id else f"took the membership of {visible(person.name)}"
        case MemberChanged(person=person):
            return f"made {visible(person.name)} {event.role}"
    what = {"mute": "muted", "ban": "banned", "kick": "removed"}.get(event.what, visible(event.what))
    reason = f": {visible(event.reason)}" if event.reason else ""
    return f"{what if event.on else f'ended the {visible(event.what)} of'} {visible(event.person.name)}{reason}"


def as_json(room: str, event: AnyEvent) -> dict[str, object]:
    """The fields of the event as in the protocol, with its room."""
    fields: dict[str, object] = json.loads(msgspec.json.encode(event))
    return {"room": room, **fields}


def _lines(text: str) -> str:
    return f"\n{INDENT}".join(visible(line.expandtabs(4)) for line in text.split("\n"))
