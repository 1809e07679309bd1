"""The checker finds what it is there to find: a run that says "nothing wrong" must mean something."""

from __future__ import annotations

import io
from argparse import ArgumentTypeError
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import tests.jepsen.__main__ as faults
from tests.jepsen import herd
from tests.jepsen.checking import check
from tests.jepsen.program import positive
from tests.jepsen.record import Record, Seen

LOG = [Seen(1, "e1", "w1", 1), Seen(2, "e2", "x1", 1), Seen(3, "e3", "w1", 2)]


class CheckerTests(SynchronousTestCase):
    def record(self, *lines: str) -> Record:
        path = Path(self.mktemp())
        path.write_text("".join(line + "\n" for line in lines))
        record = Record(path)
        record.close()
        return record

    def wrong(
        self, log: list[Seen] = LOG, writer: tuple[str, ...] = ("a 1", "k 1 1"), reader: tuple[str, ...] | None = None
    ) -> str:
        lines = tuple(f"e {seen.seq} {seen.id} {seen.writer} {seen.number}" for seen in log) if reader is None else reader
        return "; ".join(check(log, {"w1": self.record(*writer)}, {"r1": self.record(*lines)}))

    def test_nothing_wrong(self) -> None:
        """A correct history passes the check."""
        self.assertEqual(self.wrong(writer=("a 1", "k 1 1", "a 2", "k 2 3", "k 2 3")), "")

    def test_lost(self) -> None:
        """An acknowledged message that is not in the log is found."""
        self.assertEqual(self.wrong(writer=("a 7", "k 7 9")), "lost: w1:7 was acknowledged as 9 and is not in the log")

    def test_accepted_and_lost(self) -> None:
        """What the client took and never delivered is lost as well."""
        self.assertEqual(self.wrong(writer=("a 7",)), "unfinished: w1:7 was accepted and is not in the log")
        self.assertEqual(self.wrong(writer=("a 2",)), "unfinished: w1:2 was accepted and was never acknowledged")

    def test_elsewhere(self) -> None:
        """A message with another number than the acknowledged one is found, and so are two different acknowledgements."""
        self.assertEqual(self.wrong(writer=("a 2", "k 2 2")), "elsewhere: w1:2 was acknowledged as 2 and is at 3")
        self.assertIn("acknowledged twice, differently: w1:2", self.wrong(writer=("a 2", "k 2 3", "k 2 4")))

    def test_doubled(self) -> None:
        """A message that is twice in the log is found."""
        self.assertEqual(self.wrong([*LOG, Seen(4, "e4", "w1", 1)]), "doubled: w1:1 is at 1 and at 4")

    def test_out_of_order(self) -> None:
        """Messages of one writer in another order than sent are found."""
        log = [Seen(1, "e1", "w1", 1), Seen(2, "e2", "w1", 3), Seen(3, "e3", "w1", 2)]
        self.assertEqual(self.wrong(log), "out of order: w1:2 is behind 3")

    def test_holes(self) -> None:
        """A missing number in the log is found."""
        self.assertIn("without holes", self.wrong([LOG[0], LOG[2]]))

    def test_readers(self) -> None:
        """Another order, an event twice, one missing, a fork: all are another order."""
        for lines in (
            ("e 2 e2 x1 1", "e 1 e1 w1 1", "e 3 e3 w1 2"),
            ("e 1 e1 w1 1", "e 1 e1 w1 1", "e 2 e2 x1 1", "e 3 e3 w1 2"),
            ("e 1 e1 w1 1", "e 3 e3 w1 2"),
            ("e 1 f1 w1 1", "e 2 e2 x1 1", "e 3 e3 w1 2"),
        ):
            self.assertIn("another order: r1 saw", self.wrong(reader=lines))
        self.assertEqual(self.wrong(reader=("e 1 e1 w1 1",)), "another length: r1 saw 1 events, the log has 3")


class ArgumentsTests(SynchronousTestCase):
    """The command lines of ``python -m tests.jepsen`` and ``python -m tests.jepsen.herd``."""

    def ends(self, program: Any, *given: str) -> tuple[object, str, str]:
        """Exit status, output and errors of a command line that only prints something."""
        out, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(errors), self.assertRaises(SystemExit) as caught:
            program.parse(given)
        return caught.exception.code, out.getvalue(), errors.getvalue()

    def test_help(self) -> None:
        """``--help`` explains the arguments and ends with 0."""
        for program, name in ((faults, "seconds"), (herd, "clients")):
            status, out, errors = self.ends(program, "--help")

            self.assertEqual((status, errors), (0, ""))
            self.assertIn(name, out)

    def test_what_is_no_number(self) -> None:
        """A text in place of a number is refused by the name of its argument."""
        for program, name in ((faults, "seconds"), (herd, "clients")):
            status, _, errors = self.ends(program, "x")

            self.assertEqual(status, 2)
            self.assertIn(f"argument {name}: ", errors)

    def test_numbers_are_more_than_0(self) -> None:
        """A number that would do nothing, or would never end, is refused."""
        for raw in ("0", "-1", "inf", "nan", ""):
            with self.assertRaises(ArgumentTypeError):
                positive(float)(raw)

        self.assertEqual(positive(int)("7"), 7)
