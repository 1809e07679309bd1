"""What a verb sees of the world, and how it ends: streams, environment, reactor; exit statuses; one line for what went wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import IO, Any

from msgspec import Struct
from twisted.internet.defer import Deferred

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


class ShellError(Exception):
    """The command ends here: one line with cause and cure."""

    def __init__(self, message: str, status: Status) -> None:
        super().__init__(message)
        self.status = status


class World(Struct):
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
