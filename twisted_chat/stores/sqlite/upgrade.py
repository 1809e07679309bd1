"""The schema: numbered steps forward, each in a transaction, with a copy of the database kept before the first.

``PRAGMA user_version`` says how many steps a database has taken, ``application_id`` that it is one of ours.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from importlib.resources import files

from twisted_chat.interfaces import StoreError
from twisted_chat.stores.sqlite.backup import backup

#: "twch" in ASCII.
APPLICATION_ID = 0x74776368


def schema_steps() -> list[str]:
    """The SQL of all steps, in order; step ``n`` is the file ``000n_….sql``."""
    names = sorted(
        entry.name for entry in files("twisted_chat.stores").joinpath("schema").iterdir() if entry.name.endswith(".sql")
    )
    for number, name in enumerate(names, 1):
        assert name.startswith(f"{number:04}_"), names
    return [files("twisted_chat.stores").joinpath("schema", name).read_text("utf-8") for name in names]


def upgrade(connection: sqlite3.Connection, path: str, steps: Sequence[str]) -> None:
    """Bring the database to the present schema; :class:`StoreError` if it is not ours or newer than this program."""
    taken = steps_taken(connection, path)
    if taken > len(steps):
        raise StoreError(
            f"{path} was written by a newer version (schema {taken}, this one knows {len(steps)}); install that version again, "
            f"or start from the copy that it made: {path}.before-…"
        )
    if 0 < taken < len(steps):
        _keep_copy(path, f"{path}.before-{taken + 1:04}")
    for number in range(taken + 1, len(steps) + 1):
        _take(connection, number, steps[number - 1])


def steps_taken(connection: sqlite3.Connection, path: str) -> int:
    """How many steps the database has taken, 0 if it is new; :class:`StoreError` if it is not one of ours."""
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [taken] = connection.execute("PRAGMA user_version").fetchone()
    [tables] = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (application or taken or tables):
        raise StoreError(f"{path} is a database of another program; move it away or use another --store")
    return int(taken)


def _keep_copy(path: str, copy: str) -> None:
    """A copy of that name from an earlier attempt is replaced once the new one is whole."""
    backup(path, copy + ".new")
    os.replace(copy + ".new", copy)


def _take(connection: sqlite3.Connection, number: int, sql: str) -> None:
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nPRAGMA application_id = {APPLICATION_ID};\nCOMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
