"""The Python client on networks that block WebSockets, each in its own way: a proxy that blocks, and the real server."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.harness.blocking import OPEN, BlockingProxy
from tests.harness.proxies import Proxy
from tests.harness.serving import Served, free_port
from tests.harness.waiting import until
from twisted_chat.client import ChatClient, Message, State

reactor: Any = installed_reactor
UNLIMITED = "[limits]\nsend_per_second = 0\nperson_per_second = 0\n"


class FallbackCase(TestCase):
    timeout = 90.0

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        (self.directory / "chat.toml").write_text(UNLIMITED)
        self.port = free_port()
        self.runs = 0
        self.serve()

    def serve(self) -> None:
        """A server on the same port, with the log of the one before."""
        self.runs += 1
        self.server = Served(
            self.directory / f"run{self.runs}",
            f"--listen=tcp:{self.port}:interface=127.0.0.1",
            f"--store=sqlite:{self.directory / 'chat.db'}",
            f"--config={self.directory / 'chat.toml'}",
        )
        self.addCleanup(self.server.__exit__, None, None, None)

    def proxy(self, mode: str) -> BlockingProxy:
        proxy = BlockingProxy(self.port, mode)
        self.addCleanup(proxy.__exit__, None, None, None)
        return proxy

    def client(self, proxy: BlockingProxy, name: str, **options: Any) -> ChatClient:
        client = ChatClient(reactor, proxy.url + "ws", name=name, longest_wait=0.5, **options)
        self.addCleanup(client.stopService)
        client.startService()
        return client


class BlockedTests(FallbackCase):
    async def lives(self, mode: str) -> None:
        """Two clients talk by HTTP; the server is killed while they do; when the network opens they move to WebSockets."""
        self.server.wait_for("READY=1")
        proxy = self.proxy(mode)
        alice, bob = (self.client(proxy, name, connect_seconds=4.0) for name in ("alice", "bob"))
        heard: dict[str, list[tuple[int, str | None]]] = {"alice": [], "bob": []}
        alice.room("lobby", history=None).on(Message, lambda event: heard["alice"].append((event.seq, event.text)))
        bob.room("lobby", history=None).on(Message, lambda event: heard["bob"].append((event.seq, event.text)))
        await gatherResults([alice.when_online(), bob.when_online()])
        self.assertEqual([alice.transport, bob.transport], ["http", "http"])
        sent: list[Deferred[Message]] = []
        kept: list[Message] = []

        def say(number: int) -> None:
            for client, name in ((alice, "alice"), (bob, "bob")):
                sent.append(client.room("lobby").send(f"{name} {number}").addCallback(keep))

        async def talk(first: int, rounds: int) -> None:
            for number in range(first, first + rounds):
                say(number)
                await deferLater(reactor, 0)

        def keep(event: Message) -> Message:
            kept.append(event)
            return event

        await talk(0, 60)
        await until(lambda: kept)
        await talk(60, 30)
        for number in range(90, 100):
            say(number)
        self.server.process.kill()
        self.server.process.wait()
        self.assertLess(len(kept), len(sent))
        await talk(100, 50)
        self.serve()
        await talk(150, 50)
        await gatherResults(sent)
        self.assertEqual([alice.transport, bob.transport], ["http", "http"])

        proxy.order(OPEN)
        moves: list[State] = []
        alice.watch(lambda client: moves.append(client.state))
        for client in (alice, bob):
            client.retry_now()
        await talk(200, 50)
        await until(lambda: (alice.transport, bob.transport) == ("websocket", "websocket"))
        await talk(250, 50)
        events = await gatherResults(sent)
        await until(lambda: len(heard["alice"]) >= 600 and len(heard["bob"]) >= 600)

        # What was acknowledged is where it was acknowledged, once, in the order of its author.
        log = heard["alice"]
        self.assertEqual(heard["bob"], log)
        self.assertEqual([seq for seq, _ in log], list(range(1, 601)))
        self.assertEqual(sorted((event.seq, event.text) for event in events), log)
        for name in ("alice", "bob"):
            mine = [text for _, text in log if text is not None and text.startswith(name)]
            self.assertEqual(mine, [f"{name} {number}" for number in range(300)])
        self.assertEqual(set(moves), {State.ONLINE})

    async def test_403(self) -> None:
        """The proxy forbids the handshake."""
        await self.lives("403")

    async def test_502(self) -> None:
        """The proxy makes an error of the handshake."""
        await self.lives("502")

    async def test_stripped(self) -> None:
        """The proxy takes the ``Upgrade`` header away, and the server answers a plain request."""
        await self.lives("stripped")

    async def test_hangs(self) -> None:
        """The handshake gets no answer."""
        await self.lives("hangs")

    async def test_silent(self) -> None:
        """The handshake succeeds, and then nothing comes through."""
        await self.lives("silent")


class NginxTests(FallbackCase):
    async def test_nothing_set(self) -> None:
        """nginx with nothing but ``proxy_pass`` speaks HTTP/1.0 and upgrades nothing: two clients talk by HTTP."""
        self.server.wait_for("READY=1")
        with Proxy(Path(mkdtemp(prefix="proxy-"))).nginx(f"location / {{ proxy_pass http://127.0.0.1:{self.port}; }}") as proxy:
            clients = [ChatClient(reactor, f"ws://127.0.0.1:{proxy.port}/ws", name=name) for name in ("alice", "bob")]
            for client in clients:
                client.startService()
            alice, bob = (client.room("lobby", history=None) for client in clients)
            texts: list[str | None] = []
            bob.on(Message, lambda event: texts.append(event.text))
            expected = [f"line {number}" for number in range(100)]
            await gatherResults([alice.send(text) for text in expected])
            await until(lambda: len(texts) >= len(expected))
            self.assertEqual(texts, expected)
            self.assertEqual([client.transport for client in clients], ["http", "http"])
            for client in clients:
                await client.stopService()


class DownTests(FallbackCase):
    async def test_down(self) -> None:
        """A server that is down behind a proxy is no blocked WebSocket: when it is back the client comes by WebSocket."""
        self.server.wait_for("READY=1")
        self.server.process.kill()
        self.server.process.wait()
        proxy = self.proxy(OPEN)
        client = self.client(proxy, "alice")

        await until(lambda: client.state is State.WAITING)

        self.assertEqual(client.transport, "websocket")

        self.serve()
        await client.when_online()
        await until(lambda: client.transport == "websocket")
