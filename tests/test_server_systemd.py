"""What systemd is told."""

from __future__ import annotations

import os
import socket

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_chat.server.process import Notifier, Watchdog, watchdog_seconds


class Heard:
    """The service manager's end, abstract as systemd's own."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        test.addCleanup(self._end.close)
        self._end.setblocking(False)
        name = f"twisted-chat-{os.getpid()}-{id(self)}"
        self._end.bind("\0" + name)
        self.environ = {"NOTIFY_SOCKET": "@" + name}

    def datagrams(self) -> list[str]:
        heard = []
        while True:
            try:
                heard.append(self._end.recv(4096).decode())
            except BlockingIOError:
                return heard


class NotifierTests(SynchronousTestCase):
    def test_states(self) -> None:
        """Several states are one datagram, a line each."""
        heard = Heard(self)
        Notifier(heard.environ)("READY=1", "STATUS=Serving")
        self.assertEqual(heard.datagrams(), ["READY=1\nSTATUS=Serving"])

    def test_without_systemd(self) -> None:
        """Without a socket in the environment no socket is opened."""
        opened: list[object] = []
        self.patch(socket, "socket", lambda *arguments: opened.append(arguments))

        Notifier({})("READY=1")

        self.assertEqual(opened, [])

    def test_systemd_gone(self) -> None:
        """That nobody listens is logged once for each message, and is no reason to stop."""
        lines: list[str] = []

        @implementer(ILogObserver)
        def remember(event: LogEvent) -> None:
            lines.append(formatEvent(event))

        globalLogPublisher.addObserver(remember)
        self.addCleanup(globalLogPublisher.removeObserver, remember)

        Notifier({"NOTIFY_SOCKET": "@nobody-listens-here"})("READY=1")

        self.assertEqual(len(lines), 1)
        self.assertIn("systemd", lines[0])


class WatchdogTests(SynchronousTestCase):
    def test_interval(self) -> None:
        """Half of what is allowed, and only if this process is meant."""
        self.assertEqual(watchdog_seconds({"WATCHDOG_USEC": "30000000"}, 7), 15.0)
        self.assertEqual(watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7), 15.0)
        self.assertIsNone(watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 7))
        self.assertIsNone(watchdog_seconds({}, 7))
        self.assertIsNone(watchdog_seconds({"WATCHDOG_USEC": "soon"}, 7))

    def test_fed_from_the_reactor(self) -> None:
        """The watchdog is notified at once and at each interval, until it is stopped."""
        heard, clock = Heard(self), Clock()
        watchdog = Watchdog(clock, Notifier(heard.environ), 15.0)
        watchdog.startService()
        clock.advance(15.0)

        clock.advance(15.0)

        self.assertEqual(heard.datagrams(), ["WATCHDOG=1"] * 3)

        watchdog.stopService()
        clock.advance(60.0)

        self.assertEqual(heard.datagrams(), [])
