"""The matrix of permissions: each kind of user, each kind of room, each action."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, MODERATOR, ChatHarness, guest
from twisted_chat.core.permissions import Action
from twisted_chat.errors import Forbidden, NoSuchRoom, SlowMode
from twisted_chat.limits import RoomPolicy
from twisted_chat.users import User

USERS = {
    "guest": guest("dora"),
    "user": ALICE,
    "moderator": MODERATOR,
    "limited": User(id="u5", name="lim", rooms=("open*",)),
}
ROOMS = {
    "open": RoomPolicy(),
    "users": RoomPolicy(writers="users"),
    "news": RoomPolicy(writers="moderators"),
    "staff": RoomPolicy(guests=False),
    "live": RoomPolicy(durable=False),
    "old": RoomPolicy(),
}
WRITE = "send edit delete react"
#: What each may do; None: for that user there is no such room.  Columns in the order of ROOMS; "old" is archived.
MATRIX: dict[str, list[str | None]] = {
    "guest": [WRITE, "", "", None, "send", ""],
    "user": [f"{WRITE} topic", f"{WRITE} topic", "", f"{WRITE} topic", "send topic", ""],
    "moderator": [
        f"{WRITE} topic moderate",
        f"{WRITE} topic moderate",
        f"{WRITE} topic moderate",
        f"{WRITE} topic moderate",
        "send topic moderate",
        "moderate",
    ],
    "limited": [f"{WRITE} topic", None, None, None, None, None],
}


class MatrixTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.chat = ChatHarness(self, rooms=ROOMS)
        self.core = self.chat.core
        self.core.rooms.find(MODERATOR, "old").set_archived(True)

    def test_what_each_user_may_do_in_each_room(self) -> None:
        """The list of a join, and the answer to each single action, are the same row of the matrix."""
        for name, user in USERS.items():
            for room_name, expected in zip(ROOMS, MATRIX[name], strict=True):
                if expected is None:
                    self.assertRaises(NoSuchRoom, self.core.rooms.find, user, room_name)
                    continue
                room = self.core.rooms.find(user, room_name)
                with self.subTest(user=name, room=room_name):
                    self.assertEqual(" ".join(self.core.permissions.can(user, room)), expected)

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
        permissions.tidy()
        permissions.check_slow_mode(ALICE, room)
