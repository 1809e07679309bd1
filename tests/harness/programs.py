"""Clients that are programs of others, talked to by lines."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from twisted.trial.unittest import SkipTest

from bench import installing
from tests.harness.serving import ROOT
from tests.harness.waiting import PATIENCE

TALK = ROOT / "tests" / "node" / "talk.cjs"


class Talker:
    """``tests/node/talk.cjs``: events of a WebSocket out, lines in."""

    def __init__(self, command: Sequence[str], **environ: str) -> None:
        self._command = command
        self._environ = {**os.environ, **environ}
        self._said: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Talker:
        self.process = subprocess.Popen(
            self._command, env=self._environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None and self.process.stdout is not None
        for file in (self.process.stdin, self.process.stdout):
            file.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                self._said.put(line)
        except ValueError:
            pass  # closed at the end

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """End of its input: it says goodbye."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def next(self) -> dict[str, Any]:
        """The next event."""
        event: dict[str, Any] = json.loads(self._said.get(timeout=PATIENCE))
        return event

    def next_text(self) -> str:
        event = self.next()
        assert "text" in event, event
        text: str = event["text"]
        return text


def node_talker(url: str, subprotocol: str = "", **environ: str) -> Talker:
    """Node with ``ws``: the checkout's own, or one installed into the cache."""
    try:
        node = installing.node()
        place = ROOT if (ROOT / "node_modules" / "ws").exists() else installing.npm_package("ws", "8")
    except installing.NotInstallable as reason:
        raise SkipTest(str(reason)) from None
    return Talker([node, str(TALK), url, subprotocol], NODE_PATH=str(Path(place) / "node_modules"), **environ)


def bun_talker(url: str, subprotocol: str = "", **environ: str) -> Talker:
    """Bun's own WebSocket."""
    try:
        bun, _ = installing.bun()
    except installing.NotInstallable as reason:
        raise SkipTest(str(reason)) from None
    return Talker([bun, str(TALK), url, subprotocol, "built-in"], **environ)
