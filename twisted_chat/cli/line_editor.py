"""A line editor: keystrokes in, one terminal row out.

It does not access a terminal: keystrokes come in as bytes, and the result is a text that fits one row, with the cursor's column.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator

from msgspec import Struct

from twisted_chat.server.logging import visible

#: Characters of the longest line; what is pasted beyond that is ignored.
MOST = 16_384
#: A complete escape sequence of a key (ECMA-48 section 5.4, and SS3), and an incomplete one.
_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O[@-~]|[^\[O])")
_BEGUN = re.compile(r"\x1b(\[[0-?]*[ -/]*|O)?")


class LineEntered(Struct, frozen=True):
    """Enter was pressed."""

    text: str


class Ended(Struct, frozen=True):
    """Ctrl+D on an empty line."""


class LineEditor:
    """One line being edited, as in a shell: arrows, Home, End, Backspace, Delete, Ctrl+A E U K W, up and down for earlier lines."""

    def __init__(self) -> None:
        self.text = ""
        self.place = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""
        self._earlier: list[str] = []
        self._looking = 0

    def feed(self, data: bytes) -> Iterator[LineEntered | Ended]:
        """Apply keystrokes; yields the lines that were entered, and the end."""
        keys = self._begun + self._decoder.decode(data)
        self._begun = ""
        at = 0
        while at < len(keys):
            key = keys[at]
            if key == "\x1b":
                found = _SEQUENCE.match(keys, at)
                if found is None:
                    if _BEGUN.fullmatch(keys, at):
                        self._begun = keys[at:]
                        return
                    at += 1
                    continue
                self._sequence(found[1])
                at = found.end()
                continue
            at += 1
            if key in "\r\n":
                yield self._enter()
            elif key == "\x04":
                if not self.text:
                    yield Ended()
                self._delete()
            else:
                self._key(key)

    def row(self, prompt: str, width: int) -> tuple[str, int]:
        """The row's text, at most ``width`` - 1 columns, and the cursor's column; of a long line the part around the cursor."""
        cells = [visible(character) for character in self.text]
        widths = [columns(cell) for cell in cells]
        room = max(1, width - 1 - columns(prompt))
        begin, used = self.place, 0
        while begin > 0 and used + widths[begin - 1] < room:
            begin -= 1
            used += widths[begin]
        cursor = used
        end = self.place
        while end < len(cells) and used + widths[end] <= room:
            used += widths[end]
            end += 1
        return prompt + "".join(cells[begin:end]), columns(prompt) + cursor

    def _enter(self) -> LineEntered:
        text, self.text, self.place = self.text, "", 0
        if text and self._earlier[-1:] != [text]:
            self._earlier.append(text)
        self._looking = len(self._earlier)
        return LineEntered(text)

    def _key(self, key: str) -> None:
        match key:
            case "\x7f" | "\x08":
                self._cut(self.place - 1, self.place)
            case "\x01":
                self.place = 0
            case "\x05":
                self.place = len(self.text)
            case "\x15":
                self._cut(0, self.place)
            case "\x0b":
                self._cut(self.place, len(self.text))
            case "\x17":
                self._cut(len(re.sub(r"\S+\s*$", "", self.text[: self.place])), self.place)
            case _ if key >= " " and len(self.text) < MOST:
                self.text = self.text[: self.place] + key + self.text[self.place :]
                self.place += 1

    def _sequence(self, sequence: str) -> None:
        match sequence:
            case "[D" | "OD":
                self.place = max(0, self.place - 1)
            case "[C" | "OC":
                self.place = min(len(self.text), self.place + 1)
            case "[A" | "OA":
                self._recall(-1)
            case "[B" | "OB":
                self._recall(1)
            case "[H" | "OH" | "[1~":
                self.place = 0
            case "[F" | "OF" | "[4~":
                self.place = len(self.text)
            case "[3~":
                self._delete()

    def _delete(self) -> None:
        self._cut(self.place, self.place + 1)

    def _cut(self, begin: int, end: int) -> None:
        begin = max(0, begin)
        self.text = self.text[:begin] + self.text[end:]
        self.place = begin

    def _recall(self, step: int) -> None:
        looking = self._looking + step
        if 0 <= looking <= len(self._earlier):
            self._looking = looking
            self.text = self._earlier[looking] if looking < len(self._earlier) else ""
            self.place = len(self.text)


def columns(text: str) -> int:
    """The width of the text in terminal columns."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
