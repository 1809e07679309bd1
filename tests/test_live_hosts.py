"""DNS rebinding in a real browser: a page under a foreign name that resolves to the server's address gets nothing."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from tempfile import mkdtemp
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.harness.chromium import Chromium
from tests.harness.serving import ROOT, Served, environment

NAMES = ("evil.test", "chat.lan")
EVENTS = "/api/v1/rooms/lobby/events"
#: What a page of the name tries: the status of each answer, or what became of the connection.
ATTEMPTS = {
    "read": f"fetch('{EVENTS}').then((answer) => answer.status)",
    "read with a header of its own": f"fetch('{EVENTS}', {{headers: {{'Accept-Language': ''}}}}).then((answer) => answer.status)",
    "write": f"fetch('{EVENTS}', {{method: 'POST', body: 'x', headers: {{'Content-Type': 'text/plain'}}}}).then((a) => a.status)",
    "beacon": f"fetch('{EVENTS}', {{method: 'POST', body: 'x', keepalive: true, mode: 'same-origin'}}).then((a) => a.status)",
    "stream": f"""new Promise((settle) => {{
        const stream = new EventSource('{EVENTS}');
        stream.onopen = () => settle('open');
        stream.onerror = () => settle('refused');
    }})""",
    "socket": """new Promise((settle) => {
        const socket = new WebSocket(location.origin.replace(/^http/, 'ws') + '/ws');
        socket.onopen = () => settle('open');
        socket.onerror = () => settle('refused');
    })""",
}
REFUSED = {
    "read": 403,
    "read with a header of its own": 403,
    "write": 403,
    "beacon": 403,
    "stream": "refused",
    "socket": "refused",
}
SERVED = {
    "read": 200,
    "read with a header of its own": 200,
    "write": 201,
    "beacon": 201,
    "stream": "open",
    "socket": "open",
}


class LiveHostsTests(SynchronousTestCase):
    server: Served
    browser: Chromium
    stack: ExitStack

    @classmethod
    def setUpClass(cls) -> None:
        with ExitStack() as stack:
            rules = ", ".join(f"MAP {name} 127.0.0.1" for name in NAMES)
            cls.browser = stack.enter_context(Chromium(f"--host-resolver-rules={rules}"))
            cls.server = stack.enter_context(Served(mkdtemp(), "--allowed-hosts=chat.lan"))
            cls.stack = stack.pop_all()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.stack.close()

    def outcomes(self, host: str) -> dict[str, Any]:
        """What becomes of each attempt of a page under that name."""
        self.browser.go(f"http://{host}:{self.server.port}/healthz")
        return {name: self.browser.run(attempt) for name, attempt in ATTEMPTS.items()}

    def test_foreign_name(self) -> None:
        """Pages under an unknown host name are refused everywhere."""
        self.assertEqual(self.outcomes("evil.test"), REFUSED)

    def test_allowed_name(self) -> None:
        """Pages under a name of ``allowed_hosts`` are served."""
        self.assertEqual(self.outcomes("chat.lan"), SERVED)

    def test_loopback_names_and_addresses(self) -> None:
        """Pages under loopback names and addresses are served without a setting."""
        for host in ("localhost", "chat.localhost", "127.0.0.1"):
            self.assertEqual(self.outcomes(host), SERVED, host)


class LiveNodeTests(SynchronousTestCase):
    def test_any_name(self) -> None:
        """Node.js is not a browser, though its ``fetch`` sends some of a browser's headers."""
        node = shutil.which("node")
        if node is None:
            raise SkipTest("node is not installed")
        with Served(mkdtemp()) as server:
            script = f"""
                const lookup = (name, options, done) => options.all
                    ? done(null, [{{address: "127.0.0.1", family: 4}}]) : done(null, "127.0.0.1", 4);
                require("dns").lookup = lookup;
                fetch("http://other.test:{server.port}{EVENTS}").then((answer) => console.log(answer.status));
            """

            run = subprocess.run([node, "-e", script], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60)

        self.assertEqual((run.stdout.strip(), run.stderr), ("200", ""))
