"""Two servers on one store: each announces every event of a room once, in the order of the numbers, whoever wrote it."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, UNBOUND, ChatHarness, JsonClient
from tests.harness.logs import LoggedEvents
from twisted_chat.core import announcer
from twisted_chat.core.announcer import Announcer
from twisted_chat.core.session import Session
from twisted_chat.events import Event, NewMessage
from twisted_chat.limits import RoomPolicy


class AnnouncerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.one = ChatHarness(self)
        self.store = self.one.store

    def another(self) -> ChatHarness:
        """A second server on the same store and clock."""
        return self.one.restarted()

    def test_what_another_server_wrote_is_announced(self) -> None:
        """The store's hint is enough: nothing was sent on this server."""
        bob = self.another().json(BOB, "lobby")

        self.one.json(ALICE, "lobby").ask("send", room="lobby", text="hello")
        self.one.turn()

        self.assertEqual(bob.texts(), ["hello"])

    def test_without_a_hint_the_next_commit_shows_the_gap(self) -> None:
        """The events between come first, and the sender is answered after its own event."""
        self.store.followed = False
        other = self.another()
        bob = other.json(BOB, "lobby")
        alice = self.one.json(ALICE, "lobby")

        for text in ("one", "two"):
            alice.ask("send", room="lobby", text=text)

        bob.say({"type": "send", "id": "mine", "room": "lobby", "text": "three"})
        came = bob.take()

        self.assertEqual([one["text"] for one in came if one["type"] == "event"], ["one", "two", "three"])
        self.assertEqual([one["type"] for one in came][-1], "ok")
        self.assertEqual(bob.chat.core.rooms.find(BOB, "lobby").head, 3)

    def test_own_events_are_not_read_again(self) -> None:
        """Only what others wrote before them is read."""
        self.store.followed = False
        bob = self.another().json(BOB, "lobby")
        alice = self.one.json(ALICE, "lobby")
        for text in ("one", "two"):
            alice.ask("send", room="lobby", text=text)
        wanted: list[tuple[int, int]] = []
        read = self.store.read

        def watched(room: str, after: int, limit: int, max_bytes: int) -> Deferred[list[Event]]:
            wanted.append((after, limit))
            return read(room, after, limit, max_bytes)

        self.patch(self.store, "read", watched)

        bob.ask("send", room="lobby", text="three")

        self.assertEqual(wanted, [(0, 2)])

    def test_a_commit_during_a_read_for_a_wrong_hint(self) -> None:
        """The read began before the commit, so what it did not find is not what retention removed."""
        self.store.followed = False
        bob = self.another().json(BOB, "lobby")
        alice = self.one.json(ALICE, "lobby")
        self.store.holding = True
        lobby = bob.chat.core.rooms.find(BOB, "lobby")

        bob.chat.core.announcer.hint(lobby, 5)
        self.assertEqual(self.store.waiting, ["read"])
        self.store.work()
        self.store.holding = False
        alice.ask("send", room="lobby", text="one")
        bob.say({"type": "send", "id": "mine", "room": "lobby", "text": "two"})
        self.store.reply()
        bob.chat.turn()

        self.assertEqual([one["text"] for one in bob.take() if one["type"] == "event"], ["one", "two"])
        self.assertEqual(lobby.head, 2)

    def test_the_store_is_away(self) -> None:
        """What others wrote is read when the store is back, and the log is not filled meanwhile: the store says it itself, once."""
        logged = LoggedEvents()
        for who in (Announcer, Session):
            self.patch(who, "log", Logger(observer=logged))
        bob = self.another().json(BOB, "lobby")
        self.store.deaf = True
        self.one.json(ALICE, "lobby").ask("send", room="lobby", text="hello")
        self.one.turn()
        self.one.pass_time(10)

        self.assertEqual((bob.texts(), bob.chat.core.announcer.behind), ([], 1))

        self.store.deaf = False
        self.one.pass_time(2)

        self.assertEqual((bob.texts(), bob.chat.core.announcer.behind), (["hello"], 0))
        self.assertEqual([formatEvent(event) for event in logged], [])

    def test_a_hint_about_the_own_commit_reads_nothing(self) -> None:
        """The store's hint about a commit of our own may come before its answer, and causes no read."""
        bob = self.one.json(BOB, "lobby")
        self.store.holding = True

        self.one.core.post(ALICE, "lobby", NewMessage(ALICE.author, None, "hello"))
        self.one.turn()
        self.store.work()
        self.one.turn()

        self.assertEqual(self.store.waiting, [])

        self.store.reply()
        self.one.turn()

        self.assertEqual(self.store.waiting, [])
        self.assertEqual(bob.texts(), ["hello"])

    def test_a_log_that_cannot_be_read_is_tried_again(self) -> None:
        """Events of another process arrive once the log can be read again."""
        bob = self.another().json(BOB, "lobby")
        alice = self.one.json(ALICE, "lobby")
        self.store.deaf = True

        alice.ask("send", room="lobby", text="hello")
        self.one.turn()

        self.assertEqual(bob.texts(), [])

        self.store.deaf = False
        self.one.pass_time(announcer.RETRY_SECONDS + 1)

        self.assertEqual(bob.texts(), ["hello"])
        self.assertFalse(bob.chat.core.announcer.busy)

    def test_events_that_retention_removed_are_skipped(self) -> None:
        """A server that learns of them too late goes on behind them, and its members are told of the gap."""
        self.store.followed = False
        other = self.another()
        bob = other.json(BOB, "lobby")
        alice = self.one.json(ALICE, "lobby")

        for text in ("one", "two", "three"):
            alice.ask("send", room="lobby", text=text)
        self.successResultOf(self.store.purge("lobby", 1, None))

        bob.say({"type": "send", "id": "mine", "room": "lobby", "text": "four"})
        other.turn()
        came = bob.take()

        self.assertEqual([one["text"] for one in came if one["type"] == "event"], ["three", "four"])
        self.assertEqual([one["dropped"] for one in came if one["type"] == "gap"], [2])

    def test_a_wrong_hint_changes_nothing(self) -> None:
        """A hint beyond the end of the log announces nothing."""
        lobby = self.one.core.rooms.find(ALICE, "lobby")

        self.one.core.announcer.hint(lobby, 1_000)
        self.one.turn()

        self.assertEqual((lobby.head, self.one.core.announcer.busy), (0, False))

    def test_draining_waits_for_what_others_wrote(self) -> None:
        """A sender whose event lies behind a gap that cannot be read yet is answered before the end."""
        self.store.followed = False
        other = self.another()
        bob = other.json(BOB, "lobby")
        self.one.json(ALICE, "lobby").ask("send", room="lobby", text="one")
        self.store.deaf = True
        bob.say({"type": "send", "id": "mine", "room": "lobby", "text": "two"})

        drained = other.core.drain.begin()

        other.turn()

        self.assertNoResult(drained)

        self.store.deaf = False
        other.pass_time(announcer.RETRY_SECONDS + 1)

        self.successResultOf(drained)

        self.assertEqual(
            [one["type"] for one in bob.take() if one["type"] in ("event", "ok", "bye")], ["event", "event", "ok", "bye"]
        )


class RandomTests(SynchronousTestCase):
    """Two servers, three rooms, a store that answers in any order, with and without hints."""

    def test_random_scripts(self) -> None:
        """With two nodes on one store and random delays, each reader sees each event once and in order."""
        for seed in range(60):
            with self.subTest(seed=seed):
                self.run_script(random.Random(seed))

    def run_script(self, dice: random.Random) -> None:
        one = ChatHarness(self, UNBOUND, {"few": RoomPolicy()}, seed=dice.getrandbits(32))
        one.store.followed = dice.random() < 0.5
        nodes = [one, one.restarted()]
        clients: list[JsonClient] = [node.json(user, "a", "b") for node in nodes for user in (ALICE, BOB)]
        sent = 0
        for _ in range(60):
            action = dice.random()
            client = dice.choice(clients)
            if action < 0.5:
                sent += 1
                client.say({"type": "send", "id": f"s{sent}", "room": dice.choice("ab"), "text": str(sent)})
            elif action < 0.55:
                hinted = client.chat.core.rooms.find(ALICE, dice.choice("ab"))
                client.chat.core.announcer.hint(hinted, hinted.head + dice.randint(1, 3))
            elif action < 0.7:
                one.store.holding = not one.store.holding
            elif one.store.unanswered and action < 0.85:
                one.store.reply(dice.randrange(one.store.unanswered))
            elif one.store.waiting:
                one.store.work(0)
            one.turn()
        one.store.holding = False
        one.store.release_all()
        for client in clients[::2]:
            for room in "ab":
                client.say({"type": "send", "room": room, "text": "the end"})
        logs = {room: [event.text for event in one.log(room)] for room in "ab"}  # type: ignore[union-attr]
        for node in nodes:
            for room, log in logs.items():
                # Without any hint, the server that wrote first would not know of what came last.
                node.core.announcer.hint(node.core.rooms.find(ALICE, room), len(log))
        one.pass_time(3)
        self.assertGreater(len(logs["a"]) + len(logs["b"]), 4)
        for client in clients:
            came = client.take()
            for room in "ab":
                events = [each for each in came if each["type"] == "event" and each["room"] == room]
                self.assertEqual([each["seq"] for each in events], [*range(1, len(logs[room]) + 1)])
                self.assertEqual([each["text"] for each in events], logs[room])
            errors = [each for each in came if each["type"] == "error"]
            self.assertEqual(errors, [])
