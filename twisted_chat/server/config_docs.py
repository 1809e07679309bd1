"""What the settings say about themselves: help for the options, the sample file, the page of the manual.

``python -m twisted_chat.server.config_docs sample`` prints ``etc/chat.toml``, ``… rst`` prints ``docs/configuration.rst``; a test
compares both with what is in the repository.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo

from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.server.config import Settings, variable

_FIELD = re.compile(r"    (\w+): .* = ")


def comments(struct: type[Struct]) -> dict[str, str]:
    """The ``#:`` comment above each field, from the source; empty for a field that shares the one before it."""
    texts: dict[str, str] = {}
    lines: list[str] = []
    for line in inspect.getsource(struct).splitlines():
        if line.startswith("    #: "):
            lines.append(line[len("    #: ") :])
        elif field := _FIELD.match(line):
            texts[field[1]] = " ".join(lines)
            lines = []
    return texts


def literal(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, int):
        return f"{value:_}" if value >= 10_000 else str(value)
    return json.dumps(value, ensure_ascii=False)


def option(name: str) -> str:
    """How the command line says it."""
    if name.startswith("limits."):
        return f"--limit {name.partition('.')[2]}="
    return f"--{name.replace('_', '-')}"


def kind(expected: Any) -> str:
    """The type in words."""
    if get_origin(expected) is tuple:
        return f"list of {kind(get_args(expected)[0])}"
    if get_origin(expected) is Literal:
        return " | ".join(get_args(expected))
    return {bool: "on or off", int: "whole number", float: "number", str: "text"}[expected]


def sample() -> str:
    """The commented sample configuration."""
    return "\n".join(_sample()) + "\n"


def _sample() -> Iterator[str]:
    yield from _wrapped("The configuration of twisted_chat: every option with its default.  Use it with")
    yield "#     twistd -n chat --config chat.toml"
    yield from _wrapped(
        "An option of the command line comes before a variable of the environment, and both come before this file; see"
        " docs/configuration.rst.  SIGHUP reads it again: the limits and the policies of rooms change at once, the rest at the"
        " next start."
    )
    yield from _sample_table(Settings)
    yield ""
    yield from _wrapped(comments(Settings)["limits"] + "  Sizes in bytes, times in seconds.")
    yield "[limits]"
    yield from _sample_table(Limits)
    yield ""
    yield from _wrapped(comments(Settings)["rooms"] + "  One table for each name or pattern:")
    yield '#[rooms."live.*"]'
    yield from _sample_table(RoomPolicy)


def _sample_table(struct: type[Struct]) -> Iterator[str]:
    texts = comments(struct)
    for field in msgspec.structs.fields(struct):
        if field.name in ("limits", "rooms") and struct is Settings:
            continue
        if texts[field.name]:
            yield ""
            yield from _wrapped(texts[field.name].replace("``", ""))
        yield f"#{field.name} = {literal(field.default)}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 98, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def rst() -> str:
    """The page ``docs/configuration.rst``."""
    return "\n".join(_rst()) + "\n"


_INTRODUCTION = """\
Configuration
=============

.. This page is made from the settings: python -m twisted_chat.server.config_docs rst > docs/configuration.rst

Every setting has a default, so ``twistd -n chat`` runs without any.  A setting is given

* on the command line (``twistd -n chat --listen tcp:80``),
* in the environment (``TWISTED_CHAT_LISTEN=tcp:80``; lists are separated by spaces),
* in a TOML file (``--config chat.toml`` or ``TWISTED_CHAT_CONFIG=chat.toml``); ``etc/chat.toml`` is a sample with every
  option.

The command line comes before the environment, the environment before the file, the file before the default.  A name
that does not exist is refused with the nearest one that does, a value of the wrong type with its field and where it came
from.  Options that take a list may be given several times, switches have a ``--no-`` form.  ``SIGHUP`` reads the file
again: the limits and the policies of rooms change at once, certificates are read anew, the rest waits for the next start.
"""


def _rst() -> Iterator[str]:
    yield _INTRODUCTION
    yield from _heading("Settings")
    yield from _rst_table(Settings, "")
    yield from _heading("Limits")
    yield "In the file they stand under ``[limits]``; on the command line ``--limit send_burst=20``, as often as needed; in the"
    yield "environment ``TWISTED_CHAT_LIMITS_SEND_BURST=20``.  Sizes in bytes, times in seconds."
    yield ""
    yield from _rst_table(Limits, "limits.")
    yield from _heading("Rooms")
    yield comments(Settings)["rooms"] + "  Only the file can say this::"
    yield ""
    yield '    [rooms."live.*"]'
    yield "    durable = false"
    yield ""
    yield '    [rooms."*"]'
    yield "    keep_days = 365.0"
    yield ""
    yield from _rst_table(RoomPolicy, None)


def _heading(text: str) -> Iterator[str]:
    yield text
    yield "-" * len(text)
    yield ""


def _rst_table(struct: type[Struct], prefix: str | None) -> Iterator[str]:
    """:param prefix: of the field's full name; None for what only a file can say."""
    texts = comments(struct)
    nested = ("limits", "rooms") if struct is Settings else ()
    together: list[list[FieldInfo]] = []
    for field in msgspec.structs.fields(struct):
        if field.name in nested:
            continue
        if texts[field.name]:
            together.append([])
        together[-1].append(field)
    for fields in together:
        yield ", ".join(f"``{field.name} = {literal(field.default)}``" for field in fields)
        indent = " " * 4
        yield from textwrap.wrap(
            texts[fields[0].name], 120, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        )
        if prefix == "":
            (field,) = fields
            yield ""
            yield f"    ``{option(field.name)}``, ``{variable(field.name)}``: {kind(field.type)}"
        yield ""


if __name__ == "__main__":
    sys.stdout.write({"sample": sample, "rst": rst}[sys.argv[1]]())
