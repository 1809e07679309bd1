"""What all answers have in common, whatever was asked."""

from __future__ import annotations

from twisted.internet.address import IPv4Address

from tests.harness.http_chat import HttpCase
from tests.harness.http_memory import Wire, handshake, request_head


class FrontTests(HttpCase):
    def test_nothing_there(self) -> None:
        """Errors have one shape, and nobody is sent anywhere."""
        for target in (
            "/nope",
            "//evil.test/",
            "/\\evil.test",
            "/../../etc/passwd",
            "/..%2f..%2fetc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/styles/page.css/",
            "/page/index.html",
            "/styles/.page.css",
            "/index.html%00.css",
            "/api",
            "/api/v1/rooms/lobby/events/1",
            "/api/v1/rooms/lobby/extra/events",
            "*",
        ):
            with self.subTest(target):
                reply = self.ask(target)
                self.assertEqual((reply.status, reply.error["code"]), (404, "not_found"))
                self.assertNotIn("location", reply.headers)
                self.assertNotIn("evil", reply.body.decode())

    def test_methods(self) -> None:
        """Another method gets 405 with the allowed ones; an unknown path gets 404 by any method."""
        reply = self.ask("/", method="POST", body=b"x")

        self.assertEqual((reply.status, reply.headers["allow"], reply.error["retry"]), (405, "GET, HEAD, OPTIONS", False))

        reply = self.ask("/api/v1/rooms/lobby/events", method="DELETE")
        self.assertEqual((reply.status, reply.headers["allow"]), (405, "GET, POST, HEAD, OPTIONS"))
        self.assertEqual(self.ask("/nope", method="BREW").status, 404)

    def test_head(self) -> None:
        """HEAD is answered like GET, without the body."""
        for target in ("/", "/healthz", "/api/v1/rooms", "/nope"):
            got, head = self.ask(target), self.ask(target, method="HEAD")
            self.assertEqual((head.status, head.body), (got.status, b""))
            for name in ("content-type", "content-length", "content-security-policy", "cache-control"):
                self.assertEqual(head.headers[name], got.headers[name])

    def test_security_headers(self) -> None:
        """Every answer has the security headers, good or bad."""
        for target in ("/", "/client.js", "/healthz", "/metrics", "/nope", "/api/v1/rooms", "/ws", "/api/v1/rooms/%00/events"):
            with self.subTest(target):
                headers = self.ask(target).headers
                policy = headers["content-security-policy"]
                self.assertIn("default-src 'self'", policy)
                self.assertIn("frame-ancestors 'none'", policy)
                self.assertIn("require-trusted-types-for 'script'", policy)
                self.assertNotIn("unsafe", policy)
                self.assertEqual(headers["x-content-type-options"], "nosniff")
                self.assertEqual(headers["referrer-policy"], "no-referrer")
                self.assertEqual(headers["cross-origin-opener-policy"], "same-origin")
                self.assertEqual(headers["server"], "twisted_chat")

    def test_upgrade_goes_to_the_socket(self) -> None:
        """``/`` is the page for a browser and a WebSocket for who asks for one."""
        self.assertEqual(Wire(self.site).deliver(handshake(b"/")), b"<101>")
        self.assertEqual(self.ask("/").headers["content-type"], "text/html; charset=utf-8")
        self.assertEqual(self.ask("/ws").status, 426)
        self.assertEqual(self.ask("/ws/kitchen").status, 426)
        self.assertIn(b" 404 ", Wire(self.site).deliver(handshake(b"/healthz")).partition(b"\r\n")[0])

    def test_other_upgrades_are_ignored(self) -> None:
        """RFC 9110 section 7.8: who is offered another protocol may go on with this one."""
        self.assertEqual(self.ask("/", ("Upgrade", "h2c"), ("Connection", "Upgrade")).status, 200)

    def test_log(self) -> None:
        """Each request is one line of the log, without what may be secret."""
        self.ask("/api/v1/rooms?device=12345678&name=bob", ("Authorization", "Bearer alice"))
        (line,) = self.lines

        self.assertEqual(
            (line["method"], line["path"], line["status"], line["address"]), ("GET", "/api/v1/rooms", 200, "192.0.2.7")
        )
        self.assertNotIn("12345678", repr(line))
        self.assertNotIn("alice", repr(line))

    def test_refused_heads_are_logged(self) -> None:
        """A request that cannot be read is logged with status and address, without its bytes."""
        wire = Wire(self.site, IPv4Address("TCP", "192.0.2.99", 1))

        wire.deliver(b"\x1b[31m\r\n\r\n")
        (line,) = self.lines

        self.assertEqual((line["status"], line["path"], line["address"]), (400, "-", "192.0.2.99"))

    def test_bug(self) -> None:
        """A fault is answered with 500 that hides its text."""

        def broken() -> None:
            raise RuntimeError("a bug")

        self.patch(self.core.rooms, "visible", lambda user: broken())
        reply = self.ask("/api/v1/rooms")

        self.assertEqual((reply.status, reply.error["code"]), (500, "internal"))
        self.assertNotIn("a bug", reply.body.decode())

    def test_pipelined(self) -> None:
        """Answers come in the order of the pipelined requests, one in each turn of the reactor."""
        wire = Wire(self.site)

        raw = wire.deliver(b"".join(request_head(target=target) for target in (b"/healthz", b"/readyz", b"/nope")))
        self.turn()
        raw += wire.taken()

        self.assertEqual([part[:3] for part in raw.split(b"HTTP/1.1 ")[1:]], [b"200", b"200", b"404"])


class OriginTests(HttpCase):
    """Pages of other sites."""

    def test_own_and_none(self) -> None:
        """The server's own pages, and programs, need no CORS headers."""
        self.assertEqual(self.ask("/api/v1/rooms", ("Origin", "http://chat.test:8080")).status, 200)
        self.assertNotIn("access-control-allow-origin", self.ask("/api/v1/rooms").headers)

    def test_allowed(self) -> None:
        """A page of an allowed origin may read answers, without credentials."""
        headers = self.ask("/api/v1/rooms", ("Origin", "https://www.test")).headers

        self.assertEqual(headers["access-control-allow-origin"], "https://www.test")
        self.assertIn("Origin", headers["vary"])
        self.assertNotIn("access-control-allow-credentials", headers)

    def test_allowed_sees_errors_too(self) -> None:
        """A page of an allowed origin may read errors."""
        headers = self.ask("/api/v1/rooms/%00/events", ("Origin", "https://www.test")).headers
        self.assertEqual(headers["access-control-allow-origin"], "https://www.test")

    def test_foreign(self) -> None:
        """Neither reads nor writes, not even by a request that a form could send."""
        foreign = ("Origin", "http://evil.test")
        for reply in (
            self.ask("/api/v1/rooms", foreign),
            self.ask("/api/v1/rooms/lobby/events", foreign, ("Content-Type", "text/plain"), method="POST", body=b"spam"),
            self.ask("/api/v1/rooms", ("Origin", "null")),
        ):
            self.assertEqual((reply.status, reply.error["code"]), (403, "forbidden"))
            self.assertNotIn("access-control-allow-origin", reply.headers)
        self.assertEqual(self.get("/api/v1/rooms/lobby/events")["events"], [])

    def test_preflight(self) -> None:
        """A preflight of an allowed origin names methods and headers; others get 403."""
        reply = self.ask("/api/v1/rooms/lobby/events", ("Origin", "https://www.test"), method="OPTIONS")

        self.assertEqual((reply.status, reply.body), (204, b""))
        self.assertEqual(reply.headers["access-control-allow-origin"], "https://www.test")
        self.assertIn("POST", reply.headers["access-control-allow-methods"])
        self.assertIn("Idempotency-Key", reply.headers["access-control-allow-headers"])
        self.assertEqual(self.ask("/api/v1/rooms/lobby/events", ("Origin", "http://evil.test"), method="OPTIONS").status, 403)
        self.assertEqual(self.ask("/", method="OPTIONS").headers["allow"], "GET, HEAD, OPTIONS")

    def test_cookie(self) -> None:
        """A cookie counts only for our own page, which a browser marks when it sends no Origin."""
        cookie = ("Cookie", "chat_token=alice")

        self.assertEqual(self.ask("/api/v1/rooms", cookie).status, 403)
        self.assertEqual(self.ask("/api/v1/rooms", cookie, ("Sec-Fetch-Site", "same-site")).status, 403)
        self.assertEqual(self.ask("/api/v1/rooms", cookie, ("Sec-Fetch-Site", "same-origin")).status, 200)
        self.assertEqual(self.ask("/api/v1/rooms", cookie, ("Origin", "http://evil.test")).status, 403)


class PrefixTests(HttpCase):
    """Behind a proxy that keeps its path, or takes it off."""

    prefix = "/talk"

    def test_both(self) -> None:
        """With a prefix, paths work with it and without it."""
        for target in ("/talk/healthz", "/healthz"):
            self.assertEqual(self.ask(target).status, 200)
        self.assertEqual(Wire(self.site).deliver(handshake(b"/talk/ws/kitchen")), b"<101>")
        self.assertEqual(self.ask("/talkative").status, 404)

    def test_without_slash(self) -> None:
        """The page's links are relative, so it needs the slash; the way there leads nowhere else."""
        reply = self.ask("/talk?next=//evil.test")
        self.assertEqual((reply.status, reply.headers["location"]), (308, "/talk/"))
