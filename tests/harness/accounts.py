"""A server in memory with accounts, asked by browsers that keep cookies."""

from __future__ import annotations

from typing import Any

import msgspec
from argon2 import PasswordHasher
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.http_memory import Reply, Wire, handshake, request_head
from twisted_chat.auth.passwords import Argon2Passwords
from twisted_chat.core.accounts import Caller, invite
from twisted_chat.server.build import RunningChat, build
from twisted_chat.server.config import Settings
from twisted_chat.stores.memory import MemoryStore
from twisted_chat.stores.workers import AtOnce
from twisted_chat.testing import UNBOUND, TestClock

PASSWORD = "tangerine ladder moss"
#: Weak, so that tests are quick.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ORIGIN = ("Origin", "http://localhost")


class Browser:
    """Sends requests as the server's own page does, and keeps what cookies it is given.

    :ivar cookies: by name.
    """

    def __init__(self, chat: RunningChat, clock: TestClock, address: str = "192.0.2.7", scheme: str = "http") -> None:
        self.chat = chat
        self.clock = clock
        self.peer = IPv4Address("TCP", address, 40_000)
        self.cookies: dict[str, str] = {}
        self.set_cookie = ""
        self.origin: str | None = f"{scheme}://localhost"

    def _headers(self, extra: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
        headers = [*extra]
        if self.origin is not None and "Origin" not in dict(extra):
            headers.append(("Origin", self.origin))
        if self.cookies:
            headers.append(("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        return [(name.encode(), value.encode()) for name, value in headers]

    def send(self, method: str, path: str, body: object = None, *extra: tuple[str, str]) -> Wire:
        """A request under way."""
        wire = Wire(self.chat.site, self.peer)
        content = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = self._headers(extra)
        if content:
            kind = [] if "Content-Type" in dict(extra) else [(b"Content-Type", b"application/json")]
            headers = [*headers, *kind, (b"Content-Length", b"%d" % len(content))]
        wire.protocol.dataReceived(request_head(method.encode(), path.encode(), headers, host=b"localhost") + content)
        self.clock.settle()
        self.clock.settle()
        return wire

    def ask(self, method: str, path: str, body: object = None, *extra: tuple[str, str]) -> Reply:
        """A request and its answer, whose cookie is kept."""
        reply = Reply(self.send(method, path, body, *extra).taken())
        self.set_cookie = reply.headers.get("set-cookie", "")
        if self.set_cookie:
            name, _, value = self.set_cookie.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if value:
                self.cookies[name] = value
        return reply

    def get(self, path: str) -> Any:
        """What a GET answers, from JSON."""
        return msgspec.json.decode(self.ask("GET", path).body)

    def upgrade(self, *extra: tuple[str, str]) -> Wire:
        """A WebSocket in the plain dialect, or the refusal of one."""
        wire = Wire(self.chat.site, self.peer)
        wire.protocol.dataReceived(handshake(b"/ws/lobby", *self._headers(extra), host=b"localhost"))
        self.clock.settle()
        return wire


class AccountsCase(SynchronousTestCase):
    """One server, or several on one store."""

    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.clock = TestClock()
        self.clock.advance(1_000)
        self.store = MemoryStore(self.clock)
        self.chat = self.node()

    def node(self, **more: Any) -> RunningChat:
        """A server on the store."""
        settings = Settings(limits=UNBOUND, **{**self.settings, **more})
        building = Deferred.fromCoroutine(build(self.clock, settings, self.store, loopback=True, hash_in=AtOnce))
        chat: RunningChat = self.successResultOf(building)
        self.addCleanup(chat.core.timers.stop)
        assert isinstance(chat.accounts.passwords, Argon2Passwords)
        chat.accounts.passwords._hasher = CHEAP
        return chat

    def browser(self, chat: RunningChat | None = None, address: str = "192.0.2.7") -> Browser:
        return Browser(chat or self.chat, self.clock, address)

    def do(self, coroutine: Any) -> Any:
        """The result of a coroutine."""
        deferred = Deferred.fromCoroutine(coroutine)
        self.clock.settle()
        return self.successResultOf(deferred)

    def account(self, name: str, *rights: str, password: str = PASSWORD) -> Any:
        """A new account."""
        return self.do(self.chat.accounts.create(name, password, rights, Caller("test")))

    def signed_in(self, name: str, *rights: str, address: str = "192.0.2.7") -> Browser:
        """A browser whose user has a new account."""
        self.account(name, *rights)
        browser = self.browser(address=address)
        reply = browser.ask("POST", "/api/v1/account/session", {"name": name, "password": PASSWORD})
        self.assertEqual(reply.status, 200, reply.body)
        return browser

    def invitation(self, **options: Any) -> str:
        """The secret of a new invitation."""
        _, secret = self.do(invite(self.chat.accounts, Caller("test"), **options))
        return str(secret)

    def audit(self) -> list[str]:
        """The actions in the audit log, oldest first."""
        entries = self.successResultOf(self.store.accounts.read_audit(None, 0, 1_000))
        return [entry.action for entry in reversed(entries)]
