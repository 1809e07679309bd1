"""The page in a real browser before the real server: each test is a line of what people expect of a chat."""

from __future__ import annotations

import time
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.browser import Stage, Window

stage: Stage


def setUpModule() -> None:
    global stage
    stage = Stage()


def tearDownModule() -> None:
    stage.end()


class PageCase(SynchronousTestCase):
    """Each test has a room of its own."""

    rooms: ClassVar[int] = 0

    def setUp(self) -> None:
        PageCase.rooms += 1
        self.room = f"room{PageCase.rooms}"

    def window(self, name: str | None, **context: object) -> Window:
        window = Window(stage, name, self.room, **context)
        self.addCleanup(window.__exit__, None, None, None)
        return window


class OtherRoomTests(PageCase):
    """From a room with more messages than a screen into one of which nothing is loaded: the tab must go on."""

    def setUp(self) -> None:
        super().setUp()
        stage.post(self.room, (f"line {number}" for number in range(120)))
        self.alice = self.window("Alice")
        self.alice.sees("line 119")
        # The very module that the page has loaded, so that its classes are the same.
        self.alice.value(
            """() => {
                window.clientModule = () =>
                    performance.getEntriesByType('resource').map(({ name }) => name).find((name) => name.endsWith('/client.js'));
            }"""
        )

    def arrives(self, room: str) -> None:
        """The other room is shown, loaded, and the tab answers: it can write there."""
        self.alice.until("(name) => document.querySelector('tc-room').state?.name === name", room)
        self.alice.until("document.querySelector('tc-room').state.timeline.loaded")
        self.alice.say(f"hello {room}")
        self.alice.sees(f"hello {room}")

    def test_by_address(self) -> None:
        """A changed fragment of the address opens the room."""
        self.alice.value("(room) => { location.hash = `#/${room}`; }", f"{self.room}-address")

        self.arrives(f"{self.room}-address")

    def test_by_command(self) -> None:
        """``/join`` opens the room."""
        self.alice.say(f"/join {self.room}-command")

        self.arrives(f"{self.room}-command")

    def test_there_and_back(self) -> None:
        """Ten times between the long room, a new one and one that is not empty."""
        stage.post(f"{self.room}-other", ["only one"])
        for number in range(10):
            for room in (f"{self.room}-new{number}", f"{self.room}-other", self.room):
                self.alice.value("(room) => { location.hash = `#/${room}`; }", room)
                self.alice.until("(name) => document.querySelector('tc-room').state?.name === name", room)

        self.alice.sees("line 119")

    def test_rooms_of_the_same_length(self) -> None:
        """Going to and fro between rooms that are loaded shows each room's own messages, whatever their numbers."""
        rooms = [f"{self.room}-{name}" for name in ("a", "b", "c")]
        for room in rooms:
            stage.post(room, (f"{room} line {number}" for number in range(20)))
        for room in [*rooms, *rooms, *reversed(rooms), self.room, *rooms]:
            self.alice.value("(room) => { location.hash = `#/${room}`; }", room)
            self.alice.sees("line 119" if room == self.room else f"{room} line 19")
            if room != self.room:
                self.assertEqual(self.alice.texts, [f"{room} line {number}" for number in range(20)])

    def open_long_room(self) -> None:
        """Show a room of which some older messages are not loaded."""
        room = f"{self.room}-long"
        stage.post(room, (f"row {number}" for number in range(600)))
        self.alice.value("(room) => { location.hash = `#/${room}`; }", room)
        self.alice.sees("row 599")
        self.alice.until("document.querySelector('tc-room').state.timeline.items.length === 250")

    def test_history_refused(self) -> None:
        """A server that refuses older messages is asked once for each time that the reader scrolls there, not without end."""
        self.open_long_room()
        asked = self.alice.value(
            """async () => {
                const { state, log } = document.querySelector('tc-room');
                const { ChatError } = await import(clientModule());
                let asked = 0;
                state.room.history = async () => {
                    asked += 1;
                    throw new ChatError('rate_limited', 'too many queries', true, 1000);
                };
                log.box.scrollTop = 0;
                for (let frame = 0; frame < 60; frame += 1) {
                    log.box.scrollTop = 0;
                    await new Promise(requestAnimationFrame);
                }
                return asked;
            }"""
        )

        self.assertLessEqual(asked, 5)
        self.assertGreaterEqual(asked, 1)

    def test_history_without_progress(self) -> None:
        """An answer without any message changes nothing, whatever it says of more."""
        self.open_long_room()
        asked = self.alice.value(
            """async () => {
                const { state, log } = document.querySelector('tc-room');
                let asked = 0;
                state.room.history = async () => {
                    asked += 1;
                    return { events: [], more_before: true, more_after: true };
                };
                log.box.scrollTop = 0;
                for (let frame = 0; frame < 60; frame += 1) {
                    log.box.scrollTop = 0;
                    await new Promise(requestAnimationFrame);
                }
                return asked;
            }"""
        )

        self.assertLessEqual(asked, 5)
        self.assertGreaterEqual(asked, 1)

    def test_first_page_refused(self) -> None:
        """A room whose first page is refused shows what comes meanwhile, and is asked for again after a while."""
        self.alice.value(
            """async () => {
                const { Room, ChatError } = await import(clientModule());
                const real = Room.prototype.history;
                window.asked = 0;
                Room.prototype.history = async function (place) {
                    window.asked += 1;
                    if (window.asked > 2) return real.call(this, place);
                    throw new ChatError('rate_limited', 'too many queries', true, 100);
                };
            }"""
        )
        stage.post(f"{self.room}-refused", ["was there"])
        self.alice.value("(room) => { location.hash = `#/${room}`; }", f"{self.room}-refused")

        self.alice.sees("was there")
        self.assertGreaterEqual(self.alice.value("window.asked"), 3)


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
        stage.way.mute = True
        alice.say("said once")
        alice.page.wait_for_selector(".row.pending:has-text('said once')")
        deadline = time.monotonic() + 10
        while not self.kept("said once"):
            self.assertLess(time.monotonic(), deadline)
        stage.kill()
        stage.way.mute = False
        stage.way.cut()

        stage.start()

        for window in (alice, bob):
            window.value("document.dispatchEvent(new Event('visibilitychange'))")
            window.sees("said once")
            self.assertEqual(window.texts, ["said once"])

        alice.becomes("document.querySelectorAll('.pending').length", 0)

    def kept(self, text: str) -> bool:
        import json
        from urllib.request import urlopen

        with urlopen(f"http://127.0.0.1:{stage.port}/api/v1/rooms/{self.room}/events?after=0") as reply:
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
        stage.way.open = False
        stage.way.cut()
        alice.page.wait_for_selector(".banner:has-text('The connection is lost')")
        began = time.monotonic()
        for number in range(5):
            alice.say(f"alice {number}")
            stage.post(self.room, [f"robot {number}"])
        alice.becomes("document.querySelectorAll('.row.pending').length", 5)
        alice.page.wait_for_timeout(max(0, 10_000 - 1000 * (time.monotonic() - began)))
        alice.page.wait_for_selector(".banner:has-text('Try now'), .banner:has-text('Connecting')")
        stage.way.open = True
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
        stage.way.cut()
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
        second.goto(stage.url + f"#/{self.room}")
        second.wait_for_selector("tc-room textarea:enabled")
        second.fill("tc-room textarea", "from the second")
        second.press("tc-room textarea", "Enter")
        alice.sees("from the second")
        alice.say("from the first")
        second.wait_for_selector("li:not(.pending) :text('from the first')")


class ReadingTests(PageCase):
    def test_follows(self) -> None:
        """The view follows new messages if it was at the end; else a pill counts them and nothing moves."""
        alice = self.window("Alice")
        stage.post(self.room, [f"line {number}" for number in range(60)])
        alice.sees("line 59")
        alice.becomes("document.querySelector('tc-log').atEnd", True)
        alice.page.hover(".log-box")
        alice.page.mouse.wheel(0, -900)
        alice.until("!document.querySelector('tc-log')._following")
        alice.page.wait_for_timeout(200)
        before = alice.value("document.querySelector('.log-box').scrollTop")
        stage.post(self.room, [f"new {number}" for number in range(5)])
        alice.page.wait_for_selector(".pill:has-text('5 new ↓')")
        alice.becomes("document.querySelector('.log-box').scrollTop", before)
        alice.page.click(".pill")
        alice.until("document.querySelector('tc-log').atEnd")

    def test_ten_thousand(self) -> None:
        """10,000 messages are scrolled back to the first one, and what is seen stays at its pixel row each time older ones come."""
        stage.post(self.room, (f"line {number} " + "and more " * (number % 23) for number in range(1, 10_001)))
        alice = self.window("Alice")
        alice.sees("line 10000 ")
        result = alice.value(
            """async () => {
                const log = document.querySelector('tc-log'), box = log.box, frame = () => new Promise(requestAnimationFrame);
                let worst = 0, loads = 0, most = 0;
                const show = log.show.bind(log);
                log.show = (rows, change) => {
                    const top = box.getBoundingClientRect().top;
                    const seen = [...log.list.children].find(row => row.getBoundingClientRect().bottom > top);
                    const before = seen.querySelector('.message').getBoundingClientRect().top;
                    show(rows, change);
                    if (change?.before) {
                        const now = log.node(seen.dataset.key).querySelector('.message').getBoundingClientRect().top;
                        worst = Math.max(worst, Math.abs(now - before));
                        loads += 1;
                    }
                    most = Math.max(most, log.list.children.length);
                };
                const began = performance.now();
                while (!log.classList.contains('all') && performance.now() - began < 60000) {
                    box.scrollTop = Math.max(0, box.scrollTop - 3000);
                    await frame();
                }
                box.scrollTop = 0;
                await frame();
                return [worst, loads, most, log.list.querySelector('.text').textContent.trim(), log.rows.length];
            }"""
        )
        worst, loads, most, first, rows = result

        self.assertLess(worst, 1)
        self.assertEqual((first, rows), ("line 1 and more", 10_000))
        self.assertGreater(loads, 40)
        self.assertLessEqual(most, 400)

    def test_groups_and_days(self) -> None:
        """One author within five minutes is a group; days are those of the reader's zone."""
        alice = self.window("Alice", timezone_id="Asia/Tokyo")
        days, grouped = alice.value(
            """() => {
                const state = document.querySelector('tc-room').state, at = Date.UTC(2024, 4, 1, 14, 56);
                const said = [[0, 'a'], [3, 'a'], [5, 'a'], [9, 'a'], [10, 'b'], [16, 'b']];
                state.timeline.items = said.map(([minutes, id], place) => ({
                    seq: place + 1, id: `e${place}`, kind: 'message', at: at + minutes * 60000, by: {id, name: id}, text: 'x',
                }));
                const rows = state.rows(Date.UTC(2024, 4, 2));
                return [rows.map(r => r.day), rows.map(r => r.grouped)];
            }"""
        )

        # In Tokyo the clock goes from 23:56 over midnight; the second of May is still the first of UTC.
        self.assertEqual(days, ["Yesterday", "", "Today", "", "", ""])
        self.assertEqual(grouped, [False, True, False, True, False, False])

        alice.say("now")
        alice.page.wait_for_selector("li .head time")

        self.assertRegex(alice.page.locator("li .head time").last.get_attribute("title") or "", r"20\d\d")

    def test_unread(self) -> None:
        """Unread messages elsewhere show as a badge and in the title, a mention in another colour, and a line marks where they begin."""
        alice = self.window("Alice")
        stage.post(self.room, ["seen"])
        alice.sees("seen")
        alice.until("document.querySelector('tc-room').state.mark > 0")
        alice.goto("#/lobby")
        alice.until("document.querySelector('h1').textContent === 'lobby'")
        stage.post(self.room, ["one", "two"])
        badge = f"li[data-room={self.room}] .badge"

        alice.until("(badge) => document.querySelector(badge)?.textContent === '2'", badge)

        self.assertTrue(alice.page.title().startswith("(2) "), alice.page.title())

        stage.post(self.room, ["hey @alice look"])
        alice.page.wait_for_selector(f"{badge}.called")
        alice.goto(f"#/{self.room}")
        alice.page.wait_for_selector(".unread-line")
        alice.becomes("document.querySelector('li:has(.unread-line) .text')?.innerText", "one")
        alice.page.wait_for_selector("li.called .mention.me")
        alice.until("!document.title.startsWith('(')")
        alice.page.reload()
        alice.page.wait_for_selector(".row")

        self.assertEqual(alice.page.locator(badge).count(), 0)

    def test_smooth(self) -> None:
        """50 messages a second: no task takes longer than 50 ms, and what a page that does nothing is kept waiting meanwhile."""
        alice = self.window("Alice")
        idle = self.window(None)
        idle.page.goto("about:blank")
        idle.value(
            "window.gap = 0; let last = performance.now();"
            "setInterval(() => { const now = performance.now(); gap = Math.max(gap, now - last - 5); last = now; }, 5)"
        )
        alice.page.wait_for_timeout(300)
        alice.value(
            "window.tasks = []; new PerformanceObserver(list => tasks.push(...list.getEntries().map(e => e.duration)))"
            ".observe({type: 'longtask'})"
        )
        for batch in range(40):
            stage_texts = [f"{batch} {number} some words of a message" for number in range(5)]
            stage.post(self.room, stage_texts)
            alice.page.wait_for_timeout(60)
        alice.sees("39 4")

        alice.becomes("document.querySelector('tc-log').atEnd", True)

        self.assertLessEqual(max([0, *alice.value("tasks")]), 50 + 2 * idle.value("gap"))

    def test_link_and_back(self) -> None:
        """A link to a message shows it in its context, and the back button returns."""
        stage.post(self.room, [f"line {number}" for number in range(1, 401)])
        alice = self.window("Alice", permissions=["clipboard-read", "clipboard-write"])
        alice.goto(f"#/{self.room}/40")

        alice.page.wait_for_selector(".revealed:has-text('line 40')")

        self.assertTrue(alice.row("line 40").is_visible())

        alice.act("line 41", "Copy the link to this message")
        alice.becomes("navigator.clipboard.readText()", f"{stage.url}#/{self.room}/41")
        alice.page.keyboard.press("Escape")
        alice.goto("#/lobby")
        alice.until("document.querySelector('h1').textContent === 'lobby'")
        alice.page.go_back()
        alice.page.wait_for_selector(".revealed:has-text('line 40')")
        alice.page.click(".pill")
        alice.sees("line 400")


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
        stage.post(self.room, [f"chatter {number}" for number in range(40)])
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
        stage.post(self.room, ["before asking"])
        alice.sees("before asking")
        alice.page.click("[aria-label=Settings]")
        alice.page.check("text=Notify me of new messages")
        alice.page.keyboard.press("Escape")
        stage.post(self.room, ["told"])
        alice.until("told.length === 1")
        alice.page.click(f"[aria-label='Mute {self.room}']")
        stage.post(self.room, ["not told"])
        stage.post(self.room, ["but this, @alice"])
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
        stage.post(self.room, ["first", "second"])
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
