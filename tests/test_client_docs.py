"""The Python of the README, ``docs/client.rst`` and ``docs/embedding.rst`` runs as it stands there, against a chat in memory."""

from __future__ import annotations

import ast
import inspect
import re
import unittest
from pathlib import Path
from types import CodeType
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from tests.harness.certificates import make_certificate
from tests.harness.http_memory import Wire, handshake, request_head
from tests.harness.serving import ROOT
from twisted_chat.client import ReconnectingChatClientFactory, State
from twisted_chat.client import service as client_service
from twisted_chat.client.address import ServerAddress, find
from twisted_chat.testing import MemoryChat, TestClock
from twisted_chat.users import User

_BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", re.MULTILINE)


class Reactor(TestClock):
    """A reactor that keeps what it is asked to listen with or to connect."""

    listening: Any = None
    connecting: Any = None

    def listenTCP(self, port: int, factory: Any) -> None:
        self.listening = factory

    def connectTCP(self, host: str, port: int, factory: Any) -> None:
        self.connecting = factory


class DocsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.chat = MemoryChat(clock=self.reactor, people={"tc_1": User(id="u1", name="alice")})
        self.names: dict[str, Any] = {"reactor": self.reactor, "__name__": "docs"}
        self.printed: list[str] = []
        self.names["print"] = lambda *words: self.printed.append(" ".join(map(str, words)))

    def blocks(self, page: str) -> list[str]:
        text = (ROOT / page).read_text()
        return [inspect.cleandoc("\n" + block) for block in _BLOCK.findall(text)]

    def run_block(self, source: str) -> Deferred[Any]:
        """As in a coroutine of one's own; the names stay for the next block."""
        code = compile(source, "docs", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        assert isinstance(code, CodeType)
        running = eval(code, self.names)
        done: Deferred[Any] = Deferred.fromCoroutine(running) if inspect.iscoroutine(running) else succeed(None)
        self.reactor.pass_time(2)
        return done

    def test_client(self) -> None:
        """Every example of docs/client.rst runs, in order, against a server in memory."""
        directory = Path(self.mktemp())

        directory.mkdir()
        _, certificate = make_certificate(directory)
        self.names["open"] = lambda name: certificate.open()
        self.names["fetch_a_token"] = lambda: succeed("tc_1")
        where = ServerAddress(self.chat.endpoint, "chat.example.org", 443, "/ws", "the docs")

        def find_in_memory(reactor: Any, asked: Any, **options: Any) -> ServerAddress:
            if not isinstance(asked, str):
                return find(reactor, asked, **options)
            if options["trust_root"] is not None:
                self.assertEqual(find(reactor, asked, **options).host, "chat.internal")
            return where

        self.patch(client_service, "find", find_in_memory)
        for source in self.blocks("docs/client.rst"):
            done = self.run_block(source.replace('"bot.journal"', repr(str(directory / "bot.journal"))))
            if "async for" not in source:
                self.successResultOf(done)
            else:
                self.names["lobby"].send("ping")
                self.reactor.pass_time(1)
                self.assertNoResult(done)

        self.assertIs(self.names["client"].state, State.ONLINE)
        self.assertEqual(self.chat.texts("lobby").count("build 512 failed"), 1)
        self.assertIn("pong", self.chat.texts("lobby"))
        self.assertIn("bot: ping", self.printed)
        self.assertIsInstance(self.reactor.connecting, ReconnectingChatClientFactory)

        case = self.names["BotTests"]("test_answers_also_after_a_break")
        result = unittest.TestResult()
        case.run(result)

        self.assertTrue(result.wasSuccessful())

        self.names["client"].stopService()
        self.reactor.pass_time(10)

    def test_readme(self) -> None:
        """Both examples of the README for Python run."""
        where = ServerAddress(self.chat.endpoint, "localhost", 8080, "/", "the README")
        self.patch(client_service, "find", lambda *args, **options: where)
        root = Resource()

        self.names.update(root=root, who=lambda token: None)
        for source in self.blocks("README.rst"):
            self.successResultOf(self.run_block(source.replace('"bot.journal"', repr(self.mktemp()))))

        self.assertEqual(self.chat.texts("lobby"), ["hello"])
        self.assertEqual(root.listStaticNames(), [b"chat"])

        self.names["client"].stopService()
        self.reactor.pass_time(1)

    def test_embedding(self) -> None:
        """Every example of docs/embedding.rst runs, and mounting the chat takes at most ten lines."""
        self.names["sessions"] = {"s1": "alice"}
        for source in self.blocks("docs/embedding.rst"):
            self.successResultOf(self.run_block(source))
        site = self.reactor.listening
        site.reactor = self.reactor  # or the time-outs of its connections are left behind in the real one

        for request, status in (
            (handshake(b"/chat/ws", (b"Cookie", b"session=s1"), (b"Origin", b"http://chat.test:8080")), b"101"),
            (handshake(b"/chat/ws"), b"401"),
            (request_head(target=b"/chat/"), b"200"),
        ):
            self.assertEqual(Wire(site).deliver(request).split(b" ")[1], status)
        mount = self.blocks("docs/embedding.rst")[0]
        own = [line for line in mount.splitlines() if line.strip() and not line.startswith("from")]

        self.assertLessEqual(len(own), 10)
