"""Random histories: whatever happens in whatever order, a slow and obvious model gives the same."""

from __future__ import annotations

import random
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.store_contract.case import ALICE, ALL, AWKWARD, BOB, CAROL, StoreCase
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
from twisted_chat.standings import Standing
from twisted_chat.store_contract import Append, Appended, Duplicate, Outcome, Page


class HistoriesContract(StoreCase):
    def test_random_histories(self) -> None:
        """Whatever happens in whatever order: the slow and obvious model gives the same."""
        for seed in range(self.histories):
            self.random_history(random.Random(seed), f"room-{seed}", f"other-{seed}")

    #: How many random histories are tried, of some 60 batches each.
    histories = 12

    def random_history(self, dice: random.Random, *rooms: str) -> None:
        models = {room: Model() for room in rooms}
        for _ in range(60):
            self.clock.advance(dice.choice([0, 1, 60]))
            batch = [Append(room, random_drafts(dice, models[room])) for room in dice.choices(rooms, k=dice.randint(1, 3))]
            answer = self.successResultOf(self.store.append(batch))
            for append, outcomes in zip(batch, answer, strict=True):
                models[append.room].expect(self, append.new_events, outcomes)
            room = dice.choice(rooms)
            if dice.random() < 0.1:
                keep = dice.choice([None, dice.randint(0, 40)])
                young = dice.choice([None, int((self.clock.seconds() - dice.choice([0, 30, 600])) * 1000)])
                record = self.purge(room, keep, young)
                models[room].purge(keep, young)
                self.assertEqual((record.first, record.head), (models[room].purged + 1, models[room].head))
            if dice.random() < 0.1:
                self.between()
            self.compare(dice, room, models[room])

    def between(self) -> None:
        """What may happen at any time and must change nothing."""

    def compare(self, dice: random.Random, room: str, model: Model) -> None:
        after, read = 0, []
        while events := self.log(room, after, dice.randint(1, 50), dice.choice([0, 100, ALL])):
            read += events
            after = events[-1].seq
        self.assertEqual(read, model.kept())
        self.assertEqual([event.seq for event in read], list(range(model.purged + 1, model.head + 1)))
        limit, pivot = dice.randint(1, 30), dice.randint(0, model.head + 2)
        shown = model.shown()
        older, newer = [e for e in shown if e.seq < pivot], [e for e in shown if e.seq > pivot]
        at = [e for e in shown if e.seq == pivot]
        self.assertEqual(
            self.page(room, limit, before=pivot),
            Page(tuple(older[-limit:]), model.head, len(older) > limit, bool(at or newer)),
        )
        self.assertEqual(
            self.page(room, limit, after=pivot),
            Page(tuple(newer[:limit]), model.head, bool(older or at), len(newer) > limit),
        )
        around = self.page(room, limit, around=pivot)
        begin = shown.index(around.events[0]) if around.events else 0
        self.assertEqual(list(around.events), shown[begin : begin + limit])
        self.assertTrue(not at or at[0] in around.events)
        self.assertEqual((around.more_before, around.more_after), (begin > 0, begin + limit < len(shown)))


class Model:
    """One room, slow and obvious: the present state is folded from the whole log each time that it is asked for.

    :ivar standings: by person, also those in which nothing is left.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.events: list[Event] = []
        self.purged = 0
        self.settings = RoomSettings()
        self.archived = False
        self.standings: dict[str, Standing] = {}

    @property
    def head(self) -> int:
        return len(self.events)

    def kept(self) -> list[Event]:
        return self.events[self.purged :]

    def shown(self) -> list[Event]:
        state: dict[int, Event] = {}
        for event in self.kept():
            if not isinstance(event, Edited | Deleted | Reacted):
                state[event.seq] = event
            elif event.of in state:
                message = state[event.of]
                assert isinstance(message, Message)
                state[event.of] = amendments.fold(message, event)
        return list(state.values())

    def expect(self, case: SynchronousTestCase, new_events: Sequence[NewEvent], outcomes: Sequence[Outcome]) -> None:
        """Check the outcomes of the drafts one by one and take in what was appended."""
        case.assertEqual(len(new_events), len(outcomes))
        creations = governance.Creations()
        for new_event, outcome in zip(new_events, outcomes, strict=True):
            first = [e for e in self.kept() if new_event.key is not None and (e.by.id, e.key) == (new_event.by.id, new_event.key)]
            if first:
                assert isinstance(outcome, Duplicate), outcome
                case.assertEqual(outcome.event.seq, first[0].seq)
                creations.note(new_event, outcome)
                continue
            try:
                creations.check(new_event, self.head)
                event = self.event(new_event, outcome)
            except ChatError as error:
                case.assertEqual((type(outcome), str(outcome)), (type(error), str(error)))
                creations.note(new_event, error)
                continue
            case.assertEqual(outcome, Appended(event))
            self.events.append(event)
            if isinstance(event, Deleted):
                self.erase(event.of)

    def event(self, new_event: NewEvent, outcome: Outcome) -> Event:
        at, event_id = (outcome.event.at, outcome.event.id) if isinstance(outcome, Appended) else (0, "")
        head = (self.head + 1, event_id, at, new_event.by, new_event.key)
        match new_event:
            case NewMessage():
                return Message(*head, new_event.text, new_event.data, new_event.reply_to)
            case NewTopic():
                return TopicSet(*head, text=new_event.text)
            case NewSettings() | NewMember() | NewSanction():
                self.govern(new_event, at)
                return governance.event_of(new_event, *head[:3])
        messages = [event for event in self.shown() if isinstance(event, Message) and event.seq == new_event.of]
        amendments.check(amendments.standing(messages[0]) if messages else None, new_event)
        match new_event:
            case NewEdit():
                return Edited(*head, of=new_event.of, revision=new_event.revision + 1, text=new_event.text)
            case NewDeletion():
                return Deleted(*head, of=new_event.of)
            case NewReaction():
                return Reacted(*head, of=new_event.of, emoji=new_event.emoji, on=new_event.on)

    def govern(self, new_event: Governance, at: int) -> None:
        if isinstance(new_event, NewSettings):
            governance.check_settings(new_event, self.head, self.settings)
            self.settings, self.archived = new_event.settings, new_event.archived
        else:
            owners = sum(standing.role == "owner" for standing in self.standings.values())
            for standing in governance.standings_after(new_event, self.standing, owners, at):
                self.standings[standing.person] = standing

    def standing(self, person: str) -> Standing:
        return self.standings.get(person) or Standing(self.name, person, "")

    def erase(self, of: int) -> None:
        for index, event in enumerate(self.events):
            if isinstance(event, Message) and event.seq == of:
                self.events[index] = amendments.tombstone(event)
            elif isinstance(event, Edited) and event.of == of:
                self.events[index] = Edited(
                    event.seq, event.id, event.at, event.by, event.key, of=of, revision=event.revision, text=None
                )

    def purge(self, keep_events: int | None, keep_after_ms: int | None) -> None:
        if keep_events is not None:
            self.purged = max(self.purged, self.head - keep_events)
        while keep_after_ms is not None and self.purged < self.head and self.events[self.purged].at < keep_after_ms:
            self.purged += 1


def random_drafts(dice: random.Random, model: Model) -> list[NewEvent]:
    return [random_draft(dice, model) for _ in range(dice.randint(0, 8))]


def random_draft(dice: random.Random, model: Model) -> NewEvent:
    by = dice.choice([ALICE, BOB, CAROL])
    key = dice.choice([None, f"k{dice.randint(1, 60)}"])
    of = dice.randint(max(1, model.head - 8), model.head + 3)
    match dice.randint(1, 12):
        case 1 | 2:
            return NewEdit(by, key, of, dice.randint(1, 2), dice.choice(AWKWARD))
        case 3:
            return NewDeletion(by, key, of, dice.random() < 0.5)
        case 4 | 5:
            return NewReaction(by, key, of, dice.choice("123"), dice.random() < 0.7)
        case 6:
            return NewTopic(by, key, dice.choice(AWKWARD))
        case 7:
            return NewMessage(by, key, data=dice.randbytes(dice.randint(0, 40)))
    return NewMessage(by, key, dice.choice(AWKWARD), reply_to=dice.choice([None, 1, 7]))
