"""Questions whose answers may be large, answered one after another: pages of history, lists of rooms and of people.

In:   questions of one session, each a function that answers it (:meth:`Questions.ask`).
Out:  one answer in a turn of the reactor, and the next one when the client has taken it.

The rate allows 40 questions at once, and a page has up to 1 MB: without waiting, one frame of a client that reads nothing made the server
hold 40 MB, and 40 lists of rooms were made in one turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted.internet.defer import Deferred

from twisted_chat.core.scheduler import Work
from twisted_chat.interfaces import Connection

#: Answers at once, or later: then it fires when that has been done.
Question: TypeAlias = Callable[[], "Deferred[None] | None"]

#: Questions that wait; the client is not read while there are so many.
MOST_WAITING = 100


class Questions:
    """The questions of one session that have not been answered.

    :param at_next: does work in the next turn of the reactor, when what was answered in this one has been written.
    """

    __slots__ = ("_at_next", "_busy", "_connection", "_paused", "_waiting")

    def __init__(self, connection: Connection, at_next: Callable[[Work], None]) -> None:
        self._connection = connection
        self._at_next = at_next
        self._busy = False
        self._paused = False
        #: Not a deque, which takes 600 bytes when it is empty.
        self._waiting: list[Question] = []

    def ask(self, question: Question) -> None:
        """Have it answered: now, or behind those that came before it."""
        if not (self._busy or self._waiting or self._connection.congested):
            self._answer(question)
            return
        self._waiting.append(question)
        if len(self._waiting) >= MOST_WAITING:
            self._paused = True
            self._connection.pause()

    def go_on(self) -> None:
        """The client takes bytes again."""
        if self._waiting and not (self._busy or self._connection.congested):
            self._answer(self._waiting.pop(0))
        if self._paused and not self._waiting:
            self._paused = False
            self._connection.resume()

    def forget(self) -> None:
        """The session has ended: nobody wants the answers."""
        self._waiting.clear()

    def _answer(self, question: Question) -> None:
        self._busy = True
        answering = question()
        if answering is None:
            self._at_next(self._answered)
        else:
            answering.addBoth(lambda _: self._at_next(self._answered))

    def _answered(self) -> None:
        self._busy = False
        self.go_on()
