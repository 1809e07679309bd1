"""Everything that can be run apart: ``nox`` runs the tests on each version of Python that is installed, ``nox -s floors`` on the oldest
dependencies, ``nox -s lint types docs build`` the rest."""

from __future__ import annotations

import nox

nox.options.sessions = ["tests", "floors", "lint", "types", "docs", "build"]
nox.options.error_on_missing_interpreters = False

#: What needs no sockets and no second program.
MEMORY = ("-m", "not live")


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """The tests in memory; ``nox -s tests -- ARGUMENTS`` gives pytest other arguments."""
    session.install("-e", ".[test]")
    session.run("pytest", *(session.posargs or MEMORY))


@nox.session(python="3.11")
def floors(session: nox.Session) -> None:
    """The lowest versions of everything that setup.cfg allows."""
    session.install("-e", ".[test]", "-c", "tests/floors.txt")
    session.run("pytest", *MEMORY, "--deselect", "tests/test_types.py")


@nox.session
def lint(session: nox.Session) -> None:
    """The linter and the formatter."""
    session.install("ruff == 0.17.*")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """The type checker."""
    session.install("-e", ".[test]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as HTML."""
    session.install("sphinx")
    session.run("sphinx-build", "-W", "-n", "docs", "build/html")


@nox.session
def build(session: nox.Session) -> None:
    """What is published."""
    session.install("build", "twine", "check-manifest")
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", "dist/*", external=False)
    session.run("check-manifest")
