"""The client over real transports: TLS verified and not, client certificates, UNIX sockets, ``connectTCP`` and ``connectSSL``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.trial.unittest import TestCase
from twisted.web.server import Site

from tests.harness.certificates import make_certificate
from tests.harness.serving import Served
from tests.harness.waiting import until
from twisted_chat.client import ChatClient, Message, ReconnectingChatClientFactory, State
from twisted_chat.server.embed import EmbeddedChat

reactor: Any = installed_reactor
#: Seconds for each test: a server has to start, on a machine that does other things.
PATIENCE = 80.0


class LiveTests(TestCase):
    timeout = PATIENCE

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)

    def served(self, *arguments: str) -> Served:
        server = Served(self.directory / "server", *arguments)
        server.__enter__()
        self.addCleanup(server.__exit__, None, None, None)
        return server

    def client(self, where: Any, **options: Any) -> ChatClient:
        client = ChatClient(reactor, where, name="alice", **options)
        client.startService()
        self.addCleanup(client.stopService)
        return client

    async def talks(self, client: ChatClient) -> None:
        """It gets through, and back."""
        room = client.room("lobby")
        heard: Deferred[Message] = Deferred()
        off = room.on(Message, heard.callback)
        sent = await room.send("hello")
        self.assertEqual(await heard, sent)
        off()


class TlsTests(LiveTests):
    def setUp(self) -> None:
        super().setUp()
        self.key, self.certificate = make_certificate(self.directory)
        self.root = trustRootFromCertificates([Certificate.loadPEM(self.certificate.read_bytes())])
        self.server = self.served(f"--listen=ssl:0:interface=127.0.0.1:privateKey={self.key}:certKey={self.certificate}")

    async def test_own_root(self) -> None:
        """A server of one's own authority, as ``wss``."""
        await self.talks(self.client(f"wss://localhost:{self.server.port}", trust_root=self.root))

    async def test_by_http(self) -> None:
        """A session by HTTP over TLS, with both of its connections verified."""
        client = self.client(f"wss://localhost:{self.server.port}", trust_root=self.root, transport="http")
        await self.talks(client)
        self.assertEqual(client.transport, "http")

    async def test_unknown_authority(self) -> None:
        """Nobody whom the platform does not trust is talked to; nothing is said before that is known."""
        client = self.client(f"wss://localhost:{self.server.port}", token="tc_secret")
        await until(lambda: client.state is State.WAITING)
        self.assertIn("certificate verify failed", str(client.problem))

    async def test_wrong_name(self) -> None:
        """A certificate for somebody else is none."""
        client = self.client(f"wss://localhost.localdomain:{self.server.port}", trust_root=self.root)
        await until(lambda: client.state is State.WAITING)

        self.assertNotEqual(str(client.problem), "")
        self.assertIsNot(client.state, State.ONLINE)

    async def test_connect_ssl(self) -> None:
        """The factory, with verification by the context factory."""
        factory = ReconnectingChatClientFactory(reactor, name="alice", host="localhost")
        reactor.connectSSL("127.0.0.1", self.server.port, factory, optionsForClientTLS("localhost", trustRoot=self.root))
        await self.talks(factory.client)
        await factory.stopTrying()

    async def test_endpoint_string(self) -> None:
        """``tls:`` with its own directory of trust roots."""
        roots = self.directory / "roots"
        roots.mkdir()
        (roots / "ours.pem").write_bytes(self.certificate.read_bytes())
        await self.talks(self.client(f"tls:localhost:{self.server.port}:trustRoots={roots}"))


class ClientCertificateTests(LiveTests):
    async def test_client_certificate(self) -> None:
        """A server that asks for a certificate gets ours; without one nobody gets in."""
        key, certificate = make_certificate(self.directory)
        own_key, own = make_certificate(self.directory, "alice")
        root = trustRootFromCertificates([Certificate.loadPEM(certificate.read_bytes())])
        server = PrivateCertificate.loadPEM(certificate.read_bytes() + key.read_bytes())
        options = CertificateOptions(
            privateKey=server.privateKey.original,
            certificate=server.original,
            trustRoot=trustRootFromCertificates([Certificate.loadPEM(own.read_bytes())]),
            acceptableProtocols=[b"http/1.1"],
        )
        chat = EmbeddedChat(reactor)
        chat.startService()
        self.addCleanup(chat.stopService)
        port = reactor.listenSSL(0, Site(chat.resource), options, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"wss://localhost:{port.getHost().port}/ws"
        mine = PrivateCertificate.fromCertificateAndKeyPair(
            Certificate.loadPEM(own.read_bytes()), KeyPair.load(own_key.read_bytes(), 1)
        )
        await self.talks(self.client(url, trust_root=root, client_certificate=mine))
        stranger = self.client(url, trust_root=root)
        await until(lambda: stranger.state is State.WAITING)


class OtherTransportTests(LiveTests):
    async def test_unix(self) -> None:
        """A UNIX socket, as string and as endpoint."""
        # Not below the working directory: the name of a UNIX socket has at most 107 bytes.
        with tempfile.TemporaryDirectory() as short:
            path = f"{short}/chat.sock"
            self.served(f"--listen=unix:{path}")
            await self.talks(self.client(f"unix:{path}"))
            client = self.client(UNIXClientEndpoint(reactor, path))
            await self.talks(client)
            by_http = self.client(f"unix:{path}", transport="http")
            await self.talks(by_http)
            for each in (client, by_http):
                await each.stopService()

    async def test_connect_tcp(self) -> None:
        """The factory reconnects, with the server's own wait."""
        server = self.served()
        factory = ReconnectingChatClientFactory(reactor, name="alice")
        reactor.connectTCP("127.0.0.1", server.port, factory)
        await self.talks(factory.client)

        await factory.stopTrying()

        self.assertIs(factory.client.state, State.STOPPED)

    async def test_killed_server(self) -> None:
        """kill -9 and a new start: the message that was said meanwhile is kept, once."""
        server = self.served()
        port = server.port
        client = self.client(server.websocket, longest_wait=0.2)
        await self.talks(client)
        server.process.kill()
        await until(lambda: client.state is State.WAITING)
        sent = client.room("lobby").send("meanwhile")
        server.__exit__(None, None, None)
        self.served(f"--listen=tcp:{port}:interface=127.0.0.1")
        event = await sent

        self.assertEqual(event.seq, 2)
