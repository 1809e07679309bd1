"""The load generator: compiled on the spot, run as a child, its lines read as they come.

``python -m bench.loading MODE setting=value …`` runs it by itself, against a server that somebody else started.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from bench.installing import cache_directory

SOURCE = Path(__file__).resolve().parent / "loadgen.c"
FLAGS = ["-O3", "-march=native", "-Wall", "-Wextra"]
TLS_FLAGS = ["-DWITH_TLS"]
TLS_LIBRARIES = ["-lssl", "-lcrypto"]

Settings: TypeAlias = Mapping[str, int | float | str]


class LoadFailed(Exception):
    """The load could not be put on, or what came back was wrong: one line."""


@dataclass(frozen=True)
class Generator:
    """:ivar tls: whether OpenSSL's headers were there."""

    path: Path
    tls: bool


@cache
def generator() -> Generator:
    """The compiled load generator, built anew when its source or the compiler changed."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise LoadFailed("no C compiler (cc, gcc or clang) in PATH to build the load generator with")
    tls = _compiles(compiler, "#include <openssl/ssl.h>\nint main(void) { return !TLS_client_method(); }\n", TLS_LIBRARIES)
    flags = [*FLAGS, *(TLS_FLAGS if tls else [])]
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    digest = hashlib.sha256(b"\0".join([SOURCE.read_bytes(), version, " ".join(flags).encode()])).hexdigest()[:16]
    target = cache_directory() / f"loadgen-{digest}"
    if not target.exists():
        unfinished = target.with_suffix(".new")
        command = [compiler, *flags, "-o", str(unfinished), str(SOURCE), *(TLS_LIBRARIES if tls else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LoadFailed(f"the load generator does not compile: {done.stderr}")
        unfinished.rename(target)
    return Generator(target, tls)


def _compiles(compiler: str, code: str, libraries: list[str]) -> bool:
    command = [compiler, "-x", "c", "-", "-o", "/dev/null", *libraries]
    return subprocess.run(command, input=code.encode(), capture_output=True, check=False).returncode == 0


@dataclass
class Load:
    """A load generator at work."""

    process: subprocess.Popen[str]

    def reports(self) -> Iterator[dict[str, Any]]:
        """Its lines, until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield json.loads(line)
        if self.process.wait():
            assert self.process.stderr is not None
            raise LoadFailed(self.process.stderr.read().strip().removeprefix("loadgen: ") or "it ended without a result")

    def go_on(self) -> None:
        """Answers "held"."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@contextmanager
def loading(mode: str, settings: Settings) -> Iterator[Load]:
    words = [f"{name}={value}" for name, value in settings.items()]
    process = subprocess.Popen(
        [str(generator().path), mode, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Load(process)
    finally:
        process.kill()
        process.communicate()


def run(mode: str, settings: Settings, watch: Callable[[str], None] = lambda event: None) -> dict[str, Any]:
    """The whole run; ``watch`` is told of "start" and "stop" of the measured window."""
    with loading(mode, settings) as load:
        for report in load.reports():
            if report["event"] == "result":
                return report
            watch(report["event"])
    raise LoadFailed("it ended without a result")


if __name__ == "__main__":
    try:
        os.execv(path := generator().path, [str(path), *sys.argv[1:]])
    except LoadFailed as problem:
        sys.exit(str(problem))
