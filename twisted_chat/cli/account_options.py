"""The verbs of accounts on the command line."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import Any, Protocol

from twisted_chat.accounts import RIGHTS


class AddVerb(Protocol):
    """Adds a verb with the options that all verbs have (:mod:`twisted_chat.cli.options`)."""

    def __call__(
        self, verbs: Any, name: str, run: str, summary: str, options: Callable[[ArgumentParser], None], more: str = ""
    ) -> ArgumentParser: ...


def add_account_verbs(verbs: Any, users: Any, add: AddVerb, options: Callable[[ArgumentParser], None]) -> None:
    """The verbs of ``user``, and ``audit``.

    :param options: adds the options for the store.
    """
    verb = add(
        users,
        "add",
        "accounts.add_user",
        "make an account",
        options,
        "The password is asked for at the terminal, or is the first line of the standard input.",
    )
    verb.add_argument("name", metavar="NAME", help="the name, which no other account has and none looks like")
    _right(verb, "a right of the account; may be given several times")
    add(users, "list", "accounts.list_users", "show the accounts", options)
    for name, run, summary, more in (
        ("passwd", "set_password", "set the password of an account", "Its sessions and tokens end."),
        ("rights", "set_rights", "give an account exactly these rights", "Sessions that have a right which it loses end."),
        ("disable", "disable_user", "disable an account", "Its sessions, tokens and connections end within seconds."),
        ("enable", "enable_user", "enable an account again", "Its people have to sign in again."),
        ("delete", "delete_user", "delete an account for ever", "Its messages stay, and nobody gets its name again."),
    ):
        verb = add(users, name, f"accounts.{run}", summary, options, more)
        verb.add_argument("name", metavar="NAME", help="the name or the id of the account")
        if name == "rights":
            _right(verb, "a right that it has from now on; without this option it has none")
    verb = add(
        users,
        "invite",
        "accounts.invite_user",
        "make an invitation, with which people sign up",
        options,
        "Prints the link (or its secret, without public_url) on the standard output, the only time that it is shown.",
    )
    verb.add_argument("--uses", metavar="COUNT", type=_uses, default=1, help="how many accounts [1]")
    verb.add_argument("--expires", metavar="AGE", help="how long it is valid, such as 12h or 7d [for ever]")
    verb.add_argument("--room", metavar="ROOM", action="append", help="a room to which it leads; may be given several times")
    _right(verb, "a right of the accounts; may be given several times")
    verb = add(verbs, "audit", "accounts.audit", "show what was done to accounts, and by whom", options)
    verb.add_argument("--since", metavar="AGE", help="only what is not older, such as 7d, or a day such as 2026-11-28 [all]")


def _uses(raw: str) -> int:
    value = int(raw) if raw.isascii() and raw.isdigit() else 0
    if not 1 <= value <= 10_000:
        raise ArgumentTypeError(f"{raw!a} is not a number from 1 to 10,000")
    return value


def _right(verb: ArgumentParser, text: str) -> None:
    verb.add_argument("--right", metavar="RIGHT", action="append", choices=RIGHTS, help=f"{text} ({', '.join(RIGHTS)})")
