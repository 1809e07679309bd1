"""Texts as PostgreSQL can hold them.

Its ``text`` has every character but U+0000.  That one, the separator that keeps the texts of a batch apart on their way to the
database, and the character that begins an escape are kept as two characters each; texts with any of the three are rare.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: Between the texts of a column: the control character made for that.
SEPARATOR = "\x1f"
_ESCAPE = "\x01"
#: Represents a missing text; no escaped text contains it.
_NULL = "\x01n"

_ESCAPED = {0: "\x010", 1: "\x011", 31: "\x01s"}
_PLAIN = {"0": "\x00", "1": "\x01", "s": "\x1f"}


def escape(text: str) -> str:
    """The text as it is stored."""
    if "\x00" in text or _ESCAPE in text or SEPARATOR in text:
        return text.translate(_ESCAPED)
    return text


def escape_any(text: str | None) -> str | None:
    return None if text is None else escape(text)


def plain(kept: str) -> str:
    """The original of a stored text."""
    if _ESCAPE not in kept:
        return kept
    first, *rest = kept.split(_ESCAPE)
    return first + "".join([_PLAIN[piece[0]] + piece[1:] for piece in rest])


# A list of texts is handed to the database as one string, which costs a tenth of a list of strings: joined by the separator, with one
# more in front, because SQL does not tell an array of one empty text from an empty array.


def texts(values: Sequence[str]) -> str:
    """The texts for :func:`text_array`."""
    joined = SEPARATOR.join(values)
    if "\x00" in joined or _ESCAPE in joined or joined.count(SEPARATOR) != len(values) - 1:
        joined = SEPARATOR.join([escape(value) for value in values])
    return SEPARATOR + joined if values else ""


def nullable_texts(values: Sequence[str | None]) -> str:
    """The same where some may be missing."""
    joined = SEPARATOR.join([_NULL if value is None else escape(value) for value in values])
    return SEPARATOR + joined if values else ""


def text_array(parameter: str) -> str:
    """SQL for the array of texts of a parameter; shorter than others, it counts as ending in NULLs."""
    return f"(string_to_array(%({parameter})s, E'\\x1f', E'\\x01n'))[2:]"


def numbers(values: Iterable[int | None]) -> str:
    """An array of numbers for a parameter that is cast to it."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def flags(values: Iterable[bool | None]) -> str:
    """An array of truth values for a parameter that is cast to it."""
    return "{" + ",".join(["NULL" if value is None else "t" if value else "f" for value in values]) + "}"
