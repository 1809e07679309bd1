"""Several processes at the same ports: the sockets, the start, the end, and what happens when one ends by itself."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.error import CannotListenError, ConnectionDone, ProcessDone, ProcessTerminated
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.logs import LoggedEvents
from twisted_chat.server import workers as module
from twisted_chat.server.config import Given, SettingsError, load
from twisted_chat.server.listeners import ListenError, listen
from twisted_chat.server.workers import ParentWatch, Place, Worker, WorkerPorts, Workers


def close_all(*several: Sequence[socket.socket]) -> None:
    for sockets in several:
        for each in sockets:
            each.close()


class FakeTransport:
    """A process as its protocol sees it."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        self.stdin_open = True

    def closeStdin(self) -> None:
        self.stdin_open = False


class Reactor(MemoryReactorClock):
    """Remembers processes and adopted sockets."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[tuple[Any, list[str], dict[str, str], dict[int, Any]]] = []
        self.adopted: list[socket.socket] = []

    def spawnProcess(
        self, protocol: Any, executable: str, args: Sequence[str], env: dict[str, str], path: str, childFDs: dict[int, Any]
    ) -> None:
        protocol.transport = FakeTransport(1000 + len(self.spawned))
        self.spawned.append((protocol, list(args), env, childFDs))

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Factory) -> object:
        self.adopted.append(socket.socket(fileno=os.dup(fileDescriptor)))
        return factory


class PortsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.addCleanup(lambda: close_all(self.reactor.adopted))

    def ports(self, count: int = 3, inherited: Sequence[int] = ()) -> WorkerPorts:
        ports = WorkerPorts(self.reactor, count, inherited)
        self.addCleanup(lambda: close_all(*ports.sockets))
        return ports

    def test_each_has_a_socket(self) -> None:
        """The first process listens at all of them; all have the port that the system chose for the first."""
        ports = self.ports()

        ports.listenTCP(0, Factory(), interface="127.0.0.1")

        [others] = ports.sockets
        [own] = self.reactor.adopted
        self.assertEqual({each.getsockname() for each in others}, {own.getsockname()})
        self.assertEqual(len(others), 2)
        for each in (own, *others):
            self.assertTrue(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    def test_connections_wait_for_a_process_that_is_not_there(self) -> None:
        """Of many connections, some come to each socket, accepted or not."""
        ports = self.ports(2)
        ports.listenTCP(0, Factory(), interface="127.0.0.1")
        [[other]] = ports.sockets

        clients = [socket.create_connection(other.getsockname()) for _ in range(64)]

        for each in clients:
            self.addCleanup(each.close)
        other.setblocking(False)
        accepted = other.accept()[0]
        self.addCleanup(accepted.close)
        self.assertIn(accepted.getpeername(), {each.getsockname() for each in clients})

    def test_a_port_that_is_taken(self) -> None:
        """Also one of another server of the same user that shares its ports: that would take half of the connections."""
        foreign = socket.socket()
        self.addCleanup(foreign.close)
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()

        with self.assertRaises(CannotListenError):
            self.ports().listenTCP(foreign.getsockname()[1], Factory(), interface="127.0.0.1")

        self.assertEqual(self.reactor.adopted, [])

    def test_inherited(self) -> None:
        """Another process takes the sockets in the order of its endpoints, and binds nothing."""
        ready = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        names = [each.getsockname() for each in ready]
        ports = self.ports(inherited=[each.detach() for each in ready])

        for _ in names:
            ports.listenTCP(8080, Factory())

        self.assertEqual([each.getsockname() for each in self.reactor.adopted], names)
        self.assertFalse(any(os.get_blocking(each.fileno()) for each in self.reactor.adopted))
        self.assertEqual(ports.sockets, [])

    def test_ipv6(self) -> None:
        """An address of IPv6 gets sockets of IPv6."""
        if not socket.has_ipv6:
            self.fail("this machine has no IPv6")

        self.ports().listenTCP(0, Factory(), interface="::1")

        self.assertEqual(self.reactor.adopted[0].family, socket.AF_INET6)

    def test_unix(self) -> None:
        """Paths are refused in the words of the manual, whether the server makes the socket or systemd."""
        failure = self.failureResultOf(listen(self.ports(), ["unix:/tmp/chat.sock"], Factory()), ListenError)

        self.assertIn("several workers cannot share a Unix socket", str(failure.value))
        with self.assertRaisesRegex(ValueError, "several workers cannot share a Unix socket"):
            self.ports().adoptStreamPort(3, socket.AF_UNIX, Factory())


class PlaceTests(SynchronousTestCase):
    def test_first(self) -> None:
        """Without the variable it is the first process, and has inherited nothing."""
        place = Place({})
        self.assertEqual((place.number, place.descriptors), (1, []))

    def test_another(self) -> None:
        """The variable has the number and the descriptors."""
        place = Place({module.WORKER: "3:5,6"})
        self.assertEqual((place.number, place.descriptors), (3, [5, 6]))

    def test_no_port_of_its_own(self) -> None:
        """Where systemd passes all sockets, there are no others."""
        self.assertEqual(Place({module.WORKER: "2:"}).descriptors, [])


class ParentWatchTests(SynchronousTestCase):
    def test_end(self) -> None:
        """The end of the pipe ends the process, once."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        reactor = Reactor()
        ended: list[bool] = []
        watch = ParentWatch(reactor, lambda: ended.append(True), reading)
        watch.begin()
        self.assertIn(watch, reactor.readers)
        self.assertEqual(watch.fileno(), reading)

        os.close(writing)
        watch.doRead()

        self.assertEqual(ended, [True])
        self.assertNotIn(watch, reactor.readers)

    def test_hung_up(self) -> None:
        """The same where the reactor reports the end instead of calling for a read, as on Linux."""
        reactor = Reactor()
        ended: list[bool] = []
        watch = ParentWatch(reactor, lambda: ended.append(True), 0)
        watch.begin()

        watch.connectionLost(Failure(ConnectionDone()))

        self.assertEqual(ended, [True])
        self.assertNotIn(watch, reactor.readers)


class WorkersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.ports = WorkerPorts(self.reactor, 3)
        self.ports.listenTCP(0, Factory(), interface="127.0.0.1")
        self.addCleanup(lambda: close_all(self.reactor.adopted))
        self.addCleanup(lambda: close_all(*self.ports.sockets))
        self.killed: list[tuple[int, int]] = []
        self.patch(os, "kill", lambda pid, number: self.killed.append((pid, number)))
        self.environ = {"HOME": "/home/chat", "NOTIFY_SOCKET": "/run/notify"}
        self.workers = Workers(self.reactor, 3, ["--nodaemon", "chat", "--workers=3"], self.ports, self.environ, 10.0)
        self.workers.startService()

    def end(self, place: int, reason: Exception) -> None:
        protocol = self.reactor.spawned[place][0]
        protocol.transport.pid = None
        protocol.processEnded(Failure(reason))

    def test_start(self) -> None:
        """Each gets the command line, its number, its socket and a pipe, and not what systemd told the first process."""
        self.assertEqual(len(self.reactor.spawned), 2)
        for number, (_, command, environ, files) in enumerate(self.reactor.spawned, 2):
            self.assertEqual((command[0], command[3:]), (sys.executable, ["--nodaemon", "chat", "--workers=3"]))
            self.assertEqual(environ, {"HOME": "/home/chat", module.WORKER: f"{number}:3"})
            self.assertEqual(files, {0: "w", 1: 1, 2: 2, 3: self.ports.sockets[0][number - 2].fileno()})

    def test_descriptors_of_systemd(self) -> None:
        """They stay where they are, in front of the sockets of the process."""
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
        workers = Workers(self.reactor, 2, ["chat"], self.ports, environ, 10.0)
        workers.startService()

        _, _, environ, files = self.reactor.spawned[-1]

        self.assertEqual(environ[module.WORKER], "2:5")
        self.assertEqual({number: files[number] for number in (3, 4)}, {3: 3, 4: 4})
        self.assertEqual(files[5], self.ports.sockets[0][0].fileno())

    def test_a_socket_of_systemd_in_use(self) -> None:
        """Twisted closes its descriptor when it has adopted it; the others get a copy that was made before."""
        given = socket.socket()
        self.addCleanup(given.close)
        given.bind(("127.0.0.1", 0))
        given.listen()
        place, address = given.fileno(), given.getsockname()
        self.patch(module, "_SYSTEMD_FIRST", place)
        ports = WorkerPorts(self.reactor, 2)
        ports.adoptStreamPort(place, socket.AF_INET, Factory())
        given.close()
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        workers = Workers(self.reactor, 2, ["chat"], ports, environ, 10.0)
        workers.startService()

        _, _, _, files = self.reactor.spawned[-1]

        with socket.socket(fileno=files[place]) as passed:
            self.assertEqual(passed.getsockname(), address)

    def test_one_ends(self) -> None:
        """It is started again, later each time; after a minute it counts as well again."""
        events = LoggedEvents()
        self.workers.log = Logger(observer=events)
        self.end(0, ProcessTerminated(None, signal.SIGKILL, None))
        self.assertEqual(
            [formatEvent(event) for event in events], ["Worker 2 has ended (signal 9); it is started again in 0.5 s"]
        )
        delays = []
        for place in (2, 3, 4):
            [call] = self.reactor.getDelayedCalls()
            delays.append(call.getTime() - self.reactor.seconds())
            self.reactor.advance(delays[-1])
            self.assertEqual(len(self.reactor.spawned), place + 1)
            self.end(place, ProcessTerminated(1, None, None))

        self.assertEqual(delays, [0.5, 1.0, 2.0])
        [call] = self.reactor.getDelayedCalls()
        self.reactor.advance(call.getTime() - self.reactor.seconds())
        self.reactor.advance(module.WELL_SECONDS)
        self.end(5, ProcessDone(None))
        [call] = self.reactor.getDelayedCalls()
        self.assertEqual(call.getTime() - self.reactor.seconds(), module.FIRST_DELAY_SECONDS)

    def test_signal(self) -> None:
        """A signal goes to all that are there."""
        self.end(0, ProcessDone(None))

        self.workers.send_signal(signal.SIGHUP)

        self.assertEqual(self.killed, [(1001, signal.SIGHUP)])

    def test_stop(self) -> None:
        """Their pipes are closed, and the service has ended when they have; nothing is started again."""
        stopping = self.workers.stopService()
        self.assertEqual([protocol.transport.stdin_open for protocol, _, _, _ in self.reactor.spawned], [False, False])
        self.end(0, ProcessDone(None))
        self.assertNoResult(stopping)
        self.end(1, ProcessDone(None))

        self.successResultOf(stopping)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.killed, [])

    def test_stop_while_one_waits(self) -> None:
        """One that was to be started again is not."""
        self.end(0, ProcessDone(None))
        stopping = self.workers.stopService()
        self.end(1, ProcessDone(None))

        self.successResultOf(stopping)
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.spawned), 2)

    def test_one_does_not_end(self) -> None:
        """It is killed some seconds after the time that a stop may take."""
        stopping = self.workers.stopService()
        self.end(0, ProcessDone(None))

        self.reactor.advance(10.0 + module.KILL_SECONDS)

        self.assertEqual(self.killed, [(1001, signal.SIGKILL)])
        self.end(1, ProcessTerminated(None, signal.SIGKILL, None))
        self.successResultOf(stopping)


class SettingTests(SynchronousTestCase):
    def refused(self, workers: str, store: str) -> str:
        with self.assertRaises(SettingsError) as caught:
            load([Given("workers", workers, "--workers", text=True), Given("store", store, "--store", text=True)])
        return str(caught.exception)

    def test_one_file(self) -> None:
        """A store of one process is refused, and the line names PostgreSQL."""
        self.assertEqual(
            self.refused("2", "sqlite:chat.db"),
            "workers: 2 processes cannot share a sqlite: store; use --store postgresql://…",
        )
        self.assertIn("cannot share a memory: store", self.refused("2", "memory:"))

    def test_bounds(self) -> None:
        """From 1 to 64."""
        for workers in ("0", "-1", "65"):
            self.assertEqual(self.refused(workers, "postgresql:"), f"--workers: must be 1 to 64, is {workers}")
        self.assertEqual(load([Given("workers", "1", "--workers", text=True)]).workers, 1)


class ProtocolTests(SynchronousTestCase):
    def test_no_process(self) -> None:
        """A signal for one that has not begun, or has ended, goes nowhere."""
        worker = Worker(2, 0.0, lambda worker, how: None)
        worker.send_signal(signal.SIGTERM)
        worker.ask_to_end()
        self.assertNoResult(worker.ended)
