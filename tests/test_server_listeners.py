"""Ports: opened before anything else, held until there is somebody to answer, their certificates exchangeable."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IReadDescriptor
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port
from twisted.internet.testing import AccumulatingProtocol, MemoryReactorClock, StringTransport
from twisted.internet.unix import Port as UnixPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.certificates import make_certificate
from tests.harness.logs import LoggedEvents
from twisted_chat.server.listeners import Listener, ListenError, ReplaceableContext, listen


class FakePort:
    def __init__(self, host: IAddress) -> None:
        self._host = host
        self.closed = False

    def getHost(self) -> IAddress:
        return self._host

    def stopListening(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)


def listener(host: IAddress, description: str = "tcp:1") -> Listener:
    port: Any = FakePort(host)
    return Listener(MemoryReactorClock(), description, port, None)


class Remembering(Factory):
    """Makes protocols that keep what they receive."""

    protocolConnectionMade = None

    def __init__(self) -> None:
        self.made: list[AccumulatingProtocol] = []

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = AccumulatingProtocol()
        protocol.factory = self
        self.made.append(protocol)
        return protocol


class ListenerTests(SynchronousTestCase):
    def test_url(self) -> None:
        """What a person on this machine can open."""
        for host, description, url in (
            (IPv4Address("TCP", "127.0.0.1", 8080), "tcp:8080", "http://127.0.0.1:8080/"),
            (IPv4Address("TCP", "0.0.0.0", 80), "tcp:80", "http://localhost/"),
            (IPv6Address("TCP", "::", 8080), "tcp6:8080", "http://localhost:8080/"),
            (IPv6Address("TCP", "::1", 8080), "tcp6:8080", "http://[::1]:8080/"),
            (IPv4Address("TCP", "192.0.2.1", 443), "ssl:443", "https://192.0.2.1/"),
            (UNIXAddress(b"/run/chat.sock"), "unix:/run/chat.sock", "unix:/run/chat.sock"),
        ):
            self.assertEqual(listener(host, description).url, url)

    def test_loopback(self) -> None:
        """Only what no other machine can reach; a Unix socket is there for a proxy, which others can reach."""
        self.assertTrue(listener(IPv4Address("TCP", "127.0.0.1", 1)).loopback)
        self.assertTrue(listener(IPv4Address("TCP", "127.8.9.1", 1)).loopback)
        self.assertTrue(listener(IPv6Address("TCP", "::1", 1)).loopback)
        self.assertFalse(listener(IPv4Address("TCP", "0.0.0.0", 1)).loopback)
        self.assertFalse(listener(IPv6Address("TCP", "::", 1)).loopback)
        self.assertFalse(listener(IPv6Address("TCP", "::ffff:127.0.0.1", 1)).loopback)
        self.assertFalse(listener(UNIXAddress(b"/run/chat.sock")).loopback)
        self.assertFalse(listener(IPv4Address("TCP", "127.0.0.1", 1), "haproxy:tcp:1:interface=127.0.0.1").loopback)


class ListenTests(SynchronousTestCase):
    def test_all(self) -> None:
        """Each endpoint string opens its port, in their order."""
        reactor = MemoryReactorClock()
        listeners = self.successResultOf(listen(reactor, ["tcp:1", "tcp:2:interface=127.0.0.1"], Factory()))

        self.assertEqual([one.description for one in listeners], ["tcp:1", "tcp:2:interface=127.0.0.1"])
        self.assertEqual([server[0] for server in reactor.tcpServers], [1, 2])

    def test_backlog(self) -> None:
        """Many may wait, unless the operator says otherwise."""
        for description, backlog in {
            "tcp:1": 4096,
            "tcp:1:interface=127.0.0.1": 4096,
            "tcp:1:backlog=7": 7,
            "tcp:1:127.0.0.1:8": 8,
        }.items():
            reactor = MemoryReactorClock()
            self.successResultOf(listen(reactor, [description], Factory()))
            self.assertEqual(reactor.tcpServers[0][2], backlog)

    def test_trouble_with_a_path(self) -> None:
        """Of a Unix socket: the directory that is missing, or the file that somebody listens on; never a number that nobody knows."""
        directory = Path(self.mktemp())
        directory.mkdir()
        short = os.path.relpath(directory)
        with closing(socket.socket(socket.AF_UNIX)) as other:
            other.bind(f"{short}/a.sock")
            other.listen()
            for path, words in (
                (f"{short}/no/a.sock", f"there is no directory {directory.absolute()}/no;"),
                (f"{short}/a.sock", "listens on"),
            ):
                for description in (f"unix:{path}", f"unix:address={path}:mode=660", f"haproxy:unix:{path}"):
                    with self.subTest(description):
                        error = self.failureResultOf(listen(reactor, [description], Factory()), ListenError).value
                        self.assertIn(words, str(error))

    def test_none_opened_for_a_bad_string(self) -> None:
        """All strings are read before the first port is opened."""
        reactor = MemoryReactorClock()
        failure = self.failureResultOf(listen(reactor, ["tcp:1", "tpc:2"], Factory()), ListenError)

        self.assertIn("tpc:2: is no endpoint", str(failure.value))
        self.assertEqual(reactor.tcpServers, [])

    def test_hold(self) -> None:
        """A held port is not read, so the kernel queues who comes.  Pinned: Twisted's ports are read descriptors."""
        self.assertTrue(IReadDescriptor.implementedBy(Port))
        self.assertTrue(IReadDescriptor.implementedBy(UnixPort))

        reactor = MemoryReactorClock()
        port: Any = Port(1, Factory(), reactor=reactor)
        held = Listener(reactor, "tcp:1", port, None)
        held.let_in()

        self.assertEqual(reactor.getReaders(), [port])

        held.hold()
        self.assertEqual(reactor.getReaders(), [])


class CertificateTests(SynchronousTestCase):
    def endpoint(self) -> tuple[str, Path, Path]:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        key, certificate = make_certificate(directory)
        return f"ssl:1:privateKey={key}:certKey={certificate}", key, certificate

    def test_context_is_replaceable(self) -> None:
        """The port of an ``ssl:`` endpoint is opened with a context that can be replaced."""
        description, _, _ = self.endpoint()
        reactor = MemoryReactorClock()

        self.successResultOf(listen(reactor, [description], Factory()))
        self.assertIsInstance(reactor.sslServers[0][2], ReplaceableContext)

    def test_behind_a_proxy(self) -> None:
        """The same where TLS is inside PROXY."""
        description, _, _ = self.endpoint()
        reactor = MemoryReactorClock()
        (one,) = self.successResultOf(listen(reactor, [f"haproxy:{description}"], Factory()))

        self.assertTrue(one.secure)
        self.assertTrue(one.renew_certificate())

    def test_unknown_peer(self) -> None:
        """``PROXY UNKNOWN`` alone, of a health check, however it is cut; what follows is read, and the next bytes as well."""
        for line in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"):
            for size in (1, 7, 14, 15, 16, 100):
                with self.subTest(line=line, size=size):
                    reactor = MemoryReactorClock()
                    factory = Remembering()
                    self.successResultOf(listen(reactor, ["haproxy:tcp:1"], factory))
                    served: Any = reactor.tcpServers[0][1].buildProtocol(IPv4Address("TCP", "192.0.2.3", 3))
                    transport = StringTransport(peerAddress=IPv4Address("TCP", "192.0.2.3", 3))
                    served.makeConnection(transport)

                    data = line + b"GET / HTTP/1.1"
                    for at in range(0, len(data), size):
                        served.dataReceived(data[at : at + size])

                    [inner] = factory.made
                    self.assertFalse(transport.disconnecting)
                    self.assertEqual(inner.data, b"GET / HTTP/1.1")
                    peer: Any = inner.transport
                    self.assertEqual(peer.getPeer().host, "192.0.2.1" if b"TCP4" in line else "192.0.2.3")

                    served.connectionLost(Failure(ConnectionDone()))
                    self.assertTrue(inner.closed)

    def test_no_proxy_line(self) -> None:
        """Whoever does not speak PROXY is turned away at once."""
        reactor = MemoryReactorClock()

        self.successResultOf(listen(reactor, ["haproxy:tcp:1"], Remembering()))

        served: Any = reactor.tcpServers[0][1].buildProtocol(IPv4Address("TCP", "192.0.2.3", 3))
        transport = StringTransport()
        served.makeConnection(transport)
        served.dataReceived(b"GET / HTTP/1.1\r\n\r\n")

        self.assertTrue(transport.disconnecting)

    def test_malformed_header(self) -> None:
        """Whatever is wrong with a header, its sender is turned away, and nothing is raised."""
        begin = b"\r\n\r\n\0\r\nQUIT\n"
        texts = (b"TCP4 \xff \xfe 1 1", b"TCP4 1.2.3.4 1.2.3.4 a b", b"TCP6", b"TCP4 1.2.3.4 1.2.3.4 1", b"", b"UNKNOWN \xff")
        binary = [begin + bytes([0x21, family, 0, size]) + bytes(size) for family in range(256) for size in (0, 3, 12, 36)]
        for header in [b"PROXY " + text + b"\r\n" for text in texts] + binary + [b"PROXY " + b"x" * 200]:
            with self.subTest(header=header):
                reactor = MemoryReactorClock()
                factory = Remembering()
                self.successResultOf(listen(reactor, ["haproxy:tcp:1"], factory))
                served: Any = reactor.tcpServers[0][1].buildProtocol(IPv4Address("TCP", "192.0.2.3", 3))
                transport = StringTransport()
                served.makeConnection(transport)

                served.dataReceived(header + b"GET")

                refused = transport.disconnecting and factory.made[0].data == b""
                self.assertTrue(refused or factory.made[0].data == b"GET", factory.made[0].data)

    def test_options_of_the_endpoint(self) -> None:
        """Backlog and interface reach the port."""
        description, _, _ = self.endpoint()
        reactor = MemoryReactorClock()

        self.successResultOf(listen(reactor, [f"{description}:interface=127.0.0.1:backlog=7"], Factory()))
        self.assertEqual(reactor.sslServers[0][3:], (7, "127.0.0.1"))

    def test_renewing_opens_no_port(self) -> None:
        """Reading the certificate again opens no second port."""
        description, _, _ = self.endpoint()
        reactor = MemoryReactorClock()
        (one,) = self.successResultOf(listen(reactor, [description], Factory()))

        self.assertTrue(one.renew_certificate())
        self.assertEqual(len(reactor.sslServers), 1)

    def test_renewed(self) -> None:
        """After the files have changed, new connections get the new certificate."""
        description, key, certificate = self.endpoint()
        reactor = MemoryReactorClock()
        (one,) = self.successResultOf(listen(reactor, [description], Factory()))
        context = reactor.sslServers[0][2]
        old = context.getContext()

        self.assertIs(context.getContext(), old)

        new_key, new_certificate = make_certificate(key.parent, "new")
        shutil.copy(new_key, key)
        shutil.copy(new_certificate, certificate)

        self.assertTrue(one.renew_certificate())

        new = context.getContext()

        self.assertIsInstance(new, SSL.Context)
        self.assertIsNot(new, old)

    def test_broken_one_leaves_the_old(self) -> None:
        """While the new files cannot be used, the old certificate stays."""
        description, key, certificate = self.endpoint()
        reactor = MemoryReactorClock()
        (one,) = self.successResultOf(listen(reactor, [description], Factory()))
        old = reactor.sslServers[0][2].getContext()

        for break_it in (
            certificate.unlink,
            lambda: certificate.write_text("no"),
            lambda: make_certificate(key.parent)[0].unlink(),
        ):
            break_it()
            self.assertTrue(one.renew_certificate())
            self.assertIs(reactor.sslServers[0][2].getContext(), old)

    def test_tried_again(self) -> None:
        """A renewal writes the key before the certificate: what a reload found between the two is tried again, and said once."""
        description, key, certificate = self.endpoint()
        reactor = MemoryReactorClock()
        (one,) = self.successResultOf(listen(reactor, [description], Factory()))
        logged = LoggedEvents()
        self.patch(Listener, "log", Logger("listeners", observer=logged))
        old = reactor.sslServers[0][2].getContext()
        (key.parent / "new").mkdir()
        new_key, new_certificate = make_certificate(key.parent / "new")
        shutil.copy(new_key, key)

        self.assertTrue(one.renew_certificate())
        for _ in range(3):
            one.retry_certificate()

        self.assertIs(reactor.sslServers[0][2].getContext(), old)
        [event] = logged
        self.assertIn("belong together", event["why"])

        shutil.copy(new_certificate, certificate)
        one.retry_certificate()
        one.retry_certificate()

        self.assertIsNot(reactor.sslServers[0][2].getContext(), old)
        self.assertEqual([event["log_level"].name for event in logged], ["error", "info"])

    def test_nothing_to_renew(self) -> None:
        """A port without TLS has no certificate to renew."""
        self.assertFalse(listener(IPv4Address("TCP", "127.0.0.1", 1)).renew_certificate())
