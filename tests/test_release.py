"""What is published: distributions, the page on the package index, the change log, the documentation, the lowest versions."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.harness.serving import ROOT
from tests.test_packaging import LEFT_OUT


class ReleaseTests(SynchronousTestCase):
    def run_module(self, *arguments: str, cwd: Path = ROOT) -> str:
        ended = subprocess.run([sys.executable, "-m", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        return ended.stdout + ended.stderr

    def test_distributions(self) -> None:
        """The source distribution makes the wheel, and the index will show the README."""
        sources = Path(self.mktemp()).absolute()

        shutil.copytree(ROOT, sources, ignore=LEFT_OUT)
        self.run_module("build", "--no-isolation", "--outdir", "dist", ".", cwd=sources)
        made = sorted(path.name for path in (sources / "dist").iterdir())

        self.assertEqual([name.rpartition(".")[2] for name in made], ["whl", "gz"])
        self.assertIn("PASSED", self.run_module("twine", "check", "--strict", *(f"dist/{name}" for name in made), cwd=sources))

    def test_manifest(self) -> None:
        """Everything that is under version control is in the source distribution, or is left out by name."""
        if not (ROOT / ".git").exists():
            raise SkipTest("not applicable: no version control here")
        new = subprocess.run(
            ["git", "ls-files", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
        self.run_module("check_manifest", "--no-build-isolation", *(["--ignore", ",".join(new)] if new else []))

    def test_change_log(self) -> None:
        """The next section can be made of all fragments."""
        draft = self.run_module("towncrier", "build", "--draft", "--version", "9.9", "--date", "2001-01-01")
        kinds = {path.name.split(".")[-2] for path in (ROOT / "newsfragments").glob("*.*.rst")}

        self.assertIn("9.9", draft)
        self.assertEqual("Bug fixes" in draft, "bugfix" in kinds)

    def test_documentation(self) -> None:
        """Sphinx has nothing to say, references that lead nowhere included."""
        self.run_module("sphinx", "-q", "-W", "-n", "--keep-going", str(ROOT / "docs"), str(Path(self.mktemp()).absolute()))

    def test_the_floors_are_those_of_the_metadata(self) -> None:
        """The suite runs on the lowest versions that may be installed (``tests/floors.txt``)."""
        parser = configparser.ConfigParser()

        parser.read(ROOT / "setup.cfg")
        requires = parser["options"]["install_requires"] + parser["options.extras_require"]["postgresql"]
        wanted = dict(re.findall(r"^([a-z-]+)(?:\[\w+\])? >= ([\d.]+)$", requires, re.M))
        wanted["psycopg-binary"] = wanted["psycopg"]
        floors = dict(re.findall(r"^([a-z-]+)==([\d.]+)$", (ROOT / "tests/floors.txt").read_text(), re.M))

        self.assertEqual(set(floors), set(wanted))

        for name, version in wanted.items():
            self.assertTrue(f"{floors[name]}.".startswith(f"{version}."), name)
