"""A thousand clients whose server restarts: ``python -m tests.jepsen.herd [CLIENTS] [DIRECTORY]`` prints a report as JSON."""

from __future__ import annotations

import resource
import signal
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.task import deferLater

from tests.harness.serving import Served, free_port
from tests.jepsen.program import directory_of, positive, reported
from twisted_chat.client import ChatClient, ConnectionProblem, HandshakeRefused, Message, State

reactor: Any = installed_reactor

#: Only what a test on one machine cannot do without: all clients have one address.
CONFIG = """\
[limits]
connections_per_address = 5000
send_per_second = 0
person_per_second = 0
query_per_second = 0
"""
#: Messages before, during and after the restart.
MESSAGES = 10


class Herd:
    """The clients, and what happens to them.

    :ivar asked: for each client that has lost the server, when that was, and after how many seconds the server asked it to come back.
    :ivar tried: when each first tried that, whether the server was back or not.
    :ivar returned: when each was online again.
    :ivar not_asked: why those lost the server that it did not ask anything.
    """

    def __init__(self, url: str, count: int) -> None:
        self.clients = [ChatClient(reactor, url, name=f"sheep {number}") for number in range(count)]
        self.read: list[list[str]] = [[] for _ in self.clients]
        self.asked: dict[int, tuple[float, float]] = {}
        self.tried: dict[int, float] = {}
        self.returned: dict[int, float] = {}
        self.not_asked: list[str] = []
        self.refused: list[str] = []
        self.restarted = False
        for number, client in enumerate(self.clients):
            client.room("herd").on(Message, lambda event, texts=self.read[number]: texts.append(event.text))  # type: ignore[misc]
            client.watch(lambda client, number=number: self.changed(client, number))  # type: ignore[misc]

    def changed(self, client: ChatClient, number: int) -> None:
        if isinstance(client.problem, HandshakeRefused):
            self.refused.append(str(client.problem))
        if not self.restarted:
            return
        # The clock that the client waits by.
        now = reactor.seconds()
        if client.state is State.WAITING and number not in self.asked:
            assert isinstance(client.problem, ConnectionProblem)
            self.asked[number] = now, client.problem.retry_after
            if not client.problem.retry_after:
                self.not_asked.append(str(client.problem))
        elif client.state is State.CONNECTING and number in self.asked:
            self.tried.setdefault(number, now)
        elif client.state is State.ONLINE and number in self.tried:
            self.returned.setdefault(number, now)

    def online(self) -> int:
        return sum(client.state is State.ONLINE for client in self.clients)

    def joined(self) -> int:
        return sum(client.rooms["herd"].joined is not None for client in self.clients)


async def run(count: int, directory: Path) -> dict[str, Any]:
    (directory / "chat.toml").write_text(CONFIG)
    port = free_port()
    arguments = (
        f"--listen=tcp:{port}:interface=127.0.0.1",
        f"--store=sqlite:{directory / 'chat.db'}",
        f"--config={directory / 'chat.toml'}",
    )
    server = Served(directory / "first", *arguments)
    try:
        server.wait_for("READY=1")
        herd = Herd(f"ws://127.0.0.1:{port}", count)
        for number, client in enumerate(herd.clients):
            client.startService()
            if number % 50 == 49:
                await deferLater(reactor, 0.1)
        await until(lambda: herd.joined() == count, 60)
        shepherd = herd.clients[0].room("herd")
        expected = [f"{when} {number}" for when in ("before", "during", "after") for number in range(MESSAGES)]
        for number in range(MESSAGES):
            await shepherd.send(f"before {number}")
        herd.restarted = True
        server.process.send_signal(signal.SIGTERM)
        while server.process.poll() is None:
            await deferLater(reactor, 0.02)
        for number in range(MESSAGES):
            shepherd.send(f"during {number}")
        server.__exit__(None, None, None)
        server = Served(directory / "second", *arguments)
        await until(lambda: len(herd.returned) == count, 60)
        for number in range(MESSAGES):
            await shepherd.send(f"after {number}")
        await until(lambda: all(len(texts) >= len(expected) for texts in herd.read), 120)
        for client in herd.clients:
            client.stopService()
        await until(lambda: all(client.state is State.STOPPED for client in herd.clients), 30)
    finally:
        server.__exit__(None, None, None)
    asked = [seconds for _, seconds in herd.asked.values()]
    times = [*herd.returned.values()]
    return {
        "clients": count,
        "asked": len(asked),
        "asked_seconds": [min(asked, default=0.0), max(asked, default=0.0)],
        "asked_busiest_second": busiest_second(asked),
        "tried_early": sum(
            herd.tried[number] < at + seconds for number, (at, seconds) in herd.asked.items() if number in herd.tried
        ),
        "not_asked": herd.not_asked[:5],
        # The server is away for as long as it takes to start, and these two depend on that.
        "away_seconds": round(min(times, default=0.0) - min((at for at, _ in herd.asked.values()), default=0.0), 2),
        "returned": len(times),
        "returned_busiest_second": busiest_second(times),
        "complete": sum(texts == expected for texts in herd.read),
        "incomplete": [
            {
                "client": number,
                "state": herd.clients[number].state.name,
                "problem": str(herd.clients[number].problem),
                "read": texts,
            }
            for number, texts in enumerate(herd.read)
            if texts != expected
        ][:3],
        "handshakes_refused": herd.refused[:5],
    }


def busiest_second(times: Sequence[float]) -> int:
    """How many of these times are in one second, at most."""
    return max((sum(start <= each < start + 1 for each in times) for start in times), default=0)


async def until(true: Any, seconds: float) -> None:
    """Until it is true, or for that long."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        await deferLater(reactor, 0.05)


def main() -> int:
    options = parse(sys.argv[1:])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report = reported(run(options.clients, directory_of(options.directory, "herd-")))
    return 2 if report is None else 0


def parse(arguments: Sequence[str]) -> Namespace:
    """The options of the command line."""
    parser = ArgumentParser(
        prog="python -m tests.jepsen.herd",
        description="Restart a server with many clients, and print as JSON when they are back and whether they miss anything.",
    )
    parser.add_argument("clients", nargs="?", type=positive(int), default=1_000, help="how many clients [1000]")
    parser.add_argument(
        "directory", nargs="?", help="for the server's data and log [a new one in the directory for temporary files]"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
