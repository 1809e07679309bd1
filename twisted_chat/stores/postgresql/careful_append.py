"""A batch of any kind: repeated keys, amendments, topics, binary messages, new rooms.

Three round trips, however long the batch is: lock the rooms; read everything that the batch is about; write what has been decided in
between, event by event in its order, and commit.  Statements of one round trip are sent together (libpq's pipeline).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from twisted_chat.core import amendments, governance
from twisted_chat.errors import ChatError
from twisted_chat.events import (
    Deleted,
    Edited,
    Event,
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
    TopicSet,
)
from twisted_chat.store_contract import Append, Appended, Duplicate, Outcome
from twisted_chat.stores.postgresql.governed_events import kind_and_text
from twisted_chat.stores.postgresql.governing import Governing
from twisted_chat.stores.postgresql.rows import DELETE, EDIT, MESSAGE, REACTION, TOPIC, RoomRow
from twisted_chat.stores.random_ids import BATCH_LENGTH, RandomBytes, random_text

#: (room, author, key)
Key: TypeAlias = tuple[int, str, str]
#: (room, number)
Place: TypeAlias = tuple[int, int]
#: (room, number of the message, emoji, person)
Put: TypeAlias = tuple[int, int, str, str]


class MessageNow(Struct):
    """The present state of a message.

    :ivar emoji: the emoji on it, each with its place among the others and the number of people.
    """

    author: str
    revision: int
    binary: bool
    gone: bool
    emoji: dict[str, tuple[int, int]]

    def state(self) -> amendments.MessageState:
        return amendments.MessageState(self.author, self.revision, self.binary, self.gone, self.emoji.keys())


class NewRow(Struct):
    """A row of table ``event`` that is to be written."""

    room: int
    batch: str
    kind: int
    event: Event
    text: str | None = None
    of: int | None = None
    state: bool | None = None
    revision: int | None = None
    data: bytes | None = None


class Decisions:
    """Decides the outcome of each event of a batch.

    :param rooms: locked, by name.
    :ivar first: the stored events with the keys of the batch.
    :ivar messages: the messages that the batch amends.
    :ivar people: which of the people who react in the batch had added that emoji already, and at which number.
    :ivar governing: decides about settings, members and sanctions.
    :ivar rows: the rows to write; besides them ``deleted`` messages, and emoji that were added or removed (``put``).
    :ivar grown: the rooms that have another head.
    """

    def __init__(self, rooms: dict[str, RoomRow], random_bytes: RandomBytes, at: int) -> None:
        self.rooms = rooms
        self._random_bytes = random_bytes
        self._at = at
        self.first: dict[Key, Event] = {}
        self.messages: dict[Place, MessageNow] = {}
        self.people: dict[Put, int] = {}
        self.governing = Governing(at)
        self.rows: list[NewRow] = []
        self.deleted: list[Place] = []
        self.put: set[Put] = set()
        self.grown: dict[str, RoomRow] = {}
        #: The first keys of edits in this batch, by message: a deletion takes their texts.
        self._edit_keys: dict[Place, list[Key]] = {}
        self._message_keys: dict[Place, Key] = {}

    def decide(self, batch: Sequence[Append]) -> list[list[Outcome]]:
        for key, event in list(self.first.items()):
            self._remember(key, event)
        return [self._append(append) for append in batch]

    def _append(self, append: Append) -> list[Outcome]:
        if not append.new_events:
            return []
        prefix = random_text(self._random_bytes, BATCH_LENGTH)
        room = self.rooms[append.room]
        creations = governance.Creations()
        outcomes: list[Outcome] = []
        for new_event in append.new_events:
            outcomes.append(self._outcome(room, new_event, prefix, creations))
            creations.note(new_event, outcomes[-1])
        return outcomes

    def _outcome(self, room: RoomRow, new_event: NewEvent, prefix: str, creations: governance.Creations) -> Outcome:
        key = None if new_event.key is None else (room.id, new_event.by.id, new_event.key)
        if key is not None and key in self.first:
            return Duplicate(self.first[key])
        try:
            row = self._row(room, new_event, prefix, creations)
        except ChatError as error:
            return error
        self.rows.append(row)
        room.head, room.batch = row.event.seq, prefix
        self.grown[room.name] = room
        if key is not None:
            self._remember(key, row.event)
        return Appended(row.event)

    def _remember(self, key: Key, event: Event) -> None:
        self.first[key] = event
        if isinstance(event, Edited):
            self._edit_keys.setdefault((key[0], event.of), []).append(key)
        elif isinstance(event, Message):
            self._message_keys[key[0], event.seq] = key

    def _row(self, room: RoomRow, new_event: NewEvent, prefix: str, creations: governance.Creations) -> NewRow:
        seq = room.head + 1
        head = (seq, f"{prefix}-{seq}", self._at, new_event.by, new_event.key)
        match new_event:
            case NewMessage():
                message = Message(*head, new_event.text, new_event.data, new_event.reply_to)
                binary = new_event.data is not None
                self.messages[room.id, seq] = MessageNow(new_event.by.id, 1, binary, False, {})
                return NewRow(room.id, prefix, MESSAGE, message, message.text, message.reply_to, data=message.data)
            case NewTopic():
                room.topic = new_event.text
                return NewRow(room.id, prefix, TOPIC, TopicSet(*head, text=new_event.text), new_event.text)
            case NewSettings() | NewMember() | NewSanction():
                creations.check(new_event, room.head)
                self.governing.decide(room, new_event)
                event = governance.event_of(new_event, seq, head[1], self._at)
                kind, text = kind_and_text(event)
                return NewRow(room.id, prefix, kind, event, text)
        place = (room.id, new_event.of)
        message_now = self.messages.get(place) if room.purged < new_event.of <= room.head else None
        amendments.check(None if message_now is None else message_now.state(), new_event)
        assert message_now is not None
        match new_event:
            case NewEdit():
                message_now.revision = new_event.revision + 1
                edited = Edited(*head, of=new_event.of, revision=message_now.revision, text=new_event.text)
                return NewRow(room.id, prefix, EDIT, edited, edited.text, edited.of, revision=edited.revision)
            case NewReaction():
                reacted = Reacted(*head, of=new_event.of, emoji=new_event.emoji, on=new_event.on)
                self._react(room.id, message_now, reacted)
                return NewRow(room.id, prefix, REACTION, reacted, reacted.emoji, reacted.of, reacted.on)
            case NewDeletion():
                message_now.gone = True
                self._delete(place)
                return NewRow(room.id, prefix, DELETE, Deleted(*head, of=new_event.of), of=new_event.of)

    def _react(self, room: int, message: MessageNow, reacted: Reacted) -> None:
        put = (room, reacted.of, reacted.emoji, reacted.by.id)
        if reacted.on == (put in self.people):
            return
        place, count = message.emoji.get(reacted.emoji, (reacted.seq, 0))
        if reacted.on:
            self.people[put] = reacted.seq
            message.emoji[reacted.emoji] = (place, count + 1)
        else:
            del self.people[put]
            if count > 1:
                message.emoji[reacted.emoji] = (place, count - 1)
            else:
                del message.emoji[reacted.emoji]
        self.put.add(put)

    def _delete(self, place: Place) -> None:
        self.deleted.append(place)
        self.put = {put for put in self.put if put[:2] != place}
        for key in self._edit_keys.pop(place, ()):
            edited = self.first[key]
            assert isinstance(edited, Edited), edited
            self.first[key] = replace(edited, text=None)
        key_of_message = self._message_keys.get(place)
        if key_of_message is not None:
            message = self.first[key_of_message]
            assert isinstance(message, Message), message
            self.first[key_of_message] = amendments.tombstone(message)
