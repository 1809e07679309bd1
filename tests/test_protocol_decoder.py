"""Frames of ``chat.v1.json`` become commands, or say what is wrong with them."""

from __future__ import annotations

import json

import msgspec
from msgspec import UNSET
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.protocol.commands import Leave, Ping, Send
from twisted_chat.protocol.decoder import BATCH_COMMANDS, Wrong, commands_in


class DecodingTests(SynchronousTestCase):
    def wrong(self, text: bytes) -> tuple[object, str, str]:
        [command] = commands_in(text)
        assert isinstance(command, Wrong), command
        return command.id, command.error.code, command.error.message

    def test_one(self) -> None:
        """A frame with an object is one command; what it does not know is ignored."""
        text = b' {"type":"send","id":3,"room":"lobby","text":"hi","colour":"red"}'
        self.assertEqual(commands_in(text), [Send(id=3, room="lobby", text="hi")])

    def test_several(self) -> None:
        """A frame with an array is several, in their order."""
        text = b' [{"type":"ping"},{"type":"leave","id":"a","room":"den"}]'
        self.assertEqual(commands_in(text), [Ping(), Leave(id="a", room="den")])

    def test_one_wrong_of_several(self) -> None:
        """One that is wrong does not spoil the others."""
        first, second, third = commands_in(b'[{"type":"ping","id":1},{"type":"leave","id":2},{"type":"ping","id":3}]')

        self.assertEqual((first, third), (Ping(id=1), Ping(id=3)))
        assert isinstance(second, Wrong)
        self.assertEqual((second.id, second.error.message), (2, "Object missing required field `room`"))

    def test_names_the_field(self) -> None:
        """The field and what was expected are in the message, the id in the answer."""
        self.assertEqual(self.wrong(b'{"type":"leave","id":7,"room":3}'), (7, "bad_request", "room: Expected `str`, got `int`"))

    def test_errors_repeat_little(self) -> None:
        """Whatever a frame of the greatest length has in any field, its error is short."""
        long = "x" * 60_000
        commands: list[dict[str, object]] = [{"type": long, "id": 1}]
        for kind in ("hello", "join", "send", "react", "edit", "topic", "history", "presence", "typing", "read"):
            for field in (
                "id",
                "room",
                "rooms",
                "text",
                "emoji",
                "version",
                "token",
                "seq",
                "on",
                "since",
                "limit",
                "of",
                "revision",
            ):
                values: list[object] = [long, [long], {long: long}]
                commands += [{"type": kind, "room": "lobby", field: value} for value in values]

        decoded = [each for command in commands for each in commands_in(json.dumps(command).encode())]

        messages = [each.error.message for each in decoded if isinstance(each, Wrong)]
        self.assertGreater(len(messages), 150)
        self.assertLess(max(map(len, messages)), 200)

    def test_unknown_type(self) -> None:
        """A command that does not exist is called by its name."""
        self.assertEqual(
            self.wrong(b'{"type":"shout","id":7}'), (7, "unknown_type", "type: 'shout' is not a command of chat.v1.json")
        )

    def test_no_json(self) -> None:
        """Anything else is no JSON, and has no id."""
        for text in (b"hello", b"", b"[1,", b'{"type":', b"\xff"):
            found, code, message = self.wrong(text)
            self.assertEqual((found, code), (UNSET, "bad_request"), text)
            self.assertTrue(message, text)

    def test_nested_deeply(self) -> None:
        """Brackets without end are refused like anything else."""
        self.assertEqual(self.wrong(b"[" * 60_000)[1], "bad_request")
        self.assertEqual(self.wrong(b'{"a":' * 60_000)[1], "bad_request")

    def test_too_many(self) -> None:
        """One frame may not take a whole turn, right or wrong."""
        for one in (b'{"type":"ping"}', b'{"type":"?"}'):
            self.assertEqual(self.wrong(b"[" + b",".join([one] * (BATCH_COMMANDS + 1)) + b"]")[1], "too_big")
            self.assertEqual(len(commands_in(b"[" + b",".join([one] * BATCH_COMMANDS) + b"]")), BATCH_COMMANDS)

    def test_huge_numbers(self) -> None:
        """Numbers that a JavaScript client could not tell apart are refused, as an id too."""
        self.assertEqual(self.wrong(b'{"type":"read","room":"lobby","seq":9007199254740992}')[1], "bad_request")
        self.assertEqual(self.wrong(b'{"type":"ping","id":9007199254740992}')[:2], (UNSET, "bad_request"))
        self.assertEqual(msgspec.json.decode(b"9007199254740991"), 2**53 - 1)
