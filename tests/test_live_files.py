"""Pages that were opened from disk in a real browser: let in out of the box, otherwise by name only."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chromium import Chromium
from tests.harness.serving import Served

EVENTS = "api/v1/rooms/lobby/events"


class LiveFileTests(SynchronousTestCase):
    browser: Chromium
    stack: ExitStack

    @classmethod
    def setUpClass(cls) -> None:
        with ExitStack() as stack:
            cls.browser = stack.enter_context(Chromium())
            cls.stack = stack.pop_all()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.stack.close()

    def outcomes(self, server: Served) -> dict[str, object]:
        """What becomes of what a page on this disk tries."""
        page = Path(self.mktemp()).with_suffix(".html").absolute()
        page.write_text("<!doctype html><title>from disk</title>")
        self.browser.go(page.as_uri())
        socket = f"""new Promise((settle) => {{
            const socket = new WebSocket('{server.websocket}');
            socket.onopen = () => socket.send('from disk');
            socket.onmessage = (event) => settle(event.data);
            socket.onerror = () => settle('refused');
        }})"""
        stream = f"""new Promise((settle) => {{
            const stream = new EventSource('{server.url}{EVENTS}');
            stream.onopen = () => {{ stream.close(); settle('open'); }};
            stream.onerror = () => {{ stream.close(); settle('refused'); }};
        }})"""
        read = f"fetch('{server.url}{EVENTS}').then((answer) => answer.status, () => 'refused')"
        write = f"""fetch('{server.url}{EVENTS}', {{method: 'POST', body: 'posted', headers: {{'Content-Type': 'text/plain'}}}})
            .then((answer) => answer.status, () => 'refused')"""
        return {name: self.browser.run(each) for name, each in zip(OPEN, (socket, stream, read, write), strict=True)}

    def test_out_of_the_box(self) -> None:
        """The server says at the start that it lets them in, and does."""
        with Served(self.mktemp()) as server:
            self.assertIn('Pages opened from disk (origin "null") may connect too', server.stdout)
            self.assertEqual(self.outcomes(server), OPEN)

    def test_more_to_protect(self) -> None:
        """As soon as anything is restricted, they are refused, and the log names the setting that would let them in."""
        for restricted in ("--allowed-origins=https://www.example.org", "--trusted-proxies=192.0.2.1"):
            with Served(self.mktemp(), restricted) as server:
                self.assertEqual(self.outcomes(server), REFUSED)
                self.assertIn('--allowed-origins "null"', server.stdout)

    def test_allowed_by_name(self) -> None:
        with Served(self.mktemp(), "--allowed-origins=https://www.example.org", "--allowed-origins=null") as server:
            self.assertEqual(self.outcomes(server), OPEN)


OPEN = {"socket": "from disk", "stream": "open", "read": 200, "write": 201}
REFUSED = dict.fromkeys(OPEN, "refused")
