"""Frames as a server sends them, read by a third party."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.streams import StreamReader

from twisted_chat.protocol.frames import BARE, DEFLATED, FIN_BINARY, FIN_CLOSE, FIN_PING, FIN_TEXT, frame, text_frame

LENGTHS = (0, 1, 125, 126, 127, 65_535, 65_536, 70_000)


def parse(wire: bytes, *, deflate: bool = False) -> Frame:
    """What ``websockets`` reads."""
    reader = StreamReader()
    reader.feed_data(wire)
    extensions = [PerMessageDeflate(True, True, 15, 15)] if deflate else []
    parsing = Frame.parse(reader.read_exact, mask=False, extensions=extensions)
    try:
        next(parsing)
    except StopIteration as done:
        found = done.value
        assert isinstance(found, Frame)
        if reader.buffer:
            raise AssertionError("bytes are left over") from None
        return found
    raise AssertionError("the frame is not whole")


class FramesTests(SynchronousTestCase):
    def test_every_length_has_its_header(self) -> None:
        """Autobahn parses frames of all lengths of headers."""
        for length in LENGTHS:
            for first, opcode in ((FIN_TEXT, 1), (FIN_BINARY, 2)):
                found = parse(frame(first, b"x" * length))
                self.assertEqual((found.opcode, found.fin, found.data), (opcode, True, b"x" * length))

    def test_short_texts_by_table(self) -> None:
        """The table of short headers gives the same frames as the general function."""
        for length in LENGTHS:
            self.assertEqual(text_frame(b"x" * length), frame(FIN_TEXT, b"x" * length))
            self.assertEqual(BARE.text(b"x" * length), frame(FIN_TEXT, b"x" * length))
            self.assertEqual(BARE.binary(b"x" * length), frame(FIN_BINARY, b"x" * length))

    def test_control_frames(self) -> None:
        """Ping and close frames have the bytes of RFC 6455."""
        self.assertEqual((frame(FIN_PING, b""), frame(FIN_CLOSE, b"\x03\xe8")), (b"\x89\0", b"\x88\x02\x03\xe8"))

    def test_compressed_ones(self) -> None:
        """Only where it gains; each by itself, in any order."""
        for payload in (b"", b"short", b"x" * 63, b"x" * 64, b"hello " * 500, bytes(range(256)), b"x" * 70_000):
            for make, opcode in ((DEFLATED.text, 1), (DEFLATED.binary, 2)):
                wire = make(payload)
                found = parse(wire, deflate=True)
                self.assertEqual((found.opcode, bytes(found.data)), (opcode, payload))
                self.assertLessEqual(len(wire), len(frame(FIN_TEXT, payload)))
