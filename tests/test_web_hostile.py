"""Requests that are wrong in every part at once: a clear answer, and nothing in the log that an operator has to look at."""

from __future__ import annotations

import random

from twisted.logger import LogLevel, globalLogPublisher

from tests.harness.http_chat import HttpCase
from tests.harness.http_memory import Reply, Wire, handshake, request_head
from tests.harness.logs import LoggedEvents

EVENTS = b"/api/v1/rooms/lobby/events"
#: What may stand in a path, a query, a header or a body.
BROKEN = (
    b"",
    b"\xff",
    b"Montr\xe9al",
    "\u2028".encode(),
    b"%ff",
    b"%00",
    b"%",
    b"%zz",
    b"%ed%a0%80",
    b"\xed\xa0\x80",
    b"-1",
    b"9" * 400,
    b"1e400",
    b"NaN",
    b"[" * 1000,
    b'{"a":' * 1000,
    b"a" * 3000,
    b"..",
    b"null",
)
BODIES = (
    b'{"text":"\xff"}',
    b'{"\xff":"a"}',
    b'{"text":"\\ud800"}',
    b'{"text":"\\udc00\\ud800"}',
    b'{"text":1e400}',
    b'{"text":{}}',
    b'{"data":"\xff"}',
    b'{"data":"===="}',
    b'{"reply_to":1e999,"text":"x"}',
    b'{"reply_to":' + b"9" * 5000 + b',"text":"x"}',
    b'{"text":' + b"[" * 50_000,
    b"\x00",
    b"\xef\xbb\xbf{}",
    '{"text":"x"}'.encode("utf-16"),
)


class HostileRequestTests(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.logged = LoggedEvents()
        globalLogPublisher.addObserver(self.logged)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged)

    def status(self, raw: bytes) -> int:
        """What the request is answered with; nothing loud is logged for it."""
        answer = Wire(self.site).deliver(raw)
        self.assertEqual(self.logged.at_least(LogLevel.error), [], raw[:200])
        if answer == b"<101>":
            return 101
        return Reply(answer).status if answer else 0

    def assert_served_or_refused(self, raw: bytes) -> None:
        status = self.status(raw)
        self.assertTrue(status in (0, 101, 200, 201, 204, 304, 308) or 400 <= status < 500, (status, raw[:200]))

    def test_bodies(self) -> None:
        """Every broken body of every type is served or refused without a fault."""
        for body in (*BODIES, *BROKEN):
            for kind in (
                b"application/json",
                b"text/plain",
                b"application/json; charset=utf-16",
                b"\xff",
                b"multipart/form-data; boundary=x",
            ):
                headers = [(b"Content-Type", kind), (b"Content-Length", b"%d" % len(body))]
                self.assert_served_or_refused(request_head(b"POST", EVENTS + b"?device=12345678", headers) + body)

    def test_places(self) -> None:
        """Broken bytes at every place of a target, by every method, are served or refused without a fault."""
        paths = [
            b"/",
            EVENTS,
            b"/api/v1/rooms",
            b"/ws",
            b"/ws/",
            b"/healthz",
            b"/metrics",
            b"/client.js",
            b"/api/v1/openapi.json",
        ]
        for path in paths:
            for broken in BROKEN:
                for method in (b"GET", b"HEAD", b"POST", b"OPTIONS", b"DELETE", b"\xff"):
                    self.assert_served_or_refused(request_head(method, path + broken))
                    self.assert_served_or_refused(request_head(method, b"/api/v1/rooms/" + broken + b"/events"))
                    for name in (b"device", b"name", b"after", b"before", b"around", b"limit", b"tail", b"history"):
                        self.assert_served_or_refused(request_head(method, path + b"?" + name + b"=" + broken))

    def test_headers(self) -> None:
        """Broken bytes in every header are served or refused without a fault."""
        names = (
            b"Host",
            b"Origin",
            b"Cookie",
            b"Authorization",
            b"Accept",
            b"Last-Event-ID",
            b"Idempotency-Key",
            b"If-None-Match",
            b"X-Forwarded-For",
            b"X-Forwarded-Proto",
            b"Forwarded",
            b"Content-Encoding",
            b"Content-Length",
            b"Expect",
            b"Range",
            b"Sec-WebSocket-Protocol",
            b"Sec-WebSocket-Extensions",
            b"Sec-WebSocket-Key",
            b"Sec-Fetch-Site",
            b"X-Other",
        )
        for name in names:
            for broken in BROKEN:
                for prefix in (b"", b"Bearer ", b"chat_token=", b"text/event-stream, ", b"bearer."):
                    header = (name, prefix + broken)
                    self.assert_served_or_refused(request_head(b"GET", EVENTS, [header]))
                    self.assert_served_or_refused(handshake(b"/ws", header))

    def test_random_bytes(self) -> None:
        """Good requests with single bytes changed."""
        randomness = random.Random(16)
        body = b'{"text":"hello"}'
        post = request_head(b"POST", EVENTS, [(b"Content-Type", b"application/json"), (b"Content-Length", b"16")]) + body
        for good in (post, handshake(), request_head(b"GET", EVENTS, [(b"Accept", b"text/event-stream")])):
            for _ in range(400):
                raw = bytearray(good)
                for _ in range(randomness.choice((1, 1, 1, 5))):
                    raw[randomness.randrange(len(raw))] = randomness.randrange(256)
                self.status(bytes(raw))


class TargetTests(HttpCase):
    def test_absolute_form(self) -> None:
        """The host of the target counts, whatever the Host header says (RFC 9112 section 3.2.2)."""
        wire = Wire(self.site)

        self.assertEqual(
            Reply(wire.deliver(request_head(target=b"http://chat.test:8080/healthz", host=b"other.test"))).status, 200
        )

        origin = (b"Origin", b"http://chat.test:8080")
        target = b"http://chat.test:8080/ws"

        self.assertEqual(b"<101>", Wire(self.site).deliver(handshake(target, origin, host=b"other.test")))
        self.assertEqual(Reply(Wire(self.site).deliver(handshake(b"http://other.test/ws", origin))).status, 403)

    def test_options_of_the_server(self) -> None:
        """``OPTIONS *`` is answered with the methods."""
        reply = Reply(Wire(self.site).deliver(request_head(b"OPTIONS", b"*")))

        self.assertEqual((reply.status, reply.headers["allow"]), (204, "GET, HEAD, POST, PATCH, DELETE, OPTIONS"))

    def test_head_of_a_stream(self) -> None:
        """It has the head of the stream, ends at once, and takes no place among the connections."""
        wire = Wire(self.site)
        before = self.limiter.connections
        answer = wire.deliver(request_head(b"HEAD", EVENTS, [(b"Accept", b"text/event-stream")]))

        self.assertEqual(Reply(answer).headers["content-type"], "text/event-stream")
        self.assertTrue(answer.endswith(b"\r\n\r\n"))
        self.assertEqual(self.limiter.connections, before)
        self.assertEqual(Reply(wire.deliver(request_head(target=b"/healthz"))).status, 200)
        self.assertEqual(
            self.ask("/api/v1/rooms/closed%2froom/events", ("Accept", "text/event-stream"), method="HEAD").status, 400
        )

    def test_coding(self) -> None:
        """A body that has to be decoded first is not read."""
        for name, value, status in (
            ("Content-Encoding", "gzip", 415),
            ("Content-Encoding", "identity", 201),
            ("Content-Type", "text/plain; charset=latin-1", 415),
            ("Content-Type", 'text/plain; charset="UTF-8"; format=flowed', 201),
        ):
            with self.subTest(value):
                headers = [(name, value)] if name == "Content-Type" else [(name, value), ("Content-Type", "text/plain")]
                reply = self.ask(EVENTS.decode(), *headers, method="POST", body=b"x")
                self.assertEqual(reply.status, status)
