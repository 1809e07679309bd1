"""A row of the table of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.json import Decoder

from twisted_chat.store_tokens import TokenRecord

_decode_rights = Decoder(tuple[str, ...]).decode


def record_of(row: Sequence[Any]) -> TokenRecord:
    """The record of a row with the columns id, person, name, created, expires, revoked, rights, kind and label."""
    token_id, user, name, created, expires, revoked, rights, kind, label = row
    return TokenRecord(token_id, user, name, created, expires, revoked, _decode_rights(rights), kind, label)
