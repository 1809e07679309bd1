"""The page in a real browser: how one reads, in a room and on the way between rooms."""

from __future__ import annotations

from tests.harness.browser import PageCase

setUpModule, tearDownModule = PageCase.begin, PageCase.end


class ReadingTests(PageCase):
    def test_follows(self) -> None:
        """The view follows new messages if it was at the end; else a pill counts them and nothing moves."""
        alice = self.window("Alice")
        self.stage.post(self.room, [f"line {number}" for number in range(60)])
        alice.sees("line 59")
        alice.becomes("document.querySelector('tc-log').atEnd", True)
        alice.page.hover(".log-box")
        alice.page.mouse.wheel(0, -900)
        alice.until("!document.querySelector('tc-log')._following")
        alice.page.wait_for_timeout(200)
        before = alice.value("document.querySelector('.log-box').scrollTop")
        self.stage.post(self.room, [f"new {number}" for number in range(5)])
        alice.page.wait_for_selector(".pill:has-text('5 new ↓')")
        alice.becomes("document.querySelector('.log-box').scrollTop", before)
        alice.page.click(".pill")
        alice.until("document.querySelector('tc-log').atEnd")

    def test_ten_thousand(self) -> None:
        """10,000 messages are scrolled back to the first one, and what is seen stays at its pixel row each time older ones come."""
        self.stage.post(self.room, (f"line {number} " + "and more " * (number % 23) for number in range(1, 10_001)))
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
        self.stage.post(self.room, ["seen"])
        alice.sees("seen")
        alice.until("document.querySelector('tc-room').state.mark > 0")
        alice.goto("#/lobby")
        alice.until("document.querySelector('h1').textContent === 'lobby'")
        self.stage.post(self.room, ["one", "two"])
        badge = f"li[data-room={self.room}] .badge"

        alice.until("(badge) => document.querySelector(badge)?.textContent === '2'", badge)

        self.assertTrue(alice.page.title().startswith("(2) "), alice.page.title())

        self.stage.post(self.room, ["hey @alice look"])
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
            self.stage.post(self.room, stage_texts)
            alice.page.wait_for_timeout(60)
        alice.sees("39 4")

        alice.becomes("document.querySelector('tc-log').atEnd", True)

        self.assertLessEqual(max([0, *alice.value("tasks")]), 50 + 2 * idle.value("gap"))

    def test_link_and_back(self) -> None:
        """A link to a message shows it in its context, and the back button returns."""
        self.stage.post(self.room, [f"line {number}" for number in range(1, 401)])
        alice = self.window("Alice", permissions=["clipboard-read", "clipboard-write"])
        alice.goto(f"#/{self.room}/40")

        alice.page.wait_for_selector(".revealed:has-text('line 40')")

        self.assertTrue(alice.row("line 40").is_visible())

        alice.act("line 41", "Copy the link to this message")
        alice.becomes("navigator.clipboard.readText()", f"{self.stage.url}#/{self.room}/41")
        alice.page.keyboard.press("Escape")
        alice.goto("#/lobby")
        alice.until("document.querySelector('h1').textContent === 'lobby'")
        alice.page.go_back()
        alice.page.wait_for_selector(".revealed:has-text('line 40')")
        alice.page.click(".pill")
        alice.sees("line 400")


class OtherRoomTests(PageCase):
    """From a room with more messages than a screen into one of which nothing is loaded: the tab must go on."""

    def setUp(self) -> None:
        super().setUp()
        self.stage.post(self.room, (f"line {number}" for number in range(120)))
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
        self.stage.post(f"{self.room}-other", ["only one"])
        for number in range(10):
            for room in (f"{self.room}-new{number}", f"{self.room}-other", self.room):
                self.alice.value("(room) => { location.hash = `#/${room}`; }", room)
                self.alice.until("(name) => document.querySelector('tc-room').state?.name === name", room)

        self.alice.sees("line 119")

    def test_rooms_of_the_same_length(self) -> None:
        """Going to and fro between rooms that are loaded shows each room's own messages, whatever their numbers."""
        rooms = [f"{self.room}-{name}" for name in ("a", "b", "c")]
        for room in rooms:
            self.stage.post(room, (f"{room} line {number}" for number in range(20)))
        for room in [*rooms, *rooms, *reversed(rooms), self.room, *rooms]:
            self.alice.value("(room) => { location.hash = `#/${room}`; }", room)
            self.alice.sees("line 119" if room == self.room else f"{room} line 19")
            if room != self.room:
                self.assertEqual(self.alice.texts, [f"{room} line {number}" for number in range(20)])

    def open_long_room(self) -> None:
        """Show a room of which some older messages are not loaded."""
        room = f"{self.room}-long"
        self.stage.post(room, (f"row {number}" for number in range(600)))
        self.alice.value("(room) => { location.hash = `#/${room}`; }", room)
        self.alice.sees("row 599")
        self.alice.until("document.querySelector('tc-room').state.timeline.items.length === 250")

    def asked(self, answer: str) -> int:
        """How often the page asks for older messages while the reader stays at the top for 60 frames.

        :param answer: JavaScript that answers a question in the server's place.
        """
        self.open_long_room()
        count: int = self.alice.value(
            """async () => {
                const { state, log } = document.querySelector('tc-room');
                const { ChatError } = await import(clientModule());
                let asked = 0;
                state.room.history = async () => {
                    asked += 1;
                    ANSWER;
                };
                log.box.scrollTop = 0;
                for (let frame = 0; frame < 60; frame += 1) {
                    log.box.scrollTop = 0;
                    await new Promise(requestAnimationFrame);
                }
                return asked;
            }""".replace("ANSWER", answer)
        )
        return count

    def test_history_refused(self) -> None:
        """A server that refuses older messages is asked once for each time that the reader scrolls there, not without end."""
        self.assertIn(self.asked("throw new ChatError('rate_limited', 'too many queries', true, 1000)"), range(1, 6))

    def test_history_without_progress(self) -> None:
        """An answer without any message changes nothing, whatever it says of more."""
        self.assertIn(self.asked("return { events: [], more_before: true, more_after: true }"), range(1, 6))

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
        self.stage.post(f"{self.room}-refused", ["was there"])
        self.alice.value("(room) => { location.hash = `#/${room}`; }", f"{self.room}-refused")

        self.alice.sees("was there")
        self.assertGreaterEqual(self.alice.value("window.asked"), 3)
