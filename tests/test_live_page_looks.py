"""The page in a real browser: how one comes in, how it looks, for whom it works; and the element for other pages."""

from __future__ import annotations

import http.server
import socket
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import jwt
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.blocking import BlockingProxy
from tests.harness.browser import Stage, Window
from tests.harness.serving import Served

SECRET = "a secret of more than thirty-two bytes"
stage: Stage
site: http.server.ThreadingHTTPServer

HOST_PAGE = """<!doctype html><html lang="en"><title>Host</title><style>twisted-chat { --chat-accent: rgb(1, 2, 3); height: 300px }</style>
<body><h1>A site</h1><script type="module" src="%sembed.js"></script>
<twisted-chat room="embedded" token="%s"></twisted-chat></body></html>"""


class HostPage(http.server.BaseHTTPRequestHandler):
    """Somebody else's site; the chat's server may be in the query."""

    def do_GET(self) -> None:
        server = urlsplit(self.path).query or stage.url
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write((HOST_PAGE % (server, token("u-host", "Holly Host"))).encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


def token(subject: str, name: str, **claims: object) -> str:
    return jwt.encode({"sub": subject, "name": name, "exp": int(time.time()) + 600, **claims}, SECRET, "HS256")


def setUpModule() -> None:
    global stage, site
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), HostPage)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    key = Path(tempfile.mkdtemp()) / "secret"
    key.write_text(SECRET)
    origin = f"http://127.0.0.1:{site.server_address[1]}"
    stage = Stage(f"--jwt-keys=HS256:{key}", TWISTED_CHAT_ALLOWED_ORIGINS=origin)


def tearDownModule() -> None:
    stage.end()
    site.shutdown()
    site.server_close()


class Case(SynchronousTestCase):
    def window(self, name: str | None = None, room: str = "lobby", **context: object) -> Window:
        window = Window(stage, name, room, **context)
        self.addCleanup(window.__exit__, None, None, None)
        return window


class ComingInTests(Case):
    def test_guest(self) -> None:
        """A name is enough, and is remembered; the same guest comes back."""
        alice = self.window()
        alice.goto()
        alice.page.fill("#sign-in-name", "Alice")
        alice.page.click("text=Join >> nth=-1")
        alice.page.wait_for_selector("tc-room textarea:enabled")
        alice.say("hello")
        alice.sees("hello")
        alice.page.reload()
        alice.sees("hello")
        alice.becomes("document.querySelector('.foot bdi')?.innerText", "Alice")
        alice.becomes("document.querySelectorAll('.row.own').length", 1)

    def test_name_taken(self) -> None:
        """What is wrong with a name is said in words, and another one can be tried."""
        self.window("Gustav")
        alice = self.window()
        alice.goto()
        alice.page.fill("#sign-in-name", "Gust\u0430v")
        alice.page.press("#sign-in-name", "Enter")
        alice.page.wait_for_selector(".error:has-text('looks like the name of somebody else')")
        alice.page.fill("#sign-in-name", "Alice")
        alice.page.press("#sign-in-name", "Enter")
        alice.page.wait_for_selector("tc-room textarea:enabled")

    def test_token(self) -> None:
        """By token; with one, topics can be set; a bad one is refused in words."""
        alice = self.window()
        alice.goto("#/with-token")

        self.assertIn("with-token", alice.page.inner_text(".invited"))

        alice.page.click("summary")
        alice.page.fill("#sign-in-token", "nonsense")
        alice.page.press("#sign-in-token", "Enter")
        alice.page.wait_for_selector(".error:has-text('The token is not valid')")
        alice.page.evaluate("localStorage.clear()")
        alice.goto("")
        alice.page.reload()
        alice.page.click("summary")
        alice.page.fill("#sign-in-token", token("u1", "Tessa Token"))
        alice.page.press("#sign-in-token", "Enter")
        alice.page.wait_for_selector(".foot bdi:has-text('Tessa Token')")
        alice.say("/topic What we talk about")
        alice.page.wait_for_selector(".topic:has-text('What we talk about')")

    def test_link(self) -> None:
        """By link, which leaves no secret in the address."""
        alice = self.window()
        alice.goto(f"#/invited?token={token('u2', 'Linda Link')}")

        alice.page.wait_for_selector(".foot bdi:has-text('Linda Link')")

        self.assertTrue(alice.page.url.endswith("#/invited"), alice.page.url)

    def test_no_such_room(self) -> None:
        """A room that one may not see is said not to be there."""
        alice = self.window()
        alice.goto(f"#/secret?token={token('u3', 'Rita Rooms', rooms=['lobby'])}")
        alice.page.wait_for_selector(".toast:has-text('There is no such room')")
        alice.until("document.querySelector('h1').textContent === 'lobby'")

    def test_replaced(self) -> None:
        """The same device elsewhere: this window says so and can take it back."""
        alice = self.window("Alice")
        device = alice.value("document.querySelector('tc-room').state.chat.device")
        alice.value(
            "import('/client.js').then(({ChatClient}) => { "
            "window.other = new ChatClient({url: location.origin.replace('http', 'ws') + '/ws',"
            f" name: 'Alice', device: '{device}'}}); other.connect() }})"
        )
        alice.page.wait_for_selector(".banner:has-text('another window')")
        alice.page.click(".banner button")
        alice.page.wait_for_selector(".banner", state="hidden")


class LooksTests(Case):
    def test_accessible(self) -> None:
        """axe-core finds nothing on any screen, in both themes."""
        for scheme in ("light", "dark"):
            window = self.window(color_scheme=scheme)
            window.goto()
            window.page.wait_for_selector(".card")
            self.assertEqual(window.axe(), [], f"sign in, {scheme}")
            alice = self.window("Alice", f"looks-{scheme}", color_scheme=scheme)
            self.assertEqual(alice.axe(), [], f"empty, {scheme}")
            stage.post(f"looks-{scheme}", ["hello @alice", "`code`\n```\nblock\n```\n> quote https://example.org", "שלום"])
            alice.say("**mine**")
            alice.sees("mine")
            alice.act("mine", "React with 👍")
            alice.page.wait_for_selector(".reaction")
            alice.act("mine", "Reply")
            alice.say("reply")
            alice.page.wait_for_selector(".quote")
            alice.page.click(".actions [aria-label*='here']")
            self.assertEqual(alice.axe(), [], f"room, {scheme}")
            alice.act("reply", "Edit")
            alice.page.fill("tc-room textarea", ":hea")
            alice.page.type("tc-room textarea", "r")
            self.assertEqual(alice.axe(), [], f"writing, {scheme}")
            alice.page.press("tc-room textarea", "Escape")
            for label, box in (
                ("Settings", "#settings"),
                ("Keyboard and writing", "#help"),
                ("Join or create a room", "#switcher"),
            ):
                alice.page.click(f"[aria-label='{label}']")
                alice.page.wait_for_selector(f"{box}[open]")
                self.assertEqual(alice.axe(), [], f"{label}, {scheme}")
                alice.page.keyboard.press("Escape")
            alice.value("document.querySelector('tc-room').state.chat._act('stop', 4409)")
            alice.page.wait_for_selector(".banner")
            self.assertEqual(alice.axe(), [], f"ended, {scheme}")

    def test_small(self) -> None:
        """360 × 640: the rooms are a drawer, everything to touch has 44 pixels, nothing sticks out."""
        alice = self.window("Alice", "small", viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
        stage.post("small", ["a long line " * 30, "```\n" + "x" * 200 + "\n```", "y" * 300])
        alice.sees("a long line")
        alice.becomes("document.documentElement.scrollWidth", 360)
        alice.becomes("document.querySelector('.log-box').scrollWidth <= 360", True)
        alice.becomes("document.querySelector('.app').offsetHeight", 640)
        alice.page.locator(".row").last.locator(".message").tap()

        alice.page.wait_for_selector(".toolbar")

        self.assert_touchable(alice)

        alice.page.click(".menu")
        alice.page.wait_for_timeout(300)

        self.assertTrue(alice.page.is_visible("tc-rooms a"))
        self.assert_touchable(alice)

        alice.page.click("tc-rooms a >> nth=0")
        alice.until("!document.querySelector('.app').dataset.open")

    def assert_touchable(self, window: Window) -> None:
        small = window.value(
            "[...document.querySelectorAll('button, tc-rooms a, textarea')].filter(e => e.checkVisibility({visibilityProperty: true}))"
            ".map(e => [e.getAttribute('aria-label') || e.textContent, e.getBoundingClientRect()])"
            ".filter(([, {width, height}]) => width && (width < 44 || height < 44)).map(([name, {width, height}]) => [name, width, height])"
        )
        self.assertEqual(small, [])

    def test_themes(self) -> None:
        """Dark and light as the system says, with a switch that is remembered."""
        ground = "getComputedStyle(document.body).backgroundColor"
        alice = self.window("Alice", color_scheme="dark")
        dark = alice.value(ground)
        alice.page.emulate_media(color_scheme="light")
        light = alice.value(ground)

        self.assertNotEqual(dark, light)

        alice.page.click("[aria-label=Settings]")
        alice.page.check("input[value=dark]")

        self.assertEqual(alice.value(ground), dark)

        alice.page.reload()
        alice.page.wait_for_selector("tc-room")

        self.assertEqual(alice.value(ground), dark)

    def test_reduced_motion(self) -> None:
        """With reduced motion the transitions take practically no time."""
        alice = self.window("Alice", reduced_motion="reduce")
        self.assertEqual(
            alice.value("getComputedStyle(document.querySelector('.side')).transitionDuration.split(',')[0]"), "0.001s"
        )

    def test_first_load(self) -> None:
        """Less than 100 kB, nothing from elsewhere, and nothing asked for again but the page itself."""
        alice = self.window("Alice")
        load = "performance.getEntriesByType('resource').map(({name, transferSize}) => [name, transferSize])"
        first = alice.value(load)

        self.assertLess(sum(size for _, size in first), 100_000)
        self.assertGreater(len(first), 15)
        for name, _ in first:
            self.assertTrue(name.startswith(stage.url), name)

        alice.page.reload()
        alice.page.wait_for_selector("tc-room textarea:enabled")

        self.assertEqual([entry for entry in alice.value(load) if entry[1]], [])


class ElsewhereTests(Case):
    def test_embedded(self) -> None:
        """In a page of another site: signed in by that site's token, in a shadow root, with that site's colours."""
        host = self.window()
        host.page.goto(f"http://127.0.0.1:{site.server_address[1]}/")
        host.page.wait_for_selector("twisted-chat textarea:enabled")
        host.page.fill("twisted-chat textarea", "from the host's page")
        host.page.press("twisted-chat textarea", "Enter")
        host.page.wait_for_selector("twisted-chat li:not(.pending) :text('from the host')")
        bob = self.window("Bob", "embedded")
        bob.sees("from the host's page")
        bob.becomes("document.querySelector('.row .author')?.innerText", "Holly Host")
        stage.post("embedded", ["an answer"])
        host.page.wait_for_selector("twisted-chat :text('an answer')")
        style = "(e => [e.getBoundingClientRect().height, getComputedStyle(e.shadowRoot.querySelector('.pill')).backgroundColor])"

        self.assertEqual(host.value(f"{style}(document.querySelector('twisted-chat'))"), [300, "rgb(1, 2, 3)"])

        host.becomes("getComputedStyle(document.body).margin", "8px")

    def test_embedded_where_websockets_are_blocked(self) -> None:
        """The same by HTTP: the browser asks the server whether the site may, and the token goes along."""
        with BlockingProxy(stage.port, "403") as proxy:
            host = self.window()
            host.page.goto(f"http://127.0.0.1:{site.server_address[1]}/?{proxy.url}")
            host.page.wait_for_selector("twisted-chat textarea:enabled")
            host.page.fill("twisted-chat textarea", "by HTTP from the host's page")
            host.page.press("twisted-chat textarea", "Enter")
            host.page.wait_for_selector("twisted-chat li:not(.pending) :text('by HTTP from the host')")
            host.page.wait_for_selector("twisted-chat .banner:has-text('blocks WebSockets')")
            self.assertEqual(
                host.value("(({ status, user }) => [status.transport, user.name])(document.querySelector('twisted-chat').chat)"),
                ["http", "Holly Host"],
            )

    def test_prefix(self) -> None:
        """Under a path of a proxy: the page, its files, its sockets and its links stay below it."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        site = f"http://127.0.0.1:{port}/talk/chat"
        listen = f"--listen=tcp:{port}:interface=127.0.0.1"
        with Served(tempfile.mkdtemp(), listen, f"--public-url={site}"):
            window = self.window()
            window.page.goto(f"{site}#/lobby?name=Alice")
            window.page.wait_for_selector("tc-room textarea:enabled")
            window.say("below a path")
            window.sees("below a path")
            names = window.value("performance.getEntriesByType('resource').map(e => e.name)")
            self.assertEqual([name for name in names if not name.startswith(f"{site}/assets/")], [])
            self.assertTrue(window.page.url.startswith(f"{site}/#/"), window.page.url)
