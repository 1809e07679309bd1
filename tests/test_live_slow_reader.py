"""A client that never reads costs bounded memory and delays nobody (promise P5), and afterwards it has everything (P4).

``SLOW_SECONDS=60`` lets it sleep for a minute; without, it sleeps while 50 MB pass, however long that takes.
"""

from __future__ import annotations

import os
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from websockets.sync.client import connect

from tests.harness.certificates import make_certificate
from tests.harness.servers import PATIENCE, JsonClient, Server

PASSING_BYTES = 50_000_000
TLS_BYTES = 20_000_000
TEXT_BYTES = 16_000
#: Messages under way.
UNDER_WAY = 8
#: How much the server may grow meanwhile.
GROWTH_BYTES = 4_000_000
#: Bytes that pass before, so that the server has done everything once.
WARM_UP_BYTES = 2_000_000
WARM_UP_READERS = 2
WARM_UP_READ_EVENTS = 50
#: Bytes that pass to see how long things take without anybody asleep.
ALONE_BYTES = 3_000_000
#: Bytes that the kernel may take for the reader, so that it is the server's business soon.
KERNEL_BYTES = 65_536


class SlowReaderTests(SynchronousTestCase):
    def test_tcp(self) -> None:
        """A reader that does not read costs bounded memory and delays nobody, over TCP."""
        with Server(self.mktemp()) as server:
            self.story(server, server.websocket, None, PASSING_BYTES)

    def test_tls(self) -> None:
        """TLS has buffers of its own, three behind one another."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        key, certificate = make_certificate(directory)
        endpoint = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"

        with Server(directory, f"--listen={endpoint}") as server:
            self.story(server, f"wss://localhost:{server.port}", ssl.create_default_context(cafile=str(certificate)), TLS_BYTES)

    def test_plain(self) -> None:
        """The tutorial's client, asleep, catches up, too."""
        with Server(self.mktemp()) as server:
            asleep = connect(server.websocket, sock=narrow(server.port), compression=None, max_queue=1)
            with asleep as slow:
                with JsonClient(server.websocket, "writer") as writer:
                    writer.ask({"type": "join", "room": "lobby"})
                    for number in range(400):
                        writer.send("lobby", str(number), f"{number} " + "x" * TEXT_BYTES)
                        writer.pushes.clear()
                got = [int(slow.recv(PATIENCE).split()[0]) for _ in range(400)]
        self.assertEqual(got, list(range(400)))

    def story(self, server: Server, url: str, tls: ssl.SSLContext | None, passing_bytes: int) -> None:
        options: dict[str, Any] = {"ssl": tls} if tls else {}
        with JsonClient(url, "writer", options=options) as writer, listener(url, options) as heard:
            writer.ask({"type": "join", "room": "lobby"})
            self.warm_up(url, options, writer)
            alone = self.pass_bytes(writer, ALONE_BYTES)
            before = server.resident_bytes()
            # Its library sleeps as well: its own pings would find that nobody reads the answers.
            narrowed = {**options, "sock": narrow(server.port), "max_queue": 1, "ping_interval": None}
            with JsonClient(url, "slow", options=narrowed) as slow:
                joined = slow.ask({"type": "join", "room": "lobby"})
                largest = 0

                def watch() -> None:
                    nonlocal largest
                    largest = max(largest, server.resident_bytes())

                since = time.monotonic()
                beside = self.pass_bytes(writer, passing_bytes, watch)
                while time.monotonic() - since < float(os.environ.get("SLOW_SECONDS", "0")):
                    beside += self.pass_bytes(writer, TEXT_BYTES, watch)
                    time.sleep(0.5)  # the pace of the writer in a run that somebody wants longer
                head = joined["head"] + len(beside) * UNDER_WAY
                got = []
                for event in slow.events():
                    got.append(event["seq"])
                    if event["seq"] % 100 == 0:
                        watch()
                    if event["seq"] >= head:
                        break
            self.assertEqual(got, list(range(joined["head"] + 1, head + 1)))
            heard.until(head)
        self.assertLess(largest - before, GROWTH_BYTES, "the server has grown")
        # Nobody notices: what the writer waits for stays what it was.
        self.assertLess(statistics.median(beside), 3 * statistics.median(alone) + 0.05)
        self.assertLess(max(beside), 3 * max(alone) + 1.0)

    def warm_up(self, url: str, options: dict[str, Any], writer: JsonClient) -> None:
        """Let the server do everything once."""
        self.pass_bytes(writer, WARM_UP_BYTES, under_way=64)
        with ExitStack() as stack:
            readers = [
                stack.enter_context(JsonClient(url, f"early{number}", options=options)) for number in range(WARM_UP_READERS)
            ]
            for reader in readers:
                reader.tell({"type": "join", "room": "lobby", "tail": WARM_UP_READ_EVENTS})
            for reader in readers:
                events = reader.events()
                for _ in range(WARM_UP_READ_EVENTS):
                    next(events)

    def pass_bytes(
        self, writer: JsonClient, total: int, each: Callable[[], None] = lambda: None, *, under_way: int = UNDER_WAY
    ) -> list[float]:
        """Let so much pass through the room; seconds for each round of messages from sent to acknowledged."""
        rounds = []
        text = "x" * TEXT_BYTES
        for _ in range(-(-total // (TEXT_BYTES * under_way))):
            begun = time.perf_counter()
            missing = {
                writer.tell({"type": "send", "room": "lobby", "key": os.urandom(8).hex(), "text": text}) for _ in range(under_way)
            }
            while missing:
                message = writer.next()
                if message["type"] in ("ok", "error"):
                    self.assertEqual(message["type"], "ok", message)
                    missing.remove(message["id"])
            writer.pushes.clear()
            rounds.append(time.perf_counter() - begun)
            each()
        return rounds


def narrow(port: int) -> socket.socket:
    """A connection for which the kernel keeps little."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
    connection.connect(("127.0.0.1", port))
    return connection


class Heard:
    """What somebody hears who reads all the time."""

    def __init__(self, client: JsonClient) -> None:
        self.last = client.ask({"type": "join", "room": "lobby"})["head"]
        self._client = client
        self._arrived = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for event in self._client.events():
                assert event["seq"] == self.last + 1, event["seq"]
                with self._arrived:
                    self.last = event["seq"]
                    self._arrived.notify()
        except Exception as error:
            # The end of the test, or what ``until`` will wait for in vain.
            self.ended = error

    def until(self, head: int) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.last >= head, PATIENCE), f"heard {self.last} of {head}"


@contextmanager
def listener(url: str, options: dict[str, Any]) -> Iterator[Heard]:
    with JsonClient(url, "listener", options=options) as client:
        yield Heard(client)
