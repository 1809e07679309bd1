"""The PostgreSQL store keeps the store contract over restarts."""

from __future__ import annotations

from tests import store_contract
from tests.harness.postgresql import DatabaseCase
from twisted_chat.stores.postgresql import address, erasing, writing
from twisted_chat.stores.postgresql.store import PostgreSQLStore
from twisted_chat.stores.workers import AtOnce, call_at_once


class PostgreSQLStoreTests(DatabaseCase, store_contract.DurableContract):
    def make_store(self) -> PostgreSQLStore:
        where = address.parse(self.url)
        return PostgreSQLStore(where, self.clock, AtOnce(), AtOnce(), call_at_once, self.randomness.randbytes)


class SmallStepsTests(PostgreSQLStoreTests):
    """The contract again, with so small bounds that every purge and every deletion takes several transactions."""

    histories = 4

    def setUp(self) -> None:
        self.patch(writing, "PURGE_EVENTS", 2)
        self.patch(erasing, "SLICE_ROWS", 2)
        super().setUp()
