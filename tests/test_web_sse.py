"""A room as Server-Sent Events: a reader like any other."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport

from tests.harness.http_chat import HttpCase
from tests.harness.http_memory import Reply, Wire
from twisted_chat.core.history import Unrecoverable
from twisted_chat.errors import BadRequest, CloseCode
from twisted_chat.limits import Limits, RoomPolicies, RoomPolicy
from twisted_chat.standings import FOREVER, Standing
from twisted_chat.users import User
from twisted_chat.web.sse import read_event_id

EVENTS = "/api/v1/rooms/lobby/events"
STREAM = ("Accept", "text/event-stream")


class Reader:
    """Takes a stream apart as ``EventSource`` does."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        raw = wire.taken()
        self.reply = Reply(raw)
        self._raw = raw.partition(b"\r\n\r\n")[2]
        self._text = ""
        self.comments = 0

    def events(self) -> list[tuple[str, str | None, Any]]:
        """(event, id, data) of what came since the last call."""
        raw = self._raw + self.wire.taken()
        while raw:
            size, _, raw = raw.partition(b"\r\n")
            length = int(size, 16)
            self._text += raw[:length].decode()
            raw = raw[length + 2 :]
            if not length:
                break
        self._raw = b""
        *blocks, self._text = self._text.split("\n\n")
        found = []
        for block in blocks:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if fields:
                found.append((fields.get("event", "message"), fields.get("id"), msgspec.json.decode(fields["data"])))
            else:
                self.comments += 1
        return found

    def texts(self) -> list[str]:
        return [data["text"] for event, _, data in self.events() if event == "message"]


class StreamTests(HttpCase):
    def stream(self, query: str = "", *headers: tuple[str, str], room: str = "lobby") -> Reader:
        return Reader(self.send(f"/api/v1/rooms/{room}/events{query}", STREAM, *headers))

    def test_live(self) -> None:
        """From now on: what is said comes, in the shape of the JSON dialect, with a cursor for an id."""
        self.say("before")
        reader = self.stream()

        self.assertEqual(reader.reply.status, 200)
        self.assertEqual(reader.reply.headers["content-type"], "text/event-stream; charset=utf-8")
        self.assertEqual(reader.reply.headers["cache-control"], "no-store")
        self.assertIn("content-security-policy", reader.reply.headers)

        joined, live = reader.events()
        self.assertEqual((joined[0], joined[2]["head"], joined[2]["from"]), ("joined", 1, 2))
        self.assertEqual((live[0], live[2]["seq"]), ("live", 1))

        said = self.say("hello")
        ((event, id, data),) = reader.events()

        self.assertEqual((event, id), ("message", f"{self.core.epoch}:2:{said['event']}"))
        self.assertEqual((data["type"], data["room"], data["seq"], data["text"]), ("event", "lobby", 2, "hello"))

    def test_from_the_beginning(self) -> None:
        """A stream begins after a number, or with the last events."""
        for text in ("a", "b", "c"):
            self.say(text)

        self.assertEqual(self.stream("?after=0").texts(), ["a", "b", "c"])
        self.assertEqual(self.stream("?after=2").texts(), ["c"])
        self.assertEqual(self.stream("?after=99").texts(), [])
        self.assertEqual(self.stream("?tail=2").texts(), ["b", "c"])

    def test_resume(self) -> None:
        """``Last-Event-ID`` as a browser sends it: everything after it, each once."""
        reader = self.stream()
        for text in ("a", "b"):
            self.say(text)
        events = [entry for entry in reader.events() if entry[0] == "message"]

        reader.wire.leave()
        self.say("c")
        back = self.stream("", ("Last-Event-ID", str(events[0][1])))
        joined, *rest = back.events()

        self.assertTrue(joined[2]["recovered"])
        self.assertEqual([data["text"] for event, _, data in rest if event == "message"], ["b", "c"])

    def test_cannot_resume(self) -> None:
        """Told plainly why, and everything from the oldest."""
        self.say("a")
        good = self.get(EVENTS)["events"][0]["id"]
        for cursor, why in (
            (f"OTHER:1:{good}", "epoch"),
            (f"{self.core.epoch}:1:other", "fork"),
            (f"{self.core.epoch}:7:{good}", "ahead"),
        ):
            joined, *rest = self.stream("", ("Last-Event-ID", cursor)).events()
            self.assertEqual((joined[2]["recovered"], joined[2]["why"], joined[2]["from"]), (False, why, 1))
            self.assertEqual([data["text"] for event, _, data in rest if event == "message"], ["a"])

    def test_banned_while_the_cursor_is_looked_up(self) -> None:
        """Who may not see the room any more when the store has answered gets the refusal, and counts as no connection."""
        self.say("a")
        looking: Deferred[Unrecoverable | None] = Deferred()
        self.patch(self.core.history, "check_cursor", lambda log, since: looking)
        wire = self.send(EVENTS, STREAM, ("Authorization", "Bearer alice"), ("Last-Event-ID", f"{self.core.epoch}:9:x"))
        self.core.roles.learn([Standing("lobby", "u1", "alice", banned=FOREVER)])
        looking.callback(None)
        self.turn()

        self.assertEqual(wire.taken()[9:12], b"403")
        self.assertEqual(self.limiter.connections, 0)

    def test_bad_ids(self) -> None:
        """An unsuitable Last-Event-ID gets 400 and counts as no connection."""
        for text in ("x", "a:b:c", ":1:x", "e:-1:x", "e:1.5:x", "e:99999999999999999999:x", "e:\u0661:x"):
            self.assertRaises(BadRequest, read_event_id, text)
        self.assertEqual(self.send(EVENTS, STREAM, ("Last-Event-ID", "x")).taken()[9:12], b"400")
        self.assertEqual(self.limiter.connections, 0)

    def test_heartbeat(self) -> None:
        """A comment in each silence, and silence on the other side means nothing."""
        reader = self.stream()
        reader.events()
        before = reader.comments

        self.pass_time(120)

        self.assertEqual(reader.events(), [])
        self.assertGreaterEqual(reader.comments - before, 4)
        self.assertFalse(reader.wire.disconnecting)

    def test_counted(self) -> None:
        """A stream is a connection: it counts until it is gone, and so does its place in the room."""
        reader = self.stream()

        self.assertEqual((self.limiter.connections, self.get("/api/v1/rooms")["rooms"][0]["members"]), (1, 1))

        reader.wire.leave()
        self.assertEqual((self.limiter.connections, self.get("/api/v1/rooms")["rooms"][0]["members"]), (0, 0))
        self.assertEqual(len(self.core.sessions), 0)

        self.say("to nobody")

    def test_limit(self) -> None:
        """A stream counts as a connection."""
        self.limiter.limits = Limits(connections_per_address=1)

        self.stream()
        reply = self.stream().reply

        self.assertEqual((reply.status, reply.error["code"]), (429, "limit"))

    def test_allowed_page(self) -> None:
        """A page of an allowed origin may read a stream; others get 403."""
        headers = self.stream("", ("Origin", "https://www.test")).reply.headers
        self.assertEqual(headers["access-control-allow-origin"], "https://www.test")
        self.assertEqual(self.stream("", ("Origin", "http://evil.test")).reply.status, 403)

    def test_drained(self) -> None:
        """At a restart it is told to come back, and the connection ends."""
        reader = self.stream()

        reader.events()
        self.successResultOf(self.core.drain.begin())
        ((event, _, data),) = reader.events()

        self.assertEqual((event, data["code"], data["retry"]), ("bye", CloseCode.SERVICE_RESTART, True))
        self.assertTrue(reader.wire.disconnecting)

        reader.wire.leave()
        self.assertEqual(self.limiter.connections, 0)

    def test_token_expires(self) -> None:
        """A stream ends when its token expires."""
        self.tokens.people["brief"] = User(id="u3", name="b", expires=self.core.now_seconds() + 7)
        reader = self.stream("", ("Authorization", "Bearer brief"))

        reader.events()
        self.pass_time(6)

        self.assertEqual(reader.events(), [])

        self.pass_time(3)
        ((event, _, data),) = reader.events()

        self.assertEqual((event, data["code"], data["retry"]), ("bye", CloseCode.UNAUTHENTICATED, False))

    def test_token_revoked(self) -> None:
        """A stream ends when its token is revoked."""
        self.tokens.people["t"] = User(id="u3", name="b", token_id="t1")
        reader = self.stream("", ("Authorization", "Bearer t"))

        reader.events()
        self.core.sessions.end_tokens(["t1"])

        self.assertEqual(reader.events()[0][2]["code"], CloseCode.UNAUTHENTICATED)

    def test_left_while_the_cursor_is_checked(self) -> None:
        """A reader that leaves while its cursor is checked does not become a member."""
        checks: list[Deferred[Unrecoverable | None]] = []

        def check(room: object, since: object) -> Deferred[Unrecoverable | None]:
            checks.append(Deferred())
            return checks[-1]

        self.patch(self.core.history, "check_cursor", check)
        wire = self.send(EVENTS, STREAM, ("Last-Event-ID", "e:1:x"))

        self.assertEqual(self.limiter.connections, 1)

        wire.leave()
        self.assertEqual((self.limiter.connections, len(self.core.sessions)), (0, 0))


class SlowTests(HttpCase):
    """Who does not read costs a position."""

    limits = Limits(
        send_per_second=0, person_per_second=0, query_per_second=0, recent_bytes=20_000, recent_events=50, stalled_seconds=60.0
    )

    def setUp(self) -> None:
        super().setUp()
        self.wire = self.send(EVENTS, STREAM)
        self.reader = Reader(self.wire)
        self.reader.events()

    def test_bounded(self) -> None:
        """5 MB are said while the transport takes nothing: nothing more is written, and afterwards everything comes."""
        self.wire.protocol.pauseProducing()
        for number in range(500):
            self.say(f"{number}:" + "x" * 10_000)

        self.assertEqual(self.wire.value(), b"")

        self.wire.protocol.resumeProducing()
        texts: list[str] = []
        for _ in range(2_000):
            self.clock.advance(0)
            texts += self.reader.texts()
            if len(texts) == 500:
                break

        self.assertEqual([int(text.partition(":")[0]) for text in texts], list(range(500)))

    def test_full_again_and_again(self) -> None:
        """A transport that is full after each write gets one write at a time."""
        self.wire.protocol.pauseProducing()
        for number in range(100):
            self.say(f"{number}:" + "x" * 5_000)
        stream, plain = self.wire.protocol, StringTransport.write
        largest = 0

        def write(data: bytes) -> None:
            plain(self.wire, data)
            if not stream.congested:
                stream.pauseProducing()

        self.wire.write = write  # type: ignore[method-assign]
        self.wire.writeSequence = lambda parts: write(b"".join(parts))  # type: ignore[method-assign]
        texts: list[str] = []

        for _ in range(500):
            stream.resumeProducing()
            self.turn()
            largest = max(largest, len(self.wire.value()))
            texts += self.reader.texts()
            if len(texts) == 100:
                break

        self.assertEqual([int(text.partition(":")[0]) for text in texts], list(range(100)))
        self.assertLess(largest, 150_000)

    def test_stalled(self) -> None:
        """Who takes nothing at all for too long is told to come back, and cut off."""
        self.wire.protocol.pauseProducing()
        self.pass_time(100)

        self.assertTrue(self.wire.aborted)
        self.assertEqual((self.limiter.connections, len(self.core.sessions)), (0, 0))


class EphemeralTests(HttpCase):
    policies = RoomPolicies({"live": RoomPolicy(durable=False)})
    limits = Limits(send_per_second=0, person_per_second=0, query_per_second=0, recent_events=4)

    def test_gap(self) -> None:
        """A slow reader of a room that keeps nothing is told how much is gone."""
        wire = self.send("/api/v1/rooms/live/events", STREAM)
        reader = Reader(wire)

        reader.events()
        wire.protocol.pauseProducing()
        for number in range(20):
            self.say(str(number), "live")
        wire.protocol.resumeProducing()
        self.turn()
        events = reader.events()
        dropped = sum(data["dropped"] for event, _, data in events if event == "gap")

        self.assertGreater(dropped, 0)
        self.assertEqual(dropped + sum(event == "message" for event, _, _ in events), 20)
