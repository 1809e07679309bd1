"""Several servers on one PostgreSQL, which runs on the same machine and waits for its disk (``fsync = on``): ``python -m bench --nodes``.

Each load is 64 writers who each have 50 messages under way, in JSON, up to 50 commands in a frame; what is counted are acknowledgements.
Beside them stands what PostgreSQL gives to bare batches: the statement of the store, one batch after another, without any server.
"""

from __future__ import annotations

import json
import secrets
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bench import loading
from bench.measuring import check
from bench.programs import Place, Program, Start, find
from bench.report import align
from bench.serving import Server, running
from tests.harness.postgresql import PostgreSQL
from twisted_chat.events import Author, NewMessage
from twisted_chat.store_contract import Append
from twisted_chat.stores.postgresql import address, schema
from twisted_chat.stores.postgresql.connection import Patience
from twisted_chat.stores.postgresql.lineage import Lineage
from twisted_chat.stores.postgresql.writer import Writer

WRITERS, UNDER_WAY, ROOMS = 64, 50, 64
#: Messages in a bare batch: what the writers of one server have under way.
BARE_BATCH = WRITERS * UNDER_WAY
#: Messages a second for the delivery to a reader at another server.
STEADY = 1_000
#: The loads: each writer alone in a room, and two in each room, who hear one another, in the second case through the other server.
ONE, TWO_DIFFERENT = "one server", "two servers, different rooms"
ONE_SHARED, TWO_SHARED = "one server, two writers in each room", "two servers, one writer of each room at each"


def measure(seconds: float, rounds: int) -> Iterator[list[str]]:
    """The rows of the table, each a median over the rounds."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, value in _round(seconds):
            found.setdefault(name, []).append(value)
    values = {name: statistics.median(each) for name, each in found.items()}
    yield ["", "", "in relation to"]
    yield ["bare batches of the same statement", f"{values['bare']:,.0f}/s", ""]
    yield [ONE, f"{values[ONE]:,.0f}/s", f"{values[ONE] / values['bare']:.2f} bare batches"]
    yield [TWO_DIFFERENT, f"{values[TWO_DIFFERENT]:,.0f}/s", f"{values[TWO_DIFFERENT] / values[ONE]:.2f} {ONE}"]
    yield [ONE_SHARED, f"{values[ONE_SHARED]:,.0f}/s", f"{values[ONE_SHARED] / values[ONE]:.2f} {ONE}"]
    yield [TWO_SHARED, f"{values[TWO_SHARED]:,.0f}/s", f"{values[TWO_SHARED] / values[ONE_SHARED]:.2f} {ONE_SHARED}"]
    yield [f"delivery to another server at {STEADY:,}/s, median", f"{values['p50']:.1f} ms", ""]
    yield [f"delivery to another server at {STEADY:,}/s, 99th percentile", f"{values['p99']:.1f} ms", ""]


def table(rows: Sequence[list[str]]) -> str:
    return "\n".join(align(list(rows))) + "\n"


def _round(seconds: float) -> Iterator[tuple[str, float]]:
    with ExitStack() as stack:
        base = Path(stack.enter_context(TemporaryDirectory(prefix="nodes-")))
        postgresql = PostgreSQL(fsync=True, shared_buffers="256MB", max_wal_size="4GB")
        stack.callback(postgresql.remove)
        url = postgresql.url(postgresql.new_database())
        yield "bare", _bare(url, seconds)
        one = stack.enter_context(_server(url, base))
        yield ONE, sum(_load([(one, "a")], seconds))
        yield ONE_SHARED, sum(_load([(one, "b"), (one, "b")], seconds))
        two = stack.enter_context(_server(url, base))
        yield TWO_SHARED, sum(_load([(one, "c"), (two, "c")], seconds))
        yield TWO_DIFFERENT, sum(_load([(one, "d"), (two, "e")], seconds))
        delays = sorted(_deliveries(one, two, seconds))
        yield "p50", delays[len(delays) // 2] * 1000
        yield "p99", delays[int(len(delays) * 0.99)] * 1000


@contextmanager
def _server(url: str, base: Path) -> Iterator[Server]:
    chat = find("chat")

    def start(where: Place) -> Start:
        begun = chat.start(where)
        store = begun.command.index("--store")
        return Start([*begun.command[: store + 1], url, *begun.command[store + 2 :]], begun.directory, begun.environment)

    with running(Program(chat.name, chat.version, start), base) as server:
        yield server


def _bare(url: str, seconds: float) -> float:
    """Messages a second in batches, one after the other, over one connection."""
    where = address.parse(url)
    writer = Writer(where, Patience(), Lineage(print), "bare", secrets.token_bytes, schema.schema_steps())
    writer.open()
    authors = [Author(f"u{number}", f"person {number}") for number in range(WRITERS)]
    count = 0
    began = end = time.monotonic()
    while end - began < seconds or not count:
        batch = [
            Append(
                f"bare-{room}", [NewMessage(authors[room], f"{count}-{room}-{n}", "x" * 20) for n in range(BARE_BATCH // ROOMS)]
            )
            for room in range(ROOMS)
        ]
        writer.append(batch, int(time.time() * 1000))
        if not count:
            # The first one makes the rooms.
            began = time.monotonic()
        count += BARE_BATCH
        end = time.monotonic()
    writer.close()
    return (count - BARE_BATCH) / (end - began)


def _load(servers: Sequence[tuple[Server, str]], seconds: float) -> list[float]:
    """Acknowledgements a second of each server; all are under load at the same time, and the writers are spread over them."""
    rates: list[float] = []
    problems: list[Exception] = []

    def run(server: Server, prefix: str) -> None:
        settings: loading.Settings = {
            "port": server.port,
            "path": f"/ws/{prefix}-",
            "room": f"{prefix}-",
            "json": 1,
            "tls": 0,
            "batch": UNDER_WAY,
            "clients": WRITERS // len(servers),
            "rooms": ROOMS // len(servers),
            "window_each": UNDER_WAY,
            "warmup": 1,
            "seconds": seconds,
        }
        try:
            report = loading.run("talk", settings)
            if len({prefix for _, prefix in servers}) == len(servers):
                # In rooms of others as well the generator hears more than it expects.
                check(report)
            rates.append(float(report["per_second"]))
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=each) for each in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return rates


def _deliveries(one: Server, two: Server, seconds: float) -> list[float]:
    """Seconds from sending at one server to receiving at the other, of each message."""
    delays: list[float] = []
    count = int(STEADY * seconds)
    with _joined(one) as writer, _joined(two) as reader:

        def read() -> None:
            while len(delays) < count:
                now, found = time.monotonic(), json.loads(reader.recv(timeout=30))
                now = time.monotonic()
                for event in found if isinstance(found, list) else [found]:
                    if event["type"] == "event" and event["text"].startswith("at "):
                        delays.append(now - float(event["text"][3:]))

        def drain() -> None:
            acknowledged = 0
            while acknowledged < count:
                found = json.loads(writer.recv(timeout=30))
                acknowledged += sum(reply["type"] == "ok" for reply in (found if isinstance(found, list) else [found]))

        threads = [threading.Thread(target=work, daemon=True) for work in (read, drain)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        for number in range(count):
            time.sleep(max(began + number / STEADY - time.monotonic(), 0))
            writer.send(json.dumps({"type": "send", "room": "steady", "id": number, "text": f"at {time.monotonic()}"}))
        for thread in threads:
            thread.join(60)
    if len(delays) < count:
        raise loading.LoadFailed(f"{count - len(delays)} of {count} messages never came to the other server")
    return delays


@contextmanager
def _joined(server: Server) -> Iterator[ClientConnection]:
    url = f"ws://127.0.0.1:{server.port}/"
    with connect(url, subprotocols=[Subprotocol("chat.v1.json")], compression=None, max_queue=None) as client:
        client.send(json.dumps([{"type": "hello", "name": "bench"}, {"type": "join", "room": "steady", "id": 1}]))
        while json.loads(client.recv(timeout=30)).get("id") != 1:
            pass
        yield client
