"""The command line: every verb with its options and its help.

A verb is named by its module and function here and imported when it is done, because a shell starts the command for each message.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable
from typing import Any, NoReturn

from twisted_chat.cli.output import Status
from twisted_chat.errors import ChatError
from twisted_chat.names import room_name
from twisted_chat.server.logging import visible, without_secrets
from twisted_chat.version import __version__

DEFAULT_URL = "ws://127.0.0.1:8080"
#: Seconds: a restart of the server with its drain fits.
WAIT_SECONDS = 30.0
TOKEN, URL = "TWISTED_CHAT_TOKEN", "TWISTED_CHAT_URL"

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
    top.add_argument("--version", action="version", version=f"twisted_chat {__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True, parser_class=_Parser)
    _client_verbs(verbs)
    _token_verbs(verbs)
    _room_verbs(verbs)
    _log_verbs(verbs)
    verb = _verb(verbs, "doctor", "doctor.doctor", "look for what keeps the server from starting or being reached", _of_store)
    _of_client(verb)
    return top


def _client_verbs(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "send",
        "send.send",
        "say something in a room",
        _of_client,
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
        "tail.tail",
        "print the end of a room's log",
        _of_client,
        "What others wrote is escaped, so that it cannot act on the terminal.",
    )
    _room_argument(verb)
    verb.add_argument("-n", "--lines", metavar="COUNT", type=_count, default=10, help="so many of the last events [10]")
    verb.add_argument("--since", metavar="N", type=_count, help="all events after number N instead; 0: from the beginning")
    verb.add_argument("-f", "--follow", action="store_true", help="go on with what comes, over all reconnections")

    verb = _verb(
        verbs,
        "talk",
        "talk.talk",
        "be in a room: type below, read above",
        _of_client,
        "Where input or output is no terminal, lines go in and out as they are; the end of the input is the end.",
    )
    _room_argument(verb)
    verb.add_argument("-n", "--lines", metavar="COUNT", type=_count, default=10, help="so many of the last events first [10]")


def _token_verbs(verbs: Any) -> None:
    tokens = _group(verbs, "token", "make, list and revoke tokens")
    verb = _verb(
        tokens,
        "create",
        "admin.create_token",
        "make a token and show it, once",
        _of_store,
        "The token alone goes to the standard output.  A running server knows it at once.",
    )
    verb.add_argument("name", metavar="NAME", help="what its bearer is called")
    verb.add_argument("--person", metavar="ID", help="whose token it is, u… and the same for all tokens of a person [a new one]")
    verb.add_argument("--expires", metavar="AGE", help="good for so long: 12h, 90d, 4w [for ever]")
    verb.add_argument("--right", metavar="RIGHT", action="append", choices=("moderate", "metrics"), help="moderate or metrics")
    _verb(tokens, "list", "admin.list_tokens", "show all tokens, not their secrets", _of_store)
    verb = _verb(
        tokens,
        "revoke",
        "admin.revoke_tokens",
        "end tokens",
        _of_store,
        "A running server ends their connections within seconds.",
    )
    verb.add_argument("id", metavar="ID", nargs="+", help="as token list shows it")


def _room_verbs(verbs: Any) -> None:
    rooms = _group(verbs, "room", "list, make and archive rooms")
    _verb(rooms, "list", "admin.list_rooms", "show the rooms in the store", _of_store)
    verb = _verb(
        rooms,
        "create",
        "admin.create_room",
        "make a room",
        _of_store,
        "For servers where joining makes none (create_rooms).",
    )
    _room_argument(verb)
    verb = _verb(
        rooms,
        "archive",
        "admin.archive_room",
        "close a room for writing",
        _of_store,
        "Everybody may still read.  A running server notices within seconds.",
    )
    _room_argument(verb)
    verb.add_argument("--undo", action="store_true", help="open it again")


def _log_verbs(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "export",
        "transfer.export",
        "write logs as JSON lines",
        _of_store,
        "One committed state, also while the server runs.  Tokens and read marks are not part of it.",
    )
    verb.add_argument("room", metavar="ROOM", nargs="*", help="these rooms [all]")
    verb.add_argument("-o", "--output", metavar="FILE", help="a new file [the standard output]")
    verb = _verb(
        verbs,
        "import",
        "transfer.import_",
        "read an export into a store",
        _of_store,
        "All or nothing, with numbers, ids, times and authors as they were, into rooms that are empty.  The server must not run.",
    )
    verb.add_argument("file", metavar="FILE", help="an export; -: the standard input")
    verb = _verb(
        verbs,
        "backup",
        "admin.backup",
        "copy the database, also while the server runs",
        _of_store,
        "The copy is one committed state.  It is verified before it gets its name, and nothing is left when that fails.",
    )
    verb.add_argument("target", metavar="TARGET", help="a new file")


def _verb(
    verbs: Any, name: str, run: str, summary: str, options: Callable[[ArgumentParser], None], more: str = ""
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


def _of_client(parser: ArgumentParser) -> None:
    """Where the server is and who we are."""
    group = parser.add_argument_group("the server, and who you are")
    group.add_argument(
        "--url",
        metavar="URL",
        help=f"ws://…, wss://… or a client endpoint string such as unix:/run/chat.sock [${URL}, else {DEFAULT_URL}]",
    )
    group.add_argument("--token", help="who you are; other users of this machine can see it, so rather use the next")
    group.add_argument("--token-file", metavar="FILE", help=f"a file with the token in it [else the variable {TOKEN}]")
    group.add_argument("--name", help="a guest's name [the server makes one up]")
    group.add_argument("--trust", metavar="FILE", help="certificates (PEM) that may sign the server's [the system's]")
    group.add_argument(
        "--wait",
        metavar="SECONDS",
        type=float,
        default=WAIT_SECONDS,
        help=f"give up after so long without a connection; 0: never [{WAIT_SECONDS:g}]",
    )


def _of_store(parser: ArgumentParser) -> None:
    """Which store."""
    group = parser.add_argument_group("the store")
    group.add_argument("--store", metavar="URL", help="sqlite:PATH [as the server: see --config]")
    group.add_argument("--config", metavar="FILE", default="", help="the server's configuration [$TWISTED_CHAT_CONFIG]")
