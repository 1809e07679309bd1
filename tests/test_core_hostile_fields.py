"""The worst input that each field of each command allows costs no more than a plain frame of the same size, many times over."""

from __future__ import annotations

import gc
from time import process_time
from typing import get_args

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, ChatHarness, JsonClient
from twisted_chat.limits import Limits
from twisted_chat.protocol.commands import AnyCommand

FRAME = Limits().frame_bytes
#: How often a plain frame's cost the worst field may cost; composing 64 KiB of combining marks costs 2,000 times as much.
MOST = 25.0

#: JSON values that are as large as a frame: marks that compose in quadratic time, characters that fold to many, digits, nesting,
#: many small things.
VALUES = {
    "marks": b'"' + "\u0300\u0323".encode() * (FRAME // 5) + b'"',
    "ligatures": b'"' + "\ufdfa".encode() * (FRAME // 4) + b'"',
    "capitals": b'"' + "\u0130".encode() * (FRAME // 3) + b'"',
    "escapes": b'"' + b"\\u0300" * (FRAME // 7) + b'"',
    "letters": b'"' + b"x" * (FRAME - 400) + b'"',
    "digits": b"9" * (FRAME - 400),
    "fraction": b"0." + b"9" * (FRAME - 400),
    "nesting": b"[" * (FRAME // 2 - 200) + b"]" * (FRAME // 2 - 200),
    "objects": b'{"a":' * (FRAME // 8) + b"1" + b"}" * (FRAME // 8),
    "strings": b"[" + b",".join([b'"a"'] * (FRAME // 5)) + b"]",
    "rooms": b"[" + b",".join([b'{"room":"a","since":{"epoch":"e","seq":1,"id":"x"}}'] * (FRAME // 56)) + b"]",
    "names": b"[" + b",".join([b'"r%d"' % number for number in range(FRAME // 9)]) + b"]",
}
#: What the fields that are not under test have, so that the command goes as far as it can.
VALID = {
    "room": b'"lobby"',
    "of": b"1",
    "revision": b"1",
    "seq": b"1",
    "emoji": b'"+1"',
    "text": b'"x"',
}


class HostileFieldsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.chat = ChatHarness(self)
        gc.disable()
        self.addCleanup(gc.enable)

    def client(self) -> JsonClient:
        client = self.chat.json(ALICE, "lobby")
        client.ask("send", room="lobby", text="x")
        return client

    def cost(self, frame: bytes, client: JsonClient) -> float:
        """Seconds of processor time from the read of the frame to the end of the turn; the best of three."""
        best = 10.0
        for _ in range(3):
            if client.closed is not None:
                client = self.client()
            begin = process_time()
            client.session.received([frame])
            self.chat.turn()
            best = min(best, process_time() - begin)
            client.connection.frames()
        return best

    def test_every_field_of_every_command(self) -> None:
        """No value of any field costs much more than a plain frame of the same size."""
        plain = b'{"type":"send","id":1,"room":"lobby","text":"%b","pad":"%b"}' % (b"x" * 16_000, b"y" * (FRAME - 17_000))
        client = self.client()
        allowed = MOST * self.cost(plain, client)
        slow: list[str] = []
        count = 0

        for command in get_args(AnyCommand):
            name = command.__struct_config__.tag
            fields = [field.encode_name for field in msgspec.structs.fields(command)]
            for field in fields:
                for kind, value in VALUES.items():
                    given = {other: VALID[other] for other in fields if other in VALID and other != field}
                    given["type"], given[field] = b'"%b"' % name.encode(), value
                    frame = b"{" + b",".join(b'"%b":%b' % (key.encode(), each) for key, each in given.items()) + b"}"
                    count += 1
                    if self.cost(frame, client) > allowed and self.cost(frame, self.client()) > allowed:
                        slow.append(f"{name}.{field} {kind}")

        self.assertEqual(slow, [])
        self.assertGreater(count, 500)

    def test_arrays_of_commands(self) -> None:
        """A frame full of the smallest commands costs no more than so many plain ones."""
        client = self.client()
        plain = 1_000 * self.cost(b'{"type":"typing","room":"lobby"}', client)
        for command in (
            b'{"type":"join","room":"r%d"}',
            b'{"type":"history","room":"lobby","id":%d}',
            b'{"type":"hello","id":%d}',
            b'{"type":"send","room":"lobby","text":"%d"}',
            b'{"type":"nonsense","id":%d}',
        ):
            frame = b"[" + b",".join(command % number for number in range(1_000)) + b"]"
            with self.subTest(command):
                self.assertLess(self.cost(frame, self.client()), MOST * plain)
