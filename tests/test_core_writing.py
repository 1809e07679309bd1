"""Who is writing: one frame a second and room."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, CAROL, ChatHarness, JsonClient, guest
from twisted_chat.core import writing
from twisted_chat.testing import UNBOUND


def type_in(*clients: JsonClient) -> None:
    for client in clients:
        client.say({"type": "typing", "room": "lobby"})


def told(client: JsonClient) -> list[tuple[str, list[str]]]:
    """Who is said to be writing: ``by``, and ``people``."""
    return [(one["by"]["name"], [who["name"] for who in one.get("people", ())]) for one in client.take("typing")]


class WritersTests(SynchronousTestCase):
    def test_merged(self) -> None:
        """The first is told at once, those of the next second together, and nobody of himself."""
        chat = ChatHarness(self)
        alice, bob, carol, dave = (chat.json(user, "lobby") for user in (ALICE, BOB, CAROL, guest("dave")))

        type_in(alice, bob, carol)

        self.assertEqual(told(dave), [("alice", [])])
        self.assertEqual(told(alice), [])
        told(bob), told(carol)

        chat.pass_time(1)

        self.assertEqual(told(dave), [("carol", ["bob", "carol"])])
        self.assertEqual(told(bob), [("carol", [])])
        self.assertEqual(told(carol), [("bob", [])])
        self.assertEqual(told(alice), [("carol", ["bob", "carol"])])

        chat.pass_time(5)

        self.assertEqual(told(dave), [])

        type_in(bob)

        self.assertEqual(told(dave), [("bob", [])])

    def test_frames(self) -> None:
        """100 who type for 3 seconds make 2 frames for each member, with at most 10 people."""
        chat = ChatHarness(self, UNBOUND)
        reader = chat.json(ALICE, "lobby")
        people = [chat.json(guest(f"p{number}", number), "lobby") for number in range(100)]

        for _ in range(3):
            type_in(*people)
            chat.pass_time(1)

        self.assertEqual([len(names) for _, names in told(reader)], [0, 10])
        self.assertEqual(len(people[99].take("typing")), 2)

    def test_turns(self) -> None:
        """A large room is told in turns, and who has left meanwhile is told nothing."""
        self.patch(writing, "TOLD_IN_TURN", 2)
        chat = ChatHarness(self)
        alice = chat.json(ALICE, "lobby")
        others = [chat.json(guest(f"p{number}", number), "lobby") for number in range(5)]
        chat.one_turn = True

        type_in(alice)

        self.assertEqual([len(told(other)) for other in others], [1, 1, 1, 0, 0])

        others[3].ask("leave", room="lobby")
        for _ in range(5):
            chat.turn()

        self.assertEqual([len(told(other)) for other in others], [0, 0, 0, 0, 1])

    def test_large_room(self) -> None:
        """Above the limit nobody is told, and the command is answered all the same."""
        chat = ChatHarness(self, replace(UNBOUND, typing_members=2))
        alice, bob = chat.json(ALICE, "lobby"), chat.json(BOB, "lobby")

        type_in(alice)

        self.assertEqual(len(told(bob)), 1)

        chat.json(CAROL, "lobby")
        chat.pass_time(5)

        self.assertEqual(alice.ask("typing", room="lobby")["type"], "ok")
        self.assertEqual(told(bob), [])
