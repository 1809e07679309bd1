"""A process around the SQLite store, for ``test_live_stores.py``, whose tests need one of its own.

``store_driver.py talk PATH``: one JSON array per line in, one JSON answer per line out: ``["append", key, …]`` → the numbers or
``"unavailable"``; ``["read"]`` → number and text of each event; ``["fill", file]`` and ``["free", file]``: take all space,
give it back.

``store_driver.py crash PATH ROUNDS SEED``: again and again a child opens the store and writes as fast as it can until it is
killed at a random moment; out: one line per round with the greatest number whose message it saw acknowledged.  What was under
way is sent again in the next round with the same keys, as a client does.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_chat.errors import Unavailable
from twisted_chat.events import Author, NewMessage
from twisted_chat.store_contract import Append, Appended, Duplicate
from twisted_chat.stores.sqlite.store import SQLiteStore
from twisted_chat.stores.workers import Threads

ALICE = Author("u1", "alice")
ROOM = "lobby"

#: Milliseconds that a child may live after its first acknowledgement, at most.
LIFE_MS = 40

T = TypeVar("T")


class Driven:
    """A store with its real threads, and this thread in the reactor's place."""

    def __init__(self, path: str) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., object], Sequence[object]]] = SimpleQueue()
        self._store = SQLiteStore(path, Clock(), Threads("writer"), Threads("reader"), self._call)
        self._wait(self._store.open())

    def _call(self, callable: Callable[..., object], /, *args: object) -> None:
        self._calls.put((callable, args))

    def _wait(self, answer: Deferred[T]) -> T:
        results: list[T | Failure] = []
        answer.addBoth(results.append)
        while not results:
            callable, args = self._calls.get()
            callable(*args)
        [result] = results
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def append(self, keys: Sequence[str]) -> list[int]:
        new_events = [NewMessage(ALICE, key, f"text of {key}") for key in keys]
        [outcomes] = self._wait(self._store.append([Append(ROOM, new_events)]))
        return [outcome.event.seq for outcome in outcomes if isinstance(outcome, Appended | Duplicate)]

    def read(self) -> list[tuple[int, str | None]]:
        events = self._wait(self._store.read(ROOM, 0, 1_000_000, 1_000_000_000))
        return [(event.seq, getattr(event, "text", None)) for event in events]

    def probe(self) -> str:
        self._wait(self._store.probe())
        return "ready"

    def close(self) -> None:
        self._wait(self._store.close())


def talk(path: str) -> None:
    driven = Driven(path)
    say("open")
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            say(answer(driven, command, arguments))
        except Unavailable:
            say("unavailable")
    driven.close()
    say("closed")


def answer(driven: Driven, command: str, arguments: Sequence[str]) -> object:
    match command:
        case "append":
            return driven.append(arguments)
        case "read":
            return driven.read()
        case "probe":
            return driven.probe()
        case "fill":
            return fill(arguments[0])
        case "free":
            os.unlink(arguments[0])
            return "free"
    raise AssertionError(command)


def fill(name: str) -> int:
    """Take what space there is; how many bytes it was."""
    written = 0
    with open(name, "wb", buffering=0) as file:
        for size in (65_536, 4_096, 512, 1):
            try:
                while True:
                    written += file.write(bytes(size))
            except OSError:
                continue
    return written


def say(answer: object) -> None:
    """One system call, so that a trace shows when it was said."""
    os.write(1, json.dumps(answer).encode() + b"\n")


def crash(path: str, rounds: int, seed: int) -> None:
    dice = random.Random(seed)
    acknowledged = 0
    for _ in range(rounds):
        acknowledged = max(acknowledged, one_life(path, acknowledged + 1, dice))
        say(acknowledged)


def one_life(path: str, begin: int, dice: random.Random) -> int:
    """A child that writes from number ``begin`` on until it is killed; the last number that it saw acknowledged."""
    out, into = os.pipe()
    child = os.fork()
    if not child:
        os.close(out)
        write_for_ever(path, begin, dice, into)
    os.close(into)
    with os.fdopen(out, "rb") as acknowledgements:
        first = acknowledgements.readline()
        time.sleep(dice.random() * LIFE_MS / 1000)  # the moment of the kill: it has to be a random one
        os.kill(child, signal.SIGKILL)
        rest = acknowledgements.read()
    os.waitpid(child, 0)
    whole = (first + rest).rpartition(b"\n")[0]
    return int(whole.split()[-1]) if whole else 0


def write_for_ever(path: str, begin: int, dice: random.Random, into: int) -> None:
    try:
        driven = Driven(path)
        while True:
            count = dice.choice([1, 1, 3, 100])
            driven.append([f"k{number}" for number in range(begin, begin + count)])
            begin += count
            os.write(into, b"%d\n" % (begin - 1))
    finally:
        os._exit(1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["talk", path]:
            talk(path)
        case ["crash", path, rounds, seed]:
            crash(path, int(rounds), int(seed))
