"""A wheel and ``pip install -e .`` both give ``twistd chat``, with everything that it reads."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.serving import ROOT, environment

#: What is no part of the sources, and what is large.
LEFT_OUT = shutil.ignore_patterns(
    ".*", "node_modules", "build", "dist", "*.egg-info", "__pycache__", "dropin.cache", "_trial_temp*"
)


class PackagingTests(SynchronousTestCase):
    """The virtual environments here see the dependencies of the present one, but not the project installed there."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.sources = self.directory / "sources"
        shutil.copytree(ROOT, self.sources, ignore=LEFT_OUT)

    def run_python(self, python: Path | str, *arguments: str) -> str:
        variables = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
        ended = subprocess.run(
            [str(python), *arguments], cwd=self.directory, env=variables, capture_output=True, text=True, check=False
        )
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        return ended.stdout

    def environment_with(self, *installed: str) -> Path:
        """The Python of a new virtual environment."""
        home = self.directory / "environment"
        venv.create(home, with_pip=False)
        python = home / "bin" / "python"
        packages = Path(self.run_python(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        # Names in a .pth are added without reading the .pth files that are there, so an editable install does not show through.
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = ["-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
        self.run_python(sys.executable, *pip, *installed)
        return python

    def check_command(self, python: Path) -> None:
        run = "from twisted.scripts.twistd import run; run()"
        self.assertRegex(self.run_python(python, "-c", run, "--help"), r"\n +chat +A durable chat")
        self.assertIn("--listen=", self.run_python(python, "-c", run, "-n", "chat", "--help"))
        read = (
            "import asyncio; from importlib.resources import files; from twisted_chat.stores.sqlite.database import schema_steps;"
            "from twisted_chat.web.static import page_routes;"
            "assert schema_steps(), 'no schema'; assert any(route.path == '/' for route in page_routes()), 'no page';"
            "assert files('twisted_chat').joinpath('py.typed').is_file(); import twisted_chat; print(twisted_chat.__file__)"
        )
        self.assertIn(str(self.directory), self.run_python(python, "-c", read))

    def test_wheel(self) -> None:
        """The wheel has the drop-in, the schema and the page, and nothing that would hide Twisted."""
        self.run_python(
            sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", ".", str(self.sources)
        )
        (wheel,) = self.directory.glob("*.whl")
        names = zipfile.ZipFile(wheel).namelist()

        self.assertIn("twisted/plugins/twisted_chat_plugin.py", names)

        for path in sorted((ROOT / "twisted_chat").rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                self.assertIn(str(path.relative_to(ROOT)), names)
        strangers = [
            name
            for name in names
            if not name.startswith(("twisted_chat/", "twisted_chat-")) and name != "twisted/plugins/twisted_chat_plugin.py"
        ]

        self.assertEqual(strangers, [])

        self.check_command(self.environment_with(str(wheel)))

    def test_editable(self) -> None:
        """An editable installation has a working command."""
        self.check_command(self.environment_with("-e", str(self.sources)))
