"""The link between a socket and a session: what is sent when the socket takes it, takes some of it, or takes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.http_memory import KEY, Wire, handshake
from tests.ws_memory import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    TICKET,
    Connection,
    client_frame,
    close_payload,
    server_frames,
    use_clock,
)
from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.errors import Conflict
from twisted_chat.interfaces import Handshake
from twisted_chat.internals.takeover import give_transport, take_transport
from twisted_chat.limits import Limits
from twisted_chat.protocol.frames import text_frame
from twisted_chat.web.site import ChatSite
from twisted_chat.websocket.factory import CLOSE_SECONDS, ChatFactory, accept

LINE = text_frame(b"hello")


class ProtocolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = use_clock(self)
        self.connection = Connection(self.reactor)
        self.socket, self.websocket = self.connection.socket, self.connection.protocol

    def open(self) -> None:
        self.connection.open()

    @property
    def session(self) -> Any:
        return self.connection.session


class OpeningTests(ProtocolTests):
    def test_answer(self) -> None:
        self.open()
        self.assertIn(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", self.connection.head)
        self.assertNotIn(b"Extensions", self.connection.head)
        self.assertEqual(self.connection.no_delay, 1)

    def test_session_says_something_at_once(self) -> None:
        """What a session sends while it is opened comes behind the 101."""

        def open_session(websocket: Any, admission: object) -> object:
            websocket.write(LINE)
            return plain(websocket, admission)  # type: ignore[arg-type]

        plain = self.connection.factory.open_session
        self.connection.factory.open_session = open_session  # type: ignore[assignment]
        self.open()
        self.assertEqual(self.socket.take(), LINE)

    def test_bytes_behind_the_handshake(self) -> None:
        """Frames in the same read as the request reach the session, behind an earlier answer on the same connection, too."""
        factory = self.connection.factory

        def answer(request: Any) -> None:
            if request.uri == b"/page":
                request.write(b"a page")
                request.finish()
                return
            transport, rest = take_transport(request)
            give_transport(transport, factory.open_socket(TICKET, Handshake(KEY)), rest)

        site = ChatSite(answer, ConnectionLimiter(Limits()), self.reactor, body_bytes=1000, observe=lambda *a: None, logger=None)  # type: ignore[arg-type]
        wire = Wire(site)
        page = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"
        sent = wire.deliver(page + handshake() + client_frame(TEXT, b"early") + client_frame(PING, b"p"))
        self.assertEqual(self.session.messages, [(False, b"early")])
        page_answer, switch, frames = sent.partition(b"HTTP/1.1 101 ")
        self.assertIn(b"a page", page_answer)
        self.assertEqual(server_frames(frames.partition(b"\r\n\r\n")[2]), [(PONG, b"p")])

    def test_earlier_answer_not_sent_yet(self) -> None:
        """The 101 may not overtake what the HTTP edge wrote before, though the socket would take it."""
        self.connection.transport.write(b"a page")
        self.websocket.makeConnection(self.connection.transport)
        self.assertEqual(self.socket.sent, b"")
        self.assertTrue(self.websocket.congested)
        self.assertTrue(self.connection.drain().startswith(b"a pageHTTP/1.1 101 "))
        self.assertFalse(self.websocket.congested)
        self.assertEqual(self.session.calls, ["drained"])

    def test_session_that_may_not_be(self) -> None:
        """What could not be said in HTTP any more is said in the close frame."""
        self.refuse(Conflict("name: alice is taken"))
        self.assertEqual(server_frames(self.socket.take()), [(CLOSE, close_payload(4400, b"name: alice is taken"))])

    def test_session_that_fails(self) -> None:
        """Nothing of the reason leaves the log."""
        self.refuse(ZeroDivisionError("secret"))
        self.assertEqual(server_frames(self.socket.take()), [(CLOSE, close_payload(1011, b"internal error"))])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def refuse(self, error: Exception) -> None:
        def open_session(websocket: object, admission: object) -> Any:
            raise error

        self.connection.factory.open_session = open_session
        self.open()
        sent = self.socket.take()
        # Whatever it sends: nobody is there to take it; then it answers, and is gone.
        self.connection.deliver(client_frame(TEXT, b"hello") + client_frame(CLOSE, close_payload(1000)))
        self.reactor.advance(0)
        self.assertEqual(self.connection.ended, [TICKET.address])
        self.socket.sent = sent

    def test_no_socket_without_the_site(self) -> None:
        with self.assertRaises(AssertionError):
            self.connection.factory.buildProtocol(None)


class SendingTests(ProtocolTests):
    def setUp(self) -> None:
        super().setUp()
        self.open()

    def test_direct(self) -> None:
        """While nothing waits, a write is one ``send`` and the reactor is not asked."""
        self.socket.sends = 0
        self.websocket.write(LINE)
        self.assertEqual((self.socket.sent, self.socket.sends), (LINE, 1))
        self.assertEqual(self.reactor.writers, set())
        self.assertIs(self.websocket.congested, False)

    def test_short(self) -> None:
        """The rest waits in the transport, and the session hears of it until the last byte has gone."""
        self.socket.room = 3
        self.websocket.write(LINE)
        self.assertEqual((self.socket.take(), self.websocket.congested, self.session.calls), (LINE[:3], True, ["congested"]))
        self.assertEqual(self.connection.drain(room=2), LINE[3:5])
        self.assertEqual(self.session.calls, ["congested"])
        self.assertEqual(self.connection.drain(), LINE[5:])
        self.assertEqual((self.websocket.congested, self.session.calls), (False, ["congested", "drained"]))

    def test_full(self) -> None:
        self.socket.room = 0
        self.websocket.write(LINE)
        self.websocket.write(LINE)
        self.assertEqual(self.connection.drain(), LINE * 2)
        self.assertFalse(self.websocket.congested)

    def test_order_while_congested(self) -> None:
        """What is written later never overtakes the rest, though the socket would take it."""
        self.socket.room = 3
        self.websocket.write(LINE)
        self.socket.room = None
        self.websocket.write(text_frame(b"second"))
        self.websocket.ping()
        self.assertEqual(self.socket.take(), LINE[:3])
        self.assertEqual(server_frames(LINE[:3] + self.connection.drain()), [(TEXT, b"hello"), (TEXT, b"second"), (PING, b"")])

    def test_broken(self) -> None:
        """A socket that is gone is no error here: the reactor says so in a moment."""
        self.socket.broken = True
        self.websocket.write(LINE)
        self.assertEqual(self.session.calls, [])

    def test_held_rest(self) -> None:
        """A room writes by ``send`` itself and gives back what was not taken of one frame."""
        self.socket.room = 3
        taken = self.websocket.send(LINE)
        self.websocket.buffer_rest(LINE[taken:])
        self.assertEqual(self.session.calls, ["congested"])
        self.assertEqual(self.socket.take() + self.connection.drain(), LINE)
        self.assertEqual(self.session.calls, ["congested", "drained"])

    def test_answers_pile_up(self) -> None:
        """Who asks and does not take the answers is read no more, so the answers are bounded; then it goes on."""
        self.session.answer = lambda text: self.websocket.write(text_frame(b"x" * 30_000))
        self.socket.room = 0
        asked = 0
        while self.connection.reading:
            self.connection.deliver(client_frame(TEXT, b"more"))
            asked += 1
            self.assertLess(asked, 10)
        self.assertGreater(asked, 1)
        waiting = self.connection.drain()
        self.assertEqual([len(payload) for _, payload in server_frames(waiting)], [30_000] * asked)
        self.assertTrue(self.connection.reading)
        self.assertEqual(self.session.calls[-1], "drained")

    def test_pings_pile_up(self) -> None:
        """The same for pongs, which Autobahn writes without asking anybody."""
        self.socket.room = 0
        pings = 0
        while self.connection.reading:
            self.connection.deliver(client_frame(PING, b"x" * 125) * 10)
            pings += 10
            self.assertLess(pings, 2_000)
        self.assertEqual(server_frames(self.connection.drain()), [(PONG, b"x" * 125)] * pings)

    def test_after_the_end(self) -> None:
        self.connection.lose()
        self.websocket.write(LINE)
        self.websocket.ping()
        self.websocket.close(1000, "bye")
        self.assertEqual(self.socket.sent, b"")


class ReadingTests(ProtocolTests):
    def setUp(self) -> None:
        super().setUp()
        self.open()

    def test_pause(self) -> None:
        """A session that throttles its peer is not read for."""
        self.websocket.pause()
        self.assertEqual((self.connection.reading, self.websocket.paused), (False, True))
        self.websocket.resume()
        self.assertEqual((self.connection.reading, self.websocket.paused), (True, False))

    def test_two_reasons(self) -> None:
        """Throttled and congested: read again when neither holds."""
        self.socket.room = 0
        self.websocket.pause()
        self.websocket.write(text_frame(b"x" * 70_000))
        self.websocket.resume()
        self.assertFalse(self.connection.reading)
        self.websocket.pause()
        self.connection.drain()
        self.assertFalse(self.connection.reading)
        self.websocket.resume()
        self.assertTrue(self.connection.reading)

    def test_together(self) -> None:
        """The texts of one read come as one list; binary messages and pings keep their place among them."""
        sent = self.connection.deliver(
            client_frame(TEXT, b"1")
            + client_frame(TEXT, b"2")
            + client_frame(BINARY, b"3")
            + client_frame(PING)
            + client_frame(TEXT, b"4")
        )
        self.assertEqual(self.session.messages, [(False, b"1"), (False, b"2"), (True, b"3"), (False, b"4")])
        self.assertEqual(self.session.batches, 2)
        self.assertEqual(server_frames(sent), [(PONG, b"")])

    def test_session_ends_itself_in_the_middle(self) -> None:
        """What came behind the message that made a session end is not given to it, in its batch apart."""
        self.session.answer = lambda text: self.websocket.close(4400, "enough")
        self.connection.deliver(client_frame(TEXT, b"1") + client_frame(BINARY, b"2") + client_frame(TEXT, b"3"))
        self.assertEqual(self.session.messages, [(False, b"1")])

    def test_session_fails(self) -> None:
        """A failing session is a failing connection: Twisted logs it and ends the connection, no other is touched."""
        self.session.answer = lambda text: 1 // 0
        self.assertRaises(ZeroDivisionError, self.connection.deliver, client_frame(TEXT, b"1"))

    def test_aborted_in_the_middle(self) -> None:
        def answer(text: bytes) -> None:
            self.websocket.abort()
            self.reactor.advance(0)

        self.session.answer = answer
        self.connection.deliver(client_frame(TEXT, b"1") + client_frame(PING) + client_frame(TEXT, b"2"))
        self.assertEqual(self.session.messages, [(False, b"1")])
        self.assertEqual(self.session.calls, ["lost"])

    def test_nothing_held_for_long(self) -> None:
        """A cut frame waits here while it is short; a long one goes to Autobahn as it comes, which bounds it by the limit."""
        frame = client_frame(TEXT, b"x" * 60_000)
        for at in range(0, len(frame), 1000):
            self.connection.deliver(frame[at : at + 1000])
            self.assertLessEqual(len(self.websocket._partial), 4_096)
        self.assertEqual([len(text) for _, text in self.session.messages], [60_000])

    def test_too_large(self) -> None:
        sent = self.connection.deliver(client_frame(TEXT, b"", length_bytes=8, length=1 << 40) + b"x" * 100)
        ((opcode, payload),) = server_frames(sent)
        self.assertEqual((opcode, payload[:2]), (CLOSE, close_payload(1009)))


class ClosingTests(ProtocolTests):
    def setUp(self) -> None:
        super().setUp()
        self.open()

    def test_by_server(self) -> None:
        """Close, the peer's answer, the end; the session hears ``lost`` once and the factory counts the address out."""
        self.websocket.close(1012, "restart")
        self.assertEqual(server_frames(self.socket.take()), [(CLOSE, close_payload(1012, b"restart"))])
        self.connection.deliver(client_frame(CLOSE, close_payload(1012)))
        self.reactor.advance(0)
        self.assertEqual(self.session.calls, ["congested", "lost"])
        self.assertEqual(self.connection.ended, [TICKET.address])
        self.assertTrue(self.socket.closed)

    def test_by_peer(self) -> None:
        sent = self.connection.deliver(client_frame(CLOSE, close_payload(1001, b"bye")))
        self.assertEqual(server_frames(sent), [(CLOSE, close_payload(1001, b"bye"))])
        self.connection.drain()
        self.assertEqual(self.session.calls, ["congested", "lost"])

    def test_unanswered(self) -> None:
        """A peer that does not answer the close frame is given up."""
        self.websocket.close(1012, "restart")
        self.reactor.pump([1] * (CLOSE_SECONDS + 1))
        self.assertEqual(self.session.calls, ["congested", "lost"])

    def test_while_congested(self) -> None:
        """The close frame comes behind everything that waits, and closes when the peer has taken it and answered."""
        self.socket.room = 3
        self.websocket.write(LINE)
        self.websocket.close(1012, "restart")
        sent = self.socket.take() + self.connection.drain()
        self.assertEqual(server_frames(sent), [(TEXT, b"hello"), (CLOSE, close_payload(1012, b"restart"))])
        self.connection.deliver(client_frame(CLOSE, close_payload(1012)))
        self.reactor.advance(0)
        self.assertEqual(self.session.calls, ["congested", "congested", "lost"])

    def test_congested_peer_closes(self) -> None:
        """What waits is sent, then the answer, then the connection ends."""
        self.socket.room = 3
        self.websocket.write(LINE)
        sent = self.connection.deliver(client_frame(CLOSE, close_payload(1000)))
        self.assertFalse(self.socket.closed)
        sent += self.connection.drain()
        self.assertEqual(server_frames(sent), [(TEXT, b"hello"), (CLOSE, close_payload(1000))])
        self.assertTrue(self.socket.closed)

    def test_nothing_after_the_close_frame(self) -> None:
        """RFC 6455 section 5.5.1.  To the session its link takes no more, so a room does not write to it directly."""
        ways: list[Callable[[Connection], object]] = [
            lambda connection: connection.protocol.close(1012, "restart"),
            lambda connection: connection.protocol.dataReceived(client_frame(CLOSE, close_payload(1000))),
            lambda connection: connection.protocol.dataReceived(client_frame(TEXT, b"x", mask=None)),
            lambda connection: connection.protocol.dataReceived(client_frame(TEXT, b"\xff")),
        ]
        for way in ways:
            connection = Connection(self.reactor).open()
            way(connection)
            self.assertIn("congested", connection.session.calls)
            self.assertTrue(connection.protocol.congested)
            connection.protocol.write(LINE)
            connection.protocol.ping()
            connection.protocol.close(1000, "again")
            sent = connection.socket.take() + connection.drain()
            self.assertEqual([opcode for opcode, _ in server_frames(sent)], [CLOSE])
            self.assertNotIn("drained", connection.session.calls)

    def test_lost_while_asleep_and_awake(self) -> None:
        for awake in (False, True):
            connection = Connection(self.reactor).open()
            if awake:
                connection.deliver(client_frame(PING))
            connection.lose()
            self.assertEqual(connection.session.calls, ["lost"])
            self.assertEqual(connection.ended, [TICKET.address])
            self.assertEqual(connection.protocol.state, WebSocketProtocol.STATE_CLOSED)

    def test_lost_with_half_a_frame(self) -> None:
        self.connection.deliver(client_frame(TEXT, b"hello")[:-1])
        self.connection.lose(ConnectionDone())
        self.assertEqual((self.session.messages, self.websocket._partial), ([], b""))

    def test_abort(self) -> None:
        """At once, whatever waits."""
        self.socket.room = 0
        self.websocket.write(LINE)
        self.websocket.abort()
        self.reactor.advance(0)
        self.assertEqual((self.session.calls[-1], self.socket.sent), ("lost", b""))

    def test_long_reason(self) -> None:
        """A reason is cut to what a control frame holds, between characters."""
        self.websocket.close(4400, "é" * 100)
        ((_, payload),) = server_frames(self.socket.take())
        self.assertEqual(payload, close_payload(4400, "é".encode() * 61))


class WrappedTests(SynchronousTestCase):
    """Transports that buffer by themselves (TLS, PROXY, in-memory ones of other programs)."""

    def setUp(self) -> None:
        self.reactor = use_clock(self)
        self.sessions: list[Any] = []
        self.connection = Connection(self.reactor)
        self.wire = Wire(self)
        self.wire.setTcpNoDelay = lambda enabled: None  # type: ignore[attr-defined]

    def buildProtocol(self, address: object) -> Any:
        return self.connection.protocol

    def test_takes_all(self) -> None:
        websocket = self.connection.protocol
        self.assertEqual(websocket.send(LINE), len(LINE))
        websocket.write(LINE)
        self.assertEqual(server_frames(self.wire.taken().partition(b"\r\n\r\n")[2]), [(TEXT, b"hello")] * 2)

    def test_backpressure(self) -> None:
        """The transport says itself when it has too much."""
        websocket = self.connection.protocol
        self.assertIs(self.wire.producer, websocket)
        websocket.pauseProducing()
        self.assertEqual((websocket.congested, self.wire.producerState), (True, "paused"))
        websocket.write(LINE)
        websocket.resumeProducing()
        self.assertEqual((websocket.congested, self.wire.producerState), (False, "producing"))
        self.assertEqual(self.connection.session.calls, ["congested", "drained"])

    def test_lost(self) -> None:
        self.wire.leave()
        self.connection.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.connection.session.calls, ["lost"])


class CompressionTests(SynchronousTestCase):
    """Which offers of permessage-deflate are taken, and with how much memory."""

    def setUp(self) -> None:
        self.reactor = use_clock(self)

    def answer(self, *lines: bytes) -> str | None:
        accepted = accept(lines)
        return None if accepted is None else accepted.get_extension_string()

    def test_offers(self) -> None:
        # Our own window and that we forget it need not be said (RFC 7692 section 7.1); what the client has to keep to must be.
        small = "permessage-deflate; client_no_context_takeover"
        for offer, expected in (
            (b"permessage-deflate", small),
            (b"Permessage-Deflate", small),
            (b"permessage-deflate; client_max_window_bits", small + "; client_max_window_bits=12"),
            (b'permessage-deflate; client_max_window_bits="15"', small + "; client_max_window_bits=12"),
            (b"permessage-deflate; client_max_window_bits=10", small + "; client_max_window_bits=10"),
            (b"permessage-deflate; client_no_context_takeover", small),
            (b"permessage-deflate; server_no_context_takeover", small + "; server_no_context_takeover"),
            (b"permessage-deflate; server_max_window_bits=15", small + "; server_max_window_bits=15"),
            (b"permessage-deflate; server_max_window_bits=9", None),
            (b"permessage-deflate; server_max_window_bits=9, permessage-deflate", small),
            (b"permessage-deflate; unheard_of", None),
            (b"permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
            (b"permessage-deflate; client_max_window_bits=99", None),
            (b"x-webkit-deflate-frame, permessage-deflate", small),
            (b"bbf-usp-protocol", None),
            (b"", None),
            (b"permessage-deflate; \xff", None),
        ):
            got = self.answer(offer)
            self.assertEqual(got and set(got.split("; ")), expected and set(expected.split("; ")), offer)

    def test_several_lines(self) -> None:
        self.assertIsNotNone(self.answer(b"x-other", b"permessage-deflate"))

    def test_off(self) -> None:
        connection = Connection(self.reactor, offer=b"permessage-deflate").open()
        self.assertNotIn(b"Extensions", connection.head)
        self.assertFalse(connection.protocol.deflated)

    def test_on(self) -> None:
        connection = Connection(self.reactor, compression=True, offer=b"permessage-deflate").open()
        self.assertIn(b"\r\nSec-WebSocket-Extensions: permessage-deflate; ", connection.head)
        self.assertTrue(connection.protocol.deflated)
        # RFC 7692 section 7.2.3.1.
        connection.deliver(client_frame(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=4))
        self.assertEqual(connection.session.messages, [(False, b"Hello")])

    def test_bomb(self) -> None:
        """64 KiB on the wire may not become more in memory."""
        import zlib

        connection = Connection(self.reactor, compression=True, offer=b"permessage-deflate").open()
        deflate = zlib.compressobj(wbits=-12)
        bomb = deflate.compress(bytes(10_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)
        ((opcode, payload),) = server_frames(connection.deliver(client_frame(TEXT, bomb[:-4], rsv=4)))
        self.assertEqual((opcode, payload[:2]), (CLOSE, close_payload(1009)))
        self.assertEqual(connection.session.messages, [])


class FactoryTests(SynchronousTestCase):
    def test_one_class_for_all(self) -> None:
        """Each connection has the configuration by its class and copies nothing."""
        factory = ChatFactory(lambda websocket, admission: None, lambda address: None, Limits())  # type: ignore[arg-type, return-value]
        one, two = (factory.open_socket(TICKET, Handshake(KEY)) for _ in range(2))
        self.assertIs(type(one), type(two))
        self.assertEqual(one.maxMessagePayloadSize, Limits().frame_bytes)
        self.assertNotIn("maxMessagePayloadSize", vars(one))
