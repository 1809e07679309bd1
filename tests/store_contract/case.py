"""What the stories of the contract share: builders of events, an open store on a clock, short ways to ask it."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.errors import ChatError
from twisted_chat.events import (
    Author,
    Event,
    NewDeletion,
    NewEdit,
    NewEvent,
    NewMember,
    NewMessage,
    NewReaction,
    NewSanction,
    NewSettings,
    RoomSettings,
)
from twisted_chat.standings import RANKS, Standing, StandingNews
from twisted_chat.store_contract import Append, Appended, Opened, Outcome, Page, RoomRecord, Store, TokenRecord

ALICE, BOB, CAROL = Author("u1", "alice"), Author("u2", "bob"), Author("u3", "carol")
BEGIN = 1_763_880_000.0  # seconds: some day in November 2025
ALL = 1_000_000

#: Texts that a store could spoil: quotes, controls, NUL, astral and combining characters, things that look like JSON or SQL.
AWKWARD = [
    "",
    " ",
    "plain",
    "'; drop table event; --",
    '{"text": "not an object"}',
    "[1, 2]",
    "null",
    "true",
    "12",
    "1e3",
    '\\ \\u0000 \\n " / \b\f\n\r\t',
    "NUL \x00 in the middle",
    "\x00",
    "".join(map(chr, range(1, 32))) + "\x7f\x80\x85\u2028\u2029\ufeff\uffff",
    "e\u0301 👩\u200d👩\u200d👧 \U0010ffff עברית",
    "x" * 20_000,
]


def say(text: str, by: Author = ALICE, key: str | None = None, reply_to: int | None = None) -> NewMessage:
    return NewMessage(by, key, text, reply_to=reply_to)


def raw(data: bytes, by: Author = ALICE, key: str | None = None) -> NewMessage:
    return NewMessage(by, key, data=data)


def edit(of: int, text: str, revision: int = 1, by: Author = ALICE, key: str | None = None) -> NewEdit:
    return NewEdit(by, key, of, revision, text)


def delete(of: int, by: Author = ALICE, key: str | None = None, any_author: bool = False) -> NewDeletion:
    return NewDeletion(by, key, of, any_author)


def reaction(of: int, emoji: str = "👍", on: bool = True, by: Author = BOB, key: str | None = None) -> NewReaction:
    return NewReaction(by, key, of, emoji, on)


def configure(
    by: Author = ALICE, key: str | None = None, *, archived: bool = False, creates: bool = False, **settings: Any
) -> NewSettings:
    return NewSettings(by, key, RoomSettings(**settings), archived, creates)


def member(
    person: Author, role: str | None, authority: int = RANKS["owner"], by: Author = ALICE, key: str | None = None
) -> NewMember:
    return NewMember(by, key, person, role, authority)


def sanction(
    person: Author,
    what: str = "ban",
    on: bool = True,
    until: int | None = None,
    authority: int = RANKS["owner"],
    by: Author = ALICE,
    key: str | None = None,
    address: str | None = None,
) -> NewSanction:
    return NewSanction(by, key, person, what, on, until, "a reason", authority, address)


def token(number: int, created: int = 1000, expires: int | None = None, rights: tuple[str, ...] = ()) -> TokenRecord:
    return TokenRecord(f"t{number}", f"u{number}", f"person {number}", created, expires, None, rights)


class StoreCase(SynchronousTestCase):
    """A store that is open, on a clock that a test advances."""

    store: Store

    def make_store(self) -> Store:
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(BEGIN)
        self.randomness = random.Random(2025)
        self.store = self.make_store()
        self.opened = self.open()
        self.addCleanup(self.close)

    def open(self) -> Opened:
        return self.successResultOf(self.store.open())

    def close(self) -> None:
        self.successResultOf(self.store.close())

    def append(self, room: str, *new_events: NewEvent) -> list[Outcome]:
        [outcomes] = self.successResultOf(self.store.append([Append(room, new_events)]))
        return outcomes

    def appended(self, room: str, *new_events: NewEvent) -> list[Event]:
        """Append what must succeed."""
        outcomes = self.append(room, *new_events)
        events = [outcome.event for outcome in outcomes if isinstance(outcome, Appended)]
        self.assertEqual(len(events), len(new_events), outcomes)
        return events

    def refused(self, room: str, new_event: NewEvent, error: type[ChatError]) -> None:
        before = self.log(room)
        [outcome] = self.append(room, new_event)
        self.assertIsInstance(outcome, error)
        self.assertEqual(self.log(room), before)

    def log(self, room: str, after: int = 0, limit: int = ALL, max_bytes: int = ALL * ALL) -> list[Event]:
        return self.successResultOf(self.store.read(room, after, limit, max_bytes))

    def texts(self, room: str, after: int = 0, limit: int = ALL, max_bytes: int = ALL * ALL) -> list[str | None]:
        return [getattr(event, "text", None) for event in self.log(room, after, limit, max_bytes)]

    def page(
        self,
        room: str,
        limit: int = ALL,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
        reader: str | None = None,
    ) -> Page:
        return self.successResultOf(self.store.page(room, limit, before=before, after=after, around=around, reader=reader))

    def event(self, room: str, seq: int) -> Event | None:
        return self.successResultOf(self.store.event(room, seq))

    def purge(self, room: str, keep_events: int | None = None, keep_after_ms: int | None = None) -> RoomRecord:
        return self.successResultOf(self.store.purge(room, keep_events, keep_after_ms))

    def standing(self, room: str, person: str) -> Standing:
        return self.successResultOf(self.store.standing(room, person))

    def members(self, room: str, search: str = "", after: tuple[int, str, str] | None = None, limit: int = ALL) -> list[Standing]:
        return self.successResultOf(self.store.members(room, search, after, limit))

    def standing_news(self, since: int = 0, limit: int = ALL) -> StandingNews:
        return self.successResultOf(self.store.standing_news(since, limit))
