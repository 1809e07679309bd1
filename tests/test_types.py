"""The type checker has nothing to say.  It needs a quarter of a minute, so it begins with the first test and is asked late."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.harness.long import LongRun

_MYPY = LongRun([sys.executable, "-m", "mypy"], os.environ, timeout=300)


class TypesTests(SynchronousTestCase):
    long_runs = {"test_types": _MYPY}

    def test_types(self) -> None:
        """``mypy`` with ``strict`` (setup.cfg) on package, tests and benchmarks."""
        if find_spec("mypy") is None:
            raise SkipTest("mypy is not installed")
        out, errors, status = _MYPY.result()
        self.assertEqual(status, 0, f"\n{out}{errors}")
