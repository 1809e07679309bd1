"""The poll loop without a log context: it does what Twisted's does, whatever happens in a read."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from random import Random
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone, ConnectionFdescWentAway, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReadDescriptor, IWriteDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.harness.hiding import hide
from twisted_chat.internals.reactor import NAMES, read_without_log_context

SCRIPTS = 1_500
EVENTS = (
    EPOLLIN,
    EPOLLIN,
    EPOLLIN,
    EPOLLIN,
    EPOLLOUT,
    EPOLLIN | EPOLLOUT,
    EPOLLHUP,
    EPOLLERR,
    EPOLLIN | EPOLLHUP,
    EPOLLOUT | EPOLLERR,
)


class Poller:
    """An epoll object whose events are written down beforehand; an exception among them is raised."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.asked: list[tuple[float, int]] = []

    def poll(self, timeout: float, count: int) -> Any:
        self.asked.append((timeout, count))
        events = self.events.pop(0)
        if isinstance(events, Exception):
            raise events
        return events

    def register(self, fd: int, flags: int) -> None: ...

    def modify(self, fd: int, flags: int) -> None: ...

    def unregister(self, fd: int) -> None: ...

    def close(self) -> None: ...


@implementer(IReadDescriptor, IWriteDescriptor)
class Selectable:
    """A descriptor that does what its script says: one entry for each call, named by the method."""

    def __init__(self, world: World, fd: int, random: Random) -> None:
        self.world = world
        self.fd = fd
        self.random = random

    def note(self, *what: Any) -> None:
        self.world.trace.append((self.fd, *what))

    def fileno(self) -> int:
        self.note("fileno")
        kind = self.random.random()
        if self.world.calm or kind < 0.96:
            return self.fd
        if kind < 0.98:
            return -1
        raise OSError(errno.EBADF, "closed")

    def logPrefix(self) -> str:
        return f"selectable {self.fd}"

    def doRead(self) -> Any:
        self.note("doRead")
        return self.act()

    def doWrite(self) -> Any:
        self.note("doWrite")
        return self.act()

    def readConnectionLost(self, reason: Failure) -> None:
        self.note("readConnectionLost", reason.type)

    def writeConnectionLost(self, reason: Failure) -> None:
        self.note("writeConnectionLost", reason.type)

    def connectionLost(self, reason: Failure) -> None:
        self.note("connectionLost", reason.type, str(reason.value))
        kind = self.random.random()
        if kind < 0.1:
            raise ZeroDivisionError("in connectionLost")
        if kind < 0.12:
            raise KeyboardInterrupt("in connectionLost")

    def act(self) -> Any:
        """One of the things that reads and writes do."""
        random, world = self.random, self.world
        kind = random.randrange(20)
        if kind == 0:
            return CONNECTION_DONE
        if kind == 1:
            return CONNECTION_LOST
        if kind == 2:
            return ConnectionLost("of another kind")
        if kind == 3:
            raise random.choice((ValueError, ConnectionDone, KeyboardInterrupt, SystemExit, GeneratorExit))("in the middle")
        if kind == 4:
            world.drop(self)
        if kind == 5:
            world.drop(random.choice(world.selectables))
        if kind == 6:
            world.add()
        return None


@implementer(IHalfCloseableDescriptor)
class HalfCloseable(Selectable):
    pass


class World:
    """One reactor and what it reads: the same for the same seed."""

    def __init__(self, seed: int, prepare: Callable[[Any], object]) -> None:
        self.random = Random(seed)
        self.trace: list[tuple[Any, ...]] = []
        self.calm = True
        self.selectables: list[Selectable] = []
        self.reactor: Any = EPollReactor()
        self.real_poller = self.reactor._poller
        self.reactor._poller = self.poller = Poller()
        prepare(self.reactor)
        for _ in range(self.random.randint(1, 4)):
            self.add()
        self.calm = False

    def add(self) -> None:
        calm, self.calm = self.calm, True
        kind = self.random.choice((Selectable, HalfCloseable))
        selectable = kind(self, 1_000 + len(self.selectables), Random(self.random.random()))
        self.selectables.append(selectable)
        self.reactor.addReader(selectable)
        if self.random.random() < 0.5:
            self.reactor.addWriter(selectable)
        self.calm = calm

    def drop(self, selectable: Selectable) -> None:
        calm, self.calm = self.calm, True
        self.reactor.removeReader(selectable)
        self.reactor.removeWriter(selectable)
        self.calm = calm

    def turn(self) -> type[BaseException] | None:
        """Some events happen; the exception that leaves the loop."""
        fds = [selectable.fd for selectable in self.selectables]
        self.poller.events.append(
            [(self.random.choice(fds), self.random.choice(EVENTS)) for _ in range(self.random.randrange(5))]
        )
        try:
            self.reactor.doIteration(self.random.choice((None, 0.0, 1.5)))
        except BaseException as error:
            return type(error)
        return None

    def registered(self) -> tuple[set[int], set[int]]:
        """Who is read and who is written to."""
        readers = {one.fd for one in self.reactor.getReaders() if isinstance(one, Selectable)}
        writers = {one.fd for one in self.reactor.getWriters() if isinstance(one, Selectable)}
        return readers, writers

    def close(self) -> None:
        self.real_poller.close()
        for end in (self.reactor.waker.i, self.reactor.waker.o):
            os.close(end) if isinstance(end, int) else end.close()


class EquivalenceTests(SynchronousTestCase):
    def run_script(self, seed: int, prepare: Callable[[Any], object]) -> list[Any]:
        """All that can be seen of a script: calls in order, failures logged, what left the loop, who is left."""
        world = World(seed, prepare)
        try:
            seen = []
            for _ in range(8):
                left = world.turn()
                logged = sorted(failure.type.__name__ for failure in self.flushLoggedErrors())
                seen.append((world.trace[:], logged, left, world.registered(), world.poller.asked[:]))
                world.trace.clear()
            return seen
        finally:
            world.close()

    def test_random_scripts(self) -> None:
        """Reads, writes, hang-ups, errors, descriptors that are gone, removals in the middle, and exceptions of every kind."""
        for seed in range(SCRIPTS):
            expected = self.run_script(seed, lambda reactor: None)
            got = self.run_script(seed, self.prepare)
            self.assertEqual(got, expected, f"script {seed}")

    def prepare(self, reactor: Any) -> None:
        self.assertTrue(read_without_log_context(reactor))

    def test_scripts_are_eventful(self) -> None:
        """The test of the test: everything of interest happens in some of them."""
        seen = [turn for seed in range(SCRIPTS // 3) for turn in self.run_script(seed, self.prepare)]
        calls = {entry[1] for turn in seen for entry in turn[0]}

        self.assertEqual(calls, {"fileno", "doRead", "doWrite", "connectionLost", "readConnectionLost"})

        reasons = {entry[2] for turn in seen for entry in turn[0] if entry[1] == "connectionLost"}
        self.assertLessEqual({ConnectionDone, ConnectionLost, ConnectionFdescWentAway, KeyboardInterrupt, SystemExit}, reasons)
        self.assertEqual({turn[2] for turn in seen}, {None, KeyboardInterrupt})


class ReadTests(SynchronousTestCase):
    """How one read may end, one by one."""

    def setUp(self) -> None:
        self.world = World(1, read_without_log_context)
        self.addCleanup(self.world.close)
        self.world.calm = True
        self.one = self.world.selectables[0]
        self.lost: list[Any] = []
        self.patch(self.one, "connectionLost", lambda reason: self.lost.append(reason.value))

    def read(self, do_read: Callable[[], Any]) -> None:
        self.patch(self.one, "doRead", do_read)
        self.world.poller.events.append([(self.one.fd, EPOLLIN)])
        self.world.reactor.doIteration(0)

    def test_nothing_special(self) -> None:
        """A read without an error keeps the connection."""
        self.read(lambda: None)
        self.assertEqual(self.lost, [])

    def test_descriptor_is_gone(self) -> None:
        """A descriptor of -1 is not read; the connection is lost."""
        self.patch(self.one, "fileno", lambda: -1)
        self.read(lambda: self.fail("it was read"))
        self.assertEqual([type(error) for error in self.lost], [ConnectionFdescWentAway])

    def test_exception(self) -> None:
        """A failing read is logged and ends its connection."""
        self.read(lambda: 1 // 0)
        self.assertEqual([type(error) for error in self.lost], [ZeroDivisionError])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_keyboard_interrupt(self) -> None:
        """KeyboardInterrupt in a reader ends its connection and not the loop, as in Twisted, where signals come another way."""

        def interrupt() -> None:
            raise KeyboardInterrupt

        self.read(interrupt)

        self.assertEqual([type(error) for error in self.lost], [KeyboardInterrupt])
        self.assertEqual(len(self.flushLoggedErrors(KeyboardInterrupt)), 1)

    def test_connection_lost_fails(self) -> None:
        """An exception in ``connectionLost`` is logged, and the next event is handled all the same."""
        self.world.add()
        other = self.world.selectables[-1]
        read: list[str] = []

        self.patch(other, "doRead", lambda: read.append("other"))
        self.patch(self.one, "connectionLost", lambda reason: 1 // 0)
        self.patch(self.one, "doRead", lambda: CONNECTION_LOST)
        self.world.poller.events.append([(self.one.fd, EPOLLIN), (other.fd, EPOLLIN)])

        self.world.reactor.doIteration(0)

        self.assertEqual(read, ["other"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_interrupted_system_call(self) -> None:
        """The loop goes on after a system call that a signal interrupted."""
        self.world.poller.events.append(OSError(errno.EINTR, "interrupted"))
        self.world.reactor.doIteration(0)
        self.assertEqual(self.world.poller.events, [])

    def test_broken_poll(self) -> None:
        """An error of ``poll`` itself is raised, as by Twisted's loop."""
        self.world.poller.events.append(OSError(errno.EBADF, "closed"))
        self.assertRaises(OSError, self.world.reactor.doIteration, 0)


class PinTests(SynchronousTestCase):
    """What the loop uses of Twisted's reactor."""

    def setUp(self) -> None:
        self.world = World(1, lambda reactor: None)
        self.addCleanup(self.world.close)
        self.world.calm = True
        self.reactor = self.world.reactor
        self.one = self.world.selectables[0]

    def test_selectables(self) -> None:
        """``_selectables`` has what was added, by file descriptor."""
        self.assertIs(self.reactor._selectables[self.one.fd], self.one)

    def test_poller(self) -> None:
        """``_poller`` is asked by Twisted's own loop: seconds, -1 for ever, and at most how many events."""
        self.world.poller.events += [[], []]
        self.reactor.doIteration(None)
        self.reactor.doIteration(1.5)
        count = len(self.reactor._selectables)

        self.assertEqual(self.world.poller.asked, [(-1, count), (1.5, count)])

    def test_do_read_or_write(self) -> None:
        """``_doReadOrWrite`` takes selectable, file descriptor and event."""
        read: list[str] = []

        self.patch(self.one, "doWrite", lambda: read.append("written"))
        self.reactor._doReadOrWrite(self.one, self.one.fd, EPOLLOUT)

        self.assertEqual(read, ["written"])

    def test_disconnect_selectable(self) -> None:
        """``_disconnectSelectable`` takes selectable, reason and whether it was in a read."""
        lost: list[Any] = []

        self.patch(self.one, "connectionLost", lambda reason: lost.append(reason.value))
        self.reactor._disconnectSelectable(self.one, CONNECTION_LOST, True)

        self.assertEqual([type(error) for error in lost], [ConnectionLost])
        self.assertNotIn(self.one, self.reactor.getReaders())

    def test_do_iteration(self) -> None:
        """``doIteration`` is what runs the loop, looked up on the object each time."""
        called: list[float | None] = []
        vars(self.reactor)["doIteration"] = called.append

        self.reactor.iterate(0)

        self.assertEqual(called, [0])


class AvailabilityTests(SynchronousTestCase):
    """Reactors whose loop stays as it is: they read all the same."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        observer: Any = self.note
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def note(self, event: LogEvent) -> None:
        if event["log_namespace"].startswith("twisted_chat.internals"):
            self.lines.append(event["log_format"].format(**event))

    def reads(self, reactor: Any) -> None:
        """Bytes that come through a real socket pair are read."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        received: list[bytes] = []

        @implementer(IReadDescriptor)
        class Reader:
            def fileno(self) -> int:
                return ours.fileno()

            def doRead(self) -> None:
                received.append(ours.recv(100))

            def logPrefix(self) -> str:
                return "reader"

            def connectionLost(self, reason: Failure) -> None: ...

        reader = Reader()
        reactor.addReader(reader)
        theirs.send(b"hello")
        reactor.iterate(1)
        reactor.removeReader(reader)
        self.assertEqual(received, [b"hello"])

    def reactor(self, kind: Callable[[], Any] = EPollReactor) -> Any:
        reactor = kind()
        self.addCleanup(reactor.removeAll)
        return reactor

    def test_available(self) -> None:
        """Twisted's own epoll reactor gets the fast loop, without a log line."""
        reactor = self.reactor()

        self.assertTrue(read_without_log_context(reactor))
        self.assertIn("doIteration", vars(reactor))

        self.reads(reactor)
        self.assertEqual(self.lines, [])

    def test_each_attribute_missing(self) -> None:
        """Without one of the attributes Twisted's own loop stays, and one line of the log says so."""
        for name in NAMES:
            self.lines.clear()
            hide(self, EPollReactor, name)
            reactor = self.reactor()
            self.assertFalse(read_without_log_context(reactor))
            self.assertEqual(len(self.lines), 1)
            self.assertIn(f"lacks EPollReactor.{name}; using its own poll loop", self.lines[0])
            self.reads(reactor)

    def test_another_reactor(self) -> None:
        """Another reactor keeps its own loop, and one log line says so."""
        reactor = self.reactor(SelectReactor)

        self.assertFalse(read_without_log_context(reactor))
        self.assertEqual(self.lines, ["Using the reactor's own poll loop, which is slower: it is SelectReactor"])

        self.reads(reactor)

    def test_replaced_by_somebody_else(self) -> None:
        """A loop that another program has put there stays."""
        reactor = self.reactor()
        theirs = reactor.doPoll
        vars(reactor)["doIteration"] = theirs

        self.assertFalse(read_without_log_context(reactor))
        self.assertIs(vars(reactor)["doIteration"], theirs)
