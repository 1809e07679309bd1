"""Creates, checks and upgrades the schema ``twisted_chat`` of a database, step by step.

Servers may start at the same time: one takes the steps, the others wait for it.  A user without the right to create tables can run a server
after all steps have been taken; ``twisted-chat store upgrade`` takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from psycopg import errors

from twisted_chat.store_contract import StoreError
from twisted_chat.stores.postgresql.address import Address
from twisted_chat.stores.postgresql.connection import Connection, transaction, unlimit
from twisted_chat.stores.random_ids import EPOCH_LENGTH, RandomBytes, random_text

#: The advisory lock for taking steps: "twch" in ASCII, and 1.
_LOCK = (0x74776368, 1)

_STEP_TABLE = """
CREATE SCHEMA IF NOT EXISTS twisted_chat;
CREATE TABLE IF NOT EXISTS twisted_chat.step (number integer PRIMARY KEY, taken timestamptz NOT NULL DEFAULT now());
"""

# Not to_regclass: in a transaction that has waited for another one it may answer what was true before.
_STEP_TABLE_THERE = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'twisted_chat' AND tablename = 'step'"

_KEEP = "INSERT INTO twisted_chat.meta (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING"


def schema_steps() -> list[str]:
    """The SQL of all steps, in order; step ``n`` is the file ``000n_….sql``."""
    folder = files("twisted_chat.stores.postgresql").joinpath("schema")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    for number, name in enumerate(names, 1):
        assert name.startswith(f"{number:04}_"), names
    return [folder.joinpath(name).read_text("utf-8") for name in names]


def steps_taken(connection: Connection) -> int:
    """How many steps the database has taken, 0 if it is new."""
    if connection.execute(_STEP_TABLE_THERE).fetchone() is None:
        return 0
    taken = connection.execute("SELECT coalesce(max(number), 0) FROM twisted_chat.step").fetchone()
    return 0 if taken is None else int(taken[0])


def prepare(connection: Connection, address: Address, steps: Sequence[str]) -> int:
    """Upgrade the database to the present schema; returns the number of steps taken.  :class:`StoreError` if that is impossible."""
    taken = steps_taken(connection)
    check_not_newer(address, taken, len(steps))
    if taken == len(steps):
        return 0
    unlimit(connection)
    try:
        with transaction(connection):
            connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", _LOCK)
            before = steps_taken(connection)
            check_not_newer(address, before, len(steps))
            if before == 0:
                connection.execute(_STEP_TABLE)
            for number in range(before + 1, len(steps) + 1):
                connection.execute(steps[number - 1].encode())
                connection.execute("INSERT INTO twisted_chat.step (number) VALUES (%s)", (number,))
    except errors.InsufficientPrivilege as error:
        raise StoreError(
            f"{address.shown} has taken {taken} of {len(steps)} steps of the schema, and this user may not take the others "
            f"({error.diag.message_primary}); run twisted-chat store upgrade as a user that may"
        ) from None
    return len(steps) - before


def check_not_newer(address: Address, taken: int, known: int) -> None:
    if taken > known:
        raise StoreError(
            f"{address.shown} was written by a newer version (schema {taken}, this one knows {known}); install that version again"
        )


def identity(connection: Connection, random_bytes: RandomBytes) -> tuple[str, bytes]:
    """The epoch and the secret of this database, created if it is new."""
    kept = _identity(connection)
    if len(kept) < 2:
        for name, value in (("epoch", random_text(random_bytes, EPOCH_LENGTH).encode()), ("secret", random_bytes(32))):
            connection.execute(_KEEP, (name, value))
        kept = _identity(connection)
    return kept["epoch"].decode(), kept["secret"]


def _identity(connection: Connection) -> dict[str, bytes]:
    rows = connection.execute("SELECT name, value FROM twisted_chat.meta WHERE name IN ('epoch', 'secret')").fetchall()
    return {name: bytes(value) for name, value in rows}
