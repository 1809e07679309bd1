"""The options of ``twistd chat``, one for each field of the settings."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from typing import Any, get_origin

from twisted.logger import ILogObserver
from twisted.python import usage

from twisted_chat.limits import Limits
from twisted_chat.server import logging
from twisted_chat.server.config import Given, Settings, SettingsError, field_types, load, nearest
from twisted_chat.server.config_docs import comments
from twisted_chat.server.process import file_trouble, say_error, try_to_write
from twisted_chat.version import __version__

_WIDTH = 100


class Options(usage.Options):
    """The command line of ``twistd chat``.

    :ivar settings: made from the options, the environment and the configuration file.
    :ivar lines: the log, which can be reopened; None if twistd logs elsewhere (``--logger``, ``--syslog``).
    """

    synopsis = "[options]"
    settings: Settings = Settings()
    lines: logging.LineObserver | None = None
    config: str = ""

    def __init__(self, environ: dict[str, str] | None = None, command_line: Sequence[str] | None = None) -> None:
        super().__init__()
        self._command_line = sys.argv if command_line is None else command_line
        self.environ = dict(os.environ) if environ is None else environ
        self._given: dict[str, Given] = {}
        self._arguments: list[str] = []

    def opt_config(self, path: str) -> None:
        """A TOML file with settings."""
        self.config = os.path.abspath(path)

    def opt_limit(self, assignment: str) -> None:
        """A limit, such as send_burst=20."""
        name, equals, value = assignment.partition("=")
        field = name.strip().replace("-", "_")
        known = [limit.partition(".")[2] for limit in field_types() if limit.startswith("limits.")]
        if field not in known:
            raise usage.UsageError(f"--limit {assignment}: no such limit{nearest(field, known)}")
        if not equals:
            raise usage.UsageError(f"--limit {assignment}: write --limit {field}=NUMBER")
        self._given[f"limits.{field}"] = Given(f"limits.{field}", value.strip(), f"--limit {field}", text=True)

    def opt_version(self) -> None:
        """Show the versions and exit."""
        parts = ", ".join(f"{name} {metadata.version(name)}" for name in ("Twisted", "autobahn"))
        print(f"twisted_chat {__version__} ({parts}, Python {sys.version.split()[0]})")
        sys.exit(0)

    def set_value(self, name: str, value: object, option: str) -> None:
        """Add a value; each option's method calls this."""
        earlier = self._given.get(name)
        if isinstance(value, list) and earlier is not None and isinstance(earlier.value, list):
            value = earlier.value + value
        self._given[name] = Given(name, value, option, text=True)

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Print an error as one line and exit with 1; twistd would print the whole help and exit with 0."""
        self._arguments = list(options or ())
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            self._refuse(self._with_nearest(str(error)))

    def parseArgs(self, *args: str) -> None:
        if args:
            raise usage.UsageError(f"{args[0]!a}: not understood; options begin with --, see twistd -n chat --help")

    def postOptions(self) -> None:
        try:
            self.settings = self.load()
        except SettingsError as error:
            self._refuse(str(error))
        self._settle_pid_file()
        self._log_by_settings()

    def command(self) -> list[str]:
        """The arguments of ``twistd`` for another process of this server, which does not become a daemon."""
        logs = [f"--logfile={self.lines.path}"] if self.lines is not None and self.lines.path else []
        return ["--nodaemon", "--pidfile=", *logs, "chat", *self._arguments]

    def load(self) -> Settings:
        """The settings from the same command line and environment and the present file (for SIGHUP)."""
        return load(self._given.values(), self.environ, self.config)

    def _log_by_settings(self) -> None:
        """Replace twistd's own log, unless twistd was started with --logger or --syslog."""
        parent = self.parent
        if parent is None or parent.get("logger") or parent.get("syslog"):
            return
        path = parent.get("logfile") or ("" if parent.get("nodaemon") else "twistd.log")
        if path not in ("", "-"):
            path = os.path.join(os.path.abspath(str(parent.get("rundir") or ".")), path)

        try:
            self.lines, _chosen["observer"] = logging.observer(self.settings.log_format, self.settings.log_level, path)
        except OSError as error:
            self._refuse(f"--logfile {path}: cannot be written: {file_trouble(error)}")
        parent["logger"] = f"{__name__}.{chosen_observer.__name__}"

    def _settle_pid_file(self) -> None:
        """No pid file in the foreground unless one is asked for; one that cannot be written is refused in one line.

        twistd would end with a traceback.  In the foreground nobody needs the file, and one that a killed server left in a container
        names process 1, so that twistd takes the new server itself for the old one.
        """
        parent = self.parent
        if parent is None or not parent.get("pidfile"):
            return
        path = str(parent["pidfile"])
        if parent.get("nodaemon") and not any(word.startswith("--pid") for word in self._command_line):
            parent["pidfile"] = ""
            return
        try:
            try_to_write(os.path.join(str(parent.get("rundir") or "."), path))
        except OSError as error:
            self._refuse(f"--pidfile {path}: cannot be written: {file_trouble(error)}, or none with --pidfile=")

    def _with_nearest(self, message: str) -> str:
        """Add the nearest known option to getopt's ``option --lissten not recognized``."""
        words = message.split()
        if "recognized" not in words or not words[1].startswith("--"):
            return message
        known = [f"--{option.rstrip('=')}" for option in self.longOpt]
        return f"{words[1]}: no such option{nearest(words[1], known)}"

    def _refuse(self, message: str) -> None:
        say_error(message)
        raise SystemExit(1)

    def getUsage(self, width: int | None = None) -> str:
        return _help()


def _add_options() -> None:
    """Add an option for each field: repeatable for lists, ``--no-…`` for switches that are on by default."""
    for name, expected in field_types().items():
        if name == "rooms" or name.startswith("limits."):
            continue
        dashed = "--" + name.replace("_", "-")
        if expected is bool:
            setattr(Options, f"opt_{name}", _switch(name, True, dashed))
            setattr(Options, f"opt_no_{name}", _switch(name, False, dashed))
        elif get_origin(expected) is tuple:
            setattr(Options, f"opt_{name}", _with_value(name, dashed, lambda value: [value]))
        else:
            setattr(Options, f"opt_{name}", _with_value(name, dashed, lambda value: value))


def _switch(name: str, on: bool, option: str) -> Callable[[Options], None]:
    def switch(self: Options) -> None:
        self.set_value(name, on, option)

    return switch


def _with_value(name: str, option: str, wrap: Callable[[str], object]) -> Callable[[Options, str], None]:
    def take(self: Options, value: str) -> None:
        self.set_value(name, wrap(value), option)

    return take


#: The observer for :func:`chosen_observer`: twistd accepts an observer by its dotted name only, and has one log per process.
_chosen: dict[str, ILogObserver] = {}


def chosen_observer() -> ILogObserver:
    """The observer that the settings ask for; twistd calls this as its ``--logger``."""
    return _chosen["observer"]


_INTRODUCTION = """
A chat server for WebSockets and browsers that keeps all messages.  Without options it can be
reached from this machine only, at http://127.0.0.1:8080/.

Options (each can also be given as an environment variable TWISTED_CHAT_… or in the file of
--config):
"""

_END = """
Policies of rooms can be given in the file only.  docs/configuration.rst explains all settings.
The variable TWISTED_CHAT_CONFIG names the file if --config does not.
"""


def _help() -> str:
    texts = comments(Settings)
    lines = [_INTRODUCTION]
    lines += _entry("--config=FILE", "A TOML file with settings; etc/chat.toml is a sample with all of them.")
    for name, expected in field_types().items():
        if name != "rooms" and not name.startswith("limits."):
            lines += _entry(*_described(name, expected, texts[name]))
    limits = ", ".join(name.partition(".")[2] for name in field_types() if name.startswith("limits."))
    sample = f"--limit send_burst={Limits().send_burst}"
    lines += _entry("--limit=NAME=VALUE", f"A limit, such as {sample}. May be given several times. The limits are: {limits}.")
    lines += _entry("--version", "Show the versions and exit.")
    lines += _entry("--help", "Show this and exit.")
    return "\n".join([*lines, _END])


def _described(name: str, expected: Any, text: str) -> tuple[str, str]:
    default = getattr(Settings(), name)
    dashed = name.replace("_", "-")
    if expected is bool:
        return f"--{'no-' if default else ''}{dashed}", f"{text} This option switches it {'off' if default else 'on'}."
    if isinstance(default, tuple):
        return f"--{dashed}=", f"{text} May be given several times. [{' '.join(default) or 'none'}]"
    return f"--{dashed}=", f"{text} [{default or 'none'}]"


def _entry(option: str, text: str) -> Iterable[str]:
    text = text.replace("``", "")
    yield f"  {option}"
    yield from textwrap.wrap(text, _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8, break_on_hyphens=False)


_add_options()
