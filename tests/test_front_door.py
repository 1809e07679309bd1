"""The package's own names: lazily imported, complete, typed, described, and the only ones that documents use."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, assert_type

from twisted.trial.unittest import SynchronousTestCase

import twisted_chat
from tests.harness.serving import ROOT

if TYPE_CHECKING:
    from pathlib import Path


class FrontDoorTests(SynchronousTestCase):
    def test_every_name_is_there(self) -> None:
        """Each public name can be imported, and ``dir`` shows it."""
        for name in twisted_chat.__all__:
            self.assertIsNotNone(getattr(twisted_chat, name))
        self.assertEqual(dir(twisted_chat), sorted(twisted_chat.__all__))
        self.assertRaises(AttributeError, getattr, twisted_chat, "Nonsense")

    def test_importing_the_package_imports_nothing_else(self) -> None:
        code = "import sys, twisted_chat; print(sorted(name for name in sys.modules if name.split('.')[0] in ('twisted', 'autobahn')))"
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        self.assertEqual(printed.strip(), "[]")

    def test_the_type_checker_sees_the_same_names(self) -> None:
        """The imports for the type checker and the table for run time do not differ."""
        source = (ROOT / "twisted_chat" / "__init__.py").read_text()
        block = source[source.index("if TYPE_CHECKING:") : source.index("_MODULES = ")]

        imported = set(re.findall(r"\b([A-Z]\w+)\b", block.replace("TYPE_CHECKING", "")))

        self.assertEqual(imported | {"__version__"}, set(twisted_chat.__all__))

    def test_types(self) -> None:
        """Each name has its own type, and a name that is not there is an error.

        It is ``mypy`` that checks this function (``test_types.py``): it refuses a wrong ``assert_type``, and an ignored error that
        is none.
        """
        assert_type(twisted_chat.Settings().limits, twisted_chat.Limits)
        assert_type(twisted_chat.Limits().history, int)
        assert_type(twisted_chat.User(id="u1", name="alice").name, str)
        assert_type(twisted_chat.__version__, str)
        if TYPE_CHECKING:
            from twisted_chat import Nonsense  # type: ignore[attr-defined]  # noqa: F401

            twisted_chat.nonsense  # type: ignore[attr-defined]  # noqa: B018

    def test_the_page_names_all(self) -> None:
        """docs/public-api.rst names every class that the package exports."""
        text = (ROOT / "docs" / "public-api.rst").read_text()
        kinds = {name for name in twisted_chat.__all__ if isinstance(getattr(twisted_chat, name), type)}
        errors = {name for name in kinds if issubclass(getattr(twisted_chat, name), twisted_chat.ChatError)}

        for name in kinds - errors | {"ChatError"}:
            self.assertIn(f"``{name}``", text)

    def test_documents_use_nothing_deeper(self) -> None:
        """README, documentation and examples import from the front door and from ``twisted_chat.testing`` only."""
        deep: list[str] = []
        paths: list[Path] = [ROOT / "README.rst", *(ROOT / "docs").glob("*.rst"), *(ROOT / "examples").glob("*.py")]

        for path in paths:
            deep += [
                f"{path.name}: {line.strip()}"
                for line in path.read_text().splitlines()
                if re.search(r"(from|import) twisted_chat\.(?!testing\b)", line)
            ]

        self.assertEqual(deep, [])
