"""Each example runs as a program, against the real server where it needs one."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.harness.serving import ROOT, Served, environment, free_port
from tests.harness.waiting import PATIENCE, wait_until

EXAMPLES = ROOT / "examples"


class Examples(SynchronousTestCase):
    @contextmanager
    def running(self, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """The example as a program, which ends well when it is asked to."""
        command = [sys.executable, str(EXAMPLES / name), *arguments]
        with subprocess.Popen(command, cwd=self.directory(), env=environment(), stderr=subprocess.PIPE) as process:
            try:
                yield process
                self.assertIsNone(process.poll(), f"{name} has ended")
                process.send_signal(signal.SIGINT)
                self.assertIn(process.wait(PATIENCE), (0, 1, -signal.SIGINT))
                assert process.stderr is not None
                self.assertNotIn(b"Traceback", process.stderr.read().replace(b"KeyboardInterrupt", b""))
            finally:
                if process.poll() is None:
                    process.kill()

    def directory(self) -> Path:
        path = Path(self.mktemp()).absolute()
        path.mkdir(parents=True)
        return path

    def server(self, *arguments: str) -> Served:
        server = Served(self.directory(), *arguments)
        server.__enter__()
        self.addCleanup(server.__exit__, None, None, None)
        return server

    def until_served(self, ask: Callable[[], Any]) -> Any:
        """The answer of a program, once it listens."""

        def answer() -> Any:
            try:
                return ask()
            except OSError:
                return None

        return wait_until(answer)

    def present(self, server: Served, room: str, count: int) -> None:
        """Until there are so many people in the room."""
        with connect(server.websocket, subprotocols=["chat.v1.json"]) as watcher:  # type: ignore[list-item]
            watcher.send(json.dumps({"type": "hello", "id": 1}))
            watcher.send(json.dumps({"type": "join", "id": 2, "room": room, "presence": True}))
            people: set[str] = set()
            while len(people) < count + 1:
                said = json.loads(watcher.recv(PATIENCE))
                people |= {user["id"] for user in (*said.get("people", ()), *said.get("came", ()))}

    def texts(self, client: ClientConnection, count: int) -> list[str]:
        return [str(client.recv(PATIENCE)) for _ in range(count)]


class ProgramTests(Examples):
    def test_bot(self) -> None:
        """``examples/bot.py`` answers a question in its room."""
        server = self.server()
        with self.running("bot.py", server.websocket, "lobby", "--journal", "bot.journal"):
            self.present(server, "lobby", 1)
            with connect(server.websocket) as alice:
                alice.send("!count")
                self.assertEqual(self.texts(alice, 2), ["!count", "1 messages"])

    def test_bridge(self) -> None:
        """``examples/bridge.py`` passes messages on in both directions, with the names."""
        one, two = self.server(), self.server()
        arguments = (one.websocket, "lobby", two.websocket, "foyer", "--state", str(self.directory()))
        with self.running("bridge.py", *arguments):
            self.present(one, "lobby", 1)
            self.present(two, "foyer", 1)
            with connect(f"{one.websocket}/?name=alice") as alice, connect(f"{two.websocket}/ws/foyer?name=bob") as bob:
                alice.send("hello")
                self.assertEqual(self.texts(bob, 1), ["alice: hello"])
                bob.send("hi")
                self.assertEqual(self.texts(alice, 2), ["hello", "bob: hi"])

    def test_log_tailer(self) -> None:
        """``examples/log_tailer.py`` sends the lines that are added to a file."""
        directory = self.directory()
        (directory / "chat.toml").write_text('[rooms."live.*"]\ndurable = false\n')
        log = directory / "messages"
        log.write_text("old\n")
        server = self.server(f"--config={directory / 'chat.toml'}")
        with self.running("log_tailer.py", str(log), server.websocket, "live.log"):
            self.present(server, "live.log", 1)
            with connect(f"{server.websocket}/ws/live.log") as alice, log.open("a") as file:
                for line in ("one", "two"):
                    file.write(line + "\n")
                file.flush()
                self.assertEqual(self.texts(alice, 2), ["one", "two"])

    def get(self, port: int, path: str) -> tuple[int, str, str]:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Set-Cookie") or answer.getheader("Location") or "", answer.read().decode()
        finally:
            connection.close()

    def test_live_numbers(self) -> None:
        """``examples/live_numbers.py`` shows numbers to readers, who may not write."""
        port = free_port()
        with self.running("live_numbers.py", str(port)):
            _, _, page = self.until_served(lambda: self.get(port, "/"))
            path = re.search(r'"(/chat/ws/[^"]+)"', page)
            assert path is not None
            with connect(f"ws://127.0.0.1:{port}{path[1]}") as reader:
                for number in self.texts(reader, 3):
                    self.assertRegex(number, r"^\d+\.\d\d at \d\d:\d\d:\d\d$")
                reader.send("a reader is no writer")
                with self.assertRaises(ConnectionClosed):
                    while True:
                        reader.recv(PATIENCE)

    def test_embedded_hub(self) -> None:
        """The program's own cookie lets in, with its own people; nobody else is."""
        port = free_port()
        with self.running("embedded_hub.py", str(port)):
            _, cookie, _ = self.until_served(lambda: self.get(port, "/?user=alice"))
            headers = {"Cookie": cookie.split(";")[0], "Origin": f"http://127.0.0.1:{port}"}
            self.assertEqual(self.get(port, "/chat")[:2], (308, "/chat/"))
            self.assertEqual(self.get(port, "/chat/")[0], 200)
            with connect(f"ws://127.0.0.1:{port}/chat/ws?names=1", additional_headers=headers) as alice:
                alice.send("hello")
                self.assertEqual(self.texts(alice, 1), ["alice: hello"])
            self.assertRaises(InvalidStatus, connect, f"ws://127.0.0.1:{port}/chat/ws")
            # The chat's ten lines, as the program has them.
            source = (EXAMPLES / "embedded_hub.py").read_text()
            lines = [
                line for line in source.split("# The ten lines.\n")[1].split("\n\n\ndef main")[0].splitlines() if line.strip()
            ]
            own = [line for line in lines if '"""' not in line and "Home" not in line]
            self.assertLessEqual(len(own), 10, own)

    def test_tutorial(self) -> None:
        """The page of every tutorial, opened from disk in a browser."""
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if chromium is None:
            raise SkipTest("chromium is not installed")
        server = self.server()
        page = self.directory() / "tutorial.html"
        source = (EXAMPLES / "tutorial.html").read_text()

        self.assertIn('new WebSocket("ws://localhost:8080")', source)

        # Another port than the one that may be taken, and somebody who presses the button.
        press = "<script>socket.onopen = () => { text.value = 'hello'; form.requestSubmit(); };</script>"
        page.write_text(source.replace("localhost:8080", f"127.0.0.1:{server.port}") + press)
        options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        options += " --disable-component-update --disable-sync"
        with connect(server.websocket) as bob:
            command = [chromium, *options.split(), f"--user-data-dir={self.directory()}", page.as_uri()]
            with subprocess.Popen([*command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
                try:
                    self.assertEqual(self.texts(bob, 1), ["hello"])
                finally:
                    browser.terminate()
                    browser.wait(PATIENCE)
