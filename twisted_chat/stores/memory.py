"""The store in memory, whose contents end with the process: for trials, for tests, for rooms that need no history.

It is the simplest implementation of the store contract; every Deferred that it returns has already fired.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from twisted_chat.errors import ChatError, Unavailable
from twisted_chat.events import Cursor, Event, RoomSettings
from twisted_chat.standings import Standing, StandingNews
from twisted_chat.store_contract import Aged, Append, Opened, Outcome, Page, Revocations, RoomNews, RoomRecord, TokenRecord
from twisted_chat.stores import pages
from twisted_chat.stores.memory_accounts import MemoryAccounts
from twisted_chat.stores.memory_log import MemoryLog
from twisted_chat.stores.memory_standings import MemoryStandings
from twisted_chat.stores.memory_tokens import MemoryTokens
from twisted_chat.stores.random_ids import BATCH_LENGTH, EPOCH_LENGTH, RandomBytes, random_text

T = TypeVar("T")


class MemoryStore:
    """All logs, in lists.

    :param clock: the clock for the times of events.
    """

    def __init__(self, clock: IReactorTime, random_bytes: RandomBytes = secrets.token_bytes) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._epoch = random_text(random_bytes, EPOCH_LENGTH)
        self._secret = random_bytes(32)
        self._open = False
        self._logs: dict[str, MemoryLog] = {}
        self._standings = MemoryStandings()
        self._marks: dict[str, dict[str, int]] = {}
        self._tokens = MemoryTokens()
        self.accounts = MemoryAccounts(self._tokens, self._answer)
        self._cursors: dict[str, dict[str, Cursor]] = {}
        #: The name of the room for each creation, archiving or reopening of a room and each change of its settings, in order.
        self._changes: list[str] = []
        #: The rooms that have events, by the time of the oldest.
        self._aged: list[Aged] = []
        self._news_readers: dict[object, Callable[[Mapping[str, int]], None]] = {}

    def open(self) -> Deferred[Opened]:
        self._open = True
        rooms = tuple(log.record() for log in self._logs.values())
        return succeed(Opened(self._epoch, self._secret, rooms, len(self._changes), self._standings.number))

    def close(self) -> Deferred[None]:
        self._open = False
        return succeed(None)

    def append(self, batch: Sequence[Append]) -> Deferred[list[list[Outcome]]]:
        outcomes = self._answer(lambda: [self._append(append) for append in batch])
        if len(self._news_readers) > 1:
            # A single server has no changes but its own.
            heads = {append.room: self._seen(append.room).head for append in batch}
            # In the next turn, because by then the caller knows the result of its commit.
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
        log = self._made(append.room)
        oldest, settings, archived = log.oldest, log.settings, log.archived
        outcomes = log.append(append.new_events, at, random_text(self._random_bytes, BATCH_LENGTH))
        self._note_oldest(log, oldest)
        if (log.settings, log.archived) != (settings, archived):
            self._changes.append(log.name)
        return outcomes

    def _note_oldest(self, log: MemoryLog, before: int | None) -> None:
        if before == log.oldest:
            return
        if before is not None:
            del self._aged[bisect_left(self._aged, Aged(before, log.name))]
        if log.oldest is not None:
            insort(self._aged, Aged(log.oldest, log.name))

    def read(self, room: str, after: int, limit: int, max_bytes: int) -> Deferred[list[Event]]:
        return self._answer(lambda: self._seen(room).read(after, limit, max_bytes))

    def page(
        self,
        room: str,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
        reader: str | None = None,
    ) -> Deferred[Page]:
        return self._answer(lambda: self._seen(room).page(limit, pages.place(limit, before, after, around), reader))

    def event(self, room: str, seq: int) -> Deferred[Event | None]:
        return self._answer(lambda: self._seen(room).event(seq))

    def purge(self, room: str, keep_events: int | None, keep_after_ms: int | None) -> Deferred[RoomRecord]:
        return self._answer(lambda: self._purge(self._seen(room), keep_events, keep_after_ms))

    def _purge(self, log: MemoryLog, keep_events: int | None, keep_after_ms: int | None) -> RoomRecord:
        oldest = log.oldest
        record = log.purge(keep_events, keep_after_ms)
        self._note_oldest(log, oldest)
        return record

    def aged(self, before_ms: int, after: Aged | None, limit: int) -> Deferred[list[Aged]]:
        return self._answer(lambda: self._find_aged(before_ms, after, limit))

    def _find_aged(self, before_ms: int, after: Aged | None, limit: int) -> list[Aged]:
        begin = 0 if after is None else bisect_right(self._aged, after)
        end = bisect_left(self._aged, Aged(before_ms, ""), begin)
        return self._aged[begin : min(end, begin + limit)]

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
        return self._answer(lambda: self._archive(self._made(room), archived))

    def _archive(self, log: MemoryLog, archived: bool) -> RoomRecord:
        if log.archived != archived:
            self._changes.append(log.name)
        return log.archive(archived)

    def room_news(self, since: int, limit: int) -> Deferred[RoomNews]:
        return self._answer(lambda: self._room_news(self._changes[since : since + limit], since))

    def _room_news(self, changed: Sequence[str], since: int) -> RoomNews:
        logs = {name: self._logs[name] for name in changed}
        settings = {name: log.settings for name, log in logs.items() if log.settings != RoomSettings()}
        return RoomNews(since + len(changed), {name: log.archived for name, log in logs.items()}, settings)

    def record(self, room: str) -> Deferred[RoomRecord]:
        return self._answer(lambda: self._seen(room).record())

    def lease(self, name: str, seconds: float) -> Deferred[bool]:
        """Always taken: several servers share this store only in tests."""
        return self._answer(lambda: True)

    def probe(self) -> Deferred[None]:
        return self._answer(lambda: None)

    def create_token(self, record: TokenRecord, secret_hash: bytes) -> Deferred[None]:
        return self._answer(lambda: self._tokens.create(record, secret_hash))

    def find_token(self, secret_hash: bytes) -> Deferred[TokenRecord | None]:
        return self._answer(lambda: self._tokens.find(secret_hash))

    def list_tokens(self) -> Deferred[list[TokenRecord]]:
        return self._answer(self._tokens.every)

    def revoke_token(self, token_id: str, now_ms: int) -> Deferred[TokenRecord | None]:
        return self._answer(lambda: self._tokens.revoke(token_id, now_ms))

    def revocations(self, since: int, limit: int) -> Deferred[Revocations]:
        return self._answer(lambda: self._tokens.revocations(since, limit))

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

    def standings(self, person: str) -> Deferred[list[Standing]]:
        return self._answer(lambda: self._standings.standings(person))

    def standing(self, room: str, person: str) -> Deferred[Standing]:
        return self._answer(lambda: self._standings.standing(room, person))

    def members(self, room: str, search: str, after: tuple[int, str, str] | None, limit: int) -> Deferred[list[Standing]]:
        return self._answer(lambda: self._standings.members(room, search, after, limit))

    def sanctions(self, room: str) -> Deferred[list[Standing]]:
        return self._answer(lambda: self._standings.sanctions(room))

    def all_sanctions(self, now_ms: int) -> Deferred[list[Standing]]:
        return self._answer(lambda: self._standings.all_sanctions(now_ms))

    def standing_news(self, since: int, limit: int) -> Deferred[StandingNews]:
        return self._answer(lambda: self._standings.news(since, limit))

    def _made(self, room: str) -> MemoryLog:
        log = self._logs.get(room)
        if log is None:
            log = self._logs[room] = MemoryLog(room, self._standings)
            self._changes.append(room)
        return log

    def _seen(self, room: str) -> MemoryLog:
        """The room's log, or an empty one that is not stored: reading a room does not create it."""
        return self._logs.get(room) or MemoryLog(room, self._standings)

    def _answer(self, look: Callable[[], T]) -> Deferred[T]:
        if not self._open:
            return fail(Unavailable("the store is closed"))
        try:
            return succeed(look())
        except ChatError as error:
            return fail(error)
