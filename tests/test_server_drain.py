"""The end of a server counts every connection, whatever it is in the middle of."""

from __future__ import annotations

from typing import Any

import txaio
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.harness.http_memory import Wire, handshake, request_head
from tests.harness.logs import LoggedEvents
from tests.harness.ws_memory import CLOSE, TEXT, client_frame, close_payload
from twisted_chat.server.build import RunningChat
from twisted_chat.server.embed import EmbeddedChat
from twisted_chat.testing import MemoryChat, TestClock
from twisted_chat.websocket.factory import CLOSE_SECONDS

STREAM = request_head(target=b"/api/v1/rooms/lobby/events", headers=[(b"Accept", b"text/event-stream")])


class DrainTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.memory = MemoryChat()
        assert self.memory.chat is not None
        self.chat: RunningChat = self.memory.chat
        self.logged = LoggedEvents()
        self.patch(RunningChat, "log", Logger(observer=self.logged))
        loops: Any = txaio
        self.patch(loops.config, "loop", self.memory.clock)

    def connect(self, request: bytes) -> Wire:
        """A connection that has sent a request."""
        wire = Wire(self.chat.site)
        wire.deliver(request)
        self.memory.settle()
        return wire

    def drain(self, seconds: float) -> Deferred[None]:
        """What happens after the ports are closed."""
        self.chat.site.stopFactory()
        return Deferred.fromCoroutine(self.chat.drain(self.memory.clock, seconds))

    def last_line(self) -> tuple[int, int]:
        """How many connections were closed, and how many of them did not answer."""
        event = self.logged[-1]
        self.assertEqual(event["log_format"], "Closed {count} connections; {rest} of them did not answer in time")
        return event["count"], event["rest"]

    def test_all_answer(self) -> None:
        """A WebSocket answers the close frame, a reader takes the end of its stream: nobody is waited for any longer."""
        socket, stream = self.connect(handshake()), self.connect(STREAM)

        drained = self.drain(10)
        self.memory.settle()
        socket.deliver(client_frame(CLOSE, close_payload(1012)))
        for wire in (socket, stream):
            self.assertTrue(wire.disconnecting)
            wire.leave()
        self.memory.pass_time(0.1)

        self.successResultOf(drained)
        self.assertEqual(self.last_line(), (2, 0))

    def test_nobody_answers(self) -> None:
        """A WebSocket, a reader of a stream, and one that does not take its answer are dropped at the deadline and counted."""
        deaf = [self.connect(handshake()), self.connect(STREAM), self.connect(request_head(target=b"/healthz"))]

        drained = self.drain(2)
        self.memory.pass_time(1.9)
        self.assertNoResult(drained)
        self.memory.pass_time(0.2)

        self.successResultOf(drained)
        self.assertEqual(self.last_line(), (3, 3))
        self.assertEqual([wire.open for wire in deaf], [False] * 3)

    def test_dropped_before_the_deadline(self) -> None:
        """The time for a closing handshake, or for the last bytes of an answer, may end earlier; who used it up is counted."""
        self.connect(handshake())
        self.connect(STREAM)
        fragmented = self.connect(handshake())
        fragmented.deliver(client_frame(TEXT, b"a", fin=False))

        drained = self.drain(600)
        self.memory.pass_time(CLOSE_SECONDS + 2)
        self.assertNoResult(drained)
        self.memory.pass_time(60)

        self.successResultOf(drained)
        self.assertEqual(self.last_line(), (3, 3))

    def test_without_a_session(self) -> None:
        """A connection in the closing handshake whose session was never opened counts, too."""

        def broken(*arguments: object) -> None:
            raise ZeroDivisionError

        self.patch(self.chat.sockets, "open_session", broken)
        self.connect(handshake())
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual(len(self.chat.core.sessions), 0)

        drained = self.drain(1)
        self.memory.pass_time(1.1)

        self.successResultOf(drained)
        self.assertEqual(self.last_line(), (1, 1))

    def test_request_in_progress(self) -> None:
        """A request that is being answered gets its answer, and then its connection ends."""
        answers: list[Any] = []
        self.patch(self.chat.site, "answer", answers.append)
        wire = self.connect(request_head(target=b"/healthz"))

        drained = self.drain(10)
        self.memory.settle()
        answers[0].write(b"ok")
        answers[0].finish()

        self.assertIn(b"ok", wire.taken())
        self.assertTrue(wire.disconnecting)
        wire.leave()
        self.memory.pass_time(0.1)
        self.successResultOf(drained)
        self.assertEqual(self.last_line(), (1, 0))

    def test_in_the_site_of_a_program(self) -> None:
        """A stream on a connection of another program's site counts while it is open."""
        clock = TestClock()
        embedded = EmbeddedChat(clock)
        root = Resource()
        root.putChild(b"chat", embedded.resource)
        embedded.startService()
        clock.settle()
        wire = Wire(Site(root, reactor=clock))
        wire.deliver(STREAM.replace(b"/api", b"/chat/api", 1))
        clock.settle()

        stopped = embedded.stopService()
        clock.pass_time(1)

        self.successResultOf(stopped)
        self.assertEqual(self.last_line(), (1, 0))
