"""The page in a real browser before the real server: each test is a line of what people expect of a chat."""

from __future__ import annotations

import json
import time
from urllib.request import urlopen

from tests.harness.browser import PageCase
from tests.harness.waiting import wait_until

setUpModule, tearDownModule = PageCase.begin, PageCase.end


class WritingTests(PageCase):
    def test_enter(self) -> None:
        """Enter sends, Shift+Enter breaks the line, an Enter that ends a composition does not send."""
        alice = self.window("Alice")
        page = alice.page
        page.type("tc-room textarea", "one")
        page.press("tc-room textarea", "Shift+Enter")
        page.type("tc-room textarea", "two")

        page.dispatch_event("tc-room textarea", "keydown", {"key": "Enter", "isComposing": True, "bubbles": True})

        self.assertEqual((alice.texts, page.input_value("tc-room textarea")), ([], "one\ntwo"))

        page.press("tc-room textarea", "Enter")
        alice.sees("one\ntwo")
        alice.drafts("")

    def test_answer_lost(self) -> None:
        """A message whose acknowledgement gets lost with the server shows as pending, and is there once afterwards."""
        alice, bob = self.window("Alice"), self.window("Bob")
        self.stage.way.mute = True
        alice.say("said once")
        alice.page.wait_for_selector(".row.pending:has-text('said once')")
        wait_until(lambda: self.kept("said once"))
        self.stage.kill()
        self.stage.way.mute = False
        self.stage.way.cut()

        self.stage.start()

        for window in (alice, bob):
            window.value("document.dispatchEvent(new Event('visibilitychange'))")
            window.sees("said once")
            self.assertEqual(window.texts, ["said once"])

        alice.becomes("document.querySelectorAll('.pending').length", 0)

    def kept(self, text: str) -> bool:
        with urlopen(f"http://127.0.0.1:{self.stage.port}/api/v1/rooms/{self.room}/events?after=0") as reply:
            return any(event.get("text") == text for event in json.load(reply)["events"])

    def test_refused(self) -> None:
        """What the server refuses stays to be seen with the reason, and can be tried again."""
        alice = self.window("Alice")
        alice.page.evaluate(
            "document.querySelector('tc-room').state.chat.limits = {...document.querySelector('tc-room').state.chat.limits, text: 1e6}"
        )
        alice.say("x" * 17_000)

        alice.page.wait_for_selector(".row.failed")

        self.assertIn("Not sent: The message is too long", alice.page.inner_text(".row.failed .post-state"))

        alice.page.click("[data-do=discard]")
        alice.page.wait_for_selector(".row.failed", state="detached")

    def test_draft(self) -> None:
        """What is half written survives a reload, for each room."""
        alice = self.window("Alice")
        alice.page.type("tc-room textarea", "half a thou")
        alice.page.keyboard.press("Alt+ArrowDown")
        alice.until("location.hash === '#/lobby'")
        alice.drafts("")
        alice.goto(f"#/{self.room}")
        alice.page.reload()
        alice.page.wait_for_selector("tc-room textarea:enabled")
        alice.drafts("half a thou")

    def test_edit_and_delete(self) -> None:
        """↑ edits one's last message, Esc cancels, Enter saves; deleting asks and leaves a trace."""
        alice, bob = self.window("Alice"), self.window("Bob")
        alice.say("teh first")
        bob.sees("teh first")
        alice.sees("teh first")
        alice.page.press("tc-room textarea", "ArrowUp")
        alice.drafts("teh first")
        alice.page.press("tc-room textarea", "Escape")
        alice.drafts("")
        alice.page.press("tc-room textarea", "ArrowUp")
        alice.say("the first")
        bob.sees("the first")
        bob.becomes("document.querySelector('.edited')?.innerText", "(edited)")
        alice.sees("the first")
        alice.act("the first", "Delete")
        alice.page.click(".question .danger")
        bob.page.wait_for_selector(".gone")
        bob.becomes("document.querySelector('.gone')?.innerText", "This message was deleted")

    def test_completion(self) -> None:
        """``@`` suggests people, ``:`` emoji, ``/`` commands."""
        alice = self.window("Alice")
        self.window("Zebulon")
        alice.until("document.querySelector('tc-room').state.room.present.count === 2")
        alice.page.type("tc-room textarea", "hello @ze")
        alice.page.wait_for_selector(".completion li")
        alice.page.press("tc-room textarea", "Enter")
        alice.drafts("hello @Zebulon ")
        alice.page.type("tc-room textarea", ":tad")
        alice.page.wait_for_selector(".completion li")
        alice.page.press("tc-room textarea", "Tab")
        alice.drafts("hello @Zebulon 🎉 ")
        alice.page.fill("tc-room textarea", "/jo")
        alice.page.press("tc-room textarea", "Tab")
        alice.drafts("/join ")
        alice.say("/nonsense")
        alice.until("document.querySelector('.toast').textContent.includes('/nonsense')")

    def test_markdown(self) -> None:
        """Light Markdown; code can be copied."""
        alice = self.window("Alice", permissions=["clipboard-read", "clipboard-write"])
        alice.say("**bold** *italic* `code` https://example.org/a_b_c.\n> quoted\n```\nx = 1\ny = 2\n```")

        alice.sees("bold")

        for selector, text in (
            ("strong", "bold"),
            ("em", "italic"),
            ("p code", "code"),
            ("blockquote", "quoted"),
            ("pre", "x = 1\ny = 2"),
        ):
            self.assertEqual(alice.page.inner_text(f".text {selector}").strip(), text)

        link = alice.page.locator(".text a")
        self.assertEqual(
            (link.get_attribute("href"), link.get_attribute("rel")), ("https://example.org/a_b_c", "noopener noreferrer")
        )

        alice.page.hover(".block")
        alice.page.click(".copy")
        alice.becomes("navigator.clipboard.readText()", "x = 1\ny = 2")

    def test_direction(self) -> None:
        """Right-to-left text stands at the right, whatever stands around it."""
        alice = self.window("Alice")
        alice.say("שלום עולם")
        alice.sees("שלום")
        alice.say("left")

        alice.sees("left")

        self.assertEqual(
            alice.value("[...document.querySelectorAll('.text')].map(e => getComputedStyle(e).direction)"), ["rtl", "ltr"]
        )


class ConnectionTests(PageCase):
    def test_offline(self) -> None:
        """Ten seconds without a network while both sides write: a banner counts down, and afterwards nothing is lost or doubled."""
        alice = self.window("Alice")
        alice.say("before")
        alice.sees("before")
        self.stage.way.open = False
        self.stage.way.cut()
        alice.page.wait_for_selector(".banner:has-text('The connection is lost')")
        began = time.monotonic()
        for number in range(5):
            alice.say(f"alice {number}")
            self.stage.post(self.room, [f"robot {number}"])
        alice.becomes("document.querySelectorAll('.row.pending').length", 5)
        alice.page.wait_for_timeout(max(0, 10_000 - 1000 * (time.monotonic() - began)))
        alice.page.wait_for_selector(".banner:has-text('Try now'), .banner:has-text('Connecting')")
        self.stage.way.open = True
        alice.value("dispatchEvent(new Event('online'))")
        alice.sees("alice 4")
        alice.until("!document.querySelector('.pending')")
        expected = ["before", *(f"robot {number}" for number in range(5)), *(f"alice {number}" for number in range(5))]

        self.assertEqual(alice.texts, expected)

        alice.page.wait_for_selector(".banner", state="hidden")

    def test_short_interruption(self) -> None:
        """A reconnect that takes no time is not shown, and nothing moves."""
        alice = self.window("Alice")
        alice.say("here")
        alice.sees("here")
        alice.value(
            "window.shown = 0; new MutationObserver(() => shown += !document.querySelector('.banner').hidden)"
            ".observe(document.querySelector('.banner'), {attributes: true})"
        )
        self.stage.way.cut()
        alice.until("document.querySelector('tc-room').state.chat.status.state !== 'online'")
        alice.value("document.querySelector('tc-room').state.chat.retryNow()")
        alice.until("document.querySelector('tc-room').state.chat.status.state === 'online'")
        alice.say("still here")
        alice.sees("still here")
        alice.becomes("shown", 0)

    def test_second_window(self) -> None:
        """Two windows of one browser are two devices; both stay."""
        alice = self.window("Alice")
        second = alice.context.new_page()
        second.goto(self.stage.url + f"#/{self.room}")
        second.wait_for_selector("tc-room textarea:enabled")
        second.fill("tc-room textarea", "from the second")
        second.press("tc-room textarea", "Enter")
        alice.sees("from the second")
        alice.say("from the first")
        second.wait_for_selector("li:not(.pending) :text('from the first')")


class TogetherTests(PageCase):
    def test_presence_and_typing(self) -> None:
        """The list shows who is here, and the others see who is typing until the message is sent."""
        alice, bob = self.window("Alice"), self.window("Bob")
        alice.page.click(".actions [aria-label*='here']")
        alice.page.wait_for_selector("tc-people li:has-text('Bob')")
        bob.page.type("tc-room textarea", "I am")
        alice.page.wait_for_selector(".typing:has-text('Bob is typing')")
        bob.page.press("tc-room textarea", "Enter")
        alice.until("!document.querySelector('.typing').textContent")

    def test_reactions(self) -> None:
        """Counts, one's own highlighted, and who, on hover."""
        alice, bob = self.window("Alice"), self.window("Bob")
        alice.say("nice")
        bob.sees("nice")
        alice.sees("nice")
        bob.act("nice", "React with 👍")
        alice.page.wait_for_selector(".reaction[aria-pressed=false]:has-text('👍 1')")
        alice.page.click(".reaction")

        bob.page.wait_for_selector(".reaction[aria-pressed=true]:has-text('👍 2')")

        self.assertEqual(bob.page.get_attribute(".reaction", "title"), "you, Alice")

        bob.page.click(".reaction")
        alice.page.wait_for_selector(".reaction:has-text('👍 1')")
        bob.act("nice", "Add a reaction")
        bob.page.click(".picker [aria-label=rocket]")
        alice.page.wait_for_selector(".reaction:has-text('🚀 1')")

    def test_reply(self) -> None:
        """A reply quotes, and its quotation leads to what it answers."""
        alice, bob = self.window("Alice"), self.window("Bob")
        alice.say("who comes along?")
        bob.sees("who comes")
        self.stage.post(self.room, [f"chatter {number}" for number in range(40)])
        bob.sees("chatter 39")
        bob.goto(f"#/{self.room}/1")
        bob.page.wait_for_selector(".revealed")
        bob.act("who comes along?", "Reply")
        bob.page.wait_for_selector(".about:has-text('Replying to Alice')")
        bob.say("I do")
        alice.page.wait_for_selector(".quote:has-text('who comes along?')")
        alice.page.click(".quote")
        alice.page.wait_for_selector(".revealed:has-text('who comes along?')")

    def test_notifications(self) -> None:
        """Asked for by a click; only when nobody looks; not for muted rooms unless one is called."""
        alice = self.window("Alice", permissions=["notifications"])
        alice.value(
            "window.told = []; window.Notification = class { constructor(title, {body}) { told.push(body) } static permission = 'default';"
            " static async requestPermission() { this.permission = 'granted'; return 'granted' } }; document.hasFocus = () => false"
        )
        self.stage.post(self.room, ["before asking"])
        alice.sees("before asking")
        alice.page.click("[aria-label=Settings]")
        alice.page.check("text=Notify me of new messages")
        alice.page.keyboard.press("Escape")
        self.stage.post(self.room, ["told"])
        alice.until("told.length === 1")
        alice.page.click(f"[aria-label='Mute {self.room}']")
        self.stage.post(self.room, ["not told"])
        self.stage.post(self.room, ["but this, @alice"])
        alice.until("told.length === 2")
        alice.becomes("told", ["told", "but this, @alice"])

    def test_topic(self) -> None:
        """Guests do not set topics, and are told so."""
        alice = self.window("Alice")
        alice.say("/topic something")
        alice.until("document.querySelector('.toast').textContent.includes('You may not do this')")


class KeysTests(PageCase):
    def test_switcher_and_help(self) -> None:
        """Ctrl+K goes to a room, also a new one; Alt+arrows walk; ``?`` helps."""
        alice = self.window("Alice")
        alice.page.keyboard.press("Control+k")
        alice.page.keyboard.type("brand-new")
        alice.page.wait_for_selector("#switcher li:has-text('Join brand-new')")
        alice.page.keyboard.press("Enter")
        alice.until("document.querySelector('h1').textContent === 'brand-new'")
        alice.page.keyboard.press("Alt+ArrowDown")
        alice.until("document.querySelector('h1').textContent === 'lobby'")
        alice.page.focus(".log-box")
        alice.page.keyboard.press("?")
        alice.page.wait_for_selector("#help[open]")
        alice.page.keyboard.press("Escape")
        alice.page.fill("tc-room textarea", "")
        alice.page.type("tc-room textarea", "?")
        alice.becomes("document.querySelectorAll('#help[open]').length", 0)
        alice.say("/leave")

    def test_keyboard_only(self) -> None:
        """Everything is reached by Tab and the arrows, and one sees where one is."""
        alice = self.window("Alice")
        self.stage.post(self.room, ["first", "second"])
        alice.sees("second")
        seen: list[str] = []

        for _ in range(40):
            alice.page.keyboard.press("Tab")
            what, outline = alice.value(
                "(e => [e.getAttribute('aria-label') || e.dataset.key || e.querySelector('.name')?.textContent || e.tagName, "
                "e === document.body ? '' : "
                "getComputedStyle(e).outlineStyle + getComputedStyle(e.closest('.composer') ?? e).boxShadow])(document.activeElement)"
            )
            if what in seen or what == "BODY":
                continue
            seen.append(what)
            self.assertNotIn(outline, ("nonenone",), what)
        for needed in (self.room, "Settings", f"Messages in {self.room}", f"Message {self.room}", "Reply", "Send"):
            self.assertIn(needed, seen)

        alice.page.focus(".log-box")
        alice.page.keyboard.press("ArrowUp")
        alice.page.keyboard.press("ArrowUp")

        self.assertIn("first", alice.value("document.activeElement.innerText"))

        alice.page.focus(".toolbar [aria-label=Reply]")
        alice.page.keyboard.press("Enter")
        alice.page.keyboard.type("by keys")
        alice.page.keyboard.press("Enter")
        alice.sees("by keys")
