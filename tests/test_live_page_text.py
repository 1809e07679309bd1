"""The page in a real browser: what is written and how it is shown; the rules of the text itself are in ``tests/js/page``."""

from __future__ import annotations

from typing import Any

from tests.harness.browser import PageCase, Window

AREA = "tc-room textarea"
setUpModule, tearDownModule = PageCase.begin, PageCase.end


class Case(PageCase):
    """Each test has a room of its own."""

    def rect(self, window: Window, selector: str) -> dict[str, float]:
        """Where the last such element is."""
        found: dict[str, float] = window.page.locator(selector).last.evaluate("e => e.getBoundingClientRect().toJSON()")
        return found

    def assert_apart(self, one: dict[str, float], other: dict[str, float]) -> None:
        apart = (
            one["right"] <= other["left"]
            or other["right"] <= one["left"]
            or one["bottom"] <= other["top"]
            or other["bottom"] <= one["top"]
        )
        self.assertTrue(apart, (one, other))


class WritingTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.stage.post(self.room, ["here I am"], "Zebulon")
        self.alice = self.window("Alice")
        self.alice.sees("here I am")

    def type(self, text: str) -> None:
        """Type it, until there are suggestions."""
        self.alice.page.type(AREA, text)
        self.alice.page.wait_for_selector(".completion li")

    def press(self, key: str) -> None:
        self.alice.page.press(AREA, key)

    def compose(self, selector: str, **event: object) -> None:
        """The key Enter as an input method sends it."""
        self.alice.value(
            """([selector, more]) => {
                const event = new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true });
                for (const [name, value] of Object.entries(more)) Object.defineProperty(event, name, { value });
                document.querySelector(selector).dispatchEvent(event);
            }""",
            [selector, event],
        )

    def test_undo(self) -> None:
        """A completion is undone like what was typed, and what was typed before can be undone after it."""
        self.type("hi @zeb")
        self.press("Tab")
        self.alice.drafts("hi @Zebulon ")

        self.press("ControlOrMeta+z")
        self.alice.drafts("hi @zeb")

        for _ in "hi @zeb":
            self.press("ControlOrMeta+z")
        self.alice.drafts("")

    def test_stale_suggestion(self) -> None:
        """Suggestions for a text that is no longer there are not put into another one."""
        self.type("hello @ze")
        self.alice.value("(selector) => { document.querySelector(selector).value = 'short'; }", AREA)
        self.press("Enter")
        self.alice.sees("short")

        self.type("hello @ze")
        self.alice.value("(selector) => { document.querySelector(selector).value = 'other'; }", AREA)
        self.alice.page.dispatch_event(".completion li", "pointerdown")
        self.alice.drafts("other")

        self.alice.page.fill(AREA, "")
        self.type("tail @ze")
        self.press("Home")
        self.press("Enter")
        self.alice.sees("tail @ze")

    def test_shift_enter(self) -> None:
        """It begins a new line, whatever is suggested."""
        self.type("hi @ze")
        self.press("Shift+Enter")

        self.alice.drafts("hi @ze\n")

    def test_bare_mark(self) -> None:
        """``@`` and Enter call nobody, until somebody is chosen."""
        self.type("nobody @")
        self.press("Enter")
        self.alice.sees("nobody @")

        self.type("somebody @")
        self.press("ArrowDown")
        self.press("Enter")
        self.alice.drafts("somebody @Zebulon ")

    def test_written_out(self) -> None:
        """Enter sends what needs no completion, and runs a command."""
        self.type("to @Zebulon")
        self.press("Enter")
        self.alice.sees("to @Zebulon")

        self.type("/help")
        self.press("Enter")
        self.alice.page.wait_for_selector("#help[open]")

    def test_input_method(self) -> None:
        """The Enter that ends the composition of a character neither sends nor chooses, in the text and in the room switcher."""
        for event in ({"isComposing": True}, {"keyCode": 229}):
            self.alice.page.fill(AREA, "")
            self.type("kana @ze")
            self.compose(AREA, **event)
            self.alice.drafts("kana @ze")

            self.alice.page.keyboard.press("Control+k")
            self.alice.page.fill("#switcher input", "elsewhere")
            self.alice.page.wait_for_selector("#switcher li:has-text('Join elsewhere')")
            self.compose("#switcher input", **event)
            self.assertTrue(self.alice.value("document.querySelector('#switcher').open"))
            self.alice.page.keyboard.press("Escape")

        self.assertEqual(self.alice.texts, ["here I am"])
        self.assertEqual(self.alice.page.inner_text("h1"), self.room)

    def test_too_long(self) -> None:
        """By how many characters is said, the text stays, and nothing else is done with it, however long it is."""
        limit = self.alice.value("document.querySelector('tc-room').state.chat.limits.text")
        for text, beyond in (
            ("x" * (limit + 1), "1 character"),
            ("é" * (limit // 2) + "éé", "2 characters"),
            ("x" + " " * 1_000_000 + "x", f"{1_000_002 - limit:,} characters"),
        ):
            self.alice.page.fill(AREA, text)
            self.press("Enter")
            self.alice.page.wait_for_selector(f".toast:text-is('The message is too long by {beyond}')")
            self.assertEqual(self.alice.value("document.querySelector('tc-room textarea').value.length"), len(text))

        self.alice.say("x" * limit)
        self.alice.until("document.querySelectorAll('.row.own:not(.pending)').length === 1")


class ShowingTests(Case):
    def test_floods(self) -> None:
        """Blank lines and blanks without end are shown as a break between words."""
        self.stage.post(
            self.room, ["\n" * 8000 + "first" + "\n" * 8000 + "second" + "\n" * 300, "a" + " " * 16_000 + "\n\n \n" * 90]
        )
        alice = self.window("Alice")

        alice.sees("second")
        self.assertLess(self.rect(alice, ".text:has-text('second')")["height"], 100)

    def test_marks_over_and_under(self) -> None:
        """What is painted far above and below a line, as piled marks are, is painted in its own message only."""
        self.stage.post(self.room, ["from somebody else"], "Bob")
        self.stage.post(self.room, ["the line above", "MARKED", "the line below"], "Carl")
        alice = self.window("Alice")
        alice.sees("the line below")
        alice.page.mouse.move(2, 2)

        def look() -> list[bytes]:
            return [alice.row(name).screenshot() for name in ("from somebody else", "the line above", "the line below")]

        before = look()
        # Whether marks pile up depends on the fonts that are installed; a tall letter in a line of no height is painted likewise.
        alice.value(
            """() => {
                const tall = Object.assign(document.createElement('span'), { textContent: '|||||' });
                Object.assign(tall.style, { fontSize: '150px', lineHeight: 0 });
                [...document.querySelectorAll('.text p')].find((e) => e.textContent === 'MARKED').append(tall);
            }"""
        )
        self.assertEqual(before, look())

    def letters(self, window: Window, selector: str) -> tuple[float, float]:
        """Where the first and the last letter of the last such element stand."""
        first, last = window.page.locator(selector).last.evaluate(
            """(element) => {
                const text = element.firstChild, range = document.createRange();
                const left = (from) => (range.setStart(text, from), range.setEnd(text, from + 1), range.getBoundingClientRect().left);
                return [left(0), left(text.length - 1)];
            }"""
        )
        return first, last

    def test_reversing_marks(self) -> None:
        """A text that reverses its direction, and never ends that, does so for itself only."""
        alice = self.window("Alice")
        for number, mark in enumerate("\u202e\u202b\u2067"):
            alice.say(f"text{number}")
            alice.sees(f"text{number}")
            alice.act(f"text{number}", "Edit")
            alice.say(f"text{number} {mark} more")
            alice.page.wait_for_selector(f".row:has-text('text{number}') .edited")
            row = f".row:has-text('text{number}')"
            for part in (".edited", ".author"):
                first, last = self.letters(alice, f"{row} {part}")
                self.assertLess(first, last, (mark, part))
            text = self.letters(alice, f"{row} p")
            self.assertGreater(self.rect(alice, f"{row} .edited")["left"], max(text), mark)

    def test_right_to_left(self) -> None:
        """What is written from right to left stands near its author, too, and ends at the left."""
        self.stage.post(self.room, ["\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd"])
        alice = self.window("Alice")
        alice.page.wait_for_selector(".text p")

        first, last = self.letters(alice, ".text p")
        self.assertGreater(first, last)
        self.assertLess(last - self.rect(alice, ".content")["left"], 4)

    def test_code(self) -> None:
        """The button that copies stands beside the code, and says which code it is."""
        code = "x = 'a line that is longer than the window is wide, so that the button has no place beside it" + "." * 200 + "'"
        for context in ({}, {"viewport": {"width": 360, "height": 640}, "has_touch": True}):
            self.stage.post(self.room, [f"```python example\n{code}\n```", "```\nx\n```"])
            alice = self.window("Alice", **context)
            alice.page.wait_for_selector(".row >> nth=1")
            for row in (".row >> nth=0", ".row >> nth=1"):
                self.assert_apart(self.rect(alice, f"{row} >> .copy"), self.rect(alice, f"{row} >> pre"))
                self.assertTrue(alice.page.locator(f"{row} >> .copy").is_visible())
            self.assertEqual(alice.page.inner_text(".info >> nth=0"), "python example")

    def test_pill(self) -> None:
        """The button to the newest message stands below the messages, and they come back to the end under it."""
        self.stage.post(self.room, (f"line {number}" for number in range(60)))
        alice = self.window("Alice")
        alice.sees("line 59")
        alice.page.hover(".log-box")
        alice.page.mouse.wheel(0, -900)
        alice.until("!document.querySelector('tc-log')._following")
        self.stage.post(self.room, ["news"])
        alice.page.wait_for_selector(".pill:visible")

        self.assert_apart(self.rect(alice, ".pill"), self.rect(alice, ".log-box"))
        alice.page.click(".pill")
        alice.sees("news")
        alice.until("document.querySelector('tc-log').atEnd")
        alice.page.wait_for_selector(".pill", state="hidden")

    def test_own_messages(self) -> None:
        """They are marked beside the message, in a group as well."""
        self.stage.post(self.room, ["of somebody else"])
        alice = self.window("Alice")
        alice.say("mine")
        alice.sees("mine")
        alice.say("mine, too")
        alice.sees("mine, too")

        marks = alice.page.locator(".row .message").evaluate_all(
            """all => all.map((e) => getComputedStyle(e, '::before')).map(({content, width}) => content === 'none' ? '' : width)"""
        )
        self.assertEqual(marks, ["", "3px", "3px"])

    def test_send_button(self) -> None:
        """Whether there is something to send, nothing, or one may not, shows in the button."""
        alice = self.window("Alice")
        style = "getComputedStyle(document.querySelector('.send'))"
        looks = f"(({{color, backgroundColor, cursor}}) => [color, backgroundColor, cursor])({style})"
        seen = [alice.value(looks)]
        alice.page.fill(AREA, "something")
        seen.append(alice.value(looks))
        alice.value("document.querySelector('tc-composer').label('Message', false)")
        seen.append(alice.value(looks))

        self.assertEqual(len({str(each) for each in seen}), 3, seen)
        self.assertNotEqual(seen[0][0], seen[2][0])
        self.assertEqual(seen[2][2], "not-allowed")


class SightTests(Case):
    def test_zoomed(self) -> None:
        """At 200 % of a small window (1000 × 700) everything is reached, and nothing covers the text or sticks out."""
        self.stage.post(self.room, ["first", "second"], "Zebulon")
        for number in range(12):
            self.stage.post(self.room, ["hello"], f"Zeb{number}")
        alice = self.window("Alice", viewport={"width": 500, "height": 350}, device_scale_factor=2, locale="en-US")
        alice.sees("hello")

        self.assertGreater(self.rect(alice, ".log-box")["height"], 120)
        self.assertEqual(alice.value("document.documentElement.scrollWidth"), 500)
        alice.row("second").hover()
        self.assert_apart(
            self.words(alice, ".row:has-text('second') .gutter time"), self.rect(alice, ".row:has-text('second') .text")
        )
        alice.page.type(AREA, "@zeb")
        alice.page.wait_for_selector(".completion li >> nth=7")
        self.assert_inside(alice, ".completion")
        for _ in range(7):
            alice.page.press(AREA, "ArrowDown")
        self.assert_inside(alice, ".completion li[aria-selected=true]")
        alice.page.press(AREA, "Escape")
        for label, box in (("Settings", "#settings"), ("Keyboard and writing", "#help")):
            alice.page.click(f"[aria-label='{label}']")
            alice.page.wait_for_selector(f"{box}[open]")
            self.assert_inside(alice, box)
            alice.page.keyboard.press("Escape")

    def words(self, window: Window, selector: str) -> dict[str, float]:
        """Where the words of an element are, which may stick out of it."""
        found: dict[str, float] = window.page.locator(selector).last.evaluate(
            "e => { const range = document.createRange(); range.selectNodeContents(e); return range.getBoundingClientRect().toJSON(); }"
        )
        return found

    def assert_inside(self, window: Window, selector: str) -> None:
        rect = self.rect(window, selector)
        size = window.value("({width: innerWidth, height: innerHeight})")
        self.assertGreaterEqual(min(rect["left"], rect["top"]), 0, selector)
        self.assertLessEqual(rect["right"], size["width"], selector)
        self.assertLessEqual(rect["bottom"], size["height"], selector)

    def style(self, window: Window, selector: str, *names: str) -> list[str]:
        found: Any = window.page.locator(selector).first.evaluate(
            "(e, names) => names.map((name) => getComputedStyle(e)[name])", names
        )
        return list(found)

    def test_forced_colours(self) -> None:
        """With the system's colours one still sees the room that is open, the avatars, the focus, and what is chosen."""
        self.stage.post(self.room, ["hello @alice"], "Zebulon")
        alice = self.window("Alice", forced_colors="active")
        alice.sees("hello")
        alice.say("mine")
        alice.sees("mine")

        here, there = (
            self.style(alice, f"tc-rooms a{which}", "backgroundColor", "color")
            for which in ("[aria-current]", ":not([aria-current])")
        )
        self.assertNotEqual(here, there)
        self.assertEqual(self.style(alice, ".avatar", "borderTopStyle", "borderTopWidth"), ["solid", "1px"])
        alice.page.focus(AREA)
        self.assertEqual(self.style(alice, ".composer", "outlineStyle", "outlineWidth"), ["solid", "2px"])
        alice.page.type(AREA, "@zeb")
        alice.page.wait_for_selector(".completion li")
        chosen, ground = (
            self.style(alice, ".completion li[aria-selected=true]", "backgroundColor"),
            self.style(alice, ".completion", "backgroundColor"),
        )
        self.assertNotEqual(chosen, ground)
        alice.page.press(AREA, "Escape")
        alice.page.focus("tc-rooms a[aria-current]")
        alice.page.keyboard.press("Shift+Tab")
        alice.page.keyboard.press("Tab")
        self.assertEqual(self.style(alice, "tc-rooms a:focus-visible", "outlineStyle"), ["solid"])
