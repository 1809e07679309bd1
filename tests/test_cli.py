"""The verbs of ``twisted-chat`` that are clients, in memory: what they print, when they end, what they say when they cannot."""

from __future__ import annotations

import io
import json
import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable
from importlib import import_module
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.cli import connect
from twisted_chat.cli.main import ended
from twisted_chat.cli.options import parser
from twisted_chat.cli.output import CliError, CommandContext, Status, as_json, shown
from twisted_chat.cli.send import WINDOW, send
from twisted_chat.cli.tail import tail
from twisted_chat.cli.talk import talk
from twisted_chat.client import ChatClient, ClientRoom, Message
from twisted_chat.errors import Forbidden
from twisted_chat.events import Author
from twisted_chat.store_contract import StoreError
from twisted_chat.testing import MemoryChat


class VerbTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.chat = MemoryChat()
        self.chunks: list[bytes] = []
        self.out, self.err = io.StringIO(), io.StringIO()
        state = {"XDG_STATE_HOME": self.mktemp()}
        self.world = CommandContext(
            self.out, self.err, state, self.read, lambda work: succeed(work()), self.chat.clock.seconds, self.chat.clock
        )
        self.patch(connect, "make_client", self.make_client)

    def make_client(self, args: Namespace, world: CommandContext, device: str | None = None) -> ChatClient:
        return self.chat.client(args.name, started=False, device=device, flush_seconds=0.0)

    def read(self, size: int) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""

    def start(self, verb: Callable[[Namespace, CommandContext], Any], *arguments: str) -> Deferred[int]:
        running: Deferred[int] = Deferred.fromCoroutine(verb(parser().parse_args([*arguments]), self.world))
        self.chat.pass_time(1)
        return running

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]


class SendTests(VerbTests):
    def count_under_way(self) -> list[int]:
        """How many messages have no answer yet, noted at each that is sent."""
        waiting: list[Deferred[Message]] = []
        counts: list[int] = []
        send_message = ClientRoom.send

        def counted(room: ClientRoom, text: str, **options: Any) -> Deferred[Message]:
            sent = send_message(room, text, **options)
            waiting.append(sent)
            counts.append(sum(not each.called for each in waiting))
            return sent

        self.patch(ClientRoom, "send", counted)
        return counts

    def test_lines_in_any_pieces(self) -> None:
        """Lines may come in pieces, with either line end, and the last one without any."""
        self.chunks = [b"on", b"e\r\ntwo\n\n\xc3", b"\xa9\nlast"]

        self.assertEqual(self.successResultOf(self.start(send, "send", "lobby", "--json")), Status.DONE)
        self.assertEqual(self.chat.texts("lobby"), ["one", "two", "é", "last"])
        self.assertEqual([line["line"] for line in self.lines()], [1, 2, 4, 5])

    def test_more_than_may_wait(self) -> None:
        """Of many lines at most :data:`WINDOW` are under way at once, and all are sent, in order."""
        self.chunks = [b"".join(b"%d\n" % number for number in range(WINDOW * 3))]
        under_way = self.count_under_way()
        running = self.start(send, "send", "lobby")

        self.chat.pass_time(10)

        self.assertEqual(self.successResultOf(running), Status.DONE)
        self.assertEqual(max(under_way), WINDOW)
        self.assertEqual(self.chat.texts("lobby"), [str(number) for number in range(WINDOW * 3)])

    def test_the_same_key_again(self) -> None:
        """A guest's second run with the key is by the same guest, and says nothing twice."""
        for _ in range(2):
            self.chunks = [b"1\n2\n"]
            self.successResultOf(self.start(send, "send", "lobby", "--key", "k"))

        self.assertEqual(self.chat.texts("lobby"), ["1", "2"])

        self.successResultOf(self.start(send, "send", "lobby", "3", "--key", "other"))
        self.assertEqual(len({event.by.id for event in self.chat.log("lobby")}), 2)

    def test_server_restarts(self) -> None:
        """Within --wait the server may go and come."""
        self.chat.kill()
        running = self.start(send, "send", "lobby", "hello", "--wait", "60")

        self.assertNoResult(running)

        self.chat.start()
        self.chat.pass_time(40)

        self.assertEqual(self.successResultOf(running), Status.DONE)
        self.assertEqual(self.chat.texts("lobby"), ["hello"])

    def test_no_server(self) -> None:
        """After --wait it is over, and it says how to go on."""
        self.chat.kill()
        running = self.start(send, "send", "lobby", "hello", "--key", "k", "--wait", "5")

        self.chat.pass_time(5)
        error = self.failureResultOf(running, CliError).value

        self.assertEqual(error.status, Status.NO_SERVER)
        self.assertIn("is the server running", str(error))
        self.assertIn("0 of 0 messages are known to be stored; the same command with --key k sends the others", str(error))

    def test_refused_lines(self) -> None:
        """What cannot be said is named by its line; the rest is said."""
        self.chunks = [b"one\n" + b"x" * 20_000 + b"\n\xff\nfour\n"]
        error = self.failureResultOf(self.start(send, "send", "lobby", "--json"), CliError).value

        self.assertEqual((error.status, str(error)), (Status.FAILED, "2 of 4 messages are stored, 2 were refused"))
        self.assertEqual(self.chat.texts("lobby"), ["one", "four"])

        refused = {line["line"]: line["error"]["code"] for line in self.lines() if "error" in line}
        self.assertEqual(refused, {2: "too_big", 3: "bad_request"})

    def test_progress(self) -> None:
        """On a terminal many lines show how far they are, and nothing of it is left."""
        self.world.error_terminal = self.world.output_terminal = True
        self.chunks = [b"x\n" * 50]

        self.successResultOf(self.start(send, "send", "lobby"))

        self.assertRegex(self.err.getvalue(), r"\r\d+ of 50 messages are stored\x1b\[K")
        self.assertTrue(self.err.getvalue().endswith("\r\x1b[K"))
        self.assertEqual(self.out.getvalue(), "50 messages are stored; the last has number 50\n")

    def test_progress_not_in_a_file(self) -> None:
        """Without a terminal nothing is printed about progress."""
        self.chunks = [b"x\n" * 50]
        self.successResultOf(self.start(send, "send", "lobby"))
        self.assertEqual((self.out.getvalue(), self.err.getvalue()), ("", ""))

    def test_interrupted(self) -> None:
        """An interrupted command prints the key with which it can be continued."""
        self.chat.kill()
        running = self.start(send, "send", "lobby", "hello", "--key", "k")

        running.cancel()
        self.chat.pass_time(1)

        self.failureResultOf(running)
        self.assertIn("the same command with --key k", self.err.getvalue())

    def test_bad_key(self) -> None:
        """A key of other characters than visible ASCII is refused, and the error names the option."""
        self.assertIn("--key", str(self.failureResultOf(self.start(send, "send", "lobby", "x", "--key", "é"), CliError).value))


class TailTests(VerbTests):
    def test_since_while_others_write(self) -> None:
        """Everything after the number, though the head moves while the place is looked for."""
        self.chat = MemoryChat(clock=self.chat.clock, latency=0.1)
        for number in range(1, 31):
            self.chat.say("lobby", str(number))
        running: Deferred[int] = Deferred.fromCoroutine(
            tail(parser().parse_args(["tail", "lobby", "--since", "25", "-f"]), self.world)
        )

        for number in range(31, 51):
            self.chat.pass_time(0.1)
            self.chat.say("lobby", str(number))
        self.chat.pass_time(2)
        texts = [line.rpartition(": ")[2] for line in self.out.getvalue().splitlines()]

        self.assertEqual(texts, [str(number) for number in range(26, 51)])

        running.cancel()
        self.chat.pass_time(1)

        self.failureResultOf(running)

    def test_follow_over_a_restart(self) -> None:
        """What was said meanwhile comes, too, and nothing twice."""
        running = self.start(tail, "tail", "lobby", "--follow")

        self.chat.say("lobby", "one")
        self.chat.settle()
        self.chat.kill()
        self.chat.pass_time(1)
        self.chat.start()
        self.chat.say("lobby", "two")
        self.chat.pass_time(20)

        self.assertEqual([line.rpartition(": ")[2] for line in self.out.getvalue().splitlines()], ["one", "two"])
        self.assertIn("trying again", self.err.getvalue())
        self.assertIn("connected again", self.err.getvalue())

        running.cancel()
        self.chat.pass_time(1)

        self.failureResultOf(running)

    def test_nothing_there(self) -> None:
        """An empty room ends at once, and a number beyond the head as well."""
        self.assertEqual(self.successResultOf(self.start(tail, "tail", "lobby")), Status.DONE)
        self.assertEqual(self.successResultOf(self.start(tail, "tail", "lobby", "--since", "7")), Status.DONE)
        self.assertEqual(self.out.getvalue(), "")

    def test_nobody_reads(self) -> None:
        """The command ends when its output is closed."""

        class Closed(io.StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError

        self.chat.say("lobby", "one")
        self.world.stdout = Closed()

        self.failureResultOf(self.start(tail, "tail", "lobby", "--follow"), BrokenPipeError)


class TalkTests(VerbTests):
    def test_plain(self) -> None:
        """Lines in, lines out; the end of the input ends it when everything is kept and shown."""
        self.chat.say("lobby", "before")
        self.chunks = [b"hello\n//path\n/nonsense\n/who\n"]

        self.assertEqual(self.successResultOf(self.start(talk, "talk", "lobby", "--json")), Status.DONE)
        self.assertEqual([line["text"] for line in self.lines()], ["before", "hello", "/path"])
        self.assertIn("/nonsense is not a command", self.err.getvalue())

    def test_too_long(self) -> None:
        """A line that the server refuses is reported, and the exit status tells."""
        self.chunks = [b"x" * 20_000]
        self.assertEqual(self.successResultOf(self.start(talk, "talk", "lobby")), Status.FAILED)
        self.assertIn("too_big", self.err.getvalue())


class ShowingTests(SynchronousTestCase):
    def test_nothing_acts_on_a_terminal(self) -> None:
        """Names, texts and topics are shown with escapes; a further line does not look like somebody's."""
        every = "".join(map(chr, range(0x20))) + "\x7f\x80\x9b\u200b\u202e\u2028\ue000"
        message = Message(7, "b-7", 0, Author("u1", f"al{every}ice"), None, f"hi{every}\nbob: me")

        for text in (shown(message), json.dumps(as_json("lobby", message), ensure_ascii=True)):
            unseen = [character for character in text if not character.isprintable() and character != "\n"]
            self.assertEqual(unseen, [])

        self.assertTrue(all(line.startswith("         | ") for line in shown(message).split("\n")[1:]))

    def test_other_kinds(self) -> None:
        """Binary messages are shown by their size, deleted ones as deleted."""
        by = Author("u1", "alice")
        self.assertIn("(3 bytes)", shown(Message(1, "b-1", 0, by, None, None, b"abc")))
        self.assertIn("was deleted", shown(Message(1, "b-1", 0, by, None, gone=True)))


class EndTests(SynchronousTestCase):
    def test_statuses(self) -> None:
        """Each way to end has its status and one line."""
        for error, status in (
            (CliError("x", Status.REFUSED), Status.REFUSED),
            (StoreError("x"), Status.STORE),
            (Forbidden("x"), Status.FAILED),
            (FileNotFoundError(2, "No such file", "x"), Status.STORE),
        ):
            err = io.StringIO()
            world = CommandContext(io.StringIO(), err, {}, lambda size: b"", lambda work: succeed(work()), lambda: 0.0)
            self.assertEqual(ended(error, Namespace(json=True), world), status)
            self.assertEqual(json.loads(err.getvalue())["status"], status)

    def test_status_without_a_reader(self) -> None:
        """A command whose output is closed ends with a status of its own and says nothing."""
        err = io.StringIO()
        world = CommandContext(io.StringIO(), err, {}, lambda size: b"", lambda work: succeed(work()), lambda: 0.0)

        self.assertEqual(ended(BrokenPipeError(), Namespace(json=True), world), Status.NO_READER)
        self.assertEqual(err.getvalue(), "")

    def test_command_line(self) -> None:
        """What is wrong with it is one line and status 2."""
        for arguments, said in (
            (["tail"], "see twisted-chat tail --help"),
            (["tail", "no such/room"], "may not be in a room's name"),
            (["tail", "lobby", "--since", "-1"], "--since: '-1' is not a whole number from 0 on"),
            (["tail", "lobby", "--lines", "x"], "--lines: 'x' is not a whole number from 0 on"),
            (["tail", "lobby", "--wait", "nan"], "--wait: 'nan' is not a number of seconds from 0 on"),
            (["tail", "lobby", "--wait", "-1"], "--wait: '-1' is not a number of seconds from 0 on"),
            (["sned", "lobby"], "sned"),
        ):
            err = io.StringIO()
            self.patch(sys, "stderr", err)
            self.assertEqual(self.assertRaises(SystemExit, parser().parse_args, arguments).code, Status.USAGE)
            self.assertEqual(len(err.getvalue().splitlines()), 1)
            self.assertIn(said, err.getvalue())

    def test_faults_are_not_hidden(self) -> None:
        """An unexpected exception is raised, not turned into a line."""
        world = CommandContext(io.StringIO(), io.StringIO(), {}, lambda size: b"", lambda work: succeed(work()), lambda: 0.0)
        self.assertRaises(ZeroDivisionError, ended, ZeroDivisionError(), Namespace(json=False), world)

    def test_token(self) -> None:
        """From the option, a file, the environment; one that is none is an error that does not show it."""
        world = CommandContext(
            io.StringIO(),
            io.StringIO(),
            {"TWISTED_CHAT_TOKEN": "tc_env"},
            lambda size: b"",
            lambda work: succeed(work()),
            lambda: 0.0,
        )

        self.assertEqual(connect.token_of(Namespace(token=None, token_file=None), world), "tc_env")
        self.assertEqual(connect.token_of(Namespace(token="tc_x", token_file=None), world), "tc_x")

        error = self.assertRaises(CliError, connect.token_of, Namespace(token="tc secret", token_file=None), world)
        self.assertNotIn("secret", str(error))
        self.assertRaises(CliError, connect.token_of, Namespace(token="a", token_file="b"), world)


class VerbTableTests(SynchronousTestCase):
    def test_every_verb_has_its_function(self) -> None:
        """The table names a module and a function of it for each verb; they are imported only when the verb is used."""
        names: list[str] = []

        def collect(command: ArgumentParser) -> None:
            run = command.get_default("run")
            if run is not None:
                names.append(run)
            for action in command._actions:  # argparse has no public way to list sub-commands
                if isinstance(action, _SubParsersAction):
                    for below in action.choices.values():
                        collect(below)

        collect(parser())

        self.assertGreater(len(names), 10)

        for name in names:
            module, _, function = name.partition(".")
            self.assertTrue(callable(getattr(import_module(f"twisted_chat.cli.{module}"), function)), name)
