"""What is logged at the start when Twisted lacks a private attribute, and that the whole chat is served all the same."""

from __future__ import annotations

from typing import Any

import txaio
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.logger import LogEvent, Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel

from tests.harness.hiding import hide
from tests.harness.http_memory import handshake
from tests.harness.ws_memory import TEXT, FakeSocket, SocketTransport, client_frame, server_frames
from tests.test_server_build import Reactor
from twisted_chat.internals import sockets, takeover
from twisted_chat.internals.checks import log_fallbacks
from twisted_chat.server.build import build
from twisted_chat.server.config import Settings


class LogTests(SynchronousTestCase):
    def lines(self) -> list[str]:
        lines: list[str] = []

        def note(event: LogEvent) -> None:
            lines.append(event["log_format"].format(**event))

        observer: Any = note
        log_fallbacks(Logger(observer=observer))
        return lines

    def test_all_there(self) -> None:
        """On the installed Twisted everything is available and nothing is logged."""
        self.assertEqual(self.lines(), [])

    def test_one_line_for_each_module(self) -> None:
        """Two attributes of one module and one of another: two lines, with names and consequence."""
        hide(self, FileDescriptor, "offset", "_tempDataLen")
        hide(self, HTTPChannel, "_dataBuffer")

        first, second = self.lines()

        self.assertRegex(
            first,
            r"^Twisted [0-9.]+ lacks FileDescriptor._tempDataLen, FileDescriptor.offset; "
            r"writing through the transport, which is slower$",
        )
        self.assertRegex(
            second, r"^Twisted [0-9.]+ lacks HTTPChannel._dataBuffer; bytes that a client sends before .* are dropped$"
        )


class WholeServerTests(SynchronousTestCase):
    """A whole chat, from the handshake on, on a Twisted that lacks one attribute: a line comes back to its author."""

    def talk(self) -> list[bytes]:
        """What a client is sent that upgrades, says hello, and reads slowly."""
        reactor: Any = Reactor()
        loops: Any = txaio
        self.patch(loops.config, "loop", reactor)
        chat = self.successResultOf(Deferred.fromCoroutine(build(reactor, Settings(), "memory:", loopback=True)))
        socket = FakeSocket()
        transport: Any = SocketTransport(socket, None, reactor)  # type: ignore[arg-type]
        transport.connected = True
        transport.protocol = chat.site.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        transport.startReading()

        transport.protocol.dataReceived(handshake())
        self.turn(reactor, transport)
        socket.room = 3
        transport.protocol.dataReceived(client_frame(TEXT, b"hello"))
        self.turn(reactor, transport)
        socket.room = None
        self.turn(reactor, transport)

        head, _, frames = socket.take().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "), head)
        transport.connectionLost(Failure(ConnectionDone()))
        chat.site.stopFactory()
        return [payload for opcode, payload in server_frames(frames) if opcode == TEXT]

    def turn(self, reactor: Any, transport: Any) -> None:
        """Everything that is ready happens."""
        for _ in range(5):
            reactor.advance(0)
            if transport in reactor.writers:
                transport.doWrite()

    def test_nothing_missing(self) -> None:
        """With all private attributes a line comes back to its author."""
        self.assertEqual(self.talk(), [b"hello"])

    def test_each_attribute_of_a_socket_missing(self) -> None:
        """Without any one private attribute of a TCP transport the chat still works."""
        for name in sockets.TCP_NAMES:
            hide(self, SocketTransport, name)
            self.assertEqual(self.talk(), [b"hello"], name)

    def test_attribute_of_http_missing(self) -> None:
        """Without the private attributes of an HTTP channel the chat still works."""
        hide(self, HTTPChannel, *takeover.NAMES)
        self.assertEqual(self.talk(), [b"hello"])
