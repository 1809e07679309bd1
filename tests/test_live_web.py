"""Every refusal as curl sees it, against the real server; and what only real sockets show of the HTTP edge."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.http_memory import Reply, handshake
from tests.harness.serving import Served, ServedCase
from tests.harness.waiting import PATIENCE

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}")
ORIGIN = "Origin: http://evil.test"


class LiveCase(ServedCase):
    """A server on a store in memory, and curl."""

    environ: dict[str, str] = {}

    @classmethod
    def make_server(cls, directory: Path) -> Served:
        return Served(directory, "--store", "memory:", **cls.environ)

    def setUp(self) -> None:
        if shutil.which("curl") is None:
            self.skipTest("curl is not installed")

    def curl(self, path: str, *headers: str, more: tuple[str, ...] = ()) -> Reply:
        given = [part for header in headers for part in ("--header", header)]
        command = ["curl", "--silent", "--include", "--path-as-is", "--http1.1", "--max-time", "10", *given, *more]
        done = subprocess.run([*command, self.server.url.rstrip("/") + path], capture_output=True, check=False, timeout=PATIENCE)
        return Reply(done.stdout)

    def refused(self, status: int, code: str, path: str, *headers: str, more: tuple[str, ...] = ()) -> Reply:
        reply = self.curl(path, *headers, more=more)
        self.assertEqual((reply.status, reply.error["code"]), (status, code))
        self.assertEqual(set(reply.error) - {"retry_after_ms"}, {"code", "message", "retry"})
        self.assertIn("content-security-policy", reply.headers)
        self.assertNotIn("location", reply.headers)
        return reply

    def connect(self, first: bytes = b"") -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE)
        self.addCleanup(opened.close)
        opened.sendall(first)
        return opened


def read_head(opened: socket.socket) -> bytes:
    """Up to the empty line, byte by byte: what follows is left there."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = opened.recv(1)
        if not byte:
            break
        head += byte
    return head


class RefusalTests(LiveCase):
    environ = {"TWISTED_CHAT_LIMITS_HANDSHAKE_SECONDS": "2"}

    def test_400(self) -> None:
        """Malformed handshakes and requests get 400."""
        for headers in (
            ("Sec-WebSocket-Key: short", *UPGRADE[:3]),
            ("Sec-WebSocket-Protocol: mqtt", *UPGRADE),
            ("Connection: close", *(UPGRADE[0], *UPGRADE[2:])),
            ("X-Other: a\x0bOrigin: http://x", *UPGRADE),
            ("X-Other: a\x1cb", *UPGRADE),
            (f"Sec-WebSocket-Key: {KEY}", *UPGRADE),
        ):
            with self.subTest(headers):
                self.refused(400, "bad_request", "/ws", *headers)
        self.refused(400, "bad_request", "/ws/%00", *UPGRADE)
        self.refused(400, "bad_request", "/ws?history=x", *UPGRADE)

    def test_401(self) -> None:
        """Unknown tokens get 401 with a challenge."""
        reply = self.refused(401, "unauthenticated", "/ws", *UPGRADE, "Authorization: Bearer tc_unknown")

        self.assertTrue(reply.headers["www-authenticate"].startswith("Bearer"))

        self.refused(401, "unauthenticated", "/ws", *UPGRADE, "Sec-WebSocket-Protocol: chat.v1.json, bearer.tc_unknown")
        self.refused(401, "unauthenticated", "/api/v1/rooms", "Authorization: Bearer e30.e30.e30")

    def test_403(self) -> None:
        """Foreign origins, cookies without an origin, and metrics behind a proxy get 403."""
        self.refused(403, "forbidden", "/ws", *UPGRADE, ORIGIN)
        self.refused(403, "forbidden", "/", *UPGRADE, f"Origin: https://127.0.0.1:{self.server.port}")
        self.refused(403, "forbidden", "/ws", *UPGRADE, "Cookie: chat_token=tc_x")
        self.refused(403, "forbidden", "/api/v1/rooms", ORIGIN)
        self.assertEqual(self.curl("/metrics").status, 200)
        self.refused(403, "forbidden", "/metrics", "X-Forwarded-For: 203.0.113.1")
        # From now on requests of this machine may be those of the proxy that has shown itself.
        self.refused(403, "forbidden", "/metrics")

    def test_404(self) -> None:
        """Paths that are not served get 404, without any redirect or traversal."""
        for path in ("/nope", "/../etc/passwd", "/..%2f..%2fetc/passwd", "//evil.test/%2e%2e", "/page/index.html"):
            self.refused(404, "not_found", path)
        self.refused(404, "not_found", "/healthz", *UPGRADE)
        # Autobahn would answer 303.
        self.refused(426, "bad_request", "/ws?redirect=http://evil.test/&after=0")

    def test_405(self) -> None:
        """Another method gets 405 with the allowed ones."""
        reply = self.refused(405, "method_not_allowed", "/", more=("--request", "DELETE"))
        self.assertEqual(reply.headers["allow"], "GET, HEAD, OPTIONS")

    def test_413(self) -> None:
        """A body that is too long gets 413."""
        body = ("--data-binary", "x" * 120_000)
        self.refused(413, "too_big", "/api/v1/rooms/lobby/events", "Content-Type: text/plain", "Expect:", more=body)

    def test_426(self) -> None:
        """Another version of WebSocket gets 426 with the supported one."""
        reply = self.refused(426, "bad_request", "/ws", "Sec-WebSocket-Version: 8", *(UPGRADE[0], UPGRADE[1], UPGRADE[3]))
        self.assertEqual(reply.headers["sec-websocket-version"], "13")

    def test_431(self) -> None:
        """Too many headers and a too long target get 431."""
        self.refused(431, "too_big", "/ws", *UPGRADE, *(f"X-{number}: x" for number in range(2_000)))
        self.refused(431, "too_big", "/" + "x" * 20_000)

    def test_slow_head(self) -> None:
        """Bytes that trickle buy no time (the limit is 2 s here)."""
        opened = self.connect(b"GET /ws HTTP/1.1\r\nHost: a\r\n")
        opened.settimeout(0.2)
        answer = b""

        for _ in range(100):
            try:
                answer = opened.recv(65_536)
                break
            except TimeoutError:
                opened.sendall(b"X")

        self.assertEqual((Reply(answer).status, Reply(answer).error["code"]), (408, "timeout"))

    def test_page_and_health(self) -> None:
        """Page, scripts, health and API description are served."""
        for path in ("/", "/client.js", "/embed.js", "/healthz", "/readyz", "/api/v1/openapi.json"):
            self.assertEqual(self.curl(path).status, 200, path)
        self.assertEqual(self.curl("/", more=("--head",)).status, 200)


class TokenOnlyTests(LiveCase):
    environ = {"TWISTED_CHAT_GUESTS": "off"}

    def test_guests_are_refused(self) -> None:
        """Without guests a handshake without token gets 401, and the origin ``null`` is refused."""
        reply = self.refused(401, "unauthenticated", "/ws", *UPGRADE)
        self.assertIn("www-authenticate", reply.headers)
        # Then ``null`` is no origin either.
        self.refused(403, "forbidden", "/ws", *UPGRADE, "Origin: null")


class LimitTests(LiveCase):
    environ = {"TWISTED_CHAT_LIMITS_CONNECTIONS_PER_ADDRESS": "2"}

    def test_429(self) -> None:
        """Beyond the limit of connections a handshake gets 429 with the time to wait."""
        sockets = [self.connect(handshake()) for _ in range(2)]

        for opened in sockets:
            self.assertTrue(read_head(opened).startswith(b"HTTP/1.1 101 "))
        reply = self.refused(429, "limit", "/ws", *UPGRADE)

        self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)
        self.assertGreater(reply.error["retry_after_ms"], 0)


class StreamTests(LiveCase):
    environ = {
        "TWISTED_CHAT_LIMITS_PERSON_PER_SECOND": "100000",
        "TWISTED_CHAT_LIMITS_PERSON_BURST": "100000",
    }

    def say(self, text: str, *, room: str = "lobby") -> None:
        headers = ("Content-Type: text/plain",)
        self.assertEqual(self.curl(f"/api/v1/rooms/{room}/events", *headers, more=("--data-binary", text)).status, 201)

    def test_curl_is_a_reader(self) -> None:
        """``curl -N`` sees what is said, as it is said."""
        url = self.server.url + "api/v1/rooms/lobby/events"
        command = ["curl", "--silent", "--no-buffer", "--max-time", "20", "--header", "Accept: text/event-stream", url]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            lines = iter(reader.stdout.readline, b"")
            self.assertTrue(any(line.startswith(b"event: live") for line in lines))
            self.say("hello")
            data = next(line for line in lines if b'"hello"' in line)
            self.assertEqual(json.loads(data.removeprefix(b"data: "))["text"], "hello")
            reader.kill()

    def stalled(self, request: bytes) -> socket.socket:
        """A stream of which nothing is read but its head."""
        stalled = socket.socket()
        self.addCleanup(stalled.close)
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stalled.settimeout(PATIENCE)
        stalled.connect(("127.0.0.1", self.server.port))
        stalled.sendall(request)
        self.assertTrue(read_head(stalled).startswith(b"HTTP/1.0 200 "))
        return stalled

    def fill(self, room: bytes, count: int) -> None:
        """Say megabytes."""
        writer = self.connect()
        for number in range(count):
            text = b"%d:" % number + b"x" * 15_000
            head = b"POST /api/v1/rooms/%b/events HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
            writer.sendall(head % (room, len(text)) + text)
            answer = read_head(writer)
            self.assertTrue(answer.startswith(b"HTTP/1.1 201 "), answer)
            length = int(Reply(answer).headers["content-length"])
            while length:
                length -= len(writer.recv(length))

    def read_all(self, stalled: socket.socket, count: int) -> list[bytes]:
        """The lines of the stream, up to the last message."""
        received = b""
        while b'"text":"%d:' % (count - 1) not in received[-40_000:] or not received.endswith(b"\n\n"):
            part = stalled.recv(65_536)
            self.assertTrue(part, "the stream ended")
            received += part
        return received.split(b"\n")

    def test_reader_that_does_not_read(self) -> None:
        """Megabytes pass while a stream is not read; the others go on, and afterwards it has everything."""
        stalled = self.stalled(b"GET /api/v1/rooms/big/events?after=0 HTTP/1.0\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")

        self.fill(b"big", 300)

        seqs = [int(line.split(b":")[2]) for line in self.read_all(stalled, 300) if line.startswith(b"id: ")]
        self.assertEqual(seqs, list(range(1, 301)))

    def test_session_that_does_not_read(self) -> None:
        """The same for a session by HTTP, whose post waits until it reads."""
        stalled = self.stalled(b"GET /api/v1/session HTTP/1.0\r\nHost: a\r\n\r\n")
        opened = b""
        while not opened.endswith(b"\n\n"):
            opened += stalled.recv(1)
        path = f"/api/v1/session/{json.loads(opened.partition(b'data: ')[2])['session']}?n="
        post = ("Content-Type: application/json",)
        for number, frame in enumerate(('{"type":"hello","capabilities":["batch"]}', '{"type":"join","room":"large"}'), 1):
            self.assertEqual(self.curl(f"{path}{number}", *post, more=("--data", frame)).status, 200)

        self.fill(b"large", 300)
        ping = b'{"type":"ping","id":7}'
        waiting = self.connect(
            b"POST %b3 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (path.encode(), len(ping), ping)
        )

        waiting.settimeout(0.2)
        self.assertRaises(TimeoutError, waiting.recv, 1)

        lines = self.read_all(stalled, 300)
        frames = [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]
        pushes = [each for frame in frames for each in (frame if isinstance(frame, list) else [frame])]
        self.assertEqual([push["seq"] for push in pushes if push["type"] == "event"], list(range(1, 301)))
        waiting.settimeout(PATIENCE)
        self.assertTrue(read_head(waiting).startswith(b"HTTP/1.1 200 "))


class WrappedTests(SynchronousTestCase):
    """Endpoints that put a protocol between the socket and HTTP."""

    def test_haproxy(self) -> None:
        """The address is the one in the PROXY header; frames behind the handshake are not lost."""
        with Served(Path(self.mktemp()), "--store", "memory:", "--listen", "haproxy:tcp:0:interface=127.0.0.1") as served:
            with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE) as opened:
                ping = b"\x89\x80abcd"
                opened.sendall(b"PROXY TCP4 203.0.113.5 127.0.0.1 4000 80\r\n" + handshake() + ping)
                self.assertTrue(read_head(opened).startswith(b"HTTP/1.1 101 "))
                self.assertEqual(opened.recv(2), b"\x8a\x00")
            with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE) as opened:
                opened.sendall(b"PROXY TCP4 203.0.113.5 127.0.0.1 4000 80\r\nGET /nope HTTP/1.1\r\nHost: a\r\n\r\n")
                self.assertIn(b" 404 ", read_head(opened))
            served.end()
            self.assertIn("203.0.113.5 GET /nope 404", served.stdout + served.stderr)
