"""One WebSocket: opening, whole and cut frames, the closing handshake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.error import ConnectionDone
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.http_memory import KEY, Wire, handshake
from tests.harness.logs import LoggedEvents
from tests.harness.ws_memory import (
    ADMISSION,
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
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
from twisted_chat.websocket.factory import CLOSE_SECONDS, ChatFactory

LINE = text_frame(b"hello")


class ProtocolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = use_clock(self)
        self.connection = Connection(self.reactor)
        self.socket = self.connection.socket

    def open(self) -> None:
        self.connection.open()

    @property
    def session(self) -> Any:
        return self.connection.session

    @property
    def link(self) -> Any:
        return self.connection.link


class OpeningTests(ProtocolTests):
    def test_answer(self) -> None:
        """The answer has the accept value of RFC 6455 and no extension, and TCP_NODELAY is set."""
        self.open()

        self.assertIn(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", self.connection.head)
        self.assertNotIn(b"Extensions", self.connection.head)
        self.assertEqual(self.connection.no_delay, 1)

    def test_session_says_something_at_once(self) -> None:
        """What a session sends while it is opened comes behind the 101."""

        def open_session(link: Any, admission: Any) -> Any:
            link.write(LINE)
            return plain(link, admission)

        plain: Any = self.connection.factory.open_session
        self.connection.factory.open_session = open_session

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
            give_transport(transport, factory.open_socket(ADMISSION, Handshake(KEY)), rest)

        site = ChatSite(answer, ConnectionLimiter(Limits()), self.reactor, body_bytes=1000, observe=lambda *a: None, logger=None)  # type: ignore[arg-type]
        wire = Wire(site)
        page = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"

        sent = wire.deliver(page + handshake() + client_frame(TEXT, b"early") + client_frame(PING, b"p"))
        self.reactor.advance(0)
        sent += wire.taken()

        self.assertEqual(self.session.messages, [(False, b"early")])

        page_answer, switch, frames = sent.partition(b"HTTP/1.1 101 ")
        self.assertIn(b"a page", page_answer)
        self.assertEqual(server_frames(frames.partition(b"\r\n\r\n")[2]), [(PONG, b"p")])

    def test_earlier_answer_not_sent_yet(self) -> None:
        """The 101 may not overtake what the HTTP edge wrote before, though the socket would take it."""
        self.connection.transport.write(b"a page")
        self.connection.protocol.makeConnection(self.connection.transport)

        self.assertEqual(self.socket.sent, b"")
        self.assertTrue(self.link.congested)
        self.assertTrue(self.connection.drain().startswith(b"a pageHTTP/1.1 101 "))
        self.assertFalse(self.link.congested)
        self.assertEqual(self.session.calls, ["drained"])

    def test_session_that_may_not_be(self) -> None:
        """What could not be said in HTTP any more is said in the close frame."""
        self.refuse(Conflict("name: alice is taken"))
        self.assertEqual(server_frames(self.socket.take()), [(CLOSE, close_payload(4400, b"name: alice is taken"))])

    def test_session_that_fails(self) -> None:
        """A session that fails ends the connection with 1011, and the reason is only in the log."""
        self.refuse(ZeroDivisionError("secret"))
        self.assertEqual(server_frames(self.socket.take()), [(CLOSE, close_payload(1011, b"internal error"))])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def refuse(self, error: Exception) -> None:
        def open_session(link: object, admission: object) -> Any:
            raise error

        self.connection.factory.open_session = open_session
        self.open()
        sent = self.socket.take()
        # There is no session to take what it sends; it answers the close frame, and the connection ends.
        self.connection.deliver(client_frame(TEXT, b"hello") + client_frame(CLOSE, close_payload(1000)))
        self.reactor.advance(0)
        self.assertEqual(self.connection.ended, [ADMISSION.address])
        self.socket.sent = sent

    def test_no_socket_without_the_site(self) -> None:
        """The factory makes no protocol but through the site."""
        with self.assertRaises(AssertionError):
            self.connection.factory.buildProtocol(None)


class ReadingTests(ProtocolTests):
    def setUp(self) -> None:
        super().setUp()
        self.open()

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
        self.session.answer = lambda text: self.link.close(4400, "enough")
        self.connection.deliver(client_frame(TEXT, b"1") + client_frame(BINARY, b"2") + client_frame(TEXT, b"3"))
        self.assertEqual(self.session.messages, [(False, b"1")])

    def test_session_fails(self) -> None:
        """A failing session is a failing connection: Twisted logs it and ends the connection, no other is touched."""
        self.session.answer = lambda text: 1 // 0
        self.assertRaises(ZeroDivisionError, self.connection.deliver, client_frame(TEXT, b"1"))

    def test_aborted_in_the_middle(self) -> None:
        """After an abort the rest of the read is ignored."""

        def answer(text: bytes) -> None:
            self.link.abort()
            self.reactor.advance(0)

        self.session.answer = answer

        self.connection.deliver(client_frame(TEXT, b"1") + client_frame(PING) + client_frame(TEXT, b"2"))

        self.assertEqual(self.session.messages, [(False, b"1")])
        self.assertEqual(self.session.calls, ["lost"])

    def test_nothing_held_for_long(self) -> None:
        """A cut frame waits here while it is short; a long one goes to Autobahn as it comes, which bounds it by the limit."""
        frame = client_frame(TEXT, b"x" * 60_000)
        kept = 4_000

        self.connection.deliver(frame[:kept])

        self.assertNotIn("utf8validator", vars(self.connection.protocol))

        for at in range(kept, len(frame), 1000):
            self.connection.deliver(frame[at : at + 1000])

        self.assertIn("utf8validator", vars(self.connection.protocol))
        self.assertEqual([len(text) for _, text in self.session.messages], [60_000])

    def test_too_large(self) -> None:
        """A frame beyond the limit is refused by its header with 1009."""
        sent = self.connection.deliver(client_frame(TEXT, b"", length_bytes=8, length=1 << 40) + b"x" * 100)
        ((opcode, payload),) = server_frames(sent)
        self.assertEqual((opcode, payload[:2]), (CLOSE, close_payload(1009)))


class ClosingTests(ProtocolTests):
    def setUp(self) -> None:
        super().setUp()
        self.open()

    def test_by_server(self) -> None:
        """Close, the peer's answer, the end; the session hears ``lost`` once and the factory counts the address out."""
        self.link.close(1012, "restart")

        self.assertEqual(server_frames(self.socket.take()), [(CLOSE, close_payload(1012, b"restart"))])

        self.connection.deliver(client_frame(CLOSE, close_payload(1012)))
        self.reactor.advance(0)

        self.assertEqual(self.session.calls, ["congested", "lost"])
        self.assertEqual(self.connection.ended, [ADMISSION.address])
        self.assertTrue(self.socket.closed)

    def test_by_peer(self) -> None:
        """A close frame is echoed, and then the connection ends."""
        sent = self.connection.deliver(client_frame(CLOSE, close_payload(1001, b"bye")))

        self.assertEqual(server_frames(sent), [(CLOSE, close_payload(1001, b"bye"))])

        self.connection.drain()
        self.assertEqual(self.session.calls, ["congested", "lost"])

    def test_unanswered(self) -> None:
        """A peer that does not answer the close frame is given up."""
        self.link.close(1012, "restart")
        self.reactor.pump([1] * (CLOSE_SECONDS + 1))
        self.assertEqual(self.session.calls, ["congested", "lost"])

    def test_unanswered_several(self) -> None:
        """One timer ends each at its time, and not those that have answered."""
        first, second, third = (Connection(self.reactor).open() for _ in range(3))
        second.protocol.factory = third.protocol.factory = first.protocol.factory

        first.link.close(1012, "restart")
        self.reactor.advance(2)
        second.link.close(1012, "restart")
        third.link.close(1012, "restart")
        third.deliver(client_frame(CLOSE, close_payload(1012)))
        self.reactor.advance(CLOSE_SECONDS - 2)
        self.reactor.advance(0)

        self.assertEqual([each.session.calls[1:] for each in (first, second, third)], [["lost"], [], ["lost"]])

        self.reactor.advance(2)
        self.reactor.advance(0)

        self.assertEqual(second.session.calls[1:], ["lost"])

    def test_what_was_on_its_way(self) -> None:
        """What the peer sent before it saw the close frame is passed over, in whatever pieces it comes, up to its answer."""
        sent = client_frame(TEXT, b"hello") + client_frame(PING) + client_frame(BINARY, b"\x88" * 300)
        for size in (1, 2, 7, 100, len(sent)):
            connection = Connection(self.reactor).open()
            connection.link.close(1012, "restart")

            for start in range(0, len(sent), size):
                connection.protocol.dataReceived(sent[start : start + size])
            self.reactor.advance(0)

            self.assertEqual((connection.session.messages, connection.session.calls), ([], ["congested"]))

            connection.deliver(client_frame(CLOSE, close_payload(1012)))

            self.assertEqual(connection.session.calls, ["congested", "lost"])

    def test_in_order(self) -> None:
        """After both close frames the connection ends without a reset, which could take ours from the peer before it is read."""
        for frames in (
            client_frame(CLOSE, close_payload(1000)),
            client_frame(CLOSE, b"x"),
            client_frame(CLOSE, close_payload(999)),
        ):
            connection = Connection(self.reactor).open()
            resets: list[None] = []
            self.patch(connection.transport, "abortConnection", lambda resets=resets: resets.append(None))

            self.assertEqual(server_frames(connection.deliver(frames))[0][0], CLOSE)

            self.assertEqual((resets, connection.session.calls), ([], ["congested", "lost"]))

    def test_while_congested(self) -> None:
        """The close frame comes behind everything that waits, and closes when the peer has taken it and answered."""
        self.socket.room = 3

        self.link.write(LINE)
        self.link.close(1012, "restart")
        sent = self.socket.take() + self.connection.drain()

        self.assertEqual(server_frames(sent), [(TEXT, b"hello"), (CLOSE, close_payload(1012, b"restart"))])

        self.connection.deliver(client_frame(CLOSE, close_payload(1012)))
        self.reactor.advance(0)

        self.assertEqual(self.session.calls, ["congested", "congested", "lost"])

    def test_congested_peer_closes(self) -> None:
        """What waits is sent, then the answer, then the connection ends."""
        self.socket.room = 3

        self.link.write(LINE)
        sent = self.connection.deliver(client_frame(CLOSE, close_payload(1000)))

        self.assertFalse(self.socket.closed)

        sent += self.connection.drain()
        self.assertEqual(server_frames(sent), [(TEXT, b"hello"), (CLOSE, close_payload(1000))])
        self.assertTrue(self.socket.closed)

    def test_nothing_after_the_close_frame(self) -> None:
        """RFC 6455 section 5.5.1.  To the session its link takes no more, so a room does not write to it directly."""
        ways: list[Callable[[Connection], object]] = [
            lambda connection: connection.link.close(1012, "restart"),
            lambda connection: connection.protocol.dataReceived(client_frame(CLOSE, close_payload(1000))),
            lambda connection: connection.protocol.dataReceived(client_frame(TEXT, b"x", mask=None)),
            lambda connection: connection.protocol.dataReceived(client_frame(TEXT, b"\xff")),
        ]
        for way in ways:
            connection = Connection(self.reactor).open()
            way(connection)
            self.assertIn("congested", connection.session.calls)
            self.assertTrue(connection.link.congested)
            connection.link.write(LINE)
            connection.link.ping()
            connection.link.close(1000, "again")
            sent = connection.socket.take() + connection.drain()
            self.assertEqual([opcode for opcode, _ in server_frames(sent)], [CLOSE])
            self.assertNotIn("drained", connection.session.calls)

    def test_lost_while_asleep_and_awake(self) -> None:
        """A lost connection ends its session once, with or without Autobahn's state."""
        for awake in (False, True):
            connection = Connection(self.reactor).open()
            if awake:
                connection.deliver(client_frame(PING))
            connection.lose()
            self.assertEqual(connection.session.calls, ["lost"])
            self.assertEqual(connection.ended, [ADMISSION.address])
            self.assertEqual(connection.protocol.state, WebSocketProtocol.STATE_CLOSED)

    def test_lost_with_half_a_frame(self) -> None:
        """A connection lost within a frame delivers nothing of it."""
        self.connection.deliver(client_frame(TEXT, b"hello")[:-1])
        self.connection.lose(ConnectionDone())
        self.assertEqual((self.session.messages, self.session.calls), ([], ["lost"]))

    def test_abort(self) -> None:
        """``abort`` ends the connection at once, whatever waits to be sent."""
        self.socket.room = 0

        self.link.write(LINE)
        self.link.abort()
        self.reactor.advance(0)

        self.assertEqual((self.session.calls[-1], self.socket.sent), ("lost", b""))

    def test_long_reason(self) -> None:
        """A reason is cut to what a control frame holds, between characters."""
        self.link.close(4400, "é" * 100)
        ((_, payload),) = server_frames(self.socket.take())
        self.assertEqual(payload, close_payload(4400, "é".encode() * 61))


class FactoryTests(SynchronousTestCase):
    def test_one_class_for_all(self) -> None:
        """Each connection has the configuration by its class and copies nothing."""
        factory = ChatFactory(lambda link, admission: None, lambda address: None, Limits())  # type: ignore[arg-type, return-value]
        one, two = (factory.open_socket(ADMISSION, Handshake(KEY)) for _ in range(2))

        self.assertIs(type(one), type(two))
        self.assertEqual(one.maxFramePayloadSize, Limits().frame_bytes)
        self.assertNotIn("maxFramePayloadSize", vars(one))


class LogTests(ProtocolTests):
    def test_faults_of_the_peer(self) -> None:
        """Nothing that a peer sends is logged above ``info``."""
        logged = LoggedEvents()
        globalLogPublisher.addObserver(logged)
        self.addCleanup(globalLogPublisher.removeObserver, logged)
        for data in (
            client_frame(TEXT, b"\xff"),
            b"\x81\x01x",
            client_frame(3, b"x"),
            client_frame(0, b"x"),
            client_frame(PING, b"x" * 126),
            client_frame(8, b"x"),
            client_frame(8, b"\x03\xe8\xff"),
            client_frame(TEXT, b"x" * 70_000),
            b"\xc1" + client_frame(TEXT, b"x")[1:],
        ):
            connection = Connection(self.reactor)
            connection.open()
            connection.protocol.dataReceived(data)

        self.assertIn("failing WebSocket connection", str(logged))
        self.assertEqual(logged.at_least(LogLevel.warn), [])
