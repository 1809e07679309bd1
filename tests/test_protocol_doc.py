"""``docs/protocol.rst`` is true: its tables are those of the code, and its conversations happen as they stand there."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct, inspect
from msgspec.structs import fields
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ChatHarness, Client, JsonClient, MemoryConnection, PlainClient, guest
from twisted_chat.auth.authenticator import DEVICE_MIN
from twisted_chat.core.rooms import LISTED_ROOMS
from twisted_chat.errors import ERRORS, RETRY_CLOSE_CODES, CloseCode
from twisted_chat.events import (
    Cursor,
    Deleted,
    Edited,
    Entry,
    Event,
    MemberChanged,
    Message,
    Reacted,
    Reaction,
    RoomChanged,
    RoomSettings,
    Sanctioned,
    TopicSet,
)
from twisted_chat.limits import DEVICE_CHARS, Limits
from twisted_chat.protocol import commands, replies
from twisted_chat.protocol.decoder import BATCH_COMMANDS
from twisted_chat.web import api, rooms, routing, session

PATH = Path(__file__).parent.parent / "docs" / "protocol.rst"
TEXT = PATH.read_text()

#: Which list of fields describes which struct: (section, list).
STRUCTS: dict[tuple[str, str], type[Struct]] = {
    ("Cursor", "Cursor"): Cursor,
    ("hello", "Fields"): commands.Hello,
    ("hello", "Answer"): replies.Welcome,
    ("hello", "User"): replies.Me,
    ("hello", "Limits"): replies.WelcomeLimits,
    ("hello", "Rate"): replies.SendRate,
    ("join", "Fields"): commands.Join,
    ("join", "Room in rooms"): commands.JoinRoom,
    ("join", "Answer"): replies.JoinOk,
    ("join", "Answer for several rooms"): replies.JoinAllOk,
    ("join", "Room that could not be joined"): replies.JoinFailed,
    ("leave", "Fields"): commands.Leave,
    ("send", "Fields"): commands.Send,
    ("send", "Answer"): replies.PostOk,
    ("edit", "Fields"): commands.Edit,
    ("delete", "Fields"): commands.Delete,
    ("react", "Fields"): commands.React,
    ("topic", "Fields"): commands.Topic,
    ("rooms", "Fields"): commands.Rooms,
    ("rooms", "Answer"): replies.RoomsOk,
    ("rooms", "Room in the list"): replies.RoomBrief,
    ("history", "Fields"): commands.History,
    ("history", "Answer"): replies.HistoryOk,
    ("presence", "Fields"): commands.Presence,
    ("presence", "Answer"): replies.PresenceOk,
    ("create", "Fields"): commands.Create,
    ("create", "Answer"): replies.RoomOk,
    ("direct", "Fields"): commands.Direct,
    ("settings", "Fields"): commands.Settings,
    ("member", "Fields"): commands.Member,
    ("sanction", "Fields"): commands.Sanction,
    ("members", "Fields"): commands.Members,
    ("members", "Answer"): replies.MembersOk,
    ("members", "Member"): replies.MemberBrief,
    ("sanctions", "Fields"): commands.Sanctions,
    ("sanctions", "Answer"): replies.SanctionsOk,
    ("sanctions", "Sanction"): replies.SanctionBrief,
    ("typing", "Fields"): commands.Typing,
    ("read", "Fields"): commands.Read,
    ("read", "Answer"): replies.ReadOk,
    ("ping", "Fields"): commands.Ping,
    ("pong", "Fields"): commands.Pong,
    ("bye", "Fields"): commands.Bye,
    ("error", "Fields"): replies.Error,
    ("live", "Fields"): replies.LivePush,
    ("gap", "Fields"): replies.GapPush,
    ("removed (push)", "Fields"): replies.RemovedPush,
    ("rights (push)", "Fields"): replies.RightsPush,
    ("room (push)", "Fields"): replies.RoomPush,
    ("typing (push)", "Fields"): replies.TypingPush,
    ("read (push)", "Fields"): replies.ReadPush,
    ("presence (push)", "Fields"): replies.PresencePush,
    ("presence (push)", "Person"): replies.Present,
    ("ping (push)", "Fields"): replies.PingPush,
    ("pong (push)", "Fields"): replies.PongPush,
    ("bye (push)", "Fields"): replies.ByePush,
    ("message", "Fields"): Message,
    ("message", "Reaction"): Reaction,
    ("edit (event)", "Fields"): Edited,
    ("delete (event)", "Fields"): Deleted,
    ("reaction (event)", "Fields"): Reacted,
    ("topic (event)", "Fields"): TopicSet,
    ("room (event)", "Fields"): RoomChanged,
    ("room (event)", "Settings"): RoomSettings,
    ("member (event)", "Fields"): MemberChanged,
    ("sanction (event)", "Fields"): Sanctioned,
    ("``GET /api/v1/rooms``", "Query"): api.RoomsQuery,
    ("``GET /api/v1/rooms``", "Answer"): api.RoomList,
    ("``GET /api/v1/rooms``", "Room"): api.RoomInfo,
    ("``GET /api/v1/rooms/{room}/events``", "Query"): api.EventsQuery,
    ("``GET /api/v1/rooms/{room}/events``", "Answer"): api.Events,
    ("``POST /api/v1/rooms/{room}/events``", "Body"): api.SendBody,
    ("``POST /api/v1/rooms/{room}/events``", "Answer"): api.SendResult,
    ("``POST /api/v1/rooms``", "Body"): rooms.CreateBody,
    ("``POST /api/v1/rooms``", "Answer"): rooms.RoomFound,
    ("``POST /api/v1/direct``", "Body"): rooms.DirectBody,
    ("``PATCH /api/v1/rooms/{room}``", "Body"): rooms.SettingsBody,
    ("``PATCH /api/v1/rooms/{room}``", "Answer"): rooms.Changed,
    ("``GET /api/v1/rooms/{room}/members``", "Query"): rooms.MembersQuery,
    ("``GET /api/v1/rooms/{room}/members``", "Answer"): rooms.MemberList,
    ("``PUT /api/v1/rooms/{room}/members/{person}``", "Body"): rooms.RoleBody,
    ("``POST /api/v1/rooms/{room}/sanctions``", "Body"): rooms.SanctionBody,
    ("``POST /api/v1/rooms/{room}/sanctions``", "Answer of GET"): rooms.SanctionList,
    ("``GET /api/v1/session``", "Event open"): session.Opened,
    ("``GET /api/v1/session``", "Event close"): session.Closed,
    ("``POST /api/v1/session/{session}``", "Query"): session.FrameQuery,
    ("``POST /api/v1/session/{session}``", "Answer"): session.Taken,
}
#: Fields that stand in one place for all.
COMMON = {field.encode_name for field in fields(Entry)}


def lists() -> dict[tuple[str, str], list[str]]:
    """The lists of fields in the document: section and name of the list, and the fields in their order."""
    found: dict[tuple[str, str], list[str]] = {}
    section = name = ""
    lines = TEXT.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if below and line and set(below) <= set("=-~") and len(below) == len(line):
            section, name = line, ""
        elif heading := re.fullmatch(r"\*\*(.+)\*\*", line):
            name = heading[1]
            found[section, name] = []
        elif name and (field := re.fullmatch(r"``(\w+)``", line)) and below.startswith("    "):
            found[section, name].append(field[1])
    return found


def table(header: str) -> list[list[str]]:
    """The rows of the csv-table whose header begins so."""
    _, _, rest = TEXT.partition(f':header: "{header}"')
    body = rest.partition("\n\n")[2].partition("\n\n")[0]
    return [
        [cell.strip("` ") for cell in row]
        for row in csv.reader((line.strip() for line in body.splitlines()), skipinitialspace=True)
    ]


#: What clients write, in the order of the table of types.
INPUTS = [
    *get_args(commands.AnyCommand),
    commands.JoinRoom,
    Cursor,
    routing.Who,
    api.RoomsQuery,
    api.EventsQuery,
    api.SendBody,
    rooms.CreateBody,
    rooms.DirectBody,
    rooms.SettingsBody,
    rooms.MembersQuery,
    rooms.RoleBody,
    rooms.SanctionBody,
    session.FrameQuery,
]


def described(kind: inspect.Type) -> str:
    """A type and its bounds, as the document writes them."""
    match kind:
        case inspect.IntType(ge=least, le=most):
            return f"integer, {_number(least)} to {_number(most)}"
        case inspect.StrType(min_length=None, max_length=None):
            return "text, at most ``text_bytes`` in UTF-8"
        case inspect.StrType(min_length=least, max_length=most):
            return f"text, at most {most} characters" if least is None else f"text, {least} to {most} characters"
        case inspect.BytesType():
            return "base64, at most ``text_bytes`` of data"
        case inspect.BoolType():
            return "boolean"
        case inspect.StructType(cls=cls):
            return f"object: {_title(cls)}"
        case inspect.VarTupleType(item_type=item, max_length=most):
            return f"array, at most {most:,} of: {described(item)}"
        case inspect.UnionType(types=types):
            told = [each for each in types if not (isinstance(each, inspect.NoneType) or _is_absence(each))]
            return "; or ".join(described(each) for each in told)
        case inspect.FloatType():
            return "number"
    raise AssertionError(kind)


def _is_absence(kind: inspect.Type) -> bool:
    """The type of a field that may be left out, in a way that is told apart from null."""
    return isinstance(kind, inspect.CustomType) and kind.cls is msgspec.UnsetType


def _number(bound: int | float | None) -> str:
    names = {
        2**53 - 1: "2\N{SUPERSCRIPT FIVE}\N{SUPERSCRIPT THREE} - 1",
        -(2**53) + 1: "-2\N{SUPERSCRIPT FIVE}\N{SUPERSCRIPT THREE} + 1",
    }
    assert bound is not None
    return names.get(int(bound), str(bound))


def _title(struct: type[Struct]) -> str:
    others = {commands.JoinRoom: "room of join", Cursor: "cursor", routing.Who: "HTTP query of a guest"}
    others |= {
        api.RoomsQuery: "HTTP query of rooms",
        api.EventsQuery: "HTTP query of events",
        api.SendBody: "HTTP body of a message",
        rooms.CreateBody: "HTTP body of a new room",
        rooms.DirectBody: "HTTP body of a conversation",
        rooms.SettingsBody: "HTTP body of settings",
        rooms.MembersQuery: "HTTP query of members",
        rooms.RoleBody: "HTTP body of a role",
        rooms.SanctionBody: "HTTP body of a sanction",
        session.FrameQuery: "HTTP query of a frame",
    }
    return others[struct] if struct in others else str(struct.__struct_config__.tag)


def types_table() -> list[list[str]]:
    """The rows that the document's table of types must have."""
    rows = [["any command", "id", described(inspect.type_info(commands.Id)), "no"]]
    for struct in INPUTS:
        info = inspect.type_info(struct)
        assert isinstance(info, inspect.StructType)
        rows += [
            [_title(struct), field.encode_name, described(field.type), "yes" if field.required else "no"]
            for field in info.fields
            if not (field.encode_name == "id" and issubclass(struct, commands.Command))
        ]
    return rows


class TablesTests(SynchronousTestCase):
    def test_every_struct_is_described(self) -> None:
        """Each command, answer, push and kind of event of the vocabulary."""
        described = set(STRUCTS.values())
        spoken = {*get_args(commands.AnyCommand), *get_args(replies.Answer), *get_args(replies.Push), *get_args(Event)}

        self.assertEqual(spoken - described, {replies.Ok})

        for (section, name), struct in STRUCTS.items():
            tag = struct.__struct_config__.tag
            if name == "Fields" and struct is not replies.Error:
                self.assertEqual(section.partition(" ")[0], tag)

    def test_every_field_is_described(self) -> None:
        """And no field is described that does not exist."""
        found = lists()

        self.assertEqual(found.pop(("event", "Fields")), ["room", "kind", *(field.encode_name for field in fields(Entry))])
        self.assertEqual(set(found), set(STRUCTS))
        for place, struct in STRUCTS.items():
            names = {field.encode_name for field in fields(struct)}
            if issubclass(struct, Entry):
                names -= COMMON
            elif place[1] == "Fields" or place[1].startswith("Answer"):
                names.discard("id")
            self.assertEqual(set(found[place]) - {"type"}, names, place)

    def test_errors(self) -> None:
        """The table of errors has the codes, statuses, close codes and retries of the code."""
        rows = [(code, int(status), int(close), retry) for code, status, close, retry, _ in table('code", "HTTP')]
        self.assertEqual(
            rows, [(error.code, error.http_status, error.close_code, "yes" if error.retry else "no") for error in ERRORS]
        )

    def test_close_codes(self) -> None:
        """The table of close codes is complete, and says which of them mean a reconnect."""
        rows = {int(code): action for code, _, action in table('code", "meaning')}
        self.assertEqual(list(rows), sorted({*map(int, CloseCode), 1006}))
        self.assertEqual(
            {code for code, action in rows.items() if action == "reconnects"}, {int(code) for code in RETRY_CLOSE_CODES}
        )

    def test_types_and_bounds(self) -> None:
        """Each field that a client may write, as the code checks it."""
        found = table('where", "field')
        self.assertEqual(found, [[cell.strip("` ") for cell in row] for row in types_table()])
        self.assertIn(f"A string of {DEVICE_MIN} to {DEVICE_CHARS} characters", TEXT)

    def test_limits(self) -> None:
        """The defaults of the limits on the page are those of the code."""
        for name, default, _ in table("limit"):
            self.assertEqual(str(getattr(Limits(), name)), default, name)
        self.assertIn(f"at most {BATCH_COMMANDS:,} commands", TEXT)
        self.assertIn(f"at most {LISTED_ROOMS:,}", TEXT)


def conversations() -> Iterator[tuple[int, list[str]]]:
    """The scripts in the document, with their line numbers."""
    lines = TEXT.splitlines()
    for number, line in enumerate(lines):
        if line == "::":
            end = number + 2
            while lines[end].startswith("    "):
                end += 1
            yield number + 3, [each.strip() for each in lines[number + 2 : end]]


class Play:
    """Holds one conversation with a chat in memory."""

    def __init__(self, case: SynchronousTestCase) -> None:
        self.case = case
        self.chat = ChatHarness(case, Limits())
        self.clients: dict[str, Client] = {}
        self.waiting: dict[str, list[Any]] = {}
        self.known: dict[str, dict[str, str]] = {}

    def run(self, line: str) -> None:
        if opened := re.fullmatch(r"== (\w+) opens (\S+)( as chat\.v1\.json)?( and is in (\w+))?", line):
            self.open(opened[1], opened[2], bool(opened[3]), opened[5])
        elif lost := re.fullmatch(r"== (\w+) loses the connection", line):
            self.clients[lost[1]].lose()
        elif passed := re.fullmatch(r"== (\d+) seconds pass", line):
            self.chat.pass_time(int(passed[1]))
        elif line == "== the server restarts":
            self.chat.core.drain.begin()
            self.chat.turn()
        elif closed := re.fullmatch(r"== (\w+) is closed with (\d+)", line):
            self.case.assertEqual(self.clients[closed[1]].closed, int(closed[2]))
        elif said := re.fullmatch(r"(\w+) +-> (.+)", line):
            self.say(said[1], said[2])
        elif heard := re.fullmatch(r"(\w+) +<- (.+)", line):
            self.hear(heard[1], heard[2])
        else:
            raise AssertionError(f"not understood: {line}")

    def open(self, name: str, url: str, json: bool, room: str | None) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        user = guest(name)
        connection = MemoryConnection()
        if not json:
            self.clients[name] = self.chat.plain(
                user,
                parts.path.rpartition("/")[2],
                connection=connection,
                names="names" in query,
                history=int(query.get("history", ["0"])[0]),
            )
        elif room is None:
            self.clients[name] = self.chat.stranger(guest(f"{name}-1"), connection=connection)
        else:
            self.clients[name] = self.chat.json(user, room, connection=connection)
        self.waiting[name] = []

    def say(self, name: str, what: str) -> None:
        client = self.clients[name]
        if isinstance(client, PlainClient):
            client.say(what)
            return
        assert isinstance(client, JsonClient)
        client.say(self.filled(name, what).encode())

    def hear(self, name: str, what: str) -> None:
        client = self.clients[name]
        waiting = self.waiting[name]
        if not waiting:
            assert isinstance(client, PlainClient | JsonClient)
            waiting += client.take()
        self.case.assertTrue(waiting, f"{name} hears nothing, expected {what}")
        got = waiting.pop(0)
        if isinstance(client, PlainClient):
            self.case.assertEqual(got, what)
            return
        expected = msgspec.json.decode(
            self.filled(name, what.replace(",…}", ',"…":0}').replace(":…", ':"…"').replace("[…]", '["…"]'))
        )
        if not same(got, expected):
            raise AssertionError(f"{name} hears {msgspec.json.encode(got).decode()}")
        known = self.known.setdefault(name, {})
        known["epoch"] = got.get("epoch", known.get("epoch"))
        if got["type"] == "event":
            known["id"] = got["id"]

    def filled(self, name: str, what: str) -> str:
        for word, value in self.known.get(name, {}).items():
            what = what.replace(f"${word}", str(value))
        return what

    def end(self) -> None:
        for name, client in self.clients.items():
            assert isinstance(client, PlainClient | JsonClient)
            self.case.assertEqual(self.waiting[name] + client.take(), [], f"{name} hears more than the document says")


def same(got: Any, expected: Any) -> bool:
    """Whether they are equal, where ``…`` stands for anything (in an object: for further fields)."""
    if isinstance(expected, str) and "…" in expected:
        pattern = ".*".join(map(re.escape, expected.split("…")))
        return not isinstance(got, str) or re.fullmatch(pattern, got, re.DOTALL) is not None
    if isinstance(expected, dict) and isinstance(got, dict):
        more = expected.pop("…", None) is not None
        return (more or set(got) == set(expected)) and all(key in got and same(got[key], expected[key]) for key in expected)
    if isinstance(expected, list) and isinstance(got, list):
        return expected == ["…"] or (len(got) == len(expected) and all(map(same, got, expected)))
    return bool(got == expected)


class ConversationsTests(SynchronousTestCase):
    def test_they_happen_as_they_stand_there(self) -> None:
        """Line by line; nobody hears anything that is not written down."""
        count = 0
        for number, lines in conversations():
            play = Play(self)
            for offset, line in enumerate(lines):
                try:
                    play.run(line)
                except Exception as error:
                    raise AssertionError(f"docs/protocol.rst:{number + offset}: {line}\n{error}") from error
            try:
                play.end()
            except Exception as error:
                raise AssertionError(f"docs/protocol.rst:{number}: {error}") from error
            count += 1
        self.assertGreaterEqual(count, 6)


class ArchitectureTests(SynchronousTestCase):
    def test_what_it_names_is_there(self) -> None:
        """Each path exists, and each module of core and protocol is described."""
        text = PATH.with_name("architecture.rst").read_text()
        package = PATH.parent.parent / "twisted_chat"

        for name in set(re.findall(r"[a-z_]+(?:/[a-z_]+)*\.py", text)):
            places = [package.parent / name, *(package / below / name for below in ("", "core", "protocol"))]
            self.assertTrue(any(place.exists() for place in places), name)
        for layer in ("core", "protocol"):
            names = {path.name for path in (package / layer).glob("*.py")} - {"__init__.py"}
            self.assertEqual({name for name in names if f"{name}``" not in text}, set())
