"""A proxy between one node and PostgreSQL: it cuts, holds and swallows as the other one, and can lose notifications alone."""

from __future__ import annotations

from typing import Any

from tests.jepsen.proxy import Pair, Proxy, Side

#: The type of PostgreSQL's message NotificationResponse.
_NOTIFICATION = b"A"
#: Bytes of a message's type and length.
_HEAD = 5


class DatabasePair(Pair):
    """One connection of a node to its database.

    :ivar listens: it is the one that hears notifications.
    """

    proxy: DatabaseProxy

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(proxy)
        self.listens = False
        self._partial = b""

    def carry(self, sender: Side, data: bytes) -> None:
        if sender is self.router:
            # Everything before it has been answered, so what the database says from here on begins with a message.
            self.listens = self.listens or b"LISTEN " in data
        elif self.listens:
            data = self._heard(data)
        if data:
            super().carry(sender, data)

    def _heard(self, data: bytes) -> bytes:
        """The whole messages in it that are passed on."""
        rest = self._partial + data
        passed = bytearray()
        while len(rest) >= _HEAD and len(rest) > (size := int.from_bytes(rest[1:_HEAD], "big")):
            message, rest = rest[: size + 1], rest[size + 1 :]
            if message[:1] == _NOTIFICATION and self.proxy.deaf:
                self.proxy.notifications_lost += 1
            else:
                passed += message
        self._partial = rest
        return bytes(passed)


class DatabaseProxy(Proxy):
    """Between one node and the database.

    :ivar deaf: notifications are lost.
    """

    pair_class = DatabasePair

    def __init__(self, reactor: Any, server_port: int) -> None:
        super().__init__(reactor, server_port)
        self.deaf = False
        self.notifications_lost = 0
