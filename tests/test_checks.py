"""The linter has nothing to say, and what is to find faults finds them (``tests/test_types.py`` has the type checker itself)."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

from pytest import TestReport
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.conftest import forbid_skip
from tests.harness.serving import ROOT


class ChecksTests(SynchronousTestCase):
    def silent(self, module: str, *arguments: str) -> None:
        if find_spec(module) is None:
            raise SkipTest(f"{module} is not installed")
        ended = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertEqual(ended.returncode, 0, f"\n{ended.stdout}{ended.stderr}")

    def test_zope_interfaces_are_checked(self) -> None:
        """The plugin works with this mypy; without it, classes that fail their interface would pass."""
        path = self.mktemp() + ".py"

        with open(path, "w") as file:
            file.write(
                "from zope.interface import implementer\n"
                "from twisted.internet.interfaces import IPushProducer\n"
                "@implementer(IPushProducer)\n"
                "class Half:\n"
                "    def pauseProducing(self) -> None: ...\n"
            )
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "setup.cfg"), path]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)

        self.assertIn("'Half' is missing following 'IPushProducer' interface members", ended.stdout)

    def test_lint(self) -> None:
        """``ruff check`` (ruff.toml)."""
        self.silent("ruff", "check", "--no-cache", ".")

    def test_format(self) -> None:
        """``ruff format``."""
        self.silent("ruff", "format", "--no-cache", "--check", "-q", ".")


class SkipTests(SynchronousTestCase):
    """Where nothing may be missing, a skip is a failure; what cannot apply may be skipped anywhere."""

    def report(self, reason: str) -> TestReport:
        longrepr = ("test_module.py", 7, f"Skipped: {reason}")
        report = TestReport("test_module.py::test", ("test_module.py", 7, "test"), {}, "skipped", longrepr, "call")
        forbid_skip(report)
        return report

    def test_missing_part(self) -> None:
        """With ``CI=true`` a test that is skipped for a missing program fails with the reason."""
        report = self.report("chromium is not installed")
        self.assertTrue(report.failed)
        self.assertIn("chromium is not installed", str(report.longrepr))

    def test_not_applicable(self) -> None:
        """A test that cannot apply to this Python is skipped with ``CI=true`` too."""
        self.assertTrue(self.report("not applicable: only before Python 3.12").skipped)
