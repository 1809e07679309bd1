"""What an operator reads when connections cannot be accepted: one line with cause and cure, in the place of Twisted's own.

In:   the events of the log.
Out:  all of them but those that Twisted's ports log about ``accept(2)``: three lines for each attempt and one for each connection that is
      closed, none of which says what to do.

Twisted itself does the right thing: it keeps a descriptor in reserve, with which it accepts and closes who comes meanwhile, and goes on.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

from twisted.logger import ILogFilterPredicate, LogEvent, Logger, PredicateResult
from zope.interface import implementer

#: Seconds between two lines about the same trouble, which lasts until connections end or the server is restarted.
SAY_SECONDS = 60.0

_PORTS = frozenset({"twisted.internet.tcp.Port", "twisted.internet.unix.Port", "twisted.internet.tcp._FileDescriptorReservation"})
_OUT_OF_FILES = "EMFILE"
#: What to do about the other errors after which a port goes on.  ``ECONNABORTED`` is none: a client has changed its mind.
_CURES = {
    "ENFILE": "the whole system has no file descriptor left; raise fs.file-max (sysctl)",
    "ENOBUFS": "the system has no memory for sockets; end other programs, or raise net.ipv4.tcp_mem (sysctl)",
    "ENOMEM": "the system has no memory for sockets; end other programs, or raise net.ipv4.tcp_mem (sysctl)",
}


@implementer(ILogFilterPredicate)
class AcceptTrouble:
    """Replaces what Twisted's ports log by a line of its own, and rates it.

    :param now: seconds of any clock that does not go back.
    """

    log = Logger()

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._said: dict[str, float] = {}

    def __call__(self, event: LogEvent) -> Any:
        trouble = _trouble(event)
        if not trouble:
            return PredicateResult.maybe
        said, now = self._said.get(trouble), self._now()
        if said is None or now - said >= SAY_SECONDS:
            self._said[trouble] = now
            self._say(trouble)
        return PredicateResult.no

    def _say(self, trouble: str) -> None:
        if trouble != _OUT_OF_FILES:
            self.log.error("New connections cannot be accepted ({trouble}): {cure}", trouble=trouble, cure=_CURES[trouble])
            return
        soft, hard = (_shown(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
        self.log.error(
            "New connections are closed: this process has all {soft} files open that it may (hard limit {hard}), and each connection "
            "needs one; raise LimitNOFILE in the systemd unit (or ulimit -Hn) and restart, or lower limits.connections",
            soft=soft,
            hard=hard,
        )


def _trouble(event: LogEvent) -> str:
    """The name of the error that the event is about; empty for every other event."""
    if event.get("log_namespace") not in _PORTS:
        return ""
    if _OUT_OF_FILES in str(event.get("log_format")):
        return _OUT_OF_FILES
    error = str(event.get("acceptError"))
    return error if error == _OUT_OF_FILES or error in _CURES else ""


def _shown(limit: int) -> str:
    return "none" if limit == resource.RLIM_INFINITY else str(limit)
