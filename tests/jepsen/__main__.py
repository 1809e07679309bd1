"""``python -m tests.jepsen [SECONDS] [SEED] [DIRECTORY]``: runs clients and faults, and prints a report as JSON (see ``--help``)."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.threads import deferToThread
from websockets.asyncio.client import connect

from tests.jepsen.checking import check
from tests.jepsen.nemesis import World
from tests.jepsen.program import directory_of, positive, reported
from tests.jepsen.record import Record, Seen
from tests.jepsen.worker import ROOM

reactor: Any = installed_reactor

#: Who takes part: three writers and two readers with our client, some by HTTP, one of each with ``websockets``.
WORKERS = {"w1": "writer", "w2": "writer", "w3": "writer", "r1": "reader", "r2": "reader", "x1": "raw", "x2": "raw"}
#: Each kind of fault happens so often at least.
TIMES = 3
#: The run goes on for at most so many times its seconds.
LONGEST = 4
#: Acknowledged messages below which a run says too little.
ENOUGH = 5_000
#: Seconds for everything to come to rest at the end; the longest wait that a client is asked for is 10.5.
REST = 45.0


def enough(world: World, lasted: float, seconds: float) -> bool:
    """Whether the time is over and each fault has had its effect often enough; on a busy machine not each try has one."""
    if lasted >= LONGEST * seconds:
        return True
    return lasted >= seconds and all(world.happened[fault.__name__] >= TIMES for fault in world.faults())


async def run(seconds: float, seed: int, directory: Path) -> dict[str, Any]:
    numbers = random.Random(seed)
    world = World(reactor, directory, numbers, WORKERS)
    began = time.monotonic()
    try:
        await world.wait(2.0)
        while not enough(world, time.monotonic() - began, seconds):
            faults = world.faults()
            numbers.shuffle(faults)
            for fault in faults:
                await fault()
                await world.wait(numbers.uniform(0.2, 1.0))
                if enough(world, time.monotonic() - began, seconds):
                    break
        lasted = time.monotonic() - began
        (directory / "quiet").touch()
        records, log = await rest(world, directory)
        for worker in world.workers.values():
            worker.send_signal(signal.SIGTERM)
    finally:
        for worker in world.workers.values():
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        world.end_server()
    writers = {name: record for name, record in records.items() if WORKERS[name] != "reader"}
    readers = {name: record for name, record in records.items() if WORKERS[name] != "writer"}
    wrong = check(log, writers, readers)
    acknowledged = sum(len(record.acknowledged) for record in writers.values())
    for fault in world.faults():
        if world.happened[fault.__name__] < TIMES:
            wrong.append(f"{fault.__name__} happened {world.happened[fault.__name__]} times, not {TIMES}")
    wrong += tracebacks(directory)
    if acknowledged < ENOUGH:
        wrong.append(f"only {acknowledged} messages were acknowledged, not {ENOUGH}")
    return {
        "seconds": round(lasted, 1),
        "seed": seed,
        "log": len(log),
        "acknowledged": acknowledged,
        "by": {name: len(record.acknowledged) for name, record in writers.items()},
        "connections": world.proxy.accepted,
        "faults": dict(world.happened),
        "effects": dict(world.effects),
        "wrong": wrong[:50],
        "wrong_count": len(wrong),
    }


def tracebacks(directory: Path) -> list[str]:
    """Whatever failed in a way that nobody had thought of."""
    files = [*directory.glob("*.log"), *directory.glob("*.err"), *directory.glob("server/std*")]
    return [
        f"{file.name}: {text[at : at + 3000]}"
        for file in sorted(files)
        if (at := (text := file.read_text(errors="replace")).find("Traceback")) >= 0
    ]


async def rest(world: World, directory: Path) -> tuple[dict[str, Record], list[Seen]]:
    """Wait until everything accepted is acknowledged and everybody has read everything, or for long enough."""
    deadline = time.monotonic() + REST
    while True:
        await world.wait(1.0)
        records = {name: Record(directory / f"{name}.record") for name in WORKERS}
        for record in records.values():
            record.close()
        log = await deferToThread(lambda: asyncio.run(whole_log(world.port)))
        done = not check(
            log,
            {name: record for name, record in records.items() if WORKERS[name] != "reader"},
            {name: record for name, record in records.items() if WORKERS[name] != "writer"},
        )
        if done or time.monotonic() > deadline:
            return records, log


async def whole_log(port: int) -> list[Seen]:
    """The log from its beginning, read by somebody who was not there."""
    log: list[Seen] = []
    async with connect(f"ws://127.0.0.1:{port}/ws", subprotocols=["chat.v1.json"]) as socket:  # type: ignore[list-item]
        await socket.send('{"type":"hello","id":1}')
        await socket.send(json.dumps({"type": "join", "id": 2, "room": ROOM, "tail": 2**53 - 1}))
        while True:
            said = json.loads(await asyncio.wait_for(socket.recv(), 20))
            if said["type"] == "event":
                writer, _, number = said["text"].partition(":")
                log.append(Seen(said["seq"], said["id"], writer, int(number)))
            elif said["type"] == "live":
                return log
            elif said["type"] == "ping":
                await socket.send('{"type":"pong"}')


def main() -> int:
    options = parse(sys.argv[1:])
    seed = random.randrange(1 << 30) if options.seed is None else options.seed
    report = reported(run(options.seconds, seed, directory_of(options.directory, "jepsen-")))
    return 2 if report is None else 1 if report["wrong"] else 0


def parse(arguments: Sequence[str]) -> Namespace:
    """The options of the command line."""
    parser = ArgumentParser(
        prog="python -m tests.jepsen",
        description="Let clients talk while a server is killed and its connections break, check that no message is lost, doubled "
        "or out of order, and print a report as JSON.  The exit status is 0 if nothing is wrong, 1 if something is, and 2 if the "
        "run itself failed.",
    )
    parser.add_argument("seconds", nargs="?", type=positive(float), default=60.0, help="how long there are faults, at least [60]")
    parser.add_argument("seed", nargs="?", type=int, help="repeats the random choices of an earlier run [random]")
    parser.add_argument("directory", nargs="?", help="for records and logs [a new one in the directory for temporary files]")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
