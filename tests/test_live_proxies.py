"""The server behind nginx and HAProxy, as docs/operating.rst describes it and as people get it wrong."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.harness.certificates import make_certificate
from tests.harness.proxies import Proxy
from tests.harness.servers import UNLIMITED, JsonClient, Server
from tests.harness.serving import ROOT, environment, free_port
from tests.harness.waiting import wait_until

#: What nginx has to set (docs/operating.rst).
UPGRADE = """
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $http_connection;
    proxy_buffering off;
"""
FORWARDED = """
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
"""
EVENTS = "/api/v1/rooms/lobby/events"
#: Asked for with headers that a client has made up.
FORGED = "/api/v1/rooms/forged/events"


def documented_rules() -> str:
    """The ``location`` of nginx in docs/operating.rst."""
    page = (ROOT / "docs/operating.rst").read_text()
    found = re.search(r"^    location / \{\n(?:    .*\n)+?    \}\n", page, re.MULTILINE)
    assert found is not None
    return textwrap.dedent(found[0])


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(mkdtemp(prefix="chat-"))

    def server(self, *listen: str, config: str = "") -> Server:
        """A server with these endpoints, or a port of the loopback."""
        endpoints = listen or (f"tcp:{free_port()}:interface=127.0.0.1",)
        arguments = [f"--listen={endpoint}" for endpoint in endpoints]
        server: Server = self.enterContext(Server(self.directory / "server", *arguments, config=config + UNLIMITED))
        return server

    def proxy(self) -> Proxy:
        directory = Path(mkdtemp(prefix="proxy-"))
        return Proxy(directory)

    def get(self, proxy: Proxy, path: str, *, tls: ssl.SSLContext | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of a GET."""
        if tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
        else:
            connection = http.client.HTTPSConnection("localhost", proxy.port, timeout=30, context=tls)
        with closing(connection):
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def talk(self, proxy: Proxy, prefix: str = "", **options: Any) -> None:
        """Whatever people do goes through: the page, a WebSocket, a message by HTTP, a stream."""
        self.assertEqual(self.get(proxy, f"{prefix}/")[0], 200)
        with JsonClient(f"ws://127.0.0.1:{proxy.port}{prefix}/ws", options=options) as client:
            client.ask({"type": "join", "room": "lobby"})
            client.send("lobby", "k1", "by socket")
            self.assertEqual(next(client.events())["text"], "by socket")
            with closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)) as stream:
                stream.request("GET", f"{prefix}{EVENTS}?tail=1", headers={"Accept": "text/event-stream"})
                answer = stream.getresponse()
                self.assertEqual(answer.status, 200)
                with closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)) as post:
                    post.request("POST", f"{prefix}{EVENTS}", b"by HTTP", {"Content-Type": "text/plain"})
                    self.assertEqual(post.getresponse().status, 201)
                self.assertEqual(next(client.events())["text"], "by HTTP")
                lines: list[str] = []
                while len(lines) < 2:
                    line = answer.readline()
                    if line.startswith(b"data: ") and b'"text"' in line:
                        lines.append(json.loads(line[6:])["text"])
                self.assertEqual(lines, ["by socket", "by HTTP"])

    def talk_by_http(self, proxy: Proxy) -> None:
        """A session goes through where no WebSocket does: each frame at once."""

        def next_data(stream: http.client.HTTPResponse) -> Any:
            while not (line := stream.readline()).startswith(b"data: "):
                self.assertTrue(line, "the stream has ended")
            return json.loads(line[6:])

        with closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)) as down:
            down.request("GET", "/api/v1/session")
            stream = down.getresponse()
            path = f"/api/v1/session/{next_data(stream)['session']}"
            for number in (1, 2):
                with closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)) as up:
                    body = json.dumps({"type": "ping", "id": number})
                    up.request("POST", f"{path}?n={number}", body, {"Content-Type": "application/json"})
                    self.assertEqual(up.getresponse().status, 200)
                self.assertEqual(next_data(stream), {"type": "ok", "id": number})

    def addresses(self, server: Server, path: str) -> set[str]:
        """The addresses that the server's log has for requests of that path."""
        found = wait_until(lambda: re.findall(rf"(\S+) GET {re.escape(path)} ", server.stdout), bool)
        return set(found)

    def stays_idle(self, url: str, seconds: float) -> None:
        """A plain and a JSON client that say nothing by themselves are both still there after that time."""
        with JsonClient(url) as client, connect(url) as plain:
            client.ask({"type": "join", "room": "lobby"})
            end = time.monotonic() + seconds
            pings = 0
            while time.monotonic() < end:
                try:
                    message = client.next(0.5)
                except TimeoutError:
                    continue
                if message["type"] == "ping":
                    pings += 1
                    client.ask({"type": "pong"})
            self.assertGreaterEqual(pings, 3)
            plain.send("still here")
            self.assertEqual(next(client.events())["text"], "still here")


class NginxTests(Case):
    def upstream(self, server: Server) -> str:
        """Where nginx finds the server, whatever its public URL is."""
        [port] = re.findall(r"--listen=tcp:([0-9]+)", " ".join(server.arguments))
        return f"http://127.0.0.1:{port}"

    def test_documented(self) -> None:
        """The configuration of docs/operating.rst, over a Unix socket; the client's address is the one that nginx saw."""
        path = self.directory / "http.sock"
        server = self.server(f"unix:{path}", config='trusted_proxies = ["unix"]\n')
        rules = documented_rules().replace("/run/twisted-chat/http.sock", str(path))
        with self.proxy().nginx(rules) as proxy:
            self.talk(proxy)
            self.get(proxy, FORGED, X_Forwarded_For="203.0.113.66", X_Real_IP="203.0.113.67", Forwarded="for=203.0.113.68")
            self.assertEqual(self.addresses(server, FORGED), {"127.0.0.1"})
            self.assertEqual(self.get(proxy, "/metrics")[0], 403)

    def test_tcp(self) -> None:
        """Behind nginx over TCP the chat works, and only the forwarded address counts."""
        server = self.server(config='trusted_proxies = ["127.0.0.1"]\n')
        with self.proxy().nginx(f"location / {{ proxy_pass {self.upstream(server)}; {UPGRADE} {FORWARDED} }}") as proxy:
            self.talk(proxy)
            self.get(proxy, FORGED, X_Forwarded_For="203.0.113.66")
            # Both hops are this machine, which is trusted: what stands before them is the client.
            self.assertEqual(self.addresses(server, FORGED), {"203.0.113.66"})
            self.assertEqual(self.get(proxy, "/metrics")[0], 403)

    def test_prefix(self) -> None:
        """Below a path: the page, its files, sockets and the HTTP API."""
        proxy = self.proxy()
        chat = self.server(config=f'public_url = "http://127.0.0.1:{proxy.port}/chat/"\ntrusted_proxies = ["127.0.0.1"]\n')
        with proxy.nginx(f"location /chat/ {{ proxy_pass {self.upstream(chat)}; {UPGRADE} {FORWARDED} }}"):
            self.talk(proxy, "/chat")
            page = self.get(proxy, "/chat/")[1].decode()
            files = re.findall(r'(?:src|href)="([^"#:]+)"', page)
            self.assertTrue(files)
            for file in files:
                self.assertFalse(file.startswith("/"), file)
                self.assertEqual(self.get(proxy, f"/chat/{file.removeprefix('./')}")[0], 200, file)

    def test_tls_in_front(self) -> None:
        """A page by https may connect if the proxy says that it is https; if not, the log names the header that is missing."""
        key, certificate = make_certificate(self.directory)
        context = ssl.create_default_context(cafile=str(certificate))
        server = self.server(config='trusted_proxies = ["127.0.0.1"]\n')
        base = f"location / {{ proxy_pass {self.upstream(server)}; {UPGRADE} %s }}"
        for rules, opens in ((FORWARDED, True), ("proxy_set_header X-Forwarded-For $remote_addr;", False)):
            with self.proxy().nginx(base % rules, (key, certificate)) as proxy:
                origin = Origin(f"https://localhost:{proxy.port}")
                if opens:
                    with connect(f"wss://localhost:{proxy.port}/ws", ssl=context, origin=origin):
                        pass
                else:
                    with self.assertRaises(InvalidStatus) as refused:
                        connect(f"wss://localhost:{proxy.port}/ws", ssl=context, origin=origin)
                    self.assertEqual(refused.exception.response.status_code, 403)
                    wait_until(lambda: server.stdout, lambda text: "X-Forwarded-Proto" in text)

    def test_nothing_set(self) -> None:
        """nginx with nothing but ``proxy_pass``: the page loads, metrics are not for the world, and a handshake is refused in words."""
        server = self.server()
        with self.proxy().nginx(f"location / {{ proxy_pass {self.upstream(server)}; }}") as proxy:
            self.assertEqual(self.get(proxy, "/")[0], 200)
            self.assertEqual(self.get(proxy, "/metrics")[0], 403)
            with self.assertRaises(InvalidStatus) as refused:
                connect(f"ws://127.0.0.1:{proxy.port}/ws")
            self.assertIn(refused.exception.response.status_code, (400, 426))
            self.talk_by_http(proxy)

    def test_doctor(self) -> None:
        """``twisted-chat doctor --url`` names what each of these proxies does wrong, from outside."""
        server = self.server(config='trusted_proxies = ["127.0.0.1"]\n')
        pass_on = f"proxy_pass {self.upstream(server)};"
        for rules, cure in (
            (f"location / {{ {pass_on} {UPGRADE} {FORWARDED} }}", None),
            (f"location / {{ {pass_on} }}", "pass on the headers Upgrade"),
            (
                f"location / {{ {pass_on} proxy_http_version 1.1; proxy_set_header Host $http_host; }}",
                "pass on the headers Upgrade",
            ),
            (
                f"location / {{ {pass_on} {UPGRADE} proxy_set_header Origin http://other.test; }}",
                "setting that the message names",
            ),
            (f"location / {{ proxy_pass http://127.0.0.1:{free_port()}; }}", "start the server"),
            ("location / { return 404; }", "passes this host and path on"),
            ("location / { return 200 hello; }", "passes this host and path on"),
        ):
            with self.subTest(rules), self.proxy().nginx(rules) as proxy:
                command = [
                    sys.executable,
                    "-m",
                    "twisted_chat.cli",
                    "doctor",
                    "--json",
                    "--url",
                    f"http://127.0.0.1:{proxy.port}/",
                ]
                done = subprocess.run(command, cwd=self.directory, env=environment(), capture_output=True, text=True, timeout=60)
                checks = {check["check"]: check for check in map(json.loads, done.stdout.splitlines())}
                page = checks["page"]
                self.assertEqual(page["health"], "ok" if cure is None else "fail", page)
                self.assertIn(cure or "", page["cure"])
                self.assertEqual(done.returncode, 0 if cure is None else 1, done.stdout + done.stderr)

    def test_forgotten_trust(self) -> None:
        """The headers are right, ``trusted_proxies`` is missing: said once, with the cure; metrics are for nobody then."""
        server = self.server()
        with self.proxy().nginx(f"location / {{ proxy_pass {self.upstream(server)}; {UPGRADE} {FORWARDED} }}") as proxy:
            self.talk(proxy)
            self.assertEqual(self.get(proxy, "/metrics")[0], 403)
            said = wait_until(lambda: re.findall(r"trusted_proxies = .*", server.stdout), bool)
            self.assertEqual(said, ['trusted_proxies = ["127.0.0.1"]'])

    def test_idle_cut(self) -> None:
        """A proxy that cuts connections which are idle for 5 s, and pings every 2: nobody is cut."""
        chat = self.enterContext(
            Server(self.directory / "pinging", f"--listen=tcp:{free_port()}:interface=127.0.0.1", "--limit=ping_seconds=2")
        )
        rules = f"location / {{ proxy_pass {self.upstream(chat)}; {UPGRADE} proxy_read_timeout 5s; proxy_send_timeout 5s; }}"
        with self.proxy().nginx(rules) as proxy:
            self.stays_idle(f"ws://127.0.0.1:{proxy.port}/ws", 11)


class HAProxyTests(Case):
    def test_http(self) -> None:
        """Behind HAProxy in HTTP mode the chat works, and metrics are not given to the world."""
        server = self.server(config='trusted_proxies = ["127.0.0.1"]\n')
        rules = f"    option forwardfor\n    server chat 127.0.0.1:{server.port} check"
        with self.proxy().haproxy(rules) as proxy:
            self.talk(proxy)
            self.assertEqual(self.get(proxy, "/metrics")[0], 403)

    def test_idle_cut(self) -> None:
        """The heartbeat keeps a connection open that HAProxy would cut when idle."""
        chat = self.enterContext(
            Server(self.directory / "pinging", f"--listen=tcp:{free_port()}:interface=127.0.0.1", "--limit=ping_seconds=2")
        )
        with self.proxy().haproxy(f"    server chat 127.0.0.1:{chat.port}", idle="5s") as proxy:
            self.stays_idle(f"ws://127.0.0.1:{proxy.port}/ws", 11)

    def test_proxy_protocol(self) -> None:
        """PROXY of both versions, over TCP and over a Unix socket, with health checks: the address is the client's."""
        for version in ("send-proxy", "send-proxy-v2"):
            for kind in ("tcp", "unix"):
                with self.subTest(version=version, kind=kind):
                    port = free_port()
                    path = self.directory / f"{version}.sock"
                    endpoint = f"haproxy:tcp:{port}:interface=127.0.0.1" if kind == "tcp" else f"haproxy:unix:{path}"
                    place = f"127.0.0.1:{port}" if kind == "tcp" else f"unix@{path}"
                    with Server(self.directory / f"{version}-{kind}", f"--listen={endpoint}") as server:
                        check = f"server chat {place} {version} check check-send-proxy inter 100ms fall 1"
                        rules = f"    option httpchk GET /healthz\n    {check}"
                        with self.proxy().haproxy(rules) as proxy:
                            self.talk(proxy)
                            self.assertEqual(self.get(proxy, "/metrics")[0], 200)
                            self.get(proxy, FORGED, X_Forwarded_For="203.0.113.66")
                            self.assertEqual(self.addresses(server, FORGED), {"127.0.0.1"})
