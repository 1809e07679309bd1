"""``python -m tests.jepsen [SECONDS] [SEED] [DIRECTORY]``: runs clients and faults, and prints a report as JSON (see ``--help``)."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from msgspec import Struct
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from websockets.asyncio.client import connect

from tests.jepsen import bugs
from tests.jepsen.checking import check
from tests.jepsen.nemesis import OneServer
from tests.jepsen.program import directory_of, positive, reported
from tests.jepsen.record import Record, Seen
from tests.jepsen.worker import ROOM
from tests.jepsen.world import Fault, World

reactor: Any = installed_reactor

#: Who takes part: three writers and two readers with our client, some by HTTP, one of each with ``websockets``.
WORKERS = {"w1": "writer", "w2": "writer", "w3": "writer", "r1": "reader", "r2": "reader", "x1": "raw", "x2": "raw"}
#: The run goes on for at most so many times its seconds.
LONGEST = 4
#: Each kind of fault happens so often at least.
TIMES = 3
#: Acknowledged messages below which a run says too little.
ENOUGH = 5_000
#: Seconds for everything to come to rest at the end; the longest wait that a client is asked for is 10.5.
REST = 45.0
#: Seconds after which whoever is not there is not shown any more, also where a server was killed.
GONE_SECONDS = 40.0
#: Seconds until all workers are there.
BEGINNING = 60.0


class Options(Struct, frozen=True):
    """What was asked for.

    :ivar nodes: of several; 0: one server with a database file.
    :ivar times: how often each kind of fault happens at least.
    :ivar faults: the names of those that happen; empty: all.
    """

    seconds: float
    seed: int
    directory: Path
    nodes: int = 0
    bug: str = ""
    times: int = TIMES
    faults: tuple[str, ...] = ()
    enough: int = ENOUGH
    rest: float = REST


def chosen_faults(world: World, options: Options) -> list[Fault]:
    """Those that are to happen."""
    found = [fault for fault in world.faults() if not options.faults or fault.__name__ in options.faults]
    assert len(found) == len(options.faults or found), options.faults
    return found


def enough(world: World, lasted: float, options: Options) -> bool:
    """Whether the time is over and each fault has had its effect often enough; on a busy machine not each try has one."""
    if lasted >= LONGEST * options.seconds:
        return True
    return lasted >= options.seconds and not any(rare(world, options))


def rare(world: World, options: Options) -> Iterator[str]:
    """The faults that did not happen often enough."""
    for fault in chosen_faults(world, options):
        if world.happened[fault.__name__] < options.times:
            yield f"{fault.__name__} happened {world.happened[fault.__name__]} times, not {options.times}"


def make_world(options: Options, numbers: random.Random) -> World:
    if not options.nodes:
        return OneServer(reactor, options.directory, numbers, WORKERS)
    from tests.jepsen.nodes import Nodes

    return Nodes(reactor, options.directory, numbers, WORKERS, options.nodes, options.bug)


async def run(options: Options) -> dict[str, Any]:
    directory = options.directory
    numbers = random.Random(options.seed)
    world = make_world(options, numbers)
    try:
        await world.begin()
        await everybody_talks(world)
        began = time.monotonic()
        while not enough(world, time.monotonic() - began, options):
            faults = chosen_faults(world, options)
            numbers.shuffle(faults)
            for fault in faults:
                together = [fault, world.meanwhile(fault, faults)]
                await gatherResults([Deferred.fromCoroutine(one()) for one in together if one is not None])
                await world.wait(numbers.uniform(0.2, 1.0))
                if enough(world, time.monotonic() - began, options):
                    break
        lasted = time.monotonic() - began
        await world.calm()
        (directory / "quiet").touch()
        records, logs = await rest(world, options)
        world.heal()
        wrong = [*world.complaints(), *await strangers(world)]
        for worker in world.workers.values():
            worker.send_signal(signal.SIGTERM)
    finally:
        world.end_workers()
        world.end_servers()
    if any(log != logs[0] for log in logs):
        wrong.append(f"the servers show different logs, of {[len(log) for log in logs]} events")
    log = max(logs, key=len)
    wrong += check(log, *writers_and_readers(records))
    wrong += [*rare(world, options), *tracebacks(directory)]
    acknowledged = {name: len(record.acknowledged) for name, record in writers_and_readers(records)[0].items()}
    if sum(acknowledged.values()) < options.enough:
        wrong.append(f"only {sum(acknowledged.values())} messages were acknowledged, not {options.enough}")
    return {
        "seconds": round(lasted, 1),
        "seed": options.seed,
        "log": len(log),
        "acknowledged": sum(acknowledged.values()),
        "by": acknowledged,
        "connections": sum(proxy.accepted for proxy in world.proxies()),
        "servers_visited": world.visited(),
        "faults": dict(world.happened),
        "effects": dict(world.effects),
        "wrong": wrong[:50],
        "wrong_count": len(wrong),
    }


async def everybody_talks(world: World) -> None:
    """Wait until each worker has something to write down."""
    deadline = time.monotonic() + BEGINNING
    files = [world.directory / f"{name}.record" for name in WORKERS]
    while not all(file.exists() and file.stat().st_size for file in files):
        assert time.monotonic() < deadline, [file.name for file in files if not file.exists()]
        await world.wait(0.1)


Records: TypeAlias = dict[str, Record]


def writers_and_readers(records: Records) -> tuple[Records, Records]:
    """Who wrote, and who read; some did both."""
    writers = {name: record for name, record in records.items() if WORKERS[name] != "reader"}
    readers = {name: record for name, record in records.items() if WORKERS[name] != "writer"}
    return writers, readers


def tracebacks(directory: Path) -> list[str]:
    """Whatever failed in a way that nobody had thought of."""
    files = [*directory.glob("*.log"), *directory.glob("*.err"), *directory.glob("server/std*"), *directory.glob("node-*/*/std*")]
    return [
        f"{file.relative_to(directory)}: {text[at : at + 3000]}"
        for file in sorted(files)
        if (at := (text := file.read_text(errors="replace")).find("Traceback")) >= 0
    ]


async def rest(world: World, options: Options) -> tuple[Records, list[list[Seen]]]:
    """Wait until everything accepted is acknowledged and everybody has read everything, or for long enough.

    :returns: what everybody wrote down, and the log as each server shows it.
    """
    deadline = time.monotonic() + options.rest
    while True:
        await world.wait(1.0)
        # In a thread, because the proxies go on here.
        records = await deferToThread(read_records, options.directory)
        if at_rest(records) or time.monotonic() > deadline:
            logs = [await deferToThread(lambda port=port: asyncio.run(whole_log(port))) for port in world.ports()]  # type: ignore[misc]
            done = all(log == logs[0] for log in logs) and len(logs[0]) == len(records["r1"].seen)
            if done or time.monotonic() > deadline:
                return records, logs


def read_records(directory: Path) -> Records:
    """What everybody has written down so far."""
    records = {name: Record(directory / f"{name}.record") for name in WORKERS}
    for record in records.values():
        record.close()
    return records


def at_rest(records: Records) -> bool:
    """Whether nobody seems to wait for anything."""
    writers, readers = writers_and_readers(records)
    waiting = any(len(record.acknowledged) < len(record.accepted) for record in writers.values())
    return not waiting and len({len(record.seen) for record in readers.values()}) == 1


async def strangers(world: World) -> list[str]:
    """Where somebody is shown to be there who is not, or not shown who is; after time enough for the servers to notice."""
    deadline = time.monotonic() + GONE_SECONDS
    while True:
        found: list[str] = []
        for number, port in enumerate(world.ports(), 1):
            people = await deferToThread(lambda port=port: asyncio.run(present(port)))  # type: ignore[misc]
            if people != dict.fromkeys(WORKERS, 1):
                found.append(f"presence: server {number} shows {people}")
        if not found or time.monotonic() > deadline:
            return found
        await world.wait(1.0)


async def present(port: int) -> dict[str, int]:
    """Who is in the room, with how many connections; without those who only looked at the log."""
    async with connect(f"ws://127.0.0.1:{port}/ws", subprotocols=["chat.v1.json"]) as socket:  # type: ignore[list-item]
        await socket.send('{"type":"hello","id":1,"name":"looks"}')
        await socket.send(json.dumps({"type": "join", "id": 2, "room": ROOM}))
        await socket.send(json.dumps({"type": "presence", "id": 3, "room": ROOM}))
        while True:
            said = json.loads(await asyncio.wait_for(socket.recv(), 20))
            if said["type"] == "error":
                raise AssertionError(said)
            if said.get("id") == 3:
                return {one["name"]: one["connections"] for one in said["people"] if not one["name"].startswith("looks")}


async def whole_log(port: int) -> list[Seen]:
    """The log from its beginning, read by somebody who was not there."""
    log: list[Seen] = []
    async with connect(f"ws://127.0.0.1:{port}/ws", subprotocols=["chat.v1.json"]) as socket:  # type: ignore[list-item]

        async def keep_alive() -> None:
            """However long the way to the server's next ping is."""
            while True:
                await socket.send('{"type":"pong"}')
                await asyncio.sleep(0.5)

        await socket.send('{"type":"hello","id":1,"name":"looks"}')
        await socket.send(json.dumps({"type": "join", "id": 2, "room": ROOM, "tail": 2**53 - 1}))
        alive = asyncio.create_task(keep_alive())
        while True:
            said = json.loads(await asyncio.wait_for(socket.recv(), 20))
            if said["type"] == "event":
                writer, _, number = said.get("text", f"~:{said['seq']}").partition(":")
                log.append(Seen(said["seq"], said["id"], writer, int(number)))
            elif said["type"] == "live":
                alive.cancel()
                return log


def parse(arguments: Sequence[str]) -> Options:
    """The options of the command line."""
    parser = ArgumentParser(
        prog="python -m tests.jepsen",
        description="Let clients talk while servers are killed and connections break, check that no message is lost, doubled "
        "or out of order, and print a report as JSON.  The exit status is 0 if nothing is wrong, 1 if something is, and 2 if the "
        "run itself failed.",
    )
    add = parser.add_argument
    add("seconds", nargs="?", type=positive(float), default=60.0, help="how long there are faults, at least [60]")
    add("seed", nargs="?", type=int, help="repeats the random choices of an earlier run [random]")
    add("directory", nargs="?", help="for records and logs [a new one in the directory for temporary files]")
    add("--nodes", type=positive(int), default=0, help="so many servers on one PostgreSQL [one server with a database file]")
    add("--times", type=positive(int), default=TIMES, help=f"how often each fault happens, at least [{TIMES}]")
    add("--enough", type=positive(int), default=ENOUGH, help=f"how many messages are acknowledged, at least [{ENOUGH}]")
    add("--rest", type=positive(float), default=REST, help=f"seconds for everything to come to rest at the end [{REST:g}]")
    add("--faults", default="", help="names, separated by commas [all]")
    add("--bug", choices=bugs.NAMES, default="", help="a bug that has to be found, with --nodes [none]")
    given = parser.parse_args(arguments)
    return Options(
        seconds=given.seconds,
        seed=random.randrange(1 << 30) if given.seed is None else given.seed,
        directory=directory_of(given.directory, "jepsen-"),
        nodes=given.nodes,
        bug=given.bug,
        times=given.times,
        faults=tuple(filter(None, given.faults.split(","))),
        enough=given.enough,
        rest=given.rest,
    )


def main() -> int:
    report = reported(run(parse(sys.argv[1:])))
    return 2 if report is None else 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
