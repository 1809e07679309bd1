"""The command: options to a verb, the verb's end to an exit status.

``twisted-chat VERB --help`` explains each verb; :class:`~twisted_chat.shell.world.Status` has the exit statuses.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from functools import partial
from inspect import iscoroutinefunction
from threading import Thread
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import FilteringLogObserver, ILogObserver, LogEvent, LogLevel, LogLevelFilterPredicate, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

import twisted_chat
from twisted_chat.service.log import text_line, visible, without_secrets
from twisted_chat.shell import connection, store
from twisted_chat.shell.doctor import doctor
from twisted_chat.shell.sending import send
from twisted_chat.shell.tailing import tail
from twisted_chat.shell.talking import talk
from twisted_chat.shell.world import ShellError, Status, World
from twisted_chat.words.errors import ChatError
from twisted_chat.words.names import room_name
from twisted_chat.words.store import StoreError

STATUSES = """exit statuses:
  0  done                    4  the server refuses (token, rights)
  1  not all of it was done  5  the store or a file cannot be used
  2  wrong command line      130  interrupted
  3  no server               141  nobody reads the output any more
"""


class _Parser(ArgumentParser):
    """One line for an error, and where to read more."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"twisted-chat: {visible(without_secrets(message))}; see {self.prog} --help\n")
        raise SystemExit(Status.USAGE)


def parser() -> ArgumentParser:
    """All verbs."""
    top = _Parser(
        prog="twisted-chat",
        description="A chat from the shell: say something, read, and look after the server's store.",
        epilog=STATUSES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"twisted_chat {twisted_chat.__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True, parser_class=_Parser)
    _client_verbs(verbs)
    _token_verbs(verbs)
    _room_verbs(verbs)
    _log_verbs(verbs)
    verb = _verb(verbs, "doctor", doctor, "look for what keeps the server from starting or being reached", store.add_options)
    connection.add_options(verb)
    return top


def _client_verbs(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "send",
        send,
        "say something in a room",
        connection.add_options,
        "Ends with 0 only when everything is acknowledged, which means on the server's disk.  Without TEXT each line of the\n"
        "standard input is a message.  When it is interrupted it names a --key: the same command with it, and the same\n"
        "lines, sends what is missing and nothing twice.",
    )
    _room_argument(verb)
    verb.add_argument("text", metavar="TEXT", nargs="?", help="the message [the lines of the standard input]")
    verb.add_argument("--key", metavar="KEY", help="names this sending; what was kept under it is not said again [random]")

    verb = _verb(
        verbs,
        "tail",
        tail,
        "print the end of a room's log",
        connection.add_options,
        "What others wrote is escaped, so that it cannot act on the terminal.",
    )
    _room_argument(verb)
    verb.add_argument("-n", "--lines", metavar="COUNT", type=_count, default=10, help="so many of the last events [10]")
    verb.add_argument("--since", metavar="N", type=_count, help="all events after number N instead; 0: from the beginning")
    verb.add_argument("-f", "--follow", action="store_true", help="go on with what comes, over all reconnections")

    verb = _verb(
        verbs,
        "talk",
        talk,
        "be in a room: type below, read above",
        connection.add_options,
        "Where input or output is no terminal, lines go in and out as they are; the end of the input is the end.",
    )
    _room_argument(verb)
    verb.add_argument("-n", "--lines", metavar="COUNT", type=_count, default=10, help="so many of the last events first [10]")


def _token_verbs(verbs: Any) -> None:
    tokens = _group(verbs, "token", "make, list and revoke tokens")
    verb = _verb(
        tokens,
        "create",
        store.create_token,
        "make a token and show it, once",
        store.add_options,
        "The token alone goes to the standard output.  A running server knows it at once.",
    )
    verb.add_argument("name", metavar="NAME", help="what its bearer is called")
    verb.add_argument("--person", metavar="ID", help="whose token it is, u… and the same for all tokens of a person [a new one]")
    verb.add_argument("--expires", metavar="AGE", help="good for so long: 12h, 90d, 4w [for ever]")
    verb.add_argument("--right", metavar="RIGHT", action="append", choices=("moderate", "metrics"), help="moderate or metrics")
    _verb(tokens, "list", store.list_tokens, "show all tokens, not their secrets", store.add_options)
    verb = _verb(
        tokens,
        "revoke",
        store.revoke_tokens,
        "end tokens",
        store.add_options,
        "A running server ends their connections within seconds.",
    )
    verb.add_argument("id", metavar="ID", nargs="+", help="as token list shows it")


def _room_verbs(verbs: Any) -> None:
    rooms = _group(verbs, "room", "list, make and archive rooms")
    _verb(rooms, "list", store.list_rooms, "show the rooms in the store", store.add_options)
    verb = _verb(
        rooms,
        "create",
        store.create_room,
        "make a room",
        store.add_options,
        "For servers where joining makes none (create_rooms).",
    )
    _room_argument(verb)
    verb = _verb(
        rooms,
        "archive",
        store.archive_room,
        "close a room for writing",
        store.add_options,
        "Everybody may still read.  A running server notices within seconds.",
    )
    _room_argument(verb)
    verb.add_argument("--undo", action="store_true", help="open it again")


def _log_verbs(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "export",
        store.export,
        "write logs as JSON lines",
        store.add_options,
        "One committed state, also while the server runs.  Tokens and read marks are not part of it.",
    )
    verb.add_argument("room", metavar="ROOM", nargs="*", help="these rooms [all]")
    verb.add_argument("-o", "--output", metavar="FILE", help="a new file [the standard output]")
    verb = _verb(
        verbs,
        "import",
        store.import_,
        "read an export into a store",
        store.add_options,
        "All or nothing, with numbers, ids, times and authors as they were, into rooms that are empty.  The server must not run.",
    )
    verb.add_argument("file", metavar="FILE", help="an export; -: the standard input")
    verb = _verb(
        verbs,
        "backup",
        store.backup,
        "copy the database, also while the server runs",
        store.add_options,
        "The copy is one committed state.  It is verified before it gets its name, and nothing is left when that fails.",
    )
    verb.add_argument("target", metavar="TARGET", help="a new file")


def _verb(
    verbs: Any, name: str, run: Callable[..., Any], summary: str, options: Callable[[ArgumentParser], None], more: str = ""
) -> ArgumentParser:
    verb: ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.{f'{chr(10)}{chr(10)}{more}' if more else ''}",
        epilog=STATUSES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    verb.set_defaults(run=run)
    verb.add_argument("--json", action="store_true", help="JSON lines, also for the error")
    verb.add_argument("--verbose", action="store_true", help="what happens, on the standard error")
    options(verb)
    return verb


def _group(verbs: Any, name: str, summary: str) -> Any:
    group: ArgumentParser = verbs.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    return group.add_subparsers(metavar="VERB", required=True, parser_class=_Parser)


def _room_argument(verb: ArgumentParser) -> None:
    verb.add_argument("room", metavar="ROOM", type=_room, help="the room's name")


def _room(raw: str) -> str:
    try:
        return room_name(raw)
    except ChatError as error:
        raise ArgumentTypeError(error.message) from None


def _count(raw: str) -> int:
    value = int(raw)
    if not 0 <= value < 2**53:
        raise ValueError
    return value


def main() -> NoReturn:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = parser().parse_args()
    world = real_world()
    _begin_log(args.verbose)
    status = run(args, world)
    try:
        sys.stdout.flush()
    except OSError:
        status = Status.NO_READER
    if status == Status.NO_READER:
        # What is buffered cannot be written, and Python would complain of it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(int(status))


def run(args: Namespace, world: World) -> int:
    """Do what the options say; what goes wrong is one line."""
    try:
        if iscoroutinefunction(args.run):
            return _with_reactor(args, world)
        status: int = args.run(args, world)
        return status
    except Exception as error:
        return ended(error, args, world)
    except KeyboardInterrupt:
        return Status.INTERRUPTED


def ended(error: Exception, args: Namespace, world: World) -> int:
    """Say what went wrong; the exit status for it."""
    match error:
        case BrokenPipeError():
            return Status.NO_READER
        case CancelledError():
            return Status.INTERRUPTED
        case ShellError():
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
        world.stderr.write(json.dumps({"error": without_secrets(line), "status": int(status)}) + "\n")
    else:
        world.note(f"twisted-chat: {line}")
    return status


def real_world() -> World:
    """This process's."""
    return World(
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


def _with_reactor(args: Namespace, world: World) -> int:
    from twisted.internet import reactor as installed

    reactor: Any = installed
    world.reactor = reactor
    results: list[object] = []
    interrupted: list[int] = []
    works: list[Deferred[int]] = []

    def begin() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, frame: reactor.callFromThread(interrupt, number))
        work: Deferred[int] = Deferred.fromCoroutine(args.run(args, world))
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
    """Blocking reads of the standard input: a daemon, because an end must not wait for somebody to type."""
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
    """The client's own log is for programs; here it is told only on request."""

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        sys.stderr.write(text_line(event) + "\n")

    observers = []
    if verbose:
        predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
        observers.append(FilteringLogObserver(observe, [predicate]))
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False, discardBuffer=True)
