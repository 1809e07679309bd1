"""WebSocket frames as a server sends them: unmasked, unfragmented (RFC 6455 section 5.2)."""

from __future__ import annotations

from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Sequence
from hashlib import sha1
from typing import Protocol
from zlib import Z_SYNC_FLUSH, compressobj

FIN_TEXT, FIN_BINARY, FIN_CLOSE, FIN_PING, FIN_PONG = 0x81, 0x82, 0x88, 0x89, 0x8A

#: The first reserved bit says that a message is compressed (RFC 7692 section 6).
_COMPRESSED = 0x40
#: Bytes of payload from which compressing is tried; below it hardly ever gains.
DEFLATE_FROM = 64
#: 2^12 bytes of window: Autobahn's default of 2^15 costs 277 kB a connection.
DEFLATE_WINDOW_BITS = 12
DEFLATE_MEMORY_LEVEL = 5

_SHORT_TEXT = tuple(bytes((FIN_TEXT, length)) for length in range(126))


def frame(first_byte: int, payload: bytes) -> bytes:
    """One whole frame."""
    length = len(payload)
    if length < 126:
        return bytes((first_byte, length)) + payload
    if length < 65536:
        return bytes((first_byte, 126)) + length.to_bytes(2, "big") + payload
    return bytes((first_byte, 127)) + length.to_bytes(8, "big") + payload


def text_frame(payload: bytes) -> bytes:
    """A text frame; short ones by table, half the time of :func:`frame`."""
    length = len(payload)
    return _SHORT_TEXT[length] + payload if length < 126 else frame(FIN_TEXT, payload)


def payloads(frames: bytes) -> list[bytes]:
    """What is in whole frames that :func:`frame` has made, for connections that carry messages in another way."""
    found = []
    at, end = 0, len(frames)
    while at < end:
        length, start = frames[at + 1], at + 2
        if length > 125:
            width = 2 if length == 126 else 8
            length, start = int.from_bytes(frames[start : start + width], "big"), start + width
        at = start + length
        found.append(frames[start:at])
    return found


class Framing(Protocol):
    """How payloads become frames on one kind of connection.

    :cvar short: by length, what goes before a payload of text; of what is longer than this, :meth:`text` makes the frame.
    """

    short: tuple[bytes, ...]

    def text(self, payload: bytes, /) -> bytes: ...

    def binary(self, payload: bytes, /) -> bytes: ...


class Bare:
    """Frames of connections without extensions."""

    short = _SHORT_TEXT
    text = staticmethod(text_frame)

    @staticmethod
    def binary(payload: bytes) -> bytes:
        return frame(FIN_BINARY, payload)


class Deflated:
    """Frames of connections with permessage-deflate without context takeover (RFC 7692 section 7.2.1).

    No message refers to an earlier one, so one compressed frame is right for every connection: compressing once per event,
    as encoding.
    """

    short = _SHORT_TEXT[:DEFLATE_FROM]

    @staticmethod
    def text(payload: bytes) -> bytes:
        return _deflated(FIN_TEXT, payload)

    @staticmethod
    def binary(payload: bytes) -> bytes:
        return _deflated(FIN_BINARY, payload)


def _deflated(first_byte: int, payload: bytes) -> bytes:
    if len(payload) < DEFLATE_FROM:
        return frame(first_byte, payload)
    compressor = compressobj(wbits=-DEFLATE_WINDOW_BITS, memLevel=DEFLATE_MEMORY_LEVEL)
    # An empty stored block ends the message and is not sent.
    small = (compressor.compress(payload) + compressor.flush(Z_SYNC_FLUSH))[:-4]
    return frame(first_byte | _COMPRESSED, small) if len(small) < len(payload) else frame(first_byte, payload)


BARE: Framing = Bare()
DEFLATED: Framing = Deflated()


# The answer to the opening handshake (RFC 6455 section 4.2.2)

#: RFC 6455 section 1.3: proves that the server knows WebSocket and does not merely echo.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def is_key(key: bytes) -> bool:
    """Whether this is 16 bytes in base64, as a ``Sec-WebSocket-Key`` must be."""
    try:
        return len(key) == 24 and len(a2b_base64(key, strict_mode=True)) == 16
    except Base64Error:
        return False


def accept_key(key: bytes) -> bytes:
    """The value of ``Sec-WebSocket-Accept`` for that ``Sec-WebSocket-Key``."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def switching_protocols(key: bytes, subprotocol: str | None = None, extensions: Sequence[str] = ()) -> bytes:
    """The whole head of the 101."""
    head = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept_key(key)
    )
    if subprotocol is not None:
        head += b"\r\nSec-WebSocket-Protocol: " + subprotocol.encode("ascii")
    if extensions:
        head += b"\r\nSec-WebSocket-Extensions: " + ", ".join(extensions).encode("ascii")
    return head + b"\r\n\r\n"
