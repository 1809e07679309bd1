"""A session by HTTP as the client's connection sees it, against servers that do what they should not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.client.address import find
from twisted_chat.client.errors import Closed, ConnectionProblem, HandshakeRefused
from twisted_chat.client.http_session import ELSEWHERE_POSTS, JOINED_BYTES, POST_SECONDS, HttpTransport
from twisted_chat.client.transport import MESSAGE_BYTES, Socket
from twisted_chat.testing import TestClock
from twisted_chat.testing.transports import Endpoint

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
OPEN = b'event: open\ndata: {"session":"s3cret"}\n\n'
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def taken(number: int) -> bytes:
    return answer("200 OK", b'{"taken":%d}' % number, "Content-Type: application/json")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Line(Protocol):
    """The server's end of one HTTP connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if not found or (length is not None and len(body) < int(length[1])):
            return
        self.data = b""
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.server.heads.append(head)
        self.write(self.server.opens(self) if method == "GET" else self.server.posted(target, body))

    def write(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)


class Server(Factory):
    """Opens streams, and answers posts as ``answers`` says.

    :ivar posts: number and body of each post that came; ``connections`` how many there were.
    """

    noisy = False

    def __init__(self) -> None:
        self.posts: list[tuple[int, bytes]] = []
        self.connections = 0
        self.heads: list[bytes] = []
        self.opening = STREAM + chunk(OPEN)
        self.answers: Callable[[int, bytes], bytes] = lambda number, body: taken(number)
        self.stream: Line | None = None

    def buildProtocol(self, addr: IAddress | None) -> Line:
        self.connections += 1
        return Line(self)

    def opens(self, line: Line) -> bytes:
        self.stream = line
        return self.opening

    def posted(self, target: str, body: bytes) -> bytes:
        path, _, number = target.partition("?n=")
        assert path == "/api/v1/session/s3cret", path
        self.posts.append((int(number), body))
        return self.answers(int(number), body)

    def say(self, data: bytes) -> None:
        assert self.stream is not None
        self.stream.write(chunk(data))


class Listener:
    """Keeps what a socket tells."""

    socket: Socket

    def __init__(self) -> None:
        self.open = False
        self.frames: list[bytes] = []
        self.problems: list[ConnectionProblem] = []

    def connected(self, socket: Socket) -> None:
        self.socket = socket

    def opened(self) -> None:
        self.open = True

    def heard(self) -> None:
        """Bytes came."""

    def received(self, text: bytes) -> None:
        self.frames.append(text)

    def lost(self, problem: ConnectionProblem) -> None:
        self.problems.append(problem)


class SessionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = TestClock()
        self.server = Server()
        self.endpoint = Endpoint(self.clock, lambda: self.server, 0.0)
        self.listener = Listener()

    def connect(self, token: str | None = None) -> Socket:
        transport = HttpTransport(find(self.clock, self.endpoint, host="chat.test"), self.clock, lambda: 0.5)
        transport.connect(self.listener, token)
        self.clock.settle()
        return self.listener.socket

    def problem(self) -> ConnectionProblem:
        """Why it has ended; nothing is left of it."""
        self.clock.settle()
        (problem,) = self.listener.problems
        self.assertEqual([wire for wire in self.endpoint.wires if wire.open], [])
        self.assertEqual(self.clock.calls, [])
        return problem


class StreamTests(SessionCase):
    def test_frames(self) -> None:
        """Events without a name are frames, however they are cut up; comments are nothing."""
        self.connect()

        self.assertTrue(self.listener.open)

        for byte in b': ping\n\ndata: {"a":1}\n\ndata: [1]\r\n\r\nid: 7\n\n':
            self.server.say(bytes([byte]))
        self.clock.settle()

        self.assertEqual(self.listener.frames, [b'{"a":1}', b"[1]"])

    def test_close(self) -> None:
        """The event ``close`` is what a WebSocket has in its close frame."""
        self.connect()
        self.server.say(b'event: close\ndata: {"code":4503,"reason":"restart"}\n\ndata: {"late":1}\n\n')
        problem = self.problem()
        assert isinstance(problem, Closed)

        self.assertEqual((problem.code, problem.reason, self.listener.frames), (4503, "restart", []))

    def test_end(self) -> None:
        """A stream that ends without it counts as 1006, whether it is cut or comes to its end."""
        self.connect()
        assert self.server.stream is not None
        self.server.stream.write(b"0\r\n\r\n")
        problem = self.problem()
        assert isinstance(problem, Closed)

        self.assertEqual((problem.code, problem.reason), (1006, "the stream ended"))

        self.listener = Listener()
        self.connect()
        for wire in self.endpoint.wires:
            wire.cut()
        problem = self.problem()
        assert isinstance(problem, Closed)

        self.assertEqual(
            (problem.code, problem.reason), (1006, "Connection to the other side was lost in a non-clean fashion: cut")
        )

    def test_refused(self) -> None:
        """A refusal says why, and when to come back."""
        body = b'{"error":{"code":"limit","message":"full","retry":true,"retry_after_ms":5000}}'
        self.server.opening = answer("429 Too Many Requests", body, "Retry-After: 6")
        self.connect()
        problem = self.problem()
        assert isinstance(problem, HandshakeRefused)

        self.assertEqual((str(problem), problem.retry_after), ("the server answered 429: limit: full", 5.0))

    def test_page(self) -> None:
        """A page or a redirect instead of a stream is somebody in between; nobody is followed elsewhere."""
        for opening in (
            answer("200 OK", b"<p>", "Content-Type: text/html"),
            answer("302 Found", b"", "Location: http://gate.test/"),
        ):
            self.listener = Listener()
            self.server.opening = opening
            self.connect()
            problem = self.problem()
            assert isinstance(problem, HandshakeRefused)
            self.assertTrue(problem.retry)

    def test_garbage(self) -> None:
        """What is no answer, no id, or too long ends it."""
        for opening in (
            b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
            STREAM + chunk(b"event: open\ndata: nonsense\n\n"),
            STREAM + chunk(b"event: open\ndata: {}\n\n"),
            STREAM + chunk(OPEN) + chunk(b"data: " + b"x" * MESSAGE_BYTES),
        ):
            self.listener = Listener()
            self.server.opening = opening
            self.connect()
            self.assertIsInstance(self.problem(), ConnectionProblem)

    def test_unreachable(self) -> None:
        """Where nobody listens, the problem says so."""
        self.endpoint = Endpoint(self.clock, lambda: None, 0.0)
        self.connect()
        self.assertEqual(str(self.problem()), "the server cannot be reached: Connection was refused by other side")


class PostTests(SessionCase):
    def test_posts(self) -> None:
        """One post at a time; what is said meanwhile is put together, in order, with the token in each."""
        self.server.answers = lambda number, body: b""
        socket = self.connect("tc_1")
        for text in (b'{"a":1}', b'[{"b":2},{"c":3}]', b'{"d":4}'):
            socket.send_text(text)

        self.clock.settle()

        self.assertEqual(self.server.posts, [(1, b'{"a":1}')])

        self.server.answers = lambda number, body: taken(number)
        self.clock.pass_time(POST_SECONDS + 1)

        self.assertEqual(self.server.posts[1:], [(1, b'{"a":1}'), (2, b'[{"b":2},{"c":3},{"d":4}]')])
        self.assertEqual({b"\r\nAuthorization: Bearer tc_1" in head for head in self.server.heads}, {True})

    def test_large_frames(self) -> None:
        """Frames are put together only as far as a post stays small."""
        socket = self.connect()
        frames = [b'"%b"' % (b"x" * (JOINED_BYTES // 2 - 10)) for _ in range(5)]
        for frame in frames:
            socket.send_text(frame)

        self.clock.settle()

        self.assertEqual([number for number, _ in self.server.posts], [1, 2, 3])
        self.assertEqual(self.server.posts[1][1], b"[" + b",".join(frames[1:3]) + b"]")

    def test_lost_answer(self) -> None:
        """A post whose connection breaks is sent again with its number, and no other before it."""
        self.server.answers = lambda number, body: b""
        socket = self.connect()
        socket.send_text(b"1")
        self.clock.settle()
        self.endpoint.wires[-1].cut()
        self.server.answers = lambda number, body: taken(number)
        socket.send_text(b"2")

        self.clock.pass_time(1)

        self.assertEqual(self.server.posts, [(1, b"1"), (1, b"1"), (2, b"2")])
        self.assertEqual(self.listener.problems, [])

    def test_not_now(self) -> None:
        """After 408, 425, 429 and 5xx a post is sent again, not before the time that is asked for."""
        answers = [
            answer("429 Too Many Requests", b"", "Retry-After: 3"),
            answer("502 Bad Gateway"),
            answer("408 Request Timeout"),
        ]
        answers += [answer("200 OK", b"<p>a page</p>"), answer("200 OK", b'{"taken":0}'), taken(1)]
        self.server.answers = lambda number, body: answers.pop(0)
        socket = self.connect()
        socket.send_text(b"1")

        self.clock.pass_time(2.9)

        self.assertEqual(len(self.server.posts), 1)

        self.clock.pass_time(10)

        self.assertEqual(self.server.posts, [(1, b"1")] * 6)
        self.assertEqual((answers, self.listener.problems), ([], []))

    def test_elsewhere(self) -> None:
        """Behind a balancer that takes turns a post is sent over a new connection until it reaches the server that has the session."""
        answers = [answer("404 Not Found"), answer("404 Not Found"), taken(1), taken(2)]
        self.server.answers = lambda number, body: answers.pop(0)
        socket = self.connect()
        socket.send_text(b"1")
        self.clock.settle()

        self.assertEqual(self.server.posts, [(1, b"1")] * 3)
        self.assertEqual(self.server.connections, 4)

        socket.send_text(b"2")
        self.clock.settle()

        self.assertEqual(self.server.posts[3:], [(2, b"2")])
        self.assertEqual(self.server.connections, 4)
        self.assertEqual(self.listener.problems, [])

    def test_nowhere(self) -> None:
        """When none has it after so many tries, the client begins anew."""
        self.server.answers = lambda number, body: answer("404 Not Found")
        self.connect().send_text(b"1")

        self.assertIsInstance(self.problem(), Closed)
        self.assertEqual(self.server.posts, [(1, b"1")] * ELSEWHERE_POSTS)

    def test_refused(self) -> None:
        """After any other refusal the stream is given up, and the client begins anew."""
        for status in ("409 Conflict", "403 Forbidden", "413 Content Too Large", "302 Found"):
            self.listener = Listener()
            self.server.answers = lambda number, body, status=status: answer(status)  # type: ignore[misc]
            self.connect().send_text(b"1")
            problem = self.problem()
            assert isinstance(problem, Closed)
            self.assertEqual((problem.code, problem.retry), (1006, True))

    def test_too_big_together(self) -> None:
        """A server with a smaller limit gets each frame by itself."""
        self.server.answers = lambda number, body: answer("413 Content Too Large") if len(body) > 10 else taken(number)
        socket = self.connect()
        for number in range(8):
            socket.send_text(b'{"a":%d}' % number)
        self.clock.pass_time(5)
        kept = [post for post in self.server.posts if len(post[1]) <= 10]

        self.assertEqual(kept, [(number + 1, b'{"a":%d}' % number) for number in range(8)])
        self.assertEqual(self.listener.problems, [])

    def test_goodbye(self) -> None:
        """A goodbye is the last that is posted; nothing follows it."""
        socket = self.connect()
        socket.send_text(b"1")
        socket.say_goodbye()
        socket.send_text(b"2")

        self.clock.settle()

        self.assertEqual(self.server.posts, [(1, b"1"), (2, b'{"type":"bye"}')])

    def test_give_up_in_the_middle(self) -> None:
        """Nothing is left of a session that is given up while a post is on its way, waits, or before there is a stream."""
        for answers in (lambda number, body: b"", lambda number, body: answer("503 Busy", b"", "Retry-After: 9")):
            self.listener = Listener()
            self.server.answers = answers
            socket = self.connect()
            socket.send_text(b"1")
            self.clock.settle()
            socket.give_up(ConnectionProblem("enough"))
            self.assertEqual(str(self.problem()), "enough")

        self.listener = Listener()
        self.server.opening = b""
        self.connect().give_up(ConnectionProblem("enough"))

        self.assertEqual(str(self.problem()), "enough")
