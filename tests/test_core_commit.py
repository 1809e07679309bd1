"""Group commit: what queues up while the store works is the next batch, and everybody is told in order."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, UNBOUND, ChatHarness
from twisted_chat.core import commit, ephemeral
from twisted_chat.core.commit import AppendRequest, GroupCommit
from twisted_chat.errors import ChatError, Unavailable
from twisted_chat.events import NewEvent, NewMessage
from twisted_chat.limits import RoomPolicy
from twisted_chat.store_contract import Outcome


class GroupCommitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.chat = ChatHarness(self)
        self.store = self.chat.store
        self.commits: GroupCommit = self.chat.core.commits
        self.told: list[str] = []

    def post(self, room: str, *texts: str, user: str = "u1") -> None:
        new_events: list[NewEvent] = [NewMessage(ALICE.author, None, text) for text in texts]

        def done(outcomes: object) -> None:
            self.told.append(f"{room} {' '.join(texts)}")

        def failed(error: ChatError) -> None:
            self.told.append(f"{error.code} {' '.join(texts)}")

        self.commits.submit(AppendRequest(self.chat.core.rooms.find(ALICE, room), new_events, done, failed))

    def test_one_batch_at_a_time(self) -> None:
        """Two turns' posts while the store works are one transaction after it."""
        self.store.holding = True

        self.post("a", "1")
        self.chat.turn()
        self.post("a", "2", "3")
        self.chat.turn()
        self.post("b", "4")
        self.chat.turn()

        self.assertEqual((self.store.appends, self.told), (1, []))

        self.store.release()
        self.chat.turn()

        self.assertEqual((self.store.appends, self.told), (2, ["a 1"]))

        self.store.release()
        self.chat.turn()

        self.assertEqual(self.told, ["a 1", "a 2 3", "b 4"])
        self.assertEqual([event.seq for event in self.chat.log("a")], [1, 2, 3])

    def test_a_batch_is_bounded(self) -> None:
        """A batch has a bound; a larger posting goes alone."""
        self.patch(commit, "BATCH_EVENTS", 3)
        self.store.holding = True
        for texts in (["1", "2"], ["3", "4"], ["5", "6", "7", "8"], ["9"]):
            self.post("a", *texts)
        sizes = []

        for _ in range(4):
            self.chat.turn()
            before = len(self.chat.log("a"))
            self.store.release()
            self.chat.turn()
            sizes.append(len(self.chat.log("a")) - before)

        self.assertEqual(sizes, [2, 2, 4, 1])

    def test_a_failure_concerns_its_batch_alone(self) -> None:
        """After a failed commit the next batch is committed, and the state is healthy again."""
        self.store.holding = self.store.down = True
        self.post("a", "1")
        self.chat.turn()
        self.post("a", "2")
        self.store.work()
        self.store.down = False

        self.store.reply()
        self.chat.turn()

        self.assertFalse(self.commits.healthy)

        self.store.release()
        self.chat.turn()

        self.assertEqual(self.told, ["unavailable 1", "a 2"])
        self.assertTrue(self.commits.healthy)
        self.assertEqual([event.seq for event in self.chat.log("a")], [1])

    def test_a_store_with_a_fault_is_answered_as_internal(self) -> None:
        """An unexpected exception of the store is logged and answered as ``internal``."""

        def broken(batch: object) -> object:
            raise ZeroDivisionError("a fault")

        self.patch(self.store, "append", broken)
        self.post("a", "1")
        self.chat.turn()

        self.assertEqual(self.told, ["internal 1"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_sender_that_fails_keeps_nothing_from_the_others(self) -> None:
        """A sender whose callback fails, or a room that cannot announce, does not keep the others from their answers."""

        def fail(outcomes: object) -> None:
            raise ZeroDivisionError("a sender's fault")

        room = self.chat.core.rooms.find(ALICE, "a")

        self.patch(self.chat.core.rooms.find(ALICE, "z"), "announce", fail)
        self.post("z", "0")
        self.commits.submit(AppendRequest(room, [NewMessage(ALICE.author, None, "1")], fail, lambda error: None))
        self.post("a", "2")
        self.chat.turn()

        self.assertEqual(self.told, ["z 0", "a 2"])
        self.assertEqual(room.head, 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_too_much_is_refused(self) -> None:
        """Above the bound of uncommitted messages further ones are refused until a commit."""
        chat = ChatHarness(self, replace(UNBOUND, uncommitted=2))
        room = chat.core.rooms.find(ALICE, "a")
        new_events: list[NewEvent] = [NewMessage(ALICE.author, None, "x")]

        for _ in range(2):
            chat.core.submit(AppendRequest(room, new_events, None, self.fail))

        with self.assertRaises(Unavailable):
            chat.core.submit(AppendRequest(room, new_events, None, self.fail))

        chat.turn()
        chat.core.submit(AppendRequest(room, new_events, None, self.fail))
        chat.turn()

        self.assertEqual([event.seq for event in chat.log("a")], [1, 2, 3])

    def test_idle(self) -> None:
        """``idle`` fires when everything has been answered."""
        self.successResultOf(self.commits.idle())
        self.store.holding = True
        self.post("a", "1")
        self.chat.turn()
        self.post("a", "2")
        idle = self.commits.idle()

        self.store.release()
        self.chat.turn()

        self.assertNoResult(idle)
        self.assertTrue(self.commits.busy)

        self.store.release()
        self.chat.turn()
        self.successResultOf(idle)

        self.assertEqual(self.told, ["a 1", "a 2"])


class EphemeralTests(SynchronousTestCase):
    def test_a_retry_is_answered_and_not_repeated(self) -> None:
        """A retry in a room that keeps nothing is answered with the first result while the key is remembered."""
        self.patch(ephemeral, "REMEMBERED_KEYS", 2)
        chat = ChatHarness(self, UNBOUND, {"live": RoomPolicy(durable=False)})
        alice, bob = chat.json(ALICE, "live"), chat.json(BOB, "live")
        first = alice.ask("send", room="live", key="k", text="x")
        again = alice.ask("send", room="live", key="k", text="x")

        self.assertEqual((again["seq"], again["duplicate"]), (first["seq"], True))
        self.assertFalse(bob.ask("send", room="live", key="k", text="x")["duplicate"])
        self.assertEqual([event["seq"] for event in bob.take("event")], [1, 2])
        self.assertEqual(chat.store.appends, 0)
        self.assertEqual(alice.ask("delete", room="live", of=1)["code"], "forbidden")
        self.assertEqual(alice.ask("topic", room="live", text="T")["seq"], 3)

        for key in ("k2", "k3"):
            alice.ask("send", room="live", key=key, text="x")

        self.assertFalse(alice.ask("send", room="live", key="k", text="x")["duplicate"])

    def test_outcomes_are_in_the_order_of_the_drafts(self) -> None:
        """A repeated key in one batch is a duplicate of the first, in the order of the batch."""
        chat = ChatHarness(self, UNBOUND, {"live": RoomPolicy(durable=False)})
        outcomes: list[Outcome] = []
        new_events: list[NewEvent] = [NewMessage(ALICE.author, key, "x") for key in ("a", "a", "b")]

        chat.core.submit(AppendRequest(chat.core.rooms.find(ALICE, "live"), new_events, outcomes.extend, self.fail))
        chat.turn()
        kinds = [(type(outcome).__name__, getattr(outcome, "event").seq) for outcome in outcomes]  # noqa: B009

        self.assertEqual(kinds, [("Appended", 1), ("Duplicate", 1), ("Appended", 2)])
