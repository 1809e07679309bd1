"""The command line: every verb with its options and its help.

Each verb is named here by module and function, and imported only when it runs, because scripts start the command for each message.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable
from typing import Any, NoReturn

from twisted_chat.accounts import RIGHTS
from twisted_chat.cli.account_options import add_account_verbs
from twisted_chat.cli.output import Status
from twisted_chat.errors import ChatError
from twisted_chat.names import room_name
from twisted_chat.server.logging import visible, without_secrets
from twisted_chat.version import __version__

DEFAULT_URL = "ws://127.0.0.1:8080"
#: Seconds; enough for a restart of the server, including its drain.
WAIT_SECONDS = 30.0
TOKEN, URL = "TWISTED_CHAT_TOKEN", "TWISTED_CHAT_URL"

STATUSES = """exit statuses:
  0  everything was done     4  the server refuses (token, rights)
  1  something was not done  5  the database or a file cannot be used
  2  wrong command line      130  interrupted by Ctrl+C
  3  no server               141  the reader of the output has ended
"""


class _Parser(ArgumentParser):
    """Prints an error as one line that points to the help."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"twisted-chat: {visible(without_secrets(message))}; see {self.prog} --help\n")
        raise SystemExit(Status.USAGE)


def parser() -> ArgumentParser:
    """The parser of all verbs."""
    top = _Parser(
        prog="twisted-chat",
        description="Send and read messages from the shell, and manage the server's database.",
        epilog=STATUSES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"twisted_chat {__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True, parser_class=_Parser)
    _client_verbs(verbs)
    _token_verbs(verbs)
    users = _group(verbs, "user", "make, list, disable and invite accounts")
    add_account_verbs(verbs, users, _verb, _of_store)
    _room_verbs(verbs)
    _store_verbs(verbs)
    _log_verbs(verbs)
    verb = _verb(verbs, "doctor", "doctor.doctor", "find what keeps the server from starting or from being reached", _of_store)
    _of_client(verb)
    return top


def _client_verbs(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "send",
        "send.send",
        "send a message to a room",
        _of_client,
        "Ends with status 0 only if the server has acknowledged all messages, which means that they are on its disk.\n"
        "Without TEXT each line of the standard input is a message.  If the command is interrupted, it prints a --key:\n"
        "the same command with this key and the same lines sends the missing messages, and none twice.",
    )
    _room_argument(verb)
    verb.add_argument("text", metavar="TEXT", nargs="?", help="the message [each line of the standard input]")
    verb.add_argument(
        "--key", metavar="KEY", help="names these messages; a message that was added under it before is not added again [random]"
    )

    verb = _verb(
        verbs,
        "tail",
        "tail.tail",
        "print the last events of a room",
        _of_client,
        "Control characters are escaped, so that messages cannot control the terminal.",
    )
    _room_argument(verb)
    verb.add_argument("-n", "--lines", metavar="COUNT", type=_count, default=10, help="how many of the last events to print [10]")
    verb.add_argument("--since", metavar="N", type=_count, help="print all events after number N instead; 0: from the beginning")
    verb.add_argument("-f", "--follow", action="store_true", help="continue with new events, also after reconnecting")

    verb = _verb(
        verbs,
        "talk",
        "talk.talk",
        "chat in a room",
        _of_client,
        "You type in the last line, and messages appear above it.  If the input or the output is not a terminal, each line of\n"
        "the input is a message, each event is a line of the output, and the command ends with the input.",
    )
    _room_argument(verb)
    verb.add_argument(
        "-n", "--lines", metavar="COUNT", type=_count, default=10, help="how many of the last events to print first [10]"
    )


def _token_verbs(verbs: Any) -> None:
    tokens = _group(verbs, "token", "make, list and revoke tokens")
    verb = _verb(
        tokens,
        "create",
        "admin.create_token",
        "make a token and print it",
        _of_store,
        "Prints the token on the standard output, the only time that it is shown.  A running server accepts it at once.",
    )
    verb.add_argument("name", metavar="NAME", help="the name of the person who uses the token")
    verb.add_argument(
        "--person",
        metavar="ID",
        help="the id of the person, which begins with u; use the same id for all tokens of a person [a new id]",
    )
    verb.add_argument("--expires", metavar="AGE", help="how long the token is valid, such as 12h, 90d or 4w [for ever]")
    verb.add_argument(
        "--right",
        metavar="RIGHT",
        action="append",
        choices=RIGHTS,
        help=f"a right of the person: {', '.join(RIGHTS)}",
    )
    _verb(tokens, "list", "admin.list_tokens", "show all tokens, without their secrets", _of_store)
    verb = _verb(
        tokens,
        "revoke",
        "admin.revoke_tokens",
        "revoke tokens",
        _of_store,
        "A running server closes the connections of these tokens within seconds.",
    )
    verb.add_argument("id", metavar="ID", nargs="+", help="the id of a token, as token list shows it")


def _room_verbs(verbs: Any) -> None:
    rooms = _group(verbs, "room", "list, make and archive rooms")
    _verb(rooms, "list", "admin.list_rooms", "show the rooms in the store", _of_store)
    verb = _verb(
        rooms,
        "create",
        "admin.create_room",
        "make a room",
        _of_store,
        "Needed where clients cannot make rooms by joining them (create_rooms = false).",
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
    verb.add_argument("--undo", action="store_true", help="open the room again")


def _store_verbs(verbs: Any) -> None:
    stores = _group(verbs, "store", "prepare a database that several servers share")
    _verb(
        stores,
        "upgrade",
        "admin.upgrade",
        "bring the database to the schema of this version",
        _of_store,
        "For servers whose user may not create tables: run it as the owner of the database, before the first server of a new version.",
    )


def _log_verbs(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "export",
        "transfer.export",
        "write logs as JSON lines",
        _of_store,
        "Exports one committed state, also while the server runs.  Tokens, read marks and the cursors of programs are exported only with\n"
        "--everything: that is for moving a chat to another database.  Such a file is as secret as the database.",
    )
    verb.add_argument("--everything", action="store_true", help="all that the store keeps, for a move to another database")
    verb.add_argument("room", metavar="ROOM", nargs="*", help="rooms to export [all]")
    verb.add_argument("-o", "--output", metavar="FILE", help="a new file [the standard output]")
    verb = _verb(
        verbs,
        "import",
        "transfer.import_",
        "read an export into a store",
        _of_store,
        "Imports everything or nothing, into rooms that are empty.  Events keep their numbers, ids, times and authors.\n"
        "No server may be using the database.",
    )
    verb.add_argument("file", metavar="FILE", help="a file that export has written; -: the standard input")
    verb = _verb(
        verbs,
        "backup",
        "admin.backup",
        "copy the database, also while the server runs",
        _of_store,
        "The copy is one committed state.  It is verified before it gets its name; if that fails, no file is left.",
    )
    verb.add_argument("target", metavar="TARGET", help="a new file")
    verb = _verb(
        verbs,
        "restore",
        "admin.restore",
        "replace the database with a backup",
        _of_store,
        "No server may be using the database.  The backup is verified first.  The replaced database is kept beside the new one.\n"
        "Clients notice that the log is a different one, and reload their rooms.",
    )
    verb.add_argument("source", metavar="BACKUP", help="a file that backup has written")


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
    verb.add_argument("--json", action="store_true", help="print JSON lines, also for an error")
    verb.add_argument("--verbose", action="store_true", help="log to the standard error what the command does")
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
    value = int(raw) if raw.isascii() and raw.isdigit() else -1
    if not 0 <= value < 2**53:
        raise ArgumentTypeError(f"{raw!a} is not a whole number from 0 on")
    return value


def _seconds(raw: str) -> float:
    try:
        value = float(raw)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e9:
        raise ArgumentTypeError(f"{raw!a} is not a number of seconds from 0 on")
    return value


def _of_client(parser: ArgumentParser) -> None:
    """Options for the server and the user."""
    group = parser.add_argument_group("the server and your name")
    group.add_argument(
        "--url",
        metavar="URL",
        help=f"ws://…, wss://… or a client endpoint string such as unix:/run/chat.sock [${URL}, else {DEFAULT_URL}]",
    )
    group.add_argument("--token", help="your token; other users of this machine can see it, so --token-file is safer")
    group.add_argument("--token-file", metavar="FILE", help=f"a file that contains your token [the variable {TOKEN}]")
    group.add_argument("--name", help="your name if you are a guest [the server makes one up]")
    group.add_argument(
        "--trust",
        metavar="FILE",
        help="a file with the certificates (PEM) of authorities for the server's certificate [those of the system]",
    )
    group.add_argument(
        "--wait",
        metavar="SECONDS",
        type=_seconds,
        default=WAIT_SECONDS,
        help=f"give up after this time without a connection; 0: never [{WAIT_SECONDS:g}]",
    )


def _of_store(parser: ArgumentParser) -> None:
    """Options for the store."""
    group = parser.add_argument_group("the store")
    group.add_argument(
        "--store", metavar="URL", help="the database, sqlite:PATH or postgresql://… [the one of the server's configuration]"
    )
    group.add_argument("--config", metavar="FILE", default="", help="the server's configuration [$TWISTED_CHAT_CONFIG]")
