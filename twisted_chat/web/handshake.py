"""Read a WebSocket handshake (RFC 6455 section 4.2.1): the pure half of :mod:`twisted_chat.web.upgrade`.

In:   the bytes of a request head (:func:`read_bytes`), or a request that ``twisted.web`` has parsed (:func:`read_request`).
Out:  either way a :class:`RawHandshake`; :func:`check_handshake` makes a :class:`HandshakeRequest` of it, or raises the error of the
      table that names what is wrong.

``twisted.web`` takes some 30 of the 50 microseconds of a handshake for its lines, headers and objects.  :func:`read_bytes` reads
the usual case with one regular expression: GET, a path, HTTP/1.1, headers without control characters, nothing folded, everything in one
piece.  It leaves the rest to ``twisted.web``; ``tests/test_web_handshake_readers.py`` proves that both read the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from msgspec import Struct
from twisted.internet.interfaces import IAddress
from twisted.web.http import parse_qs

from twisted_chat.errors import BadRequest
from twisted_chat.interfaces import Dialect, Handshake
from twisted_chat.names import room_name
from twisted_chat.protocol.frames import is_key
from twisted_chat.users import Credential, Source
from twisted_chat.web.auth import ClientInfo, Headers, credential, refuse_controls, single
from twisted_chat.web.responses import MethodNotAllowed, NoSuchPath, UpgradeRequired
from twisted_chat.web.site import ChatRequest

LOBBY = "lobby"
_BEARER = b"bearer."
_DIALECTS = {dialect.value.encode(): dialect for dialect in Dialect}

#: Bytes and number of headers that :func:`read_bytes` takes; usual heads have less than a quarter.
_HEAD_MAX = 4_096
_HEADERS_MAX = 50
_HEAD = re.compile(rb"GET (/[!-~]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+:[\t -~\x80-\xff]*\r\n)+)\r\n")

#: The headers that matter to a handshake, written as ``twisted.web`` writes them.
_KNOWN = (
    b"Authorization",
    b"Connection",
    b"Cookie",
    b"Forwarded",
    b"Host",
    b"Origin",
    b"Sec-Websocket-Extensions",
    b"Sec-Websocket-Key",
    b"Sec-Websocket-Protocol",
    b"Sec-Websocket-Version",
    b"Upgrade",
    b"Via",
    b"X-Forwarded-For",
    b"X-Forwarded-Host",
    b"X-Forwarded-Proto",
    b"X-Real-Ip",
)
_CANONICAL = {name.lower(): name for name in _KNOWN}
#: A body follows, or the client asks whether to send one.
_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding", b"expect"})

#: Reads the client out of the headers, the peer's address, and whether the connection is encrypted.
ReadClient: TypeAlias = Callable[[Headers, IAddress, bool], ClientInfo]


class RawHandshake(Struct, frozen=True, gc=False):
    """A request as it was read; nothing of it is checked."""

    method: bytes
    path: bytes
    version: bytes
    arguments: dict[bytes, list[bytes]]
    headers: Headers
    peer: IAddress
    secure: bool


class HandshakeRequest(Struct, frozen=True, gc=False):
    """A well-formed handshake; its origin is not checked, nor its sender authenticated.

    :ivar credential: from the ``Authorization`` header, else the subprotocols, else the cookie.
    :ivar subprotocol: the one to select in the answer.
    """

    client: ClientInfo
    credential: Credential | None
    dialect: Dialect
    subprotocol: str | None
    room: str
    query: Query
    handshake: Handshake


class Query(Struct, frozen=True, gc=False):
    """The query of the URL.

    :ivar name: a guest's name; ``device`` keeps a guest's id over reconnects.
    :ivar names: ``names=1``: each line begins with its author's name.
    :ivar history: how many of the last messages to send first.
    """

    name: str | None = None
    device: str | None = None
    names: bool = False
    history: int = 0


def read_request(request: ChatRequest) -> RawHandshake:
    """The handshake in a request that ``twisted.web`` has parsed."""
    return RawHandshake(
        request.method,
        request.path,
        request.clientproto,
        request.args or {},
        dict(request.requestHeaders.getAllRawHeaders()),
        request.client,
        request.channel.isSecure(),
    )


def read_bytes(data: bytes, peer: IAddress, secure: bool) -> tuple[RawHandshake, int] | None:
    """The handshake at the beginning of ``data``, and where it ends; None if it is not the usual case."""
    match = _HEAD.match(data, 0, _HEAD_MAX)
    if match is None:
        return None
    target, lines = match.groups()
    entries = lines.split(b"\r\n")
    if len(entries) > _HEADERS_MAX:
        return None
    headers: dict[bytes, list[bytes]] = {}
    del entries[-1]
    for entry in entries:
        name, _, value = entry.partition(b":")
        lowered = name.lower()
        canonical = _CANONICAL.get(lowered)
        if canonical is not None:
            headers.setdefault(canonical, []).append(value.strip(b" \t"))
        elif lowered in _BODY_HEADERS:
            return None
    if b"Upgrade" not in headers:
        return None
    path, _, query = target.partition(b"?")
    arguments = parse_qs(query, True) if query else {}
    return RawHandshake(b"GET", path, b"HTTP/1.1", arguments, headers, peer, secure), match.end()


def is_upgrade(headers: Headers) -> bool:
    """Whether the client asks for a WebSocket, well-formed or not."""
    return b"Upgrade" in headers and b"websocket" in _tokens(headers[b"Upgrade"])


def check_handshake(raw: RawHandshake, read_client: ReadClient, history_max: int) -> HandshakeRequest:
    """The handshake, checked by RFC 6455 section 4.2.1; raises the error of the table that tells what is wrong."""
    headers = raw.headers
    refuse_controls(headers)
    room = read_room(raw.path)
    if raw.method != b"GET":
        raise MethodNotAllowed((b"GET",))
    if raw.version != b"HTTP/1.1":
        raise BadRequest("a WebSocket needs HTTP/1.1")
    if b"Transfer-Encoding" in headers or headers.get(b"Content-Length", [b"0"]) != [b"0"]:
        raise BadRequest("a handshake has no body")
    key = _checked_key(headers)
    client = read_client(headers, raw.peer, raw.secure)
    bearer, dialect, subprotocol = read_subprotocols(headers.get(b"Sec-Websocket-Protocol", ()))
    chosen = client.credential
    if bearer is not None and (chosen is None or chosen.source is Source.COOKIE):
        chosen = bearer
    return HandshakeRequest(
        client,
        chosen,
        dialect,
        subprotocol,
        room,
        read_query(raw.arguments, history_max),
        Handshake(key, tuple(headers.get(b"Sec-Websocket-Extensions", ())), client.scheme == "https"),
    )


def _checked_key(headers: Headers) -> bytes:
    """The key, after the other headers that make a request a handshake."""
    if not is_upgrade(headers):
        raise UpgradeRequired("here only WebSocket is spoken: Upgrade: websocket")
    if b"upgrade" not in _tokens(headers.get(b"Connection", ())):
        raise BadRequest("Connection: must have Upgrade")
    if single(headers, b"Sec-Websocket-Version") != b"13":
        raise UpgradeRequired("Sec-WebSocket-Version: must be 13")
    key = single(headers, b"Sec-Websocket-Key")
    if key is None or not is_key(key):
        raise BadRequest("Sec-WebSocket-Key: must be 16 bytes in base64")
    return key


def read_room(path: bytes) -> str:
    """The room that a path of a WebSocket names: ``/``, ``/ws`` the lobby, ``/ws/<room>`` another."""
    if path in (b"/ws", b"/", b"/ws/"):
        return LOBBY
    if not path.startswith(b"/ws/"):
        raise NoSuchPath("no WebSocket here; there is one at /ws and at /ws/<room>")
    return decoded_room(path[4:])


def decoded_room(segment: bytes) -> str:
    """The room in a path segment."""
    try:
        return room_name(unquote_to_bytes(segment).decode())
    except UnicodeDecodeError:
        raise BadRequest("room: must be percent-encoded UTF-8") from None


def read_subprotocols(lines: Sequence[bytes]) -> tuple[Credential | None, Dialect, str | None]:
    """The token, the dialect, and the name to select, from what the client offers, its first choice first."""
    bearer: Credential | None = None
    unknown = False
    chosen: Dialect | None = None
    for offer in _entries(lines):
        if offer.startswith(_BEARER):
            if bearer is not None:
                raise BadRequest("Sec-WebSocket-Protocol: more than one bearer token")
            bearer = credential(offer[len(_BEARER) :], Source.SUBPROTOCOL)
        elif chosen is None:
            chosen = _DIALECTS.get(offer)
            unknown = unknown or chosen is None
    if chosen is not None:
        return bearer, chosen, chosen.value
    if unknown:
        raise BadRequest(f"Sec-WebSocket-Protocol: of these only {', '.join(name.decode() for name in _DIALECTS)} are known")
    return bearer, Dialect.TEXT, None


def read_query(arguments: dict[bytes, list[bytes]], history_max: int) -> Query:
    """The query of the URL; unknown arguments are ignored."""
    if not arguments:
        return _NO_QUERY
    history = single_argument(arguments, b"history")
    if history is not None and not (history.isascii() and history.isdigit() and len(history) < 10):
        raise BadRequest("history: must be a number")
    return Query(
        name=single_argument(arguments, b"name"),
        device=single_argument(arguments, b"device"),
        names=single_argument(arguments, b"names") == "1",
        history=min(int(history or 0), history_max),
    )


_NO_QUERY = Query()


def single_argument(arguments: dict[bytes, list[bytes]], name: bytes) -> str | None:
    """The value of an argument that may be there once."""
    values = arguments.get(name)
    if values is None:
        return None
    if len(values) != 1:
        raise BadRequest(f"{name.decode()}: given more than once")
    try:
        return values[0].decode()
    except UnicodeDecodeError:
        raise BadRequest(f"{name.decode()}: must be UTF-8") from None


def _entries(lines: Sequence[bytes]) -> list[bytes]:
    return [entry for line in lines for part in line.split(b",") if (entry := part.strip())]


def _tokens(lines: Sequence[bytes]) -> set[bytes]:
    return {entry.lower() for entry in _entries(lines)}
