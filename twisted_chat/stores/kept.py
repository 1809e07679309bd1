"""What a store keeps beside its logs, as an export has it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from twisted_chat.events import Cursor
from twisted_chat.interfaces import TokenRecord


class Identity(Struct, frozen=True):
    """What makes a database the continuation of another one.

    :ivar epoch: what cursors of clients name.
    :ivar secret: 32 bytes; the ids of guests follow from it.
    """

    epoch: Annotated[str, Meta(pattern="^[0-9A-Z]{1,32}$")]
    secret: Annotated[bytes, Meta(min_length=32, max_length=32)]

    def __repr__(self) -> str:
        return f"<Identity {self.epoch}>"


class KeptToken(Struct, frozen=True):
    """A token with the SHA-256 of its secret."""

    record: TokenRecord
    secret_hash: bytes


class ReadMark(Struct, frozen=True):
    """How far a person has read a room."""

    user: str
    room: str
    seq: int


class KeptCursor(Struct, frozen=True):
    """How far a reader that is a program has come in a room."""

    reader: str
    room: str
    cursor: Cursor
