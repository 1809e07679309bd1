"""The servers that are compared, each its idiomatic fastest, and how to start them.

A program is found (or installed) once; what comes out is a :class:`Program` that knows its version and the command line for a
port and an optional certificate, or :class:`~bench.installing.NotInstallable` with the reason.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.installing import NotInstallable, bun, node, npm_package, npm_version, python_package
from twisted_chat import __version__

ROOT = Path(__file__).resolve().parent.parent
SERVERS = Path(__file__).resolve().parent / "servers"
CONFIGURATION = Path(__file__).resolve().parent / "chat.toml"

#: Every server may keep as many half-open connections; 50, Twisted's default, drops some of 200 that come at once.
BACKLOG = 1024


@dataclass(frozen=True)
class Place:
    """Where a server is to run.

    :ivar directory: for its files; exists and is empty.
    :ivar certificate: PEM files of certificate and key, for TLS.
    """

    port: int
    directory: Path
    certificate: tuple[Path, Path] | None = None


@dataclass(frozen=True)
class Start:
    command: list[str]
    directory: Path
    environment: dict[str, str]


@dataclass(frozen=True)
class Program:
    name: str
    version: str
    start: Callable[[Place], Start]


def find(name: str) -> Program:
    return FINDERS[name]()


def _find_node() -> Program:
    place = npm_package("ws", "8")
    command = [node(), str(SERVERS / "node_ws.mjs")]
    return Program("node", f"ws {npm_version(place, 'ws')}", lambda where: _peer(command, where, place))


def _find_bun() -> Program:
    binary, version = bun()
    command = [binary, str(SERVERS / "bun_publish.js")]
    return Program("bun", f"bun {version}", lambda where: _peer(command, where, where.directory))


def _find_websockets() -> Program:
    interpreter, version = python_package("websockets")
    command = [interpreter, str(SERVERS / "websockets_broadcast.py")]
    return Program("websockets", f"websockets {version}", lambda where: _peer(command, where, where.directory))


def _find_autobahn() -> Program:
    interpreter, version = python_package("autobahn")
    command = [interpreter, str(SERVERS / "autobahn_broadcast.py")]
    return Program("autobahn", f"autobahn {version}", lambda where: _peer(command, where, where.directory))


def _peer(command: list[str], where: Place, directory: Path) -> Start:
    certificate = [str(path) for path in where.certificate or ()]
    return Start([*command, str(where.port), *certificate], directory, dict(os.environ))


def _find_chat() -> Program:
    if not (ROOT / "twisted" / "plugins").is_dir():
        raise NotInstallable(f"{ROOT} holds no twisted_chat; run this from its repository")
    return Program("chat", f"twisted_chat {__version__}", _chat)


def _chat(where: Place) -> Start:
    endpoint = f"tcp:{where.port}:interface=127.0.0.1:backlog={BACKLOG}"
    if where.certificate:
        certificate, key = where.certificate
        endpoint = f"ssl:{where.port}:interface=127.0.0.1:backlog={BACKLOG}:privateKey={key}:certKey={certificate}"
    twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "chat"]
    options = ["--listen", endpoint, "--store", f"sqlite:{where.directory / 'chat.db'}", "--config", str(CONFIGURATION)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWISTED_CHAT_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    return Start([*twistd, *options], where.directory, environment)


FINDERS: dict[str, Callable[[], Program]] = {
    "chat": _find_chat,
    "bun": _find_bun,
    "node": _find_node,
    "websockets": _find_websockets,
    "autobahn": _find_autobahn,
}
