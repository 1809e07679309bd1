"""A session of ``chat.v1.json`` by HTTP: frames down as Server-Sent Events, up by numbered posts."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel

from tests.harness.http_chat import ALICE, HttpCase
from tests.harness.http_memory import Reply, Wire
from tests.test_web_sse import Reader
from twisted_chat.core.presence import GRACE_SECONDS
from twisted_chat.errors import CloseCode
from twisted_chat.limits import Limits
from twisted_chat.protocol.frames import payloads, text_frame
from twisted_chat.users import Credential, User
from twisted_chat.web.session import POSTS_BURST

PATH = "/api/v1/session"
JSON = ("Content-Type", "application/json")
WWW = ("Origin", "https://www.test")
AS_ALICE = ("Authorization", "Bearer alice")


class Stream:
    """A client with its stream and the posts that it sends."""

    def __init__(self, case: HttpCase, *headers: tuple[str, str], query: str = "") -> None:
        self.case = case
        self.headers = headers
        self.wire = case.send(PATH + query, *headers)
        self.reader = Reader(self.wire)
        self.reply = self.reader.reply
        self.number = 0
        opened = self.reader.events() if self.reply.status == 200 else []
        self.id = opened[0][2]["session"] if opened else ""

    def post(self, frame: Any, number: int | None = None, *headers: tuple[str, str], id: str | None = None) -> Wire:
        """A post under way."""
        if number is None:
            self.number += 1
            number = self.number
        body = frame if isinstance(frame, bytes) else msgspec.json.encode(frame)
        target = f"{PATH}/{id or self.id}?n={number}"
        return self.case.send(target, *(headers or self.headers), JSON, method="POST", body=body)

    def say(self, frame: Any, number: int | None = None, *headers: tuple[str, str], id: str | None = None) -> Reply:
        """A post and its answer."""
        raw = self.post(frame, number, *headers, id=id).taken()
        self.case.assertTrue(raw, "no answer yet")
        return Reply(raw)

    def heard(self) -> list[Any]:
        """The objects that came, in order."""
        self.case.turn()
        found = []
        for event, _, data in self.reader.events():
            if event == "message":
                found += data if isinstance(data, list) else [data]
            else:
                found.append({"event": event, **data})
        return found

    def ask(self, command: dict[str, Any]) -> Any:
        """Say it; the answer with its id."""
        self.case.assertEqual(self.say({"id": 1, **command}).status, 200)
        (answer,) = [each for each in self.heard() if each.get("id") == 1]
        return answer

    def hello(self, **more: Any) -> Any:
        return self.ask({"type": "hello", **more})


class SessionCase(HttpCase):
    def inside(self, name: str, *headers: tuple[str, str], **more: Any) -> Stream:
        """A client that is in the lobby."""
        stream = Stream(self, *headers)
        stream.hello(name=name, **more)
        stream.ask({"type": "join", "room": "lobby", "tail": 10})
        stream.heard()
        return stream


class TalkingTests(SessionCase):
    def test_opening(self) -> None:
        """The stream tells the session's id, a new one each time, and has the headers of every stream."""
        one, other = Stream(self, WWW), Stream(self)

        self.assertEqual(one.reply.status, 200)
        self.assertEqual(one.reply.headers["content-type"], "text/event-stream; charset=utf-8")
        self.assertEqual(one.reply.headers["cache-control"], "no-store")
        self.assertEqual(one.reply.headers["access-control-allow-origin"], "https://www.test")
        self.assertGreaterEqual(len(one.id), 32)
        self.assertNotEqual(one.id, other.id)

    def test_two_talk(self) -> None:
        """All of the protocol is there: what one sends is acknowledged and comes to both, in one order."""
        alice = self.inside("alice", capabilities=["batch"])
        bob = self.inside("bob")

        reply = alice.say([{"type": "send", "room": "lobby", "id": n, "key": f"k{n}", "text": f"t{n}"} for n in (7, 8)])

        self.assertEqual((reply.status, msgspec.json.decode(reply.body)), (200, {"taken": 3}))
        heard = alice.heard()
        self.assertEqual([each["seq"] for each in heard if each["type"] == "ok"], [1, 2])
        self.assertEqual([each["text"] for each in heard if each["type"] == "event"], ["t7", "t8"])
        self.assertEqual([each["text"] for each in bob.heard() if each["type"] == "event"], ["t7", "t8"])

    def test_as_whom(self) -> None:
        """A token goes into the header or the hello; guests say their name."""
        self.assertEqual(Stream(self, AS_ALICE).hello()["user"]["id"], ALICE.id)
        self.assertEqual(Stream(self).hello(token="alice")["user"]["id"], ALICE.id)
        self.assertEqual(Stream(self, query="?name=bob").hello()["user"]["name"], "bob")

    def test_presence(self) -> None:
        """Who is there by HTTP is there like everybody else, until the stream ends."""
        bob = self.inside("bob")
        alice = self.inside("alice")
        self.assertEqual(bob.ask({"type": "presence", "room": "lobby"})["count"], 2)

        alice.wire.leave()
        self.pass_time(GRACE_SECONDS + 1)

        self.assertEqual(bob.ask({"type": "presence", "room": "lobby"})["count"], 1)
        self.assertEqual((len(self.sessions), self.limiter.connections), (1, 1))

    def test_the_end(self) -> None:
        """A goodbye ends the stream; what is posted later finds no session."""
        alice = self.inside("alice")

        self.assertEqual(alice.say({"type": "bye", "id": 9}).status, 200)

        self.assertEqual(alice.heard(), [{"type": "ok", "id": 9}, {"event": "close", "code": 1000, "reason": "bye"}])
        self.assertEqual(alice.say({"type": "ping"}).status, 404)
        self.assertEqual((len(self.sessions), self.limiter.connections, len(self.core.sessions)), (0, 0, 0))

    def test_silence(self) -> None:
        """A client that answers no ping is given up, as on a WebSocket."""
        alice = self.inside("alice")

        self.pass_time(26)
        self.assertEqual([each["type"] for each in alice.heard()], ["ping"])
        alice.say({"type": "pong"})
        self.pass_time(26)
        self.assertEqual([each["type"] for each in alice.heard()], ["ping"])
        self.pass_time(26)

        self.assertEqual((alice.wire.aborted, len(self.sessions)), (True, 0))

    def test_no_hello(self) -> None:
        """Who opens a stream and says nothing is given up soon."""
        alice = Stream(self)

        self.pass_time(11)

        self.assertEqual(alice.heard()[-1], {"event": "close", "code": CloseCode.NO_HELLO, "reason": "no hello"})

    def test_a_slow_reader(self) -> None:
        """Who does not read is a position: nothing is kept for it, its posts wait, and then it has everything."""
        alice = self.inside("alice")
        alice.wire.protocol.pauseProducing()

        for n in range(3):
            self.say(f"t{n}")
        waiting = alice.post({"type": "ping", "id": 5})

        self.assertEqual((alice.heard(), waiting.taken()), ([], b""))

        alice.wire.protocol.resumeProducing()

        self.assertEqual([each["text"] for each in alice.heard() if each["type"] == "event"], ["t0", "t1", "t2"])
        self.assertEqual(Reply(waiting.taken()).status, 200)


class NumberTests(SessionCase):
    def test_a_replay(self) -> None:
        """A post that is sent again is answered, and done once."""
        alice = self.inside("alice")
        send = {"type": "send", "room": "lobby", "id": 4, "text": "once"}

        replies = [alice.say(send, 3) for _ in range(3)]

        self.assertEqual([msgspec.json.decode(reply.body) for reply in replies], [{"taken": 3}] * 3)
        self.assertEqual([each["text"] for each in alice.heard() if each["type"] == "event"], ["once"])

    def test_a_gap(self) -> None:
        """A post that came before the one before it is refused, and nothing has happened."""
        alice = self.inside("alice")

        reply = alice.say({"type": "send", "room": "lobby", "text": "early"}, 4)

        self.assertEqual((reply.status, reply.error["code"], reply.error["message"]), (409, "conflict", "n: the next frame is 3"))
        self.assertEqual(alice.heard(), [])
        self.assertEqual(alice.say({"type": "ping"}, 3).status, 200)

    def test_what_is_no_number(self) -> None:
        """A post without a suitable number gets 400 that names the field."""
        alice = Stream(self)
        for number in ("0", "-1", "x", "", "9007199254740992"):
            reply = self.ask(f"{PATH}/{alice.id}?n={number}", JSON, method="POST", body=b"{}")
            self.assertEqual((reply.status, reply.error["message"][:2]), (400, "n:"), number)
        self.assertEqual(self.ask(f"{PATH}/{alice.id}", JSON, method="POST", body=b"{}").status, 400)


class BusyTests(SessionCase):
    def setUp(self) -> None:
        super().setUp()
        self.logins: list[Deferred[User]] = []

        def identify(credential: Credential) -> Deferred[User]:
            self.logins.append(Deferred())
            return self.logins[-1]

        self.patch(self.core, "identify", identify)

    def test_a_post_behind_the_hello(self) -> None:
        """While the token is checked, one post waits; sent again, the later one waits in its place."""
        alice = Stream(self)
        alice.say({"type": "hello", "id": 1, "token": "slow"})
        first = alice.post({"type": "ping", "id": 2}, 2)
        again = alice.post({"type": "ping", "id": 2}, 2)
        self.assertEqual((Reply(first.taken()).status, again.taken()), (409, b""))

        self.logins[0].callback(ALICE)
        self.turn()

        self.assertEqual(Reply(again.taken()).status, 200)
        self.assertEqual([each["id"] for each in alice.heard()], [1, 2])

    def test_who_leaves_meanwhile(self) -> None:
        """A post whose sender has gone is not done; a stream that ends has no post waiting."""
        alice = Stream(self)
        alice.say({"type": "hello", "id": 1, "token": "slow"})
        alice.post({"type": "ping", "id": 2}, 2).leave()
        bob = Stream(self)
        bob.say({"type": "hello", "id": 1, "token": "slow"})
        waiting = bob.post({"type": "ping", "id": 2}, 2)

        bob.wire.leave()
        self.turn()
        self.assertEqual(Reply(waiting.taken()).status, 404)

        self.logins[0].callback(ALICE)
        self.assertEqual([each["id"] for each in alice.heard()], [1])
        self.assertEqual(alice.say({"type": "ping", "id": 3}, 2).status, 200)
        self.assertEqual([each["id"] for each in alice.heard()], [3])


class RefusedTests(SessionCase):
    limits = Limits(connections_per_address=3, frame_bytes=20_000, text_bytes=1_000)

    def test_wrong_ids(self) -> None:
        """Of sessions that never were, have ended, or belong to another credential, one learns nothing: 404 for all."""
        alice = Stream(self, AS_ALICE)
        gone = Stream(self)
        gone.wire.leave()
        replies = [
            alice.say({"type": "ping"}, 1, AS_ALICE, id="A" * 32),
            alice.say({"type": "ping"}, 1, AS_ALICE, id="%00%FF"),
            gone.say({"type": "ping"}),
            alice.say({"type": "ping"}, 1, WWW),
            alice.say({"type": "ping"}, 1, ("Authorization", "Bearer op")),
        ]

        self.assertEqual([reply.status for reply in replies], [404] * 5)
        self.assertEqual(len({reply.body for reply in replies}), 1)
        # The next one comes over a new connection, behind which there may be the server that has the session.
        self.assertEqual([reply.headers["connection"] for reply in replies], ["close"] * 5)
        self.assertEqual(alice.say({"type": "ping"}).status, 200)

    def test_origins(self) -> None:
        """Pages of other sites neither open a session nor post to one."""
        evil = ("Origin", "https://evil.test")
        alice = Stream(self)

        self.assertEqual(Stream(self, evil).reply.status, 403)
        self.assertEqual(alice.say({"type": "ping"}, 1, evil).status, 403)
        self.assertEqual(alice.say({"type": "ping"}, 1, WWW).status, 200)
        self.assertEqual(Stream(self, ("Cookie", "chat_token=alice"), evil).reply.status, 403)

    def test_preflight(self) -> None:
        """A page of an allowed origin may send what a post needs."""
        reply = self.ask(PATH + "/x", WWW, ("Access-Control-Request-Method", "POST"), method="OPTIONS")

        self.assertEqual((reply.status, reply.headers["access-control-allow-methods"]), (204, "POST, OPTIONS"))
        self.assertIn("Content-Type", reply.headers["access-control-allow-headers"])

    def test_admission(self) -> None:
        """Who is not let in on a WebSocket is not let in here: bad tokens, full addresses, a server that goes down."""
        self.assertEqual(Stream(self, ("Authorization", "Bearer nobody")).reply.status, 401)

        streams = [Stream(self) for _ in range(4)]
        self.assertEqual([stream.reply.status for stream in streams], [200, 200, 200, 429])

        streams[0].wire.leave()
        self.limiter.draining = True
        refused = Stream(self).reply

        self.assertEqual((refused.status, refused.error["code"]), (503, "unavailable"))

    def test_head(self) -> None:
        """HEAD opens nothing."""
        self.assertEqual(self.ask(PATH, method="HEAD").status, 200)
        self.assertEqual((len(self.sessions), self.limiter.connections), (0, 0))

    def test_bodies(self) -> None:
        """What is too big, is no UTF-8, or has another type is refused and may be sent again rightly."""
        alice = Stream(self)

        self.assertEqual(alice.say(b" " * 20_001, 1).status, 413)
        self.assertEqual(alice.say(b"\xff", 1).status, 400)
        target = f"{PATH}/{alice.id}?n=1"
        self.assertEqual(self.ask(target, ("Content-Type", "text/plain"), method="POST", body=b"{}").status, 415)
        self.assertEqual(alice.say(b"nonsense", 1).status, 200)
        self.assertEqual([each["code"] for each in alice.heard()], ["bad_request"])

    def test_the_log(self) -> None:
        """The access log has no ids, which are secrets, and posts only where somebody debugs."""
        alice = Stream(self)
        alice.say({"type": "ping"})
        alice.wire.leave()

        self.assertNotIn(alice.id, str(self.lines))
        posts = [line for line in self.lines if line["method"] == "POST"]
        self.assertEqual([(line["log_level"], line["path"]) for line in posts], [(LogLevel.debug, "/api/v1/session/-")])

    def test_rates(self) -> None:
        """Too many posts are refused with a time to wait; then it goes on with the same number."""
        alice = Stream(self)
        replies = [alice.say({"type": "ping"}) for _ in range(POSTS_BURST + 1)]

        self.assertEqual([reply.status for reply in replies], [200] * POSTS_BURST + [429])
        self.assertEqual((replies[-1].error["code"], replies[-1].error["retry_after_ms"]), ("rate_limited", 50))

        self.pass_time(1)

        self.assertEqual(alice.say({"type": "ping"}, POSTS_BURST + 1).status, 200)

    def test_a_session_that_is_ended(self) -> None:
        """A server that closes the session says why, in the protocol and at the end of the stream."""
        alice = self.inside("alice")

        for session in self.core.sessions:
            session.close(CloseCode.RESTART, "restart")

        bye, close = alice.heard()
        self.assertEqual((bye["type"], bye["code"], bye["retry"]), ("bye", CloseCode.RESTART, True))
        self.assertEqual(close, {"event": "close", "code": CloseCode.RESTART, "reason": "restart"})


class PayloadTests(HttpCase):
    def test_of_all_lengths(self) -> None:
        """Every form of a frame's length."""
        texts = [b"x" * length for length in (0, 1, 125, 126, 65_535, 65_536)]
        self.assertEqual(payloads(b"".join(map(text_frame, texts))), texts)
