"""The contract as a state machine: hypothesis chooses what is done, compares with the model after each step, and makes a failure short."""

from __future__ import annotations

from itertools import count
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from tests.store_contract.case import ALICE, AWKWARD, BEGIN, BOB, CAROL, StoreCase
from tests.store_contract.histories import Model
from twisted_chat.events import (
    Cursor,
    NewDeletion,
    NewEdit,
    NewEvent,
    NewMember,
    NewMessage,
    NewReaction,
    NewSanction,
    NewSettings,
    NewTopic,
    RoomSettings,
    TopicSet,
)
from twisted_chat.standings import RANKS, Standing, folded, rank
from twisted_chat.store_contract import Aged, Append, Page, RoomNews, RoomRecord

ROOMS = st.sampled_from(("one", "two"))
PEOPLE = st.sampled_from((ALICE, BOB, CAROL))
KEYS = st.none() | st.sampled_from(("k1", "k2", "k3"))
TEXTS = st.sampled_from([text for text in AWKWARD if len(text) < 100])
#: Of messages to amend: most of them are there.
NUMBERS = st.integers(1, 4) | st.integers(1, 12)

EVENTS: st.SearchStrategy[NewEvent] = st.one_of(
    st.builds(NewMessage, PEOPLE, KEYS, TEXTS, reply_to=st.none() | NUMBERS),
    st.builds(NewMessage, PEOPLE, KEYS, data=st.binary(max_size=9)),
    st.builds(NewEdit, PEOPLE, KEYS, NUMBERS, st.integers(1, 2), TEXTS),
    st.builds(NewDeletion, PEOPLE, KEYS, NUMBERS, st.booleans()),
    st.builds(NewReaction, PEOPLE, KEYS, NUMBERS, st.sampled_from("ab"), st.booleans()),
    st.builds(NewTopic, PEOPLE, KEYS, TEXTS),
)
RANK = st.sampled_from((4, 4, 4, 5, 3, 0))
ENDS = st.none() | st.integers(1, 200).map(lambda seconds: int(BEGIN + seconds) * 1000)
SETTINGS = st.builds(RoomSettings, st.just("public"), TEXTS, st.sampled_from(("", "members")), st.none() | st.just(1.5))
GOVERNANCE: st.SearchStrategy[NewEvent] = st.one_of(
    st.builds(NewSettings, PEOPLE, KEYS, SETTINGS, st.booleans(), st.booleans()),
    st.builds(NewMember, PEOPLE, KEYS, PEOPLE, st.none() | st.sampled_from(sorted(RANKS)), RANK),
    st.builds(
        NewSanction,
        PEOPLE,
        KEYS,
        PEOPLE,
        st.sampled_from(("mute", "ban", "kick")),
        st.booleans(),
        ENDS,
        TEXTS,
        RANK,
        address=st.none() | st.just("::1"),
    ),
)
_examples = count()


class StoreMachine(RuleBasedStateMachine):
    """Two rooms, three people and a program that follows; each run has rooms and people of its own in the same store."""

    #: The test case with the store; its ``open`` and ``close`` are used to open the store again.
    case: StoreCase
    #: Whether a store that is opened again still has everything.
    durable: bool

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"machine-{next(_examples)}-"
        self.models: dict[str, Model] = {}
        #: What the news has told: standings by room and person, settings and archived rooms by name; and where it goes on.
        self.told: dict[tuple[str, str], Standing] = {}
        self.told_rooms: dict[str, tuple[RoomSettings, bool]] = {}
        self.news = self.room_news = 0
        self.marks: dict[tuple[str, str], int] = {}
        self.cursors: dict[str, Cursor] = {}

    def name(self, room: str) -> str:
        return self.prefix + room

    def model(self, room: str) -> Model:
        return self.models.setdefault(room, Model(self.name(room)))

    def done(self, deferred: Any) -> Any:
        return self.case.successResultOf(deferred)

    @initialize()
    def begin(self) -> None:
        """There is something to amend, and the news of other runs is known."""
        self.news = self.case.standing_news().number
        self.room_news = self.done(self.case.store.room_news(0, 10**6)).number
        self.append(
            [("one", [NewMessage(ALICE, None, "first"), NewMessage(BOB, None, "second"), NewMessage(ALICE, "k1", "third")])]
        )

    @rule(batch=st.lists(st.tuples(ROOMS, st.lists(EVENTS, min_size=1, max_size=6)), min_size=1, max_size=3))
    def append(self, batch: list[tuple[str, list[NewEvent]]]) -> None:
        """A batch for one room or several, the same one perhaps twice."""
        answer = self.done(self.case.store.append([Append(self.name(room), new_events) for room, new_events in batch]))
        for (room, new_events), outcomes in zip(batch, answer, strict=True):
            self.model(room).expect(self.case, new_events, outcomes)

    @rule(batch=st.lists(st.tuples(ROOMS, st.lists(GOVERNANCE | EVENTS, min_size=1, max_size=6)), min_size=1, max_size=3))
    def govern(self, batch: list[tuple[str, list[NewEvent]]]) -> None:
        """Settings, members and sanctions among the rest."""
        self.append(batch)

    @rule(room=ROOMS, new_events=st.lists(GOVERNANCE, min_size=4, max_size=12))
    def govern_much(self, room: str, new_events: list[NewEvent]) -> None:
        """Many of them, so that some concern the same person."""
        self.append([(room, new_events)])

    @rule(seconds=st.integers(1, 100))
    def pass_time(self, seconds: int) -> None:
        self.case.clock.advance(seconds)

    @precondition(lambda self: self.models)
    @rule(data=st.data(), keep=st.none() | st.integers(0, 8), seconds=st.none() | st.integers(0, 200))
    def purge(self, data: st.DataObject, keep: int | None, seconds: int | None) -> None:
        room = data.draw(st.sampled_from(sorted(self.models)))
        young = None if seconds is None else int((self.case.clock.seconds() - seconds) * 1000)
        self.case.purge(self.name(room), keep, young)
        self.models[room].purge(keep, young)

    @rule(room=ROOMS, archived=st.booleans())
    def archive(self, room: str, archived: bool) -> None:
        self.model(room).archived = archived
        self.done(self.case.store.archive(self.name(room), archived))

    @precondition(lambda self: any(model.head for model in self.models.values()))
    @rule(data=st.data(), person=PEOPLE, seq=st.integers(0, 15))
    def mark_read(self, data: st.DataObject, person: Any, seq: int) -> None:
        """A mark never falls, and is never beyond the head."""
        room = data.draw(st.sampled_from([room for room, model in sorted(self.models.items()) if model.head]))
        mark = self.done(self.case.store.mark_read(self.prefix + person.id, self.name(room), seq))
        wanted = max(self.marks.get((person.id, room), 0), min(seq, self.models[room].head))
        self.case.assertEqual(mark, wanted)
        self.marks[person.id, room] = wanted

    @rule(room=ROOMS, epoch=st.sampled_from("ef"), seq=st.integers(0, 9), rewind=st.booleans())
    def save_cursor(self, room: str, epoch: str, seq: int, rewind: bool) -> None:
        """A cursor of the same epoch goes forward only, unless its program begins again."""
        cursor = Cursor(epoch, seq, f"x-{seq}" if seq else None)
        self.done(self.case.store.save_cursor(self.prefix, self.name(room), cursor, rewind=rewind))
        before = self.cursors.get(room)
        if rewind or before is None or before.epoch != epoch or before.seq < seq:
            self.cursors[room] = cursor

    @rule()
    def delete_cursors(self) -> None:
        self.done(self.case.store.delete_cursors(self.prefix))
        self.cursors = {}

    @precondition(lambda self: self.durable)
    @rule()
    def open_again(self) -> None:
        """The server ends and starts."""
        self.case.close()
        self.case.store = self.case.make_store()
        self.case.opened = self.case.open()

    @invariant()
    def logs(self) -> None:
        """Each log and each page is the model's."""
        for room, model in self.models.items():
            kept, name = model.kept(), self.name(room)
            self.case.assertEqual(self.case.log(name), kept)
            self.case.assertEqual(self.case.log(name, after=model.purged + 1, limit=3), kept[1:4])
            shown = model.shown()
            self.case.assertEqual(self.case.page(name, 4), Page(tuple(shown[-4:]), model.head, len(shown) > 4, False))
            if shown:
                middle = shown[len(shown) // 2].seq
                older = [event for event in shown if event.seq < middle]
                self.case.assertEqual(
                    self.case.page(name, 3, before=middle), Page(tuple(older[-3:]), model.head, len(older) > 3, True)
                )

    @invariant()
    def records(self) -> None:
        """So is what is known of each room."""
        for room, model in self.models.items():
            record: RoomRecord = self.done(self.case.store.record(self.name(room)))
            head_id = model.events[-1].id if model.events else ""
            self.case.assertEqual((record.first, record.head, record.head_id), (model.purged + 1, model.head, head_id))
            topics = [event.text for event in model.events if isinstance(event, TopicSet)]
            wanted = ((topics or [""])[-1], model.archived, model.settings)
            self.case.assertEqual((record.topic, record.archived, record.settings), wanted)
        aged = self.done(self.case.store.aged(2**52, Aged(0, ""), 10**6))
        oldest = {self.name(room): model.kept()[0].at for room, model in self.models.items() if model.kept()}
        self.case.assertEqual({each.room: each.at for each in aged if each.room.startswith(self.prefix)}, oldest)

    @invariant()
    def standings(self) -> None:
        """So is what people are in each room."""
        store, everything = self.case.store, []
        for room, model in sorted(self.models.items()):
            name = self.name(room)
            something = [standing for _, standing in sorted(model.standings.items()) if not standing.nothing]
            everything += something
            members = sorted(
                (each for each in something if each.role), key=lambda each: (-rank(each.role), folded(each.name), each.person)
            )
            self.case.assertEqual(self.case.members(name), members)
            if members:
                first = members[0]
                after = (rank(first.role), first.name, first.person)
                self.case.assertEqual(self.case.members(name, after=after, limit=2), members[1:3])
            sanctioned = [each for each in something if each.muted or each.banned]
            self.case.assertEqual(self.done(store.sanctions(name)), sanctioned)
            for each in something:
                self.case.assertEqual(self.case.standing(name, each.person), each)
        now = int(self.case.clock.seconds() * 1000)
        sanctioned = [each for each in everything if max(each.muted, each.banned) > now]
        found = [each for each in self.done(store.all_sanctions(now)) if each.room.startswith(self.prefix)]
        self.case.assertEqual(found, sanctioned)
        for person in (ALICE, BOB, CAROL):
            mine = [each for each in self.done(store.standings(person.id)) if each.room.startswith(self.prefix)]
            self.case.assertEqual(mine, [each for each in everything if each.person == person.id])

    @invariant()
    def what_is_told(self) -> None:
        """Who hears only the news knows all of it."""
        news = self.case.standing_news(self.news)
        self.news = news.number
        self.told |= {(each.room, each.person): each for each in news.standings}
        told = {place: standing for place, standing in self.told.items() if not standing.nothing}
        models = [(model.name, person, each) for model in self.models.values() for person, each in model.standings.items()]
        self.case.assertEqual(told, {(room, person): each for room, person, each in models if not each.nothing})
        rooms: RoomNews = self.done(self.case.store.room_news(self.room_news, 10**6))
        self.room_news = rooms.number
        self.told_rooms |= {room: (rooms.settings.get(room, RoomSettings()), each) for room, each in rooms.archived.items()}
        self.case.assertEqual(self.told_rooms, {model.name: (model.settings, model.archived) for model in self.models.values()})

    @invariant()
    def people_and_programs(self) -> None:
        """So are read marks and cursors."""
        for person in (ALICE, BOB, CAROL):
            marks = {self.name(room): seq for (owner, room), seq in self.marks.items() if owner == person.id}
            self.case.assertEqual(self.done(self.case.store.read_marks(self.prefix + person.id)), marks)
        cursors = {self.name(room): cursor for room, cursor in self.cursors.items()}
        self.case.assertEqual(self.done(self.case.store.load_cursors(self.prefix)), cursors)


class MachineContract(StoreCase):
    #: How many runs of the machine there are, and steps in each.
    machine_runs, machine_steps = 30, 20
    #: Whether a store that is opened again still has everything.
    keeps = False

    def test_state_machine(self) -> None:
        """Whatever hypothesis does: after each step the store has exactly what the model has."""
        machine = type("Machine", (StoreMachine,), {"case": self, "durable": self.keeps})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=self.machine_runs,
                stateful_step_count=self.machine_steps,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
