"""The 101 and the key."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.protocol.frames import accept_key, is_key, switching_protocols


class HandshakeTests(SynchronousTestCase):
    def test_accept(self) -> None:
        """The accept value is that of the example in RFC 6455 section 1.3."""
        self.assertEqual(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")

    def test_keys(self) -> None:
        """A key is the base64 of exactly 16 bytes."""
        self.assertTrue(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="))
        for key in (
            b"",
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25jZQ=",
            b"dGhlIHNhbXBsZSBub25jZQ===",
            b"dGhlIHNhbXBsZSBub25jZQ==, x",
            b"dGhlIHNhbXBsZSBub25j",
            b"dGhlIHNhbXBsZSBub25jZXp6",
            b"dGhlIHNhbXBsZSBub25j!Q==",
            b"====AAAAAAAAAAAAAAAAAAAA",
            "dGhlIHNhbXBsZSBub25jZQ\u00e9=".encode(),
        ):
            self.assertFalse(is_key(key), key)

    def test_head(self) -> None:
        """The answer has the accept value of RFC 6455, the subprotocol and the extensions."""
        self.assertEqual(
            switching_protocols(b"dGhlIHNhbXBsZSBub25jZQ==", "chat.v1.json", ["permessage-deflate", "x"]),
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Upgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
            b"Sec-WebSocket-Protocol: chat.v1.json\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate, x\r\n\r\n",
        )
        self.assertTrue(switching_protocols(b"dGhlIHNhbXBsZSBub25jZQ==").endswith(b"xOo=\r\n\r\n"))
