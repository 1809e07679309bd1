"""What a store has besides its logs, as it is in an export."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from twisted_chat.events import Cursor
from twisted_chat.store_contract import StoreError, TokenRecord
from twisted_chat.stores.random_ids import BATCH_LENGTH


class Identity(Struct, frozen=True):
    """What makes a database the continuation of another one.

    :ivar epoch: the epoch in the cursors of clients.
    :ivar secret: 32 bytes, from which the ids of guests are derived.
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


def batch_of(event_id: str, seq: int) -> str:
    """The batch in the id of an imported event; :class:`StoreError` if the id does not have the form of an event's id."""
    batch = event_id.removesuffix(f"-{seq}")
    if batch == event_id or not batch or len(batch) > 4 * BATCH_LENGTH:
        raise StoreError(f"event {seq}: the id {event_id!a} does not have the form of an event's id")
    return batch
