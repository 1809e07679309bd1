"""The SQLite store keeps the store contract, over restarts, and says what is wrong with a file."""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory

from tests import store_contract
from twisted_chat.stores.sqlite import SQLiteStore
from twisted_chat.stores.threads import AtOnce, call_at_once


class SQLiteStoreTests(store_contract.DurableContract):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "chat.db")
        super().setUp()

    def make_store(self) -> SQLiteStore:
        return SQLiteStore(self.path, self.clock, AtOnce(), AtOnce(), call_at_once, self.randomness.randbytes)
