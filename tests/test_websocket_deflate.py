"""permessage-deflate: which offers are accepted, with how much memory, and how far a message is inflated."""

from __future__ import annotations

import zlib

from twisted.trial.unittest import SynchronousTestCase

from tests.ws_memory import CLOSE, TEXT, Connection, client_frame, close_payload, server_frames, use_clock
from twisted_chat.websocket.factory import accept


class CompressionTests(SynchronousTestCase):
    """Which offers of permessage-deflate are taken, and with how much memory."""

    def setUp(self) -> None:
        self.reactor = use_clock(self)

    def answer(self, *lines: bytes) -> str | None:
        accepted = accept(lines, 65_536)
        return None if accepted is None else accepted.get_extension_string()

    def test_offers(self) -> None:
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
        self.assertIsNotNone(self.answer(b"x-other", b"permessage-deflate"))

    def test_off(self) -> None:
        connection = Connection(self.reactor, offer=b"permessage-deflate").open()
        self.assertNotIn(b"Extensions", connection.head)
        self.assertFalse(connection.link.deflated)

    def test_on(self) -> None:
        connection = Connection(self.reactor, compression=True, offer=b"permessage-deflate").open()
        self.assertIn(b"\r\nSec-WebSocket-Extensions: permessage-deflate; ", connection.head)
        self.assertTrue(connection.link.deflated)
        # RFC 7692 section 7.2.3.1.
        connection.deliver(client_frame(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=4))
        self.assertEqual(connection.session.messages, [(False, b"Hello")])

    def test_bomb(self) -> None:
        """64 KiB on the wire may not become more in memory."""
        connection = Connection(self.reactor, compression=True, offer=b"permessage-deflate").open()
        deflate = zlib.compressobj(wbits=-12)
        bomb = deflate.compress(bytes(10_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)
        ((opcode, payload),) = server_frames(connection.deliver(client_frame(TEXT, bomb[:-4], rsv=4)))
        self.assertEqual((opcode, payload[:2]), (CLOSE, close_payload(1009)))
        self.assertEqual(connection.session.messages, [])
