"""Test cases with the public client and the whole server in memory; for ``test_client_*``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.client import ChatClient, ClientRoom, Message
from twisted_chat.testing import MemoryChat
from twisted_chat.users import User

ALICE = User(id="u1", name="alice")


class ClientCase(SynchronousTestCase):
    """A server in memory that knows the token ``tc_alice``, and its clients."""

    def setUp(self) -> None:
        self.chat = MemoryChat(people={"tc_alice": ALICE})

    def client(self, name: str | None = "alice", **options: Any) -> ChatClient:
        """A started client that has connected, if it can."""
        client = self.chat.client(name, **options)
        self.chat.settle()
        return client

    def seen(self, room: ClientRoom) -> list[str | None]:
        """The texts of messages that come, filled in as they come."""
        texts: list[str | None] = []
        room.on(Message, lambda event: texts.append(event.text))
        return texts

    def assert_once_over_lost_answers(self, client: ChatClient) -> None:
        """The server stores what the client sends, and its answers are lost with the connections: each message is there once."""
        room = client.room("lobby")
        self.chat.settle()
        texts: list[str] = []
        sent: list[Deferred[Message]] = []
        for round_number in range(10):
            for wire in self.chat.wires:
                wire.mute = True
            new = [f"{round_number}-{number}" for number in range(7)]
            texts += new
            sent += [room.send(text) for text in new]
            self.chat.settle()
            self.chat.cut()
            self.chat.pass_time(30)

        self.assertEqual(self.chat.texts("lobby"), texts)
        self.assertEqual([self.successResultOf(each).text for each in sent], texts)
