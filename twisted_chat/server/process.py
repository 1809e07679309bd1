"""The process as a whole: descriptors, garbage collection, threads, signals, exit status."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from types import FrameType

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: Switch interval in seconds.  The store's thread waits for the interpreter lock after each statement; the default of 5 ms halves
#: what it can write while the reactor is busy (45,000 against 85,000 rows a second).
SWITCH_INTERVAL = 0.0005

#: Allocations before a garbage collection.  The default of 700 visits young objects many times in one busy turn; the hot path
#: allocates only untracked structs and bytes, which reference counting frees.
GC_THRESHOLDS = (50_000, 20, 100)

#: Descriptors beside those of connections: the store, logs, ports, the reactor.
OTHER_FILES = 100


def tune() -> int:
    """Set up the interpreter and raise the limit of open files; returns the limit.

    Each connection needs a descriptor, and the soft limit of 1024 exists for programs that use select(2), which the default reactors
    do not.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(*GC_THRESHOLDS)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1_048_576
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        pass  # a sandbox may refuse; the soft limit then stays, and is logged
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def settle() -> None:
    """Exclude the objects that exist after the start from further garbage collections, because they stay."""
    gc.collect()
    gc.freeze()


def try_to_write(path: str) -> None:
    """Raise ``OSError`` if nothing can be written to the file.

    What is in it stays, and a file that was not there is not there afterwards.
    """
    existed = os.path.lexists(path)
    try:
        with open(path, "ab") as file:
            size = file.tell()
            try:
                # A full disk has room for a name, and none for what is in the file.
                os.write(file.fileno(), b"%d" % os.getpid())
            finally:
                with contextlib.suppress(OSError):
                    file.truncate(size)
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                os.unlink(path)


def file_trouble(error: OSError) -> str:
    """Why a file cannot be written, and the cure."""
    return f"{error.strerror}; {_FILE_CURES.get(error.errno or 0, 'name another file')}"


_FILE_CURES = {
    errno.ENOSPC: "free space on that disk, or name a file on another one",
    errno.EDQUOT: "free space on that disk, or name a file on another one",
    errno.ENOENT: "make its directory, or name a file in another one",
    errno.EACCES: "make it and its directory writable for this user, or name another file",
}


def exit_status_at_end(status: int) -> None:
    """Exit with ``status`` when Python ends; twistd itself always exits with 0."""
    atexit.register(_exit_now, status)


def _exit_now(status: int) -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            pass
    os._exit(status)


def say_error(line: str) -> None:
    """Print one line to the real standard error of the process, not to twistd's replacement."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(f"twisted_chat: {line}\n")
        sys.__stderr__.flush()


class Signals:
    """Handles the signals of the operator.

    With the reactor's own handler twistd would die by the same signal after a clean stop, but systemd and operators expect status 0.

    :param stop: called at the first SIGTERM or SIGINT; a second one ends the process at once.
    :param reload: called at SIGHUP.
    :param soon: passes a function to the reactor (``callFromThread``), because a signal handler may do little.
    """

    def __init__(
        self, stop: Callable[[], object], reload: Callable[[], object], soon: Callable[[Callable[[], object]], object]
    ) -> None:
        self._stop = stop
        self._reload = reload
        self._soon = soon
        self._stopping = False

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self.ending)
        signal.signal(signal.SIGINT, self.ending)
        signal.signal(signal.SIGHUP, self.reloading)

    def ending(self, number: int, frame: FrameType | None) -> None:
        if self._stopping:
            os._exit(128 + number)
        self._stopping = True
        self._soon(self._stop)

    def end(self) -> None:
        """End as at the first SIGTERM, unless the end has begun."""
        if not self._stopping:
            self._stopping = True
            self._stop()

    def reloading(self, number: int, frame: FrameType | None) -> None:
        self._soon(self._reload)


class Notifier:
    """Notifies the service manager of states, if there is one."""

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
            self.log.warn("systemd could not be notified of {states}: {error}", states=" ".join(states), error=str(error))


def watchdog_seconds(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds between two notifications: half of the time that systemd allows (sd_watchdog_enabled(3)); None without a watchdog."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    usec = environ.get("WATCHDOG_USEC", "")
    return int(usec) / 2_000_000 if usec.isdigit() and int(usec) > 0 else None


class Watchdog(Service):
    """Notifies the watchdog from the reactor."""

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
