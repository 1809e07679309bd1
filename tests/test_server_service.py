"""The order of start and end, with ports in memory; whole processes are in ``test_live_service.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger, LogLevel
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import MemoryConnection
from tests.harness.logs import LoggedEvents
from twisted_chat.errors import Forbidden
from twisted_chat.interfaces import Admission, Dialect
from twisted_chat.server import service as module
from twisted_chat.server.listeners import Listener
from twisted_chat.server.options import Options
from twisted_chat.server.service import HeldFactory, Server
from twisted_chat.users import User


class FakeSite:
    def __init__(self) -> None:
        self.stopped = 0

    def buildProtocol(self, addr: object) -> str:
        return "a protocol"

    def doStop(self) -> None:
        self.stopped += 1


class GateTests(SynchronousTestCase):
    def test_too_early(self) -> None:
        """Who comes before there is a site is turned away."""
        gate = HeldFactory()
        address = IPv4Address("TCP", "127.0.0.1", 1)

        self.assertIsNone(gate.buildProtocol(address))

        site: Any = FakeSite()
        gate.site = site

        self.assertEqual(gate.buildProtocol(address), "a protocol")

    def test_last_port(self) -> None:
        """The site ends with the last of its ports."""
        gate, site = HeldFactory(), FakeSite()
        loose: Any = site
        gate.site = loose
        gate.doStart()
        gate.doStart()

        gate.doStop()

        self.assertEqual(site.stopped, 0)

        gate.doStop()
        self.assertEqual(site.stopped, 1)

    def test_alpn(self) -> None:
        """TLS asks the factory of the port what to agree on; without an answer each client that asks gets an alert."""
        self.assertTrue(IProtocolNegotiationFactory.providedBy(HeldFactory()))
        self.assertEqual(HeldFactory().acceptableProtocols(), [b"http/1.1"])


class Reactor(MemoryReactorClock):
    """Runs at once and remembers that it was stopped."""

    stopped = False

    def callWhenRunning(self, callable: Any, *args: Any, **kwargs: Any) -> None:
        callable(*args, **kwargs)

    def callFromThread(self, callable: Any, *args: Any, **kwargs: Any) -> None:
        callable(*args, **kwargs)

    def stop(self) -> None:
        self.stopped = True


class ServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.said: list[str] = []
        self.status: list[int] = []
        self.told: list[str] = []
        self.patch(module, "say_error", self.said.append)
        self.patch(module, "exit_status_at_end", self.status.append)
        self.patch(module, "tune", lambda: 1024)
        self.patch(module, "settle", lambda: None)
        self.patch(module, "Signals", lambda *arguments: self)

    def install(self) -> None:
        """In the place of the signals of this process."""

    def server(self, *arguments: str) -> Server:
        options = Options({})
        options.parseOptions(["--store=memory:", "--log-format=json", *arguments])
        server = Server(self.reactor, options)
        self.patch(server, "_notify", lambda *states: self.told.extend(states))
        return server

    def start(self, *arguments: str) -> Server:
        server = self.server(*arguments)
        server.privilegedStartService()
        server.startService()
        return server

    def test_ready(self) -> None:
        """A start opens all ports and then notifies systemd."""
        server = self.start("--listen=tcp:1", "--listen=tcp:2")

        self.assertIn("READY=1", self.told)
        assert server.chat is not None
        self.assertEqual([port[0] for port in self.reactor.tcpServers], [1, 2])
        self.assertEqual((self.said, self.status), ([], []))

    def test_end(self) -> None:
        """Draining begins before the ports are closed, and everything has ended when it is done."""
        server = self.start("--drain-seconds=1")
        chat = server.chat
        assert chat is not None
        ending = server.stopService()

        self.assertIn("STOPPING=1", self.told)
        self.assertTrue(chat.limiter.draining)

        self.reactor.pump([0.1] * 20)

        self.successResultOf(ending)
        self.assertFalse(server.running)

    def test_failed_start(self) -> None:
        """One line, status 1, the reactor stops; READY was never said; and the end of what never was is quick."""
        server = self.start("--store=mysql:chat")

        self.assertEqual(self.status, [1])

        (line,) = self.said

        self.assertNotIn("\n", line)
        self.assertIn("mysql", line)
        self.assertTrue(self.reactor.stopped)
        self.assertNotIn("READY=1", self.told)
        self.successResultOf(server.stopService())

    def test_fault_of_ours(self) -> None:
        """Even that is one line; the traceback is in the log."""

        async def broken(*arguments: object, **options: object) -> None:
            raise ZeroDivisionError("by zero")

        self.patch(module, "build", broken)
        self.start()
        (line,) = self.said
        self.assertIn("ZeroDivisionError: by zero", line)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_reload(self) -> None:
        """What changes at once does, the rest stays as it is until the next start."""
        server = self.start("--limit=send_burst=3")
        assert server.chat is not None

        self.assertEqual(server.chat.core.limits.send_burst, 3)

        options = server._options
        options.environ["TWISTED_CHAT_COMPRESSION"] = "on"
        options.environ["TWISTED_CHAT_LIMITS_ROOMS"] = "7"
        self.told.clear()
        server.reload()

        self.assertEqual((self.told[0], self.told[-1]), ("RELOADING=1", "READY=1"))
        self.assertTrue(self.told[1].startswith("MONOTONIC_USEC="))
        self.assertEqual(server.chat.core.limits.rooms, 7)
        self.assertFalse(server.settings.compression)

    def test_reload_with_another_public_url(self) -> None:
        """Pages under the address that is in force until the next start are answered as before."""
        server = self.start("--public-url=https://chat.example.org/")
        # The command line comes first, so the address of the next start is given there.
        server._options.set_value("public_url", "https://new.example.org/", "--public-url")

        server.reload()

        assert server.chat is not None
        hosts = server.chat.request_auth.hosts
        assert hosts is not None
        hosts.check("chat.example.org")
        self.assertRaises(Forbidden, hosts.check, "new.example.org")
        self.assertEqual(server.settings.public_url, "https://chat.example.org/")

    def test_reload_that_trusts_a_proxy(self) -> None:
        """The server that accepted the origin ``null`` does so no more."""
        # The reactor in memory says 0.0.0.0 for every port.
        self.patch(Listener, "loopback", True)
        server = self.start()
        assert server.chat is not None
        origins = server.chat.request_auth.origins
        origins.check("null", "http", "127.0.0.1:8080")
        server._options.environ["TWISTED_CHAT_TRUSTED_PROXIES"] = "127.0.0.1"

        server.reload()

        self.assertRaises(Forbidden, server.chat.request_auth.origins.check, "null", "http", "127.0.0.1:8080")

    def test_reload_of_rates(self) -> None:
        """Rates that SIGHUP switches on hold for the connections that are open."""
        config = Path(self.mktemp())
        config.write_text("[limits]\nsend_per_second = 0\nperson_per_second = 0\n")
        server = self.start(f"--config={config}")
        chat = server.chat
        assert chat is not None
        guest = User(id="g1", name="bob", guest=True)
        admission = Admission(user=guest, dialect=Dialect.TEXT, room="lobby", address="192.0.2.1")
        session = chat.core.open_session(MemoryConnection(), admission)
        log = chat.core.rooms.find(guest, "lobby").log

        session.received([b"x"] * 50)
        self.reactor.pump([0] * 20)
        self.assertEqual(log.head, 50)

        config.write_text("[limits]\nsend_burst = 7\nperson_per_second = 0\n")
        server.reload()
        session.received([b"x"] * 50)
        self.reactor.pump([0] * 20)

        self.assertEqual(log.head, 57)

    def test_reload_of_nonsense(self) -> None:
        """A reload with an invalid setting changes nothing, and the server is ready again."""
        server = self.start()
        server._options.environ["TWISTED_CHAT_LIMITS_ROOMS"] = "many"
        server.reload()
        assert server.chat is not None

        self.assertEqual(server.chat.core.limits.rooms, 10_000)
        self.assertEqual(self.told[-1], "READY=1")

    def test_each_part_of_a_reload_fails_alone(self) -> None:
        """Whatever one part raises, the others take effect, one line says what stays as it was, and systemd hears READY."""
        for part in ("log", "certificate", "configuration"):
            with self.subTest(part):
                server = self.start()
                lines, listener = Part(part == "log"), Part(part == "certificate")
                server._options.lines = lines  # type: ignore[assignment]
                server.listeners = [listener, Part(False)]  # type: ignore[list-item]
                if part == "configuration":
                    self.patch(server._options, "load", lambda: 1 / 0)
                server._options.environ["TWISTED_CHAT_LIMITS_ROOMS"] = "7"
                logged = LoggedEvents()
                self.patch(Server, "log", Logger("server", observer=logged))
                self.told.clear()

                server.reload()

                self.assertEqual(self.told[-1], "READY=1")
                self.assertEqual((lines.calls, listener.calls, server.listeners[1].calls), (1, 1, 1))  # type: ignore[attr-defined]
                errors = [event for event in logged if event["log_level"] is LogLevel.error]
                self.assertEqual([event["why"] for event in errors], ["division by zero"])
                assert server.chat is not None
                self.assertEqual(server.chat.core.limits.rooms, 10_000 if part == "configuration" else 7)
                server.listeners = []
                self.successResultOf(server.stopService())


class Part:
    """A part of a reload: counts how often it is done, and fails if it is told to."""

    description = "tcp:1"

    def __init__(self, fails: bool) -> None:
        self._fails = fails
        self.calls = 0

    def reopen(self) -> None:
        self.calls += 1
        if self._fails:
            raise ZeroDivisionError("division by zero")

    renew_certificate = reopen
