"""What the client keeps: accepted messages, and how far each room was read; in memory, and in the journal if there is one.

In:   messages that are accepted and settled, cursors that move.
Out:  the outbox; after a start, what an earlier run of the program left.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from twisted_chat.client.errors import ClientError, ClientStopped, Postponed
from twisted_chat.client.journal import Journal
from twisted_chat.client.outbox import Outbox, Pending
from twisted_chat.events import Cursor


class Keeper:
    """The outbox, the cursors and the journal of one client.

    :param journal: a file, or None.
    :param queue: how many messages may wait to be acknowledged.
    :param device: the guest's secret that the program has chosen; None: out of the journal, or ``random_device``.
    """

    log = Logger()

    def __init__(self, journal: str | None, queue: int, device: str | None, random_device: str) -> None:
        self.outbox = Outbox(queue)
        self._journal = Journal(journal) if journal is not None else None
        self._is_open = False
        self._given_device = device
        self._random_device = device or random_device
        self._cursors: dict[str, Cursor | None] = {}
        self._empty_waiters: list[Deferred[None]] = []

    @property
    def has_journal(self) -> bool:
        """Whether cursors and messages outlive the program."""
        return self._journal is not None

    @property
    def usable(self) -> bool:
        """Whether the journal, if there is one, is open."""
        return self._journal is None or self._is_open

    @property
    def device(self) -> str:
        """The guest's secret."""
        kept = self._journal.device if self._journal is not None else None
        return kept if self._given_device is None and kept is not None else self._random_device

    def open(self) -> None:
        """Read what an earlier run left; :class:`StateError` if the file cannot be used."""
        if self._journal is None or self._is_open:
            return
        posts = self._journal.open(self._random_device)
        self._is_open = True
        for post in posts:
            self.outbox.add(Pending(post, None))

    def close(self) -> None:
        """Close the file."""
        if self._journal is not None:
            self._journal.close()
            self._is_open = False

    def cursor(self, room: str) -> Cursor | None:
        """How far the room was read, as the journal has it."""
        return self._journal.cursors.get(room) if self._journal is not None else None

    def accept(self, pending: Pending) -> None:
        """Put it into the outbox; :class:`ClientError` if there is no space, or if it cannot be written."""
        self.outbox.check_space()
        if self._journal is not None:
            self._journal.put(pending.command, pending.wire)
        self.outbox.add(pending)

    def settle(self, pending: Pending) -> bool:
        """It is in the log, or refused; False if that was known."""
        if not self.outbox.remove(pending):
            return False
        self._write_loosely(lambda journal: journal.done(pending.room, pending.key))
        if not len(self.outbox):
            waiters, self._empty_waiters = self._empty_waiters, []
            for waiter in waiters:
                waiter.callback(None)
        return True

    def drop(self, pending: Pending, error: Exception) -> None:
        """It will not be acknowledged while this program runs."""
        if self._journal is not None and isinstance(error, ClientStopped):
            self.outbox.remove(pending)
            error = Postponed(f"the client was stopped; the message is in {self._journal.path} and goes out at the next start")
        elif not self.settle(pending):
            return
        if pending.result is not None:
            pending.result.errback(error)

    def when_empty(self) -> Deferred[None]:
        """Fires when everything that was accepted is settled."""
        if not len(self.outbox):
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._empty_waiters.remove)
        self._empty_waiters.append(waiter)
        return waiter

    def move_cursor(self, room: str, cursor: Cursor | None) -> None:
        """The room was read up to there; None: it was left."""
        if self._journal is not None:
            self._cursors[room] = cursor

    def write_cursors(self) -> None:
        """Write the cursors that have moved."""
        cursors, self._cursors = self._cursors, {}
        if cursors:
            self._write_loosely(lambda journal: journal.move(cursors))

    def sync(self) -> None:
        """What was accepted is on disk afterwards; :class:`ClientError` if that cannot be."""
        if self._journal is not None:
            self._journal.sync()

    def _write_loosely(self, write: Callable[[Journal], None]) -> None:
        """Write what may be lost: then something is read or sent twice, and the server knows its key."""
        if self._journal is None:
            return
        try:
            write(self._journal)
        except ClientError as error:
            self.log.error("{error}", error=str(error))
