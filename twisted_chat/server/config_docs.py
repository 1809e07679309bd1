"""Documentation generated from the settings: help for the options, the sample file, the page of the manual.

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
    """The ``#:`` comment above each field, from the source; empty for a field that shares the comment of the previous one."""
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
    """The command line option for a field."""
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
    yield from _wrapped("The configuration of twisted_chat: all settings with their defaults.  Use it with")
    yield "#     twistd -n chat --config chat.toml"
    yield from _wrapped(
        "Options of the command line override environment variables, and both override this file; see"
        " docs/configuration.rst.  The server reads the file again at SIGHUP; docs/operating.rst says which settings are then in"
        " force at once."
    )
    yield from _sample_table(Settings)
    yield ""
    yield from _wrapped(comments(Settings)["limits"] + "  Sizes are in bytes, times in seconds.")
    yield "[limits]"
    yield from _sample_table(Limits)
    yield ""
    yield from _wrapped(comments(Settings)["rooms"].replace("``", "") + "  One table for each name or pattern:")
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

Every setting has a default, so ``twistd -n chat`` runs without any.  There are three places for a setting:

* the command line (``twistd -n chat --listen tcp:8081``).  Options that take a list may be given several times; options
  that are on or off are written ``--guests`` and ``--no-guests``.
* the environment (``TWISTED_CHAT_LISTEN=tcp:8081``).  The values of a list are separated by spaces.
* a TOML file (``--config chat.toml`` or ``TWISTED_CHAT_CONFIG=chat.toml``).  ``etc/chat.toml`` is a sample with all
  settings.

The command line overrides the environment, the environment overrides the file, and the file overrides the default.  The
server does not start with a name that does not exist or a value of the wrong type; the error names the setting and where
it was given.  At ``SIGHUP`` the server reads the file again; `operating <operating.rst>`_ says which settings are then in
force at once.
"""


def _rst() -> Iterator[str]:
    yield _INTRODUCTION
    yield from _heading("Settings")
    yield from _rst_table(Settings, "")
    yield from _heading("Limits")
    yield "Limits are in the table ``[limits]`` of the file.  On the command line write ``--limit send_burst=20``, several times for"
    yield "several limits, and in the environment ``TWISTED_CHAT_LIMITS_SEND_BURST=20``.  Sizes are in bytes, times in seconds."
    yield ""
    yield from _rst_table(Limits, "limits.")
    yield from _heading("Rooms")
    yield comments(Settings)["rooms"] + "  These settings can be given in the file only::"
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
    """:param prefix: of the field's full name; None for fields that only a file can set."""
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
