"""The verbs for the operator, on files; ``test_live_cli.py`` has them beside a running server."""

from __future__ import annotations

import io
import os
import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.internet.defer import succeed

from tests.harness.serving import ROOT
from tests.harness.sqlite_files import SQLiteCase
from twisted_chat.cli.main import run
from twisted_chat.cli.options import parser
from twisted_chat.cli.output import CommandContext, Status
from twisted_chat.events import Cursor
from twisted_chat.store_contract import TokenRecord


def commands(beginning: str) -> str:
    """The block of commands in docs/operating.rst that begins like this."""
    page = (ROOT / "docs/operating.rst").read_text()
    block = re.findall(r"(?:^    .*\n)+", page[page.index(f"    {beginning}") :], re.MULTILINE)[0]
    return re.sub(r"^    ", "", block, flags=re.MULTILINE)


class VerbCase(SQLiteCase):
    def setUp(self) -> None:
        super().setUp()
        self.out, self.err = io.StringIO(), io.StringIO()
        self.context = CommandContext(
            self.out, self.err, {}, lambda size: b"", lambda work: succeed(work()), lambda: 1_763_880_000.0
        )


class RestoreTests(VerbCase):
    """What docs/operating.rst says about backups, done literally in the directory of the database."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)

    def errors(self) -> str:
        """What was written to the standard error since the last call."""
        text = self.err.getvalue()
        self.err.truncate(0)
        self.err.seek(0)
        return text

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

        self.twisted_chat(commands("twisted-chat restore").strip())

        self.assertEqual(os.stat("chat.db").st_mode & 0o777, 0o600)
        [replaced] = [name for name in os.listdir() if name.startswith("chat.db.replaced-")]
        self.assertEqual(
            sorted(name for name in os.listdir() if name.startswith("chat.db")), ["chat.db", "chat.db.lock", replaced]
        )
        with closing(sqlite3.connect(replaced)) as connection:
            self.assertEqual(connection.execute("SELECT count(*) FROM event").fetchone(), (102,))
            epoch = connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
        with closing(sqlite3.connect("chat.db")) as connection:
            self.assertNotEqual(connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone(), epoch)

        store = self.opened()
        self.addCleanup(store.close)

        self.assertEqual(self.texts(store), ["one", "two"])
        self.assertEqual([token.id for token in self.successResultOf(store.list_tokens())], ["t1"])

        self.say(store, "three")

        self.assertEqual(self.texts(store), ["one", "two", "three"])

    def test_refused(self) -> None:
        """A server that runs, a backup that is none: nothing has changed then, and nothing is left behind."""
        store = self.opened()
        self.say(store, "one")
        self.twisted_chat("twisted-chat backup backup.db")
        restore = parser().parse_args(["restore", "backup.db"])

        self.assertEqual(run(restore, self.context), Status.STORE)
        self.assertIn("in use by another server", self.errors())

        store.close()
        Path("text.db").write_text("nothing like a database " * 1000)
        Path("empty.db").write_bytes(b"")
        whole = Path("backup.db").read_bytes()
        Path("cut.db").write_bytes(whole[: len(whole) // 2])
        before = sorted(os.listdir()), Path("chat.db").read_bytes()
        for name in ("text.db", "empty.db", "cut.db", "chat.db", "none.db", "."):
            with self.subTest(name):
                self.assertEqual(run(parser().parse_args(["restore", name]), self.context), Status.STORE)
                self.assertEqual((sorted(os.listdir()), Path("chat.db").read_bytes()), before)
                said = self.errors()
                self.assertEqual(said.count("\n"), 1)
                self.assertEqual("is not a SQLite database" in said, name == "text.db", said)


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
