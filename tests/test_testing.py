"""The chat in memory for the tests of other programs."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.client import ChatClient, Message, State
from twisted_chat.errors import RateLimited
from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.testing import MemoryChat, TestClock
from twisted_chat.users import User


class Bot:
    """Somebody else's program."""

    def __init__(self, client: ChatClient) -> None:
        self.room = client.room("lobby")
        self.room.on(Message, self.said)

    async def said(self, event: Message) -> None:
        if event.text == "ping":
            await self.room.send("pong")


class BotTests(SynchronousTestCase):
    """The example of the module's documentation."""

    def test_answer(self) -> None:
        """The bot answers a ping."""
        chat = MemoryChat()
        Bot(chat.client("bot"))
        alice = chat.client("alice").room("lobby")

        chat.settle()
        alice.send("ping")
        chat.settle()

        self.assertEqual(chat.texts("lobby"), ["ping", "pong"])


class MemoryChatTests(SynchronousTestCase):
    def test_people(self) -> None:
        """Tokens speak for people; other tokens, and guests where there are none, are refused as by a real server."""
        chat = MemoryChat(people={"tc_1": User(id="u1", name="alice")}, guests=False)
        alice, stranger, guest = chat.client(token="tc_1"), chat.client(token="tc_2"), chat.client("bob")

        chat.settle()
        assert alice.me is not None

        self.assertEqual(alice.me.name, "alice")
        self.assertEqual((stranger.state, guest.state), (State.ENDED, State.ENDED))
        self.assertEqual(str(stranger.problem), "the server answered 401: unauthenticated: token: unknown")

    def test_limits_and_rooms(self) -> None:
        """``limits`` and ``rooms`` are those of the server."""
        chat = MemoryChat(limits=Limits(send_burst=1, send_per_second=0.1), rooms={"live": RoomPolicy(durable=False)})
        room = chat.client("alice").room("live")

        chat.settle()
        assert room.joined is not None

        self.assertFalse(room.joined.durable)

        sent = [room.send("1"), room.send("2")]
        chat.pass_time(9)
        self.successResultOf(sent[0])

        self.assertNoResult(sent[1])

        chat.pass_time(3)
        self.successResultOf(sent[1])

        self.assertFalse(issubclass(RateLimited, AssertionError))

    def test_faults(self) -> None:
        """Kill it, stop it, cut, deafen or mute a connection: the logs stay, clients come back."""
        chat = MemoryChat()
        room = chat.client("alice").room("lobby")
        chat.settle()
        for fault in (chat.kill, chat.stop):
            fault()
            room.send(fault.__name__)
            chat.pass_time(1)
            chat.start()
            chat.pass_time(20)
        chat.cut()
        chat.pass_time(1)
        chat.wires[0].deaf = True
        room.send("deaf")
        chat.pass_time(60)
        chat.wires[0].mute = True

        room.send("mute")
        chat.pass_time(60)

        self.assertEqual(chat.texts("lobby"), ["kill", "stop", "deaf", "mute"])

    def test_latency(self) -> None:
        """With ``latency`` a message takes that long each way."""
        chat = MemoryChat(latency=0.1)
        room = chat.client("alice").room("lobby")
        chat.pass_time(5)
        sent = room.send("hello")

        chat.pass_time(0.15)

        self.assertNoResult(sent)

        chat.pass_time(0.1)
        self.successResultOf(sent)


class ClockTests(SynchronousTestCase):
    def test_every_call_at_its_time(self) -> None:
        """Passing time runs each call at its own time, also those that others have made."""
        clock = TestClock()
        times: list[float] = []

        def tick() -> None:
            times.append(clock.seconds())
            if len(times) < 5:
                clock.callLater(1.0, tick)

        clock.callLater(1.0, tick)
        clock.pass_time(10)

        self.assertEqual(times, [1, 2, 3, 4, 5])
        self.assertEqual(clock.seconds(), 10)

    def test_from_threads(self) -> None:
        """A call handed over from a thread runs at the next settle."""
        clock = TestClock()
        called: Deferred[None] = Deferred()

        clock.callFromThread(called.callback, None)
        clock.settle()
        self.successResultOf(called)
