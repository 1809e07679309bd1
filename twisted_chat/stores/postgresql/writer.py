"""The connection that appends, and what became of a batch whose answer was lost with it.

Each such connection has a row in table ``writer``, under a random id, that every append updates in its own transaction.  When a
connection is lost while a batch was on its way, the next connection deletes that row.  The deletion waits for the transaction of the lost
connection, if it is still in progress; it answers what that connection committed last; and what may still arrive from it (a network that
was cut and heals) finds no row and writes nothing.  So the outcome is known, and the batch can be appended again if it was not kept.

Blocking; one thread at a time.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TypeVar

import psycopg
from msgspec import Struct
from psycopg import errors
from twisted.logger import Logger

from twisted_chat.errors import Unavailable
from twisted_chat.interfaces import Append, Opened, Outcome, StoreError
from twisted_chat.stores.postgresql import erasing, schema
from twisted_chat.stores.postgresql.address import Address
from twisted_chat.stores.postgresql.careful_append import Decisions
from twisted_chat.stores.postgresql.careful_statements import NOTE, lock_rooms, look_up, write
from twisted_chat.stores.postgresql.connection import Connection, Patience, connect, explain, is_lost, transaction
from twisted_chat.stores.postgresql.fast_append import append_fast, fast_batch
from twisted_chat.stores.postgresql.rows import load_rooms
from twisted_chat.stores.random_ids import RandomBytes, random_text

T = TypeVar("T")
Answer = list[list[Outcome]]

#: Seconds for which a batch is tried before it fails, and longer when a part of it may have been kept: a transaction of a lost
#: connection lives for no more than the limits of a statement and of an idle transaction together.
RETRY_SECONDS = 3.0
RESOLVE_SECONDS = 20.0
#: Seconds between two tries to connect, doubled each time up to the second.
RETRY_DELAYS = (0.05, 1.0)
#: Attempts at a transaction that the database ended in favour of another one.
ATTEMPTS = 5
#: Random characters of the id of a connection, behind that of its server.
WRITER_LENGTH = 12

_REGISTER = """
WITH gone AS (DELETE FROM twisted_chat.writer WHERE id = ANY(%s) RETURNING id, batch, heads),
     mine AS (INSERT INTO twisted_chat.writer (id) VALUES (%s))
SELECT id, batch, heads FROM gone"""
_FORGET_OLD = "DELETE FROM twisted_chat.writer WHERE since < now() - interval '7 days' AND id <> %s"


class _Fenced(Exception):
    """The row of this connection is gone: another connection of this store has replaced it."""


class _UnderWay(Struct):
    """A batch whose transaction was about to be committed.

    :ivar answer: the outcomes, by the heads of the rooms before.
    """

    writer: str
    number: int
    answer: Callable[[Sequence[int]], Answer]


class Writer:
    """The connection that appends; a new one after it was lost.

    :ivar erasing: the texts of some edits of deleted messages still have to be erased.
    """

    log = Logger()

    def __init__(self, address: Address, patience: Patience, node: str, random_bytes: RandomBytes, steps: Sequence[str]) -> None:
        self._address = address
        self._node = node
        self._patience = patience
        self._random_bytes = random_bytes
        self._steps = steps
        self._connection: Connection | None = None
        self._number = 0
        #: The id of the connection, and those of connections that were lost and may have a transaction in progress.
        self._id = ""
        self._lost: list[str] = []
        self._under_way: _UnderWay | None = None
        self._was_there = True
        self.erasing = False

    def open(self) -> Opened:
        """Everything that must hold before the first append; :class:`StoreError` says what does not."""
        try:
            connection = connect(self._address, self._patience)
            try:
                schema.prepare(connection, self._address, self._steps)
                epoch, secret = schema.identity(connection, self._random_bytes)
                self.erasing = erasing.pending(connection)
                news = connection.execute("SELECT number FROM twisted_chat.news").fetchone()
                rooms = load_rooms(connection)
            finally:
                connection.close()
            self._connected()
        except psycopg.Error as error:
            raise explain(self._address, error) from None
        assert news is not None
        return Opened(epoch, secret, tuple(room.record() for room in rooms.values()), int(news[0]))

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.usable:
            try:
                connection.execute("DELETE FROM twisted_chat.writer WHERE id = %s", (self._id,))
            except psycopg.Error as error:
                self.log.debug("Its writer stays in the database until it is a week old: {error}", error=str(error))
        if connection is not None:
            connection.close()

    def use(self, work: Callable[[Connection], T], *, again: bool = True) -> T:
        """Do something else over this connection.

        :param again: it may be done twice, so it is if the connection turns out to be lost.
        """
        fresh = self._connection is None
        connection = self._connected()
        try:
            return work(connection)
        except psycopg.Error as error:
            if not is_lost(connection, error):
                if not isinstance(error, errors.DeadlockDetected) or not again:
                    raise
            else:
                self._drop()
                if fresh or not again:
                    raise
        return work(self._connected())

    # -- appending

    def append(self, batch: Sequence[Append], at: int) -> Answer:
        """Keep the batch; :class:`psycopg.Error`: nothing has been kept; :class:`Unavailable`: that is not known."""
        began = monotonic()
        delay, attempts = RETRY_DELAYS[0], 0
        while True:
            try:
                kept = self._resolved()
                if kept is None:
                    kept = self._append(batch, at)
                self._was_there = True
                return kept
            except _Fenced:
                self._drop()
                attempts += 1
                if attempts == ATTEMPTS:
                    raise errors.OperationalError("other connections take this one's place") from None
            except psycopg.Error as error:
                if not is_lost(self._connection, error):
                    attempts += 1
                    if attempts == ATTEMPTS or not _passes(error):
                        self._give_up()
                        raise
                else:
                    self._drop()
                    if self._too_late(began):
                        self._give_up(error)
                        raise
            time.sleep(delay)
            delay = min(2 * delay, RETRY_DELAYS[1])

    def _too_late(self, began: float) -> bool:
        if self._patience.over:
            return True
        allowed = RESOLVE_SECONDS if self._under_way is not None else RETRY_SECONDS if self._was_there else 0
        return monotonic() - began > allowed

    def _give_up(self, error: psycopg.Error | None = None) -> None:
        self._was_there = False
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            raise Unavailable(
                "the database went away while this was being committed, and whether it is kept is not known yet; "
                "send it again with the same key",
                retry_after_ms=1000,
            ) from error

    def _connected(self) -> Connection:
        """The connection; a new one registers itself and takes the place of those that were lost."""
        if self._connection is not None:
            if not self._connection.closed:
                return self._connection
            self._drop()
        connection = connect(self._address, self._patience)
        try:
            mine = f"{self._node}-{random_text(secrets.token_bytes, WRITER_LENGTH)}"
            gone = {row[0]: row[1:] for row in connection.execute(_REGISTER, (self._lost, mine)).fetchall()}
            connection.execute(_FORGET_OLD, (mine,))
        except BaseException:
            # Its registration may have been committed; no batch has its id.
            connection.close()
            raise
        self._connection, self._id, self._number, self._lost = connection, mine, 0, []
        under_way = self._under_way
        if under_way is not None:
            number, heads = gone.get(under_way.writer, (0, []))
            self._under_way = None
            if number == under_way.number:
                self._kept = under_way.answer(heads)
        return connection

    _kept: Answer | None = None

    def _resolved(self) -> Answer | None:
        """The outcomes of the batch if it turns out that it was kept."""
        self._connected()
        kept, self._kept = self._kept, None
        return kept

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._lost.append(self._id)

    def _append(self, batch: Sequence[Append], at: int) -> Answer:
        connection = self._connected()
        fast = fast_batch(batch, at, self._random_bytes)
        if fast is not None and fast.prefixes:
            self._number += 1
            self._under_way = _UnderWay(self._id, self._number, fast.outcomes)
            try:
                heads = append_fast(connection, fast, self._id, self._number)
            except errors.UniqueViolation:
                heads = None  # a key is repeated
            self._under_way = None
            if heads is not None:
                return fast.outcomes(heads)
        return self._append_carefully(connection, batch, at)

    def _append_carefully(self, connection: Connection, batch: Sequence[Append], at: int) -> Answer:
        names = [append.room for append in batch if append.new_events]
        if not names:
            return [[] for _ in batch]
        self._number += 1
        with transaction(connection):
            noted = connection.execute(NOTE, (self._number, self._id)).fetchone()
            if noted is None:
                raise _Fenced
            decisions = Decisions(lock_rooms(connection, names), self._random_bytes, at)
            look_up(connection, batch, decisions)
            answer = decisions.decide(batch)
            with connection.pipeline():
                write(connection, decisions, self._id, at)
                if decisions.deleted:
                    erasing.erase(connection, decisions.deleted)
            self._under_way = _UnderWay(self._id, self._number, lambda heads: answer)
        self._under_way = None
        self.erasing = self.erasing or bool(decisions.deleted)
        return answer


def _passes(error: psycopg.Error) -> bool:
    """Whether the same transaction may succeed when it is tried again."""
    return isinstance(error, errors.DeadlockDetected | errors.SerializationFailure | errors.LockNotAvailable)


__all__ = ["StoreError", "Writer"]
