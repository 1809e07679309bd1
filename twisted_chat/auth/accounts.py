"""Accounts and ``twisted.cred``: any ``ICredentialsChecker`` is a way to sign in, and the accounts are one for other programs.

A checker of ``twisted.cred`` knows names and passwords and answers an avatar id.  That id, with the name of the checker, is the origin
of an account, which is made when somebody signs in for the first time.
"""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import LoginFailed, UnauthorizedLogin
from twisted.cred.strcred import InvalidAuthArgumentString, InvalidAuthType, makeChecker
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from twisted_chat.core.accounts import Accounts
from twisted_chat.errors import BadRequest, ChatError, Unavailable
from twisted_chat.interfaces import Vouched
from twisted_chat.names import PERSON_NAME_MAX, person_name

#: Characters of an avatar id that becomes an origin.
_AVATAR_MAX = 256


class WrongChecker(Exception):
    """A string that describes no checker: one line with cause and remedy."""


class CheckerWay:
    """Signs in by a checker.

    :param label: the name of the checker in the origins of its accounts; it must stay the same.
    """

    log = Logger()

    def __init__(self, checker: ICredentialsChecker, label: str) -> None:
        self._checker = checker
        self.label = label

    def vouch(self, name: str, password: str) -> Deferred[Vouched | None]:
        return Deferred.fromCoroutine(self._vouch(name, password))

    async def _vouch(self, name: str, password: str) -> Vouched | None:
        credentials: Any = UsernamePassword(name.encode(), password.encode())
        try:
            avatar = await maybeDeferred(self._checker.requestAvatarId, credentials)
        except LoginFailed:
            return None
        except Exception:
            self.log.failure("The checker {label} failed", label=self.label)
            raise Unavailable("password: cannot be checked now", retry_after_ms=5_000) from None
        text = avatar.decode("utf-8", "replace") if isinstance(avatar, bytes) else avatar if isinstance(avatar, str) else ""
        if not text or len(text) > _AVATAR_MAX:
            return None  # ANONYMOUS, or no id
        return Vouched(f"{self.label}:{text}", _shown(text, name))


def _shown(avatar: str, typed: str) -> str:
    """A name for somebody with that avatar id: the id, as far as it can be a name, otherwise what was typed."""
    try:
        return person_name(avatar[:PERSON_NAME_MAX])
    except BadRequest:
        return person_name(typed)


def checker_ways(strings: tuple[str, ...]) -> list[CheckerWay]:
    """The checkers that these strings of ``twisted.cred.strcred`` describe, such as ``file:/etc/chat.passwd``.

    :class:`WrongChecker` if one describes none.
    """
    ways = []
    for string in strings:
        kind, _, argument = string.partition(":")
        try:
            checker = makeChecker(string)
        except InvalidAuthType:
            raise WrongChecker(
                f"auth: {string!a}: there is no checker {kind!a}; see twistd ftp --help-auth for those there are"
            ) from None
        except InvalidAuthArgumentString as error:
            raise WrongChecker(f"auth: {string!a}: {error}") from None
        except Exception as error:
            raise WrongChecker(f"auth: {string!a}: cannot be used: {error}") from None
        if IUsernamePassword not in checker.credentialInterfaces:
            raise WrongChecker(f"auth: {string!a}: this checker takes no names with passwords")
        if kind == "file":
            _check_readable(string, argument)
        ways.append(CheckerWay(checker, kind))
    labels = [way.label for way in ways]
    if len(set(labels)) != len(labels):
        raise WrongChecker("auth: give each kind of checker once, because it is a part of the ids of its people")
    return ways


def _check_readable(string: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise WrongChecker(f"auth: {string!a}: {path}: cannot be read: {error.strerror}") from None


@implementer(ICredentialsChecker)
class AccountsChecker:
    """The accounts as a checker of ``twisted.cred``, for other protocols of the same program; the avatar id is the id of the account.

    :param address: what counts as the address of those who sign in, for the bounds on attempts.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, accounts: Accounts, address: str) -> None:
        self._accounts = accounts
        self._address = address

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        """The id of the account; fails with ``UnauthorizedLogin``."""
        return Deferred.fromCoroutine(self._avatar(credentials))

    async def _avatar(self, credentials: Any) -> bytes | tuple[()]:
        try:
            name, password = credentials.username.decode(), credentials.password.decode()
            account = await self._accounts.authenticate(name, password, self._address)
        except (UnicodeDecodeError, ChatError) as error:
            raise UnauthorizedLogin(str(error)) from None
        if account is None:
            raise UnauthorizedLogin("the name or the password is wrong")
        return account.id.encode()
