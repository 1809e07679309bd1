"""The store that forgets everything at the end: for trying out, for tests, for rooms that need no history.

It is the store contract in its plainest form; every Deferred that it answers has fired already.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from twisted_chat.core import amendments
from twisted_chat.errors import ChatError, Conflict, Unavailable
from twisted_chat.events import (
    Cursor,
    Deleted,
    Edited,
    Event,
    Message,
    NewDeletion,
    NewEdit,
    NewEvent,
    NewMessage,
    NewReaction,
    NewTopic,
    Reacted,
    TopicSet,
)
from twisted_chat.interfaces import Append, Appended, Duplicate, Opened, Outcome, Page, RoomRecord, TokenRecord
from twisted_chat.stores import pages
from twisted_chat.stores.random_ids import BATCH_LENGTH, EPOCH_LENGTH, RandomBytes, random_text

T = TypeVar("T")


class MemoryStore:
    """All logs in lists.

    :param clock: gives events their time.
    """

    def __init__(self, clock: IReactorTime, random_bytes: RandomBytes = secrets.token_bytes) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._epoch = random_text(random_bytes, EPOCH_LENGTH)
        self._secret = random_bytes(32)
        self._open = False
        self._logs: dict[str, _Log] = {}
        self._marks: dict[str, dict[str, int]] = {}
        self._tokens: dict[str, TokenRecord] = {}
        self._token_ids: dict[bytes, str] = {}
        self._cursors: dict[str, dict[str, Cursor]] = {}
        self._news_readers: dict[object, Callable[[Mapping[str, int]], None]] = {}

    def open(self) -> Deferred[Opened]:
        self._open = True
        return succeed(Opened(self._epoch, self._secret, tuple(log.record() for log in self._logs.values())))

    def close(self) -> Deferred[None]:
        self._open = False
        return succeed(None)

    def append(self, batch: Sequence[Append]) -> Deferred[list[list[Outcome]]]:
        outcomes = self._answer(lambda: [self._append(append) for append in batch])
        if len(self._news_readers) > 1:
            # A single server has no news but its own.
            heads = {append.room: self._seen(append.room).head for append in batch}
            # In the next turn: by then who has committed this knows it.
            for key in self._news_readers:
                self._clock.callLater(0, self._tell_news, key, heads)
        return outcomes

    def follow(self, on_news: Callable[[Mapping[str, int]], None]) -> Callable[[], None]:
        key = object()
        self._news_readers[key] = on_news

        def stop() -> None:
            self._news_readers.pop(key, None)

        return stop

    def _tell_news(self, key: object, heads: Mapping[str, int]) -> None:
        on_news = self._news_readers.get(key)
        if on_news is not None:
            on_news(heads)

    def _append(self, append: Append) -> list[Outcome]:
        at = int(self._clock.seconds() * 1000)
        return self._made(append.room).append(append.new_events, at, random_text(self._random_bytes, BATCH_LENGTH))

    def read(self, room: str, after: int, limit: int, max_bytes: int) -> Deferred[list[Event]]:
        return self._answer(lambda: self._seen(room).read(after, limit, max_bytes))

    def page(
        self, room: str, limit: int, *, before: int | None = None, after: int | None = None, around: int | None = None
    ) -> Deferred[Page]:
        return self._answer(lambda: self._seen(room).page(limit, pages.place(limit, before, after, around)))

    def event(self, room: str, seq: int) -> Deferred[Event | None]:
        return self._answer(lambda: self._seen(room).event(seq))

    def purge(self, room: str, keep_events: int | None, keep_after_ms: int | None) -> Deferred[RoomRecord]:
        return self._answer(lambda: self._seen(room).purge(keep_events, keep_after_ms))

    def mark_read(self, user: str, room: str, seq: int) -> Deferred[int]:
        return self._answer(lambda: self._mark_read(user, room, seq))

    def _mark_read(self, user: str, room: str, seq: int) -> int:
        log = self._logs.get(room)
        if log is None:
            return 0
        marks = self._marks.setdefault(user, {})
        marks[room] = max(marks.get(room, 0), min(seq, log.head))
        return marks[room]

    def read_marks(self, user: str) -> Deferred[dict[str, int]]:
        return self._answer(lambda: dict(self._marks.get(user, {})))

    def archive(self, room: str, archived: bool) -> Deferred[RoomRecord]:
        return self._answer(lambda: self._made(room).archive(archived))

    def rooms(self) -> Deferred[dict[str, bool]]:
        return self._answer(lambda: {name: log.archived for name, log in self._logs.items()})

    def probe(self) -> Deferred[None]:
        return self._answer(lambda: None)

    def create_token(self, record: TokenRecord, secret_hash: bytes) -> Deferred[None]:
        return self._answer(lambda: self._create_token(record, secret_hash))

    def _create_token(self, record: TokenRecord, secret_hash: bytes) -> None:
        if record.id in self._tokens or secret_hash in self._token_ids:
            raise Conflict("there is such a token already")
        self._tokens[record.id] = record
        self._token_ids[secret_hash] = record.id

    def find_token(self, secret_hash: bytes) -> Deferred[TokenRecord | None]:
        return self._answer(lambda: self._tokens.get(self._token_ids.get(secret_hash, "")))

    def list_tokens(self) -> Deferred[list[TokenRecord]]:
        return self._answer(lambda: sorted(self._tokens.values(), key=lambda record: record.created))

    def revoke_token(self, token_id: str, now_ms: int) -> Deferred[TokenRecord | None]:
        return self._answer(lambda: self._revoke_token(token_id, now_ms))

    def _revoke_token(self, token_id: str, now_ms: int) -> TokenRecord | None:
        record = self._tokens.get(token_id)
        if record is not None and record.revoked is None:
            record = self._tokens[token_id] = replace(record, revoked=now_ms)
        return record

    def revoked_since(self, since_ms: int) -> Deferred[list[str]]:
        return self._answer(
            lambda: [token.id for token in self._tokens.values() if token.revoked is not None and token.revoked >= since_ms]
        )

    def load_cursors(self, reader: str) -> Deferred[dict[str, Cursor]]:
        return self._answer(lambda: dict(self._cursors.get(reader, {})))

    def save_cursor(self, reader: str, room: str, cursor: Cursor, *, rewind: bool = False) -> Deferred[None]:
        return self._answer(lambda: self._save_cursor(reader, room, cursor, rewind))

    def _save_cursor(self, reader: str, room: str, cursor: Cursor, rewind: bool) -> None:
        cursors = self._cursors.setdefault(reader, {})
        kept = cursors.get(room)
        if kept is None or rewind or kept.epoch != cursor.epoch or kept.seq < cursor.seq:
            cursors[room] = cursor

    def delete_cursors(self, reader: str) -> Deferred[None]:
        return self._answer(lambda: self._delete_cursors(reader))

    def _delete_cursors(self, reader: str) -> None:
        self._cursors.pop(reader, None)

    def _made(self, room: str) -> _Log:
        log = self._logs.get(room)
        if log is None:
            log = self._logs[room] = _Log(room)
        return log

    def _seen(self, room: str) -> _Log:
        """The room's log, or an empty one that is not kept: looking at a room does not make it."""
        return self._logs.get(room) or _Log(room)

    def _answer(self, look: Callable[[], T]) -> Deferred[T]:
        if not self._open:
            return fail(Unavailable("the store is closed"))
        try:
            return succeed(look())
        except ChatError as error:
            return fail(error)


class _Log:
    """One room: ``events[0]`` has the number ``purged + 1``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.purged = 0
        self.head_id = ""
        self.topic = ""
        self.archived = False
        self.events: list[Event] = []
        self.keys: dict[tuple[str, str], int] = {}
        #: Messages that were amended, in their present state, and the numbers of their edits.
        self.present: dict[int, Message] = {}
        self.edits: dict[int, list[int]] = {}

    @property
    def head(self) -> int:
        return self.purged + len(self.events)

    def record(self) -> RoomRecord:
        return RoomRecord(self.name, self.purged + 1, self.head, self.head_id, self.topic, self.archived)

    def append(self, new_events: Sequence[NewEvent], at: int, batch: str) -> list[Outcome]:
        outcomes: list[Outcome] = []
        keys, events = self.keys, self.events
        seq = self.head
        for new_event in new_events:
            key = new_event.key
            if key is not None:
                first = keys.get((new_event.by.id, key))
                if first is not None:
                    outcomes.append(Duplicate(events[first - self.purged - 1]))
                    continue
            event: Event
            if type(new_event) is NewMessage:
                by = new_event.by
                event = Message(seq + 1, f"{batch}-{seq + 1}", at, by, key, new_event.text, new_event.data, new_event.reply_to)
            else:
                try:
                    event = self._other(new_event, seq + 1, f"{batch}-{seq + 1}", at)
                except ChatError as error:
                    outcomes.append(error)
                    continue
            seq += 1
            events.append(event)
            self.head_id = event.id
            if key is not None:
                keys[new_event.by.id, key] = seq
            outcomes.append(Appended(event))
        return outcomes

    def _other(self, new_event: NewEvent, seq: int, event_id: str, at: int) -> Event:
        match new_event:
            case NewMessage():
                return Message(seq, event_id, at, new_event.by, new_event.key, new_event.text, new_event.data, new_event.reply_to)
            case NewTopic():
                self.topic = new_event.text
                return TopicSet(seq, event_id, at, new_event.by, new_event.key, text=new_event.text)
        message = self._message(new_event.of)
        amendments.check(None if message is None else amendments.standing(message), new_event)
        assert message is not None
        amendment: amendments.Amendment
        match new_event:
            case NewEdit():
                self.edits.setdefault(new_event.of, []).append(seq)
                revision = new_event.revision + 1
                amendment = Edited(
                    seq, event_id, at, new_event.by, new_event.key, of=new_event.of, revision=revision, text=new_event.text
                )
            case NewReaction():
                amendment = Reacted(
                    seq, event_id, at, new_event.by, new_event.key, of=new_event.of, emoji=new_event.emoji, on=new_event.on
                )
            case NewDeletion():
                self._erase(message)
                amendment = Deleted(seq, event_id, at, new_event.by, new_event.key, of=new_event.of)
        self.present[new_event.of] = amendments.fold(message, amendment)
        return amendment

    def _erase(self, message: Message) -> None:
        self.events[message.seq - self.purged - 1] = amendments.tombstone(message)
        for seq in self.edits.pop(message.seq, ()):
            edit = self.events[seq - self.purged - 1]
            assert isinstance(edit, Edited), edit
            self.events[seq - self.purged - 1] = replace(edit, text=None)

    def _message(self, seq: int) -> Message | None:
        event = self.present.get(seq) or self.event(seq)
        return event if isinstance(event, Message) else None

    def event(self, seq: int) -> Event | None:
        return self.events[seq - self.purged - 1] if self.purged < seq <= self.head else None

    def read(self, after: int, limit: int, max_bytes: int) -> list[Event]:
        begin = max(after - self.purged, 0)
        events: list[Event] = []
        size = 0
        for event in self.events[begin : begin + limit]:
            size += content_bytes(event)
            if events and size > max_bytes:
                break
            events.append(event)
        return events

    def page(self, limit: int, where: pages.Place) -> Page:
        older = _first(self._shown(where.pivot, -1), where.older + 1)
        newer = _first(self._shown(where.pivot + 1, 1), where.newer + 1)
        events, more_before, more_after = pages.cut(where, limit, older, newer)
        return Page(tuple(events), self.head, more_before, more_after)

    def _shown(self, begin: int, step: int) -> Iterator[Event]:
        """What a page shows, in its present state, from number ``begin`` to either end of the log."""
        seq = min(begin, self.head) if step < 0 else max(begin, self.purged + 1)
        while self.purged < seq <= self.head:
            event = self.events[seq - self.purged - 1]
            if isinstance(event, Message | TopicSet):
                yield self.present.get(seq, event)
            seq += step

    def purge(self, keep_events: int | None, keep_after_ms: int | None) -> RoomRecord:
        count = 0 if keep_events is None else max(len(self.events) - keep_events, 0)
        if keep_after_ms is not None:
            while count < len(self.events) and self.events[count].at < keep_after_ms:
                count += 1
        for event in self.events[:count]:
            self.present.pop(event.seq, None)
            self.edits.pop(event.seq, None)
            if event.key is not None:
                del self.keys[event.by.id, event.key]
        del self.events[:count]
        self.purged += count
        return self.record()

    def archive(self, archived: bool) -> RoomRecord:
        self.archived = archived
        return self.record()


def _first(events: Iterator[Event], count: int) -> list[Event]:
    return [event for event, _ in zip(events, range(count), strict=False)]


def content_bytes(event: Event) -> int:
    """What the bound of a read counts: text in UTF-8, or data."""
    match event:
        case Message(data=bytes(data)):
            return len(data)
        case Message(text=str(text)) | Edited(text=str(text)) | TopicSet(text=text):
            return len(text) if text.isascii() else len(text.encode())
    return 0
