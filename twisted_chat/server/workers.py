"""Several processes of one server on the same ports: each is a node, and PostgreSQL holds the logs.

In:   the ports that the first process has bound, and its command line.
Out:  further processes that accept connections at the same ports, started again when they end.

Each process has a socket of its own for each TCP port (``SO_REUSEPORT``, socket(7)), so that the kernel spreads connections evenly.  The
first process opens all of them and keeps them open: connections that wait at the socket of a process that has ended are accepted by its
replacement.  A socket that systemd passed is shared by all.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProtocolFactory
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

#: The variable that tells a process its number (the first one has number 1) and its sockets: ``2:5,6``.
WORKER = "CHAT_WORKER"
#: The first descriptor that systemd passes (sd_listen_fds(3)).
_SYSTEMD_FIRST = 3
#: Seconds before a process that has ended is started again: at first, doubled each time up to the longest.
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
#: Seconds after which a process counts as healthy, so that the delay after its next end is the shortest again.
WELL_SECONDS = 60.0
#: Seconds beyond the drain after which a process that has not ended is killed.
KILL_SECONDS = 5.0

NO_UNIX = (
    "several workers cannot share a Unix socket, because each removes its path at its end; use tcp: on the loopback interface"
)

#: A process group of its own, so that Ctrl+C reaches the first process only.  ``LISTEN_PID`` names the process to which systemd's
#: descriptors belong, and Twisted reads it when it is imported.
_CHILD = (
    "import os; os.setpgrp(); 'LISTEN_PID' in os.environ and os.environ.update(LISTEN_PID=str(os.getpid())); "
    "from twisted.scripts.twistd import run; run()"
)


class WorkerPorts:
    """A reactor whose TCP ports several processes have.

    :param count: of processes; the first one opens the sockets of all.
    :param inherited: the descriptors of the sockets of another process than the first, in the order of its endpoints.
    :ivar sockets: for each port that was opened, those of the other processes.
    :ivar adopted: copies of the sockets that systemd passed, by their descriptors, which Twisted closes when it has adopted them.
    """

    def __init__(self, reactor: Any, count: int = 1, inherited: Sequence[int] = ()) -> None:
        self._reactor = reactor
        self._count = count
        self._inherited = list(inherited)
        self.sockets: list[list[socket.socket]] = []
        self.adopted: dict[int, int] = {}
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        """Open the port, or take the socket that the first process has opened."""
        if self._inherited:
            own = socket.socket(fileno=self._inherited.pop(0))
        else:
            own, *others = self._bind(port, backlog, interface)
            self.sockets.append(others)
        own.setblocking(False)
        try:
            adopted: IListeningPort = self._reactor.adoptStreamPort(own.fileno(), own.family, factory)
            return adopted
        finally:
            own.close()

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """The same with TLS."""
        return self.listenTCP(port, TLSMemoryBIOFactory(contextFactory, False, factory), backlog, interface)

    def listenUNIX(self, address: str, factory: IProtocolFactory, *arguments: object, **options: object) -> IListeningPort:
        """Not with several processes: each would remove the path of the others when it ends."""
        raise ValueError(NO_UNIX)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory) -> IListeningPort:
        """Take a socket that systemd passed; all processes have the same one."""
        if addressFamily == socket.AF_UNIX:
            raise ValueError(NO_UNIX)
        if self._count > 1 and fileDescriptor not in self.adopted:
            self.adopted[fileDescriptor] = os.dup(fileDescriptor)
        port: IListeningPort = self._reactor.adoptStreamPort(fileDescriptor, addressFamily, factory)
        return port

    def _bind(self, port: int, backlog: int, interface: str) -> list[socket.socket]:
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        opened: list[socket.socket] = []
        try:
            _check_free(family, interface, port)
            for _ in range(self._count):
                one = socket.socket(family, socket.SOCK_STREAM)
                opened.append(one)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                one.bind((interface, port))
                one.listen(backlog)
                port = one.getsockname()[1]
        except OSError as error:
            for one in opened:
                one.close()
            raise CannotListenError(interface, port, error) from error
        return opened


def _check_free(family: socket.AddressFamily, interface: str, port: int) -> None:
    """Raise ``OSError`` if another program has the port: ``SO_REUSEPORT`` would share it with one of the same user."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((interface, port))


class Place:
    """The place of this process among the workers.

    :ivar number: 1 is the first one.
    :ivar descriptors: those of the sockets that it has inherited.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        number, _, descriptors = environ.get(WORKER, "1:").partition(":")
        self.number = int(number)
        self.descriptors = [int(each) for each in descriptors.split(",") if each]


class ParentWatch:
    """Ends a process when the first one has ended for any reason, which closes the pipe between them."""

    def __init__(self, reactor: Any, ended: Callable[[], object], descriptor: int = 0) -> None:
        self._reactor = reactor
        self._ended = ended
        self._descriptor = descriptor

    def begin(self) -> None:
        """Start to watch."""
        self._reactor.addReader(self)

    def fileno(self) -> int:
        """The reading end of the pipe."""
        return self._descriptor

    def doRead(self) -> None:
        """The pipe has been closed, because nothing is ever written to it."""
        if not os.read(self._descriptor, 1024):
            self._reactor.removeReader(self)
            self._ended()

    def connectionLost(self, reason: Failure) -> None:
        """The pipe has been closed, on systems that report it as ``EPOLLHUP`` and not as readable."""
        self._reactor.removeReader(self)
        self._ended()

    def logPrefix(self) -> str:
        return "worker"


class Worker(ProcessProtocol):
    """One further process, from its start to its end.

    :ivar ended: fires at its end.
    """

    def __init__(self, number: int, began: float, gone: Callable[[Worker, str], None]) -> None:
        self.number = number
        self.began = began
        self.ended: Deferred[None] = Deferred()
        self._gone = gone

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        transport: Any = self.transport
        if transport is not None and transport.pid is not None:
            os.kill(transport.pid, number)

    def ask_to_end(self) -> None:
        """Close the pipe, so that it ends as at a SIGTERM; the service manager may send that too, and a second one would end it at once."""
        transport: Any = self.transport
        if transport is not None:
            transport.closeStdin()

    def processEnded(self, reason: Failure) -> None:
        status: Any = reason.value
        how = f"signal {status.signal}" if status.signal else f"status {status.exitCode}"
        self._gone(self, how)
        self.ended.callback(None)


class Workers(Service):
    """Starts the further processes, starts them again when they end, and ends them.

    :param command: the arguments of ``twistd`` for one of them.
    :param ports: with the sockets for them.
    :param patience: seconds that the end of a process may take.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, count: int, command: Sequence[str], ports: WorkerPorts, environ: Mapping[str, str], patience: float
    ) -> None:
        self.setName("workers")
        self._reactor = reactor
        self._count = count
        self._command = [sys.executable, "-c", _CHILD, *command]
        self._ports = ports
        self._environ = environ
        self._patience = patience
        self._running: dict[int, Worker] = {}
        self._delays: dict[int, float] = {}
        self._waiting: dict[int, IDelayedCall] = {}

    def startService(self) -> None:
        super().startService()
        for number in range(2, self._count + 1):
            self._spawn(number)

    def stopService(self) -> Deferred[None]:
        """Ask all processes to end; fires when they have ended, after a SIGKILL if necessary."""
        super().stopService()
        for call in self._waiting.values():
            call.cancel()
        self._waiting.clear()
        for worker in self._running.values():
            worker.ask_to_end()
        if not self._running:
            return succeed(None)
        kill = self._reactor.callLater(self._patience + KILL_SECONDS, self.send_signal, signal.SIGKILL)

        def ended(_: object) -> None:
            if kill.active():
                kill.cancel()
            for sockets in self._ports.sockets:
                for each in sockets:
                    each.close()
            while self._ports.adopted:
                os.close(self._ports.adopted.popitem()[1])

        return DeferredList([worker.ended for worker in self._running.values()]).addCallback(ended)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to all of them."""
        for worker in list(self._running.values()):
            worker.send_signal(number)

    def _spawn(self, number: int) -> None:
        self._waiting.pop(number, None)
        worker = self._running[number] = Worker(number, self._reactor.seconds(), self._gone)
        systemd = int(self._environ.get("LISTEN_FDS", "0")) if self._environ.get("LISTEN_PID") == str(os.getpid()) else 0
        passed = [
            *(self._ports.adopted.get(place, place) for place in range(_SYSTEMD_FIRST, _SYSTEMD_FIRST + systemd)),
            *(sockets[number - 2].fileno() for sockets in self._ports.sockets),
        ]
        first = _SYSTEMD_FIRST + systemd
        own = ",".join(str(first + place) for place in range(len(self._ports.sockets)))
        environ = {name: value for name, value in self._environ.items() if name not in _OF_FIRST}
        files: dict[int, Any] = {0: "w", 1: 1, 2: 2}
        files.update({_SYSTEMD_FIRST + place: descriptor for place, descriptor in enumerate(passed)})
        self._reactor.spawnProcess(
            worker, self._command[0], self._command, {**environ, WORKER: f"{number}:{own}"}, os.getcwd(), childFDs=files
        )

    def _gone(self, worker: Worker, how: str) -> None:
        del self._running[worker.number]
        if not self.running:
            return
        well = self._reactor.seconds() - worker.began >= WELL_SECONDS
        delay = FIRST_DELAY_SECONDS if well else self._delays.get(worker.number, FIRST_DELAY_SECONDS)
        self._delays[worker.number] = min(2 * delay, LONGEST_DELAY_SECONDS)
        self.log.error(
            "Worker {number} has ended ({how}); it is started again in {delay} s", number=worker.number, how=how, delay=delay
        )
        self._waiting[worker.number] = self._reactor.callLater(delay, self._spawn, worker.number)


#: Variables with which systemd addresses the first process only.
_OF_FIRST = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
