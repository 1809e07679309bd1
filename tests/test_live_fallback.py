"""The page on networks that block WebSockets, each in its own way: Chromium, a proxy that blocks, and the real server."""

from __future__ import annotations

import json
import time
from typing import Any, ClassVar
from urllib.request import urlopen

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.blocking import OPEN, BlockingProxy
from tests.harness.browser import Stage, Window

stage: Stage

CHAT = "document.querySelector('tc-room').state.chat"
STATUS = f"{CHAT}.status"
BLOCKED = "This network blocks WebSockets; using HTTP"
#: Keeps what the banner says.
LISTEN = """
window.said = [];
new MutationObserver(() => {
  const words = document.querySelector('.banner:not([hidden]) .words')?.textContent;
  if (words && said.at(-1) !== words) said.push(words);
}).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
"""


def setUpModule() -> None:
    global stage
    stage = Stage()


def tearDownModule() -> None:
    stage.end()


class Via:
    """The stage behind a proxy."""

    def __init__(self, proxy: BlockingProxy) -> None:
        self.url = proxy.url
        self.browser = stage.browser


class Case(SynchronousTestCase):
    """Each test has a room and a proxy of its own."""

    rooms: ClassVar[int] = 0

    def setUp(self) -> None:
        Case.rooms += 1
        self.room = f"blocked{Case.rooms}"

    def proxy(self, mode: str) -> BlockingProxy:
        proxy = BlockingProxy(stage.port, mode)
        self.addCleanup(proxy.__exit__, None, None, None)
        return proxy

    def window(self, proxy: BlockingProxy, name: str) -> Window:
        window = Window(Via(proxy), None, self.room)  # type: ignore[arg-type]
        self.addCleanup(window.__exit__, None, None, None)
        window.context.add_init_script(LISTEN)
        window.goto(f"#/{self.room}?name={name}")
        self.loaded(window)
        return window

    def loaded(self, window: Window) -> None:
        window.page.wait_for_selector("tc-room textarea:enabled")
        window.until("document.querySelector('tc-room').state?.timeline.loaded")

    def log(self) -> list[Any]:
        """The texts that the server has, in order."""
        texts: list[Any] = []
        after = 0
        while True:
            with urlopen(f"http://127.0.0.1:{stage.port}/api/v1/rooms/{self.room}/events?after={after}&limit=200") as reply:
                page = json.load(reply)
            texts += [event.get("text") for event in page["events"]]
            after = page["next"]
            if after >= page["head"]:
                return texts


class BlockedTests(Case):
    def test_403(self) -> None:
        """The proxy forbids the handshake."""
        self.lives("403")

    def test_502(self) -> None:
        """The proxy makes an error of the handshake."""
        self.lives("502")

    def test_stripped(self) -> None:
        """The proxy takes the ``Upgrade`` header away, and the server answers a plain request."""
        self.lives("stripped")

    def test_hangs(self) -> None:
        """The handshake gets no answer."""
        self.lives("hangs")

    def test_silent(self) -> None:
        """The handshake succeeds, and then nothing comes through."""
        self.lives("silent")

    def lives(self, mode: str) -> None:
        """Two windows talk by HTTP and are told why, a reload keeps the place, and when the network opens they return."""
        proxy = self.proxy(mode)
        alice, bob = self.window(proxy, "Alice"), self.window(proxy, "Bob")
        self.assertEqual([window.value(f"{STATUS}.transport") for window in (alice, bob)], ["http", "http"])
        for number in range(5):
            alice.say(f"alice {number}")
            bob.sees(f"alice {number}")
            bob.say(f"bob {number}")
            alice.sees(f"bob {number}")
        alice.until("document.querySelector('tc-people').textContent.includes('Bob')")
        for window in (alice, bob):
            window.becomes(f"{STATUS}.blocked", True)
            window.becomes(f"said.includes('{BLOCKED}')", True)
            self.assertNotIn("lost", str(window.value("said")))

        proxy.order()
        began = time.monotonic()
        alice.page.reload()
        self.loaded(alice)
        self.assertEqual((alice.value(f"{STATUS}.transport"), proxy.order()), ("http", 0))
        self.assertLess(time.monotonic() - began, 5)
        alice.becomes("document.querySelectorAll('.row .text').length", 10)

        proxy.order(OPEN)
        for window in (alice, bob):
            window.value("dispatchEvent(new Event('online'))")
        for number in range(5, 10):
            alice.say(f"alice {number}")
            bob.say(f"bob {number}")
        for window in (alice, bob):
            window.becomes(f"{STATUS}.transport", "websocket")
            window.becomes(f"{STATUS}.blocked", None)
            window.becomes("document.querySelectorAll('.row.pending').length", 0)
            window.becomes("document.querySelectorAll('.row .text').length", 20)
            self.assertNotIn("lost", str(window.value("said")))
        log = self.log()
        self.assertEqual(alice.texts, log)
        self.assertEqual(bob.texts, log)
        for name in ("alice", "bob"):
            self.assertEqual([text for text in log if name in text], [f"{name} {number}" for number in range(10)])


class NobodyTests(Case):
    def test_a_server_that_is_down(self) -> None:
        """Of a server that is down nothing is said of WebSockets, and of a first visit nothing of a connection that was lost."""
        proxy = self.proxy("403")
        window = Window(Via(proxy), None, self.room)  # type: ignore[arg-type]
        self.addCleanup(window.__exit__, None, None, None)
        window.context.add_init_script(LISTEN)
        # The files come; the chat does not.
        for path in ("**/ws", "**/api/**"):
            window.page.route(path, lambda route: route.abort())
        window.goto(f"#/{self.room}?name=Alice")

        window.page.wait_for_selector(".banner:has-text('The server cannot be reached')")

        self.assertNotIn("lost", str(window.value("said")))
        self.assertNotIn("WebSockets", str(window.value("said")))

        window.page.unroute("**/api/**")
        window.becomes(f"{STATUS}.state", "online")


class KilledTests(Case):
    def test_kill(self) -> None:
        """The server is killed three times while somebody writes by HTTP: nothing acknowledged is lost, doubled or reordered."""
        proxy = self.proxy("403")
        alice = self.window(proxy, "Alice")
        alice.becomes(f"{STATUS}.blocked", True)
        alice.value(
            """() => {
                window.kept = [];
                const { room } = document.querySelector('tc-room').state;
                let number = 0;
                const next = () => {
                    const text = `line ${number++}`;
                    room.send(text).done.then((seq) => kept.push([seq, text]));
                    if (number < 900) setTimeout(next, 5);
                };
                next();
            }"""
        )
        for least in (100, 300, 500):
            alice.until(f"kept.length >= {least}")
            stage.kill()
            stage.start()
        for least in (600, 700, 800, 900):
            alice.until(f"kept.length >= {least}")
        alice.until(f"kept.length === 900 && {STATUS}.state === 'online'")

        log = self.log()

        self.assertEqual(log, [f"line {number}" for number in range(900)])
        self.assertEqual(alice.value("kept"), [[number + 1, text] for number, text in enumerate(log)])
        self.assertEqual(alice.value(f"{STATUS}.transport"), "http")
