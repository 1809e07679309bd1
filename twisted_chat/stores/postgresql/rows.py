"""Rows of the tables, and what they mean."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from twisted_chat.events import Author, Deleted, Edited, Event, Message, Reacted, RoomSettings, TopicSet
from twisted_chat.store_contract import RoomRecord
from twisted_chat.stores.postgresql.connection import Connection
from twisted_chat.stores.postgresql.escaping import plain
from twisted_chat.stores.postgresql.governed_events import MEMBER, ROOM, SANCTION, USUAL, governed_event, settings_of

#: The column ``kind``; those of :mod:`governed_events <twisted_chat.stores.postgresql.governed_events>` are further ones.
MESSAGE, EDIT, DELETE, REACTION, TOPIC = 1, 2, 3, 4, 5
#: The kinds that a page shows; the others are folded into messages.  The index ``event_shown`` has the same ones.
SHOWN = f"{MESSAGE}, {TOPIC}, {ROOM}, {MEMBER}, {SANCTION}"


class RoomRow(Struct):
    """One room.

    :ivar batch: the batch of the event at ``head``.
    :ivar purged: retention has removed the events up to this number.
    """

    id: int
    name: str
    head: int = 0
    batch: str = ""
    purged: int = 0
    topic: str = ""
    archived: bool = False
    settings: RoomSettings = USUAL

    def record(self) -> RoomRecord:
        head_id = f"{self.batch}-{self.head}" if self.head else ""
        return RoomRecord(self.name, self.purged + 1, self.head, head_id, self.topic, self.archived, self.settings)


#: The columns of a :class:`RoomRow`.
ROOM_COLUMNS = "id, name, head, batch, purged, topic, archived, settings"


def room_row(row: tuple[Any, ...]) -> RoomRow:
    number, name, head, batch, purged, topic, archived, settings = row
    return RoomRow(number, name, head, batch, purged, plain(topic), archived, settings_of(settings))


def load_rooms(connection: Connection) -> dict[str, RoomRow]:
    """All rooms by name, in the order of their names."""
    rows = connection.execute(f"SELECT {ROOM_COLUMNS} FROM twisted_chat.room ORDER BY name").fetchall()
    return {row[1]: room_row(row) for row in rows}


#: The columns of a row ``e`` of table ``event`` for :func:`event`.  The texts of edits of a deleted message are not read while they are
#: still to be erased.
EVENT_COLUMNS = f"""e.kind, e.seq, e.batch, e.at, e.author, e.name, e.key,
    CASE WHEN e.kind = {EDIT} AND EXISTS (
        SELECT FROM twisted_chat.erasing WHERE erasing.room = e.room AND erasing.of = e.of) THEN NULL ELSE e.text END,
    e.of, e.state, e.revision, e.data"""


def event(row: tuple[Any, ...]) -> Event:
    """The event of a row of :data:`EVENT_COLUMNS`."""
    kind, seq, batch, at, author, name, key, text, of, state, revision, data = row
    if text is not None:
        text = plain(text)
    by = Author(plain(author), plain(name))
    head = (seq, f"{batch}-{seq}", at, by, None if key is None else plain(key))
    if kind == MESSAGE:
        return Message(*head, gone=True) if state else Message(*head, text, data, of)
    if kind == EDIT:
        return Edited(*head, of=of, revision=revision, text=text)
    if kind == REACTION:
        return Reacted(*head, of=of, emoji=text, on=state)
    if kind == DELETE:
        return Deleted(*head, of=of)
    if kind == TOPIC:
        return TopicSet(*head, text=text)
    return governed_event(kind, head, text)
