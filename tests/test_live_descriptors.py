"""A server that runs out of file descriptors."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import WebSocketException

from tests.harness.servers import Server, connect
from tests.harness.waiting import wait_until

#: Descriptors that the server gets; it needs some 20 for itself.
FILES = 64


class DescriptorTests(SynchronousTestCase):
    def test_all_in_use(self) -> None:
        """It says so once, serves who is there, and accepts others as soon as there is room again."""
        wrapper = ("sh", "-c", f'ulimit -n {FILES} && exec "$@"', "sh")
        with ExitStack() as stack:
            server = stack.enter_context(Server(self.mktemp(), wrapper=wrapper))
            self.assertIn(
                f"limits.connections is 20000, which needs 20100 open files, but this process may open only {FILES};",
                server.stdout,
            )

            alice = stack.enter_context(connect(server.websocket))
            with ExitStack() as crowd:
                for _ in range(2 * FILES):
                    crowd.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                wait_until(lambda: server.stdout, lambda text: "New connections are closed" in text)
                alice.send("is anybody there?")
                self.assertEqual(alice.recv(10), "is anybody there?")

            def come_back() -> bool:
                try:
                    with connect(server.websocket + "/?history=1") as bob:
                        return bob.recv(10) == "is anybody there?"
                except (OSError, WebSocketException):
                    return False

            wait_until(come_back, bool)
            self.assertEqual(server.end(), 0)

        lines = [line for line in server.stdout.splitlines() if "are closed" in line or "EMFILE" in line]
        self.assertEqual(len(lines), 1, lines)
        self.assertIn(f"all {FILES} files open that it may (hard limit {FILES})", lines[0])
        self.assertIn("raise LimitNOFILE", lines[0])
        self.assertEqual(server.stderr, "")
