"""Beside the running server: backups, and the tokens that the command line writes."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import TypeVar

from tests.harness.sqlite_files import NEWER, OLDER, SQLiteCase
from tests.store_contract.case import token
from twisted_chat.errors import Conflict
from twisted_chat.store_contract import StoreError
from twisted_chat.stores.sqlite.admin import SharedTokens
from twisted_chat.stores.sqlite.backup import backup

T = TypeVar("T")


class BackupTests(SQLiteCase):
    def test_a_copy_while_a_server_writes(self) -> None:
        """A backup has the messages before it, is for its user only, and leaves no other file."""
        store = self.opened()
        self.say(store, "one", "two")
        target = os.path.join(self.directory, "copy.db")
        backup(self.path, target)

        self.say(store, "three")

        self.successResultOf(store.close())
        self.assertEqual(stat.S_IMODE(os.stat(target).st_mode), 0o600)
        self.assertEqual(sorted(os.listdir(self.directory)), ["chat.db", "chat.db.lock", "copy.db"])

        restored = self.store(target)

        self.successResultOf(restored.open())
        self.assertEqual(self.texts(restored), ["one", "two"])
        self.successResultOf(restored.close())

    def test_a_restored_copy_goes_on_under_other_ids(self) -> None:
        """So that a cursor of the lost future is noticed."""
        store = self.opened()
        self.say(store, "one")
        target = os.path.join(self.directory, "copy.db")
        backup(self.path, target)
        self.say(store, "two")
        lost = self.successResultOf(store.event("lobby", 2))

        self.successResultOf(store.close())

        os.replace(target, self.path)
        restored = self.opened()
        self.say(restored, "another two")
        found = self.successResultOf(restored.event("lobby", 2))
        assert lost is not None
        assert found is not None

        self.assertNotEqual(found.id, lost.id)
        self.successResultOf(restored.close())

    def failed(self, source: str, target: str) -> str:
        before = sorted(os.listdir(self.directory))
        error = self.assertRaises(StoreError, backup, source, target)
        self.assertEqual(sorted(os.listdir(self.directory)), before)
        return str(error)

    def test_nothing_is_overwritten(self) -> None:
        """A backup to a file that exists is refused."""
        self.successResultOf(self.opened().close())
        self.assertEqual(self.failed(self.path, self.path), f"{self.path} exists; move it away or choose another name")

    def test_no_source(self) -> None:
        """A backup of a database that does not exist is refused."""
        self.assertIn("could not be copied", self.failed(self.path, os.path.join(self.directory, "copy.db")))

    def test_a_target_that_cannot_be_written(self) -> None:
        """A backup into a missing directory is refused with its path."""
        self.successResultOf(self.opened().close())
        target = os.path.join(self.directory, "nowhere", "copy.db")
        self.assertEqual(
            self.failed(self.path, target), f"{target} cannot be written (No such file or directory); choose another place"
        )

    def test_a_damaged_database_is_no_backup(self) -> None:
        """The copy of a damaged database is refused."""
        self.damage()

        self.assertIn("is damaged", self.failed(self.path, os.path.join(self.directory, "copy.db")))


class SharedTokensTests(SQLiteCase):
    """The command line beside a server."""

    def shared(self, steps: Sequence[str] | None = None) -> SharedTokens:
        tokens = SharedTokens(self.path, steps)
        self.successResultOf(tokens.open())
        return tokens

    def test_the_server_sees_what_the_command_line_does(self) -> None:
        """Tokens that another process makes and revokes are known to a running server."""
        store = self.opened()
        self.addCleanup(store.close)
        tokens = self.shared()

        self.successResultOf(tokens.create_token(token(1), b"1" * 32))
        self.assertEqual(self.successResultOf(store.find_token(b"1" * 32)), token(1))
        self.assertEqual(self.successResultOf(tokens.list_tokens()), [token(1)])
        self.successResultOf(tokens.revoke_token("t1", 7000))
        found = self.successResultOf(store.revocations(0, 9))
        self.assertEqual(found.tokens, ("t1",))
        self.assertEqual(self.successResultOf(tokens.revocations(found.number, 9)).tokens, ())

        self.say(store, "goes on")

    def test_tokens_before_the_first_start(self) -> None:
        """Tokens can be made before the server has ever run."""
        tokens = self.shared()

        self.successResultOf(tokens.create_token(token(1), b"1" * 32))
        self.failureResultOf(tokens.create_token(token(1), b"1" * 32), Conflict)

        store = self.opened()

        self.assertEqual(self.successResultOf(store.find_token(b"1" * 32)), token(1))
        self.assertEqual(self.successResultOf(tokens.find_token(b"1" * 32)), token(1))
        self.successResultOf(store.close())

    def test_a_server_of_another_version(self) -> None:
        """A database that a server of another version uses is refused."""
        store = self.opened(NEWER)
        self.addCleanup(store.close)
        failure = self.failureResultOf(SharedTokens(self.path, OLDER).open(), StoreError)

        self.assertEqual(
            str(failure.value), f"{self.path} is in use by a server of another version; use the command of that version"
        )

    def test_errors_are_the_store_s(self) -> None:
        """A file that is no database, or cannot be made, fails with StoreError."""
        with open(self.path, "w") as file:
            file.write("Dear diary,\n" * 1000)

        self.failureResultOf(SharedTokens(self.path).open(), StoreError)
        self.failureResultOf(SharedTokens("/sys/chat.db").open(), StoreError)
        self.failureResultOf(SharedTokens(self.path).list_tokens(), StoreError)
