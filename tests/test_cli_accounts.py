"""The verbs for accounts, on a file."""

from __future__ import annotations

import io
import json
import shlex

from twisted.internet.defer import succeed

from tests.harness.accounts import CHEAP, PASSWORD
from tests.harness.sqlite_files import SQLiteCase
from twisted_chat.accounts import AccountRecord, KeptAccount, Note
from twisted_chat.auth import passwords
from twisted_chat.cli import accounts
from twisted_chat.cli.main import run
from twisted_chat.cli.options import parser
from twisted_chat.cli.output import CommandContext, Status
from twisted_chat.minting import secret_hash
from twisted_chat.store_contract import TokenRecord


class AccountVerbsTests(SQLiteCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(passwords, "PasswordHasher", lambda **cost: CHEAP)
        self.input = b""
        self.out, self.err = io.StringIO(), io.StringIO()
        self.context = CommandContext(self.out, self.err, {}, self.read, lambda work: succeed(work()), lambda: 1_763_880_000.0)
        self.server = self.opened()
        self.addCleanup(lambda: self.server.close())

    def read(self, size: int) -> bytes:
        given, self.input = self.input[:7], self.input[7:]
        return given

    def command(self, line: str, status: Status = Status.DONE, given: str = "") -> str:
        """What it printed."""
        self.input = given.encode()
        for stream in (self.out, self.err):
            stream.truncate(0)
            stream.seek(0)
        words = [*shlex.split(line), "--store", f"sqlite:{self.path}"]
        self.assertEqual(run(parser().parse_args(words), self.context), status, self.err.getvalue())
        return self.out.getvalue() + self.err.getvalue()

    def kept(self, name: str) -> KeptAccount:
        found = self.successResultOf(self.server.accounts.account_named(name))
        assert found is not None
        return found

    def test_add(self) -> None:
        """The password is the first line of the input; bad ones, taken names and unknown rights are refused in one line."""
        self.command("user add 'Alice B' --right admin", given=f"{PASSWORD}\nsecond line\n")
        kept = self.kept("alice b")
        self.assertEqual((kept.record.name, kept.record.rights), ("Alice B", ("admin",)))
        self.assertTrue(CHEAP.verify(kept.password, PASSWORD))
        self.assertIn("looks like", self.command("user add al1ceb", Status.FAILED, PASSWORD))
        self.assertIn("password: ", self.command("user add bob", Status.FAILED, "short\n"))
        self.assertIn("password: ", self.command("user add bob", Status.FAILED))
        self.assertNotIn(PASSWORD, self.out.getvalue() + self.err.getvalue())
        self.assertRaises(SystemExit, parser().parse_args, ["user", "add", "bob", "--right", "king"])

    def test_terminal(self) -> None:
        """At a terminal it is asked for twice, and not shown."""
        answers = iter([PASSWORD, PASSWORD, PASSWORD, "another one"])
        self.patch(accounts, "getpass", lambda prompt: next(answers))
        self.context.input_terminal = True
        self.command("user add alice")
        self.assertIn("differ", self.command("user add bob", Status.FAILED))

    def test_changes(self) -> None:
        """By name or id; what a change revokes ends on running servers."""
        self.command("user add alice", given=PASSWORD)
        account_id = self.kept("alice").record.id

        def session(number: int) -> None:
            record = TokenRecord(f"t{number}", account_id, "alice", number, kind="session")
            self.successResultOf(self.server.create_token(record, secret_hash(str(number))))

        session(1)
        self.command("user passwd alice", given="walnut kettle orbit\n")
        session(2)
        self.command(f"user disable {account_id}")
        self.assertIsNotNone(self.kept("alice").record.disabled)
        self.command("user enable alice")
        self.command("user rights alice --right audit --right moderate")
        self.assertEqual(self.kept("alice").record.rights, ("audit", "moderate"))
        self.assertEqual(self.successResultOf(self.server.revocations(0, 10)).tokens, ("t1", "t2"))
        self.command("user delete alice")
        self.assertIn("there is no account", self.command("user enable alice", Status.FAILED))
        self.assertIn("deleted", self.command("user list"))

    def test_list_and_audit(self) -> None:
        """As a table or as JSON lines; the audit log from the oldest on, and not older than an age or a day."""
        self.command("user add alice", given=PASSWORD)
        self.command("user disable alice")
        [account] = [json.loads(line) for line in self.command("user list --json").splitlines()]
        self.assertEqual((account["name"], "password" in account), ("alice", False))
        entries = [json.loads(line) for line in self.command("audit --json").splitlines()]
        self.assertEqual([each["action"] for each in entries], ["account.create", "account.change"])
        self.assertEqual(entries[0]["address"], "command line")
        self.assertIn("account.create", self.command("audit --since 7d"))
        self.assertIn("account.create", self.command("audit --since 2025-11-23"))
        self.assertNotIn("account.create", self.command("audit --since 2025-11-24"))
        for wrong in ("yesterday", "2025-13-01"):
            self.command(f"audit --since {wrong}", Status.USAGE)

    def test_invite(self) -> None:
        """The secret is printed once; a note says when nobody can use it."""
        said = self.command("user invite --uses 3 --expires 7d --room lobby")
        self.assertIn("sign_up is closed", said)
        secret = self.out.getvalue().strip()
        found = self.successResultOf(self.server.accounts.invitation(secret_hash(secret)))
        assert found is not None
        self.assertEqual((found.uses, found.rooms, found.expires), (3, ("lobby",), 1_763_880_000_000 + 7 * 86_400_000))
        self.context.environ = {"TWISTED_CHAT_PUBLIC_URL": "https://example.org/chat/", "TWISTED_CHAT_SIGN_UP": "invite"}
        self.assertRegex(self.command("user invite"), r"https://example\.org/chat/#invite=tc_[\w-]{43}\n")
        self.assertRaises(SystemExit, parser().parse_args, ["user", "invite", "--uses", "0"])

    def test_many(self) -> None:
        """The list is read in parts."""
        for number in range(501):
            name = f"n{chr(0x4E00 + number)}"
            record = AccountRecord(f"u{number:04}", name, number)
            note = Note(number, "", "", "account.create")
            self.successResultOf(self.server.accounts.create_account(KeptAccount(record, ""), note))
        self.assertEqual(self.command("user list --json").count("\n"), 501)
        self.assertEqual(self.command("audit --json").count("\n"), 501)
