"""The page in a real browser: what it remembers over a reload, and what it does without storage, locks, clipboard or sound."""

from __future__ import annotations

import json
from typing import Any

from tests.harness.browser import PageCase, Window

setUpModule, tearDownModule = PageCase.begin, PageCase.end


ROOMS = "[...document.querySelectorAll('tc-rooms li')].map(e => e.dataset.room)"
#: The number of the message that is marked, if it is seen.
REVEALED = """(() => {
  const box = document.querySelector('.log-box').getBoundingClientRect();
  const row = document.querySelector('.revealed');
  const { top, bottom } = row?.getBoundingClientRect() ?? { top: -1, bottom: -1 };
  return top >= box.top && bottom <= box.bottom ? Number(row.dataset.seq) : 0;
})()"""
LINE_IS_SEEN = """(() => {
  const box = document.querySelector('.log-box').getBoundingClientRect();
  const { top, bottom } = document.querySelector('.unread-line')?.getBoundingClientRect() ?? { top: -1, bottom: -1 };
  return top >= box.top && bottom <= box.bottom;
})()"""
BADGE = "document.querySelector(`tc-rooms [data-room='%s'] .badge`)?.textContent ?? ''"
STATE = "document.querySelector('tc-room').state"


class Case(PageCase):
    """Each test has rooms of its own."""

    def scripted(self, script: str, hash_: str | None = None, **context: Any) -> Window:
        """A window in which a script runs before the page's own; it goes to the room as Ann."""
        window = self.window(None, **context)
        window.context.add_init_script(script)
        window.goto(f"#/{self.room}?name=Ann" if hash_ is None else hash_)
        return window

    def reload(self, window: Window) -> None:
        window.page.reload()
        window.until(f"{STATE}?.timeline.loaded")

    def elsewhere(self, window: Window, room: str) -> None:
        """The window's user goes to another room."""
        window.value(f"location.hash = '#/{room}'")
        window.becomes(f"{STATE}.name", room)
        window.until(f"{STATE}.timeline.loaded")


class ReloadTests(Case):
    def test_message_of_the_address(self) -> None:
        """A reload, and a first visit, at the address of a message land there."""
        self.stage.post(self.room, [f"line {number}" for number in range(1, 601)])
        ann = self.window("Ann")
        ann.goto(f"#/{self.room}/100")
        ann.becomes(REVEALED, 100)

        self.reload(ann)
        ann.becomes(REVEALED, 100)

        self.room = f"{self.room}/250"
        ben = self.window("Ben")
        ben.becomes(REVEALED, 250)

    def test_message_that_is_not_there(self) -> None:
        """The page says so, and shows the room."""
        self.stage.post(self.room, ["here"])
        self.room = f"{self.room}/77"
        ann = self.window("Ann")

        ann.becomes("document.querySelector('.toast').textContent", "That message is not there any more")
        ann.sees("here")

    def test_all_rooms(self) -> None:
        """Three rooms are joined before a reload and after it; a second window adds its own and takes none away."""
        ann = self.window("Ann")
        others = [f"{self.room}b", f"{self.room}c"]
        for room in others:
            self.elsewhere(ann, room)
        expected = sorted(["lobby", self.room, *others])
        ann.becomes(ROOMS, expected)

        self.reload(ann)
        ann.becomes(ROOMS, expected)

        second = ann.context.new_page()
        second.goto(f"{self.stage.url}#/{self.room}d")
        second.wait_for_function("() => document.querySelectorAll('tc-rooms li').length === 5")
        ann.value("document.querySelector('tc-rooms [data-leave]').click()")
        self.reload(ann)
        ann.becomes(ROOMS, sorted({*expected, f"{self.room}d"} - {self.room}))

    def test_unread(self) -> None:
        """What came while the page was closed is unread: with the line before the first, also for mentions."""
        self.stage.post(self.room, [f"old {number}" for number in range(60)])
        ann = self.window("Ann")
        ann.sees("old 59")
        ann.becomes(f"{STATE}.mark", 60)
        ann.page.goto("about:blank")
        self.stage.post(self.room, [*(f"new {number}" for number in range(40)), "@Ann are you there?"])

        ann.goto(f"#/{self.room}")

        ann.until(f"{STATE}?.timeline.loaded")
        ann.becomes("document.querySelector('.unread-line')?.closest('li').querySelector('.text').innerText", "new 0")
        ann.becomes(f"[{STATE}.unread, {STATE}.called]", [41, True])
        ann.becomes(LINE_IS_SEEN, True)

    def test_more_unread_than_a_page(self) -> None:
        """301 in a room that is not open: 99+ in the side bar; opening it goes to the first of them."""
        ann = self.window("Ann")
        other = f"{self.room}b"
        self.elsewhere(ann, other)
        ann.say("mine")
        ann.sees("mine")
        ann.becomes(f"{STATE}.mark", 1)
        ann.page.goto("about:blank")
        self.stage.post(other, [f"new {number}" for number in range(301)])

        ann.goto(f"#/{self.room}")
        ann.until(f"{STATE}?.timeline.loaded")
        ann.becomes(BADGE % other, "99+")
        ann.until(f"document.querySelector(`[data-room='{other}'] a`).textContent.includes('301 unread')")

        self.elsewhere(ann, other)
        ann.becomes("document.querySelector('.unread-line')?.closest('li').querySelector('.text').innerText", "new 0")
        ann.becomes(LINE_IS_SEEN, True)
        ann.becomes(f"{STATE}.mark", 1)

    def test_unread_from_the_beginning(self) -> None:
        """A room that was empty when it was left begins with the line, whether one page holds all that came or not."""
        ann = self.window("Ann")
        rooms = {f"{self.room}few": 5, f"{self.room}many": 301}
        for room in rooms:
            self.elsewhere(ann, room)
            ann.becomes(f"{STATE}.mark", 0)
        self.elsewhere(ann, self.room)
        ann.page.goto("about:blank")
        for room, count in rooms.items():
            self.stage.post(room, [f"new {number}" for number in range(count)])

        ann.goto(f"#/{self.room}")
        ann.until(f"{STATE}?.timeline.loaded")
        for room in rooms:
            self.elsewhere(ann, room)
            ann.becomes("document.querySelector('.unread-line')?.closest('li').querySelector('.text').innerText", "new 0")
            ann.becomes(LINE_IS_SEEN, True)
        ann.becomes(f"{STATE}.mark", 0)

    def test_link_into_unread(self) -> None:
        """A link to a message of a room with many unread ones goes to that message, and leaves them unread."""
        ann = self.window("Ann")
        other = f"{self.room}b"
        self.elsewhere(ann, other)
        ann.becomes(f"{STATE}.mark", 0)
        self.elsewhere(ann, self.room)
        ann.page.goto("about:blank")
        self.stage.post(other, [f"new {number}" for number in range(1, 302)])
        ann.goto(f"#/{self.room}")
        ann.until(f"{STATE}?.timeline.loaded")
        ann.becomes(BADGE % other, "99+")

        for seq in (270, 10):
            ann.value(f"location.hash = '#/{other}/{seq}'")
            ann.becomes(REVEALED, seq)
            ann.becomes(f"[{STATE}.mark, {STATE}.unread > 99]", [0, True])
            self.elsewhere(ann, self.room)

    def test_unread_after_own(self) -> None:
        """The line stands before the first message of somebody else, also if one has written before it on another device."""
        self.stage.post(self.room, ["old"])
        ann = self.window("Ann")
        ann.becomes(f"{STATE}.mark", 1)
        self.elsewhere(ann, f"{self.room}b")
        ann.value(f"{STATE}.chat.room('{self.room}').send('mine')")
        self.stage.post(self.room, ["new"])
        ann.becomes(BADGE % self.room, "1")

        self.elsewhere(ann, self.room)
        ann.becomes("document.querySelector('.unread-line')?.closest('li').querySelector('.text').innerText", "new")

    def test_edit_in_progress(self) -> None:
        """An edit, and a reply, wait in their rooms while another room is open."""
        ann = self.window("Ann")
        ann.say("first draft")
        ann.sees("first draft")
        ann.act("first draft", "Edit")
        ann.page.fill("tc-room textarea", "second draft")
        self.elsewhere(ann, f"{self.room}b")
        ann.drafts("")
        ann.say("elsewhere")
        ann.sees("elsewhere")
        ann.act("elsewhere", "Reply")

        self.elsewhere(ann, self.room)
        ann.drafts("second draft")
        ann.becomes("document.querySelector('tc-composer').mode.kind", "edit")
        ann.page.press("tc-room textarea", "Enter")
        ann.sees("second draft")

        self.elsewhere(ann, f"{self.room}b")
        ann.becomes("document.querySelector('tc-composer').mode.kind", "reply")


class RefusedTests(Case):
    """Browsers that refuse what they have."""

    BLOCKED = """
      const refuse = () => { throw new DOMException('The operation is insecure.', 'SecurityError'); };
      for (const name of ['localStorage', 'sessionStorage', 'indexedDB'])
        Object.defineProperty(globalThis, name, { get: refuse });
      Object.defineProperty(Document.prototype, 'cookie', { get: refuse, set: refuse });
      Object.defineProperty(navigator, 'locks', { value: { request: () => Promise.reject(new DOMException('blocked', 'SecurityError')) } });
    """

    def test_storage_is_blocked(self) -> None:
        """Signing in works, and the page says that nothing is kept."""
        ann = self.scripted(self.BLOCKED, "")
        ann.page.fill("#sign-in-name", "Ann")
        ann.page.click("tc-sign-in button[type=submit]")

        ann.becomes("document.querySelector('.toast').textContent.includes('keeps nothing')", True)
        ann.say("hello")
        ann.sees("hello")

    def test_storage_is_full(self) -> None:
        """The name holds for as long as the page is open."""
        ann = self.scripted("Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };")
        ann.until("!document.querySelector('.app').hidden")

        ann.say("hello")
        ann.sees("hello")
        ann.becomes("document.querySelector('.row .author').textContent", "Ann")

    def test_notifications_and_sound_are_refused(self) -> None:
        """A message is shown and stays unread, whatever becomes of telling of it."""
        ann = self.scripted("""
          globalThis.Notification = class { constructor() { throw new TypeError('Illegal constructor'); } };
          Notification.permission = 'granted';
          globalThis.AudioContext = class { constructor() { throw new DOMException('no device', 'NotSupportedError'); } };
          document.hasFocus = () => false;
        """)
        ann.until(f"{STATE}?.timeline.loaded")
        ann.value("for (const name of ['notify', 'sound']) localStorage.setItem(`twisted-chat:/:${name}`, 'on')")
        self.stage.post(self.room, ["one", "two"])

        ann.sees("one")
        ann.sees("two")
        ann.becomes(f"{STATE}.unread", 2)

    def test_clipboard_is_refused(self) -> None:
        """No success is claimed, and the rejection is handled."""
        ann = self.scripted("""
          const writeText = () => Promise.reject(new DOMException('', 'NotAllowedError'));
          Object.defineProperty(navigator, 'clipboard', { value: { writeText } });
          document.execCommand = () => false;
        """)
        ann.until(f"{STATE}?.timeline.loaded")
        ann.say("```\ncode\n```")
        ann.sees("code")

        ann.page.click(".copy")
        ann.becomes("document.querySelector('.copy').textContent", "Not copied")
        ann.act("code", "Copy the link to this message")
        ann.becomes("document.querySelector('.toast').textContent.includes('does not let')", True)

    #: As on plain HTTP in a local network.
    INSECURE = """
      Object.defineProperty(navigator, 'clipboard', { value: undefined });
      Object.defineProperty(navigator, 'locks', { value: undefined });
      delete Crypto.prototype.randomUUID;
    """

    def test_plain_http(self) -> None:
        """Copying works by the old command; a new tab is the same guest when the old one is closed, another one beside it."""
        ann = self.scripted(self.INSECURE)
        ann.until(f"{STATE}?.timeline.loaded")
        ann.say("hello")
        ann.sees("hello")
        ann.act("hello", "Copy the link to this message")
        ann.becomes("document.querySelector('.toast').textContent", "The link is copied")
        me = ann.value(f"{STATE}.chat.user.id")

        beside = ann.context.new_page()
        beside.goto(f"{self.stage.url}#/{self.room}")
        beside.wait_for_function(f"() => {STATE}?.chat.user")
        self.assertNotEqual(beside.evaluate(f"{STATE}.chat.user.id"), me)
        beside.close()

        ann.page.close()
        again = ann.context.new_page()
        again.goto(f"{self.stage.url}#/{self.room}")
        again.wait_for_function(f"() => {STATE}?.chat.user")
        self.assertEqual(again.evaluate(f"{STATE}.chat.user.id"), me)


class ListeningTests(Case):
    """What a screen reader is told."""

    def test_each_message_once(self) -> None:
        """Others' messages once; nothing for one's own, for reactions and for what is there when a room is opened."""
        self.stage.post(self.room, [f"old {number}" for number in range(70)])
        ann = self.window("Ann")
        ann.value("""globalThis.heard = [];
          for (const region of document.querySelectorAll('[aria-live=polite], [role=log]:not([aria-live=off])'))
            new MutationObserver((all) => all.forEach(({ addedNodes }) => heard.push(...[...addedNodes].map(e => e.textContent))))
              .observe(region, { childList: true, subtree: true })""")

        ann.say("my own")
        ann.sees("my own")
        self.stage.post(self.room, ["from Robot"])
        ann.sees("from Robot")
        ann.act("from Robot", "Add a reaction")
        ann.page.click(".picker button >> nth=0")
        ann.until("document.querySelector('.reaction')")
        self.elsewhere(ann, f"{self.room}b")
        self.elsewhere(ann, self.room)

        ann.becomes("heard", ["Robot: from Robot"])


class ClockTests(Case):
    def test_midnight(self) -> None:
        """ "Today" becomes "Yesterday" overnight, without anything happening."""
        ann = self.window(None)
        ann.page.clock.install()
        ann.goto(f"#/{self.room}?name=Ann")
        ann.until(f"{STATE}?.timeline.loaded")
        ann.say("hello")
        ann.sees("hello")
        ann.becomes("document.querySelector('.day').textContent", "Today")

        ann.page.clock.fast_forward("24:00:05")

        ann.becomes("document.querySelector('.day').textContent", "Yesterday")

    def test_wrong_clock(self) -> None:
        """A machine that is three days behind shows what is said now under "Today"."""
        ann = self.scripted("""
          const now = Date.now;
          Date.now = () => now() - 3 * 86_400_000;
        """)
        ann.until(f"{STATE}?.timeline.loaded")
        ann.say("hello")
        ann.sees("hello")

        ann.becomes("document.querySelector('.day').textContent", "Today")


class RoomListTests(Case):
    def test_topic_last_line_and_leaving(self) -> None:
        """Each room shows what was said last, and can be left there; the lobby cannot."""
        self.stage.post(self.room, ["what was said last"])
        ann = self.window("Ann")
        ann.becomes(f"document.querySelector(`[data-room='{self.room}'] .last-line`)?.textContent", "Robot: what was said last")
        self.assertEqual(ann.value("document.querySelectorAll(`[data-room='lobby'] .leave`).length"), 0)

        ann.page.hover(f"[data-room='{self.room}']")
        ann.page.click(f"[data-room='{self.room}'] .leave")

        ann.becomes(f"{STATE}.name", "lobby")
        ann.becomes(ROOMS, ["lobby"])

    def test_first_page_fails(self) -> None:
        """The reason stands where the messages would be; until then there are grey lines."""
        ann = self.scripted("""
          const send = WebSocket.prototype.send;
          globalThis.refuseHistory = true;
          WebSocket.prototype.send = function (data) {
            const command = JSON.parse(data);
            const all = Array.isArray(command) ? command : [command];
            const asked = all.find(({ type }) => type === 'history');
            if (!asked || !globalThis.refuseHistory) return send.call(this, data);
            const error = { type: 'error', id: asked.id, code: 'internal', message: 'the disk is gone', retry: false };
            setTimeout(() => this.dispatchEvent(new MessageEvent('message', { data: JSON.stringify(error) })), 300);
          };
        """)
        ann.until("document.querySelector('.skeleton') && !document.querySelector('.skeleton').hidden")
        ann.until("document.querySelector('.empty').innerText.includes('could not be loaded')")
        ann.becomes("document.querySelector('.empty').innerText.includes('the disk is gone')", True)
        ann.becomes("document.querySelector('.skeleton').hidden", True)


class NewDatabaseTests(Case):
    def test_badges_after_the_database_was_deleted(self) -> None:
        """The numbers begin again, and what comes is unread again."""
        other = f"{self.room}b"
        self.stage.post(other, [f"line {number}" for number in range(20)])
        ann = self.window("Ann")
        self.elsewhere(ann, other)
        ann.becomes(f"{STATE}.mark", 20)
        self.elsewhere(ann, self.room)

        self.stage.kill()
        self.stage.delete_database()
        self.stage.start()
        ann.until(f"{STATE}.chat.status.state === 'online' && {STATE}.room.info.head === 0")
        self.stage.post(other, ["brand new"])

        ann.becomes(BADGE % other, "1")


class EmbeddedTests(Case):
    def page(self, *elements: tuple[str, str]) -> Window:
        """A page of this server with an element for each (room, name)."""
        window = self.window(None)
        self.load(window, *elements)
        return window

    def load(self, window: Window, *elements: tuple[str, str]) -> None:
        window.goto("nothing-here")
        window.value(
            """([elements]) => document.body.replaceChildren(...elements.map(([room, name]) => {
              const element = document.createElement('twisted-chat');
              element.setAttribute('room', room);
              element.setAttribute('name', name);
              element.style.height = '300px';
              return element;
            }))""",
            [elements],
        )
        window.value(f"import('{self.stage.url}embed.js').then(() => 0)")

    USERS = "[...document.querySelectorAll('twisted-chat')].map(e => e.chat.user.id)"

    def online(self, window: Window) -> None:
        for place in (0, 1):
            window.until(f"document.querySelectorAll('twisted-chat')[{place}].chat?.status.state === 'online'")

    def shown(self, place: int) -> str:
        texts = f"document.querySelectorAll('twisted-chat')[{place}].shadowRoot?.querySelectorAll('.row .text')"
        return f"[...({texts} ?? [])].map(e => e.innerText)"

    def test_two_elements(self) -> None:
        """Each is a connection of its own; neither replaces the other, also after a reload."""
        elements = ((self.room, "Ann"), (f"{self.room}b", "Ben"))
        window = self.page(*elements)
        self.online(window)
        before = window.value(self.USERS)
        self.assertEqual(len(set(before)), 2)
        self.load(window, *elements)
        self.online(window)
        self.assertEqual(window.value(self.USERS), before)
        self.stage.post(self.room, ["in the first"])
        self.stage.post(f"{self.room}b", ["in the second"])

        window.becomes(self.shown(0), ["in the first"])
        window.becomes(self.shown(1), ["in the second"])

    def test_another_room(self) -> None:
        """A changed attribute shows the other room."""
        self.stage.post(self.room, ["here"])
        self.stage.post(f"{self.room}b", ["there"])
        window = self.page((self.room, "Ann"))
        window.becomes(self.shown(0), ["here"])

        window.value(f"document.querySelector('twisted-chat').setAttribute('room', {json.dumps(self.room + 'b')})")

        window.becomes(self.shown(0), ["there"])
