"""Notices what other servers write: one connection that listens, in a thread of its own.

NOTIFY reports new heads within milliseconds, but may be lost (a broken connection, a pooler in between).  So a slow poll also finds the
rooms to which anything was appended since the last one.  After each reconnection it polls at once.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Thread
from time import monotonic
from typing import Any, Protocol

import msgspec
import psycopg
from psycopg.pq import PGnotify
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from twisted_chat.store_contract import StoreError
from twisted_chat.stores.postgresql.address import Address, one_line
from twisted_chat.stores.postgresql.connection import Connection, Patience, connect
from twisted_chat.stores.postgresql.fast_append import HEADS_CHANNEL
from twisted_chat.stores.postgresql.lineage import Lineage
from twisted_chat.stores.workers import CallInReactor

#: Seconds between two polls; longer if a poll takes long, so that polls take at most a twentieth of the time.
LOOK_SECONDS = 1.5
LOOK_PART = 20
#: Seconds in which the database has to answer a poll, by which a silently broken connection is noticed.
ANSWER_SECONDS = 5.0
#: Seconds in which the feed signs off from the database at its end.
LEAVE_SECONDS = 1.0
#: Seconds between two tries to connect, doubled each time up to the second.
RETRY_DELAYS = (0.1, 2.0)

OnNews = Callable[[Mapping[str, int]], None]


class FeedClient(Protocol):
    """Another user of the connection: the bus.  All but :meth:`heard` is called in the feed's thread."""

    #: The channel of NOTIFY that it listens to.
    channel: str

    def connected(self, connection: Connection) -> None:
        """There is a new connection; earlier notifications may have been lost."""

    def work(self, connection: Connection) -> float:
        """Do what is due; returns the time (monotonic) of the next call, which :meth:`Feed.wake` brings forward."""

    def leave(self, connection: Connection) -> None:
        """The feed ends."""

    def heard(self, payloads: list[bytes]) -> None:
        """Take the payloads of notifications, in their order; called in the reactor's thread."""


# What a snapshot does not show had not been committed then, whatever its number.
_ALL = "SELECT pg_current_snapshot()::text, (SELECT json_object_agg(name, head)::text FROM twisted_chat.room WHERE head > 0)"
_GROWN = """
SELECT pg_current_snapshot()::text, (
    SELECT json_object_agg(name, head)::text FROM twisted_chat.room
    WHERE changed >= pg_snapshot_xmin(%(before)s::pg_snapshot) AND NOT pg_visible_in_snapshot(changed, %(before)s::pg_snapshot))"""

_decode_heads = msgspec.json.Decoder(dict[str, int]).decode
_decode_hint = msgspec.json.Decoder(tuple[str, dict[str, int]]).decode


class Feed:
    """The listening connection of one server.

    :param node: the id of the server; hints about its own commits, whose writers begin with it, are left out.
    """

    log = Logger()

    def __init__(self, address: Address, node: str, call_in_reactor: CallInReactor) -> None:
        self._address = address
        self._node = node
        self._call_in_reactor = call_in_reactor
        self._patience = Patience()
        #: Set by the store whose feed it is.
        self.lineage: Lineage | None = None
        self._followers: dict[object, OnNews] = {}
        self._client: FeedClient | None = None
        self._started = False
        self._stopped = False
        self._failing = False
        self._connected = False
        self._ended: Deferred[None] = Deferred()
        self._snapshot: str | None = None
        self._wake_read, self._wake_write = -1, -1
        #: Notifications that arrived while a statement was executed.
        self._arrived: list[PGnotify] = []

    # In the reactor's thread

    def follow(self, on_news: OnNews) -> Callable[[], None]:
        """Call ``on_news`` with rooms and heads when others have written; returns a function that ends this."""
        key = object()
        self._followers[key] = on_news
        self.start()

        def stop() -> None:
            self._followers.pop(key, None)

        return stop

    def carry(self, client: FeedClient) -> None:
        """Let the client use the connection; to be called before :meth:`start`."""
        assert not self._started, "the feed has begun"
        self._client = client

    def wake(self) -> None:
        """Call the client's ``work`` now."""
        if self._started and not self._stopped:
            with suppress(BlockingIOError):
                os.write(self._wake_write, b"!")

    def start(self) -> None:
        if self._started:
            return
        self._started = True
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        Thread(target=self._run, name="chat-feed", daemon=True).start()

    def stop(self) -> Deferred[None]:
        """End the thread; fires when the feed has signed off from the database, or at once if it is not connected."""
        self._followers.clear()
        if not self._started or self._stopped:
            return succeed(None)
        self._patience.closing(LEAVE_SECONDS)
        self.wake()
        self._stopped = True
        return self._ended if self._connected else succeed(None)

    def _tell(self, heads: Mapping[str, int]) -> None:
        for on_news in list(self._followers.values()):
            on_news(heads)

    # In the feed's thread

    def _run(self) -> None:
        delay = RETRY_DELAYS[0]
        while not self._stopped:
            try:
                connection = connect(self._address, self._patience, self.lineage)
                try:
                    self._begin(connection)
                    self._connected = True
                    delay = RETRY_DELAYS[0]
                    self._serve(connection)
                finally:
                    self._connected = False
                    connection.close()
            except (psycopg.Error, StoreError) as error:
                self._failed(error)
                self._pause(delay)
                delay = min(2 * delay, RETRY_DELAYS[1])
            except Exception:
                self.log.failure("Bug in the feed")
                self._pause(RETRY_DELAYS[1])
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._call_in_reactor(self._ended.callback, None)

    def _pause(self, seconds: float) -> None:
        if not self._stopped:
            time.sleep(seconds)

    def _failed(self, error: Exception) -> None:
        if not self._failing and not self._stopped:
            self._failing = True
            self.log.error(
                "Messages of other servers do not arrive: {database}: {cause}",
                database=self._address.shown,
                cause=one_line(error),
            )

    def _begin(self, connection: Connection) -> None:
        connection.answer_seconds = ANSWER_SECONDS
        self._arrived = []
        # Otherwise psycopg keeps them for its own way to ask for notifications, for ever.
        connection.pgconn.notify_handler = self._arrived.append
        # What the feed writes need not survive a crash of the database, so it does not wait for the disk.
        connection.execute("SET synchronous_commit = off")
        connection.execute(f'LISTEN "{HEADS_CHANNEL}"')
        if self._client is not None:
            connection.execute(f'LISTEN "{self._client.channel}"')
            self._client.connected(connection)
        self._look(connection, _ALL, {})
        if self._failing:
            self._failing = False
            self.log.info("Messages of other servers arrive again")

    def _serve(self, connection: Connection) -> None:
        look_at, work_at = monotonic() + LOOK_SECONDS, 0.0
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while not self._stopped:
            wait = min(look_at, work_at if self._client is not None else look_at) - monotonic() if not self._arrived else 0
            for fileno, _ in poll.poll(max(wait, 0) * 1000):
                if fileno == self._wake_read:
                    os.read(self._wake_read, 4096)
                    work_at = 0
                else:
                    connection.pgconn.consume_input()
            if self._heard(connection):
                look_at = 0
            if self._client is not None and monotonic() >= work_at:
                work_at = self._client.work(connection)
            if monotonic() >= look_at:
                look_at = self._look(connection, _GROWN, {"before": self._snapshot})
        if self._client is not None:
            self._client.leave(connection)

    def _heard(self, connection: Connection) -> bool:
        """Pass on the notifications; returns whether one was too long to have contents."""
        heads: dict[str, int] = {}
        payloads: list[bytes] = []
        unsaid = False
        while (notify := connection.pgconn.notifies()) is not None:
            self._arrived.append(notify)
        for notify in self._arrived:
            if notify.relname.decode() != HEADS_CHANNEL:
                payloads.append(notify.extra)
            elif not notify.extra:
                unsaid = True
            else:
                try:
                    writer, grown = _decode_hint(notify.extra)
                except (msgspec.DecodeError, RecursionError):
                    # Somebody else's; what a hint would have told, the next poll finds.
                    continue
                if not writer.startswith(self._node):
                    heads.update(grown)
        self._arrived.clear()
        if heads:
            self._call_in_reactor(self._tell, heads)
        if payloads and self._client is not None:
            self._call_in_reactor(self._client.heard, payloads)
        return unsaid

    def _look(self, connection: Connection, query: str, parameters: Mapping[str, Any]) -> float:
        """Report the rooms that have grown; returns the time of the next poll."""
        began = monotonic()
        row = connection.execute(query, parameters).fetchone()
        assert row is not None
        self._snapshot, heads = row
        if heads is not None:
            self._call_in_reactor(self._tell, _decode_heads(heads))
        ended = monotonic()
        return ended + max(LOOK_SECONDS, LOOK_PART * (ended - began))
