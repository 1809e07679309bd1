"""Authenticate requests, for WebSockets and the HTTP API alike: host, then origin, then credential.

In:   the headers of a request.
Out:  a :class:`ClientInfo` (:func:`read_client`), then a user (:meth:`RequestAuth.user`), or an error that names the header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.errors import BadRequest, Forbidden, LimitReached, Unauthenticated, Unavailable
from twisted_chat.interfaces import Authentication
from twisted_chat.users import Credential, Source, User
from twisted_chat.web.origins import UNIX, Hosts, Origins, TrustedProxies, is_loopback, is_private, peer_name
from twisted_chat.web.site import ChatRequest

#: Canonical names (``Sec-Websocket-Key``) to values, as ``Headers.getAllRawHeaders`` has them.
Headers: TypeAlias = Mapping[bytes, Sequence[bytes]]

#: RFC 6750 section 2.1.
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/=-]+")
#: The cookies of sessions.  Over TLS the prefix makes browsers refuse one that another host or a connection without TLS wants to set.
SESSION_COOKIE, SECURE_SESSION_COOKIE = b"chat_session", b"__Host-chat_session"
#: Schemes by which proxies in front of this server authenticate their own users; ignored here.
_PROXY_SCHEMES = frozenset({b"basic", b"digest", b"negotiate"})
#: The control characters of ASCII except TAB.
_CONTROLS = bytes(byte for byte in range(32) if byte != 9) + b"\x7f"
#: Headers by which proxies say that they pass on somebody else's request.
_FORWARDING = frozenset({b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Real-Ip", b"Forwarded", b"Via"})
#: Seconds between two log lines about refused requests.
_REFUSED_SECONDS = 10.0
#: Milliseconds.  A credential is checked within a moment, unless the store hangs.
_RETRY_MS = 2_000


class ClientInfo(Struct, frozen=True, gc=False):
    """What the headers say about the client; nothing of it is authenticated.

    :ivar address: the one that limits count.
    :ivar forwarded: a proxy stands between, or the client says so; then a loopback ``address`` does not prove that it is this machine.
    :ivar scheme: ``http`` or ``https``, as the client sees it.
    :ivar host: the ``Host`` header in lower case, with the port if it has one.
    """

    address: str
    forwarded: bool
    scheme: str
    host: str
    origin: str | None
    credential: Credential | None


def read_client(headers: Headers, peer: IAddress, secure: bool, proxies: TrustedProxies, cookie: bytes) -> ClientInfo:
    """Read the headers that describe the client; ``BadRequest`` or ``Unauthenticated`` name the one that is wrong.

    :param cookie: the name of the cookie that may carry a token.
    """
    host = single(headers, b"Host")
    if host is None:
        raise BadRequest("Host: missing")
    origin = single(headers, b"Origin")
    name = peer_name(peer)
    forwarded = headers.get(b"X-Forwarded-For", ())
    scheme = "https" if secure else "http"
    protocols = headers.get(b"X-Forwarded-Proto")
    if protocols and proxies.trusts(name):
        scheme = "https" if protocols[-1].rpartition(b",")[2].strip().lower() == b"https" else "http"
    return ClientInfo(
        proxies.client(name, [line.decode("latin-1") for line in forwarded]) if forwarded else name,
        not _FORWARDING.isdisjoint(headers),
        scheme,
        host.decode("latin-1").lower(),
        None if origin is None else origin.decode("latin-1"),
        read_credential(headers, session_cookie(scheme), cookie),
    )


def session_cookie(scheme: str) -> bytes:
    """The name of the cookie that carries a session."""
    return SECURE_SESSION_COOKIE if scheme == "https" else SESSION_COOKIE


def read_credential(headers: Headers, *names: bytes) -> Credential | None:
    """The bearer token of the ``Authorization`` header, else of the first of these cookies that is there."""
    authorization = single(headers, b"Authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return credential(token.strip(), Source.HEADER)
        if scheme.lower() not in _PROXY_SCHEMES:
            raise Unauthenticated("Authorization: only Bearer is understood")
    cookies = headers.get(b"Cookie")
    if cookies is None:
        return None
    return next((found for name in names if (found := _cookie(cookies, name)) is not None), None)


def credential(token: bytes, source: Source) -> Credential:
    """The credential; ``Unauthenticated`` if ``token`` does not have the form of one."""
    if not _TOKEN.fullmatch(token):
        raise Unauthenticated(f"{source.value}: not a bearer token")
    return Credential(token.decode("ascii"), source)


def _cookie(lines: Sequence[bytes], wanted: bytes) -> Credential | None:
    found = set()
    for line in lines:
        if wanted in line:
            for pair in line.split(b";"):
                name, _, value = pair.strip().partition(b"=")
                if name == wanted and value:
                    found.add(value.strip(b'"'))
    if len(found) > 1:
        # Another host of the same domain can add a cookie, but not remove ours: it is ambiguous which one is the user's.
        raise BadRequest(f"Cookie: {wanted.decode()} is given more than once")
    return credential(found.pop(), Source.COOKIE) if found else None


def single(headers: Headers, name: bytes) -> bytes | None:
    """The value of a header that may be given once; a repeated one is ambiguous, because parsers differ in which value they use."""
    values = headers.get(name)
    if values is None:
        return None
    if len(values) != 1:
        raise BadRequest(f"{name.decode()}: given more than once")
    return values[0]


def refuse_controls(headers: Headers) -> None:
    """Raise ``BadRequest`` if a value has a character that some parser could take for the end of a line.

    Bytes above 0x7f mean nothing (RFC 9110 section 5.5): proxies and neighbour sites' cookies have them.
    """
    text = b"".join([value for values in headers.values() for value in values])
    if len(text.translate(None, _CONTROLS)) == len(text):
        return
    for name, values in headers.items():
        if any(len(value.translate(None, _CONTROLS)) != len(value) for value in values):
            raise BadRequest(f"{name.decode()}: has bytes that a header may not have")


def sent_by_page(headers: Headers) -> bool:
    """Whether a browser may have sent this request for a page.

    Browsers add ``Origin`` or, to a GET from the page's own origin, at least ``Accept-Language``; a page can change the latter but not
    remove it.  They add all of the ``Sec-Fetch-*`` headers or none, and pages cannot set these: with a mode but no site the
    request is from Node.js.
    """
    if b"Origin" in headers or b"Sec-Fetch-Site" in headers:
        return True
    return b"Accept-Language" in headers and b"Sec-Fetch-Mode" not in headers


class RequestAuth:
    """Authenticates each request: is its host known, is its origin allowed, who is the user.

    :ivar origins: may be replaced while running, likewise ``hosts`` and, by :meth:`trust`, ``proxies``.
    :ivar hosts: the names under which pages may reach this server; None: any, because the embedding program decides.
    :ivar unknown_proxy: a peer on this machine has sent the headers of a proxy, and ``trusted_proxies`` does not name it; so a peer on
        this machine may be anybody.
    :param cookie: the name of the cookie that may carry a token.
    """

    log = Logger()

    def __init__(
        self,
        limiter: ConnectionLimiter,
        authentication: Authentication,
        clock: IReactorTime,
        *,
        origins: Origins | None = None,
        proxies: TrustedProxies | None = None,
        hosts: Hosts | None = None,
        cookie: str = "chat_token",
    ) -> None:
        self.limiter = limiter
        self.origins = origins or Origins()
        self.proxies = proxies or TrustedProxies()
        self.hosts = hosts
        self._cookie = cookie.encode()
        self._authentication = authentication
        self._clock = clock
        #: Checks of credentials that have not ended.
        self._in_progress = 0
        self.unknown_proxy = False
        self._proxy_said = False
        self._refused_at: float | None = None
        self._refused_unsaid = 0

    def client_of(self, request: ChatRequest, headers: Headers) -> ClientInfo:
        """Who sent this request; notes the address for the access log."""
        client = self.read_client(headers, request.client, request.channel.isSecure())
        request.address = client.address
        return client

    def read_client(self, headers: Headers, peer: IAddress, secure: bool) -> ClientInfo:
        """Who sent a request with these headers from that peer, as :func:`read_client`."""
        client = read_client(headers, peer, secure, self.proxies, self._cookie)
        if client.forwarded and not self.unknown_proxy:
            self._look_at_proxy(peer_name(peer))
        return client

    def trust(self, proxies: TrustedProxies) -> None:
        """Believe these proxies from now on; what was found out about others counts no more."""
        self.proxies = proxies
        self.unknown_proxy = self._proxy_said = False

    def _look_at_proxy(self, peer: str) -> None:
        """Say once that a proxy is not trusted: all of its clients share one address, and with it the limits of one address."""
        if self.proxies.trusts(peer) or not is_private(peer):
            return
        self.unknown_proxy = peer == UNIX or is_loopback(peer)
        if self._proxy_said:
            return
        self._proxy_said = True
        self.log.warn(
            "{peer} sends the headers of a proxy (X-Forwarded-For), which are ignored, so all of its clients count as one address; "
            'set trusted_proxies = ["{peer}"]',
            peer=peer,
        )

    def _say_refused(self, error: Forbidden) -> None:
        """Log why a page was refused, which no browser shows; at most one line in some seconds."""
        now = self._clock.seconds()
        if self._refused_at is not None and now - self._refused_at < _REFUSED_SECONDS:
            self._refused_unsaid += 1
            return
        self.log.warn("Refused: {why} ({more} more since the last such line)", why=error.message, more=self._refused_unsaid)
        self._refused_at, self._refused_unsaid = now, 0

    def check_host(self, headers: Headers, peer: IAddress, secure: bool) -> None:
        """Raise ``Forbidden`` if ``Host`` is not a known name of this server; for requests that a page may have sent.

        Two kinds of connections prove the name in another way: over TLS the browser has compared it with the certificate, and at a
        trusted Unix socket, where no browser can connect, the proxy has chosen this server by it.
        """
        if self.hosts is None or secure or (isinstance(peer, UNIXAddress) and self.proxies.trusts(UNIX)):
            return
        host = single(headers, b"Host")
        if host is not None:
            try:
                self.hosts.check(host.decode("latin-1"))
            except Forbidden as error:
                self._say_refused(error)
                raise

    def check_origin(self, client: ClientInfo, credential: Credential | None) -> None:
        """Raise ``Forbidden`` if the page may not send this, or if a cookie is the credential and nothing says which page sent it."""
        with_cookie = credential is not None and credential.source is Source.COOKIE
        try:
            self.origins.check(client.origin, client.scheme, client.host, with_cookie=with_cookie)
        except Forbidden as error:
            self._say_refused(error)
            raise

    def user(self, credential: Credential | None, name: str | None, device: str | None) -> User | Deferred[User]:
        """The user of the credential, or a guest; raises or fails with an error of the table.

        A check that takes longer than a handshake may is cancelled, so that no request waits for ever for a store that hangs.
        """
        if credential is None:
            return self._authentication.guest(name, device)
        limits = self.limiter.limits
        if self._in_progress >= limits.handshakes_pending:
            raise LimitReached("handshakes: too many logins in progress", retry_after_ms=_RETRY_MS)
        self._in_progress += 1
        checking = self._authentication.identify(credential)
        if not checking.called or checking.paused:
            checking.addTimeout(limits.handshake_seconds, self._clock)
        return checking.addBoth(self._checked)

    def _checked(self, result: User | Failure) -> User | Failure:
        self._in_progress -= 1
        if isinstance(result, Failure) and result.check(TimeoutError):
            raise Unavailable("token: could not be checked in time", retry_after_ms=_RETRY_MS)
        return result
