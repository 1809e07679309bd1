"""Bugs that the checker must find: a node with one of them is ``python -c "from tests.jepsen.bugs import run; run()"``.

The name of the bug is in the environment variable ``JEPSEN_BUG``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from msgspec.structs import replace
from twisted.scripts.twistd import run as twistd

from twisted_chat.store_contract import Append

VARIABLE = "JEPSEN_BUG"
#: A program that does not use its keys when it says something again: :mod:`tests.jepsen.raw`.
RETRY_WITHOUT_KEY = "retry-without-key"


def no_row_lock() -> None:
    """Numbers are given by a head that others may be raising at the same moment (:func:`unprotected` is the rest of it)."""
    from twisted_chat.stores.postgresql import careful_statements, fast_append

    lock = "ORDER BY name FOR UPDATE"
    assert lock in fast_append.STATEMENT and "FOR UPDATE" in careful_statements.LOCK_ROOMS
    fast_append.STATEMENT = fast_append.STATEMENT.replace(lock, "ORDER BY name")
    careful_statements.LOCK_ROOMS = careful_statements.LOCK_ROOMS.replace("FOR UPDATE", "")


#: SQL without which the database itself refuses what :func:`no_row_lock` does.
UNPROTECTED = (
    "ALTER TABLE twisted_chat.event DROP CONSTRAINT event_pkey",
    "CREATE INDEX event_place ON twisted_chat.event (room, seq)",
)


def notify_only() -> None:
    """A node hears of what others write by notifications alone."""
    from twisted_chat.stores.postgresql import feed

    assert feed.LOOK_SECONDS < 10
    feed.LOOK_SECONDS = 1e6


def guessed_outcome() -> None:
    """A batch whose answer was lost is appended again, without looking and without its keys."""
    from twisted_chat.stores.postgresql.writer import Answer, Writer

    def without_looking(self: Writer, batch: Sequence[Append], at: int) -> Answer:
        connection = self._connected()
        if self._under_way is not None:
            batch = [replace(each, new_events=[replace(new_event, key=None) for new_event in each.new_events]) for each in batch]
        self._under_way = None
        return self._append(connection, batch, at)

    Writer._try = without_looking  # type: ignore[method-assign]


#: Name -> what makes it, in the process of a node.
IN_NODES: dict[str, Callable[[], None]] = {
    "no-row-lock": no_row_lock,
    "notify-only": notify_only,
    "guessed-outcome": guessed_outcome,
}
NAMES = (*IN_NODES, RETRY_WITHOUT_KEY)


def run() -> None:
    """``twistd`` with the bug."""
    IN_NODES.get(os.environ[VARIABLE], lambda: None)()
    twistd()
