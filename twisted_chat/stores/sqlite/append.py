"""Appends a batch of any kind, event by event in its order, inside a transaction that the caller begins and commits.

It is for batches with repeated keys, new rooms, and all that is no message.  Messages between two amendments are still one statement;
amendments read the message that they amend, so the messages before them in the batch are written first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec.json import Decoder, encode
from msgspec.structs import replace

from twisted_chat.core import amendments, governance
from twisted_chat.errors import ChatError
from twisted_chat.events import (
    Deleted,
    Edited,
    Event,
    Governance,
    Message,
    NewDeletion,
    NewEdit,
    NewEvent,
    NewMember,
    NewMessage,
    NewReaction,
    NewSanction,
    NewSettings,
    NewTopic,
    Reacted,
    RoomChanged,
    TopicSet,
)
from twisted_chat.store_contract import Append, Appended, Duplicate, Outcome
from twisted_chat.stores.random_ids import BATCH_LENGTH, RandomBytes, random_text
from twisted_chat.stores.sqlite import erasing, reactions, shown, standings
from twisted_chat.stores.sqlite.rows import (
    AMENDMENTS,
    DELETE,
    EDIT,
    ENTRY,
    MESSAGE,
    REACTION,
    STATEMENT_ROWS,
    TOPIC,
    RoomRow,
    Run,
    insert,
    json_array,
    make_rooms,
    pack,
    row,
    text_piece,
)

#: (room, author, key)
Key: TypeAlias = tuple[int, str, str]

REPEATED = f"""
WITH wanted AS MATERIALIZED (
    SELECT key AS number, value ->> 0 AS room, {text_piece(1)} AS author, {text_piece(3)} AS name FROM json_each(:rows))
SELECT {json_array("found")} FROM (
    SELECT '[' || wanted.number || ',' || {ENTRY} || ']' AS found
    FROM wanted CROSS JOIN event e ON e.room = wanted.room AND e.author = wanted.author AND e.key = wanted.name)"""

_STANDING = f"""
SELECT author, data IS NOT NULL, coalesce(extra ->> 'gone', 0), coalesce((
    SELECT edited.extra ->> 'revision' FROM event edited WHERE edited.room = e.room AND edited.seq = (
        SELECT max(seq) FROM edit WHERE room = e.room AND of = e.seq)), 1)
FROM event e WHERE room = ? AND seq = ? AND kind = {MESSAGE}"""

_decode_found = Decoder(list[tuple[int, Event]]).decode


class AppendAny:
    """One batch.

    :param changed: receives the rooms that are new or have another head or topic; valid once the transaction is committed.
    :ivar erasing: a deletion has left something to erase.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        random_bytes: RandomBytes,
        rooms: Mapping[str, RoomRow],
        changed: dict[str, RoomRow],
        at: int,
    ) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._random_bytes = random_bytes
        self._rooms = rooms
        self._changed = changed
        self._at = at
        self.erasing = False
        #: Messages that are not written yet.
        self._runs: list[Run] = []
        self._waiting = 0
        #: The first event with a key: its number, and by its number the event.
        self._first: dict[Key, int] = {}
        self._keyed: dict[tuple[int, int], Event] = {}

    def append(self, batch: Sequence[Append]) -> list[list[Outcome]]:
        new = {append.room for append in batch if append.new_events and append.room not in self._rooms}
        if new:
            self._changed.update(make_rooms(self._connection, sorted(new)))
        self._find_repeated(batch)
        answer = [self._append(append) for append in batch]
        self._write()
        self._note_oldest()
        return answer

    def _note_oldest(self) -> None:
        """Note the time of the oldest event of rooms that were empty, by which retention finds rooms."""
        for name, room in self._changed.items():
            before = self._rooms.get(name)
            if room.head > room.purged and (before is None or before.head == before.purged):
                self._execute("UPDATE room SET oldest = ? WHERE id = ?", (self._at, room.id))

    def _room(self, name: str) -> RoomRow:
        return self._changed.get(name) or self._rooms[name]

    def _find_repeated(self, batch: Sequence[Append]) -> None:
        keys: list[Key] = [
            (self._room(append.room).id, new_event.by.id, new_event.key)
            for append in batch
            for new_event in append.new_events
            if new_event.key is not None
        ]
        if not keys:
            return
        packed = bytearray()
        rows = encode([(room, *pack(packed, (author, key))) for room, author, key in keys]).decode()
        [found] = self._execute(REPEATED, {"rows": rows, "packed": bytes(packed)}).fetchone()
        for number, event in _decode_found(found):
            self._remember(keys[number], event)

    def _remember(self, key: Key, event: Event) -> None:
        self._first[key] = event.seq
        self._keyed[key[0], event.seq] = event

    def _append(self, append: Append) -> list[Outcome]:
        if not append.new_events:
            return []
        batch = random_text(self._random_bytes, BATCH_LENGTH)
        creations = governance.Creations()
        outcomes: list[Outcome] = []
        for new_event in append.new_events:
            outcomes.append(self._outcome(self._room(append.room), new_event, batch, creations))
            creations.note(new_event, outcomes[-1])
        return outcomes

    def _outcome(self, room: RoomRow, new_event: NewEvent, batch: str, creations: governance.Creations) -> Outcome:
        key = None if new_event.key is None else (room.id, new_event.by.id, new_event.key)
        if key is not None and key in self._first:
            return Duplicate(self._keyed[room.id, self._first[key]])
        try:
            creations.check(new_event, room.head)
            event = self._insert_event(room, new_event, batch)
        except ChatError as error:
            return error
        if key is not None:
            self._remember(key, event)
        room = replace(room, head=event.seq, batch=batch)
        if isinstance(event, TopicSet):
            room = replace(room, topic=event.text)
        elif isinstance(event, RoomChanged):
            room = replace(room, settings=event.settings, archived=event.archived)
        self._changed[room.name] = room
        return Appended(event)

    def _insert_event(self, room: RoomRow, new_event: NewEvent, batch: str) -> Event:
        seq = room.head + 1
        head = (seq, f"{batch}-{seq}", self._at, new_event.by, new_event.key)
        match new_event:
            case NewMessage():
                message = Message(*head, new_event.text, new_event.data, new_event.reply_to)
                self._wait(room, batch, message)
                return message
            case NewTopic():
                topic = TopicSet(*head, text=new_event.text)
                self._execute("UPDATE room SET topic = ? WHERE id = ?", (new_event.text, room.id))
                self._insert(room, batch, topic, TOPIC, new_event.text, None)
                return topic
            case NewSettings() | NewMember() | NewSanction():
                self._govern(room, new_event)
                governed = governance.event_of(new_event, *head[:3])
                self._insert(room, batch, governed, standings.kind(governed), None, standings.extra(governed))
                return governed
        self._write()
        amendments.check(self._standing(room, new_event), new_event)
        match new_event:
            case NewEdit():
                edited = Edited(*head, of=new_event.of, revision=new_event.revision + 1, text=new_event.text)
                self._insert(room, batch, edited, EDIT, edited.text, {"of": edited.of, "revision": edited.revision})
                self._execute("INSERT INTO edit (room, of, seq) VALUES (?, ?, ?)", (room.id, edited.of, seq))
                return edited
            case NewReaction():
                reacted = Reacted(*head, of=new_event.of, emoji=new_event.emoji, on=new_event.on)
                extra = {"of": reacted.of, "emoji": reacted.emoji, "on": reacted.on}
                self._insert(room, batch, reacted, REACTION, None, extra)
                reactions.react(self._connection, room.id, reacted)
                return reacted
            case NewDeletion():
                deleted = Deleted(*head, of=new_event.of)
                self._insert(room, batch, deleted, DELETE, None, {"of": deleted.of})
                self._erase(room, deleted)
                return deleted

    def _govern(self, room: RoomRow, new_event: Governance) -> None:
        if isinstance(new_event, NewSettings):
            governance.check_settings(new_event, room.head, room.settings)
            standings.configure(self._connection, room.id, new_event.settings, new_event.archived)
        else:
            standings.change(self._connection, room.id, room.name, new_event, self._at)

    def _wait(self, room: RoomRow, batch: str, message: Message) -> None:
        if self._waiting >= STATEMENT_ROWS:
            self._write()
        last = self._runs[-1] if self._runs else None
        if last is None or last.batch != batch or last.first + len(last.rows) != message.seq:
            last = Run(room.id, message.seq, batch, [])
            self._runs.append(last)
        last.rows.append(row(message))
        last.binary = last.binary or message.data is not None
        self._waiting += 1

    def _write(self) -> None:
        if self._runs:
            insert(self._connection, self._runs, self._at)
            self._runs, self._waiting = [], 0

    def _insert(
        self, room: RoomRow, batch: str, event: Event, kind: int, text: str | None, extra: dict[str, object] | None
    ) -> None:
        extra_json = None if extra is None else encode(extra).decode()
        self._execute(
            "INSERT INTO event (room, seq, batch, at, kind, author, name, key, text, extra)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (room.id, event.seq, batch, event.at, kind, event.by.id, event.by.name, event.key, text, extra_json),
        )
        if kind in AMENDMENTS:
            shown.amended(self._connection, room.id, event.seq)

    def _standing(self, room: RoomRow, new_event: amendments.AmendmentDraft) -> amendments.MessageState | None:
        if not room.purged < new_event.of <= room.head:
            return None
        found = self._execute(_STANDING, (room.id, new_event.of)).fetchone()
        if found is None:
            return None
        author, binary, gone, revision = found
        reacts = isinstance(new_event, NewReaction)
        emoji = reactions.emoji(self._connection, room.id, new_event.of) if reacts else frozenset()
        return amendments.MessageState(author, revision, bool(binary), bool(gone), emoji)

    def _erase(self, room: RoomRow, deleted: Deleted) -> None:
        self.erasing = erasing.erase(self._connection, room.id, deleted.of) or self.erasing
        first = self._keyed.get((room.id, deleted.of))
        if isinstance(first, Message):
            self._keyed[room.id, deleted.of] = amendments.tombstone(first)
