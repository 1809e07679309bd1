"""Handshakes that wait for a token, and how many may be under way."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from tests.harness.http_memory import Reply, handshake
from tests.test_web_upgrade import ALICE, KNOCK, Case
from twisted_chat.errors import Unauthenticated, Unavailable
from twisted_chat.limits import Limits
from twisted_chat.web.origins import TrustedProxies


class WaitTests(Case):
    """While a token is looked up, time goes on."""

    slow = handshake(b"/ws", (b"Authorization", b"Bearer slow"))

    def test_known_later(self) -> None:
        """The connection opens when a slow check succeeds."""
        wire = self.wire()

        self.assertEqual(wire.deliver(self.slow), b"")

        self.people.slow[0].callback(ALICE)
        self.assertEqual(wire.taken(), KNOCK)
        self.assertEqual(self.admissions[0].user, ALICE)

    def test_unknown_later(self) -> None:
        """A slow check that refuses gets 401, and counts as no connection."""
        wire = self.wire()

        wire.deliver(self.slow)
        self.people.slow[0].errback(Unauthenticated("token: unknown"))

        self.assertEqual(Reply(wire.taken()).status, 401)
        self.assertEqual(self.limiter.connections, 0)

    def test_frames_meanwhile(self) -> None:
        """What comes meanwhile starts no second handshake; it is for the socket."""
        wire = self.wire()

        wire.deliver(self.slow + b"first ")
        wire.deliver(handshake())
        wire.deliver(b"last")

        self.assertEqual(len(self.people.asked), 1)

        self.people.slow[0].callback(ALICE)
        self.assertEqual(wire.taken(), KNOCK)
        self.assertEqual(self.sockets[0].received, b"first " + handshake() + b"last")

    def test_many_frames_meanwhile(self) -> None:
        """More than is kept stops the reading, and the socket reads on."""
        wire = self.wire()

        wire.deliver(self.slow)
        wire.deliver(b"x" * 20_000)

        self.assertEqual(wire.producerState, "paused")

        self.people.slow[0].callback(ALICE)
        self.assertEqual(wire.producerState, "producing")
        self.assertEqual(len(self.sockets[0].received), 20_000)

    def test_left_meanwhile(self) -> None:
        """Nobody becomes a member who is gone: no ghost."""
        wire = self.wire()

        wire.deliver(self.slow)
        wire.leave()

        self.assertEqual(self.people.cancelled, 1)
        self.assertEqual((self.admissions, self.limiter.connections), ([], 0))
        self.assertEqual(wire.value(), b"")

    def test_look_up_that_hangs(self) -> None:
        """A check that takes too long gets 503 with the time to wait."""
        wire = self.wire()

        wire.deliver(self.slow)
        self.clock.advance(Limits().handshake_seconds)
        reply = Reply(wire.taken())

        self.assertEqual((reply.status, reply.error["code"], reply.error["retry"]), (503, "unavailable", True))
        self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)

    def test_too_many_look_ups(self) -> None:
        """More pending checks than allowed get 429, until one ends."""
        self.limiter.limits = Limits(handshakes_pending=2)

        for _ in range(2):
            self.wire().deliver(self.slow)
        self.refused(self.slow, 429, "limit")
        self.people.slow[0].callback(ALICE)

        self.assertEqual(self.wire().deliver(self.slow), b"")

    def test_drained_meanwhile(self) -> None:
        """A check that succeeds while the server stops gets 503."""
        wire = self.wire()
        wire.deliver(self.slow)
        self.limiter.draining = True

        self.people.slow[0].callback(ALICE)

        self.assertEqual(Reply(wire.taken()).status, 503)

    def test_store_gone(self) -> None:
        """A check that fails for want of the store gets its time to wait."""
        wire = self.wire()

        wire.deliver(self.slow)
        self.people.slow[0].errback(Unavailable("the store cannot answer", retry_after_ms=7001))
        reply = Reply(wire.taken())

        self.assertEqual((reply.headers["retry-after"], reply.error["retry_after_ms"]), ("8", 7001))

    def test_no_timer_is_left(self) -> None:
        """After a slow check no timer is left."""
        wire = self.wire()

        wire.deliver(self.slow)
        self.people.slow[0].callback(ALICE)
        self.clock.advance(1)

        self.assertEqual(self.clock.getDelayedCalls(), [])


class LimitTests(Case):
    def test_draining(self) -> None:
        """While the server stops, a handshake gets 503 with the time to wait."""
        self.limiter.draining = True

        reply = self.refused(handshake(), 503, "unavailable")

        self.assertIn("retry-after", reply.headers)
        self.assertGreater(reply.error["retry_after_ms"], 0)

    def test_per_address(self) -> None:
        """Handshakes beyond the limit of an address get 429, until a connection ends; other addresses do not."""
        self.limiter.limits = Limits(connections_per_address=2)

        self.opened(handshake())
        self.opened(handshake())
        reply = self.refused(handshake(), 429, "limit")

        self.assertEqual((reply.error["retry"], "retry-after" in reply.headers), (True, True))

        self.opened(handshake(), IPv4Address("TCP", "192.0.2.8", 1))
        self.limiter.ended("192.0.2.7")
        self.opened(handshake())

    def test_in_all(self) -> None:
        """Handshakes beyond the limit of all connections get 429."""
        self.limiter.limits = Limits(connections=1)
        self.opened(handshake())
        self.refused(handshake(), 429, "limit")

    def test_addresses(self) -> None:
        """A dual-stack socket's IPv4 peer is the same one; peers at a UNIX socket have one name."""
        self.assertEqual(self.opened(handshake(), IPv6Address("TCP", "::ffff:192.0.2.9", 1)).address, "192.0.2.9")
        self.assertEqual(self.opened(handshake(), UNIXAddress(None)).address, "unix")

    def test_forwarded(self) -> None:
        """The forwarded address counts only behind a trusted proxy, and of several the last."""
        forwarded = (b"X-Forwarded-For", b"203.0.113.5")

        self.assertEqual(self.opened(handshake(b"/ws", forwarded)).address, "192.0.2.7")

        self.request_auth.proxies = TrustedProxies(["192.0.2.0/24"])
        self.assertEqual(self.opened(handshake(b"/ws", forwarded)).address, "203.0.113.5")

        two = ((b"X-Forwarded-For", b"6.6.6.6"), forwarded)
        self.assertEqual(self.opened(handshake(b"/ws", *two)).address, "203.0.113.5")
