"""The PostgreSQL store keeps the store contract over restarts."""

from __future__ import annotations

from functools import cache

from tests import store_contract
from tests.harness.postgresql import shared
from twisted_chat.stores.postgresql import address, connection, erasing, schema, writing
from twisted_chat.stores.postgresql.store import PostgreSQLStore
from twisted_chat.stores.workers import AtOnce, call_at_once


@cache
def template() -> str:
    """A database with the schema and nothing else, of which those of the tests are copies."""
    name = shared().new_database()
    where = address.parse(shared().url(name))
    opened = connection.connect(where, connection.Patience())
    schema.prepare(opened, where, schema.schema_steps())
    opened.close()
    return name


class PostgreSQLStoreTests(store_contract.DurableContract):
    def setUp(self) -> None:
        self.database = shared().new_database(template())
        self.addCleanup(shared().drop_database, self.database)
        super().setUp()

    def make_store(self) -> PostgreSQLStore:
        where = address.parse(shared().url(self.database))
        return PostgreSQLStore(where, self.clock, AtOnce(), AtOnce(), call_at_once, self.randomness.randbytes)


class SmallStepsTests(PostgreSQLStoreTests):
    """The contract again, with so small bounds that every purge and every deletion takes several transactions."""

    histories = 4

    def setUp(self) -> None:
        self.patch(writing, "PURGE_EVENTS", 2)
        self.patch(erasing, "SLICE_ROWS", 2)
        super().setUp()
