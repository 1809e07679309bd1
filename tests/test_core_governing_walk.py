"""Random people do random things in rooms with members, against a model that folds the logs.

The model knows who may see a room and who may write there after each event of its log.  Whatever order the store answers in:

* nobody ever receives an event of a room that the model says they may not see;
* a command is carried out exactly if the model allows it, where nothing else is in progress.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, CAROL, MODERATOR, ChatHarness, JsonClient, guest
from twisted_chat.events import Event, MemberChanged, RoomChanged, Sanctioned
from twisted_chat.standings import RANKS, rank

DORA = guest("dora")
PEOPLE = {user.id: user for user in (ALICE, BOB, CAROL, MODERATOR, DORA)}
ROLES = ("owner", "moderator", "member", "reader", None)
MODERATOR_RANK, OWNER_RANK = RANKS["moderator"], RANKS["owner"]


@dataclass
class Room:
    """What the log of a room says after some of its events."""

    access: str = "public"
    roles: dict[str, str] = field(default_factory=dict)
    muted: frozenset[str] = frozenset()
    banned: frozenset[str] = frozenset()

    def after(self, event: Event) -> Room:
        roles, muted, banned = dict(self.roles), self.muted, self.banned
        match event:
            case RoomChanged():
                return replace(self, access=event.settings.access)
            case MemberChanged():
                roles.pop(event.person.id, None)
                if event.role is not None:
                    roles[event.person.id] = event.role
            case Sanctioned(what="mute"):
                muted = muted | {event.person.id} if event.on else muted - {event.person.id}
            case Sanctioned(what="ban"):
                banned = banned | {event.person.id} if event.on else banned - {event.person.id}
                if event.on:
                    roles.pop(event.person.id, None)
        return replace(self, roles=roles, muted=muted, banned=banned)

    def sees(self, person: str) -> bool:
        return person not in self.banned and (self.access == "public" or person in self.roles)

    def rank(self, person: str) -> int:
        own = rank(self.roles.get(person))
        moderates = "moderate" in PEOPLE[person].rights and self.access != "direct"
        return max(own, MODERATOR_RANK) if moderates else own

    def writes(self, person: str) -> bool:
        return (self.sees(person) and person not in self.muted and self.roles.get(person) != "reader") or (
            self.sees(person) and person not in self.muted and self.rank(person) >= MODERATOR_RANK
        )

    def may_set(self, by: str, person: str, role: str | None) -> bool:
        """Whether the change of a member is carried out."""
        if not self.sees(by) or self.access == "direct":
            return False
        before, mine = self.roles.get(person), self.rank(by)
        if not (by == person and role is None):
            if mine < MODERATOR_RANK or (person in self.banned and role is not None):
                return False
            if rank(role) > mine or (rank(before) >= mine and mine < OWNER_RANK):
                return False
        last = before == "owner" and list(self.roles.values()).count("owner") == 1
        return not (last and role != "owner")

    def may_sanction(self, by: str, person: str) -> bool:
        if not self.sees(by) or self.access == "direct" or by == person:
            return False
        return self.rank(by) >= MODERATOR_RANK and rank(self.roles.get(person)) < self.rank(by)


def states(log: Sequence[Event]) -> list[Room]:
    """The room before its first event and after each one."""
    found = [Room()]
    for event in log:
        found.append(found[-1].after(event))
    return found


class Walk(RuleBasedStateMachine):
    case: SynchronousTestCase

    def __init__(self) -> None:
        super().__init__()
        self.chat = ChatHarness(self.case)
        # Each guest and user from an address of their own, so that sanctions of addresses are of one guest.
        self.addresses = {person: f"192.0.2.{number}" for number, person in enumerate(PEOPLE)}
        self.clients: dict[str, JsonClient] = {}
        self.rooms = ["hall"]
        self.sent = 0
        for person in PEOPLE:
            self.connect(person)
        made = self.clients[ALICE.id].ask("create", access="private", title="x", people=[BOB.id, CAROL.id])
        self.rooms.append(made["room"])
        for person, client in self.clients.items():
            client.say(*({"type": "join", "room": room} for room in self.rooms if self.now(room).sees(person)))

    def connect(self, person: str) -> None:
        self.clients[person] = self.chat.json(PEOPLE[person], address=self.addresses[person])

    @property
    def calm(self) -> bool:
        return not self.chat.store.held()

    def now(self, room: str) -> Room:
        return states(self.chat.log(room))[-1]

    def do(self, by: str, allowed: bool | None, type_: str, **fields: Any) -> dict[str, Any] | None:
        """Send a command; with nothing else in progress it is carried out exactly if it is allowed."""
        client = self.clients[by]
        if self.chat.store.holding:
            self.sent += 1
            client.say({"type": type_, "id": f"w{self.sent}", **fields})
            return None
        answer = client.ask(type_, **fields)
        if allowed is not None:
            assert (answer["type"] == "ok") == allowed, (by, type_, fields, answer)
        return answer

    people = st.sampled_from(sorted(PEOPLE))
    number = st.integers(0, 3)

    def room(self, number: int) -> str:
        return self.rooms[number % len(self.rooms)]

    @precondition(lambda self: not self.chat.store.holding and len(self.rooms) < 5)
    @rule(person=people, others=st.lists(people, max_size=2))
    def create(self, person: str, others: list[str]) -> None:
        allowed = person != DORA.id and DORA.id not in others
        answer = self.do(person, allowed, "create", access="private", title="x", people=others)
        if answer is not None and allowed:
            self.rooms.append(answer["room"])

    @precondition(lambda self: not self.chat.store.holding and len(self.rooms) < 5)
    @rule(person=people, other=people)
    def direct(self, person: str, other: str) -> None:
        allowed = person != other and DORA.id not in (person, other)
        answer = self.do(person, allowed, "direct", people=[other])
        if answer is not None and allowed and answer["room"] not in self.rooms:
            self.rooms.append(answer["room"])

    @rule(person=people, number=number, other=people, role=st.sampled_from(ROLES))
    def set_role(self, person: str, number: int, other: str, role: str | None) -> None:
        room = self.room(number)
        allowed = self.now(room).may_set(person, other, role) and other != DORA.id
        self.do(person, None if (person, role) == (DORA.id, None) else allowed, "member", room=room, person=other, role=role)

    @rule(person=people, number=number, other=people, what=st.sampled_from(["mute", "ban"]), on=st.booleans())
    def sanction(self, person: str, number: int, other: str, what: str, on: bool) -> None:
        room = self.room(number)
        now = self.now(room)
        last = what == "ban" and on and now.roles.get(other) == "owner" and list(now.roles.values()).count("owner") == 1
        allowed = now.may_sanction(person, other) and not last
        self.do(person, allowed, "sanction", room=room, person=other, what=what, on=on)

    @rule(person=people, number=number)
    def send(self, person: str, number: int) -> None:
        room = self.room(number)
        joined = room in self.clients[person].session.memberships
        self.do(person, joined and self.now(room).writes(person), "send", room=room, text="x")

    @rule(person=people, number=number, tail=st.integers(0, 50))
    def join(self, person: str, number: int, tail: int) -> None:
        room = self.room(number)
        self.do(person, self.now(room).sees(person), "join", room=room, tail=tail)

    @rule(person=people, number=number)
    def read(self, person: str, number: int) -> None:
        room = self.room(number)
        answer = self.do(person, self.now(room).sees(person), "history", room=room)
        if answer is not None:
            listed = {one["room"] for one in self.clients[person].ask("rooms")["rooms"]}
            assert {one for one in listed if one != "hall"} == {one for one in self.rooms[1:] if person in self.now(one).roles}

    @rule(person=people)
    def reconnect(self, person: str) -> None:
        if not self.chat.store.holding:
            self.check_received()
            self.clients[person].lose()
            self.connect(person)

    @rule()
    def hold(self) -> None:
        self.chat.store.holding = True

    @precondition(lambda self: self.chat.store.holding)
    @rule(places=st.lists(st.integers(0, 10), max_size=4))
    def release_some(self, places: list[int]) -> None:
        store = self.chat.store
        for place in places:
            if store.waiting:
                store.release(place % len(store.waiting))
        self.chat.turn()

    @precondition(lambda self: self.chat.store.holding)
    @rule()
    def release(self) -> None:
        while self.chat.store.held():
            self.chat.store.release_all()
            self.chat.turn()
        self.chat.store.holding = False

    @invariant()
    def check_received(self) -> None:
        """Each event that came was one that the reader might see then, or at a later event, when history was read."""
        after: dict[str, list[Room]] = {}
        for person, client in self.clients.items():
            for one in client.take():
                events = [one] if one["type"] == "event" else one.get("events", [])
                for event in events:
                    if one["room"] not in after:
                        after[one["room"]] = states(self.chat.log(one["room"]))
                    seen = any(state.sees(person) for state in after[one["room"]][event["seq"] - 1 :])
                    assert seen, (person, one["room"], event)


class WalkTests(SynchronousTestCase):
    def test_random_people(self) -> None:
        Walk.case = self
        run_state_machine_as_test(
            Walk,
            settings=settings(
                max_examples=1500,
                stateful_step_count=50,
                deadline=None,
                database=None,
                derandomize=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
