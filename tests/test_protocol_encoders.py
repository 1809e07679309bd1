"""How events look on the wire, and where a write that was cut short goes on."""

from __future__ import annotations

from zlib import decompressobj

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.events import Author, Edited, Event, Message
from twisted_chat.protocol import encoders
from twisted_chat.protocol.encoders import Encoding, JsonBatchEncoding, JsonEncoding, NamedTextEncoding, TextEncoding
from twisted_chat.protocol.frames import BARE, DEFLATED

ANN = Author("u1", "änn")
EVENTS: list[Event] = [
    Message(1, "x-1", 5, ANN, "k", "hé"),
    Edited(seq=2, id="x-2", at=6, by=ANN, of=1, revision=2, text="hm"),
    Message(3, "x-3", 7, ANN, None, None, b"\0\xff"),
    Message(4, "x-4", 8, ANN, None, gone=True),
    Message(5, "x-5", 9, ANN, None, "x" * 300),
    Message(6, "x-6", 9, ANN, None, "y" * 70_000, reply_to=1),
]
ALL = (TextEncoding, NamedTextEncoding, JsonEncoding, JsonBatchEncoding)


def payloads(wire: bytes) -> list[tuple[int, bytes]]:
    """First byte and payload of each frame, decompressed."""
    found = []
    while wire:
        first, length, start = wire[0], wire[1], 2
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(wire[2:start], "big")
        payload = wire[start : start + length]
        if len(payload) != length:
            raise AssertionError("the last frame is not whole")
        if first & 0x40:
            payload = decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
        found.append((first & 0xBF, payload))
        wire = wire[start + length :]
    return found


class EncodingsTests(SynchronousTestCase):
    def test_plain_text_is_bare(self) -> None:
        """Texts and bytes; what is no message, or gone, is nothing."""
        for encoding, prefix in ((TextEncoding, ""), (NamedTextEncoding, "änn: ")):
            whole = encoding("lobby")
            self.assertEqual(
                payloads(whole.join(whole.items(EVENTS))),
                [(0x81, f"{prefix}hé".encode()), (0x82, b"\0\xff")]
                + [(0x81, (prefix + text).encode()) for text in ("x" * 300, "y" * 70_000)],
            )

    def test_json(self) -> None:
        """The room stands in the event; absent fields are absent."""
        whole = JsonEncoding('l"obby')
        [first, *_] = [msgspec.json.decode(payload) for _, payload in payloads(whole.join(whole.items(EVENTS)))]
        self.assertEqual(
            first,
            {
                "type": "event",
                "room": 'l"obby',
                "kind": "message",
                "seq": 1,
                "id": "x-1",
                "at": 5,
                "by": {"id": "u1", "name": "änn"},
                "key": "k",
                "text": "hé",
            },
        )

    def test_batches_are_arrays_of_bounded_size(self) -> None:
        """The same objects as one by one."""
        self.patch(encoders, "BATCH_BYTES", 500)
        single, batch = JsonEncoding("lobby"), JsonBatchEncoding("lobby")
        objects = [msgspec.json.decode(payload) for _, payload in payloads(single.join(single.items(EVENTS)))]
        frames = [msgspec.json.decode(payload) for _, payload in payloads(batch.join(batch.items(EVENTS)))]

        self.assertEqual([one for frame in frames for one in (frame if isinstance(frame, list) else [frame])], objects)
        self.assertTrue(1 < len(frames) < len(objects))

    def test_one_item_for_each_event(self) -> None:
        """Every encoding makes exactly one item of each event."""
        for encoding in ALL:
            self.assertEqual(len(encoding("lobby").items(EVENTS)), len(EVENTS))

    def test_cut(self) -> None:
        """Wherever a write is cut short, the held rest and what follows from there make the same frames."""
        self.patch(encoders, "BATCH_BYTES", 200)
        events = EVENTS[:5]
        for kind in ALL:
            for framing in (BARE, DEFLATED):
                encoding: Encoding = kind("lobby", framing)
                items = encoding.items(events)
                whole = encoding.join(items)
                for taken in range(len(whole)):
                    count, rest = encoding.cut(items, taken)
                    self.assertTrue(count)
                    again = whole[:taken] + rest + encoding.join(items[count:])
                    self.assertEqual(payloads(again), payloads(whole), (kind, taken))
                    # Only the one frame that has begun is held.
                    self.assertLessEqual(len(payloads(whole[:taken] + rest)), len(payloads(whole)))

    def test_compressed_frames_say_the_same(self) -> None:
        """Compressed frames have the same payloads as bare ones, and are smaller."""
        for kind in ALL:
            bare, deflated = kind("lobby", BARE), kind("lobby", DEFLATED)
            one, other = bare.join(bare.items(EVENTS)), deflated.join(deflated.items(EVENTS))
            self.assertEqual(payloads(one), payloads(other))
            self.assertLess(len(other), len(one) // 10)
