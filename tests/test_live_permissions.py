"""The table of permissions against the running server: everybody, in every kind of room, by every way in, on both stores.

What is allowed is in the log afterwards; what is not has the documented error, and the log and the members are as before.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from twisted.internet.defer import Deferred
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.harness.postgresql import shared
from tests.harness.servers import UNLIMITED, JsonClient, Server, connect
from tests.harness.serving import Served, ServedCase
from tests.harness.waiting import PATIENCE
from twisted_chat.minting import mint
from twisted_chat.stores.urls import make_shared_tokens

CONFIG = f"""{UNLIMITED}
refusals = 1000000
[rooms.ephemeral]
durable = false
"""

#: In the order of the columns below; ``helper`` and ``admin`` have tokens with rights, and no role in any room.
PEOPLE = ["guest", "user", "reader", "member", "moderator", "owner", "helper", "admin", "banned", "muted"]
RIGHTS = {"helper": ["moderate"], "admin": ["admin"]}
ROLES = {"reader": "reader", "moderator": "moderator", "muted": "member", "member": "member"}
TALK = "send edit delete react"
WRITE = f"{TALK} topic"
HELP = "moderate sanction members"
LEAD = f"{WRITE} {HELP}"
OWN = f"{LEAD} settings"
#: Who is banned, and who may not see the room.
BANNED, UNSEEN = "banned", "no_such_room"

#: What each may do, by the kind of room; whoever has an entry other than the last two may also see it.
TABLE: dict[str, list[str]] = {
    #            guest   user    reader  member  moder.  owner  helper  admin   banned  muted
    "public": [TALK, WRITE, "", WRITE, LEAD, OWN, LEAD, OWN, BANNED, "delete"],
    "users": ["", WRITE, "", WRITE, LEAD, OWN, LEAD, OWN, BANNED, "delete"],
    "members": ["", "", "", WRITE, LEAD, OWN, LEAD, OWN, BANNED, "delete"],
    "moderators": ["", "", "", "", LEAD, OWN, LEAD, OWN, BANNED, ""],
    "private": [UNSEEN, UNSEEN, "", WRITE, LEAD, OWN, UNSEEN, UNSEEN, UNSEEN, "delete"],
    # Among equals there are no roles and no sanctions.
    "direct": [UNSEEN, UNSEEN, TALK, TALK, TALK, TALK, UNSEEN, UNSEEN, UNSEEN, TALK],
    # Who moderates may still take away what should not have been said.
    "archived": ["", "", "", "", *[f"delete {HELP}", f"delete {HELP} settings"] * 2, BANNED, ""],
    # It keeps nothing, so it has no roles and no sanctions.
    "ephemeral": ["send", *["send topic"] * 9],
}
#: What somebody who is muted is told so; everything else is forbidden.
TOLD_MUTED = ["send", "edit", "react", "topic"]
#: Where nobody is muted.
NO_MUTES = ["direct", "ephemeral"]
#: What each action adds to the log.
KINDS = {
    "send": "message",
    "edit": "edit",
    "delete": "delete",
    "react": "reaction",
    "topic": "topic",
    "moderate": "delete",
    "sanction": "sanction",
    "members": "member",
    "settings": "room",
}
DEVICE = "device-of-the-guest"
#: Who the guest is, in the query of a request.
GUEST = f"name=guest&device={DEVICE}"

Json = dict[str, Any]


class World:
    """A server with the people and the rooms of the table.

    :ivar rooms: the names of the rooms, by kind; ``own``: two messages of each person in each room; ``others``: what may be moderated.
    """

    def __init__(self, server: Served, store: str) -> None:
        self.server = server
        self.http = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        self.tokens = {name: _token(store, name) for name in [*PEOPLE[1:], "victim"]}
        self.rooms: dict[str, str] = {}
        self.own: dict[tuple[str, str], list[int]] = {}
        self.others: dict[str, list[int]] = {}
        for kind in TABLE:
            self._make(kind)

    def close(self) -> None:
        self.http.close()

    def headers(self, person: str) -> dict[str, str]:
        return {} if person == "guest" else {"Authorization": f"Bearer {self.tokens[person]}"}

    def ask(self, person: str, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        """Status and answer of a request."""
        headers = {**self.headers(person), "Content-Type": "application/json"}
        separator = "&" if "?" in path else "?"
        target = f"/api/v1{path}{separator}{GUEST}" if person == "guest" else f"/api/v1{path}"
        self.http.request(method, target, None if body is None else json.dumps(body), headers)
        answer = self.http.getresponse()
        return answer.status, json.loads(answer.read())

    def done(self, *request: Any) -> Json:
        """The answer to a request that is carried out."""
        status, answer = self.ask(*request)
        assert status in (200, 201), (request, status, answer)
        return answer

    def place(self, kind: str) -> str:
        return f"/rooms/{quote(self.rooms[kind])}"

    def state(self, kind: str) -> tuple[int, Json]:
        """The head of the room and its members."""
        place = self.place(kind)
        head = self.done("owner", "GET", f"{place}/events?limit=1")["head"]
        return head, self.done("owner", "GET", f"{place}/members")

    def added(self, kind: str, after: int) -> list[tuple[str, str]]:
        """Kind and author of what came into the log after that number."""
        events = self.done("owner", "GET", f"{self.place(kind)}/events?after={after}&limit=200")["events"]
        return [(event["kind"], event["by"]["name"]) for event in events]

    def _make(self, kind: str) -> None:
        inside = [name for name, may in zip(PEOPLE, TABLE[kind], strict=True) if may != UNSEEN]
        ids = [f"u-{name}" for name in (*inside, "banned", "victim") if name not in ("guest", "owner")]
        if kind == "ephemeral":
            self.rooms[kind] = kind
            self.own.update(((kind, name), [1, 1]) for name in PEOPLE)
            self.others[kind] = [1] * len(PEOPLE)
            return
        if kind == "direct":
            made = self.done("owner", "POST", "/direct", {"people": [each for each in ids if each != "u-banned"]})
        elif kind == "private":
            made = self.done("owner", "POST", "/rooms", {"access": "private", "title": kind, "people": ids})
        else:
            made = self.done("owner", "POST", "/rooms", {"name": kind})
        self.rooms[kind] = made["room"]
        self._talk(kind, inside)
        if kind != "direct":
            self._govern(kind)

    def _talk(self, kind: str, inside: list[str]) -> None:
        for name in PEOPLE:
            self.own[kind, name] = [self._say(kind, name) for _ in range(2)] if name in inside else [1, 1]
        self.others[kind] = [self._say(kind, "victim") for _ in PEOPLE]

    def _say(self, kind: str, person: str) -> int:
        return int(self.done(person, "POST", f"{self.place(kind)}/events", {"text": f"of {person}"})["seq"])

    def _govern(self, kind: str) -> None:
        place = self.place(kind)
        for name, role in {**ROLES, "victim": "member"}.items():
            self.done("owner", "PUT", f"{place}/members/u-{name}", {"role": role})
        self.done("owner", "POST", f"{place}/sanctions", {"person": "u-muted", "what": "mute"})
        self.done("owner", "POST", f"{place}/sanctions", {"person": "u-banned", "what": "ban"})
        if kind == "archived":
            self.done("owner", "PATCH", place, {"archived": True})
        elif kind in ("users", "members", "moderators"):
            self.done("owner", "PATCH", place, {"writers": kind})


def _token(store: str, name: str) -> str:
    minted = mint(secrets.token_bytes, 1, user=f"u-{name}", name=name, rights=RIGHTS.get(name, ()))
    tokens = make_shared_tokens(store)
    for doing in (tokens.open(), tokens.create_token(minted.record, minted.secret_hash)):
        _now(doing)
    return minted.token


def _now(doing: Deferred[Any]) -> None:
    failures: list[object] = []
    doing.addErrback(failures.append)
    assert not failures, failures


class PermissionsCase(ServedCase):
    """The tests; the subclasses say where the logs are kept."""

    world: ClassVar[World]
    store: ClassVar[str]

    @classmethod
    def tearDownClass(cls) -> None:
        cls.world.close()
        super().tearDownClass()

    def cells(self) -> Iterator[tuple[str, str, str]]:
        """Kind of room, person, and what the person may do there; afterwards log and members are as they should be."""
        for kind, row in TABLE.items():
            for person, may in zip(PEOPLE, row, strict=True):
                head, members = self.world.state(kind)
                self.expected: list[str] = []
                yield kind, person, may
                cell = f"{kind} {person}"
                self.assertEqual(self.world.added(kind, head), [(each, person) for each in self.expected], cell)
                self.assertEqual(self.world.state(kind), (head + len(self.expected), members), cell)

    def expect(self, kind: str, person: str, may: str, action: str) -> str:
        """The code of the error, or nothing and an event more."""
        if may in (BANNED, UNSEEN):
            return may
        if action == "see":
            return ""
        if action in may.split():
            self.expected.append(KINDS[action])
            return ""
        muted = person == "muted" and kind not in NO_MUTES
        return "muted" if muted and action in TOLD_MUTED else "forbidden"

    def test_json(self) -> None:
        """``chat.v1.json`` over a WebSocket: all actions, and what ``can`` says."""
        clients: dict[str, JsonClient] = {}
        for person in PEOPLE:
            options = {"additional_headers": self.world.headers(person)}
            hello = {"device": DEVICE} if person == "guest" else {}
            client = JsonClient(self.server.websocket + "/ws", person, options=options, **hello)
            clients[person] = client.__enter__()
            self.addCleanup(client.__exit__, None, None, None)
        for kind, person, may in self.cells():
            client, name = clients[person], self.world.rooms[kind]
            joined = client.ask({"type": "join", "room": name})
            hidden = self.expect(kind, person, may, "see")
            self.assertEqual(joined.get("code", ""), hidden, (kind, person, "join"))
            self.assertEqual(client.ask({"type": "history", "room": name}).get("code", ""), hidden, (kind, person, "history"))
            if not hidden:
                self.assertEqual(joined["can"], may.split(), (kind, person))
            for action, command in self.commands(kind, person):
                answer = client.ask({"room": name, **command})
                code = self.expect(kind, person, may, action)
                if hidden and action not in ("sanction", "members", "settings"):
                    code = "not_joined"
                self.assertEqual(answer.get("code", ""), code, (kind, person, action, answer))
            if not hidden:
                client.ask({"type": "leave", "room": name})
            client.pushes.clear()

    def commands(self, kind: str, person: str) -> list[tuple[str, Json]]:
        """A command for each action."""
        edited, deleted = self.world.own[kind, person]
        other = self.world.others[kind][PEOPLE.index(person)]
        return [
            ("send", {"type": "send", "text": "x"}),
            ("edit", {"type": "edit", "of": edited, "revision": 1, "text": "y"}),
            ("react", {"type": "react", "of": other, "emoji": "+1"}),
            ("topic", {"type": "topic", "text": f"of {person}"}),
            ("delete", {"type": "delete", "of": deleted}),
            ("moderate", {"type": "delete", "of": other}),
            ("sanction", {"type": "sanction", "person": "u-victim", "what": "kick"}),
            ("members", {"type": "member", "person": "u-victim", "role": "member"}),
            ("settings", {"type": "settings", "title": "x"}),
        ]

    def test_plain(self) -> None:
        """Plain text: the handshake says who may see, and the close code who may not send."""
        for kind, person, may in self.cells():
            url = f"{self.server.websocket}/ws/{quote(self.world.rooms[kind])}?{GUEST}"
            hidden = self.expect(kind, person, may, "see")
            try:
                client = connect(url, additional_headers=self.world.headers(person), compression=None)
            except InvalidStatus as error:
                self.assertEqual(json.loads(error.response.body)["error"]["code"], hidden, (kind, person))
                continue
            with client:
                self.assertEqual(hidden, "", (kind, person))
                client.send("x")
                code = self.expect(kind, person, may, "send")
                try:
                    said = client.recv(PATIENCE)
                except ConnectionClosed as closed:
                    self.assertTrue(code, (kind, person, closed))
                    assert closed.rcvd is not None
                    self.assertEqual(closed.rcvd.code, 4403, (kind, person))
                else:
                    self.assertEqual((code, said), ("", "x"), (kind, person))

    def test_http(self) -> None:
        """The HTTP API: reads, messages, and the requests of rooms with members."""
        for kind, person, may in self.cells():
            place = self.world.place(kind)
            for action, method, path, body in (
                ("see", "GET", "/events", None),
                ("see", "GET", "/events?after=0", None),
                ("see", "GET", "/members", None),
                ("send", "POST", "/events", {"text": "x"}),
                ("sanction", "POST", "/sanctions", {"person": "u-victim", "what": "kick"}),
                ("members", "PUT", "/members/u-victim", {"role": "member"}),
                ("settings", "PATCH", "", {"title": "x"}),
            ):
                status, answer = self.world.ask(person, method, place + path, body)
                code = self.expect(kind, person, may, action)
                self.assertEqual(answer.get("error", {}).get("code", ""), code, (kind, person, action, answer))
                statuses = {"": (200, 201), "no_such_room": (404,)}
                self.assertIn(status, statuses.get(code, (403,)), (kind, person, action))
        for person in PEOPLE:
            listed = {room["name"]: room for room in self.world.done(person, "GET", "/rooms")["rooms"]}
            for kind, row in TABLE.items():
                may, room = row[PEOPLE.index(person)], listed.get(self.world.rooms[kind])
                self.assertEqual(room is None, may == UNSEEN, (kind, person))
                if room is not None and may != BANNED:
                    self.assertEqual(room["can"], may.split(), (kind, person))

    def test_streams(self) -> None:
        """Server-Sent Events: who may see the room gets ``joined``."""
        for kind, person, may in self.cells():
            hidden = self.expect(kind, person, may, "see")
            http = HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
            headers = {**self.world.headers(person), "Accept": "text/event-stream"}
            http.request("GET", f"/api/v1{self.world.place(kind)}/events?tail=2&{GUEST}", headers=headers)
            answer = http.getresponse()
            if answer.status == 200:
                lines = iter(answer.readline, b"")
                first = next(line for line in lines if not line.startswith(b":") and line.strip())
                self.assertEqual((hidden, first), ("", b"event: joined\n"), (kind, person))
                answer.close()
            else:
                self.assertEqual(json.loads(answer.read())["error"]["code"], hidden, (kind, person))
            http.close()


class SQLiteTests(PermissionsCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.world = World(cls.server, f"sqlite:{cls.server.directory}/chat.db")

    @classmethod
    def make_server(cls, directory: Path) -> Served:
        return Server(directory, "--store=sqlite:chat.db", config=CONFIG)


class PostgreSQLTests(PermissionsCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.store = shared().url(shared().new_database())
        super().setUpClass()
        cls.world = World(cls.server, cls.store)

    @classmethod
    def make_server(cls, directory: Path) -> Served:
        return Server(directory, f"--store={cls.store}", config=CONFIG)


del PermissionsCase
