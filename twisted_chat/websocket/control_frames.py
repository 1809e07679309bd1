"""Bound what frames of one peer cost that carry next to nothing: pings, pongs and small fragments.

In:   the pings and pongs of one connection, as they are read, and its small fragments.
Out:  the pongs to write, those of adjacent pings together; or the verdict that these are too many.

A peer may send a ping whenever it likes (RFC 6455 section 5.5.2), and 64 KiB hold 10,000 of them.  Clients send one in 20 seconds.
Likewise a message may have any number of fragments (section 5.4), also empty ones, so that it need never end; each takes 10 us.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_chat.core.ratelimit import TokenBucket
from twisted_chat.protocol.frames import FIN_PONG, frame

#: Pings and pongs that may come at once: those of an hour, which a proxy or a sleeping machine has held back.
CONTROL_FRAMES_BURST = 200
#: Pings and pongs a second for longer.
CONTROL_FRAMES_PER_SECOND = 20.0
#: Bytes below which a fragment that is not the last one is small.  Programs that send in fragments send kilobytes.
SMALL_FRAGMENT_BYTES = 64
#: Small fragments that may come at once, and per second.
SMALL_FRAGMENTS_BURST = 5_000
SMALL_FRAGMENTS_PER_SECOND = 250.0


class ControlFrames:
    """The pings and pongs of one connection.

    :param now: the clock, in seconds.
    """

    __slots__ = ("_bucket", "_fragments", "_pongs")

    def __init__(self, now: Callable[[], float]) -> None:
        self._bucket = TokenBucket(CONTROL_FRAMES_BURST, CONTROL_FRAMES_PER_SECOND, now)
        self._fragments = TokenBucket(SMALL_FRAGMENTS_BURST, SMALL_FRAGMENTS_PER_SECOND, now)
        self._pongs: list[bytes] = []

    def admit_one(self) -> bool:
        """Count one ping or pong; False if it is one too many."""
        return _admit(self._bucket)

    def admit_fragment(self) -> bool:
        """Count one small fragment; False if it is one too many."""
        return _admit(self._fragments)

    def answer_ping(self, payload: bytes) -> None:
        """Make the pong (RFC 6455 section 5.5.3), to be written with those of the pings beside it."""
        self._pongs.append(frame(FIN_PONG, payload))

    def take_pongs(self) -> bytes:
        """The pongs that have not been written yet, as one write; empty if there are none."""
        pongs, self._pongs = self._pongs, []
        return b"".join(pongs)


def _admit(bucket: TokenBucket) -> bool:
    if bucket.available() < 1:
        return False
    bucket.take(1)
    return True
