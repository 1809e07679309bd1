"""A headless Chromium, driven over its DevTools protocol by the ``websockets`` library."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from twisted.trial.unittest import SkipTest
from websockets.sync.client import connect

from tests.harness.waiting import PATIENCE, wait_until

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


def program() -> str:
    """Where it is; without one the test is skipped with its reason."""
    for name in NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    raise SkipTest("chromium is not installed (apt-get install chromium)")


class Chromium:
    """One page.

    :param options: more for the command line.
    """

    def __init__(self, *options: str) -> None:
        self._options = options

    def __enter__(self) -> Chromium:
        with ExitStack() as stack:
            profile = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
            command = [program(), *OPTIONS, *self._options, f"--user-data-dir={profile}", "about:blank"]
            browser = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            stack.callback(browser.kill)
            port, path = _lines(profile / "DevToolsActivePort", browser)
            self._socket = stack.enter_context(connect(f"ws://127.0.0.1:{port}{path}", compression=None, max_size=None))
            self._number = 0
            self._session = ""
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def go(self, url: str) -> None:
        """Open a page and wait until it has loaded."""
        self._call("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of an expression in the page; a promise's when it is settled."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true."""
        return wait_until(lambda: self.run(expression))

    def key(self, text: str) -> None:
        """Type ``text`` where the focus is; a line's end is the key Enter."""
        for character in text:
            if character == "\n":
                for kind in ("keyDown", "keyUp"):
                    self._call(
                        "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
                    )
            else:
                self._call("Input.insertText", text=character)

    def _call(self, method: str, **parameters: object) -> Any:
        self._number += 1
        request: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            request["sessionId"] = self._session
        self._socket.send(json.dumps(request))
        while True:
            answer = json.loads(self._socket.recv(PATIENCE))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]


def _lines(file: Path, browser: subprocess.Popen[bytes]) -> Sequence[str]:
    """The port and the path of the browser's own socket, when it has written them."""

    def written() -> Sequence[str]:
        if browser.poll() is not None:
            raise AssertionError(f"Chromium did not start ({browser.poll()})")
        return file.read_text().splitlines() if file.exists() else []

    return wait_until(written, lambda lines: len(lines) == 2)
