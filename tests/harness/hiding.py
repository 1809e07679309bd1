"""Hide attributes of Twisted from the server, as a release that renames them would, while Twisted itself still has them."""

from __future__ import annotations

import sys
from typing import Any, TypeVar

from twisted.trial.unittest import SynchronousTestCase

Class = TypeVar("Class", bound=type)


def without(kind: Class, *names: str) -> Class:
    """A subclass of ``kind`` whose attributes ``names`` exist for everybody but the modules of the server."""

    plain: Any = kind.__getattribute__

    def __getattribute__(self: Any, name: str) -> Any:
        if name in names and _asked_by_server():
            raise AttributeError(name)
        return plain(self, name)

    return type(kind.__name__, (kind,), {"__getattribute__": __getattribute__})  # type: ignore[return-value]


def hide(case: SynchronousTestCase, kind: type, *names: str) -> None:
    """The same for all objects of ``kind`` until the test ends, or until other names of ``kind`` are hidden."""
    plain: Any = kind.__getattribute__

    def __getattribute__(self: Any, name: str) -> Any:
        if name in names and _asked_by_server():
            raise AttributeError(name)
        return plain(self, name)

    case.patch(kind, "__getattribute__", __getattribute__)


def _asked_by_server() -> bool:
    return str(sys._getframe(2).f_globals["__name__"]).startswith("twisted_chat.")
