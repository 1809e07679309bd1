"""Log once, at the start, which faster ways the installed Twisted does not allow.

``reactor.py`` logs by itself, because it is asked only where a reactor is to be changed.
"""

from __future__ import annotations

from twisted.logger import Logger

from twisted_chat.internals import sockets, takeover
from twisted_chat.internals.availability import log_missing


def log_fallbacks(log: Logger) -> None:
    """One line for each module whose private attributes are not all there; none on a Twisted that the project is tested with."""
    for module in (sockets, takeover):
        log_missing(log, module.check(), module.FALLBACK)
