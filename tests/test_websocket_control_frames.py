"""Pings, pongs and other frames that are no message: what one peer may ask for, counted in work and not in time."""

from __future__ import annotations

from typing import Any

from autobahn.websocket.protocol import WebSocketProtocol
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.ws_memory import (
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Connection,
    client_frame,
    close_payload,
    server_frames,
    use_clock,
)
from twisted_chat.protocol.frames import text_frame
from twisted_chat.websocket.connection import UNUSUAL_FRAMES_PER_TURN
from twisted_chat.websocket.control_frames import (
    CONTROL_FRAMES_BURST,
    CONTROL_FRAMES_PER_SECOND,
    SMALL_FRAGMENT_BYTES,
    SMALL_FRAGMENTS_BURST,
)
from twisted_chat.websocket.factory import CLOSE_SECONDS

#: One read.
READ_BYTES = 65_536
EMPTY_PING = client_frame(PING)
TOO_MANY = close_payload(4429, b"too many pings or pongs")


class ControlFrameTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = use_clock(self)
        self.connection = Connection(self.reactor).open()
        self.socket, self.link = self.connection.socket, self.connection.link
        self.session: Any = self.connection.session
        self.given = 0
        receive = WebSocketProtocol._dataReceived

        def count(protocol: WebSocketProtocol, data: bytes) -> None:
            self.given += 1
            receive(protocol, data)

        self.patch(WebSocketProtocol, "_dataReceived", count)


class PingTests(ControlFrameTests):
    def test_answered(self) -> None:
        """The pong has the payload of the ping (RFC 6455 section 5.5.3)."""
        sent = self.connection.deliver(client_frame(PING, b"x" * 125))
        self.assertEqual(server_frames(sent), [(PONG, b"x" * 125)])

    def test_all_of_one_read_in_one_send(self) -> None:
        """Ten pings in one read have ten pongs, in order, which cost one ``send`` and nothing of Autobahn."""
        self.socket.sends = 0

        sent = self.connection.deliver(b"".join(client_frame(PING, b"%d" % number) for number in range(10)))

        self.assertEqual(server_frames(sent), [(PONG, b"%d" % number) for number in range(10)])
        self.assertEqual(self.socket.sends, 1)
        self.assertEqual(self.given, 0)

    def test_within_a_fragmented_message(self) -> None:
        """Autobahn reads a ping between fragments; the pong is sent with the others."""
        sent = self.connection.deliver(
            client_frame(TEXT, b"a", fin=False) + client_frame(PING, b"p") + client_frame(CONTINUATION, b"b")
        )
        self.assertEqual(server_frames(sent), [(PONG, b"p")])
        self.assertEqual(self.session.messages, [(False, b"ab")])

    def test_before_the_answer_to_a_later_message(self) -> None:
        """The pong is sent before what a session says to a message behind the ping, whole or in fragments."""
        self.session.answer = lambda text: self.link.write(text_frame(text))
        ping = client_frame(PING, b"p")
        for message in (
            client_frame(TEXT, b"ab"),
            client_frame(TEXT, b"a", fin=False) + ping + client_frame(CONTINUATION, b"b"),
        ):
            sent = server_frames(self.connection.deliver(ping + message))
            self.assertEqual(sent[0], (PONG, b"p"))
            self.assertEqual(sent[-1], (TEXT, b"ab"))

    def test_before_the_close_frame(self) -> None:
        """A ping that comes before the peer's close frame in one read is answered before ours."""
        sent = self.connection.deliver(client_frame(PING, b"p") + client_frame(CLOSE, close_payload(1000)))
        self.assertEqual(server_frames(sent), [(PONG, b"p"), (CLOSE, close_payload(1000))])

    def test_not_after_the_close_frame(self) -> None:
        """After the close frame a ping is not answered."""
        self.link.close(1012, "restart")
        self.socket.take()
        self.assertEqual(self.connection.deliver(EMPTY_PING), b"")

    def test_cut(self) -> None:
        """A ping that comes in two reads is answered when it is whole."""
        ping = client_frame(PING, b"hello")
        self.assertEqual(self.connection.deliver(ping[:7]), b"")
        self.assertEqual(server_frames(self.connection.deliver(ping[7:])), [(PONG, b"hello")])


class FloodTests(ControlFrameTests):
    def test_a_read_full_of_pings(self) -> None:
        """64 KiB of pings: so many are answered as may come at once, in one ``send`` with the close frame behind."""
        self.socket.sends = 0

        sent = self.connection.deliver(EMPTY_PING * (READ_BYTES // len(EMPTY_PING)))

        self.assertEqual(server_frames(sent), [(PONG, b"")] * CONTROL_FRAMES_BURST + [(CLOSE, TOO_MANY)])
        self.assertEqual(self.socket.sends, 2)
        self.assertEqual(self.given, 0)

    def test_a_read_full_of_pongs(self) -> None:
        """A read full of pongs closes the connection."""
        pong = client_frame(PONG)
        sent = self.connection.deliver(pong * (READ_BYTES // len(pong)))
        self.assertEqual(server_frames(sent), [(CLOSE, TOO_MANY)])

    def test_within_a_fragmented_message(self) -> None:
        """Autobahn reads no more of them than are allowed."""
        self.connection.deliver(client_frame(TEXT, b"a", fin=False))

        sent = self.connection.deliver(EMPTY_PING * 1_000)

        self.reactor.advance(0)

        self.assertEqual(server_frames(sent + self.socket.take()), [(PONG, b"")] * CONTROL_FRAMES_BURST + [(CLOSE, TOO_MANY)])
        self.assertEqual(self.given, 1 + CONTROL_FRAMES_BURST + 1)

    def test_not_read_any_more(self) -> None:
        """What such a peer sends is left in the kernel, and the deadline of the closing handshake ends the connection."""
        self.connection.deliver(EMPTY_PING * 1_000)

        self.assertFalse(self.connection.reading)

        self.reactor.pump([1] * (CLOSE_SECONDS + 1))

        self.assertEqual(self.session.calls, ["congested", "lost"])
        self.assertTrue(self.socket.closed)

    def test_messages_before_it(self) -> None:
        """Messages before the flood reach the session, those behind it do not."""
        flood = EMPTY_PING * (CONTROL_FRAMES_BURST + 1)
        self.connection.deliver(client_frame(TEXT, b"before") + flood + client_frame(TEXT, b"behind"))
        self.assertEqual(self.session.messages, [(False, b"before")])

    def test_at_a_steady_rate(self) -> None:
        """A peer may ping for ever at the allowed rate."""
        for _ in range(100):
            self.connection.deliver(EMPTY_PING * int(CONTROL_FRAMES_PER_SECOND))
            self.reactor.advance(1)
        self.assertEqual(self.session.calls, [])

    def test_slow_reader(self) -> None:
        """Pongs that a peer does not take are bounded by the same number."""
        self.socket.room = 0

        self.connection.deliver(client_frame(PING, b"x" * 125) * 1_000)
        sent = server_frames(self.connection.drain())

        self.assertEqual(sent, [(PONG, b"x" * 125)] * CONTROL_FRAMES_BURST + [(CLOSE, TOO_MANY)])


class UnusualFrameTests(ControlFrameTests):
    """Frames that Autobahn has to read: 64 KiB hold 10,000 empty fragments, at 10 us each."""

    def test_in_parts(self) -> None:
        """In one turn of the reactor Autobahn reads a bounded number of them; the peer is not read meanwhile."""
        fragment = client_frame(CONTINUATION, b"x", fin=False)

        self.connection.deliver(client_frame(TEXT, b"x", fin=False) + fragment * 1_000 + client_frame(CONTINUATION, b"x"))

        self.assertEqual(self.given, UNUSUAL_FRAMES_PER_TURN)
        self.assertFalse(self.connection.reading)

        self.turn()

        self.assertEqual(self.given, 2 * UNUSUAL_FRAMES_PER_TURN)

        self.reactor.advance(0)

        self.assertEqual(self.session.messages, [(False, b"x" * 1_002)])
        self.assertTrue(self.connection.reading)

    def turn(self) -> None:
        """One turn of the reactor: what is scheduled now, and not what that schedules."""
        (call,) = self.reactor.calls
        self.reactor.calls.remove(call)
        call.func(*call.args, **call.kw)

    def test_endless_fragments(self) -> None:
        """A message that never ends ends the connection; a session would never have heard of it."""
        fragment = client_frame(CONTINUATION, b"", fin=False)

        self.connection.deliver(
            client_frame(TEXT, b"x" * SMALL_FRAGMENT_BYTES, fin=False) + fragment * (SMALL_FRAGMENTS_BURST + 1)
        )
        self.reactor.pump([0] * (SMALL_FRAGMENTS_BURST // UNUSUAL_FRAMES_PER_TURN + 2))

        self.assertEqual(server_frames(self.connection.drain()), [(CLOSE, close_payload(4429, b"too many small fragments"))])
        self.assertFalse(self.connection.reading)
        self.assertEqual(self.session.messages, [])

    def test_fragments_in_time(self) -> None:
        """As many as the bucket fills in, small ones, and any number of others."""
        self.connection.deliver(client_frame(TEXT, b"", fin=False))
        for _ in range(10):
            self.connection.deliver(client_frame(CONTINUATION, b"", fin=False) * 200)
            self.reactor.advance(1)
        self.connection.deliver(client_frame(CONTINUATION, b"x" * SMALL_FRAGMENT_BYTES, fin=False) * 1_000)
        self.reactor.pump([0] * 5)
        self.connection.deliver(client_frame(CONTINUATION, b"y"))

        self.assertEqual(self.session.messages, [(False, b"x" * SMALL_FRAGMENT_BYTES * 1_000 + b"y")])

    def test_what_comes_meanwhile_stays_behind(self) -> None:
        """TLS delivers what it has decrypted, read or not: it keeps its place."""
        fragment = client_frame(CONTINUATION, b"x", fin=False)

        self.connection.deliver(client_frame(TEXT, b"x", fin=False) + fragment * 300)
        self.connection.deliver(client_frame(CONTINUATION, b"y") + client_frame(TEXT, b"second"))

        self.assertEqual(self.session.messages, [])

        self.reactor.advance(0)

        self.assertEqual(self.session.messages, [(False, b"x" * 301 + b"y"), (False, b"second")])

    def test_lost_meanwhile(self) -> None:
        """The rest of what was read is dropped with the connection."""
        fragment = client_frame(CONTINUATION, b"x", fin=False)

        self.connection.deliver(client_frame(TEXT, b"x", fin=False) + fragment * 1_000)
        self.connection.lose()

        self.reactor.advance(0)

        self.assertEqual(self.given, UNUSUAL_FRAMES_PER_TURN)
        self.assertEqual(self.session.calls, ["lost"])

    def test_throttled_meanwhile(self) -> None:
        """The peer is read again only when the session lets it, too."""
        fragment = client_frame(CONTINUATION, b"x", fin=False)

        self.connection.deliver(client_frame(TEXT, b"x", fin=False) + fragment * 300)
        self.link.pause()

        self.reactor.advance(0)

        self.assertFalse(self.connection.reading)

        self.link.resume()
        self.assertTrue(self.connection.reading)
