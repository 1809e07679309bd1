"""Known hosts: a page under a name that its owner points at this machine (DNS rebinding) gets nothing."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.http_chat import HttpCase
from twisted_chat.errors import BadRequest, Forbidden
from twisted_chat.server.build import known_hosts
from twisted_chat.server.config import Settings
from twisted_chat.web.origins import Hosts, TrustedProxies, parse_host

EVENTS = "/api/v1/rooms/lobby/events"


class HostsTests(SynchronousTestCase):
    def test_addresses_and_loopback_names(self) -> None:
        """They cannot be pointed elsewhere, so they are known out of the box; no other name is."""
        hosts = Hosts()
        for host in ("localhost", "localhost:8080", "chat.localhost", "127.0.0.1:80", "[::1]:8080", "192.168.1.7", "localhost."):
            hosts.check(host)
        for host in ("evil.test", "evil.test:8080", "localhost.evil.test", "127.0.0.1.evil.test", "", "[evil]:80", "1.2.3"):
            self.assertRaises(Forbidden, hosts.check, host)

    def test_names_and_patterns(self) -> None:
        hosts = Hosts(frozenset({"chat.lan", "*.example.org"}))
        for host in ("chat.lan", "a.example.org:8443", "a.b.example.org"):
            hosts.check(host)
        for host in ("example.org", "notexample.org", "chat.lan.evil.test"):
            self.assertRaises(Forbidden, hosts.check, host)
        Hosts(frozenset({"*"})).check("anything.test")

    def test_what_is_no_host(self) -> None:
        self.assertEqual(parse_host("Chat.LAN."), "chat.lan")
        for text in ("", "http://x", "a b", "x:80", "*x", "a..b"):
            self.assertRaises(BadRequest, parse_host, text)

    def test_the_settings_make_them_known(self) -> None:
        """The host of the public URL, those of allowed origins, and the allowed hosts."""
        settings = Settings(
            public_url="https://chat.example.org/x", allowed_origins=("https://www.example.net",), allowed_hosts=("pi.lan",)
        )

        self.assertLessEqual({"chat.example.org", "www.example.net", "pi.lan"}, known_hosts(settings).names)


class RebindingTests(HttpCase):
    """The origin is that of the host, so only the host can tell."""

    page = (("Origin", "http://evil.test"), ("Accept-Language", "en"))

    def setUp(self) -> None:
        super().setUp()
        self.request_auth.hosts = Hosts()

    def refused(self, path: str, *headers: tuple[str, str], **options: object) -> None:
        reply = self.ask(path, *headers, host=b"evil.test", **options)
        self.assertEqual((reply.status, reply.error["code"]), (403, "forbidden"))
        self.assertIn("allowed_hosts", reply.error["message"])

    def test_reading_and_writing(self) -> None:
        """With an origin or, as browsers leave it out where they read from their own, without one."""
        self.refused(EVENTS, *self.page)
        self.refused(EVENTS, self.page[1])
        self.refused(EVENTS, *self.page, method="POST", body=b'{"text":"x"}')

    def test_streams_and_the_page_itself(self) -> None:
        self.refused(EVENTS, *self.page, ("Accept", "text/event-stream"))
        self.refused("/", self.page[1])

    def test_sockets(self) -> None:
        """Before the upgrade, for both readers of a handshake."""
        handshake = (
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        )
        self.refused("/ws", self.page[0], *handshake)
        self.refused("/ws", self.page[0], *handshake, ("X-Slow", "é"))

    def test_programs_may_use_any_name(self) -> None:
        """They send neither an origin nor a language, and nobody can make a browser do so."""
        self.assertEqual(self.ask(EVENTS, host=b"evil.test").status, 200)

    def test_known_names(self) -> None:
        self.request_auth.hosts = Hosts(frozenset({"chat.lan"}))
        self.assertEqual(self.ask(EVENTS, ("Origin", "http://chat.lan:8080"), host=b"chat.lan:8080").status, 200)
        self.assertEqual(self.ask(EVENTS, ("Origin", "http://localhost"), host=b"localhost").status, 200)

    def test_trusted_proxies_route_by_host(self) -> None:
        self.request_auth.proxies = TrustedProxies(["192.0.2.0/24", "127.0.0.1"])
        self.assertEqual(self.ask(EVENTS, *self.page, host=b"evil.test").status, 200)
