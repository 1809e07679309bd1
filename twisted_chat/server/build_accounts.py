"""Builds the accounts: the threads that hash passwords, and the other authorities for names and passwords."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.cred.checkers import ICredentialsChecker

from twisted_chat.accounts import AccountStore
from twisted_chat.auth.accounts import CheckerWay, WrongChecker, checker_ways
from twisted_chat.auth.passwords import THREADS, Argon2Passwords, Runner
from twisted_chat.core.accounts import Accounts
from twisted_chat.core.chat import Chat
from twisted_chat.stores.workers import Threads


class SetUpError(Exception):
    """The settings name something that does not exist: one line with cause and remedy."""


def make_accounts(
    reactor: Any, store: AccountStore, core: Chat, ways: Sequence[CheckerWay], hash_in: Callable[[], Runner] | None
) -> Accounts:
    """The accounts of a chat; their threads begin with the first password."""
    return Accounts(
        store,
        Argon2Passwords(hash_in or _threads, reactor.callFromThread),
        ways,
        now_seconds=time.time,
        random=os.urandom,
        end_tokens=core.sessions.end_tokens,
        reserve=core.sessions.reserve_accounts,
    )


def _threads() -> Runner:
    return Threads("chat-password", THREADS)


def find_ways(strings: tuple[str, ...], checkers: Sequence[ICredentialsChecker]) -> list[CheckerWay]:
    """The other authorities: those of the settings, and those of the embedding program."""
    try:
        ways = checker_ways(strings)
    except WrongChecker as error:
        raise SetUpError(str(error)) from None
    return [*ways, *(CheckerWay(checker, f"program-{number}") for number, checker in enumerate(checkers, 1))]
