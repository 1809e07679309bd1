"""One room of the store in memory: its log in a list, and the present state of amended messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

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
    RoomSettings,
    TopicSet,
)
from twisted_chat.store_contract import Appended, Duplicate, Outcome, Page, RoomRecord
from twisted_chat.stores import pages
from twisted_chat.stores.memory_standings import MemoryStandings

#: Edits that one append erases, which takes about 1 ms.
ERASED_EDITS = 1_000


class MemoryLog:
    """One room: ``events[0]`` has the number ``purged + 1``.

    :param standings: those of all rooms.
    """

    def __init__(self, name: str, standings: MemoryStandings) -> None:
        self.name = name
        self._standings = standings
        self.purged = 0
        self.head_id = ""
        self.topic = ""
        self.archived = False
        self.settings = RoomSettings()
        self.events: list[Event] = []
        self.keys: dict[tuple[str, str], int] = {}
        #: The present state of amended messages, and the numbers of their edits.
        self.present: dict[int, Message] = {}
        self.edits: dict[int, list[int]] = {}
        #: Deleted messages, and the numbers of their edits that still have texts; readers do not see these texts.
        self.erasing: dict[int, list[int]] = {}
        #: By message and emoji: the people who added it, in that order.
        self.reactions: dict[int, dict[str, dict[str, None]]] = {}

    @property
    def head(self) -> int:
        return self.purged + len(self.events)

    @property
    def oldest(self) -> int | None:
        """The time of the oldest event that is kept."""
        return self.events[0].at if self.events else None

    def record(self) -> RoomRecord:
        return RoomRecord(self.name, self.purged + 1, self.head, self.head_id, self.topic, self.archived, self.settings)

    def append(self, new_events: Sequence[NewEvent], at: int, batch: str) -> list[Outcome]:
        outcomes: list[Outcome] = []
        creations = governance.Creations()
        keys, events = self.keys, self.events
        seq = self.head
        if self.erasing:
            self._go_on_erasing()
        for new_event in new_events:
            key = new_event.key
            if key is not None:
                first = keys.get((new_event.by.id, key))
                if first is not None:
                    outcomes.append(Duplicate(self._readable(events[first - self.purged - 1])))
                    creations.note(new_event, outcomes[-1])
                    continue
            event: Event
            if type(new_event) is NewMessage:
                by = new_event.by
                event = Message(seq + 1, f"{batch}-{seq + 1}", at, by, key, new_event.text, new_event.data, new_event.reply_to)
            else:
                try:
                    event = self._other(new_event, seq + 1, f"{batch}-{seq + 1}", at, creations)
                except ChatError as error:
                    outcomes.append(error)
                    creations.note(new_event, error)
                    continue
            seq += 1
            events.append(event)
            self.head_id = event.id
            if key is not None:
                keys[new_event.by.id, key] = seq
            outcomes.append(Appended(event))
        return outcomes

    def _other(self, new_event: NewEvent, seq: int, event_id: str, at: int, creations: governance.Creations) -> Event:
        match new_event:
            case NewMessage():
                return Message(seq, event_id, at, new_event.by, new_event.key, new_event.text, new_event.data, new_event.reply_to)
            case NewTopic():
                self.topic = new_event.text
                return TopicSet(seq, event_id, at, new_event.by, new_event.key, text=new_event.text)
            case NewSettings() | NewMember() | NewSanction():
                creations.check(new_event, self.head)
                self._govern(new_event, at)
                return governance.event_of(new_event, seq, event_id, at)
        message = self._message(new_event.of)
        amendments.check(None if message is None else self._standing(message), new_event)
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
                self._react(new_event)
                return Reacted(
                    seq, event_id, at, new_event.by, new_event.key, of=new_event.of, emoji=new_event.emoji, on=new_event.on
                )
            case NewDeletion():
                self._erase(message)
                amendment = Deleted(seq, event_id, at, new_event.by, new_event.key, of=new_event.of)
        self.present[new_event.of] = amendments.fold(message, amendment)
        return amendment

    def _govern(self, new_event: Governance, at: int) -> None:
        if isinstance(new_event, NewSettings):
            governance.check_settings(new_event, self.head, self.settings)
            self.settings, self.archived = new_event.settings, new_event.archived
        else:
            self._standings.change(self.name, new_event, at)

    def _standing(self, message: Message) -> amendments.MessageState:
        return replace(amendments.standing(message), emoji=self.reactions.get(message.seq, {}).keys())

    def _react(self, new_event: NewReaction) -> None:
        on_message = self.reactions.setdefault(new_event.of, {})
        people = on_message.setdefault(new_event.emoji, {})
        if new_event.on:
            people.setdefault(new_event.by.id)
        else:
            people.pop(new_event.by.id, None)
        if not people:
            del on_message[new_event.emoji]
        if not on_message:
            del self.reactions[new_event.of]

    def _erase(self, message: Message) -> None:
        self.events[message.seq - self.purged - 1] = amendments.tombstone(message)
        self.reactions.pop(message.seq, None)
        edits = self.edits.pop(message.seq, None)
        if edits:
            self.erasing[message.seq] = edits
            self._go_on_erasing()

    def _go_on_erasing(self) -> None:
        """Remove the texts of a slice of the edits of deleted messages; one message may have 1,000,000 edits."""
        of, edits = next(iter(self.erasing.items()))
        for seq in edits[-ERASED_EDITS:]:
            edit = self.event(seq)
            if isinstance(edit, Edited):
                self.events[seq - self.purged - 1] = edit
        del edits[-ERASED_EDITS:]
        if not edits:
            del self.erasing[of]

    def _readable(self, event: Event) -> Event:
        return replace(event, text=None) if type(event) is Edited and event.of in self.erasing else event

    def _message(self, seq: int) -> Message | None:
        event = self.present.get(seq) or self.event(seq)
        return event if isinstance(event, Message) else None

    def event(self, seq: int) -> Event | None:
        return self._readable(self.events[seq - self.purged - 1]) if self.purged < seq <= self.head else None

    def read(self, after: int, limit: int, max_bytes: int) -> list[Event]:
        begin = max(after - self.purged, 0)
        events: list[Event] = []
        size = 0
        for event in self.events[begin : begin + limit]:
            size += pages.content_bytes(event)
            if events and size > max_bytes:
                break
            events.append(self._readable(event))
        return events

    def page(self, limit: int, where: pages.Place, reader: str | None) -> Page:
        older = [self._with_reactions(event, reader) for event in islice(self._shown(where.pivot, -1), where.older + 1)]
        newer = [self._with_reactions(event, reader) for event in islice(self._shown(where.pivot + 1, 1), where.newer + 1)]
        events, more_before, more_after = pages.cut(where, limit, older, newer, lambda event: pages.weigh(event, {}))
        return Page(tuple(events), self.head, more_before, more_after)

    def _with_reactions(self, event: Event, reader: str | None) -> Event:
        reactions = self.reactions.get(event.seq)
        if not reactions:
            return event
        shown = tuple(
            pages.shorten(emoji, list(islice(people, pages.NAMES)), len(people), reader if reader in people else None)
            for emoji, people in reactions.items()
        )
        return replace(event, reactions=shown)

    def _shown(self, begin: int, step: int) -> Iterator[Event]:
        """Entries of a page in their present state, from number ``begin`` towards either end of the log."""
        seq = min(begin, self.head) if step < 0 else max(begin, self.purged + 1)
        while self.purged < seq <= self.head:
            event = self.events[seq - self.purged - 1]
            if not event.amends:
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
            self.reactions.pop(event.seq, None)
            if event.key is not None:
                del self.keys[event.by.id, event.key]
        del self.events[:count]
        self.purged += count
        return self.record()

    def archive(self, archived: bool) -> RoomRecord:
        self.archived = archived
        return self.record()
