"""What the documentation says is true: commands, options, links; and it is well-formed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, ClassVar

from docutils.core import publish_doctree
from docutils.parsers.rst import Directive, directives
from docutils.utils import Reporter
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.serving import ROOT
from twisted_chat.server.config import Settings
from twisted_chat.server.options import Options


class Toctree(Directive):
    """Sphinx's table of contents, which docutils alone does not know."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"hidden": directives.flag, "maxdepth": directives.nonnegative_int}

    def run(self) -> list[Any]:
        return []


directives.register_directive("toctree", Toctree)

PAGES = [*sorted(ROOT.glob("*.rst")), *sorted((ROOT / "docs").rglob("*.rst"))]
PAGES += sorted((ROOT / "newsfragments").glob("*.rst"))
INSTALL_AND_RUN = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/twistd -n chat"
INSTALL_AND_TEST = 'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest'
KINDS = {"feature", "bugfix", "doc", "removal", "misc"}


def option_of_twistd_chat(name: str) -> bool:
    return name in {option.rstrip("=") for option in Options({}).longOpt}


class DocumentationTests(SynchronousTestCase):
    def test_well_formed(self) -> None:
        """docutils finds nothing wrong in any page."""
        for page in PAGES:
            settings = {"report_level": Reporter.INFO_LEVEL, "halt_level": Reporter.INFO_LEVEL, "warning_stream": False}
            publish_doctree(page.read_text(), source_path=str(page), settings_overrides=settings)

    def test_links(self) -> None:
        """Each page that is linked or named in the documentation exists."""
        for page in PAGES:
            text = page.read_text()
            for target in re.findall(r"<([\w./-]+\.rst)>`_", text):
                self.assertTrue((page.parent / target).is_file(), f"{page.name}: {target}")
            for target in re.findall(r"``((?:docs|etc|newsfragments|bench|examples|\.ci)/[\w./-]+)``", text):
                self.assertTrue((ROOT / target).exists(), f"{page.name}: {target}")

    def test_options(self) -> None:
        """Options that are mentioned exist; those of twistd itself and of other programs are named here."""
        others = {"logfile", "logger", "syslog", "pidfile", "help", "no"}
        for page in (ROOT / "README.rst", ROOT / "docs/operating.rst", ROOT / "docs/configuration.rst"):
            for name in re.findall(r"(?<![\w-])--([a-z][a-z-]*[a-z])", page.read_text()):
                self.assertTrue(name in others or option_of_twistd_chat(name), f"{page.name}: --{name}")

    def test_two_commands(self) -> None:
        """The README begins with three lines that say what it is, then two commands do everything; CI runs the second one."""
        readme = (ROOT / "README.rst").read_text()

        introduction = readme.split("\n\n")[1].splitlines()

        self.assertEqual(len(introduction), 3)
        self.assertIn(f"\n    {INSTALL_AND_RUN}\n", readme)
        self.assertIn(f"\n    {INSTALL_AND_TEST}\n", readme)

        run = (ROOT / ".ci/run").read_text()
        self.assertIn("\nexport CI=true\n", run)
        self.assertEqual(run.splitlines()[-1], INSTALL_AND_TEST)

    def test_news(self) -> None:
        """Fragments have kinds that the change log knows."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        self.assertEqual({kind["directory"] for kind in project["tool"]["towncrier"]["type"]}, KINDS)
        for fragment in (ROOT / "newsfragments").iterdir():
            if fragment.name != "README.rst":
                self.assertRegex(fragment.name, rf"^[a-z0-9_-]+\.({'|'.join(KINDS)})\.rst$")


class UnitTests(SynchronousTestCase):
    """The systemd units fit the program."""

    def values(self, name: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in (ROOT / "etc" / name).read_text().splitlines():
            if "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                found.setdefault(key, []).append(value)
        return found

    def test_service(self) -> None:
        service = self.values("twisted-chat.service")
        (start,) = service["ExecStart"]

        self.assertIn(" -n --pidfile= chat --config /etc/twisted-chat/chat.toml", start)
        self.assertEqual(service["Type"], ["notify"])
        self.assertGreater(float(service["TimeoutStopSec"][0]), Settings().drain_seconds)
        self.assertEqual(service["WorkingDirectory"], [f"/var/lib/{service['StateDirectory'][0]}"])
        self.assertEqual(service["ProtectSystem"], ["strict"])
        self.assertEqual(service["NoNewPrivileges"], ["yes"])

    def test_socket(self) -> None:
        """The name in the unit is the one that the endpoint string asks for."""
        text = Path(ROOT / "etc/twisted-chat.socket").read_text()
        (name,) = self.values("twisted-chat.socket")["FileDescriptorName"]
        self.assertIn(f'listen = ["systemd:domain=INET6:name={name}"]', text)
