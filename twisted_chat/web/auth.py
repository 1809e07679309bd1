"""Authentication of requests, for sockets and the HTTP API alike: host, then origin, then credential, in that order."""

from __future__ import annotations

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.python.failure import Failure

from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.errors import LimitReached, Unavailable
from twisted_chat.interfaces import Authentication
from twisted_chat.users import Credential, Source, User
from twisted_chat.web.arrival import ClientInfo, Headers, peer_name, read_arrival, single
from twisted_chat.web.origins import Hosts, Origins, TrustedProxies
from twisted_chat.web.site import ChatRequest

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
        """Who comes with this request."""
        arrival = self.arrive(headers, request.client, request.channel.isSecure())
        request.address = arrival.address
        return arrival

    def arrive(self, headers: Headers, peer: IAddress, secure: bool) -> ClientInfo:
        """Who comes from that peer with these headers."""
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
        """Raise ``Forbidden`` if the page that sent this may not, or if nothing says which page did and a cookie is the proof."""
        with_cookie = credential is not None and credential.source is Source.COOKIE
        self.origins.check(arrival.origin, arrival.scheme, arrival.host, with_cookie=with_cookie)

    def user(self, credential: Credential | None, name: str | None, device: str | None) -> User | Deferred[User]:
        """Whoever the credential speaks for, else a guest; raises or fails with an error of the table.

        A look-up that takes longer than a handshake may is given up: the request must not wait for a hanging store for ever.
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
