"""Accounts on a real server: the link of its start, a browser's way in, the command line beside it."""

from __future__ import annotations

import io
import re
import time
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import msgspec
from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import ConnectionClosed

from tests.harness.accounts import PASSWORD
from tests.harness.servers import connect
from tests.harness.serving import Served
from twisted_chat.cli.main import run
from twisted_chat.cli.options import parser
from twisted_chat.cli.output import CommandContext, Status

ACCOUNTS, SESSION = "/api/v1/accounts", "/api/v1/account/session"


def post(url: str, path: str, body: object) -> tuple[int, str, Any]:
    """Status, cookie and answer."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = HTTPConnection(parts.hostname, parts.port, timeout=30)
    headers = {"Content-Type": "application/json", "Origin": url.rstrip("/")}
    connection.request("POST", path, msgspec.json.encode(body), headers)
    answer = connection.getresponse()
    cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
    try:
        return answer.status, cookie, msgspec.json.decode(answer.read())
    finally:
        connection.close()


class FirstRunTests(SynchronousTestCase):
    def command(self, store: str, *words: str, given: bytes = b"") -> str:
        """What a verb printed."""
        out, err = io.StringIO(), io.StringIO()
        source = io.BytesIO(given)
        context = CommandContext(out, err, {}, source.read, lambda work: succeed(work()), time.time)
        self.assertEqual(run(parser().parse_args([*words, "--store", store]), context), Status.DONE, err.getvalue())
        return out.getvalue()

    def test_first_run(self) -> None:
        """The link makes the first account, once; a person whose account is disabled is out within 2 s; later starts print none."""
        directory = self.mktemp()
        store = f"sqlite:{directory}/chat.db"
        with Served(directory) as server:
            [secret] = re.findall(
                rf"^  Set up     {re.escape(server.url.rstrip('/'))}/#setup=(tc_\S+)$", server.stdout, re.MULTILINE
            )
            status, _, answer = post(server.url, ACCOUNTS, {"name": "Boss", "password": PASSWORD, "invitation": secret})
            self.assertEqual((status, answer["user"]["rights"]), (201, ["admin"]))
            self.assertEqual(post(server.url, ACCOUNTS, {"name": "Eve", "password": PASSWORD, "invitation": secret})[0], 403)

            self.command(store, "user", "add", "Alice", given=PASSWORD.encode())
            status, cookie, _ = post(server.url, SESSION, {"name": "alice", "password": PASSWORD})
            self.assertRegex(cookie, "^chat_session=tc_")
            page = {"Cookie": cookie, "Origin": server.url.rstrip("/")}
            with connect(server.websocket, additional_headers=page) as socket:
                socket.send("hello")
                self.assertEqual(socket.recv(10), "hello")
                self.command(store, "user", "disable", "Alice")
                closed = self.assertRaises(ConnectionClosed, socket.recv, 10)
                assert closed.rcvd is not None
                self.assertEqual(closed.rcvd.code, 4401)
            self.assertEqual(post(server.url, SESSION, {"name": "alice", "password": PASSWORD})[0], 401)
            self.assertEqual(server.end(), 0)
            self.assertEqual(server.stdout.count(secret), 1)
            self.assertNotIn(PASSWORD, server.stdout + server.stderr)
        actions = [msgspec.json.decode(line)["action"] for line in self.command(store, "audit", "--json").splitlines()]
        self.assertEqual(actions[:3], ["invitation.create", "account.create", "session.create"])
        with Served(directory) as server:
            self.assertNotIn("Set up", server.stdout)
