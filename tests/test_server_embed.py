"""The chat inside another program."""

from __future__ import annotations

import tracemalloc
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.harness.accounts import CHEAP
from tests.harness.http_memory import Reply, Wire, handshake, request_head
from twisted_chat.auth.passwords import Argon2Passwords
from twisted_chat.client import ChatClient, HandshakeRefused, Message, State
from twisted_chat.core.accounts import Caller
from twisted_chat.errors import BadRequest, Unauthenticated, Unavailable
from twisted_chat.server.config import Settings
from twisted_chat.server.embed import BoundedRequest, EmbeddedChat
from twisted_chat.stores.memory import MemoryStore
from twisted_chat.stores.workers import AtOnce, call_at_once
from twisted_chat.testing import TestClock
from twisted_chat.testing.transports import Endpoint
from twisted_chat.users import User

ALICE = User(id="u-alice", name="alice")


class EmbedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = TestClock()

    def embedded(self, *, started: bool = True, **options: Any) -> EmbeddedChat:
        chat = EmbeddedChat(self.clock, **options)
        root = Resource()
        root.putChild(b"chat", chat.resource)
        self.site = Site(root, reactor=self.clock)
        self.endpoint = Endpoint(self.clock, lambda: self.site, 0.0)
        if started:
            chat.startService()
            self.clock.settle()
        return chat

    def client(self, **options: Any) -> ChatClient:
        client = ChatClient(self.clock, self.endpoint, path="/chat/ws", random=lambda: 0.999, **options)
        client.startService()
        self.clock.settle()
        return client

    def ask(self, raw: bytes) -> Reply:
        wire = Wire(self.site)
        answer = wire.deliver(raw)
        self.clock.settle()
        return Reply(answer + wire.taken())

    def test_mounted(self) -> None:
        """Sockets, page and API below one path of the program's own tree; the rest of the tree is its own."""
        self.embedded()
        client = self.client(name="alice")

        self.assertIs(client.state, State.ONLINE)
        self.assertEqual(self.ask(request_head(target=b"/chat")).headers["location"], "/chat/")
        self.assertEqual(self.ask(request_head(target=b"/chat/")).status, 200)
        self.assertEqual(self.ask(request_head(target=b"/chat/healthz")).status, 200)
        self.assertEqual(self.ask(request_head(target=b"/chat/ws/caf%C3%A9")).status, 426)
        self.assertEqual(self.ask(handshake(b"/chat/ws/caf%C3%A9")).status, 101)
        self.assertEqual(self.ask(handshake(b"/chat")).status, 101)
        self.assertEqual(self.ask(request_head(target=b"/other")).status, 404)

    def test_connection_lives_on(self) -> None:
        """The site's time-out for idle connections is not the chat's."""
        self.embedded()
        client = self.client()

        self.clock.pass_time(300)

        self.assertIs(client.state, State.ONLINE)
        self.assertEqual(self.endpoint.attempts, 1)

    def test_own_identity(self) -> None:
        """The program says who a token is, at once or later; nobody else gets in, unless guests may."""

        async def later(token: str) -> User | None:
            return ALICE if token == "secret" else None

        def refuses(token: str) -> User | None:
            raise Unauthenticated("token: banned from this site")

        for identify in (later, lambda token: ALICE if token == "secret" else None, lambda token: succeed(ALICE)):
            self.embedded(identify=identify, settings=Settings(guests=False))
            client = self.client(token="secret")
            assert client.me is not None
            self.assertEqual(client.me.id, "u-alice")
            self.assertIs(self.client().state, State.ENDED)
        self.embedded(identify=later)
        self.assertIs(self.client(token="wrong").state, State.ENDED)
        self.embedded(identify=refuses)
        problem = self.client(token="secret").problem
        assert isinstance(problem, HandshakeRefused)
        self.assertIn("banned from this site", str(problem))

    def test_own_cookie(self) -> None:
        """The session of the program's own site, only from its own pages."""
        self.embedded(
            identify=lambda token: ALICE if token == "s" else None, settings=Settings(guests=False, token_cookie="session")
        )
        cookie, origin = (b"Cookie", b"session=s"), (b"Origin", b"http://chat.test:8080")

        self.assertEqual(self.ask(handshake(b"/chat/ws", cookie, origin)).status, 101)
        self.assertEqual(self.ask(handshake(b"/chat/ws", cookie)).status, 403)
        self.assertEqual(self.ask(handshake(b"/chat/ws", cookie, (b"Origin", b"http://evil.test"))).status, 403)
        self.assertEqual(self.ask(handshake(b"/chat/ws", origin)).status, 401)

    def test_own_checkers(self) -> None:
        """People sign in with names and passwords of the program, and are the same persons after a restart."""
        store = MemoryStore(self.clock)
        ids = set()
        for _ in range(2):
            checker = InMemoryUsernamePasswordDatabaseDontUse(alice=b"of the program")
            chat = EmbeddedChat(self.clock, store, checkers=[checker])
            chat.startService()
            running = self.successResultOf(chat.when_started())
            running.accounts.passwords = Argon2Passwords(AtOnce, call_at_once, CHEAP)
            signed_in = Deferred.fromCoroutine(running.accounts.sign_in("alice", "of the program", Caller("192.0.2.1")))
            ids.add(self.successResultOf(signed_in).account.id)
            stopping = chat.stopService()
            self.clock.pass_time(20)
            self.successResultOf(stopping)
        self.assertEqual(len(ids), 1)

    def test_host_names_are_up_to_the_program(self) -> None:
        """Its pages may open sockets under any name of its site."""
        self.embedded()

        self.assertEqual(self.ask(handshake(b"/chat/ws", (b"Origin", b"http://chat.test:8080"))).status, 101)

    def test_host_names_are_checked_if_the_program_lists_them(self) -> None:
        self.embedded(settings=Settings(allowed_hosts=("www.test",)))

        self.assertEqual(self.ask(handshake(b"/chat/ws", (b"Origin", b"http://chat.test:8080"))).status, 403)

    def test_publish(self) -> None:
        """Committed, delivered, and once for each key."""
        chat = self.embedded()
        texts: list[tuple[str, str | None]] = []
        self.client().room("lobby").on(Message, lambda event: texts.append((event.by.name, event.text)))
        self.clock.settle()
        published = [chat.publish("lobby", "hello"), chat.publish("lobby", "hi", by=ALICE, key="k")]
        published.append(chat.publish("lobby", "hi", by=ALICE, key="k"))

        self.clock.settle()

        self.assertEqual([self.successResultOf(each).seq for each in published], [1, 2, 2])
        self.assertEqual(texts, [("server", "hello"), ("alice", "hi")])
        self.failureResultOf(chat.publish("../", "x"), BadRequest)
        self.assertEqual(len(chat.core.sessions), 1)

    def test_many_calls(self) -> None:
        """The list of delayed calls does not grow with time."""
        chat = self.embedded()
        for number in range(5_000):
            chat.publish("lobby", str(number))
            self.clock.settle()
        self.assertLess(len(chat._reactor._calls), 1_100)

    def test_before_the_start(self) -> None:
        """What is published early waits; who comes early is told to come again."""
        chat = self.embedded(started=False)
        published = chat.publish("lobby", "hello")

        self.assertEqual(self.ask(handshake(b"/chat/ws")).status, 503)

        chat.startService()
        self.clock.settle()

        self.assertEqual(self.successResultOf(published).seq, 1)

    def test_stop(self) -> None:
        """Everybody is told to come back, the store is closed, and nothing more can be published."""
        store = MemoryStore(self.clock)
        chat = self.embedded(store=store)
        client = self.client()
        stopped = chat.stopService()

        self.clock.pass_time(0.1)

        self.successResultOf(stopped)
        self.assertIn("1012", str(client.problem))
        self.failureResultOf(chat.publish("lobby", "late"), Unavailable)
        self.failureResultOf(store.probe(), Unavailable)
        self.assertEqual([call for call in self.clock.calls if "client" not in repr(call.func)], [])

        chat.startService()
        self.clock.pass_time(30)

        self.assertIs(client.state, State.ONLINE)

    def test_no_store(self) -> None:
        """A store that cannot be opened: who waits is told, else it is logged."""
        chat = self.embedded(started=False, store="nonsense:here")
        waiting = chat.when_started()

        chat.startService()

        self.failureResultOf(waiting)

        again = self.embedded(store="nonsense:here")
        self.assertEqual(len(self.flushLoggedErrors()), 1)

        stopped: Deferred[None] = again.stopService()
        self.successResultOf(stopped)


class BodyTests(SynchronousTestCase):
    """Bodies longer than any endpoint of the chat takes, sent to the site of the program."""

    target = b"/chat/api/v1/rooms/lobby/events"
    size = 30_000_000

    def setUp(self) -> None:
        self.clock = TestClock()
        self.chat = EmbeddedChat(self.clock)
        self.chat.startService()
        self.clock.settle()

    def wire(self, **options: Any) -> Wire:
        root = Resource()
        root.putChild(b"chat", self.chat.resource)
        return Wire(Site(root, reactor=self.clock, **options))

    def head(self, *length: tuple[bytes, bytes], kind: bytes = b"text/plain") -> bytes:
        return request_head(b"POST", self.target, [(b"Content-Type", kind), *length])

    def test_any_site(self) -> None:
        """The site keeps the body in a file; the chat refuses it without reading it into memory."""
        wire = self.wire()
        wire.deliver(self.head((b"Content-Length", b"%d" % self.size)))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)

        for _ in range(self.size // 100_000):
            wire.deliver(b"x" * 100_000)

        self.assertLess(tracemalloc.get_traced_memory()[1], 2_000_000)

    def test_any_site_says_so(self) -> None:
        """Under a plain Site of Twisted a long body is answered with 413."""
        limit = 6 * Settings().limits.text_bytes + 1_024
        wire = self.wire()

        answer = Reply(wire.deliver(self.head((b"Content-Length", b"%d" % (limit + 1))) + b"x" * (limit + 1)))

        self.assertEqual((answer.status, answer.error["code"]), (413, "too_big"))

    def test_bounded_by_the_announced_length(self) -> None:
        """Refused by the head alone, before any of the body has come."""
        for kind in (b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x"):
            wire = self.wire(requestFactory=BoundedRequest)

            answer = Reply(wire.deliver(self.head((b"Content-Length", b"%d" % self.size), kind=kind)))

            self.assertEqual((answer.status, wire.disconnecting), (413, True))

    def test_bounded_while_chunks_come(self) -> None:
        """A chunked body is refused when more has come than may, and what still comes is dropped."""
        wire = self.wire(requestFactory=BoundedRequest)
        chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"

        answers = [wire.deliver(data) for data in (self.head((b"Transfer-Encoding", b"chunked")), *[chunk] * 4, b"0\r\n\r\n")]

        self.assertEqual([answer[:12] for answer in answers], [b"", b"", b"", b"", b"HTTP/1.1 413", b""])

    def test_bounded_in_one_read(self) -> None:
        """A body that came with its head is not answered twice."""
        wire = self.wire(requestFactory=BoundedRequest)

        answer = wire.deliver(self.head((b"Content-Length", b"100000")) + b"x" * 100_000)

        self.assertEqual(answer.count(b"HTTP/1.1"), 1)

    def test_usual_bodies_pass(self) -> None:
        """With BoundedRequest a body of the usual size is accepted."""
        wire = self.wire(requestFactory=BoundedRequest)

        answer = wire.deliver(self.head((b"Content-Length", b"5")) + b"hello")
        self.clock.settle()

        self.assertEqual(Reply(answer + wire.taken()).status, 201)
