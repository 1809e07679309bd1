"""The JavaScript client: its types, its own tests, and a nemesis between it and the real server; all run by Node."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.harness.long import LongRun
from tests.harness.node_modules import node_modules
from tests.harness.serving import ROOT, environment

#: Seconds in which the nemesis is loose, at least; each fault happens three times however long that takes.
NEMESIS_SECONDS = os.environ.get("NEMESIS_SECONDS", "20")


def run(*command: str, timeout: float = 60, **environ: str) -> str:
    if shutil.which(command[0]) is None:
        raise SkipTest(f"{command[0]} is not installed")
    node_modules()
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **environ}
    )
    if ended.returncode:
        raise AssertionError(f"{' '.join(command)}:\n{ended.stdout}{ended.stderr}")
    return ended.stdout


# As Node's own test runner starts it, but through Python, which installs the packages first.
_NEMESIS_RUN = LongRun(
    [
        sys.executable,
        "-c",
        "import os; from tests.harness.node_modules import node_modules; node_modules();"
        " os.execvp('node', ['node', '--test', '--test-reporter=tap', 'tests/js/jepsen.live.js'])",
    ],
    environment(PYTHON=sys.executable, NEMESIS_SECONDS=NEMESIS_SECONDS),
    timeout=float(NEMESIS_SECONDS) + 200,
)


class JavaScriptTests(SynchronousTestCase):
    #: Begun while other tests run: it mostly waits.
    long_runs = {"test_nemesis": _NEMESIS_RUN}

    def test_types(self) -> None:
        """The JSDoc of client and page is checked strictly; the client needs no DOM, as its tests are checked without one."""
        run("node", "node_modules/typescript/bin/tsc", "--project", "tsconfig.json")
        run("node", "node_modules/typescript/bin/tsc", "--project", "tests/js/tsconfig.json")

    def test_units(self) -> None:
        """What the client does on each word of the protocol, on a clock that the test moves."""
        out = run(
            "node",
            "--test",
            "--test-reporter=tap",
            "tests/js/client.test.js",
            "tests/js/fallback.test.js",
            "tests/js/page/patterns.test.js",
            "tests/js/page/text.test.js",
            "tests/js/page/timeline.test.js",
        )
        self.assertIn("# fail 0", out)

    def test_no_dependencies(self) -> None:
        """The client is one file."""
        source = (ROOT / "twisted_chat/web/page/client.js").read_text()
        self.assertEqual(re.findall(r"^import .*", source, re.MULTILINE), [])

    def test_nemesis(self) -> None:
        """Nothing is lost, doubled or reordered, whatever happens to server, clients and the network between them."""
        if shutil.which("node") is None:
            raise SkipTest("node is not installed")

        out, errors, status = _NEMESIS_RUN.result()

        self.assertEqual(status, 0, f"{out}{errors}")
        self.assertIn("# pass 1", out)
        self.assertRegex(out, r"\d{4,} acknowledged")
