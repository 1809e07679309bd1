"""Builds a chat from its parts: store, authentication, core, HTTP and WebSocket edge; without ports and process.

Only this module gives the parts their clock, randomness, threads and reactor.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast, runtime_checkable
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_chat.auth.authenticator import AuthenticatorChain, GuestFactory
from twisted_chat.auth.jwt import JsonWebTokens, JwtKey, read_key
from twisted_chat.auth.passwords import Runner
from twisted_chat.auth.tokens import OpaqueTokens
from twisted_chat.bus import Bus
from twisted_chat.core.accounts import Accounts
from twisted_chat.core.chat import Chat, OpenSession
from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.core.json_session import JsonSession
from twisted_chat.core.text_session import TextSession
from twisted_chat.errors import BadRequest
from twisted_chat.interfaces import Authenticator, Dialect
from twisted_chat.internals.checks import log_fallbacks
from twisted_chat.server import metrics
from twisted_chat.server.build_accounts import SetUpError as SetUpError
from twisted_chat.server.build_accounts import find_ways, make_accounts
from twisted_chat.server.config import Settings
from twisted_chat.server.config_checks import key_file
from twisted_chat.store_contract import Opened, Store, TokenRecord
from twisted_chat.stores.urls import make_store
from twisted_chat.web.accounts import AccountsApi, AdminApi
from twisted_chat.web.api import Api, body_bytes
from twisted_chat.web.auth import RequestAuth
from twisted_chat.web.health import Readiness, WebMetrics, health_routes, observer
from twisted_chat.web.openapi import openapi_route
from twisted_chat.web.origins import Hosts, Origins, TrustedProxies, parse_host, parse_origin
from twisted_chat.web.rooms import RoomsApi
from twisted_chat.web.routing import Router
from twisted_chat.web.session import HttpSessions
from twisted_chat.web.site import ChatSite
from twisted_chat.web.static import page_routes
from twisted_chat.web.upgrade import Upgrades
from twisted_chat.websocket.factory import ChatFactory

#: Seconds between two checks whether all connections are closed.
_DRAIN_LOOK_SECONDS = 0.02

_DAY_SECONDS = 86_400.0
#: Characters of a key's file; a larger one is some other file.
KEY_CHARS = 65_536


#: The settings that a reload may change; all others are fixed at the start.
_RELOADABLE = frozenset(
    {"limits", "rooms", "create_rooms", "sign_up", "session_days", "allowed_origins", "allowed_hosts", "trusted_proxies"}
)
#: The limits that a reload does not change, because they are attributes of the class of WebSocket connections.
_FIXED_LIMITS = frozenset({"frame_bytes"})

_Struct = TypeVar("_Struct", bound=Struct)

#: The session class of each WebSocket subprotocol.
DIALECTS: dict[Dialect, OpenSession] = {Dialect.TEXT: TextSession, Dialect.JSON: JsonSession}


class RunningChat:
    """The parts of a running chat.

    :ivar settings: the settings in force.
    :ivar only_guests: only this machine can reach the ports, and every user is a guest unless there are tokens.
    """

    log = Logger()

    def __init__(
        self,
        store: Store,
        core: Chat,
        limiter: ConnectionLimiter,
        request_auth: RequestAuth,
        site: ChatSite,
        sockets: ChatFactory,
        settings: Settings,
        accounts: Accounts,
        *,
        only_guests: bool,
    ) -> None:
        self.store = store
        self.core = core
        self.limiter = limiter
        self.request_auth = request_auth
        self.site = site
        self.sockets = sockets
        self.settings = settings
        self.accounts = accounts
        self.only_guests = only_guests
        self._have_tokens = False
        self._apply_to_requests()

    @property
    def null_origin(self) -> bool:
        """Whether pages opened from disk may connect: only without settings that restrict access."""
        settings = self.settings
        restricted = settings.public_url or settings.trusted_proxies or settings.allowed_origins
        return self.only_guests and not self._have_tokens and not self.accounts.any and not restricted

    def tokens_seen(self, tokens: Sequence[TokenRecord]) -> None:
        """Take note of the existing tokens: their names are reserved, and pages opened from disk are no longer accepted."""
        self.core.sessions.reserve_names((token.user, token.name) for token in tokens if token.revoked is None)
        self._have_tokens = bool(tokens)

    def apply(self, settings: Settings) -> None:
        """Put these settings in force (:func:`reloaded`); open connections keep the limits that they were told."""
        self.settings, _ = reloaded(self.settings, settings)
        limits = self.settings.limits
        self.limiter.limits = limits
        self.core.configure(limits, self.settings.policies())
        self.site.body_bytes = body_bytes(limits)
        self._apply_to_requests()

    def _apply_to_requests(self) -> None:
        """Apply the settings for requests that a reload may change."""
        auth, settings = self.request_auth, self.settings
        auth.origins = Origins(frozenset(map(parse_origin, settings.allowed_origins)), lambda: self.null_origin)
        auth.trust(TrustedProxies(settings.trusted_proxies))
        self.accounts.sign_up = settings.sign_up
        self.accounts.session_seconds = settings.session_days * _DAY_SECONDS
        if auth.hosts is not None:
            auth.hosts = known_hosts(settings)

    async def drain(self, clock: IReactorTime, seconds: float) -> None:
        """Accept no new connections, close all others, and wait for their end for at most ``seconds``."""
        self.limiter.draining = True
        deadline = clock.seconds() + seconds
        count, unanswered = self._open_connections(), self._unanswered()
        try:
            await self.core.drain.begin().addTimeout(seconds, clock)
        except TimeoutError:
            self.log.error("The store did not commit all messages within {seconds} s", seconds=seconds)
        while self._open_connections() and clock.seconds() < deadline:
            await deferLater(clock, _DRAIN_LOOK_SECONDS)
        rest = self._open_connections() + self._unanswered() - unanswered
        for session in self.core.sessions:
            session.connection.abort()
        self.sockets.abort_all()
        self.site.abort_all()
        self.accounts.passwords.finish()
        self.log.info("Closed {count} connections; {rest} of them did not answer in time", count=count, rest=rest)

    def _open_connections(self) -> int:
        """Of every kind: with or without a session, also in the closing handshake, or with an answer that is not sent yet.

        Where another program's site serves the chat, the limiter alone knows the streams, until all of them is written.
        """
        return max(len(self.sockets.sockets) + len(self.site.connections), self.limiter.connections)

    def _unanswered(self) -> int:
        """Connections that were dropped, since the start, because the peer did not answer their end."""
        return self.sockets.unanswered + self.site.unanswered


async def build(
    reactor: Any,
    settings: Settings,
    store_url: str | Store,
    *,
    loopback: bool,
    authenticators: Sequence[Authenticator] = (),
    checkers: Sequence[ICredentialsChecker] = (),
    check_hosts: bool = True,
    hash_in: Callable[[], Runner] | None = None,
) -> RunningChat:
    """Open the store and build the chat on it.

    :param store_url: the URL of a store, or a store.
    :param loopback: only this machine can reach the ports.
    :param authenticators: further ways to authenticate, used before those of the settings.
    :param checkers: further ways to sign in with a name and a password.
    :param hash_in: makes the threads in which passwords are hashed; only tests give others than the usual ones.
    :param check_hosts: False if the embedding program decides about host names.
    """
    log_fallbacks(RunningChat.log)
    keys = read_keys(settings.jwt_keys)
    ways = find_ways(settings.auth, checkers)
    if isinstance(store_url, str):
        store = make_store(store_url, cast(IReactorTime, WallClock(reactor)), reactor.callFromThread, settings.store_listen)
    else:
        store = store_url
    opened = await store.open()
    tokens = await store.list_tokens()
    chain = AuthenticatorChain(
        [*authenticators, *_authenticators(settings, keys, store)],
        GuestFactory(opened.secret, os.urandom) if settings.guests else None,
    )
    core = await _build_core(reactor, settings, store, opened, chain)
    authentication = CoreAuthentication(core, chain)
    accounts = make_accounts(reactor, store.accounts, core, ways, hash_in)
    await accounts.look()
    limiter = ConnectionLimiter(settings.limits)
    hosts = Hosts() if check_hosts else None
    request_auth = RequestAuth(limiter, authentication, reactor, hosts=hosts, cookie=settings.token_cookie)
    sockets = ChatFactory(core.open_session, limiter.ended, settings.limits, compression=settings.compression, reactor=reactor)
    site = _build_site(reactor, settings, store, core, request_auth, sockets, accounts)
    only_guests = loopback and settings.guests and not authenticators and not keys and not ways
    chat = RunningChat(store, core, limiter, request_auth, site, sockets, settings, accounts, only_guests=only_guests)
    chat.tokens_seen(tokens)
    return chat


class StoreDirectory:
    """People and the audit log, as the store has them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.note = store.accounts.note

    def name_of(self, person: str) -> Deferred[str | None]:
        """The name of an account, else of the bearer of a token that the operator made."""
        return Deferred.fromCoroutine(self._name_of(person))

    async def _name_of(self, person: str) -> str | None:
        kept = await self._store.accounts.account(person)
        if kept is not None:
            record = kept.record
            return record.name if record.deleted is None and record.disabled is None else None
        tokens = await self._store.list_tokens()
        return next((token.name for token in tokens if token.user == person and token.revoked is None), None)


class CoreAuthentication:
    """The authentication of requests: users come with their roles, because what they may see depends on these."""

    def __init__(self, core: Chat, chain: AuthenticatorChain) -> None:
        self.identify = core.identify
        self.guest = chain.guest


class WallClock:
    """The reactor's timers, and the time of the day, which the reactor's own clock need not be: the store dates events by it."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def seconds(self) -> float:
        """Seconds since 1970."""
        return time.time()


def reloaded(running: Settings, read: Settings) -> tuple[Settings, list[str]]:
    """The settings in force after a reload, and the names of those whose changes wait for the next start."""
    limits, waiting_limits = _with_kept(running.limits, read.limits, lambda name: name not in _FIXED_LIMITS)
    settings, waiting = _with_kept(running, read, lambda name: name in _RELOADABLE)
    return msgspec.structs.replace(settings, limits=limits), [*waiting, *(f"limits.{name}" for name in waiting_limits)]


def _with_kept(running: _Struct, read: _Struct, may_change: Callable[[str], bool]) -> tuple[_Struct, list[str]]:
    names = [field.name for field in msgspec.structs.fields(running)]
    kept = [name for name in names if not may_change(name) and getattr(read, name) != getattr(running, name)]
    return msgspec.structs.replace(read, **{name: getattr(running, name) for name in kept}), kept


def known_hosts(settings: Settings) -> Hosts:
    """The host names under which pages may use the server: those of the settings and of this machine."""
    own = socket.gethostname().lower()
    named = [url.hostname for url in map(urlsplit, (settings.public_url, *settings.allowed_origins)) if url.hostname]
    return Hosts(frozenset({own, f"{own}.local", *named, *map(parse_host, settings.allowed_hosts)}))


@runtime_checkable
class SharedStore(Protocol):
    """What a store has besides that several servers (nodes) share.

    :ivar node: the id of this node.
    """

    node: str

    def make_bus(self) -> Bus | None:
        """What carries messages between the nodes."""

    def when_ended(self, ended: Callable[[str], None]) -> None:
        """Call ``ended`` with a sentence if the store turns out to be another one than before, so that this node must end."""


async def _build_core(reactor: Any, settings: Settings, store: Store, opened: Opened, authentication: AuthenticatorChain) -> Chat:
    shared = store if isinstance(store, SharedStore) else None
    node = secrets.token_hex(6) if shared is None else shared.node
    core = Chat(
        store,
        opened,
        reactor,
        now_seconds=time.time,
        run_id=node,
        random=random.random,
        dialects=DIALECTS,
        limits=settings.limits,
        policies=settings.policies(),
        identify=authentication.identify,
        guest=authentication.guest,
        bus=None if shared is None else shared.make_bus(),
        directory=StoreDirectory(store),
    )
    await core.start()
    return core


def _build_site(
    reactor: Any,
    settings: Settings,
    store: Store,
    core: Chat,
    request_auth: RequestAuth,
    sockets: ChatFactory,
    accounts: Accounts,
) -> ChatSite:
    limiter = request_auth.limiter
    registry = CollectorRegistry()
    metrics.register(registry, core)
    web_metrics = WebMetrics(registry, limiter)
    logger = Logger(namespace="twisted_chat.web")
    upgrades = Upgrades(
        request_auth, sockets.open_socket, may_enter=core.check_may_enter, count=web_metrics.handshake, logger=logger
    )
    api = Api(core, limiter)
    accounts_api = AccountsApi(core, accounts)
    routes = [
        *page_routes(),
        *api.routes(),
        *RoomsApi(core, api).routes(),
        *HttpSessions(core, limiter).routes(),
        *accounts_api.routes(),
        *AdminApi(accounts, accounts_api).routes(),
        *health_routes(Readiness(limiter, store.probe, reactor), registry, settings.metrics),
    ]
    routes.append(openapi_route(routes))
    router = Router(request_auth, upgrades, routes, logger, prefix=urlsplit(settings.public_url).path)
    return ChatSite(
        router.answer,
        limiter,
        reactor,
        body_bytes=body_bytes(settings.limits),
        observe=observer(logger, web_metrics.answer),
        logger=logger,
        quick=router.quick,
    )


def read_keys(entries: Sequence[str]) -> list[JwtKey]:
    """The keys of ``jwt_keys``, read from their files."""
    keys = []
    for entry in entries:
        file = key_file(entry)
        try:
            with open(file.path, encoding="utf-8") as opened:
                text = opened.read(KEY_CHARS + 1)
            if len(text) > KEY_CHARS:
                raise SetUpError(
                    f"jwt_keys: {file.path}: is neither PEM nor a secret in text: larger than {KEY_CHARS:,} characters"
                )
            keys.append(read_key(file.algorithm, text.rstrip("\r\n"), file.kid))
        except OSError as error:
            raise SetUpError(f"jwt_keys: {file.path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SetUpError(f"jwt_keys: {file.path}: is neither PEM nor a secret in text") from None
        except BadRequest as error:
            raise SetUpError(f"jwt_keys: {file.path}: {error.message}") from None
    return keys


def _authenticators(settings: Settings, keys: Sequence[JwtKey], store: Store) -> list[Authenticator]:
    """One row for each way to authenticate."""
    found: list[Authenticator] = [OpaqueTokens(store, time.time)]
    if keys:
        issuer, audience = settings.jwt_issuer or None, settings.jwt_audience or None
        found.append(JsonWebTokens(keys, time.time, issuer=issuer, audience=audience))
    return found
