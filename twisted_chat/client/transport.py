"""What a way to the server looks like to the connection that uses it: sockets, who listens to them, and refusals.

:mod:`twisted_chat.client.websocket` and :mod:`twisted_chat.client.http_session` are the two ways.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred

from twisted_chat.client.errors import ConnectionProblem, HandshakeRefused
from twisted_chat.protocol.replies import ErrorBody

#: Bytes of an answer that refuses something, without its head: what our server says is some hundred bytes.
ANSWER_BYTES = 16_384
#: Bytes of a message from the server.  It joins events to 64 KiB; a page of history may have 200 messages of 16 KiB.
MESSAGE_BYTES = 16_777_216

#: How frames travel.
TransportName = Literal["websocket", "http"]


class Socket(Protocol):
    """One connection's way for frames."""

    def send_text(self, text: bytes) -> None:
        """Send one frame; while the connection closes it goes nowhere, and :meth:`SocketListener.lost` is about to say so."""

    def say_goodbye(self) -> None:
        """Send what waits, and that the client goes for good."""

    def give_up(self, problem: ConnectionProblem) -> None:
        """End now; ``problem`` is the reason unless there is one already."""


class SocketListener(Protocol):
    """What a socket tells."""

    def connected(self, socket: Socket) -> None:
        """There is something to end; what comes before the first frame begins."""

    def opened(self) -> None:
        """Frames may be sent."""

    def heard(self) -> None:
        """Bytes came."""

    def received(self, text: bytes) -> None:
        """A whole frame."""

    def lost(self, problem: ConnectionProblem) -> None:
        """It has ended, or never began; nothing more is called."""


class Transport(Protocol):
    """A way to the server."""

    @property
    def name(self) -> TransportName:
        """What programs are told."""

    def connect(self, listener: SocketListener, token: str | None) -> Deferred[Any]:
        """Begin a connection; fails if there is nobody at all, else ``listener`` is told how it goes."""


class _Refused(Struct):
    error: ErrorBody


def refused(status: int, body: bytes, after: float) -> HandshakeRefused:
    """The problem that an HTTP answer is.

    :param after: seconds of ``Retry-After``; the body knows it more exactly.
    """
    try:
        error: ErrorBody | None = msgspec.json.decode(body, type=_Refused).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = None
    if error is not None and isinstance(error.retry_after_ms, int):
        after = error.retry_after_ms / 1000
    return HandshakeRefused(status, error, after)
