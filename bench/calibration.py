"""What this machine's disk and SQLite give: rows per second, in one-statement batches of 100.

Acknowledged sends end in such rows, so their figures mean little without this one beside them.
"""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

BATCH = 100

_TABLE = """
CREATE TABLE events (
    room INTEGER NOT NULL, seq INTEGER NOT NULL, author TEXT NOT NULL, key TEXT, at INTEGER NOT NULL, text TEXT,
    PRIMARY KEY (room, seq)
) WITHOUT ROWID
"""
_KEYS = "CREATE UNIQUE INDEX by_key ON events (room, author, key) WHERE key IS NOT NULL"
_INSERT = """
INSERT INTO events (room, seq, author, key, at, text)
SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM json_each(?)
"""


def rows_per_second(directory: Path, seconds: float = 1.5) -> float:
    """Committed rows per second with WAL and ``synchronous=FULL``, the index of the keys included."""
    path = directory / "calibration.db"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(_TABLE)
        connection.execute(_KEYS)
        rows, begun = 0, time.perf_counter()
        while (taken := time.perf_counter() - begun) < seconds:
            numbers = range(rows, rows + BATCH)
            batch = [[1, n, f"u{n % 64}", f"k-{n:010}", 1_763_880_000_000 + n, "twenty bytes of text"] for n in numbers]
            connection.execute(_INSERT, (json.dumps(batch),))
            rows += BATCH
        return rows / taken
    finally:
        connection.close()
        for leftover in directory.glob("calibration.db*"):
            leftover.unlink()
