"""The bus between servers over NOTIFY, and the register of those that run.

Each server is a stream of payloads with numbers.  What it publishes while one transaction runs is one array of JSON in the next; longer
ones are cut into pieces, because PostgreSQL takes less than 8,000 bytes at once.  ::

    9f3c… n7Q2… 41 whole [{"type":"TypingNoticed",…},…]
    51e0… n7Q2… 42 first [{"type":"NodeState",…
    c07a… n7Q2… 43 more …
    288d… n7Q2… 44 last …}]

In front of each stands a code made with the secret of the database.  Everybody who may connect to a database may also notify, and only
its servers can read the secret; payloads with another code are dropped unread.

A number that is missing takes the array that it belongs to with it, and the next array is the next thing heard.  Memory is bounded: while
the database is away the oldest messages are dropped.

Every server writes the database's time into its row of table ``node`` each :data:`BEAT_SECONDS`.  One whose row is older than
:data:`DEAD_SECONDS` is gone, unless this server was itself cut off meanwhile: then the others had no chance either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from hashlib import blake2b
from hmac import compare_digest
from itertools import pairwise
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

import msgspec
from twisted.logger import Logger

from twisted_chat.stores.postgresql.connection import Connection
from twisted_chat.stores.postgresql.feed import Feed
from twisted_chat.stores.workers import CallInReactor

M = TypeVar("M")

#: The channel of NOTIFY.
CHANNEL = "twisted_chat_bus"
#: Bytes of JSON in a payload: PostgreSQL takes 7,999, and before it stand the code, the id of the server and the number.
PIECE_BYTES = 7_800
#: Payloads in one transaction: some 250 KB, so that hints of new heads do not wait long behind them.
PIECES_AT_ONCE = 32
#: Bytes of the code in front of a payload.
CODE_BYTES = 12
#: Seconds between two lines in the log about payloads of others.
STRANGE_SECONDS = 3600.0
#: Bytes of messages that wait to be sent; beyond that the oldest are dropped.
WAITING_BYTES = 4_194_304
#: Bytes of an array that has not come to its end.
PARTIAL_BYTES = 8_388_608
#: Seconds between two signs of life, after how many without one a server is gone, and after how many its row is forgotten.
BEAT_SECONDS = 3.0
DEAD_SECONDS = 10.0
FORGET_SECONDS = 3600.0

_NOTIFY = f"SELECT count(pg_notify('{CHANNEL}', payload)) FROM unnest(%s::text[]) AS payload"

# Answers for each server how many seconds ago it gave a sign of life; for this one, before this one.
_BEAT = """
WITH before AS (SELECT id, extract(epoch FROM clock_timestamp() - heartbeat)::float8 AS age FROM twisted_chat.node),
     mine AS (
        INSERT INTO twisted_chat.node (id, heartbeat) VALUES (%(node)s, clock_timestamp())
        ON CONFLICT (id) DO UPDATE SET heartbeat = excluded.heartbeat),
     old AS (DELETE FROM twisted_chat.node WHERE heartbeat < now() - make_interval(secs => %(forget)s) AND id <> %(node)s)
SELECT id, age FROM before"""


class Seal:
    """Marks the payloads of the servers that know the secret of the database."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def code(self, said: bytes) -> bytes:
        """What stands in front of it."""
        return blake2b(said, digest_size=CODE_BYTES, key=self._secret, person=b"twisted_chat_bus").hexdigest().encode()

    def close(self, said: str) -> str:
        """The payload for it."""
        return f"{self.code(said.encode()).decode()} {said}"

    def open(self, payload: bytes) -> bytes | None:
        """What the payload says; None if it does not come from such a server."""
        code, _, said = payload.partition(b" ")
        return said if compare_digest(code, self.code(said)) else None


class Stream:
    """What is heard of one server: arrays put together again."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._pieces: list[bytes] | None = None
        self._size = 0

    def take(self, number: int, kind: bytes, piece: bytes) -> bytes | None:
        """An array that is whole now."""
        if self._number is not None and number <= self._number:
            return None
        if self._number is not None and number != self._number + 1:
            self._pieces = None
        self._number = number
        if kind in (b"whole", b"first"):
            self._pieces, self._size = [], 0
        if self._pieces is None:
            return None
        self._size += len(piece)
        self._pieces.append(piece)
        if self._size > PARTIAL_BYTES:
            self._pieces = None
        elif kind in (b"whole", b"last"):
            array, self._pieces = b"".join(self._pieces), None
            return array
        return None


def pieces(array: bytes) -> list[tuple[str, str]]:
    """The array in pieces, each with its kind; cut between characters."""
    cuts = [0]
    while len(array) - cuts[-1] > PIECE_BYTES:
        cut = cuts[-1] + PIECE_BYTES
        while array[cut] & 0xC0 == 0x80:
            cut -= 1
        cuts.append(cut)
    cuts.append(len(array))
    parts = [array[begin:end].decode() for begin, end in pairwise(cuts)]
    if len(parts) == 1:
        return [("whole", parts[0])]
    return [("first" if not n else "last" if n == len(parts) - 1 else "more", part) for n, part in enumerate(parts)]


class PostgreSQLBus(Generic[M]):
    """The bus of one server: what :class:`twisted_chat.bus.Bus` promises.

    :param node: the id of this server: what its messages call it.
    :param secret: of the database, at most 64 bytes.
    :param encode: messages as a JSON array; ``decode`` is its inverse.
    :param gone: the message that a server is gone.
    :ivar dropped: how many messages were dropped because the database was away or too slow.
    """

    log = Logger()
    channel = CHANNEL

    def __init__(
        self,
        feed: Feed,
        node: str,
        call_in_reactor: CallInReactor,
        secret: bytes,
        *,
        encode: Callable[[Iterable[M]], bytes],
        decode: Callable[[bytes], list[M]],
        gone: Callable[[str], M],
    ) -> None:
        self._feed = feed
        self._node = node
        self._call_in_reactor = call_in_reactor
        self._seal = Seal(secret)
        #: When the log may have its next line about payloads of others.
        self._strange_at = 0.0
        self._encode = encode
        self._decode = decode
        self._gone = gone
        self._handlers: list[Callable[[M], None]] = []
        self._streams: dict[str, Stream] = {}
        self._dead: set[str] = set()
        self._lock = Lock()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        #: Servers that were heard since the last sign of life of this one.
        self._heard_of: set[str] = set()
        self.dropped = 0
        # Of the feed's thread
        self._unsent: list[str] = []
        self._number = 0
        self._alive: set[str] = set()
        self._gone_nodes: set[str] = set()
        self._beat_at = 0.0
        self._trust_at = 0.0
        feed.carry(self)

    # In the reactor's thread

    def subscribe(self, handler: Callable[[M], None]) -> None:
        """Call ``handler`` for each message, from whatever server."""
        self._handlers.append(handler)

    def publish(self, message: M) -> None:
        """Give the message to the handlers of this server now, and to those of the others soon."""
        encoded = self._encode([message])[1:-1]
        with self._lock:
            wake = not self._waiting
            self._waiting.append(encoded)
            self._waiting_bytes += len(encoded)
            while self._waiting_bytes > WAITING_BYTES:
                self._waiting_bytes -= len(self._waiting.popleft())
                self.dropped += 1
        if wake:
            self._feed.wake()
        self._handle(message)

    def heard(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            said = self._seal.open(payload)
            try:
                if said is None:
                    raise ValueError("another code")
                node, number, kind, piece = said.split(b" ", 3)
                self._take(node.decode(), int(number), kind, piece)
            except (ValueError, msgspec.DecodeError):
                self._strange(payload)

    def _strange(self, payload: bytes) -> None:
        if monotonic() >= self._strange_at:
            self._strange_at = monotonic() + STRANGE_SECONDS
            self.log.warn(
                "Something else than a server of this chat notifies on {channel}: {payload!r}; let nobody else connect to the database",
                channel=CHANNEL,
                payload=payload[:80],
            )

    def _take(self, node: str, number: int, kind: bytes, piece: bytes) -> None:
        if node == self._node:
            return
        if node not in self._streams:
            self._streams[node] = Stream()
            with self._lock:
                self._heard_of.add(node)
        array = self._streams[node].take(number, kind, piece)
        if array is None or node in self._dead:
            return
        for message in self._decode(array):
            self._handle(message)

    def _handle(self, message: M) -> None:
        for handler in self._handlers:
            try:
                handler(message)
            except Exception:
                self.log.failure("Bug while taking a message of the bus")

    def _nodes_changed(self, came: set[str], went: set[str]) -> None:
        self._dead -= came
        for node in went:
            self._dead.add(node)
            self._streams.pop(node, None)
            self.log.info("The server {node} is gone", node=node)
            self._handle(self._gone(node))

    # In the feed's thread

    def connected(self, connection: Connection) -> None:
        self._beat(connection)

    def work(self, connection: Connection) -> float:
        self._send(connection)
        if monotonic() >= self._beat_at:
            self._beat(connection)
        return self._beat_at

    def leave(self, connection: Connection) -> None:
        self._send(connection)
        connection.execute("DELETE FROM twisted_chat.node WHERE id = %s", (self._node,))

    def _send(self, connection: Connection) -> None:
        while True:
            if not self._unsent:
                with self._lock:
                    waiting, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
                if not waiting:
                    return
                for kind, piece in pieces(b"[" + b",".join(waiting) + b"]"):
                    self._number += 1
                    self._unsent.append(self._seal.close(f"{self._node} {self._number} {kind} {piece}"))
            # When the answer is lost they are sent again, and who has them knows them by their numbers.
            connection.execute(_NOTIFY, (self._unsent[:PIECES_AT_ONCE],))
            del self._unsent[:PIECES_AT_ONCE]

    def _beat(self, connection: Connection) -> None:
        rows = connection.execute(_BEAT, {"node": self._node, "forget": FORGET_SECONDS}).fetchall()
        now = monotonic()
        self._beat_at = now + BEAT_SECONDS
        ages: dict[str, float] = dict(rows)
        own = ages.pop(self._node, None)
        if own is None or own > DEAD_SECONDS / 2:
            # The others may have been cut off as this server was: each gets the time to give a sign of life.
            self._trust_at = now + DEAD_SECONDS
        with self._lock:
            self._alive |= self._heard_of - self._gone_nodes
            self._heard_of = set()
        found = {node for node, age in ages.items() if age < DEAD_SECONDS}
        went = self._alive - found
        if now < self._trust_at:
            went -= set(ages)
        came = found & self._gone_nodes
        self._gone_nodes = (self._gone_nodes | went) - came
        self._alive = (self._alive | found) - went
        if came or went:
            self._call_in_reactor(self._nodes_changed, came, went)
