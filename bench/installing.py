"""Finding the peers, or installing them into the cache directory; never into the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

#: A package that takes longer than this (seconds) is not installable here.
PATIENCE = 300


class NotInstallable(Exception):
    """Why a peer cannot take part: one line."""


def cache_directory() -> Path:
    """Where peers, the compiled load generator and working files live."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = Path(base) / "twisted-chat-bench"
    path.mkdir(parents=True, exist_ok=True)
    return path


def node() -> str:
    path = shutil.which("node")
    if path is None:
        raise NotInstallable("no program `node` in PATH")
    return path


def npm_package(name: str, version: str) -> Path:
    """A directory that holds ``node_modules/NAME``."""
    place = cache_directory() / "npm" / name
    if not (place / "node_modules" / name / "package.json").exists():
        npm = shutil.which("npm")
        if npm is None:
            raise NotInstallable(f"no program `npm` in PATH to install {name} with")
        place.mkdir(parents=True, exist_ok=True)
        _run([npm, "install", "--prefix", str(place), "--no-audit", "--no-fund", f"{name}@{version}"])
    return place


def npm_version(place: Path, name: str) -> str:
    text = (place / "node_modules" / name / "package.json").read_text()
    return str(json.loads(text)["version"])


def bun() -> tuple[str, str]:
    """The binary that works, and its version.

    npm's package brings it as ``@oven/bun-PLATFORM/bin/bun``; its install script moves it to ``bun/bin/bun.exe``, if scripts may
    run; where they may not, a text that says so stands in its place.
    """
    modules = npm_package("bun", "1") / "node_modules"
    candidates = [*modules.glob("@oven/bun-*/bin/bun"), modules / "bun/bin/bun.exe", modules / "bun/bin/bun"]
    if (in_path := shutil.which("bun")) is not None:
        candidates.append(Path(in_path))
    for candidate in candidates:
        if version := _version_of(candidate):
            return str(candidate), version
    raise NotInstallable(f"npm's package `bun` has no binary that runs here (looked in {modules})")


def python_package(name: str) -> tuple[str, str]:
    """An interpreter that has the package, and its version: this one, or one of a virtual environment in the cache."""
    own = _package_version(sys.executable, name)
    if own is not None:
        return sys.executable, own
    place = cache_directory() / "python" / name
    interpreter = place / "bin" / "python"
    if not interpreter.exists() or _package_version(str(interpreter), name) is None:
        _run([sys.executable, "-m", "venv", str(place)])
        _run([str(interpreter), "-m", "pip", "install", "--quiet", name])
    version = _package_version(str(interpreter), name)
    if version is None:
        raise NotInstallable(f"Python package {name} was installed and cannot be imported")
    return str(interpreter), version


def _package_version(interpreter: str, name: str) -> str | None:
    code = f"import {name}, importlib.metadata as m; print(m.version({name!r}))"
    done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _version_of(binary: Path) -> str | None:
    if not binary.exists():
        return None
    try:
        done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _run(command: list[str]) -> None:
    print(f"installing: {' '.join(command)}", file=sys.stderr)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise NotInstallable(f"{' '.join(command)}: not done in {PATIENCE} s") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise NotInstallable(f"{' '.join(command)}: {last[0]}")
