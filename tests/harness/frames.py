"""The frames in what a server has written, taken apart without the code that is tested."""

from __future__ import annotations


def frame_at(wire: bytes, at: int) -> tuple[int, bytes]:
    """Where the frame that begins there ends (beyond the wire if it is not whole), and its payload."""
    if at + 2 > len(wire):
        return len(wire) + 1, b""
    length, start = wire[at + 1], at + 2
    if length >= 126:
        size = 2 if length == 126 else 8
        if start + size > len(wire):
            return len(wire) + 1, b""
        length, start = int.from_bytes(wire[start : start + size], "big"), start + size
    return start + length, wire[start : start + length]
