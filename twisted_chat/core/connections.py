"""How many connections there are, in all and from each address."""

from __future__ import annotations

from ipaddress import IPv6Network

from twisted_chat.errors import LimitReached, Restarting
from twisted_chat.limits import Limits

#: Milliseconds.  A drained server is back, or its successor is, in a moment.
_DRAIN_RETRY_MS = 2_000
#: Milliseconds.  Connections end at their own pace: no use in asking every second.
_FULL_RETRY_MS = 5_000
#: Bits.  One household or virtual machine has a whole /64 and could take a new address for each connection.
_IPV6_PREFIX = 64


class ConnectionLimiter:
    """Counts what there is of connections, and says no before there are too many.

    :ivar limits: may be replaced while running; what is open stays open.
    :ivar draining: set when the server goes down; nobody new comes in.
    :ivar connections: open ones, of all addresses.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.draining = False
        self.connections = 0
        self._by_address: dict[str, int] = {}

    def check_open(self) -> None:
        """Raise ``Restarting`` while draining."""
        if self.draining:
            raise Restarting("the server is going down for a restart", retry_after_ms=_DRAIN_RETRY_MS)

    def admit(self, address: str) -> None:
        """Count one more connection from there, or raise ``Restarting`` or ``LimitReached``; :meth:`ended` takes it back."""
        self.check_open()
        if self.connections >= self.limits.connections:
            raise LimitReached("connections: the server is full", retry_after_ms=_FULL_RETRY_MS)
        key = _counted(address)
        held = self._by_address.get(key, 0)
        if held >= self.limits.connections_per_address:
            raise LimitReached(
                f"connections: at most {self.limits.connections_per_address} from one address", retry_after_ms=_FULL_RETRY_MS
            )
        self._by_address[key] = held + 1
        self.connections += 1

    def ended(self, address: str) -> None:
        """One of the connections that :meth:`admit` let in from there is over."""
        key = _counted(address)
        held = self._by_address[key] - 1
        if held:
            self._by_address[key] = held
        else:
            del self._by_address[key]
        self.connections -= 1


def _counted(address: str) -> str:
    if ":" not in address:
        return address
    try:
        return str(IPv6Network((address, _IPV6_PREFIX), strict=False))
    except ValueError:
        return address
