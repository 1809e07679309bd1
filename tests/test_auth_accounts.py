"""Checkers of ``twisted.cred`` as ways to sign in, and the accounts as a checker."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.harness.accounts import PASSWORD, AccountsCase
from twisted_chat.accounts import AccountChange
from twisted_chat.auth.accounts import AccountsChecker, CheckerWay, WrongChecker, checker_ways
from twisted_chat.core.accounts import Caller
from twisted_chat.errors import Unavailable
from twisted_chat.server.build import RunningChat, SetUpError, build
from twisted_chat.server.config import Settings
from twisted_chat.stores.workers import AtOnce
from twisted_chat.testing import UNBOUND

SESSION, OWN = "/api/v1/account/session", "/api/v1/account"


@implementer(ICredentialsChecker)
class Answers:
    """A checker that answers the same for everybody."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked = 0

    def requestAvatarId(self, credentials: Any) -> Any:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class WaysTests(AccountsCase):
    def with_checkers(self, *checkers: Any, **settings: Any) -> RunningChat:
        building = build(
            self.clock, Settings(limits=UNBOUND, **settings), self.store, loopback=True, checkers=checkers, hash_in=AtOnce
        )
        chat: RunningChat = self.successResultOf(Deferred.fromCoroutine(building))
        self.addCleanup(chat.core.timers.stop)
        return chat

    def sign_in(self, chat: RunningChat, name: str, password: str, status: int = 200) -> Any:
        browser = self.browser(chat)
        reply = browser.ask("POST", SESSION, {"name": name, "password": password})
        self.assertEqual(reply.status, status, reply.body)
        return browser.get(OWN) if status == 200 else None

    def test_file(self) -> None:
        """Who is in a file of passwords gets an account at the first time, and the same one later."""
        path = Path(self.mktemp())
        path.write_text("alice:in the file\nbob:of bob\n")
        chat = self.with_checkers(auth=(f"file:{path}",))

        account = self.sign_in(chat, "alice", "in the file")

        self.assertEqual((account["name"], account["origin"], account["rights"]), ("alice", "file:alice", []))
        self.assertEqual(self.sign_in(chat, "alice", "in the file")["id"], account["id"])
        self.sign_in(chat, "alice", "another one", 401)
        self.sign_in(chat, "carol", "in the file", 401)
        self.assertFalse(chat.null_origin)
        self.assertEqual(self.audit().count("account.create"), 1)

    def test_names_that_collide(self) -> None:
        """The name of an account here stays its own; the other one gets a number, and each signs in with its own password."""
        here = self.account("Alice")
        chat = self.with_checkers(InMemoryUsernamePasswordDatabaseDontUse(alice=b"elsewhere"))
        there = self.sign_in(chat, "alice", "elsewhere")
        self.assertEqual((there["name"], there["origin"]), ("alice 2", "program-1:alice"))
        self.assertEqual(self.sign_in(chat, "alice", PASSWORD)["id"], here.id)
        self.assertEqual(self.sign_in(chat, "alice", "elsewhere")["id"], there["id"])

    def test_long_and_strange_avatars(self) -> None:
        """An id that cannot be a name gives way to what was typed; one that is none is refused."""
        for answer, name in (
            (b"x" * 200, "x" * 64),
            ("\u202e", "typed 1"),
            (succeed(b"cn=Zoe,dc=test"), "cn=Zoe,dc=test"),
            (ANONYMOUS, None),
            (b"x" * 257, None),
            (UnauthorizedLogin(), None),
            (fail(UnauthorizedLogin()), None),
        ):
            vouched = self.successResultOf(CheckerWay(Answers(answer), "test").vouch("typed 1", "x"))
            self.assertEqual(None if vouched is None else vouched.name, name)

    def test_broken(self) -> None:
        """A checker that fails is a fault of the server, told without details."""
        failure = self.failureResultOf(CheckerWay(Answers(OSError("ldap is away")), "test").vouch("a", "b"), Unavailable)
        self.assertNotIn("ldap", str(failure.value))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_disabled(self) -> None:
        """An account from elsewhere that is disabled here cannot be used."""
        chat = self.with_checkers(Answers(b"alice"))
        account = self.sign_in(chat, "alice", "anything")
        change = AccountChange(disabled=True)
        self.do(chat.accounts.change(account["id"], change, chat.accounts.note(Caller("test"), "x")))
        self.sign_in(chat, "alice", "anything", 401)
        self.assertEqual(self.audit().count("account.create"), 1)

    def test_has_no_password(self) -> None:
        """Nobody sets one for it, and none works here."""
        chat = self.with_checkers(Answers(b"alice"))
        browser = self.browser(chat)
        browser.ask("POST", SESSION, {"name": "alice", "password": "anything"})
        body = {"password": "walnut kettle orbit", "old_password": "anything"}
        self.assertEqual(browser.ask("PATCH", OWN, body).status, 409)

    def test_attempts_are_bounded(self) -> None:
        """The other authority is not asked more often than passwords here are checked."""
        checker = Answers(UnauthorizedLogin())
        chat = self.with_checkers(checker)
        for _ in range(20):
            self.browser(chat).ask("POST", SESSION, {"name": "alice", "password": "guess it"})
        self.assertEqual(checker.asked, 5)

    def test_wrong_strings(self) -> None:
        """A string that describes no checker ends the start with one line that names it."""
        self.patch(sys, "stderr", open(os.devnull, "w"))  # noqa: SIM115
        self.addCleanup(sys.stderr.close)
        for strings, word in (
            (("king:x",), "king"),
            (("file:/does/not/exist",), "/does/not/exist"),
            (("file",), "file"),
            (("anonymous",), "no names"),
            (("memory:a:b", "memory:c:d"), "once"),
        ):
            with self.subTest(strings):
                error = self.assertRaises(WrongChecker, checker_ways, strings)
                self.assertIn(word, str(error))
                self.assertEqual(str(error).count("\n"), 0)
                building = build(self.clock, Settings(auth=strings), self.store, loopback=True)
                self.failureResultOf(Deferred.fromCoroutine(building), SetUpError)


class CheckerTests(AccountsCase):
    def test_checker(self) -> None:
        """Other protocols of the program sign in with the accounts, with the same bounds."""
        alice = self.account("alice")
        checker = AccountsChecker(self.chat.accounts, "ssh")
        self.assertTrue(verifyObject(ICredentialsChecker, checker))

        def ask(name: bytes, password: bytes) -> Deferred[Any]:
            asked = checker.requestAvatarId(UsernamePassword(name, password))
            self.clock.settle()
            return asked

        self.assertEqual(self.successResultOf(ask(b"Alice", PASSWORD.encode())), alice.id.encode())
        for name, password in ((b"alice", b"wrong one"), (b"nobody", b"wrong one"), (b"\xff", b"x"), (b"", b"x")):
            self.failureResultOf(ask(name, password), UnauthorizedLogin)
        for _ in range(5):
            self.failureResultOf(ask(b"alice", b"wrong one"), UnauthorizedLogin)
        self.failureResultOf(ask(b"alice", PASSWORD.encode()), UnauthorizedLogin)
