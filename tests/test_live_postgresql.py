"""Servers that share a PostgreSQL: what is written by one is read by the others, also when the database is hurt."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.postgresql import PASSWORD, shared
from tests.harness.servers import JsonClient, Server
from tests.harness.serving import environment


class TwoServersTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        database = shared().new_database()
        self.addCleanup(shared().drop_database, database)
        self.url = shared().url(database)

    def server(self, name: str) -> Server:
        server = Server(self.directory / name, f"--store={self.url}")
        server.__enter__()
        self.addCleanup(server.__exit__, None, None, None)
        return server

    def test_what_one_server_keeps_the_other_delivers(self) -> None:
        """In the order of the numbers, each once, and the writer's server as well as the reader's."""
        one, two = self.server("one"), self.server("two")
        with JsonClient(one.websocket, "alice") as alice, JsonClient(two.websocket, "bob") as bob:
            for client in (alice, bob):
                client.ask({"type": "join", "room": "lobby"})

            for number in range(20):
                writer = alice if number % 2 else bob
                self.assertEqual(writer.send("lobby", f"k{number}", f"text {number}")["type"], "ok")

            for client in (alice, bob):
                events = client.events()
                told = [next(events) for _ in range(20)]
                self.assertEqual([event["seq"] for event in told], list(range(1, 21)))
                self.assertEqual([event["text"] for event in told], [f"text {number}" for number in range(20)])

    def test_who_is_at_another_server_is_seen_and_gone_soon_after_it_dies(self) -> None:
        one, two = self.server("one"), self.server("two")
        with JsonClient(one.websocket, "alice") as alice, JsonClient(two.websocket, "bob") as bob:
            alice.ask({"type": "join", "room": "lobby", "presence": True})
            bob.ask({"type": "join", "room": "lobby", "presence": True})
            self.heard(bob, "presence", "alice")
            one.kill()
            began = time.monotonic()
            self.heard(bob, "presence", alice.welcome["user"]["id"])
            self.assertLess(time.monotonic() - began, 15)

    def heard(self, client: JsonClient, kind: str, what: str) -> None:
        """Wait for a push of that kind with that in it."""
        while True:
            push = client.next()
            if push["type"] == kind and what in json.dumps(push):
                return

    def test_the_password_is_shown_nowhere(self) -> None:
        server = self.server("one")
        self.assertIn("data in postgresql://chat@127.0.0.1", server.stdout + server.stderr)
        self.assertNotIn(PASSWORD, server.stdout + server.stderr)

    def command(self, *arguments: str) -> str:
        """What ``twisted-chat`` says on the standard output; it has to succeed."""
        command = [sys.executable, "-m", "twisted_chat.cli", *arguments, f"--store={self.url}"]
        done = subprocess.run(command, cwd=self.directory, env=environment(), capture_output=True, text=True, check=False)
        self.assertNotIn(PASSWORD, done.stdout + done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_the_command_line_writes_to_it(self) -> None:
        """Rooms and tokens, as with a file; and the schema on its own."""
        self.assertIn("steps taken", self.command("store", "upgrade"))
        self.assertIn("already", self.command("store", "upgrade"))
        self.command("room", "create", "tea")
        self.command("room", "archive", "tea")
        self.assertIn("archived", self.command("room", "list"))
        self.command("token", "create", "alice")
        self.assertIn("alice", self.command("token", "list"))
