"""One open connection as the rules see it: bytes out, and whether it takes more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

#: Gives bytes to the socket and answers how many it took; raises ``BlockingIOError`` if none, ``OSError`` if it is broken.
#: A transport that buffers by itself (TLS, HTTP) answers ``len(data)`` and says ``congested`` when it is full.
Send = Callable[[bytes], int]


class Connection(Protocol):
    """What an edge gives to a session.

    :ivar send: for readers at the head only; never called while ``congested``.
    :ivar paused: not read, on the session's wish, so that its silence means nothing.
    :ivar deflated: the peer agreed to compressed messages (RFC 7692, without context takeover).
    :ivar congested: unsent bytes are waiting.  When they are gone the edge calls ``session.drained()``.
    """

    congested: bool
    paused: bool
    deflated: bool

    @property
    def send(self) -> Send:
        """The same function for as long as the link is open."""

    def write(self, data: bytes) -> None:
        """Send all of ``data``, behind everything that waits; for the answers to one client, which it bounds itself."""

    def hold(self, rest: bytes) -> None:
        """``send`` took only a part of a frame: keep the rest of that one frame, and be congested until it has gone."""

    def pause(self) -> None:
        """Read no more from the peer until :meth:`resume`."""

    def resume(self) -> None:
        """Read again."""

    def ping(self) -> None:
        """Ask the peer for a sign of life that no program sees (a control frame)."""

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then the close code (RFC 6455 section 7.4), then end."""

    def abort(self) -> None:
        """End now; the peer is gone or does not read."""


class ConnectionListener(Protocol):
    """What a link calls: a session."""

    def congested(self) -> None:
        """The link has unsent bytes now."""

    def drained(self) -> None:
        """The link's unsent bytes are gone."""

    def lost(self) -> None:
        """The link has ended; nothing more is called."""
