"""The link between a socket and a session: what is sent when the socket takes it, takes some of it, or takes nothing."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.http_memory import Wire
from tests.harness.ws_memory import PING, TEXT, Connection, client_frame, server_frames, use_clock
from twisted_chat.protocol.frames import text_frame

LINE = text_frame(b"hello")


class SendingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = use_clock(self)
        self.connection = Connection(self.reactor).open()
        self.socket, self.link = self.connection.socket, self.connection.link
        self.session: Any = self.connection.session

    def test_direct(self) -> None:
        """While nothing waits, a write is one ``send`` and the reactor is not asked."""
        self.socket.sends = 0

        self.link.write(LINE)

        self.assertEqual((self.socket.sent, self.socket.sends), (LINE, 1))
        self.assertEqual(self.reactor.writers, set())
        self.assertIs(self.link.congested, False)

    def test_short(self) -> None:
        """The rest waits in the transport, and the session hears of it until the last byte has gone."""
        self.socket.room = 3

        self.link.write(LINE)

        self.assertEqual((self.socket.take(), self.link.congested, self.session.calls), (LINE[:3], True, ["congested"]))
        self.assertEqual(self.connection.drain(room=2), LINE[3:5])
        self.assertEqual(self.session.calls, ["congested"])
        self.assertEqual(self.connection.drain(), LINE[5:])
        self.assertEqual((self.link.congested, self.session.calls), (False, ["congested", "drained"]))

    def test_full(self) -> None:
        """Lines written to a full socket are sent when it drains."""
        self.socket.room = 0

        self.link.write(LINE)
        self.link.write(LINE)

        self.assertEqual(self.connection.drain(), LINE * 2)
        self.assertFalse(self.link.congested)

    def test_order_while_congested(self) -> None:
        """What is written later never overtakes the rest, though the socket would take it."""
        self.socket.room = 3
        self.link.write(LINE)
        self.socket.room = None

        self.link.write(text_frame(b"second"))
        self.link.ping()

        self.assertEqual(self.socket.take(), LINE[:3])
        self.assertEqual(server_frames(LINE[:3] + self.connection.drain()), [(TEXT, b"hello"), (TEXT, b"second"), (PING, b"")])

    def test_broken(self) -> None:
        """A socket that is gone is no error here: the reactor says so in a moment."""
        self.socket.broken = True
        self.link.write(LINE)
        self.assertEqual(self.session.calls, [])

    def test_held_rest(self) -> None:
        """A room writes by ``send`` itself and gives back what was not taken of one frame."""
        self.socket.room = 3
        taken = self.link.send(LINE)

        self.link.buffer_rest(LINE[taken:])

        self.assertEqual(self.session.calls, ["congested"])
        self.assertEqual(self.socket.take() + self.connection.drain(), LINE)
        self.assertEqual(self.session.calls, ["congested", "drained"])

    def test_answers_pile_up(self) -> None:
        """Who asks and does not take the answers is read no more, so the answers are bounded; then it goes on."""
        self.session.answer = lambda text: self.link.write(text_frame(b"x" * 30_000))
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

    def test_after_the_end(self) -> None:
        """After the end nothing is sent, and no call fails."""
        self.connection.lose()
        self.link.write(LINE)
        self.link.ping()
        self.link.close(1000, "bye")

        self.assertEqual(self.socket.sent, b"")


class ReadingTests(SynchronousTestCase):
    """When the peer is read, and when not."""

    def setUp(self) -> None:
        self.connection = Connection(use_clock(self)).open()
        self.socket, self.link, self.session = self.connection.socket, self.connection.link, self.connection.session

    def test_pause(self) -> None:
        """A session that throttles its peer is not read for."""
        self.link.pause()

        self.assertEqual((self.connection.reading, self.link.paused), (False, True))

        self.link.resume()
        self.assertEqual((self.connection.reading, self.link.paused), (True, False))

    def test_two_reasons(self) -> None:
        """Throttled and congested: read again when neither holds."""
        self.socket.room = 0

        self.link.pause()
        self.link.write(text_frame(b"x" * 70_000))
        self.link.resume()

        self.assertFalse(self.connection.reading)

        self.link.pause()
        self.connection.drain()

        self.assertFalse(self.connection.reading)

        self.link.resume()
        self.assertTrue(self.connection.reading)


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
        """A wrapped transport takes every line whole."""
        link = self.connection.link

        self.assertEqual(link.send(LINE), len(LINE))

        link.write(LINE)
        self.assertEqual(server_frames(self.wire.taken().partition(b"\r\n\r\n")[2]), [(TEXT, b"hello")] * 2)

    def test_backpressure(self) -> None:
        """The transport says itself when it has too much."""
        link = self.connection.link

        self.assertIs(self.wire.producer, link)

        link.pauseProducing()
        self.assertEqual((link.congested, self.wire.producerState), (True, "paused"))

        link.write(LINE)
        link.resumeProducing()

        self.assertEqual((link.congested, self.wire.producerState), (False, "producing"))
        self.assertEqual(self.connection.session.calls, ["congested", "drained"])

    def test_lost(self) -> None:
        """A wrapped transport that is lost ends the session once."""
        self.wire.leave()
        self.connection.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.connection.session.calls, ["lost"])
