"""One line for each answer.

No query: it may hold a guest's device.  No header: it may hold a token.  What is in a path is visible ASCII, or it would have
been refused.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger, LogLevel

from twisted_chat.web.site import Observe

#: Asked every few seconds by machines; nobody wants to read that.
_QUIET = frozenset({b"/healthz", b"/readyz", b"/metrics"})


def observer(logger: Logger, count: Callable[[int], None]) -> Observe:
    """Writes the line and counts the status."""

    def observe(method: bytes, path: bytes, status: int, size: int, address: str) -> None:
        count(status)
        logger.emit(
            LogLevel.debug if path in _QUIET and status < 500 else LogLevel.info,
            "{address} {method} {path} {status} {size}",
            address=address,
            method=method.decode("latin-1") or "-",
            path=path.decode("latin-1") or "-",
            status=status,
            size=size,
        )

    return observe
