"""Firefox and WebKit, driven by their drivers: the engines beside Chromium (:mod:`tests.harness.browser`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from glob import glob
from typing import Any, Protocol

from twisted.trial.unittest import SkipTest
from websockets.sync.client import ClientConnection, connect

from tests.harness.serving import free_port
from tests.harness.waiting import PATIENCE, wait_until

#: The code points of keys that are no characters (WebDriver, section 17.4.2).
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "ArrowUp": "\ue013", "Shift": "\ue008", "Control": "\ue009", "Tab": "\ue004"}


class Engine(Protocol):
    """A browser with one window."""

    name: str

    def go(self, url: str) -> None:
        """Load the page; without a load if only its fragment is another one."""

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; that of a promise when it is settled."""

    def back(self) -> None:
        """Go to the page before."""

    def press(self, *keys: str) -> None:
        """Press these keys one after the other, and release them; ``Shift+Enter`` are two at once."""

    def close(self) -> None:
        """End the browser."""


def _program(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SkipTest(f"{name} is not installed (apt-get install {package})")
    return path


def _awaited(expression: str) -> str:
    """An expression whose value is JSON, whatever the first one's is."""
    return f"(async () => JSON.stringify((await ({expression})) ?? null))()"


def _key_actions(keys: Sequence[str]) -> list[dict[str, Any]]:
    steps = []
    for key in keys:
        held = key.split("+") if len(key) > 1 else [key]
        steps += [{"type": "keyDown", "value": KEYS.get(each, each)} for each in held]
        steps += [{"type": "keyUp", "value": KEYS.get(each, each)} for each in reversed(held)]
    return [{"type": "key", "id": "keyboard", "actions": steps}]


class Firefox:
    """Firefox over WebDriver BiDi, which it speaks by itself."""

    name = "Firefox"
    PREFERENCES = (
        ("app.normandy.enabled", "false"),
        ("browser.shell.checkDefaultBrowser", "false"),
        ("datareporting.policy.dataSubmissionEnabled", "false"),
        ("network.captive-portal-service.enabled", "false"),
        ("remote.active-protocols", "1"),
        ("toolkit.telemetry.reportingpolicy.firstRun", "false"),
    )

    def __init__(self) -> None:
        program = _program("firefox-esr", "firefox-esr") if shutil.which("firefox-esr") else _program("firefox", "firefox-esr")
        with ExitStack() as stack:
            profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            with open(os.path.join(profile, "user.js"), "w") as file:
                file.writelines(f'user_pref("{name}", {value});\n' for name, value in self.PREFERENCES)
            port = free_port()
            command = [
                program,
                "--headless",
                f"--remote-debugging-port={port}",
                "--profile",
                profile,
                "--no-remote",
                "about:blank",
            ]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            stack.callback(process.kill)
            self._socket: ClientConnection = stack.enter_context(
                wait_until(lambda: _connected(f"ws://127.0.0.1:{port}/session"), lambda found: found is not None)
            )
            self._number = 0
            self._call("session.new", capabilities={})
            self._context = self._call("browsingContext.getTree")["contexts"][0]["context"]
            self._stack = stack.pop_all()

    def go(self, url: str) -> None:
        self._call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def run(self, expression: str) -> Any:
        answer = self._call(
            "script.evaluate", expression=_awaited(expression), target={"context": self._context}, awaitPromise=True
        )
        if answer["type"] != "success":
            raise AssertionError(f"{expression}: {answer['exceptionDetails']['text']}")
        return json.loads(answer["result"]["value"])

    def back(self) -> None:
        self._call("browsingContext.traverseHistory", context=self._context, delta=-1)

    def press(self, *keys: str) -> None:
        self._call("input.performActions", context=self._context, actions=_key_actions(keys))

    def close(self) -> None:
        self._stack.close()

    def _call(self, method: str, **parameters: object) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(PATIENCE))
            if answer.get("id") == self._number:
                if answer["type"] == "error":
                    raise AssertionError(f"{method}: {answer['message']}")
                return answer["result"]


def _connected(url: str) -> Any:
    try:
        connection = connect(url, max_size=None, compression=None, proxy=None)
    except OSError:
        return None
    return connection


class WebKit:
    """WebKitGTK's MiniBrowser over WebDriver; it needs a display, and gets one that nobody sees."""

    name = "WebKit"

    def __init__(self) -> None:
        driver = _program("WebKitWebDriver", "webkit2gtk-driver")
        screen = _program("Xvfb", "xvfb")
        browsers = glob("/usr/lib/*/webkit2gtk-4*/MiniBrowser")
        if not browsers:
            raise SkipTest("MiniBrowser is not installed (apt-get install webkit2gtk-driver)")
        with ExitStack() as stack:
            reading, writing = os.pipe()
            command = [screen, "-displayfd", str(writing), "-nolisten", "tcp", "-screen", "0", "1100x800x24"]
            display = stack.enter_context(
                subprocess.Popen(command, pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            stack.callback(display.kill)
            os.close(writing)
            with open(reading) as file:
                number = file.readline().strip()
            self._port = free_port()
            environ = {**os.environ, "DISPLAY": f":{number}", "WEBKIT_DISABLE_COMPOSITING_MODE": "1", "NO_AT_BRIDGE": "1"}
            process = stack.enter_context(
                subprocess.Popen(
                    [driver, f"--port={self._port}"], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
            stack.callback(process.kill)
            options = {"binary": browsers[-1], "args": ["--automation"]}
            wanted = {"browserName": "MiniBrowser", "webkitgtk:browserOptions": options}
            self._session = ""
            made = wait_until(lambda: self._begin(wanted), lambda answer: answer is not None)
            self._session = f"/session/{made['sessionId']}"
            stack.callback(self._ask, "DELETE", "")
            self._ask("POST", "/timeouts", script=int(PATIENCE * 1000))
            self._stack = stack.pop_all()

    def go(self, url: str) -> None:
        self._ask("POST", "/url", url=url)

    def run(self, expression: str) -> Any:
        script = (
            f"const done = arguments[arguments.length - 1]; {_awaited(expression)}"
            ".then((value) => done(value), (error) => done(`!${error}`));"
        )
        value = self._ask("POST", "/execute/async", script=script, args=[])
        if isinstance(value, str) and value.startswith("!"):
            raise AssertionError(f"{expression}: {value[1:]}")
        return json.loads(value)

    def back(self) -> None:
        # By the driver, which then waits for the page: a script that the page's change cuts off is never answered.
        self._ask("POST", "/back")

    def press(self, *keys: str) -> None:
        self._ask("POST", "/actions", actions=_key_actions(keys))

    def close(self) -> None:
        self._stack.close()

    def _begin(self, wanted: Mapping[str, object]) -> Any:
        try:
            return self._ask("POST", "/session", capabilities={"alwaysMatch": wanted})
        except OSError:
            return None

    def _ask(self, method: str, path: str, **body: object) -> Any:
        data = json.dumps(body).encode() if method == "POST" else None
        url = f"http://127.0.0.1:{self._port}{self._session}{path}"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=2 * PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()}") from None


ENGINES: tuple[Callable[[], Engine], ...] = (Firefox, WebKit)
