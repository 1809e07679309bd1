"""A chat with its whole HTTP edge in memory: hub, store, site; ``case.ask(…)`` sends a request and takes the answer apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE as ALICE
from tests.harness.chat import BEGIN, UNBOUND
from tests.harness.http_memory import Recorder, Reply, Wire, request_head
from twisted_chat.auth.authenticator import AuthenticatorChain, GuestFactory
from twisted_chat.core.chat import Chat
from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.errors import Unauthenticated
from twisted_chat.limits import RoomPolicies
from twisted_chat.server.build import DIALECTS, CoreAuthentication
from twisted_chat.stores.memory import MemoryStore
from twisted_chat.users import Credential, User
from twisted_chat.web.api import Api, body_bytes
from twisted_chat.web.auth import RequestAuth
from twisted_chat.web.health import MetricsFor, Readiness, WebMetrics, health_routes, observer
from twisted_chat.web.openapi import openapi_route
from twisted_chat.web.origins import Origins
from twisted_chat.web.rooms import RoomsApi
from twisted_chat.web.routing import Router
from twisted_chat.web.session import HttpSessions
from twisted_chat.web.site import ChatSite
from twisted_chat.web.static import page_routes
from twisted_chat.web.upgrade import Upgrades

OPERATOR = User(id="u9", name="op", rights=frozenset({"metrics"}))


class Tokens:
    """``alice`` and ``op`` are tokens; others are unknown."""

    def __init__(self) -> None:
        self.people = {"alice": ALICE, "op": OPERATOR}

    def identify(self, credential: Credential) -> Deferred[User | None]:
        user = self.people.get(credential.token)
        if user is None:
            failed: Deferred[User | None] = Deferred()
            failed.errback(Unauthenticated("token: unknown"))
            return failed
        return succeed(user)


class HttpCase(SynchronousTestCase):
    """Everything behind one site."""

    limits = UNBOUND
    policies = RoomPolicies()
    metrics_for: MetricsFor = "loopback"
    prefix = ""
    guests = True

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(self.clock)
        self.tokens = Tokens()
        self.lines: list[dict[str, Any]] = []
        opened = self.successResultOf(self.store.open())
        numbers = iter(range(1, 1_000_000))
        guests = GuestFactory(b"s" * 32, lambda size: next(numbers).to_bytes(size, "big")) if self.guests else None
        identities = AuthenticatorChain([self.tokens], guests)
        self.core = Chat(
            self.store,
            opened,
            self.clock,
            now_seconds=lambda: BEGIN + self.clock.seconds(),
            run_id=f"x{next(numbers)}",
            random=lambda: 0.5,
            dialects=DIALECTS,
            limits=self.limits,
            policies=self.policies,
            identify=identities.identify,
        )
        self.core.start()
        self.limiter = ConnectionLimiter(self.limits)
        origins = Origins(frozenset({"https://www.test"}))
        self.request_auth = RequestAuth(self.limiter, CoreAuthentication(self.core, identities), self.clock, origins=origins)
        self.registry = CollectorRegistry()
        self.probes: list[Deferred[None]] | None = None
        metrics = WebMetrics(self.registry, self.limiter)
        observe: Any = self._line
        logger = Logger("test", observer=observe)
        upgrades = Upgrades(
            self.request_auth, lambda admission, handshake: Recorder(b"<101>"), may_enter=self.core.check_may_enter
        )
        self.api = Api(self.core, self.limiter)
        self.sessions = HttpSessions(self.core, self.limiter)
        api = [*self.api.routes(), *RoomsApi(self.core, self.api).routes(), *self.sessions.routes()]
        routes = [
            *page_routes(),
            *health_routes(Readiness(self.limiter, self.probe, self.clock), self.registry, self.metrics_for),
            *api,
            openapi_route(api),
        ]
        self.router = Router(self.request_auth, upgrades, routes, logger, prefix=self.prefix)
        self.site = ChatSite(
            self.router.answer,
            self.limiter,
            self.clock,
            body_bytes=body_bytes(self.limits),
            observe=observer(logger, metrics.answer),
            logger=logger,
        )

    def probe(self) -> Deferred[None]:
        if self.probes is None:
            return self.store.probe()
        self.probes.append(Deferred())
        return self.probes[-1]

    def _line(self, event: Any) -> None:
        if event["log_level"] in (LogLevel.info, LogLevel.debug):
            self.lines.append(event)

    def turn(self) -> None:
        """Let the reactor's work of now happen."""
        for _ in range(5):
            self.clock.advance(0)

    def pass_time(self, seconds: int) -> None:
        self.clock.pump([1.0] * seconds)

    def send(
        self,
        target: str,
        *headers: tuple[str, str],
        method: str = "GET",
        body: bytes = b"",
        peer: IAddress | None = None,
        host: bytes = b"chat.test:8080",
    ) -> Wire:
        """A request under way."""
        wire = Wire(self.site, peer)
        given: Iterable[tuple[bytes, bytes]] = [(name.encode(), value.encode()) for name, value in headers]
        if body:
            given = [*given, (b"Content-Length", b"%d" % len(body))]
        wire.protocol.dataReceived(request_head(method.encode(), target.encode(), given, host=host) + body)
        self.turn()
        return wire

    def ask(self, target: str, *headers: tuple[str, str], **kw: Any) -> Reply:
        """A request and its answer."""
        raw = self.send(target, *headers, **kw).taken()
        self.assertTrue(raw, "no answer yet")
        return Reply(raw)

    def get(self, target: str, *headers: tuple[str, str], **kw: Any) -> Any:
        """What a GET gives, from JSON."""
        reply = self.ask(target, *headers, **kw)
        self.assertEqual(reply.status, 200, reply.body)
        return msgspec.json.decode(reply.body)

    def say(self, text: str, room: str = "lobby", *headers: tuple[str, str], query: str = "?name=bob") -> Any:
        """Post a message; what came back, from JSON."""
        reply = self.ask(
            f"/api/v1/rooms/{room}/events{query}",
            ("Content-Type", "text/plain"),
            *headers,
            method="POST",
            body=text.encode(),
        )
        self.assertIn(reply.status, (200, 201), reply.body)
        return msgspec.json.decode(reply.body)
