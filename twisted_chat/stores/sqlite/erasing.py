"""Erases the amendments of a deleted message in slices, because a message may have 1,000,000 edits or reactions.

A deletion erases a message's own content and one slice.  The table ``erasing`` lists the messages that have more, also after a crash;
readers do not see the texts that are still to be erased (``rows.ENTRY``).  Each further slice is a transaction of its own.
"""

from __future__ import annotations

import sqlite3

#: Rows of one kind in one transaction, which takes about 5 ms; appends wait no longer than that.
SLICE_ROWS = 1_000

_EDITS = "SELECT seq FROM edit WHERE room = :room AND of = :of ORDER BY seq LIMIT :limit"

_ERASE_TEXTS = f"UPDATE event SET text = NULL WHERE room = :room AND seq IN ({_EDITS})"
_FORGET_EDITS = f"DELETE FROM edit WHERE room = :room AND of = :of AND seq IN ({_EDITS})"
_FORGET_REACTIONS = """
DELETE FROM reaction WHERE room = :room AND of = :of AND (emoji, person) IN (
    SELECT emoji, person FROM reaction WHERE room = :room AND of = :of LIMIT :limit)"""

# The rows of edits that are being erased stay, because they lead to the texts to erase.
_FORGET_OLD_EDITS = """
DELETE FROM edit WHERE room = :room AND of <= :of AND (of, seq) IN (
    SELECT of, seq FROM edit WHERE room = :room AND of <= :of
    AND NOT EXISTS (SELECT 1 FROM erasing WHERE erasing.room = edit.room AND erasing.of = edit.of) ORDER BY of, seq LIMIT :limit)"""
_FORGET_OLD_REACTIONS = """
DELETE FROM reaction WHERE room = :room AND of <= :of AND (of, emoji, person) IN (
    SELECT of, emoji, person FROM reaction WHERE room = :room AND of <= :of LIMIT :limit)"""


def erase(connection: sqlite3.Connection, room: int, of: int) -> bool:
    """Erase the content of a message; number, author and key stay.  Returns whether something is left for :func:`go_on`."""
    message = (room, of)
    connection.execute(
        """UPDATE event SET text = NULL, data = NULL, extra = '{"gone":true}' WHERE room = ? AND seq = ?""", message
    )
    connection.execute("DELETE FROM reacted WHERE room = ? AND of = ?", message)
    if not _slice(connection, room, of):
        return False
    connection.execute("INSERT INTO erasing (room, of) VALUES (?, ?)", message)
    return True


def pending(connection: sqlite3.Connection) -> bool:
    """Whether any deletion is unfinished."""
    return connection.execute("SELECT 1 FROM erasing LIMIT 1").fetchone() is not None


def go_on(connection: sqlite3.Connection) -> None:
    """Erase one more slice, inside a transaction."""
    found = connection.execute("SELECT room, of FROM erasing LIMIT 1").fetchone()
    if found is not None and not _slice(connection, *found):
        connection.execute("DELETE FROM erasing WHERE room = ? AND of = ?", found)


def _slice(connection: sqlite3.Connection, room: int, of: int) -> bool:
    """Erase one slice of a message; returns whether there may be more."""
    here = {"room": room, "of": of, "limit": SLICE_ROWS}
    connection.execute(_ERASE_TEXTS, here)
    edits = connection.execute(_FORGET_EDITS, here).rowcount
    reactions = connection.execute(_FORGET_REACTIONS, here).rowcount
    return SLICE_ROWS in (edits, reactions)


def forget_old(connection: sqlite3.Connection, room: int, last: int) -> bool:
    """Delete, inside a transaction, a slice of the amendments of messages up to that number, which retention has removed.

    Returns whether there may be more.
    """
    here = {"room": room, "of": last, "limit": SLICE_ROWS}
    edits = connection.execute(_FORGET_OLD_EDITS, here).rowcount
    reactions = connection.execute(_FORGET_OLD_REACTIONS, here).rowcount
    return SLICE_ROWS in (edits, reactions)
