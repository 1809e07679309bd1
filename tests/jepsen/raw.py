"""A client that is not ours: ``websockets`` and the protocol as its document says, writer and reader in one.

``python -m tests.jepsen.raw both NAME URL DIRECTORY``.  It knows no journal and no groups: one message at a time, again with the same
key until it is acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.jepsen import bugs
from tests.jepsen.governing import token
from tests.jepsen.record import Record
from tests.jepsen.worker import ROOM

#: Seconds without any frame, or without an acknowledgement, after which the connection is given up.
SILENCE = 3.0
#: Seconds from an acknowledgement to the next message: a log of more than 100,000 takes long to compare.
PACE = 0.005
#: What is said again has the same key, so that it is not kept twice.
KEEPS_KEYS = os.environ.get(bugs.VARIABLE) != bugs.RETRY_WITHOUT_KEY


class Raw:
    """One person."""

    def __init__(self, name: str, url: str, here: Path) -> None:
        self.name = name
        self.url = url
        self.here = here
        self.record = Record(here / f"{name}.record")
        last = max(self.record.seen, default=None)
        self.cursor: dict[str, Any] | None = None
        if last is not None:
            self.cursor = {"epoch": (here / f"{name}.epoch").read_text(), "seq": last.seq, "id": last.id}
        unacknowledged = sorted(set(self.record.accepted) - set(self.record.acknowledged))
        self.number = unacknowledged[0] if unacknowledged else max(self.record.accepted, default=0) + 1
        self.waiting: int | None = None
        self.tries = 0
        self.started = time.time_ns()

    async def live(self) -> None:
        while True:
            try:
                async with connect(self.url, subprotocols=["chat.v1.json"], open_timeout=SILENCE, close_timeout=1) as socket:  # type: ignore[list-item]
                    await self.talk(socket)
            except (OSError, TimeoutError, WebSocketException):
                await asyncio.sleep(random.uniform(0, 0.5))

    async def talk(self, socket: ClientConnection) -> None:
        await self.say(socket, type="hello", id=0, token=token(self.here, self.name), device=f"device-of-{self.name}")
        await self.say(socket, type="join", id=-1, room=ROOM, since=self.cursor, tail=2**53 - 1)
        self.waiting = None
        silent = 0.0
        loop = asyncio.get_running_loop()
        last_sent = loop.time()
        await self.send_next(socket)
        while True:
            try:
                text = await asyncio.wait_for(socket.recv(), 0.5)
            except TimeoutError:
                silent += 0.5
                if silent >= SILENCE:
                    return
                if self.waiting is None:
                    await self.send_next(socket)
                continue
            silent = 0.0
            said = json.loads(text)
            for one in said if isinstance(said, list) else [said]:
                if await self.hear(socket, one):
                    last_sent = loop.time()
            if self.waiting is not None and loop.time() - last_sent > SILENCE:
                return

    async def hear(self, socket: ClientConnection, said: dict[str, Any]) -> bool:
        """Answers whether another message was sent."""
        match said:
            case {"type": "event", "seq": seq, "id": id}:
                assert self.cursor is not None
                # What is no message counts as one of nobody, with its own number.
                self.record.see(seq, id, said.get("text", f"~:{seq}"))
                self.cursor = {"epoch": self.cursor["epoch"], "seq": seq, "id": id}
            case {"type": "ok", "id": -1, "epoch": epoch}:
                if said.get("recovered") is False:
                    self.record.see(0, said["why"], "reset:0")
                if self.cursor is None:
                    self.cursor = {"epoch": epoch, "seq": 0}
                (self.here / f"{self.name}.epoch").write_text(epoch)
            case {"type": "ok", "id": number, "seq": seq} if number == self.waiting:
                self.record.acknowledge(number, seq)
                self.number = number + 1
                self.waiting = None
                await asyncio.sleep(PACE)
                await self.send_next(socket)
                return True
            case {"type": "ping"}:
                await self.say(socket, type="pong")
            case {"type": "removed"} | {"type": "error", "id": -1, "code": "banned"} | {"type": "error", "code": "not_joined"}:
                # Banned, or was until a moment ago.
                raise ConnectionError("may not be in the room")
            case {"type": "error", "code": "muted"}:
                await asyncio.sleep(0.1)
                self.waiting = None
                await self.send_next(socket)
                return True
            case {"type": "error", "id": 0 | -1, "retry": True}:
                raise ConnectionError("not welcomed or not joined now")
            case {"type": "error", "retry": True}:
                await asyncio.sleep(0.1)
                self.waiting = None
                await self.send_next(socket)
                return True
            case {"type": "error"}:
                raise AssertionError(said)
        return False

    async def send_next(self, socket: ClientConnection) -> None:
        new = self.number not in self.record.accepted
        if new and (self.here / "quiet").exists():
            self.waiting = None
            return
        if new:
            # Said before: a raw client has no other memory, and will say it again until it is acknowledged.
            self.record.accepted.append(self.number)
            self.record.accept(self.number)
        self.waiting = self.number
        self.tries += 1
        key = f"{self.name}-{self.number}" if KEEPS_KEYS else f"{self.name}-{self.tries}-{self.started}"
        await self.say(socket, type="send", id=self.number, room=ROOM, key=key, text=f"{self.name}:{self.number}")

    async def say(self, socket: ClientConnection, **fields: object) -> None:
        await socket.send(json.dumps({name: value for name, value in fields.items() if value is not None}))


if __name__ == "__main__":
    asyncio.run(Raw(sys.argv[2], sys.argv[3], Path(sys.argv[4])).live())
