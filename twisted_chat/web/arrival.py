"""Who comes, from where and with what proof: read once from the headers of a request, for sockets and the HTTP API alike.

In come the headers that ``twisted.web`` parsed; out comes an :class:`ClientInfo`, or an error naming the header.  Nothing is decided
here but what the bytes mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct
from twisted.internet.interfaces import IAddress

from twisted_chat.errors import BadRequest, Unauthenticated
from twisted_chat.users import Credential, Source
from twisted_chat.web.origins import UNIX, TrustedProxies, plain_address

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
    """What is known of whoever sent a request before anybody asked for a name.

    :ivar address: whom the limits count.
    :ivar forwarded: somebody else stands between (or says so); then ``address`` being our own machine's proves nothing.
    :ivar scheme: ``http`` or ``https``, as the client sees it.
    :ivar host: as the client calls us, lower case, with the port if it gave one.
    """

    address: str
    forwarded: bool
    scheme: str
    host: str
    origin: str | None
    credential: Credential | None


def read_arrival(headers: Headers, peer: IAddress, secure: bool, proxies: TrustedProxies, cookie: bytes) -> ClientInfo:
    """Read the headers that tell who comes; ``BadRequest`` or ``Unauthenticated`` name the one that is wrong.

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
    """The value of a header that may be there once; two are two opinions, and parsers differ in which one counts."""
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


def peer_name(peer: IAddress) -> str:
    """The peer's address as text; all peers at UNIX sockets have one name."""
    host = getattr(peer, "host", None)
    return UNIX if host is None else plain_address(host)
