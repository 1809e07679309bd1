"""Known hosts: a page under a name that its owner points at this machine (DNS rebinding) gets nothing."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.http_chat import HttpCase
from tests.harness.http_memory import Reply, Wire, handshake, request_head
from twisted_chat.errors import BadRequest, Forbidden
from twisted_chat.server.build import known_hosts
from twisted_chat.server.config import Settings
from twisted_chat.web.origins import Hosts, TrustedProxies, parse_host

EVENTS = "/api/v1/rooms/lobby/events"
ORIGIN = ("Origin", "http://evil.test")
LANGUAGE = ("Accept-Language", "en")


class HostsTests(SynchronousTestCase):
    def test_addresses_and_loopback_names_are_known(self) -> None:
        """Nobody can point them elsewhere."""
        hosts = Hosts()
        for host in ("localhost", "localhost:8080", "chat.localhost", "127.0.0.1:80", "[::1]:8080", "192.168.1.7", "localhost."):
            hosts.check(host)

    def test_other_names_are_not(self) -> None:
        """Names that only begin or end like an address or a loopback name, and what is no host at all, are not known."""
        names = ("evil.test", "evil.test:8080", "localhost.evil.test", "127.0.0.1.evil.test", "evillocalhost", "1.2.3")
        nonsense = ("", ".", "[evil]:80", "[::1].evil.test", "127.0.0.1@evil.test", "127.0.0.1/evil", "localhost evil.test")
        for host in (*names, *nonsense):
            with self.assertRaises(Forbidden, msg=host):
                Hosts().check(host)

    def test_named(self) -> None:
        """Listed names, and names below a wildcard, are known in any case and with any port."""
        hosts = Hosts(frozenset({"chat.lan", "*.example.org"}))
        for host in ("chat.lan", "Chat.LAN:8080", "a.example.org:8443", "a.b.example.org"):
            hosts.check(host)

    def test_not_named(self) -> None:
        """A pattern is for what lies below the name, with the dot."""
        hosts = Hosts(frozenset({"chat.lan", "*.example.org"}))
        for host in ("example.org", "notexample.org", "chat.lan.evil.test"):
            with self.assertRaises(Forbidden, msg=host):
                hosts.check(host)

    def test_any(self) -> None:
        """``*`` makes every name known."""
        Hosts(frozenset({"*"})).check("anything.test")

    def test_parsed(self) -> None:
        """An entry is lower case without the final dot."""
        self.assertEqual([parse_host(text) for text in ("Chat.LAN.", "*.a.b", "*")], ["chat.lan", "*.a.b", "*"])

    def test_what_is_no_host(self) -> None:
        """An entry that is no host name or wildcard is refused."""
        for text in ("", "http://x", "a b", "x:80", "*x", "a..b"):
            with self.assertRaises(BadRequest, msg=text):
                parse_host(text)

    def test_the_settings_make_them_known(self) -> None:
        """The host of the public URL, those of allowed origins, and the allowed hosts."""
        settings = Settings(
            public_url="https://chat.example.org/x", allowed_origins=("https://www.example.net",), allowed_hosts=("pi.lan",)
        )

        self.assertLessEqual({"chat.example.org", "www.example.net", "pi.lan"}, known_hosts(settings).names)


class RebindingTests(HttpCase):
    """The page's origin is the host of its request, so only the host tells that the page is foreign."""

    def setUp(self) -> None:
        super().setUp()
        self.request_auth.hosts = Hosts()

    def assert_refused(self, reply: Reply) -> None:
        """Told which setting allows it."""
        self.assertEqual((reply.status, reply.error["code"], "allowed_hosts" in reply.error["message"]), (403, "forbidden", True))

    def ask_evil(self, path: str, *headers: tuple[str, str], **options: Any) -> Reply:
        return self.ask(path, *headers, host=b"evil.test", **options)

    def test_reading(self) -> None:
        """A page under a rebound name cannot read."""
        self.assert_refused(self.ask_evil(EVENTS, ORIGIN))

    def test_reading_without_origin(self) -> None:
        """Browsers send no origin with a GET to the page's own."""
        self.assert_refused(self.ask_evil(EVENTS, LANGUAGE))

    def test_writing(self) -> None:
        """A page under a rebound name cannot write."""
        text = ("Content-Type", "text/plain")

        self.assert_refused(self.ask_evil(EVENTS, ORIGIN, text, method="POST", body=b"spam"))

        self.assertEqual(self.get(EVENTS)["events"], [])

    def test_preflight(self) -> None:
        """A page under a rebound name gets no preflight."""
        self.assert_refused(self.ask_evil(EVENTS, ORIGIN, method="OPTIONS"))

    def test_event_stream(self) -> None:
        """A page under a rebound name gets no event stream."""
        self.assert_refused(self.ask_evil(EVENTS, LANGUAGE, ("Accept", "text/event-stream")))

    def test_the_page(self) -> None:
        """The chat's own page is not served under a rebound name."""
        self.assert_refused(self.ask_evil("/", LANGUAGE))

    def test_handshake_read_by_twisted(self) -> None:
        """A page under a rebound name gets no WebSocket by the slow reader."""
        self.site.quick = lambda channel, data: False

        self.assert_refused(
            Reply(Wire(self.site).deliver(handshake(b"/ws", (b"Origin", b"http://evil.test"), host=b"evil.test")))
        )

    def test_handshake_read_quickly(self) -> None:
        """A page under a rebound name gets no WebSocket by the fast reader."""
        self.site.quick = self.router.quick

        self.assert_refused(
            Reply(Wire(self.site).deliver(handshake(b"/ws", (b"Origin", b"http://evil.test"), host=b"evil.test")))
        )

    def test_a_forwarding_header_proves_nothing(self) -> None:
        """A page that reaches the port of a server behind a proxy of the same machine can set the header itself."""
        self.request_auth.proxies = TrustedProxies(["192.0.2.0/24"])

        self.assert_refused(self.ask_evil(EVENTS, ORIGIN, ("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "https")))


class KnownTests(HttpCase):
    """Who goes on working without a setting."""

    def setUp(self) -> None:
        super().setUp()
        self.request_auth.hosts = Hosts(frozenset({"chat.lan"}))
        self.site.quick = self.router.quick

    def assert_answered(self, *headers: tuple[str, str], host: bytes = b"other.test", **options: Any) -> None:
        self.assertEqual(self.ask(EVENTS, *headers, host=host, **options).status, 200)

    def test_programs(self) -> None:
        """curl and most libraries send neither an origin nor a language."""
        self.assert_answered()

    def test_node(self) -> None:
        """Its ``fetch`` sends a language and a mode, but no site; a page can take away neither the language nor set the mode."""
        self.assert_answered(("Accept-Language", "*"), ("Sec-Fetch-Mode", "cors"))

    def test_handshakes_of_programs(self) -> None:
        """All browsers send an origin with a handshake; Node.js sends none."""
        node = ((b"Accept-Language", b"*"), (b"Sec-Fetch-Mode", b"websocket"))

        self.assertEqual(Wire(self.site).deliver(handshake(b"/ws", *node, host=b"other.test")), b"<101>")

    def test_handshake_of_a_page(self) -> None:
        """A page under an allowed name gets a WebSocket."""
        origin = (b"Origin", b"http://chat.lan:8080")

        self.assertEqual(Wire(self.site).deliver(handshake(b"/ws", origin, host=b"chat.lan:8080")), b"<101>")

    def test_pages_under_known_names(self) -> None:
        """A page under an allowed name may use the API."""
        self.assert_answered(("Origin", "http://chat.lan:8080"), host=b"chat.lan:8080")

    def test_pages_under_an_address(self) -> None:
        """A page under a literal address may use the API."""
        self.assert_answered(("Origin", "http://192.168.1.7:8080"), host=b"192.168.1.7:8080")

    def test_pages_over_tls(self) -> None:
        """The browser has compared the name with the certificate."""
        wire = Wire(self.site)
        wire.protocol.isSecure = lambda: True

        answer = wire.deliver(
            request_head(target=EVENTS.encode(), headers=[(b"Origin", b"https://other.test")], host=b"other.test")
        )

        self.turn()

        self.assertEqual(Reply(answer + wire.taken()).status, 200)

    def test_pages_through_a_unix_socket(self) -> None:
        """No browser can connect there; the proxy has chosen this server by the name."""
        self.request_auth.proxies = TrustedProxies(["unix"])

        self.assert_answered(("Origin", "http://other.test"), peer=UNIXAddress(None))
