"""The log: each event is one line, text for people or one flat JSON object for programs.

An event may contain data of a peer, so control characters are escaped and never reach a terminal, and anything that looks like a
token is masked, whatever module logged it.  Texts of messages must never be logged.
"""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import IO, Literal

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_chat.server.descriptors import AcceptTrouble

#: Bearer tokens and JWTs in headers, subprotocols, cookies, query strings and JSON.
_SECRETS = re.compile(
    r"""(?ix)
    (bearer[ .] | token= | ["']token["']\s*:\s*["']) [^\s,;&"']+
    | \b(?:tc_|eyJ[\w-]+\.)[\w.-]{20,}
    """
)

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SIMPLE = (str, int, float, bool)


def visible(text: str) -> str:
    """The text with all characters escaped that could control a terminal or begin a new line."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) if unicodedata.category(character) in _UNSEEN else character for character in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def without_secrets(text: str) -> str:
    """The text with tokens masked."""
    return _SECRETS.sub(lambda match: f"{match[1] or ''}***", text)


def text_line(event: LogEvent) -> str:
    """``2026-01-01T12:00:00.000Z warn  service: what happened``."""
    level: str = getattr(event.get("log_level"), "name", "info")
    failure = event.get("log_failure")
    trouble = f": {_in_one_line(failure)}" if isinstance(failure, Failure) else ""
    return visible(without_secrets(f"{_time(event)} {level:<5} {_topic(event)}: {_message(event)}{trouble}"))


def json_line(event: LogEvent) -> str:
    """One flat object: time, level, logger, message, the simple fields of the event, and the traceback of a failure."""
    line: dict[str, object] = {
        "time": _time(event),
        "level": getattr(event.get("log_level"), "name", "info"),
        "logger": _topic(event),
        "message": _message(event),
    }
    for name, value in event.items():
        if name.startswith("log_") or name in line or name in _LEGACY or not isinstance(value, _SIMPLE):
            continue
        line[name] = value
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        line["error"] = f"{failure.type.__name__ if failure.type else '?'}: {failure.getErrorMessage()}"
        line["traceback"] = failure.getTraceback(elideFrameworkCode=True)
    shown = {name: without_secrets(value) if isinstance(value, str) else value for name, value in line.items()}
    return json.dumps(shown, ensure_ascii=True, default=str)


#: Fields that ``twisted.python.log`` adds to an event and that repeat others.
_LEGACY = frozenset({"message", "time", "system", "isError", "format", "logLevel", "why"})


def _time(event: LogEvent) -> str:
    seconds = event.get("log_time") or 0.0
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _topic(event: LogEvent) -> str:
    """``core`` for ``twisted_chat.core.chat.Chat``; the full namespace for other packages."""
    namespace = str(event.get("log_namespace") or "-")
    if namespace == "log_legacy":
        return "twisted"  # all that twisted.python.log has
    if namespace.startswith("twisted_chat."):
        return next(part for part in reversed(namespace.split(".")) if part.islower() or part == namespace)
    return namespace


def _message(event: LogEvent) -> str:
    try:
        return formatEvent(event) or str(event.get("log_text") or "")
    except Exception:  # formatEvent handles its own errors; an event without a usable text must not stop the log
        return "(an event that cannot be shown)"


def _in_one_line(failure: Failure) -> str:
    """``ValueError: what (module.py:12 in function < caller.py:30 in other)``, innermost first."""
    frames = [f"{os.path.basename(file)}:{line} in {name}" for name, file, line, _, _ in reversed(failure.frames[-8:])]
    where = f" ({' < '.join(frames)})" if frames else ""
    return f"{failure.type.__name__ if failure.type else '?'}: {failure.getErrorMessage()}{where}"


@implementer(ILogObserver)
class LineObserver:
    """Writes each event as one line, to a file that can be reopened or to the standard output.

    :ivar path: the file; ``-`` or empty: the standard output of the process (not what twistd puts in its place).
    """

    def __init__(self, line: Callable[[LogEvent], str], path: str = "") -> None:
        self._line = line
        self.path = "" if path == "-" else path
        self._file = self._open()

    def __call__(self, event: LogEvent) -> None:
        try:
            self._file.write(self._line(event) + "\n")
            self._file.flush()
        except (OSError, ValueError):
            pass  # a full disk or a closed pipe must not stop the chat, and there is no other place to report it

    def reopen(self) -> None:
        """Continue in a new file of the same name, because the old one was renamed."""
        if self.path:
            old, self._file = self._file, self._open()
            old.close()

    def _open(self) -> IO[str]:
        if self.path:
            return open(self.path, "a", encoding="utf-8", errors="backslashreplace")
        # A process that was started with its standard output closed has none, and logs nothing.
        return sys.__stdout__ or open(os.devnull, "a", encoding="utf-8")


def observer(line_format: Literal["text", "json"], level: str, path: str = "") -> tuple[LineObserver, ILogObserver]:
    """The observer that can be reopened, and the filter in front of it, which Twisted gets."""
    lines = LineObserver(json_line if line_format == "json" else text_line, path)
    levels = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(level))
    # txaio and Twisted's TLS and HTTP log little at info and very much at debug, so debug must be set explicitly.
    return lines, FilteringLogObserver(lines, [AcceptTrouble(), levels])
