"""Writing to sockets past Twisted's buffers: what comes out at the other end, in which order, what is held, and what it relies on.

Each attribute of Twisted that is used is pinned by a test, and the server works without each of them.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from random import Random
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet import _newtls, tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.certificates import make_certificate
from tests.harness.hiding import hide, without
from tests.harness.http_memory import KEY
from tests.harness.ws_memory import ADMISSION, TEXT, Connection, FakeSocket, RecordingSession, server_frames, use_clock
from twisted_chat.interfaces import Handshake
from twisted_chat.internals.sockets import (
    SLICE_BYTES,
    TCP_NAMES,
    TLS_NAMES,
    BufferedOutput,
    TcpOutput,
    TlsOutput,
    check,
    open_output,
)
from twisted_chat.limits import Limits
from twisted_chat.protocol.frames import text_frame
from twisted_chat.websocket.connection import WebSocketLink
from twisted_chat.websocket.factory import ChatFactory


class Secured:
    """A WebSocket over Twisted's real TLS on its real TCP transport, on a socket to poke; and a client that decrypts."""

    session: RecordingSession

    def __init__(
        self,
        reactor: MemoryReactorClock,
        key: Path,
        certificate: Path,
        *,
        tls: type[BufferingTLSTransport] = BufferingTLSTransport,
        connection: type[tcp.Connection] = tcp.Connection,
    ) -> None:
        self.reactor: Any = reactor
        self.socket = FakeSocket()
        self.factory = ChatFactory(self._open_session, lambda address: None, Limits(), reactor=reactor)
        self.protocol = self.factory.open_socket(ADMISSION, Handshake(KEY))
        options = CertificateOptions(
            privateKey=crypto.load_privatekey(crypto.FILETYPE_PEM, key.read_bytes()),
            certificate=crypto.load_certificate(crypto.FILETYPE_PEM, certificate.read_bytes()),
        )
        wrapped: Any = self
        factory = TLSMemoryBIOFactory(options, False, wrapped, reactor)
        self.tls: Any = tls(factory, self.protocol, _connectWrapped=False)
        self.tcp: Any = connection(self.socket, self.tls, reactor)  # type: ignore[arg-type]
        self.tcp.connected = True
        self.tcp.startReading()
        self.client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        self.client.set_connect_state()
        self.tls.makeConnection(self.tcp)
        self._shake_hands()
        self.protocol.makeConnection(self.tls)
        self.drain()
        head, _, rest = self.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert not rest, rest

    def _open_session(self, link: WebSocketLink, admission: object) -> RecordingSession:
        self.session = RecordingSession(link)
        return self.session

    def _shake_hands(self) -> None:
        for _ in range(4):
            try:
                self.client.do_handshake()
            except SSL.WantReadError:
                pass
            if sent := self._from_client():
                self.tls.dataReceived(sent)
            self.drain()
            if answer := self.socket.take():
                self.client.bio_write(answer)

    def _from_client(self) -> bytes:
        try:
            return self.client.bio_read(65_536)
        except SSL.WantReadError:
            return b""

    def drain(self, room: int | None = None) -> None:
        """The peer reads so many bytes, or all; timers of this turn run."""
        self.socket.room = room
        self.reactor.advance(0)
        while self.tcp in self.reactor.writers:
            before = len(self.socket.sent)
            self.tcp.doWrite()
            if len(self.socket.sent) == before:
                break

    def read(self) -> bytes:
        """What the client can decrypt of what has been sent."""
        if sent := self.socket.take():
            self.client.bio_write(sent)
        clear = b""
        while True:
            try:
                clear += self.client.recv(65_536)
            except SSL.WantReadError:
                return clear


def certificate_of(case: SynchronousTestCase) -> tuple[Path, Path]:
    directory = Path(case.mktemp())
    directory.mkdir(parents=True)
    return make_certificate(directory)


class TlsOutputTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.secured = Secured(use_clock(self), *certificate_of(self))

    def test_leaves_at_once(self) -> None:
        """A frame is on the wire before the turn ends, in one ``send``."""
        sends = self.secured.socket.sends

        self.assertEqual(self.secured.protocol.link.send(text_frame(b"hi")), 4)
        self.assertEqual(self.secured.socket.sends, sends + 1)
        self.assertEqual(server_frames(self.secured.read()), [(1, b"hi")])

    def test_behind_what_waits(self) -> None:
        """What Twisted has collected already goes first."""
        self.secured.tls.write(text_frame(b"first"))
        self.secured.protocol.link.send(text_frame(b"second"))
        self.secured.drain()

        self.assertEqual(server_frames(self.secured.read()), [(1, b"first"), (1, b"second")])

    def test_full_socket(self) -> None:
        """A socket that is full congests the link; when it drains, everything is there, once and in order."""
        secured = self.secured
        secured.socket.room = 1_000

        chunk = text_frame(b"x" * 3_000)

        self.assertEqual(secured.protocol.link.send(chunk), len(chunk))
        self.assertTrue(secured.protocol.link.congested)
        self.assertEqual(secured.session.calls, ["congested"])

        secured.protocol.link.write(text_frame(b"behind"))
        secured.drain()

        self.assertFalse(secured.protocol.link.congested)
        self.assertEqual(secured.session.calls, ["congested", "drained"])
        self.assertEqual(server_frames(secured.read()), [(1, b"x" * 3_000), (1, b"behind")])

    def test_large_chunk(self) -> None:
        """Of a large chunk only what was encrypted is taken when the socket is full: one slice."""
        secured = self.secured
        secured.socket.room = 10
        chunk = b"".join(text_frame(b"%05d" % number + b"y" * 995) for number in range(300))

        taken = secured.protocol.link.send(chunk)

        self.assertEqual(taken, SLICE_BYTES)
        self.assertIn(open_output(secured.tls).unsent(), range(SLICE_BYTES - 2_000, SLICE_BYTES + 2_000))

        secured.protocol.link.buffer_rest(chunk[taken : taken + 100])
        secured.drain()

        self.assertEqual(secured.read(), chunk[: taken + 100])
        self.assertFalse(secured.protocol.link.congested)

    def test_large_chunk_taken(self) -> None:
        """A large chunk is written whole to a socket that takes it all."""
        chunk = text_frame(b"z" * 200_000)

        self.assertEqual(self.secured.protocol.link.send(chunk), len(chunk))
        self.assertEqual(self.secured.read(), chunk)
        self.assertFalse(self.secured.protocol.link.congested)

    def test_random(self) -> None:
        """Sends, answers and a socket of any size: the client reads what was taken, in order."""
        random = Random(7)
        secured = self.secured
        expected = received = b""

        for number in range(300):
            frame = text_frame(b"%d:" % number + b"a" * random.choice([1, 50, 5_000, 40_000]))
            if secured.protocol.link.congested:
                secured.drain(random.choice([None, 100, 20_000]))
            elif random.random() < 0.3:
                secured.protocol.link.write(frame)
                expected += frame
            else:
                taken = secured.protocol.link.send(frame)
                if taken < len(frame):
                    secured.protocol.link.buffer_rest(frame[taken:])
                expected += frame
            secured.socket.room = random.choice([None, 0, 700, 30_000])
            received += secured.read()
        secured.drain()

        self.assertEqual(received + secured.read(), expected)

    def test_lost(self) -> None:
        """After the end nothing is sent, and nothing fails."""
        self.secured.tcp.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.secured.protocol.link.send(b"gone"), 4)
        self.assertEqual(self.secured.session.calls, ["lost"])


class TcpPinTests(SynchronousTestCase):
    """What the server uses of Twisted's TCP transport; a release that changes it fails here and not in production."""

    def setUp(self) -> None:
        self.connection = Connection(use_clock(self)).open()
        self.transport, self.socket = self.connection.transport, self.connection.socket

    def test_socket(self) -> None:
        """``getHandle`` gives the socket; ``TLS`` is false while it carries plain text."""
        self.assertIs(self.transport.getHandle(), self.socket)
        self.assertIs(self.transport.TLS, False)
        self.assertIsInstance(open_output(self.transport), TcpOutput)

    def test_tls_is_true_after_start_tls(self) -> None:
        """Twisted's ``startTLS`` puts TLS between socket and protocol, and says so with ``TLS``."""
        self.assertIn("transport.TLS = True", inspect.getsource(_newtls.startTLS))
        self.transport.TLS = True
        self.assertIsInstance(open_output(self.transport), BufferedOutput)

    def test_new_bytes(self) -> None:
        """``write`` appends to ``_tempDataBuffer`` and counts in ``_tempDataLen``."""
        self.transport.write(b"hello")

        self.assertEqual((self.transport._tempDataBuffer, self.transport._tempDataLen), ([b"hello"], 5))
        self.assertEqual(open_output(self.transport).unsent(), 5)
        self.assertTrue(open_output(self.transport).has_unsent())

    def test_bytes_sent_in_part(self) -> None:
        """What the socket did not take is in ``dataBuffer`` behind ``offset``."""
        self.socket.room = 2

        self.transport.write(b"hello")
        self.transport.doWrite()

        self.assertEqual((self.transport.dataBuffer, self.transport.offset, self.transport._tempDataLen), (b"hello", 2, 0))
        self.assertEqual(open_output(self.transport).unsent(), 3)
        self.assertTrue(open_output(self.transport).has_unsent())

    def test_all_bytes_sent(self) -> None:
        """After everything is sent, Twisted's buffers are empty, and so says the output."""
        self.transport.write(b"hello")
        self.connection.drain()

        self.assertEqual((self.transport.dataBuffer, self.transport.offset, self.transport._tempDataBuffer), (b"", 0, []))
        self.assertEqual(open_output(self.transport).unsent(), 0)
        self.assertFalse(open_output(self.transport).has_unsent())

    def test_producer(self) -> None:
        """``producer`` is what was registered."""
        self.assertIs(self.transport.producer, self.connection.link)

    def test_producer_paused(self) -> None:
        """``producerPaused``, set from outside, makes Twisted resume the producer when the last byte is sent, once."""
        self.socket.room = 0
        self.transport.write(b"hello")
        self.transport.producerPaused = True

        self.connection.drain()
        self.connection.drain()

        self.assertEqual(self.connection.session.calls, ["drained"])
        self.assertIs(self.transport.producerPaused, False)

    def test_buffer_size(self) -> None:
        """``bufferSize`` bounds one read, and what may wait before the producer is paused."""
        self.assertIn("self.socket.recv(self.bufferSize)", inspect.getsource(tcp.Connection.doRead))

        self.transport.bufferSize = 10
        self.socket.room = 0
        self.transport.write(b"x" * 10)

        self.assertEqual(self.connection.session.calls, [])

        self.transport.write(b"x")
        self.assertEqual(self.connection.session.calls, ["congested"])


class TlsPinTests(SynchronousTestCase):
    """The same for TLS."""

    def setUp(self) -> None:
        self.secured = Secured(use_clock(self), *certificate_of(self))
        self.tls, self.below = self.secured.tls, self.secured.tcp

    def test_direct(self) -> None:
        """A TLS connection of this Twisted gets the fast output."""
        self.assertIsInstance(open_output(self.tls), TlsOutput)

    def test_tls_connection(self) -> None:
        """``_tlsConnection`` encrypts what is sent by it."""
        self.assertIsInstance(self.tls._tlsConnection, SSL.Connection)

        self.tls._tlsConnection.send(b"hello")
        self.secured.socket.send(self.tls._tlsConnection.bio_read(1_000))

        self.assertEqual(self.secured.read(), b"hello")

    def test_aggregator(self) -> None:
        """``write`` collects in ``_aggregator._buffer`` until the next turn."""
        self.tls.write(b"hello")

        self.assertEqual(self.tls._aggregator._buffer, [b"hello"])

        self.secured.drain()

        self.assertEqual(self.tls._aggregator._buffer, [])

    def test_app_send_buffer(self) -> None:
        """``_appSendBuffer`` has the clear text that OpenSSL did not take."""
        self.assertEqual(self.tls._appSendBuffer, [])

        self.patch(self.tls._tlsConnection, "send", self.refuse)

        self.tls._write(b"hello")

        self.assertEqual(self.tls._appSendBuffer, [b"hello"])
        self.assertEqual(open_output(self.tls).unsent(), 5)

    def refuse(self, data: bytes) -> int:
        raise SSL.WantReadError

    def test_write(self) -> None:
        """``_write`` encrypts at once, past the aggregator."""
        self.tls._write(b"hello")
        self.secured.drain()
        self.assertEqual(self.secured.read(), b"hello")

    def test_lost(self) -> None:
        """``_lostTLSConnection`` is true when the connection has ended."""
        self.assertIs(self.tls._lostTLSConnection, False)
        self.below.connectionLost(Failure(ConnectionDone()))
        self.assertIs(self.tls._lostTLSConnection, True)

    def test_disconnecting(self) -> None:
        """``disconnecting`` is true after ``loseConnection``."""
        self.assertFalse(self.tls.disconnecting)
        self.tls.loseConnection()
        self.assertTrue(self.tls.disconnecting)

    def test_producer(self) -> None:
        """The TCP transport's producer passes ``pauseProducing`` on to the one that is registered with TLS."""
        self.below.producer.pauseProducing()
        self.assertTrue(self.secured.protocol.link.congested)

    def test_producer_paused(self) -> None:
        """``producerPaused`` of the TCP transport makes it resume the producer when its buffer is empty."""
        self.secured.socket.room = 0

        self.secured.protocol.link.write(text_frame(b"hello"))

        self.assertIs(self.below.producerPaused, True)

        self.secured.drain()

        self.assertFalse(self.secured.protocol.link.congested)

    def test_openssl_wants_to_read_first(self) -> None:
        """A frame that OpenSSL does not take waits in Twisted's buffer and is sent later, once."""
        link = self.secured.protocol.link
        send = self.tls._tlsConnection.send

        self.patch(self.tls._tlsConnection, "send", self.refuse)
        link.write(text_frame(b"hello"))
        self.patch(self.tls._tlsConnection, "send", send)

        self.tls._unbufferPendingWrites()
        self.secured.drain()

        self.assertEqual(server_frames(self.secured.read()), [(TEXT, b"hello")])
        self.assertFalse(link.congested)


class FallbackTests(SynchronousTestCase):
    """The server on a Twisted that lacks one of the attributes: everything is sent, in order, by the public way."""

    def test_tcp(self) -> None:
        """Without any one private attribute of TCP the public output is used, and works."""
        for name in TCP_NAMES:
            connection = Connection(use_clock(self), transport=without(tcp.Connection, name))
            connection.transport.startReading()
            connection.protocol.makeConnection(connection.transport)
            connection.drain()
            self.assertIsInstance(open_output(connection.transport), BufferedOutput, name)
            self.talk(connection)

    def talk(self, connection: Connection) -> None:
        """Answers to a client that reads slowly: all come, and the session is told when it may go on."""
        link, session = connection.link, connection.session
        connection.socket.room = 1_000

        for number in range(20):
            link.write(text_frame(b"%03d" % number + b"x" * 500))
        link.write(text_frame(b"y" * 70_000))

        self.assertEqual(session.calls[:1], ["congested"])
        self.assertTrue(link.congested)
        self.assertFalse(connection.reading)

        sent = server_frames(connection.socket.take() + connection.drain())

        expected = [b"%03d" % number + b"x" * 500 for number in range(20)] + [b"y" * 70_000]
        self.assertEqual([payload for _, payload in sent], expected)
        self.assertFalse(link.congested)
        self.assertEqual(session.calls[-1], "drained")
        self.assertTrue(connection.reading)

    def test_tls(self) -> None:
        """Without any one private attribute of TLS the public output is used, and works."""
        key, certificate = certificate_of(self)
        for name in TLS_NAMES:
            tls = without(BufferingTLSTransport, name)
            self.converse(Secured(use_clock(self), key, certificate, tls=tls), name)

    def test_tcp_below_tls(self) -> None:
        """Without any one private attribute of TCP, connections with TLS work."""
        key, certificate = certificate_of(self)
        for name in TCP_NAMES:
            connection = without(tcp.Connection, name)
            self.converse(Secured(use_clock(self), key, certificate, connection=connection), name)

    def converse(self, secured: Secured, name: str) -> None:
        self.assertIsInstance(open_output(secured.tls), BufferedOutput, name)
        link = secured.protocol.link
        for number in range(20):
            link.write(text_frame(b"%03d" % number + b"x" * 5_000))
        secured.drain()
        self.assertEqual(
            [payload[:3] for _, payload in server_frames(secured.read())], [b"%03d" % number for number in range(20)]
        )
        self.assertFalse(link.congested)

    def test_check(self) -> None:
        """The attributes that are missing are known before there is a connection."""
        self.assertEqual(check(), [])

        hide(self, FileDescriptor, "offset")

        self.assertEqual(check(), ["FileDescriptor.offset"])
