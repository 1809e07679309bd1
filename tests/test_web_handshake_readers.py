"""The short way of a handshake gives what the long way gives, or leaves it alone."""

from __future__ import annotations

import random

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.http_memory import KEY, Recorder, Reply, Wire, handshake, request_head
from tests.test_web_upgrade import ALICE, KNOCK, Case
from twisted_chat.errors import Unauthenticated
from twisted_chat.limits import Limits
from twisted_chat.web.handshake import RawHandshake, read_bytes
from twisted_chat.web.origins import Origins, TrustedProxies
from twisted_chat.web.upgrade import Upgrades

STREAMS = 3_000

TARGETS = (
    b"/ws",
    b"/",
    b"/ws/kitchen",
    b"/ws/k%C3%BCche",
    b"/ws/%00",
    b"/nope",
    b"/ws?name=bob&names=1",
    b"/ws?history=x",
    b"//",
)
HEADERS = (
    (b"Host", b"chat.test:8080"),
    (b"Host", b"Chat.Test"),
    (b"Upgrade", b"websocket"),
    (b"upgrade", b"h2c, WebSocket"),
    (b"Upgrade", b"h2c"),
    (b"Connection", b"Upgrade"),
    (b"CONNECTION", b"keep-alive,  upgrade"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"sec-websocket-version", b" 8"),
    (b"Sec-WebSocket-Key", KEY),
    (b"Sec-WebSocket-Key", b"short"),
    (b"Sec-WebSocket-Protocol", b"chat.v1.json, mqtt"),
    (b"Sec-WebSocket-Protocol", b"mqtt"),
    (b"Sec-WebSocket-Protocol", b"bearer.good"),
    (b"Sec-WebSocket-Protocol", b"bearer.slow, chat.v1.json"),
    (b"Sec-WebSocket-Protocol", b"bearer.bad"),
    (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
    (b"Origin", b"http://chat.test:8080"),
    (b"Origin", b"http://evil.test"),
    (b"Accept-Language", b"*"),
    (b"Origin", b"https://www.test\t"),
    (b"Authorization", b"Bearer good"),
    (b"Authorization", b"Bearer slow"),
    (b"Authorization", b"Bearer old"),
    (b"Authorization", b"Basic YTpi"),
    (b"Cookie", b"chat_token=good"),
    (b"Cookie", b"chat_token=slow"),
    (b"Cookie", b"a=b"),
    (b"X-Forwarded-For", b"203.0.113.5, 10.0.0.1"),
    (b"X-Forwarded-Proto", b"https"),
    (b"Forwarded", b"for=a"),
    (b"Content-Length", b"0"),
    (b"Content-Length", b"3"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Expect", b"100-continue"),
    (b"X-Other", b"a\x0bb"),
    (b"X-Other", b"a\xc3\xa9"),
    (b"X-Other", b""),
    (b"X-Other", b":colon: "),
    (b"X-Other ", b"space"),
    (b" X-Folded", b"x"),
    (b"X_Under", b"x"),
)


def some_head(dice: random.Random) -> bytes:
    """A handshake with something about it, often nothing."""
    headers = [
        (b"Host", b"chat.test:8080"),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", KEY),
    ]
    for _ in range(dice.choice((0, 0, 1, 1, 2, 3))):
        if dice.random() < 0.3:
            del headers[dice.randrange(len(headers))]
        headers.insert(dice.randrange(len(headers) + 1), dice.choice(HEADERS))
    method = dice.choice((b"GET",) * 12 + (b"POST", b"HEAD", b"get"))
    version = dice.choice((b"HTTP/1.1",) * 12 + (b"HTTP/1.0", b"HTTP/2.0", b"http/1.1"))
    head = request_head(method, dice.choice((b"/ws", *TARGETS)), headers, host=None, version=version)
    if dice.random() < 0.05:
        place = dice.randrange(len(head))
        head = head[:place] + bytes([dice.randrange(256)]) + head[place + 1 :]
    return head + dice.choice((b"", b"", b"\x81\x82abcdXX", request_head()))


class SameTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.request_auth.origins = Origins(frozenset({"https://www.test"}))
        self.request_auth.proxies = TrustedProxies(["10.0.0.0/8"])
        self.upgrades = Upgrades(self.request_auth, self.open_socket, may_enter=self.may_enter)
        self.site.answer = self.upgrades.upgrade

    def outcome(self, head: bytes, *, quick: bool) -> tuple[bytes, object, object, object, bool]:
        """What the peer got, what the WebSocket edge got, and which credentials were checked; last, whether the quick reader took it."""
        taken = [False]

        def try_quick(channel: object, data: bytes) -> bool:
            taken[0] = self.upgrades.quick(channel, data)  # type: ignore[arg-type]
            return taken[0]

        self.site.quick = try_quick if quick else lambda channel, data: False
        for kept in (self.admissions, self.handshakes, self.sockets, self.people.asked, self.people.slow):
            kept.clear()
        wire = Wire(self.site, IPv4Address("TCP", "10.0.0.9", 4))
        raw = wire.deliver(head)
        for pending in self.people.slow:
            pending.callback(ALICE)
        raw += wire.taken()
        for admission in self.admissions:
            self.limiter.ended(admission.address)
        if not wire.disconnecting:
            wire.leave()
        received = self.sockets[0].received if self.sockets else b""
        return raw, [*self.admissions], [*self.handshakes], [received, *self.people.asked], taken[0]

    def test_random_heads(self) -> None:
        """Thousands of heads, usual and not: the same answer, ticket, handshake and rest, byte for byte."""
        dice = random.Random(7)
        short = let_in = 0

        for _ in range(STREAMS):
            head = some_head(dice)
            long_way = self.outcome(head, quick=False)
            short_way = self.outcome(head, quick=True)
            self.assertEqual(_undated(long_way[:4]), _undated(short_way[:4]), head)
            let_in += long_way[0] == KNOCK
            short += short_way[4]

        # The test would prove nothing if one of the ways were never taken.
        self.assertGreater(short, STREAMS // 10)
        self.assertGreater(let_in, short)
        self.assertGreater(STREAMS - let_in, STREAMS // 10)

    def test_counts(self) -> None:
        """A handshake that is refused the long way has not been counted on the short one."""
        self.site.quick = self.upgrades.quick
        self.limiter.limits = Limits(connections_per_address=1)

        self.assertEqual(Wire(self.site).deliver(handshake()), KNOCK)
        self.assertIn(b" 429 ", Wire(self.site).deliver(handshake()))
        self.assertEqual(self.limiter.connections, 1)

    def test_bytes_behind(self) -> None:
        """Bytes behind the handshake, in the same read and later, reach the new protocol."""
        self.site.quick = self.upgrades.quick
        wire = Wire(self.site)

        self.assertEqual(wire.deliver(handshake() + b"frames"), KNOCK)

        wire.protocol.dataReceived(b" more")
        self.assertEqual(self.sockets[0].received, b"frames more")
        self.assertIsInstance(wire.protocol, Recorder)

    def test_no_deadline_stays(self) -> None:
        """After the handshake no timer of the HTTP side is left."""
        self.site.quick = self.upgrades.quick
        wire = Wire(self.site)

        wire.deliver(handshake())
        self.clock.pump([1.0] * 60)

        self.assertFalse(wire.disconnecting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_socket_that_cannot_be_made(self) -> None:
        """A fault while the connection is made is logged, answered with 500, and not counted as a connection."""
        self.site.quick = self.upgrades.quick
        self.failing = RuntimeError("a bug")

        self.assertIn(b" 500 ", Wire(self.site).deliver(handshake()))
        self.assertEqual(self.limiter.connections, 0)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class CredentialTests(Case):
    """Handshakes with a credential, read the quick way."""

    slow = handshake(b"/ws", (b"Authorization", b"Bearer slow"))

    def setUp(self) -> None:
        super().setUp()
        self.upgrades = Upgrades(self.request_auth, self.open_socket, may_enter=self.may_enter)
        self.site.quick = self.upgrades.quick
        self.site.answer = self.upgrades.upgrade

    def test_the_parser_of_twisted_is_not_needed(self) -> None:
        """Whoever proves by a header, a subprotocol or the cookie who they are is let in by the quick reader alone."""
        self.site.answer = self.fail
        for header in (
            (b"Authorization", b"Bearer good"),
            (b"Sec-WebSocket-Protocol", b"bearer.good"),
            (b"Cookie", b"chat_token=good"),
        ):
            wire = self.wire()

            answer = wire.deliver(handshake(b"/ws", (b"Origin", b"http://chat.test:8080"), header))

            self.assertEqual(answer, KNOCK, header)

    def test_opens_when_the_credential_is_known(self) -> None:
        """Bytes that came while the credential was being checked are the first that the WebSocket gets."""
        wire = self.wire()

        wire.deliver(self.slow + b"one")
        wire.deliver(b"two")

        self.people.slow[0].callback(ALICE)

        self.assertEqual((wire.taken(), self.sockets[0].received), (KNOCK, b"onetwo"))

    def test_a_refused_credential_is_checked_once(self) -> None:
        """A refused credential gets 401 and is not checked by the other reader again."""
        wire = self.wire()

        wire.deliver(self.slow + b"behind")

        self.people.slow[0].errback(Unauthenticated("token: unknown"))

        self.assertEqual((Reply(wire.taken()).status, wire.disconnecting, len(self.people.asked)), (401, True, 1))

    def test_a_bug_in_the_check_is_logged(self) -> None:
        """A fault in the check is logged and answered with 500."""
        wire = self.wire()

        wire.deliver(self.slow)

        self.people.slow[0].errback(RuntimeError("a bug"))

        self.assertEqual(Reply(wire.taken()).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_client_that_leaves_ends_the_check(self) -> None:
        """A client that disconnects cancels the check of its credential."""
        wire = self.wire()

        wire.deliver(self.slow)

        wire.leave()

        self.assertEqual((self.people.cancelled, self.sockets, self.limiter.connections), (1, [], 0))

    def test_a_check_that_hangs_ends(self) -> None:
        """The handshake is refused after ``handshake_seconds``, and no call is left."""
        wire = self.wire()

        wire.deliver(self.slow)

        self.clock.pump([1.0] * 11)

        self.assertEqual(Reply(wire.taken()).status, 503)

    def test_bytes_are_held_within_bounds(self) -> None:
        """A client that does not wait for the answer is not read further than a head is long."""
        wire = self.wire()

        wire.deliver(self.slow)
        for _ in range(5):
            wire.deliver(b"x" * 4_096)

        self.assertEqual(wire.producerState, "paused")

        self.people.slow[0].callback(ALICE)

        self.assertEqual((wire.producerState, len(self.sockets[0].received)), ("producing", 5 * 4_096))

    def test_the_result_is_for_one_credential(self) -> None:
        """What the quick reader found out about one request is not used for the next one of the same connection."""
        wire = self.wire()
        self.site.answer = lambda request: request.finish()

        wire.deliver(handshake(b"/ws", (b"Authorization", b"Bearer bad")))
        wire.taken()
        self.site.answer = self.upgrades.upgrade

        answer = wire.deliver(handshake(b"/ws", (b"Authorization", b"Bearer good")))

        self.assertEqual(answer, KNOCK)


class ReadTests(SynchronousTestCase):
    peer = IPv4Address("TCP", "192.0.2.7", 1)

    def read(self, data: bytes) -> tuple[RawHandshake, int] | None:
        return read_bytes(data, self.peer, False)

    def test_read(self) -> None:
        """A request is read into path, query and headers, and the end of its head is known."""
        read = self.read(handshake(b"/ws?x=1") + b"rest")

        assert read is not None
        raw, end = read

        self.assertEqual((raw.path, raw.arguments, end), (b"/ws", {b"x": [b"1"]}, len(handshake(b"/ws?x=1"))))
        self.assertEqual(raw.headers[b"Sec-Websocket-Key"], [KEY])

    def test_left_to_twisted(self) -> None:
        """A part of a head, a body, a long head, unusual bytes: not the usual case."""
        for data in (
            handshake()[:-1],
            handshake(b"/ws", (b"Content-Length", b"0")),
            handshake(b"/ws", (b"X-Long", b"x" * 5_000)),
            handshake(b"/ws", *((b"X-%d" % number, b"") for number in range(60))),
            handshake(b"/ws", (b"X", b"\x00")),
            b"\r\n" + handshake(),
            handshake(b"http://chat.test/ws"),
            request_head(),
            b"",
        ):
            self.assertIsNone(self.read(data), data[:60])


def _undated(outcome: tuple[object, ...]) -> list[object]:
    raw, *rest = outcome
    assert isinstance(raw, bytes)
    return [b"\r\n".join(line for line in raw.split(b"\r\n") if not line.startswith(b"Date: ")), *rest]
