"""The log by plain HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.address import IPv6Address
from twisted.internet.defer import fail

from tests.harness.http_chat import ALICE, HttpCase
from tests.harness.http_memory import Reply, Wire, handshake
from twisted_chat.errors import Unavailable
from twisted_chat.limits import Limits, RoomPolicies, RoomPolicy
from twisted_chat.users import User

EVENTS = "/api/v1/rooms/lobby/events"
AS_ALICE = ("Authorization", "Bearer alice")
JSON = ("Content-Type", "application/json")


class ReadTests(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        for number in range(1, 8):
            self.say(f"line {number}")

    def seqs(self, query: str) -> list[int]:
        return [event["seq"] for event in self.get(EVENTS + query)["events"]]

    def test_log(self) -> None:
        """Part by part from any number on; ``next`` is where to go on."""
        part = self.get(EVENTS + "?after=2&limit=3")

        self.assertEqual([event["text"] for event in part["events"]], ["line 3", "line 4", "line 5"])
        self.assertEqual((part["room"], part["head"], part["first"], part["next"]), ("lobby", 7, 1, 5))
        self.assertEqual(self.seqs("?after=5&limit=3"), [6, 7])
        self.assertEqual(self.get(EVENTS + "?after=7")["next"], 7)
        self.assertEqual(self.seqs("?after=100"), [])

    def test_pages(self) -> None:
        """A page has the newest events, or those before or around a number."""
        page = self.get(EVENTS + "?limit=3")

        self.assertEqual([event["seq"] for event in page["events"]], [5, 6, 7])
        self.assertEqual((page["more_before"], page["more_after"]), (True, False))
        self.assertEqual(self.seqs("?before=3"), [1, 2])
        self.assertEqual(self.seqs("?around=4&limit=3"), [3, 4, 5])

    def test_same_event_everywhere(self) -> None:
        """An event has the same JSON over HTTP as in the JSON dialect."""
        event = self.get(EVENTS + "?after=6")["events"][0]
        self.assertEqual((event["kind"], event["text"], event["by"]["name"]), ("message", "line 7", "bob"))
        self.assertEqual(set(event), {"kind", "seq", "id", "at", "by", "text"})

    def test_bad_queries(self) -> None:
        """An unsuitable value in the query gets 400 with the name of the field."""
        for query, field in (
            ("?after=-1", "after"),
            ("?after=x", "after"),
            ("?after=1.5", "after"),
            ("?after=99999999999999999999", "after"),
            ("?limit=0", "limit"),
            ("?limit=", "limit"),
            ("?after=1&after=2", "after"),
            ("?after=1&before=2", "after"),
            ("?name=%ff", "name"),
        ):
            with self.subTest(query):
                reply = self.ask(EVENTS + query)
                self.assertEqual((reply.status, reply.error["code"]), (400, "bad_request"))
                self.assertIn(field, reply.error["message"])

    def test_limit_is_bounded(self) -> None:
        """A larger limit than the server's gives pages of the server's limit."""
        self.core.configure(Limits(history=2, query_per_second=0), self.policies)
        self.assertEqual(self.seqs("?after=0&limit=1000000"), [1, 2])
        self.assertEqual(self.seqs("?limit=1000000"), [6, 7])

    def test_bad_rooms(self) -> None:
        """A name that no room can have gets 400."""
        for room in ("%00", "..", "%ff", "a%20b", "%E2%80%AE"):
            self.assertEqual(self.ask(f"/api/v1/rooms/{room}/events").status, 400)

    def test_rooms(self) -> None:
        """Rooms are listed by name, in parts, by prefix, with what the user may do."""
        self.say("hello", "kitchen")
        rooms = self.get("/api/v1/rooms")["rooms"]

        self.assertEqual([(room["name"], room["head"]) for room in rooms], [("kitchen", 1), ("lobby", 7)])
        self.assertEqual(rooms[0]["can"], ["send", "edit", "delete", "react"])
        first = self.get("/api/v1/rooms?limit=1")
        self.assertEqual(([room["name"] for room in first["rooms"]], first["next"]), (["kitchen"], "kitchen"))
        rest = self.get("/api/v1/rooms?after=kitchen")
        self.assertEqual(([room["name"] for room in rest["rooms"]], "next" in rest), (["lobby"], False))
        self.assertEqual([room["name"] for room in self.get("/api/v1/rooms?prefix=lob")["rooms"]], ["lobby"])


class SeenTests(HttpCase):
    policies = RoomPolicies({"staff": RoomPolicy(guests=False), "news": RoomPolicy(writers="moderators")}, create=False)

    def test_unseen_room_is_like_none(self) -> None:
        """A room that one may not see is refused word for word like one that does not exist."""
        for method, body in (("GET", b""), ("POST", b"x")):
            unseen = self.ask("/api/v1/rooms/staff/events", ("Content-Type", "text/plain"), method=method, body=body)
            none = self.ask("/api/v1/rooms/other/events", ("Content-Type", "text/plain"), method=method, body=body)
            self.assertEqual((unseen.status, unseen.error["code"]), (404, "no_such_room"))
            self.assertEqual(unseen.body, none.body.replace(b"other", b"staff"))

    def test_seen_by_others(self) -> None:
        """A room for some is served to them and hidden from a token for other rooms."""
        self.assertEqual(self.ask("/api/v1/rooms/staff/events", AS_ALICE).status, 200)

        self.tokens.people["narrow"] = User(id="u5", name="n", rooms=("news",))
        self.assertEqual(self.ask("/api/v1/rooms/staff/events", ("Authorization", "Bearer narrow")).status, 404)

        names = [room["name"] for room in self.get("/api/v1/rooms", ("Authorization", "Bearer narrow"))["rooms"]]
        self.assertNotIn("staff", names)

    def test_may_not_write(self) -> None:
        """Writing where the user may not gets 403."""
        reply = self.ask("/api/v1/rooms/news/events", AS_ALICE, ("Content-Type", "text/plain"), method="POST", body=b"x")
        self.assertEqual((reply.status, reply.error["code"]), (403, "forbidden"))

    def test_bad_token(self) -> None:
        """An unknown token gets 401 with a challenge."""
        reply = self.ask("/api/v1/rooms", ("Authorization", "Bearer unknown"))
        self.assertEqual((reply.status, "www-authenticate" in reply.headers), (401, True))


class NoGuestsTests(HttpCase):
    guests = False

    def test_token_needed(self) -> None:
        """Without guests the API needs a token, the page does not."""
        self.assertEqual(self.ask("/api/v1/rooms").status, 401)
        self.assertEqual(self.ask(EVENTS, ("Content-Type", "text/plain"), method="POST", body=b"x").status, 401)
        self.assertEqual(self.ask("/api/v1/rooms", AS_ALICE).status, 200)
        # The page itself is for everybody: there one signs in.
        self.assertEqual(self.ask("/").status, 200)


class SayTests(HttpCase):
    def post(self, body: bytes, *headers: tuple[str, str], query: str = "?name=bob&device=12345678") -> Reply:
        return self.ask(EVENTS + query, *headers, method="POST", body=body)

    def test_text(self) -> None:
        """A text that is posted is on disk when the answer is 201."""
        said = self.say("héllo")

        self.assertEqual((said["room"], said["seq"], said["duplicate"]), ("lobby", 1, False))

        event = self.get(EVENTS)["events"][0]
        self.assertEqual((event["id"], event["text"], event["by"]["name"]), (said["event"], "héllo", "bob"))

    def test_json(self) -> None:
        """A message can be a JSON object, of which unknown fields are ignored."""
        self.say("first")
        reply = self.post(b'{"text":"hi","reply_to":1,"unknown":true}', JSON)

        self.assertEqual(reply.status, 201)

        event = self.get(EVENTS + "?after=1")["events"][0]
        self.assertEqual((event["text"], event["reply_to"]), ("hi", 1))

    def test_binary(self) -> None:
        """Data comes and goes in base64."""
        self.assertEqual(self.post(b'{"data":"AAEC"}', JSON).status, 201)
        self.assertEqual(self.get(EVENTS)["events"][0]["data"], "AAEC")

    def test_who(self) -> None:
        """The author is the user of the token."""
        self.ask(EVENTS, AS_ALICE, ("Content-Type", "text/plain"), method="POST", body=b"x")
        self.assertEqual(self.get(EVENTS)["events"][0]["by"], {"id": ALICE.id, "name": "alice"})

    def test_key(self) -> None:
        """Sent again, it is said once, and the first result comes back."""
        key = ("Idempotency-Key", "k-1")
        first = self.post(b"once", ("Content-Type", "text/plain"), key)

        again = self.post(b"once", ("Content-Type", "text/plain"), key)

        self.assertEqual((first.status, again.status), (201, 200))

        one, two = msgspec.json.decode(first.body), msgspec.json.decode(again.body)
        self.assertEqual(two, {**one, "duplicate": True})
        self.assertEqual(len(self.get(EVENTS)["events"]), 1)

    def test_key_of_nobody(self) -> None:
        """A guest without a device is somebody else each time: the key could not keep its promise."""
        reply = self.post(b"x", ("Content-Type", "text/plain"), ("Idempotency-Key", "k"), query="?name=bob")
        self.assertEqual(reply.status, 400)
        self.assertIn("device", reply.error["message"])

    def test_bad_keys(self) -> None:
        """An unsuitable Idempotency-Key gets 400."""
        for key in ("", "x" * 65, "\x7f", "é", '""'):
            self.assertEqual(self.post(b"x", ("Content-Type", "text/plain"), ("Idempotency-Key", key)).status, 400)

    def test_bad_bodies(self) -> None:
        """Bodies of another type, length or form are refused with the right status, and nothing is appended."""
        for body, kind, status in (
            (b"x", "", 415),
            (b"x", "application/x-www-form-urlencoded", 415),
            (b"text=x", "multipart/form-data; boundary=x", 400),
            (b"{", "application/json", 400),
            (b"[]", "application/json", 400),
            (b"{}", "application/json", 400),
            (b'{"text":""}', "application/json", 400),
            (b'{"text":1}', "application/json", 400),
            (b'{"text":"a","data":"AA=="}', "application/json", 400),
            (b'{"data":"?"}', "application/json", 400),
            (b'{"text":"\\ud800"}', "application/json", 400),
            (b"[" * 100_000, "application/json", 413),
            (b"[" * 50_000, "application/json", 400),
            (b"\xff", "text/plain", 400),
            (b"x", "text/plain; charset=utf-16", 415),
            (b"x", "text/plain; charset=latin-1", 415),
            (b"\xff", "application/json", 400),
            (b'{"text":"\xff"}', "application/json", 400),
            (b'{"\xff":1}', "application/json; charset=utf-8", 400),
            (b"x" * 16_385, "text/plain", 413),
            (b"x" * 200_000, "text/plain", 413),
        ):
            with self.subTest(body=body[:30], kind=kind):
                headers = [("Content-Type", kind)] if kind else []
                self.assertEqual(self.post(body, *headers).status, status)
        self.assertEqual(self.get(EVENTS)["events"], [])

    def test_longest_text(self) -> None:
        """The longest text fits in a request, also when every character is escaped."""
        body = b'{"text":"' + b"\\u0041" * 16_384 + b'"}'
        self.assertEqual(self.post(body, JSON).status, 201)

    def test_store_gone(self) -> None:
        """A post that the store cannot take is answered 503, with the advice to try again."""
        self.store.append = lambda batch: _failed()  # type: ignore[method-assign,assignment,return-value]

        reply = self.post(b"x", ("Content-Type", "text/plain"))

        self.assertEqual((reply.status, reply.error["code"], reply.error["retry"]), (503, "unavailable", True))
        self.assertIn("retry-after", reply.headers)

    def test_draining(self) -> None:
        """While the server stops, posts get 503."""
        self.core.drain.began = True
        self.assertEqual(self.post(b"x", ("Content-Type", "text/plain")).status, 503)


def _failed() -> object:
    return fail(Unavailable("disk full"))


class DeviceTests(HttpCase):
    """One bound for a guest's device, whichever way it comes."""

    def assert_status(self, target: str, status: int) -> None:
        self.assertEqual(self.ask(target).status, status)

    def test_longest(self) -> None:
        """A device of 64 characters is accepted."""
        self.assert_status(f"{EVENTS}?device={'d' * 64}", 200)

    def test_too_long(self) -> None:
        """A device of 65 characters is refused by the API."""
        self.assert_status(f"{EVENTS}?device={'d' * 65}", 400)

    def test_too_long_for_a_socket(self) -> None:
        """A device of 65 characters is refused by a handshake."""
        answer = Wire(self.site).deliver(handshake(b"/ws?device=" + b"d" * 65))

        self.assertEqual(Reply(answer).status, 400)


class RateTests(HttpCase):
    limits = Limits(person_burst=3, person_per_second=1.0, query_burst=4, query_per_second=1.0)

    def test_saying(self) -> None:
        """A guest cannot escape the rate by a new name."""
        for number in range(3):
            self.say("x", query=f"?name=n{number}")
        reply = self.ask(EVENTS, ("Content-Type", "text/plain"), method="POST", body=b"x")

        self.assertEqual((reply.status, reply.error["code"], reply.error["retry"]), (429, "rate_limited", True))
        self.assertEqual((reply.headers["retry-after"], reply.error["retry_after_ms"]), ("1", 1000))

        self.pass_time(1)
        self.say("x")

    def test_asking(self) -> None:
        """Reads beyond the rate of queries get 429; the page does not count."""
        for _ in range(4):
            self.get(EVENTS)
        self.assertEqual(self.ask(EVENTS).status, 429)
        self.assertEqual(self.ask("/").status, 200)


class AddressRateTests(HttpCase):
    """One household or virtual machine has a whole IPv6 ``/64``: its addresses share one rate."""

    limits = Limits(person_burst=3, person_per_second=1.0, query_burst=4, query_per_second=1.0)

    def statuses(self, block: str, **options: Any) -> set[int]:
        """Each request from another address of the block."""
        peers = [IPv6Address("TCP", f"{block}::{number:x}", 1) for number in range(1, 20)]
        return {self.ask(EVENTS, ("Content-Type", "text/plain"), peer=peer, **options).status for peer in peers}

    def test_reading(self) -> None:
        """Addresses of one IPv6 /64 share the rate of reads."""
        self.assertEqual(self.statuses("2001:db8:1:2"), {200, 429})

    def test_writing(self) -> None:
        """Addresses of one IPv6 /64 share the rate of messages."""
        self.assertEqual(self.statuses("2001:db8:1:2", method="POST", body=b"x"), {201, 429})

    def test_those_who_are_idle_are_forgotten(self) -> None:
        """Rates that have recovered need no memory."""
        for number in range(50):
            peer = IPv6Address("TCP", f"2001:db8:1:{number:x}::1", 1)
            self.ask(EVENTS, peer=peer)
            self.ask(EVENTS, ("Content-Type", "text/plain"), peer=peer, method="POST", body=b"x")
        self.assertGreaterEqual(self.api.remembered, 100)

        self.pass_time(130)

        self.assertEqual(self.api.remembered, 0)

    def test_others(self) -> None:
        """The next block of addresses has a rate of its own."""
        self.statuses("2001:db8:1:2")

        self.assertEqual(self.ask(EVENTS, peer=IPv6Address("TCP", "2001:db8:1:3::1", 1)).status, 200)


class DescriptionTests(HttpCase):
    def test_openapi(self) -> None:
        """Made from the structs: each route, its fields, and one shape of error."""
        described = self.get("/api/v1/openapi.json")

        self.assertEqual(described["openapi"], "3.1.0")
        sessions = {"/api/v1/session", "/api/v1/session/{session}"}
        room = "/api/v1/rooms/{room}"
        members = {room, "/api/v1/direct", f"{room}/members", f"{room}/members/{{person}}", f"{room}/sanctions"}
        self.assertEqual(set(described["paths"]), {"/api/v1/rooms", f"{room}/events", *members, *sessions})

        events = described["paths"]["/api/v1/rooms/{room}/events"]
        names = {parameter["name"] for parameter in events["get"]["parameters"]}

        self.assertEqual(names, {"room", "after", "before", "around", "limit", "tail", "name", "device", "Last-Event-ID"})
        self.assertIn("text/event-stream", events["get"]["responses"]["200"]["content"])
        self.assertIn("Idempotency-Key", {parameter["name"] for parameter in events["post"]["parameters"]})

        schemas = described["components"]["schemas"]
        self.assertEqual(set(schemas["SendBody"]["properties"]), {"text", "data", "reply_to"})
        self.assertIn("Message", schemas)

        text = msgspec.json.encode(described).decode()
        for used in {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}:
            self.assertIn(used, schemas)
