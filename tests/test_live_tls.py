"""TLS by an endpoint string, with the usual clients: Chromium, Node, Bun, curl, ``websockets``.

``tests/test_live_service.py`` tests certificates and ALPN, ``tests/test_live_slow_reader.py`` clients that do not read.
"""

from __future__ import annotations

import random
import shutil
import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.harness.certificates import make_certificate
from tests.harness.chromium import Chromium
from tests.harness.programs import bun_talker, node_talker
from tests.harness.servers import PATIENCE, JsonClient, Server
from tests.harness.serving import ServedCase


class TlsTests(ServedCase):
    authority: Path

    @classmethod
    def make_server(cls, directory: Path) -> Server:
        key, cls.authority = make_certificate(directory)
        return Server(directory, f"--listen=ssl:0:interface=127.0.0.1:privateKey={key}:certKey={cls.authority}")

    def setUp(self) -> None:
        self.url = f"wss://localhost:{self.server.port}"
        self.options: dict[str, Any] = {"ssl": ssl.create_default_context(cafile=str(self.authority))}

    def test_chromium(self) -> None:
        """The server's own page, in a browser that offers h2 and is given http/1.1."""
        with Chromium("--ignore-certificate-errors") as browser, JsonClient(self.url, "json", options=self.options) as client:
            client.ask({"type": "join", "room": "lobby"})
            browser.go(f"https://localhost:{self.server.port}/")
            protocols = browser.run("performance.getEntriesByType('navigation')[0].nextHopProtocol")
            self.assertEqual(protocols, "http/1.1")
            browser.run(f"socket = new WebSocket('{self.url}'); got = []; socket.onmessage = (event) => got.push(event.data); 0")
            browser.until("socket.readyState === WebSocket.OPEN")
            browser.run("socket.send('by TLS')")
            self.assertEqual(next(client.events())["text"], "by TLS")
            client.send("lobby", "k", "x" * 16_000)
            self.assertEqual(browser.until("got.length === 2 && got.map((text) => text.length)"), [6, 16_000])

    def test_node(self) -> None:
        """A program on Node's ``ws`` chats over TLS."""
        self.chats(node_talker)

    def test_bun(self) -> None:
        """A program on Bun chats over TLS."""
        self.chats(bun_talker)

    def chats(self, talker: Any) -> None:
        with talker(self.url, CA=str(self.authority)) as one, talker(self.url, CA=str(self.authority)) as two:
            for client in (one, two):
                self.assertEqual(client.next(), {"open": ""})
            for text in ("hello", "x" * 16_000, "grüße 👋"):
                one.tell(text)
                self.assertEqual([one.next_text(), two.next_text()], [text] * 2)
            one.end()
            self.assertEqual(one.next(), {"close": 1000, "reason": "bye"})

    def test_curl(self) -> None:
        """A refusal in words, over the TLS of a client that offers h2 as well."""
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("curl is not installed")
        upgrade = [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ]
        headers = [part for header in (*upgrade, "Origin: https://evil.test") for part in ("--header", header)]
        address = f"https://localhost:{self.server.port}/"
        command = [curl, "--silent", "--include", "--http2", "--cacert", str(self.authority), *headers, address]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout

        self.assertTrue(answer.startswith("HTTP/1.1 403 "), answer)
        self.assertIn('"code":"forbidden"', answer)

    def test_order(self) -> None:
        """Messages of all sizes to several clients, in bursts: every one whole and in its place."""
        sizes = random.Random(1)
        texts = [f"{number} " + "x" * sizes.choice((0, 10, 1_000, 16_000)) for number in range(600)]
        with ExitStack() as stack:
            writer, *readers = [
                stack.enter_context(
                    JsonClient(self.url, f"client{number}", options=self.options, capabilities=["batch"] * (number % 2))
                )
                for number in range(4)
            ]
            for client in (writer, *readers):
                client.ask({"type": "join", "room": "lobby"})
            for number, text in enumerate(texts):
                writer.tell({"type": "send", "room": "lobby", "key": str(number), "text": text})
            for client in (writer, *readers):
                events = client.events()
                self.assertEqual([next(events)["text"] for _ in texts], texts)

    def test_lost(self) -> None:
        """A client whose connection breaks in the middle of a message to it does not disturb the others."""
        with JsonClient(self.url, "stays", options=self.options) as stays:
            head = stays.ask({"type": "join", "room": "lobby", "presence": True})["head"]
            with JsonClient(self.url, "goes", options={**self.options, "max_queue": 1}) as goes:
                goes.ask({"type": "join", "room": "lobby"})
                for number in range(400):
                    stays.tell({"type": "send", "room": "lobby", "key": str(number), "text": "x" * 16_000})
                goes.socket.socket.close()
            events = stays.events()
            self.assertEqual([next(events)["seq"] for _ in range(400)], list(range(head + 1, head + 401)))
            self.assertEqual(stays.send("lobby", "last", "still here")["type"], "ok")
