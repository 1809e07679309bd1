"""Hosts, origins, trusted proxies and addresses: checks of values that the HTTP edge has read.

A check returns nothing, or raises an error of the table.  This module does not know requests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import AddressValueError, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from msgspec import Struct
from twisted.internet.interfaces import IAddress

from twisted_chat.errors import BadRequest, Forbidden

#: The address of all peers at Unix sockets, in ``trusted_proxies``, in logs and for limits.
UNIX = "unix"

_DEFAULT_PORT = {"http": ":80", "https": ":443"}
_ORIGIN = re.compile(r"(https?)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
#: Of apps and of pages without a site: ``app://localhost``, ``capacitor://localhost``, ``chrome-extension://abc``, ``file://``.
_OTHER_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9_.-]*(:[0-9]{1,5})?")
#: Schemes whose addresses are never the origin of a page.
_NO_ORIGINS = frozenset({"http", "https", "ws", "wss", "ftp", "data", "blob", "javascript"})
_NULL = "null"
_HOST = re.compile(r"(\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?))(:[0-9]*)?")
_HOST_PATTERN = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def parse_origin(text: str) -> str:
    """An origin in the form that browsers send: lower case, no path, no default port; :class:`BadRequest` if it is not an origin."""
    lower = text.lower()
    match = _ORIGIN.fullmatch(lower.removesuffix("/"))
    if match is None:
        other = lower if lower.endswith("://") else lower.removesuffix("/")
        if other == _NULL or (_OTHER_ORIGIN.fullmatch(other) and other.partition(":")[0] not in _NO_ORIGINS):
            return other
        raise BadRequest(f"origin: {text!a} is not scheme://host, scheme://host:port or null")
    scheme, host, port = match.groups()
    return f"{scheme}://{host}" if port is None or port == _DEFAULT_PORT[scheme] else f"{scheme}://{host}{port}"


def _never() -> bool:
    return False


class Origins(Struct, frozen=True):
    """The origins, besides the server's own, whose pages may use this server.

    :ivar allowed: each in the form of :func:`parse_origin`.
    :ivar null: whether the origin ``null`` is allowed now; asked at each request that has it.  It is the origin of a file opened from
        disk, but also of a sandboxed frame of any site, so it is allowed only in the out-of-the-box state, where all users are guests.
    """

    allowed: frozenset[str] = frozenset()
    null: Callable[[], bool] = _never

    def check(self, origin: str | None, scheme: str, host: str, *, with_cookie: bool = False) -> None:
        """Raise ``Forbidden`` unless a page of ``origin`` may use the server at ``scheme`` and ``host``.

        :param origin: as the browser sent it; None: the client is not a browser, or the request is one that browsers send without.
        :param host: the server's name, with the port unless it is the scheme's default.
        :param with_cookie: a cookie is the credential; browsers add it to the requests of any site, so then an origin is required.
        """
        if origin is None:
            if with_cookie:
                raise Forbidden("origin: a cookie counts only with an Origin header; send the token another way")
            return
        if origin in self.allowed or origin == f"{scheme}://{host}":
            return
        if origin == _NULL and self.null():
            return
        if origin != _NULL and origin == own_origin(scheme, host):
            return
        cure = f'add it to allowed_origins (--allowed-origins "{origin}")' if _is_origin(origin) else "see allowed_origins"
        if scheme == "http" and origin == own_origin("https", host):
            cure = "let the proxy that ends TLS send X-Forwarded-Proto, and name it in trusted_proxies"
        raise Forbidden(f"origin: {origin!a} is neither this server's own ({scheme}://{host}) nor allowed; {cure}")


def _is_origin(text: str) -> bool:
    try:
        return parse_origin(text) == text
    except BadRequest:
        return False


def own_origin(scheme: str, host: str) -> str | None:
    """The origin of a page that was loaded from ``host`` by ``scheme``; None if ``host`` is not a host."""
    try:
        return parse_origin(f"{scheme}://{host}")
    except BadRequest:
        return None


class Hosts(Struct, frozen=True):
    """The names under which pages may reach this server.

    A page under a name that its owner points at this machine (DNS rebinding) has that name as its own origin, so comparing ``Origin``
    with ``Host`` proves nothing unless the name is known.  Addresses and the loopback names cannot be pointed elsewhere.

    :ivar names: host names in lower case; ``*.example.org`` for every name below it, ``*`` for any.
    """

    names: frozenset[str] = frozenset()

    def check(self, host: str) -> None:
        """Raise ``Forbidden`` unless the value of a ``Host`` header is an address or a known name."""
        name = _host_name(host.lower())
        if name is not None and (_is_loopback_name(name) or _is_address(name) or self._is_known(name)):
            return
        raise Forbidden(f"Host: {host!a} is not a known name of this server; add it to allowed_hosts, or set public_url")

    def _is_known(self, name: str) -> bool:
        names = self.names
        return name in names or "*" in names or any(entry.startswith("*.") and name.endswith(entry[1:]) for entry in names)


def parse_host(text: str) -> str:
    """A host name or pattern for :class:`Hosts`; :class:`BadRequest` if it is none."""
    name = text.lower().removesuffix(".")
    if name != "*" and not _HOST_PATTERN.fullmatch(name):
        raise BadRequest(f"host: {text!a} is not a host name, *.NAME or *; it has no scheme, port or path")
    return name


def _host_name(host: str) -> str | None:
    """A ``Host`` header without its port; None if it is not a host (RFC 9110 section 7.2)."""
    match = _HOST.fullmatch(host)
    return None if match is None else match["address"] or match["name"].removesuffix(".")


def _is_loopback_name(name: str) -> bool:
    """Browsers resolve these to the loopback addresses without asking anybody (RFC 6761 section 6.3)."""
    return name == "localhost" or name.endswith(".localhost")


def is_loopback_host(host: str) -> bool:
    """Whether the value of a ``Host`` header, in lower case, names this machine itself."""
    name = _host_name(host)
    return name is not None and (_is_loopback_name(name) or is_loopback(name))


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class TrustedProxies:
    """The peers whose ``X-Forwarded-*`` headers are believed.

    :param entries: addresses, networks (``10.0.0.0/8``), or ``unix`` for all peers at Unix sockets.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._unix = False
        self._networks: list[IPv4Network | IPv6Network] = []
        for entry in entries:
            if entry == UNIX:
                self._unix = True
            else:
                self._networks.append(_network(entry))

    def trusts(self, peer: str) -> bool:
        if peer == UNIX:
            return self._unix
        if not self._networks:
            return False
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """The client's address: the peer's, or behind trusted proxies the right-most one that is not a trusted proxy.

        What stands further left was written by peers that are not trusted.

        :param forwarded: the lines of ``X-Forwarded-For``.
        """
        client = plain_address(peer)
        if not forwarded or not self.trusts(client):
            return client
        for entry in reversed(",".join(forwarded).split(",")):
            address = _without_port(entry.strip())
            if address is None:
                return client
            client = address
            if not self.trusts(client):
                return client
        return client


def peer_name(peer: IAddress) -> str:
    """The peer's address as text; ``unix`` for all peers at Unix sockets."""
    host = getattr(peer, "host", None)
    return UNIX if host is None else plain_address(host)


def plain_address(address: str) -> str:
    """The address without a zone; IPv4 addresses of a dual-stack socket (``::ffff:192.0.2.1``) in their own form."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except AddressValueError:
        return address
    return str(parsed.ipv4_mapped or parsed)


def is_private(address: str) -> bool:
    """Whether this is an address of this machine or of a private network, where proxies are."""
    if address == UNIX:
        return True
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return parsed.is_loopback or parsed.is_private


def is_loopback(address: str) -> bool:
    """Whether this is a loopback address."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _network(entry: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(entry)
    except ValueError as error:
        raise BadRequest(f"{entry!a} is not an address or network ({error})") from None


def _without_port(entry: str) -> str | None:
    """The address in an entry of ``X-Forwarded-For``, which some proxies write with a port; None if it is not an address."""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        return plain_address(str(ip_address(entry)))
    except ValueError:
        return None
