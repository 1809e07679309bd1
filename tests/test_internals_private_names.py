"""Private names (``_name``) of others are used in ``twisted_chat/internals/`` only.

Others are everybody but the classes of the same module: Twisted, Autobahn, the standard library, and our own other modules.  Subclasses of
Twisted's HTTP classes and of Autobahn's protocols use inherited private names where there is no public way; each is in
:data:`INHERITED`, and is still there.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import twisted_chat

PACKAGE = Path(twisted_chat.__file__).parent
#: Names that begin with ``_`` and are documented all the same.
DOCUMENTED = {"os._exit"}
#: Places that still use private names of others, as ``module: expression``.  May only shrink: what is not used any more must go.
OFFENDERS: set[str] = set()
#: Private names that subclasses inherit from Twisted and Autobahn and use or replace, by module, each with its reason.
#: ``tests/test_internals_takeover.py`` pins those of HTTP, ``tests/test_websocket_pins.py`` those of Autobahn.
INHERITED: dict[str, dict[str, str]] = {
    "twisted_chat.client.websocket": {
        "_dataReceived": "reads frames, without the debug line that the public dataReceived formats",
    },
    "twisted_chat.web.site": {
        "_abortingCall": "the timer that drops a connection whose last bytes are not taken",
        "_buffer": "bytes of a request that is not whole",
        "_networkProducer": "the transport, not read while it does not take an answer",
        "_receivedHeaderCount": "which limit of the head was passed",
        "_receivedHeaderSize": "whether a request has begun",
        "_respondToBadRequestAndDisconnect": "replaced: Twisted's answer has neither body nor headers",
        "_waitingForTransport": "whether an answer waits in the transport, so that no other is begun",
    },
    "twisted_chat.websocket.connection": {
        "_connectionLost": "ends Autobahn's timers",
        "_connectionMade": "makes the state for unusual frames",
        "_dataReceived": "reads unusual frames",
        "_perMessageCompress": "the extension, which Autobahn's own handshake would make",
        "_transport_details": "replaced: made by a connectionMade that is not called",
    },
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Full name and syntax tree of each module outside ``internals``."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith("twisted_chat.internals"):
            yield name, ast.parse(path.read_text(), str(path))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def is_own(value: ast.expr) -> bool:
    """``self``, ``cls`` or ``super()``."""
    match value:
        case ast.Name("self" | "cls") | ast.Call(ast.Name("super")):
            return True
    return False


def defined_names(tree: ast.AST) -> set[str]:
    """What classes in the tree define: methods, class attributes, slots, and attributes assigned to ``self``."""
    names: set[str] = set()
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.ClassDef):
            continue
        for node in ast.walk(scope):
            match node:
                case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.AnnAssign(ast.Name(name)):
                    names.add(name)
                case ast.Attribute(ast.Name("self" | "cls"), name, ast.Store()):
                    names.add(name)
                case ast.Assign(targets):
                    names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def private_uses(tree: ast.Module) -> Iterator[str]:
    """Every use of a private name of somebody else, as it is written."""
    own = defined_names(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value, name) if is_private(name) and not is_own(value) and name not in own:
                yield ast.unparse(node)
            case ast.Call(ast.Name("getattr" | "setattr" | "hasattr" | "delattr"), [_, ast.Constant(str(name)), *_]) if (
                is_private(name)
            ):
                yield ast.unparse(node)
            case ast.Subscript(ast.Call(ast.Name("vars")), ast.Constant(str(name))) if is_private(name):
                yield ast.unparse(node)
            case ast.ImportFrom(str(module), names):
                for alias in names:
                    if any(map(is_private, [*module.split("."), alias.name])) and module != "__future__":
                        yield f"from {module} import {alias.name}"


def offenders() -> set[str]:
    found = {f"{name}: {use}" for name, tree in modules() for use in private_uses(tree)}
    return {use for use in found if use.split(": ", 1)[1] not in DOCUMENTED}


@cache
def names_in_source(kind: type) -> frozenset[str]:
    """Private names that the class defines or uses on ``self``, by its source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError):
        return frozenset(filter(is_private, vars(kind)))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_own(node.value)}
    return frozenset(filter(is_private, used | defined_names(tree)))


def is_foreign(kind: type) -> bool:
    return kind.__module__.split(".")[0] not in ("twisted_chat", "builtins", "typing", "abc", "enum", "_io")


def subclasses() -> Iterator[tuple[str, type, frozenset[str]]]:
    """Module and class of each class that is defined at the top of a module, and the private names of its foreign bases."""
    for name, tree in modules():
        if name.endswith("__main__"):
            continue
        module = importlib.import_module(name)
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                kind = getattr(module, node.name)
                foreign = [names_in_source(base) for base in kind.__mro__[1:] if is_foreign(base)]
                yield name, kind, frozenset().union(*foreign)


def inherited_names() -> dict[str, set[str]]:
    """By module, the private names that its classes share with Twisted's and Autobahn's, also by accident."""
    found: dict[str, set[str]] = {}
    for name, kind, theirs in subclasses():
        if ours := names_in_source(kind) & theirs:
            found[name] = found.get(name, set()) | ours
    return found


class PrivateNamesTests(SynchronousTestCase):
    def test_nobody_uses_private_names_of_others(self) -> None:
        """No module uses private names of others by attribute, ``getattr``, ``vars`` or import."""
        self.assertEqual(sorted(offenders() - OFFENDERS), [], "new; make it public, or move it to internals")

    def test_the_list_of_offenders_shrinks(self) -> None:
        self.assertEqual(sorted(OFFENDERS - offenders()), [], "gone; take it out of OFFENDERS")

    def test_inherited_names_are_listed(self) -> None:
        """A subclass shares no private name with Twisted or Autobahn but the listed ones, and each of these is still there."""
        self.assertEqual(inherited_names(), {name: set(names) for name, names in INHERITED.items()})


class RuleTests(SynchronousTestCase):
    """The test of the test: what counts as a use of others' private names."""

    def uses(self, source: str) -> list[str]:
        return list(private_uses(ast.parse(source)))

    def test_attribute(self) -> None:
        """A private attribute of another object is found."""
        self.assertEqual(self.uses("transport._buffer.clear()"), ["transport._buffer"])

    def test_attribute_of_an_attribute(self) -> None:
        """A private attribute of an own attribute's object is found."""
        self.assertEqual(self.uses("self.channel._buffer = []"), ["self.channel._buffer"])

    def test_by_string(self) -> None:
        """A private name given as a string is found."""
        self.assertEqual(self.uses("getattr(x, '_a', None); vars(x)['_b']"), ["getattr(x, '_a', None)", "vars(x)['_b']"])

    def test_import(self) -> None:
        """The import of a private module or from one is found; ``__future__`` is not private."""
        uses = self.uses(
            "from twisted.internet import _newtls\nfrom twisted.internet._sslverify import a\nfrom __future__ import annotations"
        )
        self.assertEqual(uses, ["from twisted.internet import _newtls", "from twisted.internet._sslverify import a"])

    def test_own(self) -> None:
        """Private names of the object itself, its class and its base class are allowed."""
        self.assertEqual(self.uses("self._a; cls._b; super()._c; x.__class__"), [])

    def test_of_a_class_of_the_same_module(self) -> None:
        """Private attributes that a class of the same module sets are allowed."""
        source = "class A:\n    def __init__(self): self._a = 1\n    def __eq__(self, other): return self._a == other._a\n"
        self.assertEqual(self.uses(source), [])
