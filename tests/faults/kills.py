"""``kill -9`` at random moments under load: is each acknowledged message there exactly once, in one order for all, without a hole?

Writers send with keys and send again what was not acknowledged; readers resume with their cursor; a killer kills the server
anywhere between its first line of Python and full load.  In the end everybody is asked what they saw.  All clients are
``websockets`` with hand-written JSON: nothing of the server's own code is trusted.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from tests.harness.servers import Server, free_port

Json = dict[str, Any]

ROOM = "lobby"
#: Messages that a writer has under way.
UNDER_WAY = 20
#: Seconds from a start to the next kill, mostly; some kills hit the start itself.
LOADED_SECONDS = 0.5
STARTING_SECONDS = 0.6
STARTING_SHARE = 0.2
#: Seconds in which a quiet server must have answered everybody.
PATIENCE = 60.0
#: What a client sees when its server is killed, or not there yet.
GONE = (OSError, ConnectionClosed, InvalidHandshake, EOFError, TimeoutError)


class Broken(AssertionError):
    """A promise was broken."""


class Client:
    """Somebody who comes back until told to stop."""

    def __init__(self, url: str, device: str) -> None:
        self.url = url
        self.device = device
        self.connections = 0
        self.socket: ClientConnection | None = None

    async def run(self) -> None:
        """Connect, live, come back, for ever."""
        while True:
            try:
                async with self.connected() as socket:
                    await self.live(socket)
            except GONE:
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[ClientConnection]:
        async with connect(
            self.url, subprotocols=[Subprotocol("chat.v1.json")], compression=None, max_size=None, ping_interval=None
        ) as socket:
            hello = {"type": "hello", "id": 1, "name": self.device, "device": self.device * 8, "capabilities": ["batch"]}
            await socket.send(json.dumps(hello))
            self.welcomed((await self.replies(socket))[0])
            self.connections += 1
            yield socket

    async def replies(self, socket: ClientConnection) -> list[Json]:
        message = json.loads(await socket.recv())
        return message if isinstance(message, list) else [message]

    def welcomed(self, welcome: Json) -> None:
        if welcome["type"] != "welcome":
            raise Broken(f"{self.device}: instead of a welcome: {welcome}")

    async def live(self, socket: ClientConnection) -> None:
        raise NotImplementedError


class Writer(Client):
    """Says things; what is not acknowledged is said again with its key.

    :ivar said: text by key; ``acknowledged`` the number by key; ``repeated`` how often the server knew a key already.
    """

    def __init__(self, url: str, device: str, random: Random) -> None:
        super().__init__(url, device)
        self.said: dict[str, str] = {}
        self.acknowledged: dict[str, tuple[int, str]] = {}
        self.unacknowledged: list[str] = []
        self.repeated = 0
        self.refused = 0
        self.stopping = False
        self.user = ""
        self._random = random

    def welcomed(self, welcome: Json) -> None:
        super().welcomed(welcome)
        user = welcome["user"]["id"]
        if self.user not in ("", user):
            raise Broken(f"{self.device}: was {self.user} and is {user} with the same device")
        self.user = user

    async def live(self, socket: ClientConnection) -> None:
        await socket.send(json.dumps({"type": "join", "room": ROOM}))
        await self.tell(socket, self.unacknowledged)
        while not (self.stopping and not self.unacknowledged):
            if not self.stopping:
                await self.tell(socket, [self.invent() for _ in range(UNDER_WAY - len(self.unacknowledged))])
            again = [key for reply in await self.replies(socket) if (key := self.take(reply)) is not None]
            await self.tell(socket, again)
        await asyncio.Event().wait()

    def invent(self) -> str:
        key = f"{self.device}-{len(self.said)}"
        self.said[key] = key + "." * self._random.choice((0, 10, 200, 2_000))
        self.unacknowledged.append(key)
        return key

    async def tell(self, socket: ClientConnection, keys: Sequence[str]) -> None:
        """Singly or as a batch, as clients do."""
        commands = [{"type": "send", "id": key, "room": ROOM, "key": key, "text": self.said[key]} for key in keys]
        if self._random.random() < 0.5:
            for command in commands:
                await socket.send(json.dumps(command))
        elif commands:
            await socket.send(json.dumps(commands))

    def take(self, reply: Json) -> str | None:
        """A reply; the key to send again, if the server says that this may help."""
        if reply["type"] == "error" and reply["retry"]:
            self.refused += 1
            return str(reply["id"])
        if reply["type"] in ("event", "live", "ping", "bye"):
            return None
        if reply["type"] != "ok":
            raise Broken(f"{self.device}: {reply}")
        key, place = reply["key"], (reply["seq"], reply["event"])
        if self.acknowledged.setdefault(key, place) != place:
            raise Broken(f"{key}: acknowledged as {self.acknowledged[key]}, then as {place}")
        self.repeated += reply["duplicate"]
        if key in self.unacknowledged:
            self.unacknowledged.remove(key)
        return None


class Reader(Client):
    """Reads a room and resumes with its cursor.

    :ivar events: everything, as it came.
    """

    def __init__(self, url: str, device: str) -> None:
        super().__init__(url, device)
        self.events: list[Json] = []
        self.head = 0
        self._cursor: Json = {}

    def welcomed(self, welcome: Json) -> None:
        super().welcomed(welcome)
        self._cursor.setdefault("epoch", welcome["epoch"])
        self._cursor.setdefault("seq", 0)

    async def live(self, socket: ClientConnection) -> None:
        await socket.send(json.dumps({"type": "join", "id": 2, "room": ROOM, "since": self._cursor}))
        while True:
            for message in await self.replies(socket):
                self.take(message)

    def take(self, message: Json) -> None:
        match message["type"]:
            case "event":
                if message["seq"] != self._cursor["seq"] + 1:
                    raise Broken(f"{self.device}: {message['seq']} came after {self._cursor['seq']}")
                self._cursor.update(seq=message["seq"], id=message["id"])
                self.events.append(message)
            case "ok":
                if not message["recovered"]:
                    raise Broken(f"{self.device}: was delivered what is not in the log any more: {self._cursor}: {message}")
                self.head = max(self.head, message["head"])
            case "error":
                raise Broken(f"{self.device}: {message}")


class Story:
    """One server, its clients, and a killer."""

    def __init__(self, directory: Path, random: Random, *, writers: int = 4, readers: int = 3) -> None:
        self.random = random
        port = free_port()
        self.server = Server(directory, f"--listen=tcp:{port}:interface=127.0.0.1")
        url = f"ws://127.0.0.1:{port}/ws"
        self.writers = [Writer(url, f"writer{number}", random) for number in range(writers)]
        self.readers = [Reader(url, f"reader{number}") for number in range(readers)]
        self.kills = 0

    async def run(self, kills: int, *, progress: int = 0) -> None:
        """Kill so often, then let everybody finish, then compare."""
        with self.server:
            clients = [asyncio.create_task(client.run()) for client in (*self.writers, *self.readers)]
            failed = asyncio.gather(*clients)
            try:
                while self.kills < kills:
                    await self._next_kill(failed)
                    if progress and self.kills % progress == 0:
                        print(f"{self.kills} kills, {self.summary()}", flush=True)
                await self._finish(failed)
            finally:
                failed.cancel()
                await asyncio.gather(failed, return_exceptions=True)
            self.server.kill()
        self.check()

    async def _next_kill(self, failed: asyncio.Future[Any]) -> None:
        if self.random.random() < STARTING_SHARE:
            moment = self.random.random() * STARTING_SECONDS
        else:
            if self.kills:
                await asyncio.to_thread(self.server.wait_for, "READY=1")
            moment = self.random.random() * LOADED_SECONDS
        await asyncio.wait([failed], timeout=moment)
        if failed.done():
            failed.result()
        self.server.kill()
        self.kills += 1
        self.server.start_again()

    async def _finish(self, failed: asyncio.Future[Any]) -> None:
        for writer in self.writers:
            writer.stopping = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while not self._finished():
            await asyncio.wait([failed], timeout=0.05)
            if failed.done():
                failed.result()
            if loop.time() > deadline:
                raise Broken(f"not finished after {PATIENCE} s: {self.summary()}")

    def _finished(self) -> bool:
        if any(writer.unacknowledged for writer in self.writers):
            return False
        last = max((seq for writer in self.writers for seq, _ in writer.acknowledged.values()), default=0)
        return all(len(reader.events) >= last for reader in self.readers)

    def check(self) -> None:
        """The promises, as seen by the clients and on disk."""
        first = self.readers[0].events
        for reader in self.readers[1:]:
            if reader.events != first:
                raise Broken(f"{reader.device} saw something else than {self.readers[0].device}")
        if [event["seq"] for event in first] != list(range(1, len(first) + 1)):
            raise Broken("there are holes")
        kept = {event["key"]: event for event in first}
        if len(kept) != len(first):
            raise Broken("a key is there twice")
        for writer in self.writers:
            if writer.said.keys() != writer.acknowledged.keys():
                raise Broken(f"{writer.device}: {len(writer.said)} said, {len(writer.acknowledged)} acknowledged")
            for key, (seq, event_id) in writer.acknowledged.items():
                event = kept.pop(key)
                found = (event["seq"], event["id"], event["text"], event["by"]["id"])
                if found != (seq, event_id, writer.said[key], writer.user):
                    raise Broken(f"{key}: acknowledged as {seq} {event_id}, in the log as {found}")
        if kept:
            raise Broken(f"nobody said {list(kept)[:5]}")
        with sqlite3.connect(self.server.directory / "chat.db") as database:
            ((state,),) = database.execute("PRAGMA integrity_check").fetchall()
        if state != "ok":
            raise Broken(f"the database: {state}")
        database.close()

    def summary(self) -> str:
        acknowledged = sum(len(writer.acknowledged) for writer in self.writers)
        repeated = sum(writer.repeated for writer in self.writers)
        return (
            f"{acknowledged} acknowledged, {repeated} of them after they had been kept before a kill, "
            f"{len(self.readers[0].events)} read by each of {len(self.readers)} over "
            f"{sum(reader.connections for reader in self.readers)} connections"
        )


def run_story(directory: Path, kills: int, seed: int, *, progress: int = 0) -> Story:
    """A whole story; :class:`Broken` if a promise is."""
    story = Story(directory, Random(seed))
    asyncio.run(story.run(kills, progress=progress))
    return story
