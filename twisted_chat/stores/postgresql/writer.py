"""The connection that appends, and what became of a batch whose answer was lost with it.

Each such connection has a row in table ``writer``, under a random id, that every append updates in its own transaction.  When a
connection is lost while a batch was on its way, the next connection closes that row.  That waits for the transaction of the lost one, if
it is still in progress; it answers what that connection committed last; and what may still arrive from it (a network that was cut
and heals) finds the row closed and writes nothing.  So the outcome is known, and a batch that was not kept can be appended again.

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
from psycopg.errors import Diagnostic
from twisted.logger import Logger

from twisted_chat.errors import Unavailable
from twisted_chat.store_contract import Append, Opened, Outcome
from twisted_chat.stores.postgresql import erasing, schema
from twisted_chat.stores.postgresql.address import Address
from twisted_chat.stores.postgresql.careful_append import Decisions
from twisted_chat.stores.postgresql.careful_statements import NOTE, governs, lock_rooms, look_up, write
from twisted_chat.stores.postgresql.connection import Connection, Patience, connect, explain, is_lost, rollback
from twisted_chat.stores.postgresql.fast_append import append_fast, fast_batch
from twisted_chat.stores.postgresql.lineage import Diverged, Lineage
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
#: Milliseconds after which somebody whose message could not be kept may try again.
RETRY_AFTER_MS = 1000
#: Random characters of the id of a connection, behind that of its server.
WRITER_LENGTH = 12

#: The numbers of the last change of rooms and of the last change of a standing.
_NEWS = "SELECT number, (SELECT coalesce(max(news), 0) FROM twisted_chat.standing) FROM twisted_chat.news"
_CLOSE = "UPDATE twisted_chat.writer SET closed = true WHERE id = ANY(%s) RETURNING id, batch, heads"
_REGISTER = """
WITH known AS (DELETE FROM twisted_chat.writer WHERE id = ANY(%s) OR used < now() - interval '7 days')
INSERT INTO twisted_chat.writer (id) VALUES (%s)"""


class _Closed(psycopg.OperationalError):
    """The row of this connection is closed: another connection of this store has taken its place."""


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

    def __init__(
        self,
        address: Address,
        patience: Patience,
        lineage: Lineage,
        node: str,
        random_bytes: RandomBytes,
        steps: Sequence[str],
    ) -> None:
        self._address = address
        self._lineage = lineage
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
        #: What the database has said against the commit of the present batch.
        self._warning = ""
        #: What lost connections had committed last: number of the batch, and heads.
        self._found: dict[str, tuple[int, list[int]]] = {}
        self._was_there = True
        self.erasing = False

    def open(self) -> Opened:
        """Everything that must hold before the first append; :class:`StoreError` says what does not."""
        try:
            connection = connect(self._address, self._patience, self._lineage)
            try:
                schema.prepare(connection, self._address, self._steps)
                epoch, secret = schema.identity(connection, self._random_bytes)
                self.erasing = erasing.pending(connection)
                news = connection.execute(_NEWS).fetchone()
                rooms = load_rooms(connection)
            finally:
                connection.close()
            self._connected()
        except psycopg.Error as error:
            raise explain(self._address, error) from None
        assert news is not None
        return Opened(epoch, secret, tuple(room.record() for room in rooms.values()), *news)

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
            self._warning = ""
            try:
                answer = self._try(batch, at)
                self._was_there = True
                if self._warning:
                    raise unknown_outcome(self._warning)
                return answer
            except (_Closed, errors.DeadlockDetected, errors.SerializationFailure) as error:
                # The database has undone it, or never began.
                self._under_way = None
                if isinstance(error, _Closed):
                    self._drop()
                attempts += 1
                if attempts == ATTEMPTS:
                    raise
            except psycopg.Error as error:
                if not is_lost(self._connection, error):
                    self._under_way = None
                    raise
                self._drop()
                if isinstance(error, Diverged) or self._too_late(began):
                    self._give_up(error)
                    raise
            time.sleep(delay)
            delay = min(2 * delay, RETRY_DELAYS[1])

    def _try(self, batch: Sequence[Append], at: int) -> Answer:
        connection = self._connected()
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            number, heads = self._found.pop(under_way.writer, (0, []))
            if number == under_way.number:
                return under_way.answer(heads)
        self._found.clear()
        return self._append(connection, batch, at)

    def _too_late(self, began: float) -> bool:
        if self._patience.over:
            return True
        allowed = RESOLVE_SECONDS if self._under_way is not None else RETRY_SECONDS if self._was_there else 0
        return monotonic() - began > allowed

    def _give_up(self, error: psycopg.Error) -> None:
        self._was_there = False
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            raise unknown_outcome("the database went away while this was being committed") from error

    def _connected(self) -> Connection:
        """The connection; a new one takes the place of those that were lost, and finds out what they committed last."""
        if self._connection is not None:
            if not self._connection.ended:
                return self._connection
            self._drop()
        connection = connect(self._address, self._patience, self._lineage)
        connection.add_notice_handler(self._noticed)
        try:
            if self._lost:
                # It may be done again when the answer is lost: the rows stay until somebody has the answer.
                rows = connection.execute(_CLOSE, (self._lost,)).fetchall()
                self._found.update({writer: (number, heads) for writer, number, heads in rows})
            mine = f"{self._node}-{random_text(secrets.token_bytes, WRITER_LENGTH)}"
            connection.execute(_REGISTER, (self._lost, mine))
        except BaseException:
            connection.close()
            raise
        self._connection, self._id, self._number, self._lost = connection, mine, 0, []
        return connection

    def _noticed(self, notice: Diagnostic) -> None:
        """Somebody has ended the wait for a synchronous standby: the commit is there now, and may not survive a fail-over."""
        if notice.sqlstate == "01000" and notice.severity_nonlocalized == "WARNING":
            self._warning = notice.message_primary or "the database has warned"

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._lost.append(self._id)

    def _append(self, connection: Connection, batch: Sequence[Append], at: int) -> Answer:
        fast = fast_batch(batch, at, self._random_bytes)
        if fast is not None and fast.prefixes:
            self._number += 1
            self._under_way = _UnderWay(self._id, self._number, fast.outcomes)
            try:
                heads = append_fast(connection, fast, self._id, self._number)
            except errors.UniqueViolation:
                heads = None
            self._under_way = None
            if heads is not None:
                return fast.outcomes(heads)
        # A room is not there, the row is closed, or a key is repeated.
        return self._append_carefully(connection, batch, at)

    def _append_carefully(self, connection: Connection, batch: Sequence[Append], at: int) -> Answer:
        names = [append.room for append in batch if append.new_events]
        if not names:
            return [[] for _ in batch]
        self._number += 1
        connection.execute("BEGIN")
        try:
            if connection.execute(NOTE, (self._number, self._id)).fetchone() is None:
                raise _Closed("its row is closed")
            decisions = Decisions(lock_rooms(connection, names, governs(batch)), self._random_bytes, at)
            look_up(connection, batch, decisions)
            answer = decisions.decide(batch)
            self._under_way = _UnderWay(self._id, self._number, lambda heads: answer)
            with connection.pipeline():
                write(connection, decisions, self._id, at)
                if decisions.deleted:
                    erasing.erase(connection, decisions.deleted)
                connection.execute("COMMIT")
        except BaseException:
            rollback(connection)
            raise
        self._under_way = None
        self.erasing = self.erasing or bool(decisions.deleted)
        return answer


def unknown_outcome(cause: str) -> Unavailable:
    """Some of it may be kept; the key tells."""
    return Unavailable(
        f"{cause}, and whether it is kept is not known yet; send it again with the same key", retry_after_ms=RETRY_AFTER_MS
    )
