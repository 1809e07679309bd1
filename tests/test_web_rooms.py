"""Rooms with members by HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from twisted.internet.defer import Deferred, succeed

from tests.harness.chat import BOB, CAROL
from tests.harness.http_chat import HttpCase
from tests.harness.http_memory import Reply
from twisted_chat.core.governing import NoDirectory

JSON = ("Content-Type", "application/json")


class Directory(NoDirectory):
    """Knows the two by name."""

    def name_of(self, person: str) -> Deferred[str | None]:
        return succeed({BOB.id: BOB.name, CAROL.id: CAROL.name}.get(person))


class RoomsCase(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.tokens.people |= {"bob": BOB, "carol": CAROL}
        self.patch(self.core.governing, "_directory", Directory())

    def call(self, method: str, path: str, body: object = None, *, by: str = "alice", headers: Any = ()) -> Reply:
        """A request of somebody with a JSON body."""
        given = [("Authorization", f"Bearer {by}"), *headers]
        data = b"" if body is None else msgspec.json.encode(body)
        return self.ask(f"/api/v1/{path}", *given, *([JSON] if data else []), method=method, body=data)

    def ok(self, reply: Reply, status: int = 200) -> Any:
        self.assertEqual(reply.status, status, reply.body)
        return msgspec.json.decode(reply.body)

    def refused(self, reply: Reply, status: int, code: str, words: str = "") -> None:
        self.assertEqual((reply.status, reply.error["code"]), (status, code), reply.body)
        self.assertIn(words, reply.error["message"])

    def private(self) -> str:
        made = self.ok(self.call("POST", "rooms", {"access": "private", "title": "Plans", "people": [BOB.id]}), 201)
        return str(made["room"])


class RoomsTests(RoomsCase):
    def test_a_private_room(self) -> None:
        """It is made, listed for its members, read and written by them, and is nothing for others."""
        name = self.private()
        (listed,) = self.ok(self.call("GET", "rooms", by="bob"))["rooms"]
        self.assertEqual(
            (listed["name"], listed["title"], listed["access"], listed["role"]), (name, "Plans", "private", "member")
        )
        self.assertEqual(self.ok(self.call("GET", "rooms", by="carol"))["rooms"], [])
        self.ok(self.call("POST", f"rooms/{name}/events", {"text": "hello"}, by="bob"), 201)
        events = self.ok(self.call("GET", f"rooms/{name}/events"))["events"]
        self.assertEqual([event["kind"] for event in events], ["room", "member", "member", "message"])
        for method, path, body in (
            ("GET", f"rooms/{name}/events", None),
            ("POST", f"rooms/{name}/events", {"text": "x"}),
            ("PATCH", f"rooms/{name}", {"title": "x"}),
            ("GET", f"rooms/{name}/members", None),
            ("PUT", f"rooms/{name}/members/{CAROL.id}", {"role": "owner"}),
            ("DELETE", f"rooms/{name}/members/{BOB.id}", None),
            ("DELETE", f"rooms/{name}/members/{CAROL.id}", None),
            ("GET", f"rooms/{name}/sanctions", None),
            ("POST", f"rooms/{name}/sanctions", {"person": BOB.id, "what": "ban"}),
        ):
            with self.subTest(method=method, path=path):
                self.refused(self.call(method, path, body, by="carol"), 404, "no_such_room")

    def test_roles_and_sanctions(self) -> None:
        name = self.private()
        self.ok(self.call("PUT", f"rooms/{name}/members/{CAROL.id}", {"role": "reader"}))
        self.refused(self.call("POST", f"rooms/{name}/events", {"text": "x"}, by="carol"), 403, "forbidden")
        members = self.ok(self.call("GET", f"rooms/{name}/members?limit=2", by="carol"))
        self.assertEqual([member["role"] for member in members["members"]], ["owner", "member"])
        rest = self.ask_after(f"rooms/{name}/members", members["next"])
        self.assertEqual([member["name"] for member in rest["members"]], ["carol"])
        self.ok(self.call("POST", f"rooms/{name}/sanctions", {"person": BOB.id, "what": "mute"}), 201)
        self.refused(self.call("POST", f"rooms/{name}/events", {"text": "x"}, by="bob"), 403, "muted")
        self.assertEqual([each["id"] for each in self.ok(self.call("GET", f"rooms/{name}/sanctions"))["sanctions"]], [BOB.id])
        self.refused(self.call("GET", f"rooms/{name}/sanctions", by="bob"), 403, "forbidden")
        self.ok(self.call("DELETE", f"rooms/{name}/members/{CAROL.id}", by="carol"))
        self.refused(self.call("GET", f"rooms/{name}/events", by="carol"), 404, "no_such_room")
        self.refused(self.call("DELETE", f"rooms/{name}/members/u1"), 409, "conflict", "owner")

    def ask_after(self, path: str, after: str) -> Any:
        return self.ok(self.call("GET", f"{path}?after={quote(after)}"))

    def test_settings(self) -> None:
        name = self.private()
        self.ok(self.call("PATCH", f"rooms/{name}", {"title": "More plans", "writers": "moderators", "slow_mode": None}))
        self.refused(self.call("POST", f"rooms/{name}/events", {"text": "x"}, by="bob"), 403, "forbidden")
        self.refused(self.call("PATCH", f"rooms/{name}", {"title": "x"}, by="bob"), 403, "forbidden", "owner")
        (listed,) = self.ok(self.call("GET", "rooms"))["rooms"]
        self.assertEqual(listed["title"], "More plans")

    def test_direct(self) -> None:
        first = self.ok(self.call("POST", "direct", {"people": [BOB.id]}))
        self.assertEqual(self.ok(self.call("POST", "direct", {"people": ["u1"]}, by="bob")), first)

    def test_keys(self) -> None:
        """A request that is sent again with its key is done once, also the one that makes a private room."""
        key = [("Idempotency-Key", "k-1")]
        body = {"access": "private", "title": "Plans"}
        first, again = (self.ok(self.call("POST", "rooms", body, headers=key), 201) for _ in range(2))
        self.assertEqual(first, again)
        path = f"rooms/{first['room']}/members/{BOB.id}"
        other = [("Idempotency-Key", "k-2")]
        put, repeated = (self.ok(self.call("PUT", path, {"role": "member"}, headers=other)) for _ in range(2))
        self.assertEqual((put["seq"], put["duplicate"], repeated["seq"], repeated["duplicate"]), (3, False, 3, True))

    def test_bad_requests(self) -> None:
        """Each names the field and changes nothing."""
        name = self.private()
        before = self.ok(self.call("GET", f"rooms/{name}/events"))["head"]
        for method, path, body, status, words in (
            ("POST", "rooms", {"access": "private"}, 400, "title"),
            ("POST", "rooms", {"name": "x" * 300}, 400, "name"),
            ("POST", "rooms", {"name": "p~0123"}, 400, "room"),
            ("POST", "direct", {"people": []}, 400, "people"),
            ("POST", "direct", {"people": ["u2"] * 200}, 400, "people"),
            ("PATCH", f"rooms/{name}", {"writers": "x"}, 400, "writers"),
            ("PATCH", f"rooms/{name}", {"archived": 1}, 400, "archived"),
            ("PUT", f"rooms/{name}/members/%00", {"role": "member"}, 400, "person"),
            ("PUT", f"rooms/{name}/members/{BOB.id}", {"role": "king"}, 400, "role"),
            ("POST", f"rooms/{name}/sanctions", {"person": BOB.id, "what": "x"}, 400, "what"),
            ("POST", f"rooms/{name}/sanctions", {"person": BOB.id, "what": "ban", "until": -1}, 400, "until"),
            ("GET", f"rooms/{name}/members?limit=0", None, 400, "limit"),
        ):
            with self.subTest(method=method, path=path, body=body):
                reply = self.call(method, path, body)
                self.assertEqual(reply.status, status, reply.body)
                self.assertIn(words, reply.error["message"])
        self.assertEqual(self.ok(self.call("GET", f"rooms/{name}/events"))["head"], before)

    def test_pages_of_others(self) -> None:
        """A page of another site makes no room, and a form cannot be posted at all."""
        body = b'{"access":"private","title":"x"}'
        with_origin = ("Origin", "https://evil.test")
        reply = self.ask("/api/v1/rooms", ("Authorization", "Bearer alice"), JSON, with_origin, method="POST", body=body)
        self.refused(reply, 403, "forbidden")
        plain = ("Content-Type", "text/plain")
        reply = self.ask("/api/v1/rooms", ("Authorization", "Bearer alice"), plain, method="POST", body=body)
        self.assertEqual(reply.status, 415)

    def test_guests(self) -> None:
        reply = self.ask("/api/v1/rooms?name=dora", JSON, method="POST", body=b'{"access":"private","title":"x"}')
        self.refused(reply, 403, "forbidden", "guests")
