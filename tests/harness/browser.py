"""A headless Chromium, driven by playwright, before the real server; for ``test_live_page*.py``.

One browser, one server and one proxy serve all tests of a module (:class:`Stage`); each person is a context of its own
(:class:`Window`), with its own storage.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from twisted.trial.unittest import SkipTest, SynchronousTestCase
from websockets.sync.client import connect

from tests.harness.chromium import program
from tests.harness.listening import listen, pump
from tests.harness.node_modules import node_modules
from tests.harness.serving import Served, free_port

#: Milliseconds that the page may take for anything; machines under load take long.
PATIENCE = 60_000
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
#: Nobody is slowed down who does not mean to be.
LIMITS = {
    f"TWISTED_CHAT_LIMITS_{name}": "100000"
    for name in ("SEND_BURST", "SEND_PER_SECOND", "PERSON_BURST", "PERSON_PER_SECOND", "QUERY_BURST", "QUERY_PER_SECOND")
}


class Way:
    """The way to the server, through which the browser goes: it can be closed, and it can lose what comes back."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.open = True
        self.mute = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = listen(self._connect)
        self.port: int = self._listener.getsockname()[1]

    def cut(self) -> None:
        """Reset everything that is connected."""
        for pair in self._pairs:
            for side in pair:
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def close(self) -> None:
        self.open = False
        self._listener.close()
        self.cut()

    def _connect(self, client: socket.socket) -> None:
        try:
            if not self.open:
                raise OSError
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        self._pairs.append((client, server))
        threading.Thread(target=self._pass, args=(client, server, lambda: False), daemon=True).start()
        threading.Thread(target=self._pass, args=(server, client, lambda: self.mute), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, loses: Callable[[], bool]) -> None:
        pump(source, sink, loses)
        source.close()


class ServerStage:
    """Server and way.

    :param environ: settings of the server beside the limits.
    """

    def __init__(self, *arguments: str, **environ: str) -> None:
        self._directory = Path(tempfile.mkdtemp())
        self.port = free_port()
        self._arguments = (f"--listen=tcp:{self.port}:interface=127.0.0.1", *arguments)
        self._environ = {**LIMITS, **environ}
        self.server = self.start()
        self.way = Way(self.port)
        self.url = f"http://127.0.0.1:{self.way.port}/"

    def start(self) -> Served:
        """Start the server, or start it again on the same data."""
        self.server = Served(self._directory, *self._arguments, **self._environ)
        return self.server.__enter__()

    def kill(self) -> None:
        """End the server as a power cut does."""
        self.server.end(signal.SIGKILL)
        self.server.__exit__(None, None, None)

    def delete_database(self) -> None:
        """As an operator does who begins anew; the server does not run."""
        for path in self._directory.rglob("chat.db*"):
            path.unlink()

    def end(self) -> None:
        self.way.close()
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def post(self, room: str, texts: Iterable[str], name: str = "Robot") -> None:
        """Somebody without a browser says all this."""
        with connect(f"ws://127.0.0.1:{self.port}/ws", subprotocols=["chat.v1.json"]) as client:  # type: ignore[list-item]
            client.send(json.dumps({"type": "hello", "id": 0, "name": name, "device": f"device-of-{name}"}))
            client.send(json.dumps({"type": "join", "id": 1, "room": room}))
            waiting = 0
            for number, text in enumerate(texts, 2):
                client.send(json.dumps({"type": "send", "id": number, "room": room, "text": text}))
                waiting += 1
            while waiting:
                reply = json.loads(client.recv(20))
                for each in reply if isinstance(reply, list) else [reply]:
                    if each["type"] == "error":
                        raise AssertionError(each)
                    waiting -= each["type"] == "ok" and each["id"] > 1


class Stage(ServerStage):
    """Server, way and browser."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        try:
            from playwright.sync_api import sync_playwright
        except ImportError:
            raise SkipTest("playwright is not installed (pip install playwright)") from None
        path = program()
        super().__init__(*arguments, **environ)
        self._playwright = sync_playwright().start()
        self.browser = self._playwright.chromium.launch(executable_path=path, args=OPTIONS)

    def end(self) -> None:
        self.browser.close()
        self._playwright.stop()
        super().end()


class Window:
    """One person's page."""

    def __init__(self, stage: Stage, name: str | None = None, room: str = "lobby", **context: Any) -> None:
        self.stage = stage
        self.room = room
        self.context = stage.browser.new_context(**{"viewport": {"width": 1000, "height": 700}, **context})
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))
        if name is not None:
            self.goto(f"#/{room}?name={name}")
            self.page.wait_for_selector("tc-room textarea:enabled")
            self.until("document.querySelector('tc-room').state?.timeline.loaded")

    def __enter__(self) -> Window:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and (directory := os.environ.get("TWISTED_CHAT_SCREENSHOTS")):
            self.page.screenshot(path=Path(directory) / f"failed-{id(self)}.png")
        self.context.close()
        if kind is None and self.errors:
            raise AssertionError(self.errors)

    def goto(self, hash_: str = "") -> None:
        self.page.goto(self.stage.url + hash_)

    def say(self, text: str) -> None:
        self.page.fill("tc-room textarea", text)
        self.page.press("tc-room textarea", "Enter")

    def until(self, expression: str, argument: object = None) -> None:
        """Until a JavaScript expression is true."""
        function = expression if expression.startswith("(") else f"() => {expression}"
        self.page.wait_for_function(function, arg=argument, polling=50)

    def becomes(self, expression: str, expected: object) -> None:
        """Until a JavaScript expression (or a promise of one) has that value; the error says which it had last."""
        # wait_for_function() takes a promise for true, whatever it will be.
        deadline = time.monotonic() + PATIENCE / 1000
        while (value := self._now(expression)) != expected:
            if time.monotonic() > deadline:
                raise AssertionError(f"{expression} is {value!r}, not {expected!r}")
            self.page.wait_for_timeout(50)

    def _now(self, expression: str) -> object:
        """What it is, or the error, while there is none yet or another page comes."""
        from playwright.sync_api import Error

        try:
            return self.page.evaluate(expression)
        except Error as error:
            return error

    def drafts(self, text: str) -> None:
        """Until that is in the composer."""
        self.becomes("document.querySelector('tc-room textarea').value", text)

    def sees(self, text: str) -> None:
        """Until a message with that text is shown and kept."""
        self.until(
            "(text) => [...document.querySelectorAll('li:not(.pending) .text')].some(e => e.innerText.includes(text))", text
        )

    @property
    def texts(self) -> list[str]:
        found: list[str] = self.page.eval_on_selector_all(".row .text", "all => all.map(e => e.innerText)")
        return found

    def row(self, text: str) -> Any:
        """The row that shows the text."""
        return self.page.locator("li.row", has=self.page.locator(".text", has_text=text)).last

    def act(self, text: str, button: str) -> None:
        """Point at a message and press one of its buttons."""
        self.row(text).locator(".message").hover()
        self.page.click(f".toolbar [aria-label='{button}']")

    def value(self, expression: str, argument: object = None) -> Any:
        return self.page.evaluate(expression, argument)

    def axe(self) -> list[str]:
        """What axe-core finds wrong with what is shown."""
        path = node_modules() / "axe-core" / "axe.min.js"
        # Past the page's policy, which rightly lets no foreign script in: through the debugger.
        self.page.evaluate(path.read_text() + "\n;undefined")
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{each['id']}: {node['html'][:160]} {node['failureSummary']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]


class PageCase(SynchronousTestCase):
    """Tests of the page on one stage for each module; each test has a room of its own.

    The module has the line ``setUpModule, tearDownModule = PageCase.begin, PageCase.end``.
    """

    stage: ClassVar[Stage]
    rooms: ClassVar[int] = 0

    @staticmethod
    def begin() -> None:
        PageCase.stage = Stage()

    @staticmethod
    def end() -> None:
        PageCase.stage.end()

    def setUp(self) -> None:
        PageCase.rooms += 1
        self.room = f"room{PageCase.rooms}"

    def window(self, name: str | None = None, **context: Any) -> Window:
        window = Window(self.stage, name, self.room, **context)
        self.addCleanup(window.__exit__, None, None, None)
        return window
