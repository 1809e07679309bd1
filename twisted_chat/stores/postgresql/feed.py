"""Notices what other servers write: one connection that listens, in a thread of its own.

NOTIFY reports new heads within milliseconds, but may be lost (a broken connection, a pooler in between).  So a slow poll also finds the
rooms to which anything was appended since the last one.  After each reconnection it polls at once.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Mapping
from threading import Thread
from time import monotonic
from typing import Any

import msgspec
import psycopg
from twisted.logger import Logger

from twisted_chat.interfaces import StoreError
from twisted_chat.stores.postgresql.address import Address, one_line
from twisted_chat.stores.postgresql.connection import Connection, Patience, connect
from twisted_chat.stores.postgresql.fast_append import HEADS_CHANNEL
from twisted_chat.stores.workers import CallInReactor

#: Seconds between two polls; longer if a poll takes long, so that polls take at most a twentieth of the time.
LOOK_SECONDS = 1.5
LOOK_PART = 20
#: Seconds in which the database has to answer a poll, by which a silently broken connection is noticed.
ANSWER_SECONDS = 5.0
#: Seconds between two tries to connect, doubled each time up to the second.
RETRY_DELAYS = (0.1, 2.0)

OnNews = Callable[[Mapping[str, int]], None]
#: Payloads of one channel, in order; in the reactor's thread.
OnPayloads = Callable[[list[bytes]], None]
#: A task that uses the connection in the feed's thread; returns the seconds until it is due again.
Chore = Callable[[Connection], float]

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
        self._followers: dict[object, OnNews] = {}
        self._channels: dict[str, OnPayloads] = {}
        self._chores: list[tuple[Chore, Callable[[], None]]] = []
        self._due: list[float] = []

        self._started = False
        self._stopped = False
        self._failing = False
        self._snapshot: str | None = None
        self._wake_read, self._wake_write = -1, -1

    # In the reactor's thread

    def follow(self, on_news: OnNews) -> Callable[[], None]:
        """Call ``on_news`` with rooms and heads when others have written; returns a function that ends this."""
        key = object()
        self._followers[key] = on_news
        self.start()

        def stop() -> None:
            self._followers.pop(key, None)

        return stop

    def listen(self, channel: str, on_payloads: OnPayloads) -> None:
        """Call ``on_payloads`` with what is notified on the channel; before :meth:`start`."""
        self._channels[channel] = on_payloads

    def repeat(self, chore: Chore, lost: Callable[[], None]) -> None:
        """Do ``chore`` over the connection again and again; ``lost`` is called in its thread when notifications may have been lost.
        Before :meth:`start`."""
        self._chores.append((chore, lost))

    def wake(self) -> None:
        """Run all tasks now."""
        if self._started and not self._stopped:
            os.write(self._wake_write, b"!")

    def start(self) -> None:
        if self._started:
            return
        self._started = True
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        Thread(target=self._run, name="chat-feed", daemon=True).start()

    def stop(self) -> None:
        """End the thread, at the latest when the database has answered or the time for it is over."""
        self._followers.clear()
        self._patience.closing(0)
        self.wake()
        self._stopped = True

    def _tell(self, heads: Mapping[str, int]) -> None:
        for on_news in list(self._followers.values()):
            on_news(heads)

    # In the feed's thread

    def _run(self) -> None:
        delay = RETRY_DELAYS[0]
        while not self._stopped:
            try:
                connection = connect(self._address, self._patience)
                try:
                    self._begin(connection)
                    delay = RETRY_DELAYS[0]
                    self._serve(connection)
                finally:
                    connection.close()
            except (psycopg.Error, StoreError) as error:
                self._failed(error)
                for _, lost in self._chores:
                    lost()
                select.select([self._wake_read], [], [], delay)
                delay = min(2 * delay, RETRY_DELAYS[1])
            except Exception:
                self.log.failure("Bug in the feed")
                select.select([self._wake_read], [], [], RETRY_DELAYS[1])
        os.close(self._wake_read)
        os.close(self._wake_write)

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
        connection.execute("SET synchronous_commit = off")
        for channel in (HEADS_CHANNEL, *self._channels):
            connection.execute(f'LISTEN "{channel}"')
        self._look(connection, _ALL, {})
        self._due = [monotonic()] * len(self._chores)
        if self._failing:
            self._failing = False
            self.log.info("Messages of other servers arrive again")

    def _serve(self, connection: Connection) -> None:
        look_at = monotonic() + LOOK_SECONDS
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while not self._stopped:
            due = min([look_at, *self._due])
            for fileno, _ in poll.poll(max(due - monotonic(), 0) * 1000):
                if fileno == self._wake_read:
                    os.read(self._wake_read, 4096)
                    self._due = [0.0] * len(self._chores)
                else:
                    connection.pgconn.consume_input()
            if self._stopped:
                return
            if self._heard(connection):
                look_at = 0
            if monotonic() >= look_at:
                look_at = self._look(connection, _GROWN, {"before": self._snapshot})
            for index, (chore, _) in enumerate(self._chores):
                if monotonic() >= self._due[index]:
                    self._due[index] = monotonic() + chore(connection)

    def _heard(self, connection: Connection) -> bool:
        """Pass on the notifications; returns whether one was too long to have contents."""
        heads: dict[str, int] = {}
        payloads: dict[str, list[bytes]] = {}
        unsaid = False
        while (notify := connection.pgconn.notifies()) is not None:
            channel = notify.relname.decode()
            if channel != HEADS_CHANNEL:
                payloads.setdefault(channel, []).append(notify.extra)
            elif not notify.extra:
                unsaid = True
            else:
                writer, grown = _decode_hint(notify.extra)
                if not writer.startswith(self._node):
                    heads.update(grown)
        if heads:
            self._call_in_reactor(self._tell, heads)
        for channel, found in payloads.items():
            self._call_in_reactor(self._channels[channel], found)
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
