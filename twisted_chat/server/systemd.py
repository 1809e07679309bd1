"""What systemd is told (sd_notify(3)) and when it is told that we are alive (``WatchdogSec=``).

One datagram to the socket that ``$NOTIFY_SOCKET`` names; without it nothing happens.  The watchdog is fed from the reactor,
because that is what has to turn: a thread of its own would prove nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class Notifier:
    """Sends states to the service manager, if there is one."""

    log = Logger()

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path

    def __call__(self, *states: str) -> None:
        """For example ``READY=1``, ``STATUS=draining``."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
                end.setblocking(False)
                end.sendto("\n".join(states).encode(), self._address)
        except OSError as error:
            self.log.warn("systemd could not be told {states}: {error}", states=" ".join(states), error=str(error))


def watchdog_seconds(environ: Mapping[str, str], pid: int) -> float | None:
    """How often to feed: half of what systemd allows, as sd_watchdog_enabled(3) advises; None: there is no watchdog for us."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    usec = environ.get("WATCHDOG_USEC", "")
    return int(usec) / 2_000_000 if usec.isdigit() and int(usec) > 0 else None


class Watchdog(Service):
    """Feeds the watchdog from the reactor."""

    def __init__(self, clock: IReactorTime, notify: Notifier, seconds: float) -> None:
        self._seconds = seconds
        self._loop = LoopingCall(notify, "WATCHDOG=1")
        self._loop.clock = clock

    def startService(self) -> None:
        super().startService()
        self._loop.start(self._seconds)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
