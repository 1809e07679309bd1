"""``twisted-chat`` against the real server: each verb, its JSON, its statuses and errors."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.certificates import make_certificate
from tests.harness.servers import JsonClient, Server, free_port
from tests.harness.serving import ROOT, environment
from tests.harness.waiting import PATIENCE, wait_until
from twisted_chat.cli.output import Status

COMMAND = [sys.executable, "-m", "twisted_chat.cli"]


class Shell:
    """A directory to work in, and the command in it."""

    def __init__(self, directory: str, url: str = "", **variables: str) -> None:
        self.directory = Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        home = str(self.directory)
        self.variables = environment(HOME=home, XDG_STATE_HOME=home, TZ="UTC", **({"TWISTED_CHAT_URL": url} if url else {}))
        self.variables.update(variables)

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen([*COMMAND, *arguments], cwd=self.directory, env=self.variables, text=True, **pipes)

    def __call__(self, *arguments: str, input: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.directory,
            env=self.variables,
            input=input,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert ended.returncode == status, f"{arguments} ended with {ended.returncode}: {ended.stdout}{ended.stderr}"
        return ended

    def lines(self, *arguments: str, input: str = "", status: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(*arguments, "--json", input=input, status=status).stdout.splitlines()]

    def error(self, *arguments: str, status: int, input: str = "") -> str:
        """The one line that says what is wrong."""
        ended = self(*arguments, status=status, input=input)
        (line,) = ended.stderr.splitlines()
        assert line.startswith("twisted-chat: "), line
        return line.removeprefix("twisted-chat: ")


class ClientVerbTests(SynchronousTestCase):
    def test_send_and_tail(self) -> None:
        """What is said is acknowledged, printed escaped, and can be read from any number on."""
        with Server(self.mktemp()) as server:
            shell = Shell(self.mktemp(), server.websocket)
            self.assertEqual(shell("send", "lobby", "hello \x1b[31m\u202eworld\nbob: I am bob", "--name", "alice").stdout, "")
            acknowledged = shell.lines("send", "lobby", input="one\n\ntwo\n", status=0)
            self.assertEqual([(line["line"], line["seq"]) for line in acknowledged], [(1, 2), (3, 3)])
            shown = shell("tail", "lobby", "--lines", "3").stdout.splitlines()
            self.assertRegex(shown[0], r"^\d\d:\d\d:\d\d alice: hello \\x1b\[31m\\u202eworld$")
            self.assertEqual(shown[1], "         | bob: I am bob")
            self.assertTrue(shown[2].endswith(": one"))
            self.assertEqual([line["seq"] for line in shell.lines("tail", "lobby", "--since", "1")], [2, 3])
            self.assertEqual([line["text"] for line in shell.lines("tail", "lobby", "--since", "0")][1:], ["one", "two"])
            self.assertEqual(shell.lines("tail", "lobby", "--since", "3"), [])

            said = shell("send", "lobby", input="a\n" + "x" * 20_000 + "\nb\n", status=Status.FAILED)
            self.assertIn("line 2: too_big", said.stderr)
            self.assertIn("2 of 3 messages are stored, 1 were refused", said.stderr)

            twice = [shell.lines("send", "lobby", "--key", "k", input="1\n2\n") for _ in range(2)]
            self.assertEqual(twice[0], twice[1])

            follower = shell.start("tail", "lobby", "--follow", "--json", "-n", "0")
            assert follower.stdout is not None
            with JsonClient(server.websocket) as client:
                client.ask({"type": "join", "room": "lobby"})
                while follower.poll() is None:
                    client.send("lobby", str(time.monotonic()), "later")
                    if select.select([follower.stdout], [], [], 0.2)[0]:
                        break
            self.assertEqual(json.loads(follower.stdout.readline())["text"], "later")
            follower.send_signal(signal.SIGINT)
            self.assertEqual(follower.wait(PATIENCE), Status.INTERRUPTED)
            follower.communicate()

            head = shell.start("tail", "lobby", "--follow")
            assert head.stdout is not None
            head.stdout.close()
            shell("send", "lobby", "somebody there?")
            self.assertEqual(head.wait(PATIENCE), Status.NO_READER)
            assert head.stderr is not None and head.stdin is not None
            self.assertEqual(head.stderr.read(), "")
            head.stderr.close()
            head.stdin.close()

            plain = shell("talk", "lobby", "-n", "0", input="from a pipe\n/who\n")
            self.assertIn(": from a pipe", plain.stdout)
            self.assertIn(" here: ", plain.stderr)

    def test_errors(self) -> None:
        """One line, cause and cure, a status of its own; nothing that looks like a token."""
        shell = Shell(self.mktemp(), f"ws://127.0.0.1:{free_port()}")

        self.assertIn("is the server running", shell.error("send", "lobby", "x", "--wait", "1", status=Status.NO_SERVER))

        error = json.loads(shell("tail", "lobby", "--wait", "1", "--json", status=Status.NO_SERVER).stderr)

        self.assertEqual((error["status"], "cannot be reached" in error["error"]), (3, True))
        self.assertIn("--url: ftp://x", shell.error("tail", "lobby", "--url", "ftp://x", status=Status.USAGE))

        with Server(self.mktemp(), "--no-guests") as server:
            refused = shell.error("send", "lobby", "x", "--url", server.websocket, status=Status.REFUSED)
            self.assertIn("TWISTED_CHAT_TOKEN", refused)
            store = f"sqlite:{server.directory}/chat.db"
            token = shell("token", "create", "Alice", "--store", store).stdout.strip()
            (shell.directory / "token").write_text(token + "\n")
            shell("send", "lobby", "x", "--url", server.websocket, "--token-file", "token")
            shell.variables["TWISTED_CHAT_TOKEN"] = token
            (line,) = shell.lines("tail", "lobby", "--url", server.websocket)
            self.assertEqual((line["by"]["name"], line["text"]), ("Alice", "x"))
            (record,) = shell.lines("token", "list", "--store", store)
            self.assertNotIn(token, str(record))
            following = shell.start("tail", "lobby", "--follow", "--url", server.websocket)
            assert following.stdout is not None
            following.stdout.readline()
            self.assertIn("is revoked", shell("token", "revoke", record["id"], "--store", store).stdout)
            _, problem = following.communicate(timeout=PATIENCE)
            self.assertEqual(following.returncode, Status.REFUSED)
            self.assertNotIn(token, problem)
            self.assertIn("has no token t0", shell.error("token", "revoke", "t0", "--store", store, status=Status.FAILED))
            self.assertIn("revoked", shell("token", "list", "--store", store).stdout)

    def test_kill_in_between(self) -> None:
        """kill -9 of the server while lines are sent, and of the command itself: each line is there once, in order."""
        with Server(self.mktemp()) as server:
            shell = Shell(self.mktemp(), server.websocket)
            texts = [f"line {number}" for number in range(6_000)]
            lines = "".join(text + "\n" for text in texts)
            (shell.directory / "lines").write_text(lines)
            with (shell.directory / "lines").open() as file:
                sender = shell.start("send", "lobby", "--key", "all", "--json", stdin=file)
                assert sender.stdout is not None
                for _ in range(500):
                    sender.stdout.readline()
                server.kill()
                server.start_again()
                for _ in range(1_500):
                    sender.stdout.readline()
                sender.kill()
                sender.communicate()
            server.wait_for("READY=1")
            acknowledged = shell.lines("send", "lobby", "--key", "all", input=lines)
            self.assertEqual(len(acknowledged), len(texts))
            self.assertEqual([line["text"] for line in shell.lines("tail", "lobby", "--since", "0")], texts)

    def test_tls(self) -> None:
        """The certificate is verified, and may be one's own."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        key, certificate = make_certificate(directory)
        port = free_port()
        listen = f"ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        with Server(self.mktemp(), "--listen", listen) as server:
            shell = Shell(self.mktemp(), f"wss://localhost:{port}")
            shell("send", "lobby", "hello", "--trust", str(certificate))
            self.assertIn("certificate", shell.error("send", "lobby", "x", "--wait", "1", status=Status.NO_SERVER))
            checks = {
                line["check"]: line["health"]
                for line in shell.lines(
                    "doctor",
                    "--store",
                    f"sqlite:{server.directory}/chat.db",
                    "--url",
                    f"wss://localhost:{port}",
                    "--trust",
                    str(certificate),
                )
            }
            self.assertEqual((checks["upgrade"], checks["certificate"]), ("ok", "warn"))


class TerminalTests(SynchronousTestCase):
    """``talk`` in a pseudo-terminal."""

    @contextmanager
    def terminal(self, shell: Shell, *arguments: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
        ours, theirs = pty.openpty()
        process = shell.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        try:
            yield ours, process
        finally:
            process.kill()
            process.wait()
            os.close(ours)

    def read_until(self, terminal: int, pattern: str) -> str:
        seen = ""
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, seen):
            self.assertLess(time.monotonic(), deadline, seen)
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 65536).decode("utf-8", "replace")
        return seen

    def test_typing_line_stays(self) -> None:
        """What is being typed is drawn anew below each message that arrives, and nothing of it is lost."""
        with Server(self.mktemp()) as server, JsonClient(server.websocket, "bob") as bob:
            bob.ask({"type": "join", "room": "lobby"})
            shell = Shell(self.mktemp(), server.websocket, COLUMNS="40")
            with self.terminal(shell, "talk", "lobby", "--name", "alice") as (terminal, process):
                before = termios.tcgetattr(terminal)
                self.read_until(terminal, "you are alice in lobby.*\n.*> ")
                os.write(terminal, b"half a thou")
                self.read_until(terminal, "half a thou\r")
                bob.send("lobby", "k1", "ping \x1b]0;title\x07")
                seen = self.read_until(terminal, "ping.*\n.*half a thou\r")
                self.assertRegex(seen, r"\r\x1b\[K\d\d:\d\d:\d\d bob: ping \\x1b\]0;title\\x07\r\n> half a thou\r\x1b\[13C")
                os.write(terminal, b"ght\r")
                self.read_until(terminal, "alice: half a thought\r\n> \r")
                os.write(terminal, b"/who\r")
                self.read_until(terminal, "2 here: ")
                os.write(terminal, b"\x04")
                self.assertEqual(process.wait(PATIENCE), 0)
                self.assertEqual(termios.tcgetattr(terminal)[3], before[3])


class StoreVerbTests(SynchronousTestCase):
    def test_rooms(self) -> None:
        """Rooms that the command makes and archives are known to the running server within seconds, also when it comes back."""
        with Server(self.mktemp(), "--no-create-rooms") as server:
            shell = Shell(str(server.directory), server.websocket)
            self.assertIn("no_such_room", shell.error("send", "plans", "x", status=Status.REFUSED))
            self.assertIn("plans is created", shell("room", "create", "plans").stdout)
            self.assertIn("already", shell.error("room", "create", "plans", status=Status.FAILED))
            with JsonClient(server.websocket) as client:
                wait_until(lambda: client.ask({"type": "join", "room": "plans"}), lambda answer: answer["type"] == "ok")
                self.assertEqual(shell.lines("room", "archive", "plans")[0]["archived"], True)
                keys = count()
                refused = wait_until(
                    lambda: client.send("plans", f"k{next(keys)}", "too late?"), lambda answer: answer["type"] == "error"
                )
                said = next(keys) - 1
            self.assertIn("archived", refused["message"])
            self.assertIn("archived", shell.error("send", "plans", "x", status=Status.REFUSED))
            server.kill()
            server.start_again()
            server.wait_for("READY=1")
            self.assertIn("archived", shell.error("send", "plans", "x", status=Status.REFUSED))
            (room,) = shell.lines("room", "list")
            self.assertEqual((room["room"], room["head"], room["archived"]), ("plans", said, True))
            shell("room", "archive", "plans", "--undo")
            self.assertRegex(shell("room", "list").stdout, r"ROOM +FIRST +HEAD +STATE +TOPIC\nplans +1 +\d+ +open +-\n")
            self.assertIn("has no room x", shell.error("room", "archive", "x", status=Status.FAILED))

    def test_export_import_backup_doctor(self) -> None:
        """A log comes out, in, and out again as it was; a copy made while the server writes is whole; the doctor finds it well."""
        with Server(self.mktemp()) as server, JsonClient(server.websocket, "alice") as client:
            shell = Shell(str(server.directory), server.websocket)
            client.ask({"type": "join", "rooms": ["lobby", "other"]})
            for number in range(1, 6):
                client.send("lobby", f"k{number}", f"text {number} é\x00\u202e")
            client.ask({"type": "edit", "room": "lobby", "key": "e", "of": 1, "revision": 1, "text": "edited"})
            client.ask({"type": "edit", "room": "lobby", "key": "e2", "of": 2, "revision": 1, "text": "secret"})
            client.ask({"type": "delete", "room": "lobby", "key": "d", "of": 2})
            client.ask({"type": "react", "room": "lobby", "key": "r", "of": 3, "emoji": "👍"})
            client.ask({"type": "send", "room": "lobby", "key": "b", "data": "AAEC"})
            client.ask({"type": "send", "room": "other", "key": "b", "text": "there", "reply_to": 1})
            page = client.ask({"type": "history", "room": "lobby"})["events"]
            exported = shell("export").stdout
            self.assertTrue(exported.isascii())
            self.assertNotIn("secret", exported)

            stop = threading.Event()

            def write() -> None:
                with JsonClient(server.websocket) as writer:
                    writer.ask({"type": "join", "room": "busy"})
                    number = 0
                    while not stop.is_set():
                        number += 1
                        writer.send("busy", f"w{number}", "x" * 500)

            writing = threading.Thread(target=write)
            writing.start()
            (copied,) = shell.lines("backup", "copy.db")
            stop.set()
            writing.join()
            self.assertTrue(copied["verified"])
            self.assertEqual([str(path.name) for path in server.directory.glob("copy.db*")], ["copy.db"])
            self.assertIn("exists", shell.error("backup", "copy.db", status=Status.STORE))
            self.assertIn("in use by another server", shell.error("import", "-", input=exported, status=Status.STORE))

            checks = {line["check"]: line for line in shell.lines("doctor", "--url", server.websocket)}
            self.assertEqual({check["health"] for name, check in checks.items() if name != "disk"} - {"warn"}, {"ok"})
            self.assertIn("running (pid", checks["server"]["message"])
            self.assertEqual(checks["upgrade"]["health"], "ok")

        other = Shell(self.mktemp())
        (other.directory / "export").write_text(exported)
        cut = "".join(exported.splitlines(keepends=True)[:-1])
        self.assertIn("ends too early", other.error("import", "-", input=cut, status=Status.FAILED))
        self.assertEqual(other.lines("import", "export")[0]["events"], exported.count('"type":"event"'))
        again = other("export").stdout
        self.assertEqual(again.splitlines()[1:], exported.splitlines()[1:])
        self.assertIn("has messages already", other.error("import", "export", status=Status.STORE))
        with Server(other.directory) as server, JsonClient(server.websocket) as client:
            self.assertEqual(client.ask({"type": "history", "room": "lobby"})["events"], page)
        self.assertIn("no such file", Shell(self.mktemp()).error("export", status=Status.STORE))

    def test_doctor_finds_trouble(self) -> None:
        """Each trouble is a line with its cure, and the status says that there is one."""
        shell = Shell(self.mktemp())
        (shell.directory / "chat.db").write_bytes(b"SQLite format 3\x00" + b"garbage" * 1000)
        (shell.directory / "chat.db").chmod(0o644)
        (shell.directory / "chat.toml").write_text('listen = ["ssl:1:certKey=gone.pem"]\njwt_keys = ["EdDSA:gone"]\n')
        found = shell.lines("doctor", "--config", "chat.toml", "--url", f"ws://127.0.0.1:{free_port()}", status=Status.FAILED)
        health = {line["check"]: line["health"] for line in found}

        self.assertEqual((health["permissions"], health["store"]), ("warn", "fail"))
        self.assertEqual((health["keys"], health["certificate"], health["upgrade"]), ("fail", "fail", "fail"))
        self.assertTrue(all(line["cure"] or line["check"] == "store" for line in found if line["health"] == "fail"))

        (shell.directory / "chat.toml").write_text("lisen = 1\n")
        self.assertIn("did you mean listen?", shell("doctor", "--config", "chat.toml", status=Status.FAILED).stdout)


class DocumentationTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """The commands of docs/shell.rst run as they stand there, one after the other."""
        page = (ROOT / "docs" / "shell.rst").read_text()
        commands = re.findall(r"^    \$ (.+)$", page, re.MULTILINE)

        self.assertGreater(len(commands), 10)

        with Server(self.mktemp()) as server:
            shell = Shell(str(server.directory), server.websocket)
            bin_directory = server.directory / "bin"
            bin_directory.mkdir()
            script = bin_directory / "twisted-chat"
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m twisted_chat.cli "$@"\n')
            script.chmod(0o755)
            shell.variables["PATH"] = f"{bin_directory}:{shell.variables['PATH']}"
            for command in commands:
                ended = subprocess.run(
                    ["sh", "-c", command],
                    cwd=shell.directory,
                    env=shell.variables,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                    check=False,
                )
                self.assertEqual(ended.returncode, 0, f"{command}: {ended.stdout}{ended.stderr}")
