"""Imports point down only: the table in ``twisted_chat/__init__.py`` holds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import twisted_chat

PACKAGE = Path(twisted_chat.__file__).parent
#: Edges meet the outside world and do not import one another.
EDGES = {"websocket", "web", "auth", "stores", "client"}
#: Modules that lie directly in the package: the model (errors, events, users, names, limits, contracts).
MODEL = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
#: What each layer may import of ours, besides itself.
MAY_IMPORT = {
    "model": set[str](),
    "internals": set[str](),
    "protocol": {"model"},
    "core": {"model", "protocol"},
    **{edge: {"model", "protocol", "core", "internals"} for edge in EDGES},
    "server": {"model", "protocol", "core", "internals"} | EDGES,
    # The command line puts together what a verb needs: the client, the store's file, the server's settings.  Nobody imports it.
    "cli": {"model", "protocol", "core", "server"} | EDGES,
    # For the tests of programs that use the chat: a whole one in memory.
    "testing": {"model", "protocol", "core", "server"} | EDGES,
    # The front door and ``python -m twisted_chat``.
    "": {"model", "client", "server"},
}
#: What the model, the protocol and the core do not know of the world.
WORLD = ("autobahn", "twisted.web", "twisted.internet.reactor", "sqlite3", "psycopg", "OpenSSL", "socket")


def modules() -> Iterator[tuple[str, Path, set[str]]]:
    """Layer, file and full names of what is imported (``from a import b`` counts as ``a`` and ``a.b``)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        yield parts[0] if len(parts) > 1 else "model" if path.stem in MODEL else "", path, imported(path)


def layer_of(name: str) -> str:
    """The layer of a module by its full name."""
    first = name.split(".")[1]
    return "model" if first in MODEL else first


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def begins(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


class LayersTests(SynchronousTestCase):
    def test_the_table_is_complete(self) -> None:
        """A new package needs a place among the layers."""
        found = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
        self.assertEqual(found - set(MAY_IMPORT), set())

    def test_imports_point_down(self) -> None:
        """Each layer imports only what lies below it; edges do not import one another."""
        wrong = [
            f"{path.relative_to(PACKAGE)} imports {name}"
            for layer, path, names in modules()
            for name in names
            if begins(name, "twisted_chat") and name.count(".") >= 1
            if (target := layer_of(name)) in MAY_IMPORT and target != layer and target not in MAY_IMPORT[layer]
        ]
        self.assertEqual(wrong, [])

    def test_the_core_does_not_know_the_world(self) -> None:
        """Neither Autobahn nor twisted.web, SQL or the reactor, so that a test drives them with a Clock."""
        wrong = [
            f"{path.relative_to(PACKAGE)} imports {name}"
            for layer, path, names in modules()
            for name in names
            if layer in ("model", "protocol", "core") and any(begins(name, world) for world in WORLD)
        ]
        self.assertEqual(wrong, [])

    def test_only_the_wiring_knows_the_reactor(self) -> None:
        """Everybody else gets reactor and clock as arguments."""
        wrong = [
            str(path.relative_to(PACKAGE))
            for layer, path, names in modules()
            if layer not in ("server", "cli") and "twisted.internet.reactor" in names
        ]
        self.assertEqual(wrong, [])

    def test_the_plugin_imports_nothing(self) -> None:
        """Every ``twistd --help`` of everybody imports the drop-in, so it knows only ServiceMaker."""
        drop_in = PACKAGE.parent / "twisted" / "plugins" / "twisted_chat_plugin.py"
        self.assertEqual(imported(drop_in), {"twisted.application.service", "twisted.application.service.ServiceMaker"})
        self.assertEqual(list(drop_in.parent.parent.rglob("__init__.py")), [])


def import_graph() -> dict[str, set[str]]:
    """Each module of the package -> the modules of the package that it imports, also those for the type checker only."""
    names = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in sources()
    }
    return {
        name: {found for found in imported(path) if found in names} - {name, "twisted_chat"}
        for name, path in names.items()
        if name != "twisted_chat"
    }


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


class CirclesTests(SynchronousTestCase):
    def test_no_two_modules_import_one_another(self) -> None:
        """Directly or through others; what has to point upwards is a Protocol, or is handed in."""
        graph = import_graph()
        while True:
            leaves = {name for name, below in graph.items() if not below & set(graph)}
            if not leaves:
                break
            graph = {name: below for name, below in graph.items() if name not in leaves}
        # What is left is in a circle, or stands above one.
        self.assertEqual(sorted(graph), [])

    def test_the_core_imports_no_dialect(self) -> None:
        """The session class of each dialect is handed to the chat."""
        dialects = {"twisted_chat.core.text_session", "twisted_chat.core.json_session"}
        below = {name for name, imports in import_graph().items() if imports & dialects}
        self.assertEqual(below, {"twisted_chat.server.build"})


class SizeTests(SynchronousTestCase):
    """Nothing so large that nobody knows what is in it."""

    #: Methods of a class; structs of data and implementations of the store contract, which has more, are apart.
    METHODS = 25
    STORES = frozenset({"MemoryStore", "SQLiteStore", "PostgreSQLStore", "MemoryAccounts", "Tables"})
    CLASS_LINES = 300
    MODULE_LINES = 400
    FUNCTION_LINES = 50

    def test_sizes(self) -> None:
        """No module, function or class of the product exceeds its limit."""
        large: list[str] = []
        for path in sources():
            source = path.read_text()
            place = path.relative_to(PACKAGE)
            if source.count("\n") > self.MODULE_LINES:
                large.append(f"{place}: {source.count(chr(10))} lines")
            for node in ast.walk(ast.parse(source)):
                lines = getattr(node, "end_lineno", 0) - getattr(node, "lineno", 0) + 1
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines > self.FUNCTION_LINES:
                    large.append(f"{place} {node.name}: {lines} lines")
                if isinstance(node, ast.ClassDef):
                    methods = sum(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in node.body)
                    if lines > self.CLASS_LINES or (methods > self.METHODS and node.name not in self.STORES):
                        large.append(f"{place} {node.name}: {methods} methods, {lines} lines")
        self.assertEqual(large, [])
