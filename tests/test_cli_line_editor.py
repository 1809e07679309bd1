"""The line that is being typed, and the screen that keeps it in its place."""

from __future__ import annotations

import io

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.cli.line_editor import Ended, LineEditor, LineEntered, columns
from twisted_chat.cli.talk import Screen


def typed(*pieces: bytes) -> tuple[LineEditor, list[LineEntered | Ended]]:
    line = LineEditor()
    return line, [happened for piece in pieces for happened in line.feed(piece)]


class TypingLineTests(SynchronousTestCase):
    def test_editing(self) -> None:
        """The usual keys of a shell edit the line."""
        for keys, text in (
            (b"hello\x7f\x7fp", "help"),
            (b"abc\x1b[D\x1b[DX", "aXbc"),
            (b"abc\x01X\x05Y", "XabcY"),
            (b"abc\x1b[HX\x1b[FY", "XabcY"),
            (b"one two\x17three", "one three"),
            (b"one\x15two", "two"),
            (b"one\x1b[D\x0b", "on"),
            (b"ab\x1b[D\x1b[3~", "a"),
            (b"\x7f\x1b[D\x1b[C\x1bx\x1b[99~", ""),
        ):
            self.assertEqual(typed(keys)[0].text, text, keys)

    def test_enter_and_end(self) -> None:
        """Carriage return and newline enter a line; Ctrl+D on an empty line ends."""
        self.assertEqual(typed(b"one\rtwo\n\x04")[1], [LineEntered("one"), LineEntered("two"), Ended()])

    def test_ctrl_d_in_a_line(self) -> None:
        """Ctrl+D ends only from an empty line."""
        self.assertEqual(typed(b"one\x04")[1], [])

    def test_pieces(self) -> None:
        """Characters and escape sequences may arrive in pieces."""
        self.assertEqual(typed(b"\xc3", b"\xa9\x1b", b"[", b"Dx")[0].text, "xé")

    def test_earlier_lines(self) -> None:
        """Up and down recall earlier lines, and the empty one after the last."""
        line, _ = typed(b"one\rtwo\r\x1b[A\x1b[A")

        self.assertEqual(line.text, "one")

        list(line.feed(b"\x1b[B\x1b[B"))
        self.assertEqual(line.text, "")

    def test_row_fits(self) -> None:
        """A long line is shown around the cursor and never takes a second row; wide characters count twice."""
        line, _ = typed(("漢" * 50 + "abc").encode())
        for keys in (b"", b"\x01", b"\x1b[C" * 20, b"\x05"):
            list(line.feed(keys))
            for width in (5, 10, 21, 80, 300):
                row, cursor = line.row("> ", width)
                self.assertLess(columns(row), width)
                self.assertLess(cursor, width)

    def test_screen(self) -> None:
        """What is written appears above; the row is drawn anew with the cursor where it was."""
        out = io.StringIO()
        screen = Screen(out, "> ", lambda: 40)

        screen.write("before\n")
        list(screen.line.feed(b"half a thought\x1b[D"))
        screen.draw()
        screen.write("bob: hi\n")
        screen.leave()

        self.assertEqual(
            out.getvalue(),
            "before\n\r\x1b[K> half a thought\r\x1b[15C\r\x1b[Kbob: hi\n> half a thought\r\x1b[15C\r\x1b[K",
        )
