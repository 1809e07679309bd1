"""Sending through TLS past Twisted's buffers: what comes out at the other end, in which order, and what is held."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import make_certificate
from tests.http_memory import KEY
from tests.ws_memory import TICKET, FakeSocket, RecordingSession, server_frames, use_clock
from twisted_chat.interfaces import Handshake
from twisted_chat.internals.sockets import SLICE_BYTES, TlsSend, is_direct
from twisted_chat.limits import Limits
from twisted_chat.protocol.frames import text_frame
from twisted_chat.websocket.connection import ChatWebSocket
from twisted_chat.websocket.factory import ChatFactory


class Secured:
    """A WebSocket over Twisted's real TLS on its real TCP transport, on a socket to poke; and a client that decrypts."""

    session: RecordingSession

    def __init__(self, reactor: MemoryReactorClock, key: Path, certificate: Path) -> None:
        self.reactor: Any = reactor
        self.socket = FakeSocket()
        self.factory = ChatFactory(self._open_session, lambda address: None, Limits(), reactor=reactor)
        self.protocol = self.factory.open_socket(TICKET, Handshake(KEY))
        options = CertificateOptions(
            privateKey=crypto.load_privatekey(crypto.FILETYPE_PEM, key.read_bytes()),
            certificate=crypto.load_certificate(crypto.FILETYPE_PEM, certificate.read_bytes()),
        )
        wrapped: Any = self
        factory = TLSMemoryBIOFactory(options, False, wrapped, reactor)
        self.tls: Any = BufferingTLSTransport(factory, self.protocol, _connectWrapped=False)
        self.tcp: Any = tcp.Connection(self.socket, self.tls, reactor)  # type: ignore[arg-type]
        self.tcp.connected = True
        self.tcp.startReading()
        self.client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        self.client.set_connect_state()
        self.tls.makeConnection(self.tcp)
        self._shake_hands()
        self.protocol.makeConnection(self.tls)
        head, _, rest = self.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert not rest, rest

    def _open_session(self, websocket: ChatWebSocket, admission: object) -> RecordingSession:
        self.session = RecordingSession(websocket)
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


class TlsSendTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        self.secured = Secured(use_clock(self), *make_certificate(directory))

    def test_leaves_at_once(self) -> None:
        """A frame is on the wire before the turn ends, in one ``send``."""
        sends = self.secured.socket.sends
        self.assertEqual(self.secured.protocol.send(text_frame(b"hi")), 4)
        self.assertEqual(self.secured.socket.sends, sends + 1)
        self.assertEqual(server_frames(self.secured.read()), [(1, b"hi")])

    def test_behind_what_waits(self) -> None:
        """What Twisted has collected already goes first."""
        self.secured.tls.write(text_frame(b"first"))
        self.secured.protocol.send(text_frame(b"second"))
        self.secured.drain()
        self.assertEqual(server_frames(self.secured.read()), [(1, b"first"), (1, b"second")])

    def test_full_socket(self) -> None:
        """A socket that is full congests the link; when it drains, everything is there, once and in order."""
        secured = self.secured
        secured.socket.room = 1_000
        chunk = text_frame(b"x" * 3_000)
        self.assertEqual(secured.protocol.send(chunk), len(chunk))
        self.assertTrue(secured.protocol.congested)
        self.assertEqual(secured.session.calls, ["congested"])
        secured.protocol.write(text_frame(b"behind"))
        secured.drain()
        self.assertFalse(secured.protocol.congested)
        self.assertEqual(secured.session.calls, ["congested", "drained"])
        self.assertEqual(server_frames(secured.read()), [(1, b"x" * 3_000), (1, b"behind")])

    def test_large_chunk(self) -> None:
        """Of a large chunk only what was encrypted is taken when the socket is full: one slice."""
        secured = self.secured
        secured.socket.room = 10
        chunk = b"".join(text_frame(b"%05d" % number + b"y" * 995) for number in range(300))
        taken = secured.protocol.send(chunk)
        self.assertEqual(taken, SLICE_BYTES)
        send = secured.protocol.send
        assert isinstance(send, TlsSend)
        self.assertLess(send.unsent(), SLICE_BYTES + 2_000)
        secured.protocol.buffer_rest(chunk[taken : taken + 100])
        secured.drain()
        self.assertEqual(secured.read(), chunk[: taken + 100])
        self.assertFalse(secured.protocol.congested)

    def test_large_chunk_taken(self) -> None:
        """A socket that takes it all gets it all."""
        chunk = text_frame(b"z" * 200_000)
        self.assertEqual(self.secured.protocol.send(chunk), len(chunk))
        self.assertEqual(self.secured.read(), chunk)
        self.assertFalse(self.secured.protocol.congested)

    def test_random(self) -> None:
        """Sends, answers and a socket of any size: the client reads what was taken, in order."""
        random = Random(7)
        secured = self.secured
        expected = received = b""
        for number in range(300):
            frame = text_frame(b"%d:" % number + b"a" * random.choice([1, 50, 5_000, 40_000]))
            if secured.protocol.congested:
                secured.drain(random.choice([None, 100, 20_000]))
            elif random.random() < 0.3:
                secured.protocol.write(frame)
                expected += frame
            else:
                taken = secured.protocol.send(frame)
                if taken < len(frame):
                    secured.protocol.buffer_rest(frame[taken:])
                expected += frame
            secured.socket.room = random.choice([None, 0, 700, 30_000])
            received += secured.read()
        secured.drain()
        self.assertEqual(received + secured.read(), expected)

    def test_lost(self) -> None:
        """After the end nothing is sent, and nothing fails."""
        self.secured.tcp.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.secured.protocol.send(b"gone"), 4)
        self.assertEqual(self.secured.session.calls, ["lost"])


class PinTests(SynchronousTestCase):
    """What is touched of Twisted's TLS; a release that renames it fails here and not in production."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        self.secured = Secured(use_clock(self), *make_certificate(directory))

    def test_names(self) -> None:
        """``_tlsConnection`` encrypts; three buffers lie above the socket's; ``producer`` is who is told."""
        tls, below = self.secured.tls, self.secured.tcp
        self.assertTrue(is_direct(tls))
        self.assertIsInstance(tls._tlsConnection, SSL.Connection)
        self.assertEqual((tls._aggregator._buffer, tls._appSendBuffer), ([], []))
        self.assertFalse(tls._lostTLSConnection)
        self.assertFalse(tls.disconnecting)
        self.assertEqual((below.dataBuffer, below._tempDataBuffer, below._tempDataLen, below.offset), (b"", [], 0, 0))
        self.assertIs(below.producer._producer, self.secured.protocol)

    def test_producer_paused(self) -> None:
        """``producerPaused`` makes ``doWrite`` resume the producer when the buffer is empty."""
        below = self.secured.tcp
        below.write(b"x")
        send = self.secured.protocol.send
        assert isinstance(send, TlsSend)
        send.pause_producer()
        self.assertTrue(self.secured.protocol.congested)
        self.secured.drain()
        self.assertFalse(self.secured.protocol.congested)
