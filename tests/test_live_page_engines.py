"""The page in Firefox and in WebKit: what broke in real browsers; ``test_live_page*.py`` have the same and more in Chromium."""

from __future__ import annotations

import json
import time
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

import tests.test_live_page_state as state
from tests.harness.browser import ServerStage
from tests.harness.engines import Engine, Firefox, WebKit
from tests.harness.injecting import InjectingWay
from tests.harness.waiting import wait_until

stage: ServerStage
way: InjectingWay
STATE, ROOMS, BADGE, REVEALED = state.STATE, state.ROOMS, state.BADGE, state.REVEALED
AREA = "document.querySelector('tc-room textarea')"
#: What a text is shown as: its words, and where its links lead.
SHOWN = """[...document.querySelectorAll('li:not(.pending) .text')].map((e) =>
    [e.innerText.trim(), ...[...e.querySelectorAll('a')].map((a) => a.getAttribute('href'))])"""


def setUpModule() -> None:
    global stage, way
    stage = ServerStage()
    way = InjectingWay(stage.way.port)


def tearDownModule() -> None:
    way.close()
    stage.end()


class EngineTests:
    """The tests, for each engine."""

    make: ClassVar[Any]
    engine: ClassVar[Engine]
    rooms: ClassVar[int] = 0

    @classmethod
    def setUpClass(cls) -> None:
        cls.engine = cls.make()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.engine.close()

    def setUp(self) -> None:
        EngineTests.rooms += 1
        self.room = f"engine{EngineTests.rooms}"
        self.begin()

    def tearDown(self) -> None:
        errors = self.engine.run("globalThis.pageErrors ?? []")
        assert errors == [], errors

    # Steps

    def begin(self, script: str = "") -> None:
        """A browser that has never been here; a script runs before the page's own from now on."""
        # A window that nobody sees has no focus in Firefox, and what it shows would not count as read.
        way.script = f"document.hasFocus = () => true; {script}"
        self.engine.go(f"{way.url}healthz")
        self.engine.run(
            "(async () => { localStorage.clear(); sessionStorage.clear();"
            " for (const { name } of await (indexedDB.databases?.() ?? [])) indexedDB.deleteDatabase(name); })()"
        )

    def enter(self, room: str | None = None, name: str = "Ann") -> None:
        """Sign in to a room."""
        self.visit(f"#/{room or self.room}?name={name}")

    def visit(self, hash_: str) -> None:
        """Load the page at that address."""
        self.engine.go("about:blank")
        self.engine.go(way.url + hash_)
        self.becomes(f"Boolean({STATE}?.timeline.loaded && !{AREA}.disabled)", True)

    def reload(self) -> None:
        self.engine.run("globalThis.before = 1")
        self.engine.run("void setTimeout(() => location.reload())")
        self.becomes(f"globalThis.before === undefined && Boolean({STATE}?.timeline.loaded)", True)

    def elsewhere(self, room: str) -> None:
        self.engine.run(f"location.hash = '#/{room}'")
        self.becomes(f"Boolean({STATE}.name === '{room}' && {STATE}.timeline.loaded)", True)

    def say(self, text: str) -> None:
        self.engine.run(
            f"({AREA}.focus(), ({AREA}.value = {json.dumps(text)}),"
            f" {AREA}.dispatchEvent(new InputEvent('input', {{bubbles: true}})), 0)"
        )
        self.engine.press("Enter")

    def becomes(self, expression: str, expected: object) -> None:
        def look() -> object:
            try:
                return self.engine.run(expression)
            except AssertionError as error:
                return error

        wait_until(look, lambda value: value == expected)

    def sees(self, text: str) -> None:
        """Until a message with that text is shown and kept."""
        self.becomes(
            f"[...document.querySelectorAll('li:not(.pending) .text')].some((e) => e.textContent.includes({json.dumps(text)}))",
            True,
        )

    def equal(self, found: object, expected: object) -> None:
        assert found == expected, (found, expected)

    # Rows

    def test_room_not_joined_yet(self) -> None:
        """From a room with 120 messages into new ones and back: the tab goes on."""
        stage.post(self.room, (f"line {number}" for number in range(120)))
        self.enter()
        self.sees("line 119")
        for number in range(3):
            self.elsewhere(f"{self.room}-new{number}")
            self.say(f"hello {number}")
            self.sees(f"hello {number}")
            self.elsewhere(self.room)

    def test_floods(self) -> None:
        """16,000 newlines, blanks, marks of Markdown and brackets are shown in a few times what as many letters take."""
        floods = [
            "\n" * 16_000 + "x",
            "a" + " " * 16_000 + "b",
            "*" * 16_000,
            "[" * 16_000,
            "`" * 16_000,
            "@" * 16_000,
            "> " * 8_000,
        ]
        took = {}
        for name, texts in (("plain", ["x y " * 4000] * len(floods)), ("floods", floods)):
            room = f"{self.room}{name}"
            stage.post(room, [*texts, "the end"])
            self.enter(f"{room}x")
            began = time.monotonic()
            self.elsewhere(room)
            self.sees("the end")
            took[name] = time.monotonic() - began
        assert took["floods"] < 4 * took["plain"] + 1, took

    def test_message_of_the_address(self) -> None:
        """A first visit and a reload at the address of a message land there."""
        stage.post(self.room, [f"line {number}" for number in range(1, 401)])
        self.enter(f"{self.room}/100")
        self.becomes(REVEALED, 100)
        self.reload()
        self.becomes(REVEALED, 100)

    def test_all_rooms(self) -> None:
        """Three rooms are joined before a reload and after it."""
        self.enter()
        for room in (f"{self.room}b", f"{self.room}c"):
            self.elsewhere(room)
        expected = sorted(["lobby", self.room, f"{self.room}b", f"{self.room}c"])
        self.becomes(f"{ROOMS}.sort()", expected)
        self.reload()
        self.becomes(f"{ROOMS}.sort()", expected)

    def test_unread(self) -> None:
        """301 messages and a mention while the page was closed: badge, line, number, and the first of them in sight."""
        self.enter()
        other = f"{self.room}b"
        self.elsewhere(other)
        self.say("mine")
        self.sees("mine")
        self.becomes(f"{STATE}.mark", 1)
        self.elsewhere(self.room)
        self.engine.go("about:blank")
        stage.post(other, [*(f"new {number}" for number in range(300)), "@Ann are you there?"])

        self.visit(f"#/{self.room}")
        self.becomes(BADGE % other, "@ 99+")
        self.becomes(f"document.querySelector(`[data-room='{other}'] a`).textContent.includes('301 unread')", True)
        self.elsewhere(other)
        self.becomes("document.querySelector('.unread-line')?.closest('li').querySelector('.text').textContent ?? ''", "new 0")
        self.becomes(state.LINE_IS_SEEN, True)

    def test_older_messages(self) -> None:
        """While one scrolls back to the first of 900 messages, what is seen stays in its place each time older ones come."""
        stage.post(self.room, (f"line {number} " + "and more " * (number % 23) for number in range(1, 901)))
        self.enter()
        self.sees("line 900 ")
        worst, loads, first = self.engine.run(
            """(async () => {
                const log = document.querySelector('tc-log'), box = log.box, show = log.show.bind(log);
                let worst = 0, loads = 0;
                log.show = (rows, change) => {
                    const top = box.getBoundingClientRect().top;
                    const seen = [...log.list.children].find((row) => row.getBoundingClientRect().bottom > top);
                    const before = seen.querySelector('.message').getBoundingClientRect().top;
                    show(rows, change);
                    if (!change?.before) return;
                    const now = log.node(seen.dataset.key).querySelector('.message').getBoundingClientRect().top;
                    worst = Math.max(worst, Math.abs(now - before));
                    loads += 1;
                };
                for (const began = performance.now(); !log.classList.contains('all') && performance.now() - began < 20_000;) {
                    box.scrollTop = Math.max(0, box.scrollTop - 2000);
                    await new Promise(requestAnimationFrame);
                }
                return [worst, loads, log.list.querySelector('.text').textContent.trim()];
            })()"""
        )
        self.equal(first, "line 1 and more")
        assert worst < 1, worst
        assert loads >= 4, loads

    def test_back_from_another_page(self) -> None:
        """The page goes on where the browser shows it again as it was, and where it loads it anew."""
        self.enter()
        self.say("before")
        self.sees("before")
        self.engine.go(f"{way.url}healthz")
        stage.post(self.room, ["meanwhile"])
        self.engine.back()

        self.sees("meanwhile")
        self.say("after")
        self.sees("after")
        self.becomes(f"{SHOWN}.map(([text]) => text)", ["before", "meanwhile", "after"])

    def test_refused_notifications(self) -> None:
        """A message is shown and stays unread when notifications and sound throw."""
        self.begin("""
          globalThis.Notification = class { constructor() { throw new TypeError('Illegal constructor'); } };
          Notification.permission = 'granted';
          globalThis.AudioContext = class { constructor() { throw new DOMException('no device', 'NotSupportedError'); } };
          globalThis.webkitAudioContext = AudioContext;
          document.hasFocus = () => false;
        """)
        self.enter()
        self.engine.run("['notify', 'sound'].forEach((name) => localStorage.setItem(`twisted-chat:/:${name}`, 'on'))")
        stage.post(self.room, ["one", "two"])

        self.sees("one")
        self.sees("two")
        self.becomes(f"{STATE}.unread", 2)

    def test_refused_storage(self) -> None:
        """Signing in works without storage, and the page says that nothing is kept."""
        self.begin(state.RefusedTests.BLOCKED)
        self.engine.go("about:blank")
        self.engine.go(way.url)
        self.becomes("Boolean(document.querySelector('#sign-in-name'))", True)
        self.engine.run(
            "((document.querySelector('#sign-in-name').value = 'Ann'), document.querySelector('tc-sign-in button[type=submit]').click(), 0)"
        )
        self.becomes("document.querySelector('.toast')?.textContent.includes('keeps nothing') ?? false", True)
        self.becomes(f"Boolean({STATE}?.timeline.loaded)", True)
        self.say("hello")
        self.sees("hello")

    def test_full_storage(self) -> None:
        """The name holds for as long as the page is open."""
        self.begin("Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };")
        self.enter()
        self.say("hello")
        self.sees("hello")
        self.becomes("document.querySelector('.row .author').textContent", "Ann")

    def test_plain_http(self) -> None:
        """Without the APIs of secure contexts a tab that comes back is the same guest."""
        self.begin(state.RefusedTests.INSECURE)
        self.enter()
        me = self.engine.run(f"{STATE}.chat.user.id")
        self.visit(f"#/{self.room}")
        self.becomes(f"{STATE}.chat.user?.id", me)

    def test_refused_clipboard(self) -> None:
        """No success is claimed on plain HTTP, where there is no clipboard, if the old command is refused, too."""
        self.begin(state.RefusedTests.INSECURE + "document.execCommand = () => false;")
        self.enter()
        self.say("```\ncode\n```")
        self.sees("code")
        self.engine.run("document.querySelector('.copy').click()")
        self.becomes("document.querySelector('.copy').textContent", "Not copied")

    def test_text(self) -> None:
        """Text is shown as it was written, and only what is a link is one."""
        texts = {
            "call __init__ now": ["call __init__ now"],
            "````\nfour ``` inside\n````": ["four ``` inside"],
            "a ``` b ``` c": ["a b c"],
            "mail ann@example.org please": ["mail ann@example.org please"],
            "see https://en.wikipedia.org/wiki/A_(b) there": [
                "see https://en.wikipedia.org/wiki/A_(b) there",
                "https://en.wikipedia.org/wiki/A_(b)",
            ],
            "(https://example.org/~x)": ["(https://example.org/~x)", "https://example.org/~x"],
            "HTTPS://Example.org/.": ["HTTPS://Example.org/.", "HTTPS://Example.org/"],
            "https://example.org/:cat:x": ["https://example.org/:cat:x", "https://example.org/:cat:x"],
            "see https://example.org/a\u3002": ["see https://example.org/a\u3002", "https://example.org/a"],
            "it's https://example.org/it's": ["it's https://example.org/it's", "https://example.org/it's"],
        }
        stage.post(self.room, [*texts, "the end"])
        self.enter()
        self.sees("the end")
        shown = self.engine.run(SHOWN)
        for (text, expected), found in zip(texts.items(), shown, strict=False):
            found[0] = found[0].removeprefix("Copy").strip().removesuffix("Copy").strip()
            self.equal((text, found), (text, expected))

    def test_new_database(self) -> None:
        """The server comes back with another database: badges of other rooms count again."""
        other = f"{self.room}b"
        stage.post(other, ["old"] * 5)
        self.enter(other)
        self.becomes(f"{STATE}.mark", 5)
        self.elsewhere(self.room)
        stage.kill()
        stage.delete_database()
        stage.start()

        self.becomes(f"{STATE}.chat.status.state === 'online' && {STATE}.room.info.head === 0", True)
        stage.post(other, ["new"])

        self.becomes(BADGE % other, "1")

    def test_screen_reader(self) -> None:
        """Others' messages are said once; nothing for one's own and for what is there when a room is opened."""
        stage.post(self.room, [f"old {number}" for number in range(70)])
        self.enter()
        self.engine.run("""((globalThis.heard = []),
          document.querySelectorAll('[aria-live=polite], [role=log]:not([aria-live=off])').forEach((region) =>
            new MutationObserver((all) => all.forEach(({ addedNodes }) => heard.push(...[...addedNodes].map((e) => e.textContent))))
              .observe(region, { childList: true, subtree: true })), 0)""")
        self.say("my own")
        self.sees("my own")
        stage.post(self.room, ["from Robot"])
        self.sees("from Robot")
        self.press_button("from Robot", "React with 👍")
        self.becomes("Boolean(document.querySelector('.reaction'))", True)
        self.elsewhere(f"{self.room}b")
        self.elsewhere(self.room)

        self.becomes("heard", ["Robot: from Robot"])

    def test_wrong_clock(self) -> None:
        """A machine that is three days behind shows what is said now under "Today"."""
        self.begin("const now = Date.now; Date.now = () => now() - 3 * 86_400_000;")
        self.enter()
        self.say("hello")
        self.sees("hello")

        self.becomes("document.querySelector('.day').textContent", "Today")

    def test_input_method(self) -> None:
        """The Enter that ends a composition does not send."""
        self.enter()
        for event in ("{isComposing: true}", "{keyCode: 229}"):
            self.engine.run(
                f"({AREA}.focus(), ({AREA}.value = 'kana'), {AREA}.dispatchEvent(new InputEvent('input', {{bubbles: true}})),"
                f" {AREA}.dispatchEvent(new KeyboardEvent('keydown', {{key: 'Enter', bubbles: true, cancelable: true, ...{event}}})), 0)"
            )
            self.equal(self.engine.run(f"{AREA}.value"), "kana")
        self.engine.press("Enter")
        self.sees("kana")

    def test_offline_and_back(self) -> None:
        """What is written while the server is away is kept once, in its order."""
        self.enter()
        stage.kill()
        for text in ("one", "two", "three"):
            self.say(text)
        stage.start()
        for text in ("one", "two", "three"):
            self.sees(text)
        self.becomes(f"{SHOWN}.map(([text]) => text)", ["one", "two", "three"])

    def type(self, text: str) -> None:
        """Type into the empty composer, key by key."""
        self.engine.run(
            f"({AREA}.focus(), ({AREA}.value = ''), {AREA}.dispatchEvent(new InputEvent('input', {{bubbles: true}})), 0)"
        )
        self.engine.press(*text)
        self.becomes(f"{AREA}.value", text)

    def press_button(self, text: str, button: str) -> None:
        """Point at a message and press one of its buttons."""
        self.becomes(
            f"""((text, button) => {{
              const row = [...document.querySelectorAll('li.row')].find((e) => e.textContent.includes(text));
              row?.querySelector('.message').dispatchEvent(new PointerEvent('pointerover', {{ bubbles: true, pointerType: 'mouse' }}));
              const found = document.querySelector(`.toolbar [aria-label='${{button}}']`);
              found?.click();
              return Boolean(found);
            }})({json.dumps(text)}, {json.dumps(button)})""",
            True,
        )

    def test_suggestions(self) -> None:
        """They are taken by Enter once a letter is typed; Shift+Enter is a new line; a bare mark calls nobody; undo takes one back."""
        stage.post(self.room, ["here I am"], "Zebulon")
        self.enter()
        self.sees("here I am")
        self.type("hi @ze")
        self.engine.press("Enter")
        self.becomes(f"{AREA}.value", "hi @Zebulon ")
        self.engine.run("document.execCommand('undo')")
        self.becomes(f"{AREA}.value", "hi @ze")

        self.type("hi @ze")
        self.engine.press("Shift+Enter")
        self.becomes(f"{AREA}.value", "hi @ze\n")

        self.type("nobody @")
        self.engine.press("Enter")
        self.sees("nobody @")

        # What was suggested for a text that is gone meanwhile is not put anywhere.
        self.type("hi @ze")
        self.engine.run(f"(({AREA}.value = 'x'), 0)")
        self.engine.press("Enter")
        self.becomes("[...document.querySelectorAll('.row .text')].at(-1).textContent.trim()", "x")

    def test_too_long(self) -> None:
        """By how many characters is said, and the text stays."""
        self.enter()
        limit = self.engine.run(f"{STATE}.chat.limits.text")
        self.say("x" * (limit + 2))
        self.becomes("document.querySelector('.toast').textContent", "The message is too long by 2 characters")
        self.equal(self.engine.run(f"{AREA}.value.length"), limit + 2)

    def test_switcher(self) -> None:
        """The Enter that ends a composition does not join a room."""
        self.enter()
        self.engine.run(f"({AREA}.focus(), 0)")
        self.engine.press("Control+k")
        self.becomes("document.querySelector('#switcher').open", True)
        self.engine.run(
            "(((input) => { input.value = 'elsewhere'; input.dispatchEvent(new InputEvent('input', {bubbles: true}));"
            " for (const event of [{isComposing: true}, {keyCode: 229}])"
            "   input.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, cancelable: true, ...event})); })"
            "(document.querySelector('#switcher input')), 0)"
        )
        self.equal(
            self.engine.run("[document.querySelector('#switcher').open, document.querySelector('h1').textContent]"),
            [True, self.room],
        )

    def test_reversing_marks(self) -> None:
        """A text that reverses its direction does so for itself only; piled marks are cut off at its row."""
        self.enter()
        left = "(element, from) => { const text = element.firstChild, range = document.createRange();"
        left += " range.setStart(text, from); range.setEnd(text, from + 1); return range.getBoundingClientRect().left; }"
        for number, mark in enumerate("\u202e\u202b\u2067"):
            self.say(f"text{number}")
            self.sees(f"text{number}")
            self.engine.run(f"({AREA}.focus(), 0)")
            self.engine.press("ArrowUp")
            self.becomes("document.querySelector('tc-composer').mode.kind", "edit")
            self.say(f"text{number} {mark} more")
            row = f"[...document.querySelectorAll('li.row')].find((e) => e.textContent.includes('text{number}'))"
            self.becomes(f"Boolean({row}?.querySelector('.edited'))", True)
            word = f"{row}.querySelector('.edited')"
            first, last = self.engine.run(f"[({left})({word}, 0), ({left})({word}, {word}.textContent.length - 1)]")
            assert first < last, (mark, first, last)
        self.equal(self.engine.run("getComputedStyle(document.querySelector('.row .text')).overflowY"), "clip")

    def test_midnight(self) -> None:
        """ "Today" becomes "Yesterday" when the clock says so."""
        self.begin("""
          const now = Date.now, RealDate = Date, later = setTimeout;
          globalThis.shift = 0;
          globalThis.Date = class extends RealDate { constructor(...all) { if (all.length) super(...all); else super(now() + shift); } };
          Date.now = () => now() + shift;
          globalThis.atMidnight = [];
          globalThis.setTimeout = (work, delay, ...more) =>
            delay > 60_000 ? (atMidnight.push(work), 0) : later(work, delay, ...more);
        """)
        self.enter()
        self.say("hello")
        self.sees("hello")
        self.becomes("document.querySelector('.day').textContent", "Today")
        self.engine.run("((shift = 24 * 3_600_000 + 5000), atMidnight.splice(0).forEach((work) => work()), 0)")
        self.becomes("document.querySelector('.day').textContent", "Yesterday")

    def test_first_page_fails(self) -> None:
        """The reason stands where the messages would be; until then there are grey lines."""
        self.begin("""
          const send = WebSocket.prototype.send;
          WebSocket.prototype.send = function (data) {
            const command = JSON.parse(data);
            const all = Array.isArray(command) ? command : [command];
            const asked = all.find(({ type }) => type === 'history');
            if (!asked) return send.call(this, data);
            const error = { type: 'error', id: asked.id, code: 'internal', message: 'the disk is gone', retry: false };
            setTimeout(() => this.dispatchEvent(new MessageEvent('message', { data: JSON.stringify(error) })), 300);
          };
        """)
        self.engine.go("about:blank")
        self.engine.go(f"{way.url}#/{self.room}?name=Ann")
        self.becomes("document.querySelector('.empty')?.innerText.includes('the disk is gone') ?? false", True)

    def embed(self, *elements: tuple[str, str]) -> None:
        """A page of this server with an element for each (room, name)."""
        self.engine.go("about:blank")
        self.engine.go(f"{way.url}healthz")
        self.engine.run(
            f"""((elements) => document.body.replaceChildren(...elements.map(([room, name]) => {{
              const element = document.createElement('twisted-chat');
              element.setAttribute('room', room);
              element.setAttribute('name', name);
              element.style.height = '300px';
              return element;
            }})))({json.dumps(elements)})"""
        )
        self.engine.run(f"import('{way.url}embed.js').then(() => 0)")

    def shown(self, place: int) -> str:
        texts = f"document.querySelectorAll('twisted-chat')[{place}]?.shadowRoot?.querySelectorAll('.row .text')"
        return f"[...({texts} ?? [])].map((e) => e.innerText.trim())"

    def test_two_elements(self) -> None:
        """Two elements of a page are two connections, also after a reload; a changed attribute shows the other room."""
        other = f"{self.room}b"
        elements = ((self.room, "Ann"), (other, "Ben"))
        users = "[...document.querySelectorAll('twisted-chat')].map((e) => e.chat?.status.state === 'online' && e.chat.user.id)"
        self.embed(*elements)
        self.becomes(f"{users}.every(Boolean)", True)
        before = self.engine.run(users)
        self.equal(len(set(before)), 2)
        self.embed(*elements)
        self.becomes(users, before)
        stage.post(self.room, ["in the first"])
        stage.post(other, ["in the second"])
        self.becomes(self.shown(0), ["in the first"])
        self.becomes(self.shown(1), ["in the second"])

        self.engine.run(f"document.querySelector('twisted-chat').setAttribute('room', '{self.room}c')")
        stage.post(f"{self.room}c", ["in the third"])
        self.becomes(self.shown(0), ["in the third"])

    def test_edit_in_progress(self) -> None:
        """An edit waits in its room while another room is open."""
        self.enter()
        self.say("first draft")
        self.sees("first draft")
        self.engine.run(f"({AREA}.focus(), 0)")
        self.engine.press("ArrowUp")
        self.becomes("document.querySelector('tc-composer').mode.kind", "edit")
        self.engine.run(f"(({AREA}.value = 'second draft'), {AREA}.dispatchEvent(new InputEvent('input', {{bubbles: true}})), 0)")
        self.elsewhere(f"{self.room}b")
        self.becomes(f"{AREA}.value", "")
        self.elsewhere(self.room)
        self.becomes(f"{AREA}.value", "second draft")
        self.engine.run(f"({AREA}.focus(), 0)")
        self.engine.press("Enter")
        self.sees("second draft")

    def test_rooms_of_the_same_length(self) -> None:
        """Going to and fro between rooms that are loaded shows each room's own messages."""
        rooms = [f"{self.room}{name}" for name in ("a", "b")]
        self.enter()
        for room in rooms:
            stage.post(room, (f"{room} line {number}" for number in range(5)))
        for room in [*rooms, *rooms]:
            self.elsewhere(room)
            self.becomes(f"{SHOWN}.map(([text]) => text)", [f"{room} line {number}" for number in range(5)])


class FirefoxTests(EngineTests, SynchronousTestCase):
    make = Firefox


class WebKitTests(EngineTests, SynchronousTestCase):
    make = WebKit
