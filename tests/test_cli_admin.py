"""The verbs for the operator, on files; ``test_live_cli.py`` has them beside a running server."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
from pathlib import Path

from twisted.internet.defer import succeed

from tests.harness.serving import ROOT
from tests.harness.sqlite_files import SQLiteCase
from twisted_chat.cli.main import run
from twisted_chat.cli.options import parser
from twisted_chat.cli.output import CommandContext, Status
from twisted_chat.events import Cursor
from twisted_chat.interfaces import TokenRecord


def commands(beginning: str) -> str:
    """The block of commands in docs/operating.rst that begins like this."""
    page = (ROOT / "docs/operating.rst").read_text()
    block = re.findall(r"(?:^    .*\n)+", page[page.index(f"    {beginning}") :], re.MULTILINE)[0]
    return re.sub(r"^    ", "", block, flags=re.MULTILINE)


class VerbCase(SQLiteCase):
    def setUp(self) -> None:
        super().setUp()
        self.out = io.StringIO()
        self.context = CommandContext(
            self.out, io.StringIO(), {}, lambda size: b"", lambda work: succeed(work()), lambda: 1_763_880_000.0
        )


class RestoreTests(VerbCase):
    """What docs/operating.rst says about backups, done literally in the directory of the database."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)

    def twisted_chat(self, command: str) -> None:
        """One line of the shell."""
        program, *arguments = shlex.split(command)
        self.assertEqual(program, "twisted-chat")
        self.assertEqual(run(parser().parse_args(arguments), self.context), Status.DONE)

    def test_restore(self) -> None:
        """After a kill the log is as it was in the backup, and it goes on from there; what was replaced is kept."""
        store = self.opened()
        self.say(store, "one", "two")
        self.successResultOf(store.create_token(TokenRecord("t1", "u1", "Alice", 0), b"hash"))
        self.twisted_chat(commands("twisted-chat backup").strip())
        self.say(store, *["after the backup"] * 100)
        log = Path("chat.db-wal").read_bytes()
        store.close()
        Path("chat.db-wal").write_bytes(log)  # a killed server leaves it behind
        self.assertGreater(len(log), 0)

        subprocess.run(["sh", "-ec", commands("mkdir replaced")], check=True, timeout=30)

        self.assertEqual(os.stat("chat.db").st_mode & 0o777, 0o600)
        self.assertEqual(sorted(name for name in os.listdir() if name.startswith("chat.db")), ["chat.db"])
        self.assertIn("chat.db-wal", os.listdir("replaced"))

        store = self.opened()
        self.addCleanup(store.close)

        self.assertEqual(self.texts(store), ["one", "two"])
        self.assertEqual([token.id for token in self.successResultOf(store.list_tokens())], ["t1"])

        self.say(store, "three")

        self.assertEqual(self.texts(store), ["one", "two", "three"])


class ExportTests(VerbCase):
    def test_what_is_not_exported(self) -> None:
        """Tokens, read marks and the cursors of programs stay in the database, as docs/shell.rst says."""
        store = self.opened()
        self.say(store, "one")
        self.successResultOf(store.create_token(TokenRecord("t1", "u-secret", "Alice", 0), b"hash"))
        self.successResultOf(store.mark_read("u-reader", "lobby", 1))
        self.successResultOf(store.save_cursor("search-index", "lobby", Cursor("epoch", 1, "x")))
        store.close()

        status = run(parser().parse_args(["export", "--store", f"sqlite:{self.path}"]), self.context)

        exported = self.out.getvalue()
        self.assertEqual(status, Status.DONE)
        self.assertIn('"text":"one"', exported)
        for name in ("u-secret", "u-reader", "search-index"):
            self.assertNotIn(name, exported)
