"""The entry point: runs the verb that the options name, and turns its result into an exit status.

``twisted-chat VERB --help`` explains each verb; :class:`~twisted_chat.cli.output.Status` lists the exit statuses.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from importlib import import_module
from inspect import iscoroutinefunction
from threading import Thread
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import FilteringLogObserver, ILogObserver, LogEvent, LogLevel, LogLevelFilterPredicate, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_chat.cli.options import parser
from twisted_chat.cli.output import CliError, CommandContext, Status
from twisted_chat.errors import ChatError
from twisted_chat.server.logging import text_line, without_secrets
from twisted_chat.store_contract import StoreError


def main() -> NoReturn:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = parser().parse_args()
    context = real_context()
    _begin_log(args.verbose)
    status = run(args, context)
    try:
        sys.stdout.flush()
    except OSError:
        status = Status.NO_READER
    if status == Status.NO_READER:
        # Buffered output cannot be written, and Python would report that at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(int(status))


def run(args: Namespace, context: CommandContext) -> int:
    """Run the verb and return the exit status; an error is printed as one line."""
    try:
        module, _, function = args.run.partition(".")
        verb = getattr(import_module(f"twisted_chat.cli.{module}"), function)
        if iscoroutinefunction(verb):
            return _with_reactor(verb, args, context)
        status: int = verb(args, context)
        return status
    except Exception as error:
        return ended(error, args, context)
    except KeyboardInterrupt:
        return Status.INTERRUPTED


def ended(error: Exception, args: Namespace, context: CommandContext) -> int:
    """Print the error; returns its exit status."""
    match error:
        case BrokenPipeError():
            return Status.NO_READER
        case CancelledError():
            return Status.INTERRUPTED
        case CliError():
            status = error.status
        case StoreError():
            status = Status.STORE
        case ChatError():
            status = Status.FAILED
        case OSError():
            status = Status.STORE
            error = OSError(f"{error.filename or 'a file'}: {error.strerror or error}")
        case _:
            raise error
    line = " ".join(str(error).split())
    if args.json:
        context.stderr.write(json.dumps({"error": without_secrets(line), "status": int(status)}) + "\n")
    else:
        context.note(f"twisted-chat: {line}")
    return status


def real_context() -> CommandContext:
    """The context of this process."""
    return CommandContext(
        stdout=sys.stdout,
        stderr=sys.stderr,
        environ=os.environ,
        read=partial(os.read, 0),
        in_thread=_in_thread,
        now_seconds=time.time,
        input_terminal=os.isatty(0),
        output_terminal=sys.stdout.isatty(),
        error_terminal=sys.stderr.isatty(),
    )


def _with_reactor(verb: Callable[[Namespace, CommandContext], Any], args: Namespace, context: CommandContext) -> int:
    from twisted.internet import reactor as installed

    reactor: Any = installed
    context.reactor = reactor
    results: list[object] = []
    interrupted: list[int] = []
    works: list[Deferred[int]] = []

    def begin() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, frame: reactor.callFromThread(interrupt, number))
        work: Deferred[int] = Deferred.fromCoroutine(verb(args, context))
        works.append(work)
        work.addBoth(results.append)
        work.addBoth(lambda _: reactor.stop())

    def interrupt(number: int) -> None:
        if interrupted:
            os._exit(128 + number)
        interrupted.append(number)
        works[0].cancel()

    reactor.callWhenRunning(begin)
    reactor.run()
    (result,) = results or [Status.INTERRUPTED]
    if interrupted:
        return 128 + interrupted[0]
    if isinstance(result, Failure):
        result.raiseException()
    assert isinstance(result, int), result
    return result


def _in_thread(work: Callable[[], bytes]) -> Deferred[bytes]:
    """Run a blocking read of the standard input in a daemon thread, so that the exit does not wait for input."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    answer: Deferred[bytes] = Deferred()

    def do() -> None:
        try:
            found = work()
        except Exception:
            reactor.callFromThread(answer.errback, Failure())
        else:
            reactor.callFromThread(answer.callback, found)

    Thread(target=do, daemon=True).start()
    return answer


def _begin_log(verbose: bool) -> None:
    """Print the client's log only with ``--verbose``."""

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        sys.stderr.write(text_line(event) + "\n")

    observers = []
    if verbose:
        predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
        observers.append(FilteringLogObserver(observe, [predicate]))
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False, discardBuffer=True)
