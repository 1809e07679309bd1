"""The fast receive path gives what Autobahn gives: on random streams, and trick by trick against the obvious loop."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from random import Random
from types import CodeType, FrameType
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflate
from autobahn.websocket.protocol import WebSocketProtocol
from autobahn.websocket.protocol import WebSocketServerProtocol as ServerRules
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.http_memory import KEY, Output, handshake
from tests.harness.ws_memory import (
    ADMISSION,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Connection,
    RecordingSession,
    client_frame,
    close_payload,
    masked,
    use_clock,
)
from twisted_chat.interfaces import Handshake
from twisted_chat.limits import Limits
from twisted_chat.websocket import fast_frames
from twisted_chat.websocket.factory import ChatFactory

STREAMS = 2_400
#: Small, so that streams reach it.
FRAME_BYTES = 3_000
DEFLATE = b"permessage-deflate; client_max_window_bits"


class Pipe(Output):
    """A transport that remembers how it was ended."""

    ended = ""

    def loseConnection(self) -> None:
        self.ended = self.ended or "lost"

    def abortConnection(self) -> None:
        self.ended = self.ended or "aborted"

    def unregisterProducer(self) -> None:
        # As that of a socket: there need not be one.
        self.producer = None


class Plain(WebSocketServerProtocol):
    """Autobahn as documented: the authority."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[bool, bytes]] = []

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.append((isBinary, payload))

    def dropConnection(self, abort: bool = False) -> None:
        """The one intended difference: after both close frames we end the connection without a reset."""
        super().dropConnection(abort=abort and not self.wasClean)


Seen = tuple[list[tuple[bool, bytes]], bytes, int, str]


class Twins:
    """Two servers with the same options: ours, and Autobahn alone.  Each makes one end of a stream."""

    def __init__(self, limits: Limits, compression: bool, reactor: object) -> None:
        self.offer = (DEFLATE,) if compression else ()
        self.sessions: list[RecordingSession] = []
        self.ours = ChatFactory(self._open, lambda address: None, limits, compression=compression, reactor=reactor)
        self.plain: Any = WebSocketServerFactory()
        self.plain.protocol = Plain
        for name in ServerRules.CONFIG_ATTRS:
            setattr(self.plain, name, getattr(self.ours, name))
        self.plain.allowedOrigins, self.plain.allowNullOrigin = ["*"], True

    def _open(self, websocket: Any, admission: object) -> RecordingSession:
        session = RecordingSession(websocket)
        self.sessions.append(session)
        return session

    def connect(self) -> tuple[Callable[[bytes], Seen], Callable[[bytes], Seen]]:
        """What each end gives for bytes received: messages, bytes sent, state, how the connection was ended."""
        protocol: Any = self.ours.open_socket(ADMISSION, Handshake(KEY, self.offer))
        self.accepted = protocol.accepted
        ours = Pipe()
        protocol.makeConnection(ours)
        messages = self.sessions.pop().messages
        plain_protocol: Any = self.plain.buildProtocol(None)
        plain = Pipe()
        plain_protocol.makeConnection(plain)
        plain_protocol.dataReceived(handshake())
        for transport in (ours, plain):
            assert transport.taken().startswith(b"HTTP/1.1 101 ")
        # The handshake had no extension, or Autobahn would look at it in its own way; this is all that it does with one.
        if self.accepted is not None:
            plain_protocol._perMessageCompress = PerMessageDeflate.create_from_offer_accept(True, self.accepted)
        return (
            lambda data: seen(protocol, messages, ours, data),
            lambda data: seen(plain_protocol, plain_protocol.messages, plain, data),
        )


def seen(protocol: Any, messages: list[tuple[bool, bytes]], transport: Pipe, data: bytes) -> Seen:
    if not transport.ended:
        try:
            protocol.dataReceived(data)
        except Exception as error:
            # Twisted logs it and ends the connection.
            transport.ended = repr(error)
    new = messages[:]
    messages.clear()
    return new, transport.taken(), protocol.state, transport.ended


class Peer:
    """Invents what a client sends: mostly proper frames, and everything that is wrong with some."""

    def __init__(self, random: Random, compression: bool) -> None:
        self.random = random
        self.compression = compression
        self.inside = False

    def stream(self) -> bytes:
        random = self.random
        wrong = random.random() < 0.6
        count = random.choice((1, 2, 5, 12, 25))
        frames = []
        for _ in range(count):
            frames.append(self.wrong() if wrong and random.random() < 0.15 else self.right())
        if random.random() < 0.3:
            frames.append(self.close())
            frames += [self.right() for _ in range(random.randrange(3))]
        if random.random() < 0.1:
            frames.append(random.randbytes(random.randrange(40)))
        return b"".join(frames)

    def cuts(self, data: bytes) -> Iterator[bytes]:
        """The stream as it may arrive: whole, byte by byte, or cut anywhere."""
        random = self.random
        way = random.random()
        if way < 0.3:
            yield data
            return
        if way < 0.4 and len(data) < 2_000:
            longest = 1
        else:
            longest = random.choice((3, 8, 40, 200, 2_000))
        at = 0
        while at < len(data):
            size = random.randint(1, longest)
            yield data[at : at + size]
            at += size

    # What is right

    def right(self) -> bytes:
        random = self.random
        kind = random.random()
        if kind < 0.45:
            return (
                self.frame(TEXT, self.text())
                if not self.inside
                else self.frame(CONTINUATION, self.text(), fin=random.random() < 0.5)
            )
        if kind < 0.55 and not self.inside:
            return self.frame(BINARY, random.randbytes(self.size()))
        if kind < 0.65:
            return self.frame(PING, random.randbytes(random.choice((0, 4, 125))))
        if kind < 0.75:
            return self.frame(PONG, random.randbytes(random.choice((0, 4, 125))))
        if kind < 0.8 and self.compression and not self.inside:
            return self.compressed()
        return self.fragments()

    def frame(self, opcode: int, payload: bytes, **kw: Any) -> bytes:
        if opcode < 8:
            self.inside = not kw.get("fin", True)
        return client_frame(opcode, payload, mask=self.random.randbytes(4), **kw)

    def text(self) -> bytes:
        size = self.size()
        if self.random.random() < 0.6:
            return bytes(self.random.choices(range(32, 127), k=size))
        return "".join(self.random.choices("aé€😀\x00\N{COMBINING ACUTE ACCENT}", k=size // 3)).encode()

    def size(self) -> int:
        return self.random.choice((0, 1, 2, 3, 5, 20, 20, 20, 124, 125, 126, 127, 300))

    def fragments(self) -> bytes:
        """One message in pieces, cut anywhere, control frames between."""
        random = self.random
        text = random.random() < 0.7
        payload = self.text() if text else random.randbytes(self.size())
        pieces = random.randint(1, 4)
        places = sorted(random.choices(range(len(payload) + 1), k=pieces - 1))
        frames = []
        for at, (start, end) in enumerate(zip([0, *places], [*places, len(payload)], strict=True)):
            opcode = CONTINUATION if at or self.inside else TEXT if text else BINARY
            frames.append(self.frame(opcode, payload[start:end], fin=at == pieces - 1))
            if random.random() < 0.3:
                frames.append(self.frame(random.choice((PING, PONG)), random.randbytes(3)))
        return b"".join(frames)

    def compressed(self) -> bytes:
        text = self.text()
        deflate = zlib.compressobj(wbits=-12)
        payload = (deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
        if self.random.random() < 0.1:
            payload = payload[:-1] + b"\xff"
        cut = self.random.randrange(len(payload) + 1)
        if self.random.random() < 0.5:
            return self.frame(TEXT, payload, rsv=4)
        return self.frame(TEXT, payload[:cut], rsv=4, fin=False) + self.frame(CONTINUATION, payload[cut:])

    def close(self) -> bytes:
        random = self.random
        code = random.choice(
            (1000, 1001, 1002, 1007, 1011, 3000, 4000, 4999, 0, 999, 1004, 1005, 1006, 1012, 1016, 2999, 5000, 65535)
        )
        reason = random.choice((b"", b"bye", "grüße".encode(), b"\xff", b"\xc3", b"x" * 123, "é".encode() * 61))
        return self.frame(CLOSE, random.choice((b"", b"\x03", close_payload(code, reason), close_payload(1000, reason))))

    # What is wrong

    def wrong(self) -> bytes:
        random = self.random
        ways: list[Callable[[], bytes]] = [
            lambda: client_frame(random.choice((TEXT, PING, BINARY)), self.text()[:100], mask=None),
            lambda: self.frame(random.choice((TEXT, BINARY, PING, PONG, CLOSE)), b"abc", rsv=random.randrange(1, 8)),
            lambda: self.frame(random.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15)), self.text()[:100]),
            lambda: self.frame(random.choice((PING, PONG, CLOSE)), b"abc", fin=False),
            lambda: self.frame(random.choice((PING, PONG, CLOSE)), b"x" * random.choice((126, 200))),
            lambda: self.frame(CONTINUATION, self.text(), fin=random.random() < 0.5),
            lambda: self.frame(random.choice((TEXT, BINARY)), self.text(), fin=False),
            lambda: self.frame(TEXT, self.text()[:125], length_bytes=random.choice((2, 8))),
            lambda: self.frame(
                random.choice((TEXT, BINARY)), b"", length_bytes=8, length=random.choice((1 << 20, 1 << 62, 1 << 63))
            ),
            lambda: self.frame(
                random.choice((TEXT, BINARY)), b"y" * random.choice((FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES))
            ),
            lambda: self.frame(
                TEXT, random.choice((b"\xff", b"ab\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80")) + self.text()
            ),
            lambda: self.frame(TEXT, self.text() + random.choice((b"\xe2\x82", b"\xf0", b"\xff"))),
            lambda: self.frame(TEXT, self.text() + b"\xf0\x9f", fin=False) + self.frame(CONTINUATION, self.text()),
            self.close,
        ]
        return random.choice(ways)()


class EquivalenceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = use_clock(self)

    def compare(self, numbers: range, limits: Limits, *, compression: bool = False) -> int:
        """The messages that both have delivered; fails at the first difference with all that is needed to see it again."""
        twins = Twins(limits, compression, self.reactor)
        delivered = 0
        for number in numbers:
            peer = Peer(Random(number), compression)
            data = peer.stream()
            ours, plain = twins.connect()
            received = b""
            for piece in peer.cuts(data):
                received += piece
                got, expected = ours(piece), plain(piece)
                delivered += len(expected[0])
                if got != expected:
                    self.fail(f"stream {number}: {received!r}, last {piece!r}:\n ours     {got}\n Autobahn {expected}")
        return delivered

    def test_small_frames_allowed(self) -> None:
        """The same messages in the same order, the same bytes sent, the same state, after each read of each stream."""
        self.assertGreater(self.compare(range(STREAMS // 2), Limits(frame_bytes=FRAME_BYTES)), 4_000)

    def test_defaults(self) -> None:
        """With default limits random streams have the same effect as in Autobahn."""
        self.assertGreater(self.compare(range(STREAMS // 2, STREAMS), Limits()), 4_000)

    def test_compression(self) -> None:
        """The same where compressed messages come between the others."""
        self.assertGreater(self.compare(range(STREAMS, STREAMS + 400), Limits(frame_bytes=FRAME_BYTES), compression=True), 1_000)

    def test_a_difference_would_be_seen(self) -> None:
        """The test of the test: a fast path that lets a bad text through, or keeps a pong, is caught."""
        self.patch(fast_frames, "all_utf8", lambda texts: True)
        with self.assertRaises(self.failureException):
            self.compare(range(200), Limits(frame_bytes=FRAME_BYTES))


class TrickTests(SynchronousTestCase):
    """Each trick of the fast path against the obvious way."""

    def setUp(self) -> None:
        self.random = Random(1)

    def test_unmask(self) -> None:
        """Fast unmasking equals the loop of RFC 6455 for all lengths."""
        for length in (*range(300), 65_535, 65_536):
            payload, mask = self.random.randbytes(length), self.random.randbytes(4)
            self.assertEqual(fast_frames.unmask(mask, payload), masked(payload, mask))

    def test_take_texts(self) -> None:
        """From any place on, the whole text frames up to the first other thing."""
        for _ in range(300):
            data = b"".join(self.anything() for _ in range(self.random.randrange(12)))
            data = data[: self.random.randrange(len(data) + 1)]
            texts: list[bytes] = []
            at = fast_frames.take_texts(data, 0, texts, 400)
            self.assertEqual((at, texts), obvious_take_texts(data, 400))

    def test_one_text(self) -> None:
        """One whole, short text frame of ASCII, and nothing else is taken for one."""
        for length in range(126):
            text = bytes(self.random.randrange(128) for _ in range(length))
            frame = client_frame(TEXT, text, mask=self.random.randbytes(4))
            self.assertEqual(fast_frames.one_text(frame), text)
            self.assertIsNone(fast_frames.one_text(frame[:-1]))
            self.assertIsNone(fast_frames.one_text(frame + frame))
            self.assertIsNone(fast_frames.one_text(client_frame(TEXT, text + b"\x80")))
            self.assertIsNone(fast_frames.one_text(client_frame(TEXT, text, mask=None) + b"mask"))
        for length in range(126, 130):
            self.assertIsNone(fast_frames.one_text(client_frame(TEXT, b"x" * length)))
        for _ in range(2_000):
            data = self.anything()[: self.random.choice((1, 2, 5, 6, 7, None))]
            at, texts = obvious_take_texts(data, 125)
            usual = at == len(data) and len(texts) == 1 and texts[0].isascii()
            expected = texts[0] if usual else None
            self.assertEqual(fast_frames.one_text(data), expected)

    def anything(self) -> bytes:
        payload = self.random.randbytes(self.random.choice((0, 1, 4, 5, 125, 126, 399, 400, 401)))
        opcode = TEXT if self.random.random() < 0.9 else self.random.randrange(16)
        return client_frame(
            opcode,
            payload,
            mask=self.random.randbytes(4) if self.random.random() < 0.98 else None,
            fin=self.random.random() < 0.98,
            length_bytes=8 if self.random.random() < 0.02 else None,
        )

    def test_first_other_stops_before_the_bad_text(self) -> None:
        """The fast reader takes the texts before one that is not UTF-8, and leaves that to Autobahn."""
        good, bad = client_frame(TEXT, "é".encode()), client_frame(TEXT, b"\xff")
        texts: list[bytes] = []

        self.assertEqual(fast_frames.first_other(good * 2 + bad + good, 0, texts, 400), 2 * len(good))
        self.assertEqual(texts, ["é".encode()] * 2)

    def test_frame_end(self) -> None:
        """The end of a frame is known from its header."""
        for length in (0, 125, 126, 65_535, 65_536):
            for mask in (None, b"mask"):
                frame = client_frame(BINARY, bytes(length), mask=mask)
                self.assertEqual(fast_frames.frame_end(b"xx" + frame + b"more", 2), 2 + len(frame))
                # By its header alone, once that is whole.
                head = len(frame) - length
                self.assertEqual(fast_frames.frame_end(frame[:head], 0), len(frame))

    def test_may_wait(self) -> None:
        """A frame waits for its rest only if Autobahn would not refuse what has come of it."""
        frame = client_frame(TEXT, "héllo".encode() * 40)

        for cut in range(1, len(frame)):
            self.assertTrue(fast_frames.may_wait(frame[:cut], 0, 400), cut)
        for refused in (
            client_frame(TEXT, b"\xff" + b"x" * 20)[:-1],
            client_frame(TEXT, b"hello", mask=None)[:-1],
            client_frame(TEXT, b"hello", rsv=4)[:-1],
            client_frame(TEXT, b"x" * 401)[:-1],
            client_frame(TEXT, b"x" * 20, length_bytes=2)[:-1],
            client_frame(BINARY, b"hello")[:-1],
        ):
            self.assertFalse(fast_frames.may_wait(refused, 0, 400), refused)
        long = client_frame(TEXT, b"x" * 20_000)

        self.assertTrue(fast_frames.may_wait(long[: fast_frames.PARTIAL_BYTES], 0, 65_536))
        self.assertFalse(
            fast_frames.may_wait(long[: fast_frames.PARTIAL_BYTES + 1], 0, 65_536), "Autobahn takes long ones as they come"
        )


def obvious_take_texts(data: bytes, limit: int) -> tuple[int, list[bytes]]:
    """RFC 6455 section 5.2 as one would write it down."""
    at, texts = 0, []
    while len(data) - at >= 2:
        if data[at] != 0x81 or not data[at + 1] & 0x80:
            break
        length, head = data[at + 1] & 0x7F, at + 2
        if length == 127:
            break
        if length == 126:
            if len(data) - head < 2:
                break
            length = data[head] * 256 + data[head + 1]
            head += 2
            if length < 126 or length > limit:
                break
        if head + 4 + length > len(data):
            break
        texts.append(masked(data[head + 4 : head + 4 + length], data[head : head + 4]))
        at = head + 4 + length
    return at, texts


class EffortTests(SynchronousTestCase):
    """What a message costs, counted in calls, so that no machine makes a difference."""

    def setUp(self) -> None:
        self.connection = Connection(use_clock(self)).open()

    def calls(self, data: bytes, into: Callable[[CodeType], bool] = lambda code: True) -> int:
        """Python functions entered while ``data`` is received."""
        count = 0

        def profile(frame: FrameType, event: str, argument: object) -> None:
            nonlocal count
            count += event == "call" and into(frame.f_code)

        sys.setprofile(profile)
        try:
            self.connection.protocol.dataReceived(data)
        finally:
            sys.setprofile(None)
        return count

    def test_usual_frames(self) -> None:
        """2,500 lines in one read: a handful of calls in all, beside the session's own."""
        self.connection.session.answer = lambda text: None  # type: ignore[method-assign]
        lines = client_frame(TEXT, b"x" * 20) * 2_500
        while self.connection.transport.bufferSize < 65_536:
            self.connection.deliver(lines)  # it shows to say much, and is read more from
        self.connection.session.messages.clear()
        batches = self.connection.session.batches
        ours = self.calls(lines, lambda code: "tests" not in code.co_filename)

        self.assertEqual(len(self.connection.session.messages), 2_500)
        self.assertEqual(self.connection.session.batches, batches + 1, "all texts of one read come together")
        self.assertLessEqual(ours, 10)

    def test_unusual_frames_are_linear(self) -> None:
        """What Autobahn has to do for 200 fragments in one read is 10 times what it does for 20 (its own way is quadratic)."""
        self.connection.deliver(client_frame(TEXT, b"x", fin=False))
        fragment = client_frame(CONTINUATION, b"x", fin=False)
        few, many = self.calls(fragment * 20), self.calls(fragment * 200)

        self.assertLessEqual(abs(many - 10 * few), 0.1 * many)

    def test_autobahn_gets_one_frame_at_a_time(self) -> None:
        """It slices what is left for each frame, so it may never hold more than one."""
        given: list[int] = []
        receive = WebSocketProtocol._dataReceived

        def note(protocol: WebSocketProtocol, data: bytes) -> None:
            given.append(len(data))
            receive(protocol, data)

        self.patch(WebSocketProtocol, "_dataReceived", note)
        begin = client_frame(TEXT, b"x", fin=False)
        fragments = [client_frame(CONTINUATION, b"x" * length, fin=False) for length in range(50)]

        self.connection.deliver(begin + b"".join(fragments))

        self.assertEqual(given, [len(frame) for frame in (begin, *fragments)])

    def test_autobahn_sleeps(self) -> None:
        """A connection that sends what is usual never makes Autobahn's 60 attributes."""
        self.connection.deliver(
            client_frame(TEXT, b"hello") + client_frame(BINARY, b"\x00") + client_frame(PONG, b"x") + client_frame(PING, b"y")
        )

        self.assertNotIn("utf8validator", vars(self.connection.protocol))

        self.connection.deliver(client_frame(TEXT, b"hello", fin=False))

        self.assertIn("utf8validator", vars(self.connection.protocol))
