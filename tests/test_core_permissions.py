"""The matrix of permissions: each kind of user, each kind of room, each action."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, MODERATOR, ChatHarness, guest
from twisted_chat.core.permissions import Action
from twisted_chat.core.roles import known
from twisted_chat.errors import Banned, Forbidden, NoSuchRoom, SlowMode
from twisted_chat.events import RoomSettings
from twisted_chat.limits import RoomPolicy
from twisted_chat.standings import FOREVER, Standing
from twisted_chat.users import User

USERS = {
    "guest": guest("dora"),
    "user": ALICE,
    "moderator": MODERATOR,
    "admin": User(id="u8", name="root", rights=frozenset({"admin"})),
    "limited": User(id="u5", name="lim", rooms=("open*",)),
}
#: The rooms of the configuration; "old" is archived.
ROOMS = {
    "open": RoomPolicy(),
    "users": RoomPolicy(writers="users"),
    "club": RoomPolicy(writers="members"),
    "news": RoomPolicy(writers="moderators"),
    "staff": RoomPolicy(guests=False),
    "live": RoomPolicy(durable=False),
    "old": RoomPolicy(),
}
TALK = "send edit delete react"
WRITE = f"{TALK} topic"
HELP = "moderate sanction members"
#: What each may do who has no role in the room; None: for that user there is no such room.  Columns in the order of ROOMS.
MATRIX: dict[str, list[str | None]] = {
    "guest": [TALK, "", "", "", None, "send", ""],
    "user": [WRITE, WRITE, "", "", WRITE, "send topic", ""],
    "moderator": [*[f"{WRITE} {HELP}"] * 5, "send topic", f"delete {HELP}"],
    "admin": [*[f"{WRITE} {HELP} settings"] * 5, "send topic", f"delete {HELP} settings"],
    "limited": [WRITE, None, None, None, None, None, None],
}
#: What a user may do with a role there; an ephemeral room has no roles.
ROLES: dict[str, list[str]] = {
    "reader": ["", "", "", "", "", "", ""],
    "member": [WRITE, WRITE, WRITE, "", WRITE, "", ""],
    "moderator": [f"{WRITE} {HELP}"] * 5 + ["", f"delete {HELP}"],
    "owner": [f"{WRITE} {HELP} settings"] * 5 + ["", f"delete {HELP} settings"],
}
#: The same in rooms that are not public; nobody else sees these, whatever the rights.
PRIVATE = {"reader": "", "member": WRITE, "moderator": f"{WRITE} {HELP}", "owner": f"{WRITE} {HELP} settings"}
#: Who is muted may still do this of all that.
MUTED = {"delete", "moderate", "sanction", "members", "settings"}


class MatrixTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.chat = ChatHarness(self, rooms=ROOMS)
        self.core = self.chat.core
        self.core.rooms.find(MODERATOR, "old").set_archived(True)
        self.successResultOf(known(self.core.roles, BOB))

    def stand(self, room: str, role: str | None, muted: int = 0, banned: int = 0) -> None:
        """Bob has that role in the room."""
        self.core.roles.learn([Standing(room, BOB.id, BOB.name, role, muted, banned)])

    def can(self, user: User, room: str) -> str:
        return " ".join(self.core.permissions.can(user, self.core.rooms.find(user, room)))

    def test_what_each_user_may_do_in_each_room(self) -> None:
        """The list of a join, and the answer to each single action, are the same row of the matrix."""
        for name, user in USERS.items():
            for room_name, expected in zip(ROOMS, MATRIX[name], strict=True):
                with self.subTest(user=name, room=room_name):
                    if expected is None:
                        self.assertRaises(NoSuchRoom, self.core.rooms.find, user, room_name)
                    else:
                        self.assertEqual(self.can(user, room_name), expected)

    def test_what_each_role_may_do_in_each_room(self) -> None:
        """Also when its bearer is muted; a ban leaves nothing."""
        for role, row in ROLES.items():
            for room_name, expected in zip(ROOMS, row, strict=True):
                if room_name == "live":
                    continue
                with self.subTest(role=role, room=room_name):
                    self.stand(room_name, role)
                    self.assertEqual(self.can(BOB, room_name), expected)
                    self.stand(room_name, role, muted=FOREVER)
                    self.assertEqual(self.can(BOB, room_name), " ".join(one for one in expected.split() if one in MUTED))
                    self.stand(room_name, role, banned=FOREVER)
                    self.assertRaises(Banned, self.core.rooms.find, BOB, room_name)

    def test_rooms_that_are_not_public(self) -> None:
        """Only people with a role see them; in a conversation all are equal."""
        self.core.rooms.create(ALICE, "p~1", RoomSettings(access="private", title="Plans"))
        self.core.rooms.create(ALICE, "d~1", RoomSettings(access="direct"))
        for user in (*USERS.values(), BOB):
            for name in ("p~1", "d~1"):
                self.assertRaises(NoSuchRoom, self.core.rooms.find, user, name)
        for role, expected in PRIVATE.items():
            with self.subTest(role=role):
                self.stand("p~1", role)
                self.assertEqual(self.can(BOB, "p~1"), expected)
                self.stand("d~1", role)
                self.assertEqual(self.can(BOB, "d~1"), "" if role == "reader" else TALK)

    def test_what_is_not_allowed_is_refused(self) -> None:
        """``check`` raises exactly where ``allowed`` answers no, and names the room or the field."""
        for user in USERS.values():
            for room in self.core.rooms:
                for action in Action:
                    with self.subTest(user=user.name, room=room.name, action=action):
                        refused = False
                        try:
                            self.core.permissions.check(user, action, room)
                        except Forbidden as error:
                            refused = True
                            self.assertRegex(error.message, f"{room.name}|^topic: |keeps nothing")
                        self.assertEqual(refused, not self.core.permissions.allowed(user, action, room))

    def test_commands_ask_for_permission(self) -> None:
        """Each command that appends, of a user who may not, gets ``forbidden`` and changes nothing."""
        client = self.chat.json(USERS["guest"], "news")
        for command in (
            {"type": "send", "text": "x"},
            {"type": "edit", "of": 1, "revision": 1, "text": "x"},
            {"type": "delete", "of": 1},
            {"type": "react", "of": 1, "emoji": "+1"},
            {"type": "topic", "text": "x"},
            {"type": "typing"},
        ):
            with self.subTest(command["type"]):
                answer = client.ask(room="news", type_=str(command.pop("type")), **command)
                self.assertEqual((answer["type"], answer.get("code")), ("error", "forbidden"))
        self.assertEqual(self.chat.log("news"), [])


class SlowModeTests(SynchronousTestCase):
    def test_moderators_are_exempt(self) -> None:
        """Everybody else waits between two messages; what is not remembered any more does not matter."""
        chat = ChatHarness(self, rooms={"slow": RoomPolicy(slow_mode=9)})
        permissions, room = chat.core.permissions, chat.core.rooms.find(ALICE, "slow")

        for user in (ALICE, MODERATOR):
            permissions.check_slow_mode(user, room)

        self.assertRaises(SlowMode, permissions.check_slow_mode, ALICE, room)

        permissions.check_slow_mode(MODERATOR, room)
        chat.pass_time(10)
        permissions.tidy(chat.core.rooms.settings)
        permissions.check_slow_mode(ALICE, room)
