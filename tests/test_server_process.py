"""What concerns the process as a whole."""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.server import process


class TuneTests(SynchronousTestCase):
    def test_tuned(self) -> None:
        """More open files, rarer collections, quicker switches to the store's thread."""
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        files = process.tune()

        self.assertEqual(files, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self.assertGreaterEqual(files, soft)
        self.assertAlmostEqual(sys.getswitchinterval(), process.SWITCH_INTERVAL)
        self.assertEqual(gc.get_threshold(), process.GC_THRESHOLDS)

    def test_refused_by_a_sandbox(self) -> None:
        """Then the limit stays as it is."""
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        self.addCleanup(gc.set_threshold, *gc.get_threshold())

        def refuse(which: int, limits: tuple[int, int]) -> None:
            raise PermissionError

        self.patch(resource, "setrlimit", refuse)
        self.assertEqual(process.tune(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    def test_settled(self) -> None:
        """After the start the present objects are excluded from garbage collection."""
        self.addCleanup(gc.unfreeze)
        process.settle()
        self.assertGreater(gc.get_freeze_count(), 1000)


class SignalTests(SynchronousTestCase):
    def test_stop_once(self) -> None:
        """The first signal stops, in the reactor; the second ends the process."""
        soon: list[object] = []
        ended: list[int] = []
        self.patch(os, "_exit", ended.append)
        signals = process.Signals(lambda: None, lambda: None, soon.append)

        signals.ending(signal.SIGTERM, None)

        self.assertEqual((len(soon), ended), (1, []))

        signals.ending(signal.SIGINT, None)
        self.assertEqual(ended, [128 + signal.SIGINT])

    def test_reload(self) -> None:
        """SIGHUP hands the reload to the reactor."""
        soon: list[object] = []

        def reload() -> None:
            """Stands for the server's."""

        process.Signals(lambda: None, reload, soon.append).reloading(signal.SIGHUP, None)
        self.assertEqual(soon, [reload])


class WritingTests(SynchronousTestCase):
    def test_nothing_is_changed(self) -> None:
        """A file that can be written is as it was; one that was not there is not there."""
        path = Path(self.mktemp())
        process.try_to_write(str(path))
        self.assertFalse(path.exists())

        path.write_text("123")
        process.try_to_write(str(path))
        self.assertEqual(path.read_text(), "123")

    def test_full_disk(self) -> None:
        error = self.assertRaises(OSError, process.try_to_write, "/dev/full")
        self.assertIn("free space", process.file_trouble(error))

    def test_every_trouble_has_a_cure(self) -> None:
        self.assertEqual(process.file_trouble(OSError(errno.EROFS, "Read-only")), "Read-only; name another file")
        self.assertIn("writable for this user", process.file_trouble(PermissionError(errno.EACCES, "no")))
