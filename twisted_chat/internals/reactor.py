"""Make the epoll reactor handle events without setting up a log context for each (17.8 -> 14 us for a line in a busy room).

In:   the running reactor (:func:`read_without_log_context`).
Out:  the same reactor, whose poll loop calls ``doRead`` itself.

Twisted handles every event by ``log.callWithLogger``: two dictionaries and five calls, so that messages of the legacy log know
their ``system``.  Nothing here logs that way.  Writes, errors and hang-ups go through the rest of Twisted's own code, and what a read may
end with (a lost descriptor, an exception, the end of the connection) has the same effect as there.

Attributes of Twisted used here, each pinned by ``tests/test_internals_reactor.py``, which also proves on random events that both loops
do the same:

=========================  ===================================================================================================
``_selectables``           of the reactor: file descriptor → what is read and written
``_poller``                of the reactor: the epoll object
``_doReadOrWrite``         of the reactor: handles one event
``_disconnectSelectable``  of the reactor: removes a descriptor and reports that its connection is lost
``doIteration``            of the reactor: what the main loop calls; replaced on this one object
=========================  ===================================================================================================
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from select import EPOLLIN
from typing import Any

from twisted.internet import epollreactor
from twisted.internet.error import ConnectionFdescWentAway
from twisted.logger import Logger

from twisted_chat.internals.availability import log_missing, missing_names

#: Attributes of :class:`twisted.internet.epollreactor.EPollReactor`.
NAMES = ("_selectables", "_poller", "_doReadOrWrite", "_disconnectSelectable", "doIteration")

_log = Logger()


def read_without_log_context(reactor: Any) -> bool:
    """Replace the reactor's poll loop; False if it stays as it is, which is logged with the reason.

    It stays where the reactor is not Twisted's epoll reactor, or somebody else has replaced its loop.
    """
    if type(reactor) is not epollreactor.EPollReactor or "doIteration" in vars(reactor):
        _log.info("Using the reactor's own poll loop, which is slower: it is {reactor}", reactor=type(reactor).__name__)
        return False
    if missing := missing_names(reactor, NAMES):
        log_missing(_log, missing, "using its own poll loop, which is slower")
        return False
    vars(reactor)["doIteration"] = partial(_poll, reactor)
    return True


def _poll(reactor: Any, timeout: float | None) -> None:
    """Wait for events and handle them, as ``EPollReactor.doPoll`` does."""
    selectables = reactor._selectables
    try:
        events = reactor._poller.poll(-1 if timeout is None else timeout, len(selectables))
    except OSError as error:
        if error.errno == errno.EINTR:
            return
        raise
    for fd, event in events:
        selectable = selectables.get(fd)
        if selectable is None:
            continue  # an earlier event has removed it
        if event != EPOLLIN:
            _call(reactor._doReadOrWrite, selectable, fd, event)
            continue
        in_read = False
        why: BaseException | None
        try:
            if selectable.fileno() == -1:
                why = ConnectionFdescWentAway("File descriptor lost")
            else:
                why = selectable.doRead()
                in_read = True
        except BaseException as error:
            # Like Twisted: whatever it is, also KeyboardInterrupt, it ends this connection and not the loop.
            _log.failure("A read failed")
            why = error
        if why:
            _call(reactor._disconnectSelectable, selectable, why, in_read)


def _call(function: Callable[..., object], *arguments: object) -> None:
    """As ``callWithLogger`` does, without its log context: an error is logged, and the loop goes on."""
    try:
        function(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException:
        _log.failure("Handling an event of a connection failed")
