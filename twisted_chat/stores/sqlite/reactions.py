"""Reactions to messages: who added an emoji (table ``reaction``), and how many people did (table ``reacted``).

A page reads counts and the first names, so its cost is the same for 50 people and for 1,000,000.  Both tables change in the transaction
that appends the event.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec.json import Decoder, encode

from twisted_chat.events import Reacted, Reaction
from twisted_chat.stores import pages
from twisted_chat.stores.sqlite.rows import json_array

#: For each message, its emoji in their order, each with the number of people.
Counts: TypeAlias = Mapping[int, Mapping[str, int]]

_HERE = "p.room = r.room AND p.of = r.of AND p.emoji = r.emoji"

_NAMES = f"""
SELECT {json_array("found")} FROM (
    SELECT json_array(of, emoji, count,
        (SELECT json_group_array(person) FROM (
            SELECT person FROM reaction p INDEXED BY reaction_order WHERE {_HERE} ORDER BY seq LIMIT {pages.NAMES})),
        EXISTS (SELECT 1 FROM reaction p WHERE {_HERE} AND person = :reader)) AS found
    FROM reacted r WHERE room = (SELECT id FROM room WHERE name = :room) AND of IN (SELECT value FROM json_each(:seqs))
    ORDER BY of, place)"""

_decode = Decoder(list[tuple[int, str, int, list[str], int]]).decode


def react(connection: sqlite3.Connection, room: int, reacted: Reacted) -> None:
    """Add or remove the person's emoji; nothing happens if that is done already."""
    here = {"room": room, "of": reacted.of, "emoji": reacted.emoji, "person": reacted.by.id, "seq": reacted.seq}
    (_add if reacted.on else _remove)(connection, here)


def _add(connection: sqlite3.Connection, here: Mapping[str, object]) -> None:
    put = connection.execute(
        "INSERT INTO reaction (room, of, emoji, person, seq) VALUES (:room, :of, :emoji, :person, :seq) ON CONFLICT DO NOTHING",
        here,
    )
    if put.rowcount:
        connection.execute(
            "INSERT INTO reacted (room, of, emoji, place, count) VALUES (:room, :of, :emoji, :seq, 1)"
            " ON CONFLICT DO UPDATE SET count = count + 1",
            here,
        )


def _remove(connection: sqlite3.Connection, here: Mapping[str, object]) -> None:
    taken = connection.execute(
        "DELETE FROM reaction WHERE room = :room AND of = :of AND emoji = :emoji AND person = :person", here
    )
    if taken.rowcount:
        connection.execute("UPDATE reacted SET count = count - 1 WHERE room = :room AND of = :of AND emoji = :emoji", here)
        connection.execute("DELETE FROM reacted WHERE room = :room AND of = :of AND emoji = :emoji AND count = 0", here)


def emoji(connection: sqlite3.Connection, room: int, of: int) -> frozenset[str]:
    """The different emoji on a message."""
    return frozenset(each for (each,) in connection.execute("SELECT emoji FROM reacted WHERE room = ? AND of = ?", (room, of)))


def shown(connection: sqlite3.Connection, room: str, messages: Sequence[int], reader: str | None) -> dict[int, list[Reaction]]:
    """The reactions to these messages as a page shows them."""
    asked = {"room": room, "seqs": encode(messages).decode(), "reader": reader}
    [found] = connection.execute(_NAMES, asked).fetchone()
    reactions: dict[int, list[Reaction]] = {}
    for of, each, count, first, mine in _decode(found):
        reactions.setdefault(of, []).append(pages.shorten(each, first, count, reader if mine else None))
    return reactions
