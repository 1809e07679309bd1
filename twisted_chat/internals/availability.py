"""Which of the private attributes that the server uses does the installed Twisted have?

In:   objects of Twisted and names of their attributes.
Out:  the names that are missing; one log line for each module of ``internals`` that has to use the public way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.logger import Logger

import twisted


def missing_names(owner: object, names: Iterable[str]) -> list[str]:
    """The names that ``owner`` has no attribute for, each with the class of ``owner``: ``Connection.offset``."""
    kind = owner if isinstance(owner, type) else type(owner)
    return [f"{kind.__name__}.{name}" for name in names if not hasattr(owner, name)]


def log_missing(log: Logger, missing: Sequence[str], instead: str) -> None:
    """Log that private attributes are missing and what is done instead, in one line; nothing if none is."""
    if missing:
        log.warn(
            "Twisted {version} lacks {names}; {instead}",
            version=twisted.__version__,
            names=", ".join(missing),
            instead=instead,
        )
