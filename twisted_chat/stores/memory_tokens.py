"""The tokens of the store in memory."""

from __future__ import annotations

from msgspec.structs import replace

from twisted_chat.errors import Conflict
from twisted_chat.store_contract import Revocations, TokenRecord


class MemoryTokens:
    """All tokens and sessions, by id and by the hash of their secrets."""

    def __init__(self) -> None:
        self.records: dict[str, TokenRecord] = {}
        self._ids: dict[bytes, str] = {}
        #: The ids of revoked ones in the order of their revocation.
        self._revoked: list[str] = []

    def create(self, record: TokenRecord, secret_hash: bytes) -> None:
        if record.id in self.records or secret_hash in self._ids:
            raise Conflict("there is such a token already")
        self.records[record.id] = record
        if record.revoked is not None:
            self._revoked.append(record.id)
        self._ids[secret_hash] = record.id

    def find(self, secret_hash: bytes) -> TokenRecord | None:
        return self.records.get(self._ids.get(secret_hash, ""))

    def every(self) -> list[TokenRecord]:
        tokens = [record for record in self.records.values() if record.kind == "token"]
        return sorted(tokens, key=lambda record: record.created)

    def open_ones(self, user: str) -> list[TokenRecord]:
        """Those of that user that are not revoked."""
        found = [record for record in self.records.values() if record.user == user and record.revoked is None]
        return sorted(found, key=lambda record: (record.created, record.id))

    def revoke(self, token_id: str, now_ms: int) -> TokenRecord | None:
        record = self.records.get(token_id)
        if record is not None and record.revoked is None:
            record = self.records[token_id] = replace(record, revoked=now_ms)
            self._revoked.append(token_id)
        return record

    def revocations(self, since: int, limit: int) -> Revocations:
        tokens = tuple(self._revoked[since : since + limit])
        return Revocations(since + len(tokens), tokens)
