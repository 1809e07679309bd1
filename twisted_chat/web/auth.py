"""Authentication of requests, for sockets and the HTTP API alike: host, then origin, then credential, in that order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.python.failure import Failure

from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.errors import BadRequest, LimitReached, Unauthenticated, Unavailable
from twisted_chat.interfaces import Authentication
from twisted_chat.users import Credential, Source, User
from twisted_chat.web.origins import Hosts, Origins, TrustedProxies, peer_name
from twisted_chat.web.site import ChatRequest

#: Canonical names (``Sec-Websocket-Key``) to values, as ``Headers.getAllRawHeaders`` has them.
Headers: TypeAlias = Mapping[bytes, Sequence[bytes]]

#: RFC 6750 section 2.1.
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/=-]+")
#: Schemes that proxies in front of us use for their own guests; what they say is not for us.
_NOT_FOR_US = frozenset({b"basic", b"digest", b"negotiate"})
#: All of C0 but TAB, and DEL.
_CONTROLS = bytes(byte for byte in range(32) if byte != 9) + b"\x7f"
#: C1 and the two line ends of Unicode, which some parsers take for line ends.
_CONTROL_CHARACTERS = re.compile("[\x80-\x9f\u2028\u2029]")


class ClientInfo(Struct, frozen=True, gc=False):
    """Where a request comes from and with which credential, before it is authenticated.

    :ivar address: the address that the limits count.
    :ivar forwarded: the request came through a proxy, or claims to; then a loopback ``address`` proves nothing.
    :ivar scheme: ``http`` or ``https``, as the client sees it.
    :ivar host: the server's name as the client wrote it, lower case, with the port if it gave one.
    """

    address: str
    forwarded: bool
    scheme: str
    host: str
    origin: str | None
    credential: Credential | None


def read_arrival(headers: Headers, peer: IAddress, secure: bool, proxies: TrustedProxies, cookie: bytes) -> ClientInfo:
    """Read address, origin and credential from the headers; ``BadRequest`` or ``Unauthenticated`` names the header that is wrong.

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
        bool(forwarded) or b"Forwarded" in headers,
        scheme,
        host.decode("latin-1").lower(),
        None if origin is None else origin.decode("latin-1"),
        read_credential(headers, cookie),
    )


def read_credential(headers: Headers, cookie: bytes) -> Credential | None:
    """The bearer token of the ``Authorization`` header, or else of the cookie."""
    authorization = single(headers, b"Authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return credential(token.strip(), Source.HEADER)
        if scheme.lower() not in _NOT_FOR_US:
            raise Unauthenticated("Authorization: only Bearer is understood")
    cookies = headers.get(b"Cookie")
    return None if cookies is None else _cookie(cookies, cookie)


def credential(token: bytes, source: Source) -> Credential:
    """The credential in ``token``; ``Unauthenticated`` if that cannot be one."""
    if not _TOKEN.fullmatch(token):
        raise Unauthenticated(f"{source.value}: this is no bearer token")
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
        # A neighbouring site can add a cookie, never remove ours: then it is open which one is the person's own.
        raise BadRequest(f"Cookie: {wanted.decode()} is there more than once")
    return credential(found.pop(), Source.COOKIE) if found else None


def single(headers: Headers, name: bytes) -> bytes | None:
    """The value of a header that may be there once; a repeated header is ambiguous, because parsers differ in which one counts."""
    values = headers.get(name)
    if values is None:
        return None
    if len(values) != 1:
        raise BadRequest(f"{name.decode()}: given more than once")
    return values[0]


def refuse_controls(headers: Headers) -> None:
    """Raise ``BadRequest`` if a value has a byte that could end a line for anybody (NUL to US but TAB, DEL, NEL, LS, PS)."""
    text = b"".join([value for values in headers.values() for value in values])
    if len(text.translate(None, _CONTROLS)) == len(text) and text.isascii():
        return
    for name, values in headers.items():
        for value in values:
            if len(value.translate(None, _CONTROLS)) != len(value) or not _visible(value):
                raise BadRequest(f"{name.decode()}: has bytes that may not be in a header")


def _visible(value: bytes) -> bool:
    try:
        return not _CONTROL_CHARACTERS.search(value.decode())
    except UnicodeDecodeError:
        return False


#: Milliseconds.  Proofs are looked up in a moment, or the store hangs.
_RETRY_MS = 2_000
#: Headers by which a request may come from a page.
_SENT_BY_BROWSERS = (b"Origin", b"Accept-Language", b"Sec-Fetch-Site")


class RequestAuth:
    """Authenticates each request: is its host known, may its origin, who is it.

    :ivar origins: may be replaced while running, likewise ``proxies`` and ``hosts``.
    :ivar hosts: the names under which pages may reach this server; None: any, because somebody else checks them.
    :param cookie: the name of the cookie that may carry a token.
    """

    def __init__(
        self,
        limiter: ConnectionLimiter,
        identities: Authentication,
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
        self._identities = identities
        self._clock = clock
        self._looked_up = 0

    def arrival(self, request: ChatRequest, headers: Headers) -> ClientInfo:
        """Where this request comes from."""
        arrival = self.arrive(headers, request.client, request.channel.isSecure())
        request.address = arrival.address
        return arrival

    def arrive(self, headers: Headers, peer: IAddress, secure: bool) -> ClientInfo:
        """Where a request from that peer with these headers comes from."""
        return read_arrival(headers, peer, secure, self.proxies, self._cookie)

    def check_host(self, headers: Headers, peer: IAddress) -> None:
        """Raise ``Forbidden`` if a page sent this to a name that is not known.

        Programs may use any name.  A page cannot leave out ``Accept-Language`` or, in a WebSocket or a request that changes something,
        ``Origin``.  What comes from a trusted proxy was routed by its host already.
        """
        if self.hosts is None or not any(name in headers for name in _SENT_BY_BROWSERS) or self.proxies.trusts(peer_name(peer)):
            return
        host = single(headers, b"Host")
        if host is not None:
            self.hosts.check(host.decode("latin-1").lower())

    def check_origin(self, arrival: ClientInfo, credential: Credential | None) -> None:
        """Raise ``Forbidden`` if the page that sent this is not allowed, or if the credential is a cookie and no origin is given."""
        with_cookie = credential is not None and credential.source is Source.COOKIE
        self.origins.check(arrival.origin, arrival.scheme, arrival.host, with_cookie=with_cookie)

    def user(self, credential: Credential | None, name: str | None, device: str | None) -> User | Deferred[User]:
        """Whoever the credential speaks for, else a guest; raises or fails with an error of the table.

        A look-up is given up after ``handshake_seconds``, so that a request does not wait for ever for a store that hangs.
        """
        if credential is None:
            return self._identities.guest(name, device)
        limits = self.limiter.limits
        if self._looked_up >= limits.handshakes_pending:
            raise LimitReached("handshakes: too many logins in progress", retry_after_ms=_RETRY_MS)
        self._looked_up += 1
        looking = self._identities.identify(credential)
        looking.addTimeout(limits.handshake_seconds, self._clock)
        return looking.addBoth(self._looked)

    def _looked(self, result: User | Failure) -> User | Failure:
        self._looked_up -= 1
        if isinstance(result, Failure) and result.check(TimeoutError):
            raise Unavailable("token: could not be looked up in time", retry_after_ms=_RETRY_MS)
        return result
