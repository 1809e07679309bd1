"""The bounds on every connection: what is no request, what is too much, and what is too slow."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from tests.harness.http_memory import Reply, Wire, request_head
from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.limits import Limits
from twisted_chat.web.responses import Response, write_answer
from twisted_chat.web.site import HEAD_BYTES, HEADERS, ChatRequest, ChatSite

BODY_BYTES = 1000


class SiteCase(SynchronousTestCase):
    """A site that answers everything with the path, and ``/slow`` when the test says so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.limiter = ConnectionLimiter(Limits(handshakes_pending=3, handshake_seconds=10.0))
        self.seen: list[tuple[bytes, bytes, int, int]] = []
        self.bodies: list[bytes] = []
        self.slow: list[Deferred[None]] = []
        self.site = ChatSite(self.answer, self.limiter, self.clock, body_bytes=BODY_BYTES, observe=self.observe, logger=Logger())

    def answer(self, request: ChatRequest) -> None:
        self.bodies.append(request.content.read())
        if request.path == b"/slow":
            self.slow.append(Deferred())
            self.slow[-1].addCallback(lambda _: write_answer(request, Response(body=b"late")))
        elif request.path == b"/bug":
            raise RuntimeError("a bug")
        else:
            write_answer(request, Response(body=request.path))

    def observe(self, method: bytes, path: bytes, status: int, size: int, address: str) -> None:
        self.seen.append((method, path, status, size))

    def wire(self) -> Wire:
        return Wire(self.site)

    def refused(self, data: bytes, status: int, code: str = "bad_request") -> None:
        """It is answered once, in the one shape, the connection ends, and nobody has been asked."""
        wire = self.wire()
        raw = wire.deliver(data)
        reply = Reply(raw)
        self.assertEqual((reply.status, reply.error["code"]), (status, code), raw)
        self.assertEqual(raw.count(b"HTTP/1.1 "), 1)
        self.assertEqual(reply.headers["connection"], "close")
        self.assertIn("content-security-policy", reply.headers)
        self.assertEqual(len(reply.body), int(reply.headers["content-length"]))
        self.assertTrue(wire.disconnecting)
        self.assertEqual(self.bodies, [])
        # Whatever else comes is not looked at.
        self.assertEqual(wire.deliver(b"\r\n\r\n" + request_head(target=b"/second")), b"")
        self.assertEqual(self.bodies, [])
        self.assertEqual(self.seen[-1][2], status)


class ShapeTests(SiteCase):
    def test_keep_alive(self) -> None:
        """A connection serves several requests."""
        wire = self.wire()
        for path in (b"/one", b"/two"):
            self.assertEqual(Reply(wire.deliver(request_head(target=path))).body, path)
        self.assertFalse(wire.disconnecting)

    def test_pipelined(self) -> None:
        """Requests that came with another one are answered in later turns of the reactor, in their order."""
        wire = self.wire()

        first = wire.deliver(b"".join(request_head(target=b"/%d" % number) for number in range(3)))
        self.clock.advance(0)
        later = wire.taken()

        self.assertEqual((first.count(b"HTTP/1.1 200 OK"), first[-2:]), (1, b"/0"))
        self.assertEqual((later.count(b"HTTP/1.1 200 OK"), later[-2:]), (2, b"/2"))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)  # the look for late requests

    def test_pipelined_and_not_read(self) -> None:
        """While a peer does not take an answer the next request is not answered, nor is anything read from it."""
        wire = self.wire()
        wire.deliver(request_head(target=b"/one"))
        transport: Any = wire
        transport.producer.pauseProducing()

        wire.deliver(request_head(target=b"/two") + request_head(target=b"/three"))
        self.clock.advance(1)
        held = len(self.bodies)
        transport.producer.resumeProducing()
        self.clock.advance(0)

        self.assertEqual((held, len(self.bodies), wire.producerState), (2, 3, "producing"))

    def test_pipelined_behind_a_body(self) -> None:
        """What comes behind a body that is answered at once is answered in its order."""
        wire = self.wire()

        wire.deliver(request_head(b"POST", b"/one", [(b"Content-Length", b"2")]) + b"xx" + request_head(target=b"/two"))
        self.clock.advance(0)
        wire.deliver(request_head(target=b"/three"))

        self.assertEqual([path for _, path, _, _ in self.seen], [b"/one", b"/two", b"/three"])

    def test_close(self) -> None:
        """``Connection: close`` closes after the answer."""
        wire = self.wire()
        wire.deliver(request_head(headers=[(b"Connection", b"close")]))
        self.assertTrue(wire.disconnecting)

    def test_no_requests(self) -> None:
        """What is not a request of HTTP/1.1 gets 400."""
        for data in (
            b"nonsense\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET  / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"GET /\x00 HTTP/1.1\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\n\r\n",
            b"G\x00T / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 \r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nbad name: x\r\n\r\n",
            b"GET / HTTP/1.1\r\n: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\x00c\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\nc: d\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\rc: d\r\n\r\n",
            b"GET / HTTP/1.1\r\n folded: first\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        ):
            with self.subTest(data):
                self.refused(data, 400)

    def test_smuggling(self) -> None:
        """Two lengths are two opinions on where the next request begins."""
        for lengths in (
            b"Content-Length: 3\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 3",
            b"Content-Length: 3\r\nContent-Length: 4",
            b"Content-Length: 3\r\nContent-Length: 3",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: xchunked",
            b"Content-Length: +3",
            b"Content-Length: -3",
            b"Content-Length: 0x3",
            b"Content-Length: 3, 3",
        ):
            with self.subTest(lengths):
                self.refused(b"POST / HTTP/1.1\r\nHost: a\r\n" + lengths + b"\r\n\r\nabc", 400)

    def test_bad_chunks(self) -> None:
        """Malformed chunks get 400."""
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        for body in (b"zz\r\nabc\r\n", b"-3\r\nabc\r\n", b"3\r\nabcd\r\n"):
            with self.subTest(body):
                self.refused(head + body, 400)

    def test_bug(self) -> None:
        """A bug is told without its details, and logged with them."""
        wire = self.wire()
        reply = Reply(wire.deliver(request_head(target=b"/bug")))

        self.assertEqual((reply.status, reply.error["code"]), (500, "internal"))
        self.assertNotIn(b"a bug", reply.body)
        self.assertTrue(wire.disconnecting)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_only_http_1(self) -> None:
        """With h2 a client could not upgrade; without any protocol, clients that send ALPN would be refused."""
        self.assertEqual(self.site.acceptableProtocols(), [b"http/1.1"])

    def test_no_clock_of_twisteds_access_log(self) -> None:
        """The site starts no periodic call of Twisted's access log."""
        self.site.doStart()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.site.doStop()

    def test_observed(self) -> None:
        """The observer gets method, path without query, status and bytes."""
        self.wire().deliver(request_head(target=b"/path?secret=1"))
        self.assertEqual(self.seen, [(b"GET", b"/path", 200, 5)])


class SizeTests(SiteCase):
    def test_headers(self) -> None:
        """More headers than allowed get 431."""
        many = [(b"X-%d" % number, b"x") for number in range(2_000)]

        self.assertEqual(Reply(self.wire().deliver(request_head(headers=many[: HEADERS - 1]))).status, 200)

        self.bodies.clear()
        self.refused(request_head(headers=many[:HEADERS]), 431, "too_big")
        self.refused(request_head(headers=many), 431, "too_big")

    def test_head(self) -> None:
        """A head longer than allowed gets 431."""
        self.refused(request_head(headers=[(b"X-%d" % number, b"x" * 1000) for number in range(20)]), 431, "too_big")

    def test_request_line(self) -> None:
        """A request line longer than allowed gets 431."""
        self.assertEqual(Reply(self.wire().deliver(request_head(target=b"/" + b"x" * 8_000))).status, 200)
        self.bodies.clear()
        self.refused(request_head(target=b"/" + b"x" * HEAD_BYTES), 431, "too_big")

    def test_line_that_never_ends(self) -> None:
        """A request line without an end is refused at its bound."""
        self.refused(b"GET /" + b"x" * (HEAD_BYTES + 10), 431, "too_big")

    def test_folded_header_that_never_ends(self) -> None:
        """A header that is continued without end gets 431."""
        self.refused(b"GET / HTTP/1.1\r\nA: b\r\n" + b" x\r\n" * HEAD_BYTES, 431, "too_big")

    def test_body(self) -> None:
        """A body longer than allowed gets 413, before it is sent if its length is announced."""

        def post(length: int) -> bytes:
            return request_head(b"POST", headers=[(b"Content-Length", b"%d" % length)])

        self.assertEqual(Reply(self.wire().deliver(post(BODY_BYTES) + b"x" * BODY_BYTES)).status, 200)

        self.bodies.clear()
        self.refused(post(BODY_BYTES + 1), 413, "too_big")
        self.refused(post(10**30), 413, "too_big")
        # Not invited to send it either.
        self.refused(request_head(b"POST", headers=[(b"Content-Length", b"2000"), (b"Expect", b"100-continue")]), 413, "too_big")

    def test_chunked_body(self) -> None:
        """A chunked body longer than allowed gets 413."""
        head = request_head(b"POST", headers=[(b"Transfer-Encoding", b"chunked")])
        chunk = b"64\r\n" + b"x" * 100 + b"\r\n"

        self.assertEqual(Reply(self.wire().deliver(head + chunk * 10 + b"0\r\n\r\n")).status, 200)

        self.bodies.clear()
        self.refused(head + chunk * 11, 413, "too_big")
        self.refused(head + chunk * 11 + b"0\r\n\r\n", 413, "too_big")


class TimeTests(SiteCase):
    def test_slow_head(self) -> None:
        """A head that comes byte by byte has no more time than any other."""
        wire = self.wire()

        for byte in request_head()[:10]:
            wire.deliver(bytes([byte]))
            self.clock.advance(1)
        self.clock.advance(1)
        reply = Reply(wire.taken())

        self.assertEqual((reply.status, reply.error["code"], reply.error["retry"]), (408, "timeout", True))
        self.assertTrue(wire.disconnecting)

    def test_slow_body(self) -> None:
        """A body that comes too slowly ends the connection."""
        wire = self.wire()

        wire.deliver(request_head(b"POST", headers=[(b"Content-Length", b"100")]))
        for _ in range(12):
            wire.deliver(b"x")
            self.clock.advance(1)

        self.assertTrue(wire.disconnecting)

    def test_silence(self) -> None:
        """Who has asked nothing gets no answer to it; browsers open connections ahead of need."""
        wire = self.wire()

        self.clock.pump([1] * 12)

        self.assertTrue(wire.disconnecting)
        self.assertEqual(wire.value(), b"")

    def test_kept_open_and_silent(self) -> None:
        """A connection is kept for some time after each request, and then closed."""
        wire = self.wire()

        wire.deliver(request_head())
        self.clock.pump([1] * 9)

        self.assertFalse(wire.disconnecting)

        wire.deliver(request_head())
        self.clock.pump([1] * 9)

        self.assertFalse(wire.disconnecting)

        self.clock.pump([1] * 3)
        self.assertTrue(wire.disconnecting)

    def test_slow_answer(self) -> None:
        """An answer that takes its time is not the client's fault."""
        wire = self.wire()

        wire.deliver(request_head(target=b"/slow"))
        self.clock.pump([1] * 100)

        self.assertFalse(wire.disconnecting)

        self.slow[0].callback(None)
        self.assertEqual(Reply(wire.taken()).body, b"late")

    def test_peer_that_does_not_go(self) -> None:
        """A peer that does not close its end is cut off."""
        wire = self.wire()

        self.clock.pump([1] * 12)

        self.assertFalse(wire.aborted)

        self.clock.pump([1] * 61)
        self.assertTrue(wire.aborted)

    def test_silence_over_tls(self) -> None:
        """Who has asked nothing over TLS is dropped, and need not say that it goes."""
        wire = self.wire()
        alsoProvides(wire, ISSLTransport)

        self.clock.pump([1] * 12)

        self.assertTrue(wire.aborted)

    def test_many_peers_that_do_not_go(self) -> None:
        """Of peers that do not close their ends there are no more than may be connecting; the oldest are cut off."""
        wires = [self.wire() for _ in range(5)]

        for wire in wires:
            wire.deliver(request_head(headers=[(b"Connection", b"close")]))

        self.assertEqual([wire.aborted for wire in wires], [True, True, False, False, False])

    def test_nothing_ticks_when_nobody_is_there(self) -> None:
        """Without connections the site has no delayed call."""
        wire = self.wire()

        wire.leave()
        self.clock.advance(1)

        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """Connections that ask nothing end with the site."""
        self.site.doStart()
        wire = self.wire()

        self.site.doStop()

        self.assertTrue(wire.disconnecting)


class CrowdTests(SiteCase):
    def test_slowest_makes_room(self) -> None:
        """Silent connections keep nobody out: the one that has taken longest goes."""
        silent = [self.wire() for _ in range(3)]

        silent[0].deliver(b"GET / HT")
        newest = self.wire()
        reply = Reply(silent[0].taken())

        self.assertEqual((reply.status, reply.error["code"], reply.error["retry"]), (503, "unavailable", True))
        self.assertIn("retry-after", reply.headers)
        self.assertEqual([wire.disconnecting for wire in silent], [True, False, False])
        self.assertEqual(Reply(newest.deliver(request_head())).status, 200)

    def test_flood(self) -> None:
        """Of many connections without a request only the allowed number stays."""
        wires: list[Any] = [self.wire() for _ in range(500)]
        self.assertEqual(sum(not wire.disconnecting for wire in wires), 3)

    def test_those_being_answered_do_not_count(self) -> None:
        """Connections whose request is being answered are not closed for new ones."""
        busy = [self.wire() for _ in range(3)]

        for wire in busy:
            wire.deliver(request_head(target=b"/slow"))
        for _ in range(3):
            self.wire()

        self.assertEqual([wire.disconnecting for wire in busy], [False] * 3)
