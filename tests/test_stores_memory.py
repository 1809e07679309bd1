"""The store in memory keeps the store contract."""

from __future__ import annotations

from tests import store_contract
from twisted_chat.stores.memory import MemoryStore


class MemoryStoreTests(store_contract.StoreContract):
    def make_store(self) -> MemoryStore:
        return MemoryStore(self.clock, self.randomness.randbytes)

    def test_two_stores_are_two_lives(self) -> None:
        """Two stores in memory have different epochs and secrets."""
        other = self.successResultOf(MemoryStore(self.clock).open())

        self.assertNotEqual(other.epoch, self.opened.epoch)
        self.assertNotEqual(other.secret, self.opened.secret)
        self.assertRegex(other.epoch, "^[0-9A-HJKMNP-TV-Z]{6}$")
        self.assertEqual(len(other.secret), 32)
