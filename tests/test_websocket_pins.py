"""What the WebSocket edge uses of Autobahn and no documentation promises: each named here, with what breaks without it.

A failure tells what to look at after an upgrade.  :class:`CompletenessTests` reads the edge's code and fails if it touches
anything of the kind that is not named here.  Transports have ``tests/test_internals_sockets.py``.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.protocol import WebSocketProtocol
from autobahn.websocket.protocol import WebSocketServerProtocol as ServerRules
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.http_memory import KEY, handshake
from tests.harness.ws_memory import ADMISSION, PING, TEXT, Connection, FakeSocket, SocketTransport, client_frame, use_clock
from twisted_chat.interfaces import Handshake
from twisted_chat.limits import Limits
from twisted_chat.protocol.frames import DEFLATE_WINDOW_BITS
from twisted_chat.websocket.connection import ChatWebSocket
from twisted_chat.websocket.factory import CLOSE_SECONDS

#: Of Autobahn's protocol: what is read, set or called on ourselves.
PROTOCOL = {
    "_connectionMade": "makes the state for unusual frames",
    "_connectionLost": "cancels the timer of the closing handshake",
    "_dataReceived": "takes unusual frames",
    "_perMessageCompress": "the extension, made by its handshake, which we do not use",
    "current_frame": "a frame under way, with its length; the fast path must keep away until it is over",
    "current_frame_masker": "how much of that frame has come (pointer)",
    "data": "the part of a header that has come",
    "inside_message": "a fragmented message under way",
    "failedByMe": "the connection has failed, so what still comes is no message",
    "message_data": "the payload of the message under way",
    "message_is_binary": "its kind",
    "onMessage": "replaced: gives unusual messages to the session",
    "onMessageFrameBegin": "extended: small fragments are counted",
    "onMessageEnd": "replaced: without a Deferred for each message",
    "onPing": "replaced: pings are counted, and answered together",
    "onPong": "replaced: pongs are counted",
    "sendCloseFrame": "sends any code (sendClose refuses ours) and changes the state; extended to tell the session",
    "wasClean": "both close frames have come",
    "wasCloseHandshakeTimeout": "the peer has not answered the close frame in time",
    "dropConnection": "extended: ends in order, without a reset, what both sides have closed",
    "sendData": "replaced: everything takes one way out",
    "state": "whether messages may be given and frames sent",
    "websocket_version": "13 means: whole frames are collected",
    "maxFramePayloadSize": "the limit, from the configuration",
    "CONFIG_ATTRS": "what _connectionMade copies and formats",
    "peer": "for its log lines",
    "_transport_details": "made by its connectionMade, which is not called",
    "log": "replaced: Autobahn's own costs 1 kB for each class",
    "unregisterProducer": "called when it drops a connection; TLS would wait for the producer",
}


def plain_protocol() -> Any:
    """Autobahn alone, after its own handshake."""
    factory: Any = WebSocketServerFactory()
    factory.protocol = WebSocketServerProtocol
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(SocketTransport(FakeSocket(), protocol, MemoryReactorClock()))  # type: ignore[arg-type]
    protocol.dataReceived(handshake())
    assert protocol.state == WebSocketProtocol.STATE_OPEN
    return protocol


class CompletenessTests(SynchronousTestCase):
    def test_all_named(self) -> None:
        """Each attribute of ``self`` that is Autobahn's is in the table above."""
        tree = ast.parse(Path(inspect.getfile(ChatWebSocket)).read_text())
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        }
        self.assertEqual((used & self.autobahn_names()) - {"transport", "factory", "dataReceived"} - set(PROTOCOL), set())

    def autobahn_names(self) -> set[str]:
        protocol = plain_protocol()
        protocol.dataReceived(client_frame(TEXT, b"begun", fin=False) + client_frame(TEXT, b"x")[:7])
        return {*dir(protocol), *vars(protocol)} - set(dir(object))

    def test_nothing_named_in_vain(self) -> None:
        """What is named is still used, or the tables would become a museum."""
        source = Path(inspect.getfile(ChatWebSocket)).read_text()
        self.assertEqual([name for name in PROTOCOL if name not in source], [])


class AutobahnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.connection = Connection(use_clock(self)).open()
        self.protocol: Any = self.connection.protocol

    def awake(self) -> Any:
        self.connection.deliver(client_frame(TEXT, b"a", fin=False) + client_frame(0, b"b"))
        self.connection.session.messages.clear()
        return self.protocol

    def test_names(self) -> None:
        """Autobahn has the private attributes that the connection uses."""
        protocol = self.awake()
        self.connection.deliver(client_frame(TEXT, b"one", fin=False) + client_frame(0, b"two")[:7])
        for name, why in PROTOCOL.items():
            self.assertTrue(hasattr(protocol, name), f"{name}: {why}")

    def test_frame_under_way(self) -> None:
        """Its length, how much has come, and that we are inside a message."""
        self.connection.deliver(client_frame(TEXT, b"one", fin=False) + client_frame(0, b"three")[:8])
        protocol = self.protocol

        self.assertEqual((protocol.current_frame.length, protocol.current_frame_masker.pointer()), (5, 2))
        self.assertIs(protocol.inside_message, True)
        self.assertEqual(protocol.message_data, [b"one"])

        self.connection.deliver(client_frame(0, b"three")[8:])
        self.assertEqual((protocol.current_frame, protocol.inside_message, protocol.data), (None, False, b""))
        self.assertEqual(self.connection.session.messages, [(False, b"onethree")])

    def test_header_under_way(self) -> None:
        """Autobahn keeps an incomplete header in its buffer."""
        self.connection.deliver(client_frame(PING, b"x")[:3])
        self.assertEqual((self.protocol.current_frame, self.protocol.data), (None, client_frame(PING, b"x")[:3]))

    def test_states(self) -> None:
        """The numbers that we compare with, and what they start as."""
        states = [getattr(WebSocketProtocol, f"STATE_{name}") for name in ("CLOSED", "CONNECTING", "CLOSING", "OPEN")]

        self.assertEqual(states, [0, 1, 2, 3])
        self.assertEqual(self.awake().state, WebSocketProtocol.STATE_OPEN)

        self.connection.link.close(1012, "restart")
        self.assertEqual(self.protocol.state, WebSocketProtocol.STATE_CLOSING)

    def test_made_without_its_handshake(self) -> None:
        """Everything that Autobahn's methods look at is there after ``_awaken``: nothing is left that only its handshake makes."""
        protocol, plain = self.awake(), plain_protocol()
        only_there = {name for name in vars(plain) if not hasattr(protocol, name)}
        handshake_only = {
            name for name in only_there if name.startswith(("http_", "websocket_", "_wskey")) or name == "trustedProxies"
        }

        self.assertEqual(only_there - handshake_only - {"messages"}, set())

    def test_configuration_by_class(self) -> None:
        """``_connectionMade`` copies what ``CONFIG_ATTRS`` names, and ours names nothing."""
        self.assertEqual(ChatWebSocket.CONFIG_ATTRS, [])
        self.assertIn("for configAttr in self.CONFIG_ATTRS", inspect.getsource(WebSocketProtocol._connectionMade))
        self.assertNotIn("maxMessagePayloadSize", vars(self.awake()))

    def test_overridden(self) -> None:
        """Methods that we replace or extend: Autobahn calls them by these names, with these arguments."""
        for name in (
            "onMessage",
            "onMessageFrameBegin",
            "onMessageEnd",
            "onPing",
            "onPong",
            "sendData",
            "sendCloseFrame",
            "dropConnection",
            "unregisterProducer",
        ):
            ours, theirs = getattr(ChatWebSocket, name), getattr(WebSocketServerProtocol, name)
            self.assertIsNot(ours, theirs)
            self.assertEqual([*inspect.signature(ours).parameters], [*inspect.signature(theirs).parameters], name)

        self.assertIn("self.sendData(raw, sync, chopsize)", inspect.getsource(WebSocketProtocol.sendFrame))
        self.assertIn("self.unregisterProducer()", inspect.getsource(WebSocketProtocol.dropConnection))
        self.assertIn("self.onMessageFrameBegin(length)", inspect.getsource(WebSocketServerProtocol._onMessageFrameBegin))
        self.assertIn("self.onMessageEnd()", inspect.getsource(WebSocketServerProtocol._onMessageEnd))

    def test_send_close_refuses(self) -> None:
        """Why we send close frames ourselves."""
        with self.assertRaises(Exception):  # noqa: B017
            plain_protocol().sendClose(1012)

    def test_no_delay_has_no_effect_by_autobahn(self) -> None:
        """Why we set it ourselves; when this fails, it has been repaired."""
        self.assertNotIn("tcpNoDelay", vars(WebSocketServerProtocol))

        socket = plain_protocol().transport.getHandle()
        self.assertEqual(socket.options, {})
        self.assertEqual(self.connection.no_delay, 1)

    def test_closing_timer(self) -> None:
        """Where Autobahn is awake, a call by the factory's ``_batched_timer``, cancelled when the connection is lost."""
        self.connection.deliver(client_frame(TEXT, b"x", fin=False))
        self.connection.link.close(1012, "restart")

        self.assertEqual(self.protocol.closeHandshakeTimeout, CLOSE_SECONDS)
        self.assertIsNotNone(self.protocol.closeHandshakeTimeoutCall)

        self.connection.lose()
        self.connection.reactor.pump([1] * (CLOSE_SECONDS + 2))

        self.assertEqual(self.connection.session.calls, ["congested", "lost"])

    def test_deflate(self) -> None:
        """Offer, answer and the extension made of them, without context takeover on our side."""
        offer = PerMessageDeflateOffer.parse({"client_max_window_bits": [True], "server_max_window_bits": ["12"]})

        self.assertEqual((offer.accept_max_window_bits, offer.accept_no_context_takeover), (True, True))
        self.assertEqual(offer.request_max_window_bits, 12)

        accepted = PerMessageDeflateOfferAccept(
            offer, no_context_takeover=True, window_bits=DEFLATE_WINDOW_BITS, mem_level=5, max_message_size=10_000
        )
        made = PerMessageDeflate.create_from_offer_accept(True, accepted)

        self.assertEqual(
            (made.server_max_window_bits, made.server_no_context_takeover, made.mem_level, made.max_message_size),
            (DEFLATE_WINDOW_BITS, True, 5, 10_000),
        )


class OptionTests(SynchronousTestCase):
    """Autobahn's defaults are unlimited; ours are read back from a protocol that is about to be used."""

    def test_read_back(self) -> None:
        """Autobahn has all options as set here, and no unknown one."""
        limits = Limits(frame_bytes=10_000)
        protocol: Any = Connection(use_clock(self), limits).protocol
        expected = {
            "versions": [13],
            "webStatus": False,
            "utf8validateIncoming": True,
            "maskServerFrames": False,
            "requireMaskedClientFrames": True,
            "applyMask": True,
            "maxFramePayloadSize": 10_000,
            "maxMessagePayloadSize": 10_001,
            "autoFragmentSize": 0,
            "failByDrop": False,
            "echoCloseCodeReason": True,
            "openHandshakeTimeout": 0,
            "closeHandshakeTimeout": CLOSE_SECONDS,
            "tcpNoDelay": True,
            "autoPingInterval": 0,
            "autoPingTimeout": 0,
            "serveFlashSocketPolicy": False,
            "allowedOrigins": [],
            "allowNullOrigin": False,
            "maxConnections": 0,
            "trustXForwardedFor": 0,
            "logOctets": False,
            "logFrames": False,
            "trackTimings": False,
        }

        self.assertEqual({name: getattr(protocol, name) for name in expected}, expected)
        # Timers round to whole seconds and may fire a second early: nothing shorter than this would hold.
        self.assertGreaterEqual(CLOSE_SECONDS, 5)

        unread = {"allowedOriginsPatterns", "perMessageCompressionAccept", "flashSocketPolicy"}
        left = set(ServerRules.CONFIG_ATTRS) - set(expected) - unread

        self.assertEqual(left, {"autoPingSize", "autoPingRestartOnAnyTraffic", "logOctets"} & left, "an option that is new")

    def test_all_by_class(self) -> None:
        """Every attribute that Autobahn would copy for each connection is on the class instead."""
        protocol = Connection(use_clock(self)).factory.open_socket(ADMISSION, Handshake(KEY))
        for name in ServerRules.CONFIG_ATTRS:
            self.assertIn(name, vars(type(protocol)))
