"""What the programs of this package share: options, directory, reactor and report."""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import ArgumentTypeError
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred

Number = TypeVar("Number", int, float)


def positive(kind: Callable[[str], Number]) -> Callable[[str], Number]:
    """A type for argparse: a number more than 0."""

    def read(raw: str) -> Number:
        try:
            value = kind(raw)
        except ValueError:
            value = kind("0")
        if not 0 < value < float("inf"):
            raise ArgumentTypeError(f"{raw!a} is not a number more than 0")
        return value

    return read


def directory_of(given: str | None, prefix: str) -> Path:
    """The directory of the command line, made if it is not there, or a new temporary one."""
    directory = Path(tempfile.mkdtemp(prefix=prefix) if given is None else given).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def reported(running: Coroutine[Deferred[Any], Any, dict[str, Any]]) -> dict[str, Any] | None:
    """Run it with the reactor and print its result as JSON; None, and a traceback, if it failed."""
    reactor: Any = installed_reactor
    results: list[Any] = []

    def start() -> None:
        done = Deferred.fromCoroutine(running)
        done.addBoth(results.append)
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    (result,) = results
    if not isinstance(result, dict):
        # Nothing else reads what Twisted logs.
        result.printTraceback(sys.stderr)
        return None
    print(json.dumps(result, indent=1))
    return result
