"""permessage-deflate: which offers are accepted, with how much memory, and how far a message is inflated."""

from __future__ import annotations

import zlib
from typing import Any

from autobahn.websocket import compress_deflate
from autobahn.websocket.compress import PerMessageDeflateResponse
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.ws_memory import CLOSE, CONTINUATION, TEXT, Connection, client_frame, close_payload, server_frames, use_clock
from twisted_chat.client.websocket import SocketFactory
from twisted_chat.limits import Limits
from twisted_chat.websocket.factory import accept

LIMITS = Limits(frame_bytes=65_536)


class CompressionTests(SynchronousTestCase):
    """Which offers of permessage-deflate are taken, and with how much memory."""

    def setUp(self) -> None:
        self.reactor = use_clock(self)

    def answer(self, *lines: bytes) -> str | None:
        accepted = accept(lines, 65_536)
        return None if accepted is None else accepted.get_extension_string()

    def test_offers(self) -> None:
        """Each offer of permessage-deflate gets the answer of RFC 7692, or none if it cannot be met."""
        # Our own window and that we forget it need not be said (RFC 7692 section 7.1); what the client has to keep to must be.
        small = "permessage-deflate; client_no_context_takeover"
        for offer, expected in (
            (b"permessage-deflate", small),
            (b"Permessage-Deflate", small),
            (b"permessage-deflate; client_max_window_bits", small + "; client_max_window_bits=12"),
            (b'permessage-deflate; client_max_window_bits="15"', small + "; client_max_window_bits=12"),
            (b"permessage-deflate; client_max_window_bits=10", small + "; client_max_window_bits=10"),
            (b"permessage-deflate; client_no_context_takeover", small),
            (b"permessage-deflate; server_no_context_takeover", small + "; server_no_context_takeover"),
            (b"permessage-deflate; server_max_window_bits=15", small + "; server_max_window_bits=15"),
            (b"permessage-deflate; server_max_window_bits=9", None),
            (b"permessage-deflate; server_max_window_bits=9, permessage-deflate", small),
            (b"permessage-deflate; unheard_of", None),
            (b"permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
            (b"permessage-deflate; client_max_window_bits=99", None),
            (b"x-webkit-deflate-frame, permessage-deflate", small),
            (b"bbf-usp-protocol", None),
            (b"", None),
            (b"permessage-deflate; \xff", None),
        ):
            got = self.answer(offer)
            self.assertEqual(got and set(got.split("; ")), expected and set(expected.split("; ")), offer)

    def test_several_lines(self) -> None:
        """The offer may stand in one of several headers."""
        self.assertIsNotNone(self.answer(b"x-other", b"permessage-deflate"))

    def test_off(self) -> None:
        """Without the setting an offer is not accepted."""
        connection = Connection(self.reactor, offer=b"permessage-deflate").open()
        self.assertNotIn(b"Extensions", connection.head)
        self.assertFalse(connection.link.deflated)

    def test_on(self) -> None:
        """With the setting an offer is accepted, and the RFC's example is inflated."""
        connection = Connection(self.reactor, compression=True, offer=b"permessage-deflate").open()

        self.assertIn(b"\r\nSec-WebSocket-Extensions: permessage-deflate; ", connection.head)
        self.assertTrue(connection.link.deflated)

        # RFC 7692 section 7.2.3.1.
        connection.deliver(client_frame(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=4))
        self.assertEqual(connection.session.messages, [(False, b"Hello")])


class BombTests(SynchronousTestCase):
    """A message that inflates to more than is allowed is refused before it has."""

    def setUp(self) -> None:
        self.inflated = 0
        self.patch(compress_deflate, "zlib", self)
        self.connection = Connection(use_clock(self), LIMITS, compression=True, offer=b"permessage-deflate").open()

    def __getattr__(self, name: str) -> Any:
        """Stand in for the module ``zlib`` that Autobahn uses."""
        return getattr(zlib, name)

    def decompressobj(self, *arguments: Any) -> Counting:
        return Counting(self, zlib.decompressobj(*arguments))

    def refuse(self, *frames: bytes) -> None:
        """The connection ends with 1009, and no message has come."""
        sent = self.connection.deliver(b"".join(frames))
        ((opcode, payload),) = server_frames(sent)
        self.assertEqual((opcode, payload[:2]), (CLOSE, close_payload(1009)))
        self.assertEqual(self.connection.session.messages, [])

    def test_one_frame(self) -> None:
        """58 kB on the wire that would be 60 MB: at most the largest message is inflated."""
        bomb = deflated(bytes(60_000_000))

        self.assertLess(len(bomb), LIMITS.frame_bytes)

        self.refuse(client_frame(TEXT, bomb, rsv=4))

        self.assertLessEqual(self.inflated, LIMITS.frame_bytes + 1)
        self.assertGreater(self.inflated, 0)

    def test_in_fragments(self) -> None:
        """The bound is for the whole message, not for each of its frames."""
        bomb = deflated(bytes(60_000_000))
        pieces = [bomb[at : at + 40] for at in range(0, len(bomb), 40)]
        first, *middle, last = pieces

        self.refuse(
            client_frame(TEXT, first, rsv=4, fin=False),
            *(client_frame(CONTINUATION, piece, fin=False) for piece in middle[:100]),
        )

        # Autobahn inflates a few bytes of each frame that still comes.
        self.assertLessEqual(self.inflated, LIMITS.frame_bytes + 1_000)

    def test_in_bytes(self) -> None:
        """A compressed message is inflated no further than its bound, also when it comes byte by byte."""
        for byte in client_frame(TEXT, deflated(bytes(1_000_000)), rsv=4):
            self.connection.deliver(bytes([byte]))
        self.assertLessEqual(self.inflated, LIMITS.frame_bytes + 1_000)
        self.assertEqual(self.connection.session.messages, [])

    def test_as_large_as_allowed(self) -> None:
        """A message that inflates to exactly the limit is accepted."""
        text = b"x" * LIMITS.frame_bytes

        self.connection.deliver(client_frame(TEXT, deflated(text), rsv=4))

        self.assertEqual(self.connection.session.messages, [(False, text)])
        self.assertEqual(self.inflated, len(text))

    def test_a_few_bytes_more(self) -> None:
        """Autobahn would drop these bytes and deliver the rest of the message."""
        self.refuse(client_frame(TEXT, deflated(b"x" * (LIMITS.frame_bytes + 1)), rsv=4))

        for more in range(2, 260, 16):
            self.connection = Connection(use_clock(self), LIMITS, compression=True, offer=b"permessage-deflate").open()
            self.refuse(client_frame(TEXT, deflated(b"x" * (LIMITS.frame_bytes + more)), rsv=4))

    def test_fragments_without_compression(self) -> None:
        """The exact bound of a message that comes in fragments."""
        half = b"x" * (LIMITS.frame_bytes // 2)

        self.connection.deliver(client_frame(TEXT, half, fin=False) + client_frame(CONTINUATION, half))

        self.assertEqual(self.connection.session.messages, [(False, half + half)])

        self.connection.session.messages.clear()

        self.refuse(client_frame(TEXT, half, fin=False), client_frame(CONTINUATION, half + b"x"))

    def test_bounds_of_autobahn(self) -> None:
        """Both bounds that Autobahn has are set: of the extension, and of the protocol."""
        protocol: Any = self.connection.protocol
        self.assertEqual(protocol.accepted.max_message_size, LIMITS.frame_bytes + 1)
        self.assertEqual(protocol.maxMessagePayloadSize, LIMITS.frame_bytes + 1)


class Counting:
    """A decompressor whose output is counted."""

    def __init__(self, test: BombTests, decompressor: Any) -> None:
        self.test = test
        self.decompressor = decompressor

    def decompress(self, *arguments: Any) -> bytes:
        data: bytes = self.decompressor.decompress(*arguments)
        self.test.inflated += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decompressor, name)


def deflated(payload: bytes) -> bytes:
    """RFC 7692 section 7.2.1."""
    deflate = zlib.compressobj(9, wbits=-12)
    return (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


class ClientTests(SynchronousTestCase):
    """The client offers no compression, so nothing that it inflates needs a bound."""

    def test_offers_none(self) -> None:
        """The client offers no compression and accepts none."""
        nowhere: Any = None
        factory: Any = SocketFactory(nowhere, use_clock(self))

        self.assertEqual(factory.perMessageCompressionOffers, [])
        self.assertIsNone(factory.perMessageCompressionAccept(PerMessageDeflateResponse(15, True, 15, True)))
