"""How messages look on their way to another node."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.bus import (
    BusMessage,
    Device,
    DeviceConnected,
    EphemeralEvents,
    EventsRemoved,
    NodeAlive,
    NodeGone,
    NodeState,
    Presence,
    PresenceChanged,
    ReadMarkMoved,
    StateWanted,
    TypingNoticed,
    decode_messages,
    encode_messages,
)
from twisted_chat.events import Author, Message, TopicSet

ANN = Author("u1", "ann")
MESSAGES: list[BusMessage] = [
    PresenceChanged("n", 1, Presence("lobby", ANN, 2)),
    DeviceConnected("n", 2, Device("u1", "d", 3)),
    NodeState("n", 2, 1, 1, [Presence("", ANN, 1)], [Device("u1", "d", 3)]),
    StateWanted("n"),
    NodeAlive("n", 1, 2, 3, {"person": {"u1": 4}}),
    NodeGone("n"),
    TypingNoticed("lobby", "u1", "ann", False),
    ReadMarkMoved("lobby", "u1", 7, "n:1"),
    EventsRemoved("lobby", 5),
    EphemeralEvents(
        "n",
        1,
        "loud",
        [
            Message(1, "a", 2, ANN, "k", text="x\n\u2028"),
            Message(2, "b", 2, ANN, data=b"\0\xff"),
            TopicSet(seq=3, id="c", at=2, by=ANN, text="t"),
        ],
    ),
]


class BusMessagesTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """Each kind of message; all of them in one array."""
        self.assertEqual({type(message) for message in MESSAGES}, set(BusMessage.__args__))  # type: ignore[attr-defined]
        self.assertEqual(decode_messages(encode_messages(MESSAGES)), MESSAGES)

    def test_those_of_another_version(self) -> None:
        """A kind that this version does not know, or one that has changed, is left out; a field more is no harm."""
        encoded = (
            b'[{"type":"Future","node":"n"},{"type":"NodeGone","node":7},[1],'
            b'{"type":"NodeAlive","node":"n","number":1,"version":2,"at":3,"more":4},{"type":"NodeGone","node":"n"}]'
        )

        self.assertEqual(decode_messages(encoded), [NodeAlive("n", 1, 2, 3), NodeGone("n")])

    def test_what_is_no_array(self) -> None:
        for encoded in (b"", b"{}", b"[", b"7", b'[{"type":"NodeGone","node":"n"}'):
            self.assertRaises(msgspec.DecodeError, decode_messages, encoded)
