"""A store is moved into another one: everything is there afterwards, or nothing."""

from __future__ import annotations

import io
import os
from pathlib import Path
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.store_contract.case import ALICE, BEGIN, BOB, CAROL, configure, delete, edit, member, raw, reaction, sanction, say
from twisted_chat.accounts import AccountRecord, InvitationRecord, KeptAccount, Note
from twisted_chat.cli import transfer
from twisted_chat.cli.main import run
from twisted_chat.cli.options import parser
from twisted_chat.cli.output import CommandContext, Status
from twisted_chat.events import Cursor, NewEvent, NewTopic, RoomSettings
from twisted_chat.store_contract import Append, Appended, Duplicate, Opened, Store, TokenRecord
from twisted_chat.stores.sqlite.store import SQLiteStore
from twisted_chat.stores.workers import AtOnce, call_at_once

LOG: tuple[NewEvent, ...] = (
    say("one", key="k1"),
    say("two", BOB),
    edit(1, "uno"),
    reaction(2),
    reaction(2, "🎉", by=ALICE),
    raw(b"\x00\xff", key="k6"),
    NewTopic(ALICE, None, "NUL \x00 and 'quotes'"),
    say("to be deleted"),
    edit(8, "still"),
    delete(8),
)
DEN: tuple[NewEvent, ...] = (
    configure(creates=True, access="private", title="NUL \x00 and 'quotes'", writers="members", slow_mode=0.5),
    member(ALICE, "owner", key="m"),
    sanction(BOB, until=9, address="192.0.2.0/24"),
    member(CAROL, "reader"),
    member(ALICE, "owner", by=BOB),
    sanction(CAROL, "mute"),
    sanction(CAROL, "kick"),
    sanction(BOB, on=False),
)
TOKEN = TokenRecord("t1", "u7", "Carol", 5, 9, None, ("moderate",))
SESSION = TokenRecord("t3", "u7", "Zoe", 3, 9, None, ("audit",), "session", "my phone")
ZOE = KeptAccount(AccountRecord("u7", "Zoe", 1, ("audit",), 2, None, ""), "hash")
REVOKED = TokenRecord("t2", "u8", "Dave", 6, None, 7, ())


class MoveTests(SynchronousTestCase):
    """From one kind of store to the same kind; other modules have the other pairs."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.clock = Clock()
        self.clock.advance(BEGIN)
        self.out, self.err = io.StringIO(), io.StringIO()
        self.exported = str(self.directory / "everything.jsonl")
        self.old, self.new = self.source_url(), self.target_url()

    def source_url(self) -> str:
        return f"sqlite:{self.directory / 'old.db'}"

    def target_url(self) -> str:
        return f"sqlite:{self.directory / 'new.db'}"

    def store_of(self, url: str) -> Store:
        return SQLiteStore(url.removeprefix("sqlite:"), self.clock, AtOnce(), AtOnce(), call_at_once, Random(len(url)).randbytes)

    def opened(self, url: str) -> tuple[Store, Opened]:
        store = self.store_of(url)
        opened = self.successResultOf(store.open())
        self.addCleanup(store.close)
        return store, opened

    def shell(self, *arguments: str, status: Status | None = Status.DONE) -> str:
        """Run the command; what it wrote to the standard error.  A status of None: any failure."""
        self.err.truncate(0)
        self.err.seek(0)
        context = CommandContext(self.out, self.err, {}, lambda size: b"", lambda work: None, lambda: BEGIN)  # type: ignore[arg-type, return-value]
        ended = run(parser().parse_args(arguments), context)
        if status is None:
            self.assertIn(ended, (Status.FAILED, Status.STORE, Status.USAGE))
        else:
            self.assertEqual(ended, status, self.err.getvalue())
        return self.err.getvalue()

    def fill(self) -> Opened:
        """Everything that a store may have."""
        store, opened = self.opened(self.old)
        self.successResultOf(store.append([Append("lobby", LOG), Append("emptied", [say("gone", key="g")])]))
        self.successResultOf(store.append([Append("den", DEN)]))
        self.successResultOf(store.purge("den", 6, None))
        self.successResultOf(store.purge("lobby", 9, None))
        self.successResultOf(store.purge("emptied", 0, None))
        self.successResultOf(store.archive("quiet", True))
        self.successResultOf(store.create_token(TOKEN, b"1" * 32))
        self.successResultOf(store.create_token(REVOKED, b"2" * 32))
        note = Note(1, "", "here", "account.create", "u7", {"name": "Zoe"})
        self.successResultOf(store.accounts.create_invitation(InvitationRecord("i1", 5, 3, 1), b"3" * 32, note))
        self.successResultOf(store.accounts.create_account(ZOE, note))
        self.successResultOf(store.create_token(SESSION, b"4" * 32))
        self.successResultOf(store.mark_read("u7", "lobby", 3))
        self.successResultOf(store.save_cursor("hook", "lobby", Cursor(opened.epoch, 4, "x-4")))
        self.successResultOf(store.close())
        return opened

    def contents(self, url: str) -> object:
        """All that the contract can ask for, and the store closed again."""
        store, opened = self.opened(url)
        found = (
            opened.epoch,
            opened.secret,
            sorted(opened.rooms, key=lambda room: room.name),
            [self.successResultOf(store.read(room, 0, 1_000, 1 << 30)) for room in ("lobby", "den", "emptied", "quiet")],
            [self.successResultOf(store.page(room, 100)) for room in ("lobby", "den")],
            [each for each in self.successResultOf(store.standing_news(0, 100)).standings if not each.nothing],
            self.successResultOf(store.members("den", "", None, 100)),
            self.successResultOf(store.sanctions("den")),
            self.successResultOf(store.list_tokens()),
            [self.successResultOf(store.find_token(each * 32)) for each in (b"1", b"2", b"4")],
            self.successResultOf(store.accounts.account_named("zoe")),
            self.successResultOf(store.accounts.invitation(b"3" * 32)),
            self.successResultOf(store.accounts.read_audit(None, 0, 10)),
            self.successResultOf(store.read_marks("u7")),
            self.successResultOf(store.load_cursors("hook")),
        )
        self.successResultOf(store.close())
        return found

    def move(self) -> None:
        self.shell("export", "--everything", "--store", self.old, "-o", self.exported)
        self.shell("import", "--store", self.new, self.exported)

    def test_everything(self) -> None:
        """Numbers, ids, epoch, secret, tokens, read marks and cursors are those of before."""
        self.fill()

        self.move()

        self.assertEqual(self.contents(self.new), self.contents(self.old))

    def test_keys(self) -> None:
        """A client that repeats its last message after the move gets the first answer, and the next number follows."""
        self.fill()
        self.move()
        store, _ = self.opened(self.new)

        [[first, repeated], [next_one]] = self.successResultOf(
            store.append([Append("lobby", [say("three", key="k3"), say("six", key="k6")]), Append("emptied", [say("next")])])
        )

        assert isinstance(first, Appended) and isinstance(next_one, Appended)
        self.assertEqual((first.event.seq, next_one.event.seq), (11, 2))
        self.assertIsInstance(repeated, Duplicate)

    def test_the_file_is_secret(self) -> None:
        """Only its owner may read it."""
        self.fill()
        self.move()

        self.assertEqual(os.stat(self.exported).st_mode & 0o777, 0o600)

    def test_there_and_back(self) -> None:
        """An export of the new store has the same lines."""
        self.fill()
        self.move()
        again = self.exported + "-again"

        self.shell("export", "--everything", "--store", self.new, "-o", again)

        self.assertEqual(Path(again).read_bytes(), Path(self.exported).read_bytes())

    def test_a_file_of_before_there_were_settings(self) -> None:
        """Its rooms have the usual ones, and nobody has a role in them."""
        self.fill()
        self.shell("export", "--store", self.old, "lobby", "-o", self.exported)
        text = Path(self.exported).read_text().replace('"version":3', '"version":1').replace(',"settings":{}', "")
        Path(self.exported).write_text(text)

        self.shell("import", "--store", self.new, self.exported)

        store, opened = self.opened(self.new)
        self.assertNotIn("settings", text)
        self.assertEqual([(room.name, room.settings) for room in opened.rooms], [("lobby", RoomSettings())])
        self.assertEqual(opened.standing_news, 0)

    def test_settings_and_roles_without_everything(self) -> None:
        """A private room is one in the new store, too, and has its owner."""
        self.fill()
        self.shell("export", "--store", self.old, "den", "-o", self.exported)

        self.shell("import", "--store", self.new, self.exported)

        store, opened = self.opened(self.new)
        self.assertEqual(opened.rooms[0].settings.access, "private")
        [owner, reader] = self.successResultOf(store.members("den", "", None, 9))
        self.assertEqual((owner.person, owner.role, reader.person, reader.role), ("u1", "owner", "u3", "reader"))

    def test_into_a_store_in_use(self) -> None:
        """A store that has messages keeps its own; nothing is changed."""
        self.fill()
        store, _ = self.opened(self.new)
        self.successResultOf(store.append([Append("other", [say("hello")])]))
        self.successResultOf(store.close())
        before = self.contents(self.new)

        self.shell("export", "--everything", "--store", self.old, "-o", self.exported)
        line = self.shell("import", "--store", self.new, self.exported, status=Status.STORE)

        self.assertIn("has messages, tokens or accounts already", line)
        self.assertEqual(self.contents(self.new), before)

    def test_bad_lines(self) -> None:
        """A file that was changed or cut is refused as a whole, in one line that names what is wrong."""
        self.fill()
        self.shell("export", "--everything", "--store", self.old, "-o", self.exported)
        whole = Path(self.exported).read_text()
        lines = whole.splitlines(keepends=True)
        marks = next(number for number, line in enumerate(lines) if '"type":"read"' in line)
        standing = next(number for number, line in enumerate(lines) if '"type":"standing"' in line)
        for spoiled, words in (
            (whole.replace('"secret":"', '"secret":"AAAA'), "is not a line of an export"),
            (whole.replace(lines[marks], lines[marks].replace('"room":"lobby"', '"room":"nowhere"')), "no such room"),
            (whole.replace(lines[marks], lines[marks] * 2), "valid log"),
            ("".join(lines[:marks]), "ends too early"),
            ("".join([*lines[:marks], *[line for line in lines if '"type":"token"' in line], *lines[marks:]]), "a second time"),
            ("".join([lines[0].replace('"version":4', '"version":5'), *lines[1:]]), "has format 5"),
            ("".join([*lines[:standing], lines[standing], *lines[standing:]]), "valid log"),
            ("".join([lines[0], lines[standing], *lines[1:]]), "stands elsewhere"),
            (whole.replace(lines[standing], lines[standing].replace('"room":"den"', '"room":"lobby"')), "stands elsewhere"),
        ):
            with self.subTest(words=words):
                self.assertNotEqual(spoiled, whole)
                Path(self.exported).write_text(spoiled)

                said = self.shell("import", "--store", self.new, self.exported, status=None)

                self.assertIn(words, said)
                self.assertEqual(said.count("\n"), 1)
        _, opened = self.opened(self.new)
        self.assertEqual(opened.rooms, ())

    def test_hostile_lines(self) -> None:
        """What no store could have given is refused in one line too, at once, whatever kind of store it goes to."""
        self.patch(transfer, "LINE_BYTES", 100_000)
        self.fill()
        self.shell("export", "--everything", "--store", self.old, "-o", self.exported)
        lines = Path(self.exported).read_text().splitlines(keepends=True)

        def changed(kind: str, old: str, new: str) -> str:
            number = next(number for number, line in enumerate(lines) if f'"type":"{kind}"' in line and old in line)
            return "".join([*lines[:number], lines[number].replace(old, new, 1), *lines[number + 1 :]])

        before_end = lines[:-1]
        for spoiled, words in (
            ("".join([*before_end, lines[1], lines[-1]]), "the identity stands elsewhere"),
            ("".join([lines[0], *lines[2:5], lines[1], *lines[5:]]), "the identity stands elsewhere"),
            ("".join([*before_end, '{"x":' + "[" * 50_000 + "\n", lines[-1]]), "is not a line of an export"),
            ("".join([*before_end, "x" * 200_000 + "\n", lines[-1]]), "is longer than 100000 bytes"),
            (changed("room", '"head":', f'"head":{1 << 63}'), "head is not a number from 0 to"),
            (changed("room", '"first":1', '"first":-5'), "first is not a number from 1 to"),
            (changed("event", '"at":', '"at":-'), "at is not a number from 0 to"),
            (changed("token", '"created":5', f'"created":{1 << 70}'), "created is not a number from 0 to"),
            (changed("room", '"access":"private"', '"access":"secret"'), "'secret' is not an access of a room"),
            (changed("standing", '"role":"owner"', '"role":"king"'), "'king' is not a role"),
            (changed("standing", '"muted":', '"muted":-1'), "muted is not a number from 0 to"),
            (changed("read", '"seq":', f'"seq":{1 << 63}'), "seq is not a number from 0 to"),
            (changed("cursor", '"room":"', '"room":"\\u0001z'), "is not a character that can be seen"),
        ):
            with self.subTest(words=words):
                Path(self.exported).write_text(spoiled)

                said = self.shell("import", "--store", self.new, self.exported, status=None)

                self.assertIn(words, said)
                self.assertEqual(said.count("\n"), 1)
        _, opened = self.opened(self.new)
        self.assertEqual(opened.rooms, ())

    def test_rooms_and_everything(self) -> None:
        """A move has all rooms."""
        self.fill()

        line = self.shell("export", "--everything", "--store", self.old, "lobby", status=Status.USAGE)

        self.assertIn("--everything: exports all rooms", line)
