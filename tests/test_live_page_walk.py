"""A long random walk over the page in Chromium: it never freezes, reports no error, and shows what the log has."""

from __future__ import annotations

import json
import os
import random
import urllib.request
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Error
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.browser import Stage, Window

ROOMS = [f"walk{number}" for number in range(5)]
#: ``TWISTED_CHAT_WALK`` is ``SEED`` or ``SEED:ACTIONS``, to see a walk again or to have a longer one.
SEED, _, ACTIONS = os.environ.get("TWISTED_CHAT_WALK", "17:500").partition(":")
#: Actions between two comparisons of what is shown with the log.
COMPARE_EACH = 25
#: Milliseconds for which the tab may be busy on an idle machine.
BUSY_MS = 200.0
STATE = "document.querySelector('tc-room').state"
#: Notes when the tab is busy, and for how long.
WATCH = """
  globalThis.tasks = [];
  new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) tasks.push([performance.timeOrigin + startTime, duration]);
  }).observe({ entryTypes: ['longtask'] });
"""
#: Runs in a tab that does nothing else: how long the same small work takes, and how late it begins, tell how slow the machine is just then.
PROBE = """
  globalThis.smallWork = () => {
    const began = performance.now();
    let sum = 0;
    for (let number = 0; number < 500_000; number += 1) sum = (sum + number * number) % 1_000_003;
    return performance.now() - began + (sum < 0 ? 1 : 0);
  };
  globalThis.probes = [];
  let last = performance.now();
  setInterval(() => {
    const began = performance.now();
    probes.push([performance.timeOrigin + began, smallWork(), Math.max(0, began - last - 50)]);
    last = performance.now();
  }, 50);
"""
#: What the browser itself reports of a network that is not there.
OFFLINE = ("Failed to load resource: net::", "WebSocket connection to ")
#: For each room that is not open: what its badge says, and how far it is read.
BADGES = """(() => {
    const { chat, name } = document.querySelector('tc-room').state;
    return [...document.querySelectorAll('tc-rooms li')].filter(({ dataset }) => dataset.room !== name && dataset.room !== 'lobby')
        .map((e) => [e.dataset.room, e.querySelector('.badge')?.textContent ?? '', chat.load(`mark:${e.dataset.room}`)?.seq ?? -1]);
})()"""
#: Milliseconds before and after a task within which a probe says something of it.
NEAR_MS = 250.0
#: Number, text (None if deleted), whether it is marked as edited, and reactions of each kept message that is in the document.
SHOWN = """[...document.querySelectorAll('li.row[data-seq]:not(.pending)')].map((row) => [
    Number(row.dataset.seq),
    row.querySelector('.gone') ? null : row.querySelector('.text').innerText.replace(/ *\\(edited\\)$/, '').trim(),
    Boolean(row.querySelector('.edited')),
    [...row.querySelectorAll('.reaction')].map((e) => [e.dataset.emoji, Number(e.querySelector('.count').innerText)]),
])"""


class WalkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stage = Stage()
        self.addCleanup(self.stage.end)
        self.random = random.Random(int(SEED))
        self.texts = 0
        for room in ROOMS:
            self.stage.post(room, [self.text() for _ in range(30)])
        self.ann = Window(self.stage, None, ROOMS[0])
        self.addCleanup(self.ann.context.close)
        self.ann.context.add_init_script(WATCH)
        self.console: list[str] = []
        self.ann.page.on("console", lambda message: self.console.append(message.text) if message.type == "error" else None)
        self.idle = Window(self.stage, None)
        self.addCleanup(self.idle.context.close)
        self.idle.page.goto("about:blank")
        self.idle.value(f"() => {{ {PROBE} }}")
        self.fastest: float = self.idle.value("Math.min(...Array.from({ length: 40 }, smallWork))")
        self.ann.goto(f"#/{ROOMS[0]}?name=Ann")
        self.settled()
        self.me: str = self.ann.value(f"{STATE}.chat.user.id")
        self.done: list[str] = []

    # The walk

    def test_walk(self) -> None:
        """Joining, leaving, reloading, links, back, offline, sending, editing, reacting, deleting, in five rooms."""
        actions: list[tuple[int, Callable[[], str]]] = [
            (16, self.send),
            (12, self.other_says),
            (14, self.join),
            (3, self.leave),
            (4, self.reload),
            (6, self.link),
            (6, self.back),
            (4, self.toggle_network),
            (8, self.edit),
            (10, self.react),
            (4, self.delete),
            (6, self.scroll),
        ]
        weights, functions = [weight for weight, _ in actions], [function for _, function in actions]
        for number in range(1, int(ACTIONS or 500) + 1):
            [act] = self.random.choices(functions, weights)
            try:
                self.done.append(f"{number} {act()}")
            except Error as error:
                self.fail(f"{act.__name__}: {error}; {self.story()}")
            self.assertEqual(self.ann.errors + [each for each in self.console if not each.startswith(OFFLINE)], [], self.story())
            if number % COMPARE_EACH == 0:
                self.compare()
        self.compare()

    def story(self) -> str:
        """What to look at after a failure."""
        return f"TWISTED_CHAT_WALK={SEED}; the last actions: {self.done[-12:]}; console: {self.console[-5:]}"

    # Actions

    def text(self) -> str:
        self.texts += 1
        return f"text {self.texts} " + "word " * self.random.choice((0, 0, 3, 60))

    def send(self) -> str:
        text = self.text().strip()
        self.ann.say(text)
        return f"send {text[:12]}"

    def other_says(self) -> str:
        room = self.random.choice(ROOMS)
        self.stage.post(room, [self.text() for _ in range(self.random.choice((1, 1, 5)))])
        return f"other in {room}"

    def join(self) -> str:
        room = self.random.choice(ROOMS)
        self.ann.value("(room) => { location.hash = `#/${room}`; }", room)
        return f"join {room}"

    def leave(self) -> str:
        self.ann.say("/leave")
        return "leave"

    def reload(self) -> str:
        if not self.stage.way.open:
            return "no reload, offline"
        self.keep_tasks()
        self.ann.page.reload()
        self.settled()
        return "reload"

    def link(self) -> str:
        room, seq = self.random.choice(ROOMS), self.random.randrange(1, 30)
        self.ann.value("(place) => { location.hash = place; }", f"#/{room}/{seq}")
        return f"link {room}/{seq}"

    def back(self) -> str:
        # Not past the first address, which is another page.
        self.ann.value("history.length > 3 && navigation.canGoBack && navigation.currentEntry.index > 1 && history.back()")
        return "back"

    def toggle_network(self) -> str:
        way = self.stage.way
        way.open = not way.open
        if not way.open:
            way.cut()
        return "online" if way.open else "offline"

    def edit(self) -> str:
        self.ann.page.fill("tc-room textarea", "")
        self.ann.page.press("tc-room textarea", "ArrowUp")
        if self.ann.value("document.querySelector('tc-composer').mode.kind") != "edit":
            return "nothing to edit"
        self.ann.say(self.text().strip())
        return "edit"

    def visible_row(self, selector: str = "") -> Any:
        """A handle of a random kept message that is in sight, or None."""
        handle = self.ann.page.evaluate_handle(
            """([selector, number]) => {
                const box = document.querySelector('.log-box').getBoundingClientRect();
                const all = [...document.querySelectorAll(`li.row[data-seq]:not(.pending)${selector}`)].filter((row) => {
                    const { top, bottom } = row.querySelector('.message').getBoundingClientRect();
                    return !row.querySelector('.gone') && bottom > box.top + 30 && top < box.bottom - 30;
                });
                return all[Math.floor(number * all.length)]?.querySelector('.message') ?? null;
            }""",
            [selector, self.random.random()],
        )
        return handle.as_element()

    def press(self, selector: str, button: str) -> str:
        row = self.visible_row(selector)
        if row is None:
            return f"nothing for {button}"
        # As a click does: whether the pointer is still over a row when an event moves it is no question of this test.
        pressed = row.evaluate(
            """(message, button) => {
                message.closest('li').focus();
                message.dispatchEvent(new PointerEvent('pointerover', { bubbles: true, pointerType: 'mouse' }));
                const found = document.querySelector(`.toolbar [aria-label='${button}']`);
                found?.click();
                return Boolean(found);
            }""",
            button,
        )
        return f"{button} {'pressed' if pressed else 'not there'}"

    def react(self) -> str:
        return self.press("", self.random.choice(("React with 👍", "React with 😂")))

    def delete(self) -> str:
        said = self.press(".own", "Delete")
        confirm = self.ann.page.locator("dialog[open] button:text-is('Delete')")
        if confirm.count():
            confirm.click()
        return said

    def scroll(self) -> str:
        amount = self.random.choice((-2000, -300, 300, 5000))
        self.ann.value("(amount) => document.querySelector('.log-box').scrollBy(0, amount)", amount)
        return f"scroll {amount}"

    # What must hold

    def settled(self) -> None:
        """Until the room is loaded and nothing waits."""
        self.ann.until(f"{STATE}?.timeline.loaded && {STATE}.chat.status.state === 'online'")

    def keep_tasks(self) -> None:
        """Look how long the tab was busy since the last call, in proportion to how slow the machine was at that time."""
        tasks = self.ann.value("tasks.splice(0)")
        probes = self.idle.value("probes.splice(0)")
        for began, took in tasks:
            near = [(work, late) for at, work, late in probes if began - NEAR_MS < at < began + took + NEAR_MS]
            slowness = max([1.0, *(work / self.fastest for work, _ in near)])
            late = max([0.0, *(late for _, late in near)])
            self.assertLess(took, BUSY_MS * slowness + 2 * late, (slowness, late, self.story()))

    def compare(self) -> None:
        """Everything is shown as the log has it: each message once, in order, in its present state."""
        self.stage.way.open = True
        self.settled()
        self.ann.until(f"!document.querySelector('.row.pending:not(.failed)') && {STATE}.room.info")
        for _ in range(200):
            room = self.ann.value(f"{STATE}.name")
            log = self.log(room)
            wrong = self.differences(log)
            if not wrong and self.ann.value(f"{STATE}.name") == room:
                break
            self.ann.page.wait_for_timeout(50)
        else:
            expected = {row[0]: log.get(row[0]) for row in wrong if isinstance(row[0], int)}
            self.fail(f"{room} shows {wrong}, the log has {expected}; {self.story()}")
        for _ in range(200):
            wrong = self.badges()
            if not wrong:
                break
            self.ann.page.wait_for_timeout(50)
        else:
            self.fail(f"badges, and what they should be: {wrong}; {self.story()}")
        self.keep_tasks()

    def differences(self, log: dict[int, list[Any]]) -> list[Any]:
        """The rows that are not as the log has them."""
        shown = self.ann.value(SHOWN)
        seqs = [row[0] for row in shown]
        wrong = [row for row in shown if log.get(row[0]) != row[1:]]
        if seqs != sorted(set(seqs)):
            wrong.append(["order", seqs])
        if log and self.ann.value(f"{STATE}.timeline.live && document.querySelector('tc-log').atEnd") and seqs[-1:] != [max(log)]:
            wrong.append(["newest", seqs[-3:], max(log)])
        return wrong

    def badges(self) -> list[Any]:
        """Rooms whose badge does not say how many messages of others came since they were read."""
        wrong = []
        for room, badge, mark in self.ann.value(BADGES):
            unread = sum(by != self.me for seq, by in self.authors(room) if seq > mark)
            expected = "99+" if unread > 99 else str(unread or "")
            if badge != expected:
                wrong.append([room, badge, expected, mark])
        return wrong

    def authors(self, room: str) -> list[tuple[int, str]]:
        """Number and author of the room's newest messages."""
        return [(event["seq"], event["by"]["id"]) for event in self.events(room) if event["kind"] == "message"]

    def log(self, room: str) -> dict[int, list[Any]]:
        """The room's newest messages: text, edited, reactions, by number."""
        return {
            event["seq"]: [
                None if event.get("gone") else event["text"].strip(),
                not event.get("gone") and event.get("revision", 1) > 1,
                [] if event.get("gone") else [[each["emoji"], len(each["by"])] for each in event.get("reactions", [])],
            ]
            for event in self.events(room)
            if event["kind"] == "message"
        }

    def events(self, room: str) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.stage.port}/api/v1/rooms/{room}/events?limit=200") as answer:
            events: list[dict[str, Any]] = json.load(answer)["events"]
        return events
