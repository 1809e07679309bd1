"""Servers that do not do what they should: the client backs off, reports, and recovers or stops as the table says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.ws_memory import CLOSE
from twisted_chat.client import ChatClient, ClientEnded, Closed, ConnectionProblem, HandshakeRefused, State
from twisted_chat.protocol.frames import frame, switching_protocols, text_frame
from twisted_chat.testing import MemoryChat


class Strange(Protocol):
    """A server that answers ``reply`` to the first bytes, and may go on from there."""

    def __init__(self, reply: Callable[[bytes], bytes], *, close: bool = False, frames: bytes = b"") -> None:
        self.reply = reply
        self.close = close
        self.frames = frames
        self.heard = b""

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        first = not self.heard
        self.heard += data
        if first:
            transport.write(self.reply(data))
            if self.close:
                transport.loseConnection()
        elif self.frames:
            transport.write(self.frames)
            self.frames = b""


class StrangeServer(Factory):
    noisy = False

    def __init__(self, *args: Any, **kw: Any) -> None:
        self.args, self.kw = args, kw
        self.protocols: list[Strange] = []

    def buildProtocol(self, addr: IAddress | None) -> Strange:
        self.protocols.append(Strange(*self.args, **self.kw))
        return self.protocols[-1]


def says(answer: bytes) -> Callable[[bytes], bytes]:
    return lambda _: answer


def switches(request: bytes) -> bytes:
    """A proper 101."""
    key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
    return switching_protocols(key, "chat.v1.json")


def http(status: bytes, body: bytes = b"", *headers: bytes) -> Callable[[bytes], bytes]:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", body]
    return says(b"\r\n".join(lines))


def close_frame(code: int) -> bytes:
    return frame(0x80 | CLOSE, code.to_bytes(2, "big") + b"why")


def said(**fields: object) -> bytes:
    return text_frame(msgspec.json.encode(fields))


WELCOME = said(
    type="welcome",
    id=1,
    version=1,
    server="x",
    epoch="E",
    user={"id": "g1", "name": "alice", "guest": True},
    ping_ms=25000,
    limits={"frame": 65536, "text": 16384, "rooms": 128, "history": 200, "send": {"burst": 10, "per_second": 2}},
    read={},
)


class StrangeServers(SynchronousTestCase):
    def setUp(self) -> None:
        self.chat = MemoryChat()

    def strange(self, *args: Any, **kw: Any) -> StrangeServer:
        server = StrangeServer(*args, **kw)
        self.chat.instead = server
        return server

    def client(self, **options: Any) -> ChatClient:
        options.setdefault("transport", "websocket")
        client = self.chat.client("alice", **options)
        self.chat.settle()
        return client

    def recovers(self, client: ChatClient, seconds: float = 60.0) -> None:
        """The server is itself again, and so is the client."""
        self.chat.instead = None
        self.chat.pass_time(seconds)
        self.assertIs(client.state, State.ONLINE)
        self.assertIsNone(client.problem)


class RefusalTests(StrangeServers):
    def test_503(self) -> None:
        """The client backs off further with each 503, and comes back when the server takes it."""
        self.strange(http(b"503 Service Unavailable"))
        client = self.client()

        self.assertIs(client.state, State.WAITING)
        assert isinstance(client.problem, HandshakeRefused)
        self.assertEqual(client.problem.status, 503)

        self.chat.pass_time(60)
        # 0.5 + 1 + 2 + 4 + 8 + 16 + 30: with the longest of the random waits.
        self.assertEqual(self.chat.endpoint.attempts, 7)

        self.recovers(client)

    def test_our_own_refusal(self) -> None:
        """The body says whether to come back, and when."""
        body = b'{"error":{"code":"limit","message":"full","retry":true,"retry_after_ms":5000}}'

        self.strange(http(b"429 Too Many Requests", body, b"Retry-After: 5"))
        client = self.client()

        self.assertEqual(str(client.problem), "the server answered 429: limit: full")

        self.chat.pass_time(4.9)
        self.assertEqual(self.chat.endpoint.attempts, 1)

        self.recovers(client)

    def test_retry_after(self) -> None:
        """The client waits as long as ``Retry-After`` says, also when it is not the chat that answers."""
        self.strange(http(b"503 Service Unavailable", b"<html>", b"Retry-After: 20"))
        client = self.client()

        self.chat.pass_time(19)

        self.assertEqual(self.chat.endpoint.attempts, 1)

        self.recovers(client)

    def test_body_without_length(self) -> None:
        """The body of a refusal without a length ends with the connection."""
        self.strange(says(b"HTTP/1.1 503 Busy\r\n\r\n<html>"), close=True)
        self.assertEqual(str(self.client().problem), "the server answered 503")

    def test_401(self) -> None:
        """Whoever has no other token stops, and everything that waits fails with the reason."""
        server = self.strange(http(b"401 Unauthorized", b'{"error":{"code":"unauthenticated","message":"no","retry":false}}'))
        client = self.client(token="tc_old", started=False)
        sent = client.room("lobby").send("hello")

        client.startService()
        self.chat.pass_time(60)

        self.assertIn(b"\r\nAuthorization: Bearer tc_old\r\n", server.protocols[0].heard)
        self.assertEqual(self.chat.endpoint.attempts, 1)
        self.assertIs(client.state, State.ENDED)

        error = self.failureResultOf(sent, ClientEnded).value
        self.assertEqual(str(error), "the chat client has given up: the server answered 401: unauthenticated: no")
        self.failureResultOf(client.when_online(), ClientEnded)
        self.failureResultOf(client.room("lobby").send("again"), ClientEnded)

    def test_new_token_once(self) -> None:
        """A token that can be fetched is fetched once more, then it is over."""
        tokens = iter(["tc_1", "tc_2", "tc_3"])
        server = self.strange(http(b"401 Unauthorized"))
        client = self.client(token=lambda: next(tokens))

        self.chat.pass_time(60)

        self.assertEqual([b"tc_1" in server.protocols[0].heard, b"tc_2" in server.protocols[1].heard], [True, True])
        self.assertEqual(self.chat.endpoint.attempts, 2)
        self.assertIs(client.state, State.ENDED)

    def test_404(self) -> None:
        """The client gives up at a 404."""
        self.strange(http(b"404 Not Found"))
        self.assertIs(self.client().state, State.ENDED)

    def test_gate_page(self) -> None:
        """A page or redirect instead of a chat is somebody in between, who may let us through later."""
        for answer in (http(b"200 OK", b"<html>pay"), http(b"302 Found", b"", b"Location: http://gate.example/")):
            self.strange(answer)
            client = self.client()
            self.assertIs(client.state, State.WAITING)
            self.recovers(client)


class GarbageTests(StrangeServers):
    def problem(self, client: ChatClient) -> str:
        self.assertIs(client.state, State.WAITING)
        self.assertIsInstance(client.problem, ConnectionProblem)
        return str(client.problem)

    def test_no_http(self) -> None:
        """An answer that is not HTTP is a named problem, and the client reconnects."""
        for answer in (b"SSH-2.0-OpenSSH_9.6 and more\r\n", b"\x16\x03\x01\xff\xff" * 10, b"220 mail.example.org ESMTP\r\n\r\n"):
            self.strange(says(answer))
            client = self.client()
            self.assertEqual(self.problem(client), "the server's answer to the handshake is not HTTP")
            self.recovers(client)

    def test_endless_head(self) -> None:
        """A head that does not end is refused."""
        self.strange(says(b"HTTP/1.1 101 Switching\r\n" + b"X: y\r\n" * 10_000))
        self.assertIn("is not HTTP", self.problem(self.client()))

    def test_ends_at_once(self) -> None:
        """A connection that ends during the handshake is a named problem, and the client reconnects."""
        self.strange(says(b""), close=True)
        client = self.client()

        self.assertIn("ended within the handshake", self.problem(client))

        self.recovers(client)

    def test_informational_answers(self) -> None:
        """100, 102 and 103 come before the answer (RFC 9110 section 15.2), in any number of pieces."""
        before = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\nHTTP/1.1 102 P\r\n\r\n"
        self.strange(lambda request: before + switches(request), frames=WELCOME)

        self.assertIs(self.client().state, State.ONLINE)

    def test_only_informational_answers(self) -> None:
        """A server that says no more than that it goes on is given up like one that is silent."""
        self.strange(says(b"HTTP/1.1 100 Continue\r\n\r\n" * 3))
        client = self.client()

        self.chat.pass_time(15)

        self.assertIsNotNone(client.problem)

        self.recovers(client)

    def test_wrong_accept(self) -> None:
        """An accept value that belongs to another key is refused (RFC 6455 section 4.1)."""
        self.strange(says(switching_protocols(b"dGhlIHNhbXBsZSBub25jZQ==", "chat.v1.json")))
        self.assertIn("the handshake failed: HTTP Sec-WebSocket-Accept bogus", self.problem(self.client()))

    def test_101_with_bytes(self) -> None:
        """A 101 whose head is no text is refused."""
        self.strange(lambda request: switches(request).replace(b"Upgrade: websocket", b"X: \xff\xfe\r\nUpgrade: websocket"))
        client = self.client()

        self.assertIn("could not be dealt with", self.problem(client))
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_another_service(self) -> None:
        """A WebSocket server that is no chat is refused."""
        self.strange(lambda request: switching_protocols(request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]))
        self.assertEqual(self.problem(self.client()), "the server does not speak chat.v1.json")

    def test_frames_of_garbage(self) -> None:
        """Frames that break the protocol before the welcome are a named problem, and the client reconnects."""
        for frames, problem in (
            (b"\xff\xff\xff\xff", "1006"),
            (text_frame(b"nonsense"), "cannot be understood"),
            (text_frame(b"[1,2]"), "cannot be understood"),
            (said(type="welcome", id=1), "cannot be understood"),
            (frame(0x82, b"\0"), "the server sent bytes"),
        ):
            self.strange(switches, frames=frames)
            client = self.client()
            self.assertIn(problem, self.problem(client))
            self.recovers(client)

    def test_garbage_after_the_welcome(self) -> None:
        """An event that cannot be decoded is a named problem."""
        self.strange(switches, frames=WELCOME + said(type="event", room="lobby", seq="one"))
        client = self.client()
        self.assertIn("cannot be understood", self.problem(client))

    def test_words_of_the_future(self) -> None:
        """Fields and types of later versions are ignored."""
        self.strange(switches, frames=WELCOME + said(type="weather", room="lobby") + said(type="ok", id=99))
        self.assertIs(self.client().state, State.ONLINE)


class SilenceTests(StrangeServers):
    def test_silence(self) -> None:
        """Who accepts and says nothing is given ten seconds, and only one connection at a time."""
        server = self.strange(says(b""))
        client = self.client()

        self.chat.pass_time(9.9)

        self.assertIs(client.state, State.CONNECTING)

        self.chat.pass_time(0.2)
        self.assertIs(client.state, State.WAITING)
        self.assertEqual(str(client.problem), "there was no welcome within 10 s")
        self.assertEqual(self.chat.wires, [])

        self.chat.pass_time(120)
        self.assertLess(len(server.protocols), 9)

        self.recovers(client)

    def test_silence_after_the_handshake(self) -> None:
        """A server that sends no welcome is given up like one that does not answer."""
        self.strange(switches)
        client = self.client()

        self.chat.pass_time(10)

        self.assertEqual(str(client.problem), "there was no welcome within 10 s")

        self.recovers(client)

    def test_deaf_later(self) -> None:
        """A connection that says nothing for the ping interval and ten seconds more is given up."""
        self.strange(switches, frames=WELCOME)
        client = self.client()

        self.chat.pass_time(34.5)

        self.assertIs(client.state, State.ONLINE)

        self.chat.pass_time(0.6)
        self.assertIs(client.state, State.WAITING)
        self.assertEqual(str(client.problem), "the server said nothing for 35 s")

        self.recovers(client)

    def test_stop_while_connecting(self) -> None:
        """A client that is stopped while it connects leaves nothing behind."""
        self.strange(says(b""))
        client = self.client()
        stopped = client.stopService()

        self.chat.settle()
        self.successResultOf(stopped)

        self.assertEqual(self.chat.wires, [])

        self.chat.pass_time(60)
        self.assertEqual(self.chat.endpoint.attempts, 1)


class ClosingTests(StrangeServers):
    def closed_with(self, code: int, *before: bytes) -> ChatClient:
        self.strange(switches, frames=WELCOME + b"".join(before) + close_frame(code))
        return self.client()

    def test_every_code(self) -> None:
        """Each close code leads to what its class says: come back, or end."""
        for code in (1001, 1011, 1012, 1013, 4408, 4429, 4500, 4503, 4504, 4508, 4509, 4700):
            client = self.closed_with(code)
            self.assertIs(client.state, State.WAITING, code)
            assert isinstance(client.problem, Closed)
            self.assertEqual((client.problem.code, client.problem.reason), (code, "why"))
            self.recovers(client)
        for code in (1000, 1002, 1003, 1007, 1009, 4400, 4403, 4404, 4406, 4409, 4410, 4413, 4444):
            client = self.closed_with(code)
            self.chat.pass_time(60)
            self.assertIs(client.state, State.ENDED, code)

    def test_4401(self) -> None:
        """After 4401 the client asks for a new token, once."""
        tokens = iter(["tc_1", "tc_2"])
        self.strange(switches, frames=WELCOME + close_frame(4401))
        client = self.client(token=lambda: next(tokens))

        self.chat.pass_time(60)

        self.assertEqual(list(tokens), [])
        self.assertIs(client.state, State.ENDED)

    def test_bye(self) -> None:
        """The server says when to come back; our own share comes on top."""
        client = self.closed_with(1012, said(type="bye", code=4503, reason="restart", retry=True, retry_after_ms=3700))

        self.chat.pass_time(3.6)

        self.assertEqual(self.chat.endpoint.attempts, 1)

        self.recovers(client, 1.0)

    def test_bye_and_a_break(self) -> None:
        """The connection breaks before the close frame: the bye counts."""
        bye = said(type="bye", code=4410, reason="banned", retry=False)
        self.strange(switches, frames=WELCOME + bye)
        client = self.client()

        self.chat.cut()
        self.chat.settle()

        self.assertIs(client.state, State.ENDED)
        assert isinstance(client.problem, Closed)
        self.assertEqual(client.problem.code, 4410)
