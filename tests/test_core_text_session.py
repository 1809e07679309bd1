"""The tutorial's client: every frame is a message, nothing but messages comes back, and being fast loses nothing."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, CAROL, MODERATOR, UNBOUND, ChatHarness, MemoryConnection, guest
from twisted_chat.events import Message
from twisted_chat.limits import Limits, RoomPolicy


class PlainTests(SynchronousTestCase):
    def test_everybody_sees_everything(self) -> None:
        """The sender's own lines included; empty ones are no messages."""
        chat = ChatHarness(self)
        alice, bob, json = chat.plain(ALICE), chat.plain(BOB), chat.json(CAROL, "lobby")

        alice.say("hello", "", "a\nb", b"\0\xff", "")
        alice.say("")
        for client in (alice, bob):
            self.assertEqual(client.take(), ["hello", "a\nb", b"\0\xff"])

        self.assertEqual([event.get("text") for event in json.take("event")], ["hello", "a\nb", None])

    def test_only_messages_are_shown(self) -> None:
        """No edits, reactions, topics; no answers, no pings that a program sees."""
        chat = ChatHarness(self)
        plain, json = chat.plain(BOB), chat.json(ALICE, "lobby")

        json.ask("send", room="lobby", text="one")
        json.ask("edit", room="lobby", of=1, revision=1, text="two")
        json.ask("react", room="lobby", of=1, emoji="👍")
        json.ask("topic", room="lobby", text="T")
        json.ask("typing", room="lobby")
        json.ask("send", room="lobby", text="three")

        self.assertEqual(plain.take(), ["one", "three"])

    def test_names_and_history_on_wish(self) -> None:
        """``?names=1`` and ``?history=2``; the history is bounded by what there is and by the limit."""
        chat = ChatHarness(self, replace(UNBOUND, history=3))
        alice = chat.plain(ALICE)

        alice.say("one", "two", "three", b"\1", "four")

        self.assertEqual(chat.plain(BOB, names=True, history=2).take(), [b"\1", "alice: four"])
        self.assertEqual(chat.plain(BOB, history=100).take(), ["three", b"\1", "four"])
        self.assertEqual(chat.plain(BOB, "den", history=100).take(), [])

    def test_rooms_are_apart(self) -> None:
        """A message is shown in its own room only."""
        chat = ChatHarness(self)
        alice, bob = chat.plain(ALICE, "a"), chat.plain(BOB, "b")

        alice.say("in a")

        self.assertEqual((alice.take(), bob.take()), (["in a"], []))

    def test_a_fast_one_is_throttled_and_loses_nothing(self) -> None:
        """A plain client that is too fast is not read until its bucket has filled; what was read is said at the rate, in order."""
        chat = ChatHarness(self, Limits(send_burst=3, send_per_second=1))
        alice, bob = chat.plain(ALICE), chat.plain(BOB)

        alice.say(*[str(number) for number in range(8)])

        self.assertEqual(bob.take(), ["0", "1", "2"])
        self.assertTrue(alice.connection.paused)

        chat.pass_time(2.1, step=0.1)
        self.assertEqual(bob.take(), ["3", "4"])

        alice.say("8", "9")
        chat.pass_time(4, step=0.1)

        self.assertEqual(bob.take(), ["5", "6", "7", "8"])

        chat.pass_time(3, step=0.1)
        self.assertFalse(alice.connection.paused)
        self.assertEqual(bob.take(), ["9"])

    def test_breaking_off_is_no_way_around_the_rate(self) -> None:
        """What a connection that is reset has not yet said is lost with what the kernel holds of it."""
        chat = ChatHarness(self, Limits(send_burst=3, send_per_second=1))
        alice, bob = chat.plain(ALICE), chat.plain(BOB)

        alice.say(*"abcde")
        alice.lose()

        self.assertEqual(bob.take(), ["a", "b", "c"])

    def test_who_is_not_read_is_not_taken_for_dead(self) -> None:
        """A throttled client is not timed out, because its pong is not read."""
        chat = ChatHarness(self, Limits(send_burst=1, send_per_second=0.01))
        alice = chat.plain(ALICE)

        alice.say("1", "2", "3")
        for _ in range(12):
            chat.pass_time(10)

        self.assertIsNone(alice.closed)

    def test_slow_mode_waits_too(self) -> None:
        """Several lines in one read are not a way around it; moderators have none."""
        chat = ChatHarness(self, rooms={"lobby": RoomPolicy(slow_mode=5)})
        alice, mo, bob = chat.plain(ALICE), chat.plain(MODERATOR), chat.plain(BOB)

        alice.say("1", "2", "3")
        mo.say("a", "b")

        self.assertEqual(bob.take(), ["1", "a", "b"])

        chat.pass_time(5)
        self.assertEqual(bob.take(), ["2"])

        chat.pass_time(6)
        self.assertEqual(bob.take(), ["3"])
        self.assertIsNone(alice.closed)

    def test_a_restart_says_what_waits(self) -> None:
        """A restart says what waits, then closes with 1012 and sends nothing more."""
        chat = ChatHarness(self, Limits(send_burst=1, send_per_second=0.01))
        alice = chat.plain(ALICE)
        alice.say("1", "2", "3")
        done = chat.core.drain.begin()

        chat.turn()
        self.successResultOf(done)

        self.assertEqual((alice.take(), alice.closed), (["1", "2", "3"], 1012))
        self.assertEqual([event.text for event in chat.log("lobby") if isinstance(event, Message)], ["1", "2", "3"])

    def test_too_big(self) -> None:
        """What came before a message that is too big is said, then the connection ends with 4413."""
        for big in ("x" * 11, b"x" * 11):
            chat = ChatHarness(self, replace(UNBOUND, text_bytes=10))
            alice, bob = chat.plain(ALICE), chat.plain(BOB)
            alice.say("fine", big, "never")
            self.assertEqual(bob.take()[:1], ["fine"])
            self.assertEqual(alice.closed, 4413)

    def test_what_cannot_be_kept_ends_the_connection(self) -> None:
        """There is no other way to tell: 4504 from the store, 4403 from a room that is not for it."""
        chat = ChatHarness(self, rooms={"news": RoomPolicy(writers="moderators")})
        alice, bob = chat.plain(ALICE), chat.plain(BOB, "news")
        chat.store.down = True

        alice.say("x")
        bob.say("x")

        self.assertEqual((alice.closed, bob.closed), (4504, 4403))

    def test_heartbeat_by_control_frames(self) -> None:
        """A silent plain client gets a ping frame and is closed if it stays silent."""
        chat = ChatHarness(self)
        alice = chat.plain(ALICE)

        chat.pass_time(25)

        self.assertEqual((alice.connection.pings, alice.take()), (1, []))

        alice.session.heard()
        chat.pass_time(24)

        self.assertEqual(alice.connection.pings, 1)

        chat.pass_time(51)
        self.assertEqual(alice.closed, 4509)

    def test_history_that_does_not_fit_the_socket(self) -> None:
        """From the first byte on it is read as fast as it goes."""
        chat = ChatHarness(self)
        lines = [f"line {number}" for number in range(50)]
        chat.plain(ALICE).say(*lines)
        slow = chat.plain(guest("slow"), connection=MemoryConnection(capacity=7), history=50)

        for _ in range(200):
            slow.connection.read(5)
            chat.turn()

        self.assertEqual(slow.take(), lines)

    def test_who_never_takes_its_history_is_slow_and_not_silent(self) -> None:
        """The socket was full before the session knew it: after five minutes 4508, come back."""
        chat = ChatHarness(self)
        chat.plain(ALICE).say(*["x" * 100] * 10)
        stuck = chat.plain(BOB, connection=MemoryConnection(capacity=7), history=10)

        for _ in range(30):
            self.assertIsNone(stuck.closed)
            chat.pass_time(10)
        chat.pass_time(26)

        self.assertEqual(stuck.closed, 4508)
