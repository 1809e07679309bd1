"""Origins, addresses behind proxies, and counts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.errors import BadRequest, Forbidden, LimitReached, Restarting
from twisted_chat.limits import Limits
from twisted_chat.web.origins import Origins, TrustedProxies, is_loopback, own_origin, parse_origin, plain_address


class OriginTests(SynchronousTestCase):
    def refused(self, origins: Origins, origin: str | None, host: str = "chat.test", **kw: bool) -> str:
        error: Forbidden = self.assertRaises(Forbidden, origins.check, origin, "https", host, **kw)
        return error.message

    def test_own_page(self) -> None:
        """The page that this server serves may talk to it, with and without a port."""
        origins = Origins()

        origins.check("https://chat.test", "https", "chat.test")
        origins.check("https://chat.test:8443", "https", "chat.test:8443")
        origins.check("https://[::1]:8443", "https", "[::1]:8443")
        origins.check("https://chat.test", "https", "chat.test:443")
        origins.check("http://chat.test", "http", "Chat.Test:80")

    def test_near_misses(self) -> None:
        """Another scheme, host or port is another origin, however alike it looks."""
        for origin in (
            "http://chat.test",
            "https://chat.test:444",
            "https://chat.test.evil.example",
            "https://evil.chat.test",
            "https://chat.test/",
            "https://chat.test#",
            "https://user@chat.test",
            "HTTPS://chat.test",
            "https://chat.test\t",
            "chat.test",
            "",
            "null",
            "file://",
        ):
            self.refused(Origins(), origin)

    def test_other_port_of_own(self) -> None:
        """Another port of the server's own host is another origin."""
        self.refused(Origins(), "https://chat.test", "chat.test:8443")

    def test_configured(self) -> None:
        """A configured origin is allowed in any spelling of host and default port, and only with its port."""
        origins = Origins(frozenset({parse_origin("https://WWW.example.org:443/")}))
        origins.check("https://www.example.org", "https", "chat.test")
        self.refused(origins, "https://www.example.org:8443")

    def test_apps_and_files(self) -> None:
        """Origins of apps and of pages from disk, in the form in which engines send them, are allowed by name only."""
        for origin in (
            "null",
            "file://",
            "app://localhost",
            "app://.",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://6bd5a3c5-9e5c-4d5a-8c3b-0a6d5b0a4f11",
        ):
            with self.subTest(origin):
                self.refused(Origins(), origin)
                Origins(frozenset({parse_origin(origin)})).check(origin, "http", "chat.test")

    def test_cure(self) -> None:
        """The refusal names the setting that would allow the page."""
        for origin, scheme, host, cure in (
            ("https://www.test", "https", "chat.test", '--allowed-origins "https://www.test"'),
            ("app://localhost", "https", "chat.test", '--allowed-origins "app://localhost"'),
            ("https://chat.test", "http", "chat.test", "X-Forwarded-Proto"),
        ):
            with self.subTest(origin):
                error = self.assertRaises(Forbidden, Origins().check, origin, scheme, host)
                self.assertIn(cure, error.message)

    def test_null(self) -> None:
        """A page opened from disk has no origin; it may only where the operator has nothing to protect."""
        Origins(null=lambda: True).check("null", "http", "chat.test")
        self.refused(Origins(null=lambda: False), "null")
        # A Host header cannot make "null" or nothing our own origin.
        self.refused(Origins(), "null", "null")

    def test_no_origin(self) -> None:
        """Programs send none; a browser's cookie without one proves nothing."""
        Origins().check(None, "http", "chat.test")
        self.assertIn("cookie", self.refused(Origins(), None, with_cookie=True))
        Origins().check("https://chat.test", "https", "chat.test", with_cookie=True)

    def test_odd_host(self) -> None:
        """A Host that is no host name matches no origin."""
        self.refused(Origins(), "https://a", "a/b")
        self.assertIsNone(own_origin("http", "a b"))

    def test_message_shows_no_raw_bytes(self) -> None:
        """A refused origin is shown with escapes."""
        self.assertIn(r"\x1b", self.refused(Origins(), "http://\x1b[31m"))

    def test_parse_refuses(self) -> None:
        """An entry that is not scheme, host and port is refused."""
        for text in (
            "",
            "example.org",
            "ftp://example.org",
            "https://",
            "https://a b",
            "https://a/b",
            "*",
            "https://*.a",
        ):
            self.assertRaises(BadRequest, parse_origin, text)

    def test_parse(self) -> None:
        """An origin is lower case, without the default port of its scheme."""
        self.assertEqual(parse_origin("http://Example.org:80"), "http://example.org")
        self.assertEqual(parse_origin("http://example.org:443"), "http://example.org:443")


class AddressTests(SynchronousTestCase):
    proxies = TrustedProxies(["10.0.0.0/8", "127.0.0.1", "2001:db8::/32"])

    def test_direct(self) -> None:
        """What a stranger says about others is not believed."""
        self.assertEqual(self.proxies.client("192.0.2.9", ["1.1.1.1"]), "192.0.2.9")
        self.assertEqual(TrustedProxies().client("127.0.0.1", ["1.1.1.1"]), "127.0.0.1")

    def test_one_proxy(self) -> None:
        """Behind a trusted proxy the client is the forwarded address."""
        self.assertEqual(self.proxies.client("10.0.0.1", ["192.0.2.9"]), "192.0.2.9")

    def test_forged_by_the_client(self) -> None:
        """The client wrote the left one; the proxy appended whom it saw."""
        self.assertEqual(self.proxies.client("10.0.0.1", ["1.1.1.1, 192.0.2.9"]), "192.0.2.9")
        self.assertEqual(self.proxies.client("10.0.0.1", ["1.1.1.1", "192.0.2.9"]), "192.0.2.9")

    def test_chain(self) -> None:
        """Of several forwarded addresses the last one that is not a trusted proxy counts."""
        self.assertEqual(self.proxies.client("127.0.0.1", ["1.1.1.1, 192.0.2.9, 10.0.0.3"]), "192.0.2.9")
        self.assertEqual(self.proxies.client("127.0.0.1", ["10.0.0.2, 10.0.0.3"]), "10.0.0.2")

    def test_nonsense(self) -> None:
        """Behind an entry that is no address nothing can be believed."""
        self.assertEqual(self.proxies.client("10.0.0.1", ["192.0.2.9, unknown"]), "10.0.0.1")
        self.assertEqual(self.proxies.client("10.0.0.1", ["<script>, 10.0.0.5"]), "10.0.0.5")
        self.assertEqual(self.proxies.client("10.0.0.1", [""]), "10.0.0.1")

    def test_ports(self) -> None:
        """A forwarded address may have a port."""
        self.assertEqual(self.proxies.client("10.0.0.1", ["192.0.2.9:4711"]), "192.0.2.9")
        self.assertEqual(self.proxies.client("10.0.0.1", ["[2001:db9::1]:4711"]), "2001:db9::1")
        self.assertEqual(self.proxies.client("2001:db8::5", ["2001:db9::1"]), "2001:db9::1")

    def test_mapped(self) -> None:
        """A dual-stack socket writes IPv4 peers as IPv6."""
        self.assertEqual(plain_address("::ffff:192.0.2.9"), "192.0.2.9")
        self.assertEqual(plain_address("fe80::1%eth0"), "fe80::1")
        self.assertEqual(plain_address("2001:DB8:0:0::1"), "2001:db8::1")
        self.assertEqual(plain_address("not:an:address"), "not:an:address")
        self.assertEqual(self.proxies.client("::ffff:10.0.0.1", ["::ffff:192.0.2.9"]), "192.0.2.9")

    def test_unix(self) -> None:
        """A Unix socket is a proxy only if ``unix`` is trusted."""
        self.assertEqual(TrustedProxies(["unix"]).client("unix", ["192.0.2.9"]), "192.0.2.9")
        self.assertEqual(TrustedProxies().client("unix", ["192.0.2.9"]), "unix")

    def test_wrong_entry(self) -> None:
        """A network with bits of a host is refused with its text."""
        error = self.assertRaises(BadRequest, TrustedProxies, ["10.0.0.1/8"])
        self.assertIn("10.0.0.1/8", error.message)

    def test_loopback(self) -> None:
        """Loopback addresses are recognised; a Unix socket is none."""
        self.assertEqual([is_loopback(a) for a in ("127.0.0.9", "::1", "192.0.2.1", "unix")], [True, True, False, False])


class CountTests(SynchronousTestCase):
    def test_per_address(self) -> None:
        """Connections of one address are limited, until one of them ends."""
        limiter = ConnectionLimiter(Limits(connections_per_address=2))

        limiter.admit("192.0.2.1")
        limiter.admit("192.0.2.1")
        error = self.assertRaises(LimitReached, limiter.admit, "192.0.2.1")

        self.assertGreater(error.retry_after_ms or 0, 0)

        limiter.admit("192.0.2.2")
        limiter.ended("192.0.2.1")
        limiter.admit("192.0.2.1")

        self.assertEqual(limiter.connections, 3)

    def test_in_all(self) -> None:
        """All connections together are limited."""
        limiter = ConnectionLimiter(Limits(connections=2))

        limiter.admit("192.0.2.1")
        limiter.admit("192.0.2.2")

        self.assertRaises(LimitReached, limiter.admit, "192.0.2.3")
        self.assertEqual(limiter.connections, 2)

    def test_ipv6_network_is_one_address(self) -> None:
        """All addresses of an IPv6 network count as one, since each owner has 2**64 of them."""
        limiter = ConnectionLimiter(Limits(connections_per_address=2))

        limiter.admit("2001:db8::1")
        limiter.admit("2001:db8::ffff:2")

        self.assertRaises(LimitReached, limiter.admit, "2001:db8::3")

        limiter.admit("2001:db8:0:1::1")

    def test_nothing_is_kept_of_those_who_left(self) -> None:
        """Addresses without connections take no memory."""
        limiter = ConnectionLimiter(Limits())
        for address in ("192.0.2.1", "2001:db8::1", "unix", "not:an:address"):
            limiter.admit(address)
            limiter.ended(address)
        self.assertEqual((limiter.connections, limiter._by_address), (0, {}))

    def test_draining(self) -> None:
        """While the server stops, nobody is admitted."""
        limiter = ConnectionLimiter(Limits())
        limiter.draining = True

        self.assertRaises(Restarting, limiter.check_open)
        self.assertRaises(Restarting, limiter.admit, "192.0.2.1")
        self.assertEqual(limiter.connections, 0)

    def test_new_limits_hold_at_once(self) -> None:
        """New limits hold for the next connection."""
        limiter = ConnectionLimiter(Limits(connections_per_address=1))

        limiter.admit("192.0.2.1")

        self.assertRaises(LimitReached, limiter.admit, "192.0.2.1")

        limiter.limits = Limits(connections_per_address=2)
        limiter.admit("192.0.2.1")

        self.assertEqual(limiter.connections, 2)
