"""What was settled in HTTP before a connection becomes a WebSocket (design decision 8)."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from twisted_chat.users import User


class Dialect(Enum):
    """How a client talks; the value is the subprotocol's name (``Sec-WebSocket-Protocol``)."""

    TEXT = "chat.v1.text"
    JSON = "chat.v1.json"


class Admission(Struct, frozen=True, kw_only=True):
    """The right to one connection.

    :ivar subprotocol: what the 101 answers in ``Sec-WebSocket-Protocol``; None: the client offered nothing.
    :ivar room: from the path, in its one form; what a plain client is in.
    :ivar address: whom the limits count: the peer, or what a trusted proxy says it is.
    :ivar names: a plain client wants ``bob: `` before each line (``?names=1``).
    :ivar history: how many of the last messages a plain client wants first (``?history=20``).
    """

    user: User
    dialect: Dialect
    room: str
    address: str
    subprotocol: str | None = None
    names: bool = False
    history: int = 0
