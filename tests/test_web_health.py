"""Alive, ready, and what is counted."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from tests.harness.http_chat import HttpCase
from tests.harness.http_memory import Reply, Wire, handshake, request_head
from tests.harness.logs import LoggedEvents
from twisted_chat.errors import Unavailable
from twisted_chat.web.health import MetricsFor
from twisted_chat.web.origins import TrustedProxies

HERE: IAddress = IPv4Address("TCP", "127.0.0.1", 5)


class HealthTests(HttpCase):
    def test_alive(self) -> None:
        """``/healthz`` answers also while the server stops."""
        self.limiter.draining = True
        self.assertEqual(self.ask("/healthz").body, b"ok\n")

    def test_ready(self) -> None:
        """``/readyz`` answers 200 when the store works."""
        self.assertEqual(self.ask("/readyz").status, 200)

    def test_draining(self) -> None:
        """``/readyz`` answers 503 while the server stops."""
        self.limiter.draining = True

        reply = self.ask("/readyz")

        self.assertEqual((reply.status, reply.error["code"]), (503, "unavailable"))
        self.assertIn("retry-after", reply.headers)

    def test_store_that_cannot_commit(self) -> None:
        """The server is not ready while the store cannot commit, and ready again when it can."""
        self.probes = []
        wire = self.send("/readyz")

        self.probes[0].errback(Unavailable("disk full"))

        self.assertIn(b" 503 ", wire.taken())
        self.assertIn(b"disk full", self.send("/readyz").taken())

        self.pass_time(1)
        wire = self.send("/readyz")
        self.probes[1].callback(None)

        self.assertIn(b" 200 ", wire.taken())

    def test_store_that_fails_strangely(self) -> None:
        """``/readyz`` answers 503 when the store's probe fails with any error."""
        self.probes = []
        wire = self.send("/readyz")

        self.probes[0].errback(OSError("no such device"))

        self.assertIn(b" 503 ", wire.taken())

    def test_store_that_hangs(self) -> None:
        """``/readyz`` answers 503 when the store's probe hangs."""
        self.probes = []
        wire = self.send("/readyz")

        self.pass_time(5)

        self.assertIn(b" 503 ", wire.taken())

    def test_everybody_may_ask_and_it_costs_one_commit(self) -> None:
        """Questions at the same time, and shortly after, share one probe of the store."""
        self.probes = []
        wires = [self.send("/readyz") for _ in range(10)]

        self.assertEqual(len(self.probes), 1)

        self.probes[0].callback(None)
        self.assertEqual([wire.taken()[9:12] for wire in wires], [b"200"] * 10)
        self.assertEqual(self.ask("/readyz").status, 200)
        self.assertEqual(len(self.probes), 1)


class MetricsTests(HttpCase):
    def reads(self, *headers: tuple[str, str], peer: IAddress | None = None, host: bytes = b"localhost:8080") -> int:
        return self.ask("/metrics", *headers, peer=peer, host=host).status

    def test_this_machine(self) -> None:
        """By default metrics are served to addresses of this machine."""
        self.assertEqual(self.reads(peer=HERE), 200)
        self.assertEqual(self.reads(peer=IPv6Address("TCP", "::1", 5)), 200)
        self.assertEqual(self.reads(peer=IPv6Address("TCP", "::ffff:127.0.0.1", 5)), 200)

    def test_others(self) -> None:
        """Others need a token with the right ``metrics``."""
        self.assertEqual(self.reads(), 403)
        self.assertEqual(self.reads(("Authorization", "Bearer alice")), 403)
        self.assertEqual(self.reads(("Authorization", "Bearer unknown")), 401)
        self.assertEqual(self.reads(("Authorization", "Bearer op")), 200)

    def test_proxy_on_this_machine(self) -> None:
        """Metrics for loopback only are refused to a proxy on this machine, trusted or not: it speaks for others."""
        for header in (("X-Forwarded-For", "203.0.113.5"), ("Forwarded", "for=203.0.113.5"), ("X-Forwarded-For", "127.0.0.1")):
            self.assertEqual(self.reads(header, peer=HERE), 403)
        self.request_auth.proxies = TrustedProxies(["127.0.0.1"])
        self.assertEqual(self.reads(("X-Forwarded-For", "127.0.0.1"), peer=HERE), 403)

    def test_silent_proxy_on_this_machine(self) -> None:
        """nginx without any header: it speaks HTTP/1.0, or passes on the name of the site."""
        self.assertEqual(self.reads(peer=HERE, host=b"chat.example.org"), 403)

        wire = Wire(self.site, HERE)
        answer = wire.deliver(request_head(target=b"/metrics", host=b"127.0.0.1:8080", version=b"HTTP/1.0"))

        self.assertEqual(Reply(answer).status, 403)

    def test_unknown_proxy_is_said_once(self) -> None:
        """Once a proxy on this machine has shown itself, its requests without headers are not for this machine either."""
        logged = LoggedEvents()
        self.request_auth.log = Logger("auth", observer=logged)
        self.assertEqual(self.reads(("X-Forwarded-For", "203.0.113.5"), peer=IPv4Address("TCP", "8.8.8.8", 5)), 403)
        self.assertEqual(logged, [])
        for _ in range(3):
            self.reads(("X-Forwarded-For", "203.0.113.5"), peer=HERE)

        self.assertEqual([event["log_format"].count("trusted_proxies") for event in logged], [1])
        self.assertEqual(self.reads(peer=HERE), 403)

    def test_header_of_a_neighbour(self) -> None:
        """A header from another machine of the network does not take the metrics from this machine: no request of it comes from here."""
        neighbour = IPv4Address("TCP", "192.168.1.7", 5)
        logged = LoggedEvents()
        self.request_auth.log = Logger("auth", observer=logged)

        for _ in range(2):
            self.reads(("X-Forwarded-For", "203.0.113.5"), peer=neighbour)

        self.assertEqual(self.reads(peer=HERE), 200)
        self.assertEqual(len(logged), 1)

    def test_proxy_that_is_trusted_later(self) -> None:
        """When a reload has named the proxy, this machine may read the metrics again, and the proxy still may not."""
        self.reads(("X-Forwarded-For", "203.0.113.5"), peer=HERE)
        before = self.reads(peer=HERE)

        self.request_auth.trust(TrustedProxies(["127.0.0.1"]))

        self.assertEqual((before, self.reads(peer=HERE)), (403, 200))
        self.assertEqual(self.reads(("X-Forwarded-For", "203.0.113.5"), peer=HERE), 403)

    def test_page_of_another_site(self) -> None:
        """A page that runs in a browser on this machine is not this machine."""
        self.assertEqual(self.reads(("Origin", "http://evil.test"), peer=HERE), 403)

    def test_counts(self) -> None:
        """Answers and connections are counted."""
        Wire(self.site).deliver(handshake())
        self.ask("/nope")
        text = self.ask("/metrics", peer=HERE, host=b"127.0.0.1:8080").body.decode()

        self.assertIn('twisted_chat_http_answers_total{status="404"} 1.0', text)
        self.assertIn("twisted_chat_connections 1.0", text)


class MetricsForAllTests(MetricsTests):
    metrics_for: MetricsFor = "all"

    def test_others(self) -> None:
        """With ``metrics = "all"`` everybody may read them."""
        self.assertEqual(self.reads(), 200)

    test_proxy_on_this_machine = test_silent_proxy_on_this_machine = test_unknown_proxy_is_said_once = test_others
    test_proxy_that_is_trusted_later = test_others


class MetricsByRightTests(HttpCase):
    metrics_for: MetricsFor = "right"

    def test_right(self) -> None:
        """With ``metrics = "right"`` this machine needs a token too."""
        self.assertEqual(self.ask("/metrics", peer=HERE).status, 403)
        self.assertEqual(self.ask("/metrics", ("Authorization", "Bearer op"), peer=HERE).status, 200)


class NoMetricsTests(HttpCase):
    metrics_for: MetricsFor = "off"

    def test_off(self) -> None:
        """With ``metrics = "off"`` there are none for anybody."""
        self.assertEqual(self.ask("/metrics", ("Authorization", "Bearer op"), peer=HERE).status, 404)
