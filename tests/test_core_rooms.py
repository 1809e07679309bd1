"""Rooms: numbers without holes, the same order for everybody, and readers that fall behind and catch up."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, CAROL, ChatHarness, Json, JsonClient, MemoryConnection, PlainClient
from twisted_chat.core import broadcast, catching_up, history, subscription
from twisted_chat.events import Event, Message
from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.protocol import encoders

#: Windows and portions so small that a few messages overflow them.
SMALL = {
    broadcast: {"CATCH_UP_BYTES": 300, "SHARD_SUBSCRIBERS": 2},
    history: {"CATCH_UP_BYTES": 300, "CATCH_UP_EVENTS": 4},
    subscription: {"CATCH_UP_BYTES": 300, "CATCH_UP_EVENTS": 4},
    catching_up: {"FEED_BYTES": 600},
    encoders: {"BATCH_BYTES": 400},
}

RUNS = 400
STEPS = 120


class Reading:
    """The slow and obvious twin of a reader: one room as a JSON client has it, checked as it comes in."""

    def __init__(self, joined: Json) -> None:
        self.epoch = joined["epoch"]
        self.durable = joined["durable"]
        self.next = joined["from"]
        self.live = False
        #: Where to resume: number and id of the last event.
        self.seq, self.id = joined["from"] - 1, None
        if joined["from"] == joined["head"] + 1:
            self.id = joined.get("head_id")
        self.events: list[Json] = []

    def event(self, event: Json) -> None:
        if event["seq"] != self.next:
            raise AssertionError(f"got {event['seq']}, expected {self.next}")
        self.next += 1
        self.seq, self.id = event["seq"], event["id"]
        self.events.append(event)

    def gap(self, dropped: int) -> None:
        if dropped < 1:
            raise AssertionError(f"a gap of {dropped}")
        self.next += dropped
        self.seq, self.id = self.next - 1, None

    def reached(self, seq: int) -> None:
        if seq != self.next - 1:
            raise AssertionError(f"live at {seq} after {self.next - 1}")
        self.live = True

    @property
    def cursor(self) -> Json | None:
        if self.seq and self.id is None:
            return None
        return {"epoch": self.epoch, "seq": self.seq, **({"id": self.id} if self.id else {})}


class JsonTwin:
    """One rich client of a random run, over all of its connections."""

    def __init__(self, run: Run, number: int) -> None:
        self.run = run
        self.user = (ALICE, BOB, CAROL)[number % 3]
        self.client: JsonClient | None = None
        self.rooms: dict[str, Reading] = {}
        self.cursors: dict[str, Json] = {}
        self.asked: dict[int, tuple[Any, ...]] = {}
        self.acked: dict[tuple[str, str, str], int] = {}

    def step(self) -> None:
        choose = self.run.random.random
        if self.client is None:
            self.connect()
            return
        action = choose()
        room = self.run.any_room()
        if action < 0.25 and room not in self.rooms and not any(asked[:2] == ("join", room) for asked in self.asked.values()):
            self.join(room)
        elif action < 0.33:
            self.say("leave", room=room)
        elif action < 0.70:
            self.post(room)
        elif action < 0.76:
            self.lose()
        else:
            self.run.squeeze(self.client.connection)
        self.look()

    def connect(self) -> None:
        connection = MemoryConnection(buffers=self.run.random.random() < 0.3)
        capabilities = ["batch"] if self.run.random.random() < 0.5 else []
        with self.run.everything_at_once():
            self.client = self.run.chat.json(self.user, connection=connection, capabilities=capabilities)
        self.rooms = {}
        self.asked = {}

    def lose(self) -> None:
        assert self.client is not None
        self.look()
        self.client.lose()
        for name, reading in self.rooms.items():
            self.settle(name, reading)
        self.client = None

    def settle(self, name: str, reading: Reading) -> None:
        self.run.finished.append((name, reading))
        if reading.cursor is not None:
            self.cursors[name] = reading.cursor
        else:
            self.cursors.pop(name, None)

    def join(self, room: str) -> None:
        wanted: Json = {"room": room}
        since = self.cursors.get(room)
        if since is not None and self.run.random.random() < 0.8:
            wanted["since"] = since
        elif self.run.random.random() < 0.5:
            wanted["tail"] = self.run.random.randrange(20)
        if self.run.random.random() < 0.3:
            self.say("join", rooms=[wanted])
        else:
            self.say("join", **wanted)

    def post(self, room: str) -> None:
        rng = self.run.random
        kind = rng.random()
        head = max(1, len(self.run.chat.log(room)))
        commands = []
        for _ in range(rng.choice((1, 1, 1, 2, 7))):
            self.run.keys += 1
            key = f"k{self.run.keys - (rng.randrange(5) if rng.random() < 0.2 else 0)}"
            command: Json = {"type": "send", "room": room, "key": key, "text": f"{key} " + "x" * rng.choice((0, 5, 90))}
            if kind < 0.1:
                command = {"type": "edit", "room": room, "key": key, "of": rng.randint(1, head), "revision": 1, "text": "new"}
            elif kind < 0.2:
                command = {"type": "delete", "room": room, "key": key, "of": rng.randint(1, head)}
            elif kind < 0.25:
                command = {"type": "react", "room": room, "key": key, "of": rng.randint(1, head), "emoji": "👍"}
            commands.append(self.numbered(command))
        assert self.client is not None
        self.client.say(*commands)

    def say(self, type_: str, **fields: Any) -> None:
        assert self.client is not None
        self.client.say(self.numbered({"type": type_, **fields}))

    def numbered(self, command: Json) -> Json:
        self.run.chat.last_id += 1
        number = self.run.chat.last_id
        room = command.get("room") or command["rooms"][0]["room"]
        self.asked[number] = (command["type"], room, command.get("key"), command.get("since") or command.get("rooms"))
        return {**command, "id": number}

    def look(self) -> None:
        """Check what came, in the order in which it came."""
        if self.client is None:
            return
        for one in self.client.take():
            kind = one["type"]
            if kind == "event":
                self.rooms[one["room"]].event(one)
            elif kind == "gap":
                self.rooms[one["room"]].gap(one["dropped"])
            elif kind == "live":
                self.rooms[one["room"]].reached(one["seq"])
            elif kind in ("ok", "error"):
                self.answered(one)
            elif kind not in ("ping",):
                raise AssertionError(one)

    def answered(self, answer: Json) -> None:
        command, room, key, _ = self.asked.pop(answer["id"])
        if answer["type"] == "error":
            allowed = {"not_joined", "unavailable", "no_such_event", "gone", "conflict", "forbidden"}
            if answer["code"] not in allowed or (command == "join" and answer["code"] not in ("not_joined", "unavailable")):
                raise AssertionError(f"{command}: {answer}")
        elif command == "leave":
            # Left before it was joined: the join gets an error.
            if room in self.rooms:
                self.settle(room, self.rooms.pop(room))
        elif command == "join":
            joined = answer["rooms"][0] if "rooms" in answer else answer
            if "error" in joined:
                return
            if room in self.rooms:
                raise AssertionError(f"joined {room} twice")
            if joined.get("recovered") is True and joined["from"] != self.cursors[room]["seq"] + 1:
                raise AssertionError(f"resumed {self.cursors[room]} as {joined}")
            self.rooms[room] = Reading(joined)
        else:
            place = (room, self.user.id, key)
            if self.acked.setdefault(place, answer["seq"]) != answer["seq"]:
                raise AssertionError(f"{place} was acknowledged as {self.acked[place]} and as {answer['seq']}")
            self.run.acked[place] = answer["seq"], answer["event"]


class PlainTwin:
    """One plain client of a random run: what it was shown of its room, connection by connection."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.client: PlainClient | None = None
        self.shown: list[str | bytes] = []
        self.room = "lobby"
        self.since = 0

    def step(self) -> None:
        rng = self.run.random
        if self.client is None:
            self.room = rng.choice(("lobby", "den"))
            self.client = self.run.chat.plain(BOB, self.room, connection=MemoryConnection(buffers=rng.random() < 0.3))
            self.since = self.run.chat.core.rooms.find(BOB, self.room).head
            self.shown = []
        elif rng.random() < 0.4:
            self.run.keys += 1
            self.client.say(f"plain {self.run.keys}")
        elif rng.random() < 0.1:
            self.lose()
        else:
            self.run.squeeze(self.client.connection)
        self.look()

    def look(self) -> None:
        if self.client is None:
            return
        if self.client.closed:
            # Nothing can be told to a plain client whose message was not kept, except by the end.
            if self.client.closed != 4504:
                raise AssertionError(self.client.connection.closed)
            self.lose()
        else:
            self.shown += self.client.take()

    def lose(self) -> None:
        assert self.client is not None
        self.run.finished_plain.append((self.room, self.since, self.shown + self.client.take(), False))
        self.client.lose()
        self.client = None


class Run:
    """One random script, from a seed."""

    def __init__(self, case: SynchronousTestCase, seed: int) -> None:
        self.case = case
        self.random = random.Random(seed)
        limits = Limits(send_per_second=0, person_per_second=0, query_per_second=0, recent_events=self.random.choice((2, 12, 40)))
        self.chat = ChatHarness(case, limits, {"live": RoomPolicy(durable=False)}, seed=seed)
        self.store = self.chat.store
        #: Half of the runs look between the turns, when rows of a room still wait for theirs.
        self.chat.one_turn = seed % 2 == 1
        broadcast.SHARD_SUBSCRIBERS = self.random.choice((1, 1, 2, 3))
        self.keys = 0
        self.acked: dict[tuple[str, str, str], tuple[int, str]] = {}
        self.finished: list[tuple[str, Reading]] = []
        self.finished_plain: list[tuple[str, int, list[str | bytes], bool]] = []
        self.rich = [JsonTwin(self, number) for number in range(4)]
        self.plain = [PlainTwin(self) for _ in range(6)]
        self.twins: list[JsonTwin | PlainTwin] = [*self.rich, *self.plain]

    @contextmanager
    def everything_at_once(self) -> Iterator[None]:
        """The store answers, and turns follow one another until nothing is left to do."""
        chat, store = self.chat, self.store
        before = store.holding, chat.one_turn
        store.holding = chat.one_turn = False
        yield
        store.holding, chat.one_turn = before

    def any_room(self) -> str:
        return self.random.choice(("lobby", "lobby", "den", "live"))

    def squeeze(self, connection: MemoryConnection) -> None:
        """The client's socket takes nothing, a little, or all."""
        action = self.random.random()
        if action < 0.4:
            connection.capacity = min(connection.capacity or 0, self.random.choice((0, 0, 30, 200)))
        elif action < 0.8:
            connection.read(self.random.choice((1, 10, 100, 333, 1_000)))
        else:
            connection.read()
        self.chat.turn()

    def play(self, steps: int) -> None:
        for _ in range(steps):
            action = self.random.random()
            if action < 0.60:
                self.random.choice(self.twins).step()
            elif action < 0.90:
                self.work()
            elif action < 0.93:
                self.store.holding = self.random.random() < 0.8
                if not self.store.holding:
                    self.store.release_all()
            elif action < 0.95:
                self.store.down = not self.store.down
            elif action < 0.96:
                self.store.deaf = not self.store.deaf
            elif action < 0.98:
                for each in self.chat.core.rooms:
                    if each.durable:
                        each.clear_cache()
            else:
                self.chat.pass_time(1)
            self.chat.turn()

    def work(self) -> None:
        """The store does a piece of work, or one of its threads answers; in any order, reads and commits beside one another."""
        store = self.store
        if store.unanswered and self.random.random() < 0.5:
            store.reply(self.random.randrange(store.unanswered))
        elif store.waiting:
            store.work(self.random.randrange(len(store.waiting)))

    def settle(self) -> None:
        """Everything works again, and everybody reads."""
        self.store.down = self.store.deaf = self.store.holding = self.chat.one_turn = False
        for _ in range(4):
            self.store.release_all()
            for each in self.twins:
                if each.client is not None and not each.client.connection.aborted:
                    each.client.connection.read()
            self.chat.pass_time(1)
        for each in self.twins:
            each.look()

    def check(self) -> None:
        logs = {name: self.chat.log(name) for name in ("lobby", "den")}
        for name, log in logs.items():
            self.case.assertEqual([event.seq for event in log], list(range(1, len(log) + 1)))
            keys = [(event.by.id, event.key) for event in log if event.key]
            self.case.assertEqual(len(keys), len(set(keys)))
            self.case.assertEqual(self.chat.core.rooms.find(ALICE, name).head, len(log))
        for (name, author, key), (seq, event_id) in self.acked.items():
            if name != "live":
                event = logs[name][seq - 1]
                self.case.assertEqual((event.by.id, event.key, event.id), (author, key, event_id))
        for twin in self.rich:
            if twin.client is None:
                continue
            self.case.assertEqual(twin.asked, {}, "each command gets an answer")
            for name, reading in twin.rooms.items():
                self.case.assertEqual((name, reading.next - 1), (name, self.chat.core.rooms.find(ALICE, name).head))
                self.case.assertTrue(reading.live)
                self.finished.append((name, reading))
        for name, reading in self.finished:
            if name == "live":
                continue
            for got in reading.events:
                self.same(got, logs[name][got["seq"] - 1])
        for plain in self.plain:
            if plain.client is not None:
                self.finished_plain.append((plain.room, plain.since, plain.shown, True))
        for name, since, shown, whole in self.finished_plain:
            self.check_plain(logs[name][since:], shown, whole)

    def same(self, got: Json, kept: Event) -> None:
        """The event that a reader got is the one of the log, but for what was deleted later."""
        self.case.assertEqual((got["id"], got.get("key"), got["by"]["id"]), (kept.id, kept.key, kept.by.id))
        self.case.assertEqual(got["kind"], kept.__struct_config__.tag)
        text = getattr(kept, "text", None)
        if text is not None:
            self.case.assertEqual(got["text"], text)

    def check_plain(self, log: Sequence[Event], shown: Sequence[str | bytes], whole: bool) -> None:
        """Every message once, in order; what was deleted may be missing."""
        rest = list(shown)
        for event in log:
            if not isinstance(event, Message):
                continue
            if event.gone:
                continue
            # What was deleted since may have been shown before.
            while rest and rest[0] != event.text and self.deleted(rest[0], log):
                rest.pop(0)
            if not rest and not whole:
                return
            self.case.assertEqual(rest[:1], [event.text])
            rest.pop(0)
        self.case.assertTrue(all(self.deleted(one, log) for one in rest), rest)

    def deleted(self, text: str | bytes, log: Sequence[Event]) -> bool:
        return all(not isinstance(event, Message) or event.text != text for event in log)


class RandomRunsTests(SynchronousTestCase):
    """Promises P1 to P4 under random scripts of several clients in several rooms."""

    def small(self) -> None:
        for module, values in SMALL.items():
            for name, value in values.items():
                self.patch(module, name, value)

    def test_random_scripts(self) -> None:
        """Joins, leaves, lost connections, resumes, slow sockets, a store that holds, fails and answers in any order."""
        self.small()
        for seed in range(RUNS):
            run = Run(self, seed)
            try:
                run.play(STEPS)
                run.settle()
                run.check()
            except Exception as error:
                raise AssertionError(f"seed {seed}: {error}") from error
            # A failure that is only logged is a failure.
            logged = {str(each.value) for each in self.flushLoggedErrors()} - {"the disk is full"}
            self.assertEqual(logged, set(), f"seed {seed}")
