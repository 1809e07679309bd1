"""The type checker and the linter have nothing to say."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.serving import ROOT


class ChecksTests(SynchronousTestCase):
    def silent(self, module: str, *arguments: str) -> None:
        if find_spec(module) is None:
            raise SkipTest(f"{module} is not installed")
        ended = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertEqual(ended.returncode, 0, f"\n{ended.stdout}{ended.stderr}")

    def test_types(self) -> None:
        """``mypy`` with ``strict`` (setup.cfg) on package, tests and benchmarks."""
        self.silent("mypy")

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
