"""Who is here: by person, versioned, without flicker, and only a number where there are many."""

from __future__ import annotations

from msgspec import UNSET
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, CAROL, ChatHarness, Json, MemoryConnection
from twisted_chat.core import presence
from twisted_chat.core.presence import PresenceList
from twisted_chat.core.scheduler import Scheduler, TimingWheel
from twisted_chat.events import Author
from twisted_chat.protocol.replies import PresencePush

ANN, BEA = Author("u1", "ann"), Author("u2", "bea")


class Watcher:
    """Has the list as a client makes it from what it is told: the twin of the truth."""

    def __init__(self, here: PresenceList) -> None:
        self.pushes: list[PresencePush] = []
        here.watch(self)
        first = here.snapshot()
        self.version = first.version
        self.people: dict[str, int] | None = {}
        self.take(first)

    def presence_changed(self, push: PresencePush) -> None:
        self.pushes.append(push)
        self.take(push)

    def take(self, push: PresencePush) -> None:
        if isinstance(push.people, tuple):
            self.people = {one.id: one.connections for one in push.people}
        elif isinstance(push.came, tuple) or isinstance(push.left, tuple):
            if push.previous != self.version or self.people is None:
                raise AssertionError(f"cannot follow {push} from {self.version}")
            for one in push.came if isinstance(push.came, tuple) else ():
                self.people[one.id] = one.connections
            for gone in push.left if isinstance(push.left, tuple) else ():
                del self.people[gone]
        else:
            self.people = None
        self.version = push.version
        if self.people is not None and len(self.people) != push.count:
            raise AssertionError(f"{push} leaves {self.people}")


class PresenceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        timers = TimingWheel(self.clock.callLater)
        timers.start()
        self.here = PresenceList("lobby", Scheduler(self.clock.callLater), timers)

    def enter(self, author: Author) -> None:
        """One more connection by this node."""
        self.here.change_own(author, 1)

    def leave(self, user: str) -> None:
        """One less."""
        self.here.change_own(Author(user, "?"), -1)

    def test_persons_with_a_count_of_connections(self) -> None:
        """Presence counts the connections of each person, and tells what changes in one turn at once."""
        watcher = Watcher(self.here)

        for author in (ANN, ANN, BEA):
            self.enter(author)
        self.clock.advance(0)

        self.assertEqual(watcher.people, {"u1": 2, "u2": 1})

        self.leave("u1")
        self.clock.advance(0)

        self.assertEqual(watcher.people, {"u1": 1, "u2": 1})
        self.assertEqual([push.version for push in watcher.pushes], [1, 2])
        self.assertEqual([push.previous for push in watcher.pushes], [0, 1])

    def test_leaving_is_told_after_the_time_of_grace(self) -> None:
        """Twenty seconds; who is back by then never left."""
        self.enter(ANN)
        self.enter(BEA)
        self.clock.advance(0)
        watcher = Watcher(self.here)

        self.leave("u1")
        self.clock.pump([1] * 19)
        self.enter(ANN)
        self.clock.pump([1] * 10)

        self.assertEqual(watcher.pushes, [])

        self.leave("u1")
        self.clock.pump([1] * 19)

        self.assertEqual(watcher.pushes, [])

        self.clock.pump([1, 0])
        self.assertEqual(watcher.people, {"u2": 1})
        self.assertEqual(watcher.pushes[0].left, ("u1",))
        self.assertEqual(self.here.count, 1)

    def test_a_new_name_is_told(self) -> None:
        """A second connection under another name is reported with the new name and the count."""
        self.enter(ANN)
        self.clock.advance(0)
        watcher = Watcher(self.here)

        self.enter(Author("u1", "Ann B."))
        self.clock.advance(0)
        came = watcher.pushes[0].came
        assert isinstance(came, tuple)

        self.assertEqual([(one.name, one.connections) for one in came], [("Ann B.", 2)])

    def test_many_are_a_number(self) -> None:
        """Told at most every five seconds; when they are few again, the whole list."""
        self.patch(presence, "MAX_LISTED", 3)
        watcher = Watcher(self.here)

        for number in range(10):
            self.enter(Author(f"u{number}", "x"))
            self.clock.pump([1] * 1)
        self.clock.pump([1] * 5)

        self.assertLessEqual(len(watcher.pushes), 6)
        self.assertEqual((watcher.pushes[-1].count, watcher.pushes[-1].people, watcher.people), (10, UNSET, None))

        for number in range(8):
            self.leave(f"u{number}")
        self.clock.pump([1] * 20)
        self.clock.pump([1] * 5)

        self.assertEqual(watcher.people, {"u8": 1, "u9": 1})


class PresenceOfSessionsTests(SynchronousTestCase):
    def test_watching(self) -> None:
        """Presence is sent from the join or later on request, counts plain members, too, and ends with the leave."""
        chat = ChatHarness(self)
        alice = chat.json(ALICE)

        alice.say({"type": "join", "id": 1, "room": "lobby", "presence": True})
        came = alice.take()

        self.assertEqual([one["type"] for one in came], ["ok", "presence", "live", "presence"])
        self.assertEqual((came[1]["people"], came[1]["count"], came[1]["version"]), ([], 0, 0))
        self.assertEqual(came[3]["came"], [{"id": "u1", "name": "alice", "connections": 1}])

        bob = chat.plain(BOB)
        [push] = alice.take()

        self.assertEqual((push["previous"], push["version"], push["count"]), (1, 2, 2))

        carol = chat.json(CAROL, "lobby")
        self.assertEqual(carol.take(), [])

        answer = carol.ask("presence", room="lobby", on=True)
        self.assertEqual([one["id"] for one in answer["people"]], ["u1", "u2", "u3"])

        bob.lose()
        chat.pass_time(21)

        self.assertEqual([one.get("left") for one in carol.take("presence")], [["u2"]])

        carol.ask("presence", room="lobby", on=False)
        alice.ask("leave", room="lobby")
        alice.take()
        chat.pass_time(21)

        self.assertEqual((alice.take("presence"), carol.take("presence")), ([], []))

    def test_one_that_is_congested_asks_again(self) -> None:
        """A client that was congested sees by the version what it has missed."""
        chat = ChatHarness(self)
        alice, stuck = chat.json(ALICE, "lobby"), chat.json(BOB, connection=MemoryConnection())
        stuck.ask("join", room="lobby", presence=True)
        seen: list[Json] = stuck.take("presence")
        stuck.connection.capacity = 0
        alice.ask("send", room="lobby", text="x")
        carol = chat.json(CAROL, "lobby")

        stuck.connection.read()
        chat.turn()

        self.assertEqual(stuck.take("presence"), [])

        carol.lose()
        chat.pass_time(21)
        [push] = stuck.take("presence")

        self.assertNotEqual(push["previous"], seen[-1]["version"])
        self.assertEqual(len(stuck.ask("presence", room="lobby")["people"]), 2)
