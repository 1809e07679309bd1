"""Test cases with the public client and the whole server in memory; for ``test_client_*``."""

from __future__ import annotations

from typing import Any

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
