"""Taking the transport: each private name of Twisted that it uses, and that nothing of HTTP stays behind."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper, HAProxyWrappingFactory
from twisted.protocols.policies import ProtocolWrapper, TimeoutMixin, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel, Request
from zope.interface import providedBy

from tests.harness.hiding import hide
from tests.harness.http_memory import Recorder, Wire, handshake
from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.internals.takeover import check, give_transport, take_channel, take_transport
from twisted_chat.limits import Limits
from twisted_chat.web.site import ChatChannel, ChatRequest, ChatSite


class TakeoverTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.requests: list[Any] = []
        self.site = ChatSite(
            self.requests.append,
            ConnectionLimiter(Limits()),
            Clock(),
            body_bytes=1000,
            observe=lambda *a: None,
            logger=Logger(),
        )

    def asked(self, behind: bytes = b"", wire: Wire | None = None) -> tuple[Wire, Any]:
        """A request that waits for an answer, and bytes behind it."""
        wire = wire or Wire(self.site)
        wire.deliver(handshake())
        if behind:
            wire.deliver(behind)
        return wire, self.requests.pop()

    def test_leftover(self) -> None:
        """Bytes that came in other reads, before the answer was known."""
        wire, request = self.asked(b"one")
        wire.deliver(b"two")
        self.assertEqual(take_transport(request), (wire, b"onetwo"))

    def test_leftover_of_the_same_read(self) -> None:
        """Bytes behind the request in the same read are handed to the new owner."""
        taken: list[tuple[Any, bytes]] = []
        self.site.answer = lambda request: taken.append(take_transport(request))
        wire = Wire(self.site)

        wire.deliver(handshake() + b"one")

        self.assertEqual(taken, [(wire, b"one")])

    def test_new_owner(self) -> None:
        """Bytes, the end and backpressure are the new protocol's."""
        wire, request = self.asked(b"one")
        protocol = Recorder(b"hello")
        transport, leftover = take_transport(request)

        give_transport(transport, protocol, leftover)
        wire.protocol.dataReceived(b"two")
        transport.registerProducer(protocol, True)
        wire.leave()

        self.assertEqual((protocol.received, wire.value(), protocol.lost), (b"onetwo", b"hello", True))

    def test_reads_on(self) -> None:
        """The channel stops reading when much comes behind a request; the new owner gets the rest."""
        wire, request = self.asked(b"x" * 20_000)

        self.assertEqual(wire.producerState, "paused")

        take_transport(request)
        self.assertEqual((wire.producerState, wire.producer), ("producing", None))

    def test_nothing_of_http_stays(self) -> None:
        """4.5 kB for each connection; and no cycle that waits for the collector."""
        wire, request = self.asked(b"x")
        gone = [weakref.ref(thing) for thing in (request, request.channel, request.requestHeaders.getAllRawHeaders)]

        gc.disable()
        try:
            protocol = Recorder(b"")
            give_transport(*take_transport(request)[:1], protocol, b"")
            del request
            self.assertEqual([ref() for ref in gone], [None] * 3)
        finally:
            gc.enable()

        self.assertIs(wire.protocol, protocol)

    def test_no_timer_stays(self) -> None:
        """A transport that was taken over has no timer of HTTP."""
        _, request = self.asked()
        take_transport(request)
        clock: Any = self.site.reactor

        clock.advance(1000)

        self.assertEqual(clock.getDelayedCalls(), [])

    def test_behind_a_wrapper(self) -> None:
        """``haproxy:`` and ``ssl:`` put a protocol between socket and channel; it delivers to the new owner."""
        wrapping = WrappingFactory(self.site)
        wrapping.protocol = ProtocolWrapper
        wire, request = self.asked(wire=Wire(wrapping))

        transport, _ = take_transport(request)

        self.assertIsInstance(transport, ProtocolWrapper)

        protocol = Recorder(b"hello")
        give_transport(transport, protocol, b"")

        self.assertEqual(wire.deliver(b"one"), b"hello")

        wire.leave()
        self.assertEqual((protocol.received, protocol.lost), (b"one", True))

    def test_behind_tls_started_later(self) -> None:
        """After ``startTLS`` the socket is the transport and TLS is its protocol."""
        wire, request = self.asked()
        inner = wire.protocol
        wire.protocol = ProtocolWrapper(WrappingFactory(Factory()), inner)
        transport, _ = take_transport(request)
        protocol = Recorder(b"hello")

        give_transport(transport, protocol, b"")

        self.assertIs(wire.protocol.wrappedProtocol, protocol)

    def test_earlier_answer_unsent(self) -> None:
        """A channel that does not read because its answers are not taken: the new owner is read for."""
        wire, request = self.asked()
        channel = request.channel

        channel.pauseProducing()
        wire.pauseProducing()
        transport, _ = take_transport(request)

        self.assertEqual((transport.producer, transport.producerState), (None, "producing"))

    def test_transport_that_cannot_pause(self) -> None:
        """A transport without backpressure, at which the channel is not registered, is taken as well."""
        pipe: Any = Pipe()
        channel: Any = self.site.buildProtocol(None)

        channel.makeConnection(pipe)

        self.assertEqual(take_channel(channel), (pipe, b""))


class Pipe:
    """The least that HTTP needs of a transport."""

    def write(self, data: bytes) -> None: ...


class FallbackTests(TakeoverTests):
    """The same on a Twisted that has no ``_dataBuffer``: only bytes from before the answer are gone."""

    def setUp(self) -> None:
        super().setUp()
        hide(self, HTTPChannel, "_dataBuffer")

    def asked(self, behind: bytes = b"", wire: Wire | None = None) -> tuple[Wire, Any]:
        return super().asked(wire=wire)

    def test_check(self) -> None:
        """The check names the missing attribute."""
        self.assertEqual(check(), ["HTTPChannel._dataBuffer"])

    def test_leftover(self) -> None:
        """A client that waits loses nothing: frames in the next reads reach the new owner."""
        wire, request = self.asked()
        protocol = Recorder(b"hello")

        give_transport(*take_transport(request)[:1], protocol, b"")
        wire.protocol.dataReceived(b"one")

        self.assertEqual(protocol.received, b"one")

    def test_new_owner(self) -> None:
        """Without the private attribute the new owner gets later bytes, may write, and may register as producer."""
        wire, request = self.asked()
        protocol = Recorder(b"hello")
        transport, leftover = take_transport(request)

        give_transport(transport, protocol, leftover)
        transport.registerProducer(protocol, True)
        wire.protocol.dataReceived(b"two")

        self.assertEqual((leftover, protocol.received, wire.value()), (b"", b"two", b"hello"))

    def test_reads_on(self) -> None:
        """Reading that HTTP has stopped goes on."""
        wire, request = self.asked()

        wire.pauseProducing()
        take_transport(request)

        self.assertEqual(wire.producerState, "producing")


class PinTests(SynchronousTestCase):
    """What is used of Twisted and promised by no interface.  A failure here tells what to look at after an upgrade."""

    def test_channel(self) -> None:
        """Twisted's HTTP channel has the private attributes that the takeover uses, with these values."""
        channel: Any = HTTPChannel()

        self.assertEqual((channel._dataBuffer, channel.requests), ([], []))
        self.assertFalse(channel._handlingRequest)
        self.assertIsNone(channel._abortingCall)
        self.assertEqual((channel._receivedHeaderSize, channel._receivedHeaderCount), (0, 0))
        self.assertEqual((channel.persistent, channel.length), (1, 0))
        self.assertTrue(callable(channel.forceAbortClient))

        transport = StringTransport()
        channel.timeOut = None
        channel.makeConnection(transport)

        self.assertIs(transport.producer, channel)

    def test_line_receiver(self) -> None:
        """``_buffer`` holds what has not been parsed, ``clearLineBuffer`` takes it."""
        receiver: Any = LineReceiver()
        receiver._buffer = b"rest"
        self.assertEqual((receiver.clearLineBuffer(), receiver._buffer), (b"rest", b""))

    def test_our_overrides_exist(self) -> None:
        """Methods of the channel that we replace: a renamed one would never be called."""
        for name in (
            "_respondToBadRequestAndDisconnect",
            "allContentReceived",
            "allHeadersReceived",
            "callLater",
            "connectionLost",
            "connectionMade",
            "dataReceived",
            "lineLengthExceeded",
            "requestDone",
        ):
            self.assertTrue(hasattr(HTTPChannel, name), name)
            self.assertIn(name, ChatChannel.__dict__)
        for name in ("process", "handleContentChunk"):
            self.assertTrue(hasattr(Request, name), name)
            self.assertIn(name, ChatRequest.__dict__)
        for name in ("totalHeadersSize", "maxHeaders", "MAX_LENGTH", "abortTimeout", "timeOut", "requestFactory"):
            self.assertTrue(hasattr(HTTPChannel, name), name)

    def test_no_timeout_means_no_timer(self) -> None:
        """We keep time ourselves: ``timeOut = None`` must start nothing."""
        self.assertIsNone(ChatChannel.timeOut)

        mixin = TimeoutMixin()
        mixin.callLater = lambda *a: self.fail("a timer")  # type: ignore[method-assign]
        mixin.setTimeout(None)

    def test_wrappers(self) -> None:
        """Both wrappers of Twisted's endpoints deliver to ``wrappedProtocol``."""
        self.assertTrue(issubclass(TLSMemoryBIOProtocol, ProtocolWrapper))
        self.assertTrue(issubclass(HAProxyProtocolWrapper, ProtocolWrapper))
        self.assertTrue(issubclass(HAProxyWrappingFactory, WrappingFactory))

        inner = Recorder(b"")
        self.assertIs(ProtocolWrapper(WrappingFactory(Factory()), inner).wrappedProtocol, inner)

    def test_tests_transport_is_one_that_can_pause(self) -> None:
        """The transport of these tests can pause, as real ones."""
        self.assertIn(IPushProducer, providedBy(StringTransport()))
