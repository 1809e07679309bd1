"""What the examples do, on a chat in memory; ``test_live_client_examples`` runs each as a program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from examples.bot import Bot
from examples.bridge import bridge
from examples.log_tailer import Tail
from twisted_chat.client import ChatClient, Message, Reacted
from twisted_chat.limits import RoomPolicy
from twisted_chat.testing import MemoryChat


class BotTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.chat = MemoryChat()
        self.journal = self.mktemp()
        self.client = self.chat.client("bot", journal=self.journal)
        self.running = Deferred.fromCoroutine(Bot(self.client, "lobby").run())
        self.alice = self.chat.client("alice").room("lobby")
        self.chat.settle()

    def test_answers(self) -> None:
        """The bot answers with a time, a count and an emoji."""
        for text in ("hello", "!count", "!time"):
            self.alice.send(text)
            self.chat.settle()
        texts = self.chat.texts("lobby")

        self.assertEqual(texts[:4], ["hello", "!count", "2 messages", "!time"])
        self.assertRegex(texts[4], r"^\d\d:\d\d$")
        self.assertEqual([event.of for event in self.chat.log("lobby") if isinstance(event, Reacted)], [2])

    def test_comes_back(self) -> None:
        """The bot answers each question once, whatever breaks."""
        for number in range(10):
            self.alice.send("!count")
            if number % 3 == 0:
                self.chat.cut()
            self.chat.pass_time(1)
        self.chat.pass_time(30)
        answers = [event for event in self.chat.log("lobby") if isinstance(event, Message) and event.reply_to is not None]

        self.assertEqual(len({event.reply_to for event in answers}), 10)
        self.assertEqual(len(answers), 10)
        self.assertNoResult(self.running)


class BridgeTests(SynchronousTestCase):
    def test_both_ways(self) -> None:
        """What is said on one side is said on the other, once, and does not come back."""
        one = MemoryChat()
        two = MemoryChat(clock=one.clock)
        ends: list[ChatClient] = [chat.client("bridge", journal=self.mktemp()) for chat in (one, two)]
        bridge(ends[0], "lobby", ends[1], "foyer")
        alice, bob = one.client("alice").room("lobby"), two.client("bob").room("foyer")

        one.settle()
        for number in range(20):
            alice.send(f"a{number}")
            bob.send(f"b{number}")
            if number % 5 == 2:
                one.cut()
            if number % 5 == 4:
                two.kill()
                one.pass_time(0.2)
                two.start()
            one.pass_time(0.5)
        one.pass_time(60)
        for chat, room, own, other in ((one, "lobby", "a", "bob: b"), (two, "foyer", "b", "alice: a")):
            texts = chat.texts(room)
            self.assertEqual([text for text in texts if text[1:].isdigit()], [f"{own}{number}" for number in range(20)])
            self.assertEqual([text for text in texts if ":" in text], [f"{other}{number}" for number in range(20)])


class TailTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Whole lines as they are added, also after the file was rotated."""
        chat = MemoryChat(rooms={"live.*": RoomPolicy(durable=False)})
        seen: list[Any] = []
        chat.client("alice").room("live.log").on(Message, lambda event: seen.append(event.text))
        path = Path(self.mktemp())
        path.write_text("old\n")
        tail = Tail(str(path), chat.client("tail").room("live.log"))

        self.addCleanup(lambda: tail.file.close())
        chat.settle()
        with path.open("a") as file:
            for part in ("one\ntw", "o\n\nthree\n"):
                file.write(part)
                file.flush()
                tail.look()
                chat.settle()
        path.unlink()
        tail.look()
        path.write_text("")
        tail.look()
        path.write_text("four\n")
        tail.look()
        chat.settle()

        self.assertEqual(seen, ["one", "two", "three", "four"])
