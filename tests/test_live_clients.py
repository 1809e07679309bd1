"""Clients that other people wrote, in one room: Node ``ws``, ``websockets``, Bun, a page in Chromium opened from disk, curl."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import websockets.asyncio.client
import websockets.sync.client
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.harness.chromium import Chromium
from tests.harness.programs import Talker, bun_talker, node_talker
from tests.harness.servers import JSON, PATIENCE, UNLIMITED, JsonClient, Server, free_port

TUTORIAL = Path(__file__).parent / "pages" / "tutorial.html"


class ClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server(self.mktemp())
        self.server.__enter__()
        self.addCleanup(self.server.__exit__, None, None, None)
        self.url = self.server.websocket

    def json_client(self) -> JsonClient:
        """Somebody in the lobby who speaks JSON."""
        client = JsonClient(self.url, "json")
        client.__enter__()
        self.addCleanup(client.__exit__, None, None, None)
        client.ask({"type": "join", "room": "lobby"})
        return client

    def texts(self, client: JsonClient, count: int) -> list[str]:
        events = client.events()
        return [next(events)["text"] for _ in range(count)]

    def test_page_from_disk(self) -> None:
        """The tutorial's page chats with a JSON client: what it sends all see, what they say it shows."""
        page = Path(self.mktemp()).absolute()
        page.mkdir()
        page = page / "tutorial.html"
        page.write_text(TUTORIAL.read_text().replace("localhost:8080", f"localhost:{self.server.port}"))
        client = self.json_client()
        with Chromium() as browser:
            browser.go(page.as_uri())
            self.assertEqual(browser.run("origin"), "null")
            browser.until("socket.readyState === WebSocket.OPEN")
            browser.run("document.getElementById('input').focus()")
            browser.key("hello from the page\n")
            browser.until("messages.children.length === 1")
            self.assertEqual(self.texts(client, 1), ["hello from the page"])
            client.send("lobby", "k1", "hello from <JSON> & grüße 👋")
            browser.until("messages.children.length === 2")
            shown = browser.run("[...messages.children].map((line) => line.textContent)")
            self.assertEqual(shown, ["hello from the page", "hello from <JSON> & grüße 👋"])
            browser.run("socket.close()")
            browser.until("socket.readyState === WebSocket.CLOSED")

    def test_page_of_another_origin(self) -> None:
        """A page served from elsewhere is refused before the 101, and its script learns nothing but that."""
        elsewhere = HTTPServer(("127.0.0.1", 0), EmptyPage)
        self.addCleanup(elsewhere.server_close)
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        self.addCleanup(elsewhere.shutdown)
        script = (
            "new Promise((done) => { const socket = new WebSocket(URL);"
            " socket.onopen = () => done('open'); socket.onclose = (event) => done(event.code); })"
        ).replace("URL", repr(self.url))
        with Chromium() as browser:
            browser.go(f"http://127.0.0.1:{elsewhere.server_port}/")
            self.assertEqual(browser.run(script), 1006)
            # The same script in the server's own page, so that it is the origin that made the difference.
            browser.go(self.server.url)
            self.assertEqual(browser.run(script), "open")

    def test_node(self) -> None:
        """A program on Node's ``ws`` chats in plain text, bytes and JSON."""
        self.chats(node_talker)

    def test_bun(self) -> None:
        """A program on Bun chats in plain text, bytes and JSON."""
        self.chats(bun_talker)

    def chats(self, talker: Any) -> None:
        """Plain text, bytes and JSON by one program, in the room of others."""
        client = self.json_client()
        with talker(self.url) as plain, talker(self.url, "chat.v1.json") as rich:
            self.assertEqual(plain.next(), {"open": ""})
            self.assertEqual(rich.next(), {"open": "chat.v1.json"})
            self.say_hello(rich)
            plain.tell("grüße 👋")
            self.assertEqual(plain.next_text(), "grüße 👋")
            self.assertEqual(self.texts(client, 1), ["grüße 👋"])
            self.assertEqual(json.loads(rich.next_text())["text"], "grüße 👋")
            plain.tell("binary:00ff")
            self.assertEqual(plain.next(), {"binary": "00ff"})
            self.assertEqual(json.loads(rich.next_text())["data"], "AP8=")
            rich.tell(json.dumps({"type": "send", "id": 3, "room": "lobby", "key": "k", "text": "x" * 16_000}))
            self.assertEqual(plain.next_text(), "x" * 16_000)
            self.assertEqual({json.loads(rich.next_text())["type"] for _ in range(2)}, {"ok", "event"})
            plain.end()
            self.assertEqual(plain.next(), {"close": 1000, "reason": "bye"})
            # Who leaves leaves: the room goes on.
            client.send("lobby", "k2", "still here")
            self.assertEqual(json.loads(rich.next_text())["text"], "still here")
            # One is told why it is sent away, and when to come back.
            self.server.process.terminate()
            self.assertEqual(json.loads(rich.next_text())["type"], "bye")
            self.assertEqual(rich.next(), {"close": 1012, "reason": "restart"})

    def say_hello(self, rich: Talker) -> None:
        rich.tell(json.dumps({"type": "hello", "id": 1, "name": "rich"}))
        rich.tell(json.dumps({"type": "join", "id": 2, "room": "lobby"}))
        self.assertEqual([json.loads(rich.next_text())["type"] for _ in range(3)], ["welcome", "ok", "live"])

    def test_websockets(self) -> None:
        """The asyncio client, with fragments, pings and its own keep-alive."""

        async def chat() -> None:
            connect = websockets.asyncio.client.connect
            async with connect(self.url) as one, connect(self.url + "/ws/lobby", subprotocols=JSON) as two:
                await two.send(json.dumps({"type": "hello", "id": 1, "name": "two"}))
                await two.send(json.dumps({"type": "join", "id": 2, "room": "lobby"}))
                self.assertEqual([json.loads(await two.recv())["type"] for _ in range(3)], ["welcome", "ok", "live"])
                await one.send(["in ", "three ", "fragments"])
                self.assertEqual(await one.recv(), "in three fragments")
                self.assertEqual(json.loads(await two.recv())["text"], "in three fragments")
                await (await one.ping(b"are you there"))
            self.assertEqual(one.close_code, 1000)

        asyncio.run(asyncio.wait_for(chat(), PATIENCE))

    def test_compression(self) -> None:
        """Two libraries' ideas of permessage-deflate, and a client without, in one room."""
        with Server(self.mktemp(), config="compression = true\n" + UNLIMITED) as server:
            plain = JsonClient(server.websocket, "plain")
            with node_talker(server.websocket) as node, plain, websockets.sync.client.connect(server.websocket) as compressed:
                self.assertEqual(node.next(), {"open": ""})
                plain.ask({"type": "join", "room": "lobby"})
                self.assertEqual(
                    [type(extension).__name__ for extension in compressed.protocol.extensions], ["PerMessageDeflate"]
                )
                for text in ("short", "long " * 3_000, "grüße 👋"):
                    compressed.send(text)
                    self.assertEqual([compressed.recv(PATIENCE), node.next_text(), *self.texts(plain, 1)], [text] * 3)
                    node.tell(text)
                    self.assertEqual([compressed.recv(PATIENCE), node.next_text(), *self.texts(plain, 1)], [text] * 3)

    def test_curl(self) -> None:
        """curl reads the room as server-sent events and speaks in it by POST."""
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("curl is not installed")
        client = self.json_client()
        events = f"{self.server.url}api/v1/rooms/lobby/events"
        with subprocess.Popen(
            [curl, "--silent", "--no-buffer", "--header", "Accept: text/event-stream", f"{events}?after=0"],
            stdout=subprocess.PIPE,
            text=True,
        ) as stream:
            try:
                said = [curl, "--silent", "--fail", "--json", '{"text":"by curl"}', events]
                subprocess.run(said, check=True, capture_output=True, timeout=PATIENCE)
                self.assertEqual(self.texts(client, 1), ["by curl"])
                assert stream.stdout is not None
                data = next(line for line in stream.stdout if line.startswith("data:") and "by curl" in line)
                self.assertEqual(json.loads(data.removeprefix("data:"))["text"], "by curl")
            finally:
                stream.kill()

    def test_no_delay(self) -> None:
        """Nagle's algorithm is off on the server's side: a second small frame does not wait for an acknowledgement (40 ms)."""
        with websockets.sync.client.connect(self.url, compression=None) as client:
            port = client.socket.getsockname()[1]
            option = read_no_delay(self.server.server_pid, port)
        self.assertEqual(option, 1)


class ListenerTests(SynchronousTestCase):
    """The other kinds of ports; ``ssl:`` has a file of its own."""

    def test_unix(self) -> None:
        """Clients chat over a Unix socket."""
        path = Path(tempfile.mkdtemp()) / "chat.sock"
        self.addCleanup(path.parent.rmdir)
        with Server(self.mktemp(), f"--listen=unix:{path}") as server:
            connect = websockets.sync.client.unix_connect
            with connect(str(path), "ws://localhost/") as one, connect(str(path), "ws://localhost/") as two:
                self.chat(one, two)
            server.end()

    def test_proxy_protocol(self) -> None:
        """Behind a proxy that says whom it speaks for; and such a port is not one that only this machine can reach."""
        port = free_port()
        with Server(self.mktemp(), f"--listen=haproxy:tcp:{port}:interface=127.0.0.1") as server, ExitStack() as stack:
            one, two = [
                stack.enter_context(websockets.sync.client.connect(f"ws://127.0.0.1:{port}/", sock=proxied(port, number)))
                for number in (1, 2)
            ]
            self.chat(one, two)
            self.assertNotIn("opened from disk", server.stdout)

    def chat(self, one: Any, two: Any) -> None:
        """Much at once, so that everything waits somewhere."""
        texts = [f"{number} " + "x" * 16_000 for number in range(200)]
        for text in texts:
            one.send(text)
        for client in (two, one):
            self.assertEqual([client.recv(PATIENCE) for _ in texts], texts)


def proxied(port: int, number: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(f"PROXY TCP4 192.0.2.{number} 192.0.2.100 40000 80\r\n".encode())
    return connection


class EmptyPage(BaseHTTPRequestHandler):
    """A page with nothing on it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def read_no_delay(pid: int, peer_port: int) -> int:
    """TCP_NODELAY of that process's socket to ``peer_port``, by a duplicate of its descriptor (Linux 5.6, pidfd_getfd)."""
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            copy = libc.syscall(438, pidfd, int(name), 0)
            if copy < 0:
                continue
            try:
                with socket.socket(fileno=copy) as duplicate:
                    if duplicate.family == socket.AF_INET and _peer(duplicate) == peer_port:
                        (value,) = struct.unpack("i", duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 4))
                        return int(value)
            except OSError:
                continue
    finally:
        os.close(pidfd)
    raise SkipTest("the server's descriptors may not be looked at here")


def _peer(connection: socket.socket) -> int:
    try:
        return int(connection.getpeername()[1])
    except OSError:
        return 0
