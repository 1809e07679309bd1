"""The factory for ``connectTCP`` and ``connectSSL``."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, UserError
from twisted.internet.interfaces import IConnector
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_chat.client import Message, ReconnectingChatClientFactory, State
from twisted_chat.testing import MemoryChat
from twisted_chat.testing.transports import Wire


@implementer(IConnector)
class Connector:
    """What ``connectTCP`` makes, to a server in memory."""

    def __init__(self, chat: MemoryChat, factory: ReconnectingChatClientFactory) -> None:
        self.chat = chat
        self.factory = factory
        self.state = "disconnected"
        self.attempts = 0
        self.wire: Wire | None = None

    def connect(self) -> None:
        assert self.state == "disconnected", self.state
        self.state = "connecting"
        self.attempts += 1
        self.chat.clock.callLater(0, self.connected)
        self.factory.startedConnecting(self)

    def connected(self) -> None:
        if self.state != "connecting":
            return
        if self.chat.chat is None:
            self.state = "disconnected"
            self.factory.clientConnectionFailed(self, Failure(ConnectionRefusedError()))
            return
        self.state = "connected"
        wire = self.wire = Wire(self.chat.clock, IPv4Address("TCP", "192.0.2.7", 40_000), 0.0)
        client = self.factory.buildProtocol(wire.server.getHost())
        if client is None:
            self.chat.clock.callLater(0, self.disconnected, Failure(UserError()))
            return
        server = self.chat.chat.site.buildProtocol(wire.client.getHost())
        wire.server.protocol, wire.client.protocol = server, client
        lost = client.connectionLost

        def connectionLost(reason: Any) -> None:
            lost(reason)
            self.disconnected(reason)

        client.connectionLost = connectionLost  # type: ignore[method-assign]
        server.makeConnection(wire.server)
        client.makeConnection(wire.client)

    def disconnected(self, reason: Failure) -> None:
        self.state = "disconnected"
        self.factory.clientConnectionLost(self, reason)

    def stopConnecting(self) -> None:
        self.state = "disconnected"
        self.factory.clientConnectionFailed(self, Failure(UserError()))

    def disconnect(self) -> None:
        assert self.wire is not None
        self.wire.client.loseConnection()

    def getDestination(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 80)


class FactoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.chat = MemoryChat()
        self.chat.settle()

    def connect(self, **options: Any) -> tuple[ReconnectingChatClientFactory, Connector]:
        factory = ReconnectingChatClientFactory(self.chat.clock, name="alice", random=lambda: 0.999, **options)
        connector = Connector(self.chat, factory)
        connector.connect()
        self.chat.settle()
        return factory, connector

    def test_connects(self) -> None:
        """The connection that ``connectTCP`` makes is the client's first."""
        factory, connector = self.connect()

        self.assertIs(factory.client.state, State.ONLINE)

        sent = factory.client.room("lobby").send("hello")
        self.chat.settle()

        self.assertEqual(self.successResultOf(sent).seq, 1)
        self.assertEqual(connector.attempts, 1)

    def test_reconnects(self) -> None:
        """A factory reconnects with the client's backoff and with what the client remembers."""
        factory, connector = self.connect()
        texts: list[str | None] = []

        factory.client.room("lobby").on(Message, lambda event: texts.append(event.text))
        self.chat.settle()
        assert connector.wire is not None
        connector.wire.cut()
        self.chat.kill()
        self.chat.pass_time(10)

        self.assertEqual(connector.attempts, 5)

        self.chat.start()
        self.chat.say("lobby", "meanwhile")
        self.chat.pass_time(10)

        self.assertIs(factory.client.state, State.ONLINE)
        self.assertEqual(texts, ["meanwhile"])

    def test_token_later(self) -> None:
        """The transport is there before the token: it is let go, and another one comes when there is one."""
        token: Deferred[str] = Deferred()
        chat_people = self.chat.people
        from twisted_chat.users import User

        chat_people["tc_1"] = User(id="u1", name="alice")

        factory, connector = self.connect(token=lambda: token)

        self.assertIs(factory.client.state, State.CONNECTING)

        token.callback("tc_1")
        self.chat.settle()

        self.assertIs(factory.client.state, State.ONLINE)
        self.assertEqual(connector.attempts, 2)

    def test_stop(self) -> None:
        """``stopTrying`` closes the connection and no further attempt follows."""
        factory, connector = self.connect()
        stopped = factory.stopTrying()

        self.chat.settle()
        self.successResultOf(stopped)

        self.assertEqual(connector.state, "disconnected")

        self.chat.pass_time(60)
        self.assertEqual(connector.attempts, 1)

    def test_stop_while_connecting(self) -> None:
        """``stopTrying`` before the connection is made ends the attempt."""
        factory = ReconnectingChatClientFactory(self.chat.clock)
        connector = Connector(self.chat, factory)
        connector.connect()
        stopped = factory.stopTrying()

        self.chat.clock.calls.reverse()
        self.chat.settle()
        self.successResultOf(stopped)

        self.assertEqual(connector.state, "disconnected")
