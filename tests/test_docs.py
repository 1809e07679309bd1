"""What the documentation says is true: commands, options, links; and it is well-formed."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any, ClassVar

from docutils.core import publish_doctree
from docutils.parsers.rst import Directive, directives
from docutils.utils import Reporter
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.serving import ROOT
from twisted_chat.server import listeners
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
INSTALL_AND_TEST = 'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest -n 3 --dist loadscope'
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
        others = {"logfile", "logger", "syslog", "pidfile", "help", "no", "reference", "dist"}
        others |= {"right", "since", "json", "everything"}  # of the command twisted-chat
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


def errors_of_the_start() -> Iterator[tuple[str, str]]:
    """Where the server refuses to start, and what it says there with an ellipsis for each value."""
    for name in SAY_WHAT_IS_WRONG:
        path = ROOT / "twisted_chat" / f"{name}.py"
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or function.name in NOT_AT_THE_START:
                continue
            for node in ast.walk(function):
                said: ast.expr | None = None
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute) and node.args:
                    called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                    said = node.args[0] if called in ERRORS_OF_THE_START else None
                elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "text":
                    said = node.value
                if said is not None and re.search(r"\w \w", text := words(said)):
                    yield f"{name}: {function.name}", text


def words(said: ast.expr) -> str:
    """The constant parts of a string."""
    parts = said.values if isinstance(said, ast.JoinedStr) else [said]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)


SAY_WHAT_IS_WRONG = [
    "server/config",
    "server/options",
    "server/listeners",
    "server/build",
    "auth/jwt",
    "web/origins",
    "stores/urls",
    "stores/sqlite/connection",
    "stores/sqlite/database",
    "stores/sqlite/backup",
]
ERRORS_OF_THE_START = {
    "SettingsError",
    "ListenError",
    "SetUpError",
    "StoreError",
    "InUse",
    "UsageError",
    "ValueError",
    "BadRequest",
}
#: Commands cannot look into another process; the settings have checked the algorithm before the key is read; tokens come later.
NOT_AT_THE_START = {"store_file", "read_key", "_read_header", "_strings"}


class ErrorTableTests(SynchronousTestCase):
    """The table of errors in docs/operating.rst and the code say the same."""

    def setUp(self) -> None:
        page = (ROOT / "docs/operating.rst").read_text()
        table = page[page.index('"the line says"') : page.index("Without any setting")]
        self.phrases = [phrase for row in table.splitlines() for phrase in re.findall(r"``([^`]+)``", row.split('", "')[0])]

    def test_every_error_of_the_start_is_in_the_table(self) -> None:
        """Each error text of the start contains a phrase of the table."""
        missing = [error for error in errors_of_the_start() if not any(phrase in error[1] for phrase in self.phrases)]

        self.assertEqual(missing, [])

    def test_the_system_s_own_words(self) -> None:
        """Errors of ports for which the code knows a cure are in the table in the words of the operating system."""
        for number in listeners._CURES:
            self.assertIn(os.strerror(number), self.phrases)

    def test_everything_in_the_table_is_said(self) -> None:
        """Each phrase is in the code, or is one of the operating system's."""
        modules = sorted((ROOT / "twisted_chat").rglob("*.py"))
        strings = [
            words(node)
            for path in modules
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.JoinedStr | ast.Constant)
        ]
        strings += [os.strerror(number) for number in listeners._CURES]

        self.assertEqual([phrase for phrase in self.phrases if not any(phrase in string for string in strings)], [])
        self.assertGreater(len(self.phrases), 40)


class SpeedTests(SynchronousTestCase):
    """The README's figures are those of docs/performance.txt, of every room that is measured without TLS."""

    #: In the order of the README; 5,000 members lie between the two rooms beside them.
    rooms = "busy-32 busy-1000 busy-20000 wide-100-1 wide-100-16 wide-1000-1 wide-1000-16 wide-15000-1 wide-15000-16 rooms"

    def ratio(self, scenario: str, contender: str, column: int = 1) -> Decimal:
        """A figure to one decimal."""
        table = (ROOT / "docs/performance.txt").read_text()
        (block,) = re.findall(rf"^{scenario}: (?:.+\n)+", table, re.MULTILINE)
        (row,) = re.findall(rf"^  {contender}  +(\S.+)$", block, re.MULTILINE)
        return Decimal(row.split()[column]).quantize(Decimal("0.1"), ROUND_HALF_EVEN)

    def test_table(self) -> None:
        """The ratios in the README are those of docs/performance.txt."""
        readme = (ROOT / "README.rst").read_text()
        section = readme[readme.index("How fast it is") : readme.index("Run it for others")]

        shown = re.findall(r'", "([\d.]+)", "([\d.]+)"$', section, re.MULTILINE)

        measured = [(self.ratio(room, "chat ephemeral"), self.ratio(room, "chat durable")) for room in self.rooms.split()]
        self.assertEqual([(Decimal(ephemeral), Decimal(durable)) for ephemeral, durable in shown], measured)

    def test_where_it_is_slower(self) -> None:
        """The README's sentence about where the server is slower has the measured ratios."""
        readme = " ".join((ROOT / "README.rst").read_text().split())

        opening = f"({self.ratio('storm', 'chat durable')} of Bun's rate, {self.ratio('storm', 'chat durable JSON')} with JSON)"
        self.assertIn(f"opening connections {opening}", readme)
        self.assertIn(f"{self.ratio('idle', 'chat durable')} times Bun's memory", readme)
        slowest = (
            f"{self.ratio('steady', 'chat ephemeral')} times as long, {self.ratio('steady', 'chat durable')} times in durable"
        )
        self.assertIn(slowest, readme)


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
        """The systemd unit starts the server as documented, hardened, with time for the drain."""
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
