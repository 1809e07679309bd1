"""Three servers behind HAProxy are restarted one after the other while 500 messages a second are sent.

``python -m tests.jepsen.rolling [DIRECTORY]`` prints a report as JSON (see ``--help``): what was lost, when the clients came back, and
for how long a writer waited at most.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.task import LoopingCall, deferLater

from tests.harness.cluster import Cluster
from tests.harness.postgresql import PostgreSQL
from tests.harness.waiting import until
from tests.jepsen.program import directory_of, reported
from twisted_chat.client import ChatClient, Message, State

reactor: Any = installed_reactor

#: Each writer says one message each BEAT seconds in a room of its own, and waits for nothing: 500 messages a second in all.
WRITERS = 25
BEAT = 0.05
#: They read all rooms.
READERS = 2
#: They only are there, so that many have to move.
IDLE = 60
#: Seconds before, between and after the restarts.
QUIET = 2.0


class Writer:
    """Sends numbers, and measures how long each takes to be acknowledged.

    :ivar longest: seconds, of the slowest message so far.
    """

    def __init__(self, client: ChatClient, room: str) -> None:
        self.room = client.room(room)
        self.sent = self.acknowledged = 0
        self.longest = 0.0
        self.failed: list[str] = []
        self.loop = LoopingCall.withCount(self.say)
        self.loop.clock = reactor

    def say(self, beats: int) -> None:
        """One message for each beat, also for those that a busy machine has missed."""
        for _ in range(beats):
            self._say_one()

    def _say_one(self) -> None:
        self.sent += 1
        began = reactor.seconds()

        def acknowledged(_: object) -> None:
            self.acknowledged += 1
            self.longest = max(self.longest, reactor.seconds() - began)

        self.room.send(str(self.sent)).addCallbacks(acknowledged, lambda failure: self.failed.append(str(failure.value)))


class People:
    """All clients, and what became of them."""

    def __init__(self, url: str) -> None:
        rooms = [f"load-{number}" for number in range(WRITERS)]
        self.clients = [ChatClient(reactor, url, name=f"p{number}") for number in range(WRITERS + READERS + IDLE)]
        self.writers = [Writer(client, room) for client, room in zip(self.clients, rooms, strict=False)]
        self.read: list[dict[str, list[str]]] = []
        for client in self.clients[WRITERS : WRITERS + READERS]:
            texts: dict[str, list[str]] = {room: [] for room in rooms}
            self.read.append(texts)
            for room in rooms:
                client.room(room).on(Message, lambda event, found=texts[room]: found.append(event.text))  # type: ignore[misc]
        for client in self.clients[WRITERS + READERS :]:
            client.room("idle")
        for client in self.clients:
            client.watch(self.changed)
        self.told: list[float] = []
        self.returned: list[float] = []

    def changed(self, client: ChatClient) -> None:
        if client.state is State.ONLINE:
            self.returned.append(reactor.seconds())
        elif client.state is State.WAITING:
            self.told.append(getattr(client.problem, "retry_after", None) or 0.0)

    def all_joined(self) -> bool:
        return all(room.joined is not None for client in self.clients for room in client.rooms.values())

    def all_online(self) -> bool:
        return all(client.state is State.ONLINE for client in self.clients)

    def lost(self) -> list[str]:
        """What is missing, doubled or out of order."""
        wrong = [f"{len(writer.failed)} failed: {writer.failed[0]}" for writer in self.writers if writer.failed]
        for texts in self.read:
            for writer, found in zip(self.writers, texts.values(), strict=True):
                if found != [str(number) for number in range(1, writer.sent + 1)]:
                    wrong.append(
                        f"{writer.room.name}: {len(found)} were read, {writer.sent} sent, {writer.acknowledged} acknowledged"
                    )
        return wrong


async def restart(cluster: Cluster, number: int, people: People) -> dict[str, Any]:
    """Restart one server; what that was for the clients."""
    for writer in people.writers:
        writer.longest = 0.0
    people.told, people.returned = [], []
    server = cluster.servers[number]
    server.process.send_signal(signal.SIGTERM)
    await until(lambda: server.process.poll() is not None)
    status = server.process.returncode
    server.__exit__(None, None, None)
    began = reactor.seconds()
    cluster.servers[number] = started = cluster.started(number)

    def ready() -> bool:
        try:
            started.wait_for("READY=1", 0)
        except AssertionError:
            assert started.process.poll() is None, started.stdout + started.stderr
            return False
        return True

    await until(ready)
    start_seconds = reactor.seconds() - began
    await until(people.all_online)
    await deferLater(reactor, QUIET)
    # Who was refused by a server that had begun to end was told another time, too.
    told = [seconds for seconds in people.told if seconds]
    return {
        "status": status,
        "start_seconds": round(start_seconds, 2),
        "moved": len(people.returned),
        "told_seconds": round(max(told, default=0.0), 2),
        "told_in_a_quarter_second": busiest(told),
        "returned_in_a_quarter_second": busiest(people.returned),
        "longest_pause": round(max(writer.longest for writer in people.writers), 2),
    }


def busiest(moments: list[float]) -> int:
    """The most of them in a quarter of a second."""
    return max((sum(begin <= each < begin + 0.25 for each in moments) for begin in moments), default=0)


async def run(directory: Path) -> dict[str, Any]:
    postgres = PostgreSQL()
    with Cluster(directory, postgres) as cluster:
        people = People(cluster.behind_haproxy())
        for client in people.clients:
            client.startService()
            await deferLater(reactor, 0.01)
        await until(people.all_joined)
        for writer in people.writers:
            await deferLater(reactor, BEAT / WRITERS)
            writer.loop.start(BEAT)
        began, before = time.monotonic(), sum(writer.sent for writer in people.writers)
        await deferLater(reactor, QUIET)
        calm = round(max(writer.longest for writer in people.writers), 2)
        restarts = [await restart(cluster, number, people) for number in random.sample(range(3), 3)]
        rate = (sum(writer.sent for writer in people.writers) - before) / (time.monotonic() - began)
        for writer in people.writers:
            writer.loop.stop()
        await until(lambda: all(writer.acknowledged == writer.sent for writer in people.writers))
        sent = sum(writer.sent for writer in people.writers)
        await until(lambda: all(sum(map(len, texts.values())) >= sent for texts in people.read))
        for client in people.clients:
            client.stopService()
        await until(lambda: all(client.state is State.STOPPED for client in people.clients))
    return {
        "per_second": round(rate),
        "sent": sent,
        "wrong": people.lost(),
        "longest_without_restart": calm,
        "restarts": restarts,
    }


def main() -> int:
    parser = ArgumentParser(
        prog="python -m tests.jepsen.rolling",
        description="Restart three servers behind HAProxy one after the other while 500 messages a second are sent, and print a "
        "report as JSON.  The exit status is 0 if nothing is lost, 1 if something is, and 2 if the run itself failed.",
    )
    parser.add_argument("directory", nargs="?", help="for the logs [a new one in the directory for temporary files]")
    report = reported(run(directory_of(parser.parse_args().directory, "rolling-")))
    return 2 if report is None else 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
