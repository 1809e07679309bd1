"""Where the chat is: a URL, an endpoint string or an endpoint, and what the handshake says of it.

Certificates are verified with the name that the program gave, by :func:`twisted.internet.ssl.optionsForClientTLS`.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct
from twisted.internet.endpoints import HostnameEndpoint, clientFromString, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS

_PORTS = {"ws": 80, "wss": 443}
_SAME = {"http": "ws", "https": "wss"}
#: The path of the chat where nothing else is said.
PATH = "/ws"
#: The end of a path at which a WebSocket begins, perhaps with a room.
_WEBSOCKET_PATH = re.compile(r"(?:/ws(?:/[^/]*)?)?/?$")


class ServerAddress(Struct, frozen=True):
    """How to get there.

    :ivar host: for the ``Host`` header; an IPv6 address in brackets.
    :ivar resource: path and query.
    """

    endpoint: IStreamClientEndpoint
    host: str
    port: int
    resource: str
    name: str

    @property
    def session_url(self) -> str:
        """Where sessions by HTTP begin, beside the WebSocket.  The endpoint decides about TLS; the scheme only says what goes
        into the ``Host`` header.
        """
        scheme = "https" if self.port == 443 else "http"
        path = _WEBSOCKET_PATH.sub("", self.resource.partition("?")[0])
        return f"{scheme}://{self.host}:{self.port}{path}/api/v1/session"


def find(
    reactor: Any,
    where: str | IStreamClientEndpoint,
    *,
    host: str | None = None,
    path: str | None = None,
    trust_root: Any = None,
    client_certificate: Any = None,
) -> ServerAddress:
    """What ``where`` means; ``ValueError`` says what is wrong with it.

    :param where: ``wss://chat.example.org``, ``tls:chat.example.org:443``, ``unix:/run/chat.sock``, or an endpoint object.
    :param host: for the ``Host`` header where the endpoint does not tell it.
    :param trust_root: the certificates that may sign the server's (``trustRootFromCertificates``); None: the platform's.
    :param client_certificate: a ``PrivateCertificate`` to show.
    """
    if isinstance(where, str) and "://" in where:
        return _from_url(reactor, where, path, trust_root, client_certificate)
    if trust_root is not None or client_certificate is not None:
        raise ValueError("trust_root and client_certificate go with a wss:// URL; an endpoint has its own")
    if isinstance(where, str):
        found_host, port = _host_in(where)
        endpoint = clientFromString(reactor, where)
        return ServerAddress(endpoint, host or found_host, port, path or PATH, where)
    if not IStreamClientEndpoint.providedBy(where):
        raise ValueError(f"where: {where!r} is neither a URL nor an endpoint string nor an endpoint")
    return ServerAddress(where, host or "localhost", 80, path or PATH, host or "the endpoint")


def _from_url(reactor: Any, url: str, path: str | None, trust_root: Any, client_certificate: Any) -> ServerAddress:
    parts = urlsplit(url)
    scheme = _SAME.get(parts.scheme, parts.scheme)
    if scheme not in _PORTS:
        raise ValueError(f"where: {url} must begin with ws://, wss://, http:// or https://")
    if not parts.hostname:
        raise ValueError(f"where: {url} has no host")
    if parts.username is not None or parts.fragment:
        raise ValueError("where: a URL of a chat has neither a user nor a fragment; give the token as token=")
    host, port = parts.hostname, parts.port or _PORTS[scheme]
    endpoint: IStreamClientEndpoint = HostnameEndpoint(reactor, host, port)
    if scheme == "wss":
        options = optionsForClientTLS(host, trustRoot=trust_root, clientCertificate=client_certificate)
        endpoint = wrapClientTLS(options, endpoint, clock=reactor)
    elif trust_root is not None or client_certificate is not None:
        raise ValueError(f"where: {url} has no TLS, so there is nothing to trust; use wss://")
    resource = path or (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return ServerAddress(endpoint, f"[{host}]" if ":" in host else host, port, resource, f"{scheme}://{parts.netloc}")


def _host_in(description: str) -> tuple[str, int]:
    """Host and port of ``tcp:host:port`` and its like, for the header."""
    kind, _, rest = description.partition(":")
    if kind not in ("tcp", "tls", "ssl"):
        return "localhost", 80
    named = dict(part.split("=", 1) for part in rest.split(":") if "=" in part)
    plain = [part for part in rest.replace("\\:", "\0").split(":") if "=" not in part]
    host = (named.get("host") or (plain[0] if plain else "localhost")).replace("\0", ":")
    port = named.get("port") or (plain[1] if len(plain) > 1 else "80")
    return (f"[{host}]" if ":" in host else host), int(port)
