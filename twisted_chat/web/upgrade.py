"""The WebSocket handshake (RFC 6455 section 4.2) and what is checked before the 101 (``docs/decisions/08-identity-before-upgrade.rst``).

In:   a request.
Out:  an :class:`~twisted_chat.interfaces.Admission` and the bare transport for the WebSocket edge, or an error response.  The order of
      the checks: host, handshake, origin, user, limits.

The headers are read from what ``twisted.web`` parsed.  Autobahn never sees them: it splits header text at bytes that are no line
ends in HTTP, so that a value could smuggle in a second ``Origin``.  Such bytes are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import parse_qs

from twisted_chat.errors import BadRequest, ChatError, as_chat_error
from twisted_chat.interfaces import Admission, Dialect, Handshake, OpenSocket
from twisted_chat.internals.takeover import give_transport, take_channel, take_transport
from twisted_chat.names import room_name
from twisted_chat.protocol.frames import is_key
from twisted_chat.users import Credential, Source, User
from twisted_chat.web.auth import ClientInfo, Headers, RequestAuth, credential, refuse_controls, single
from twisted_chat.web.handshake import read_head
from twisted_chat.web.responses import MethodNotAllowed, NoSuchPath, UpgradeRequired, error_answer, write_answer
from twisted_chat.web.site import ChatChannel, ChatRequest

LOBBY = "lobby"
_BEARER = b"bearer."
_DIALECTS = {dialect.value.encode(): dialect for dialect in Dialect}
#: Told of each handshake that ends: ``open`` or the code of its error.
Count = Callable[[str], None]


class RawHandshake(Struct, frozen=True, gc=False):
    """A request as it was read, by ``twisted.web`` or in one look (:mod:`twisted_chat.web.handshake`)."""

    method: bytes
    path: bytes
    version: bytes
    arguments: dict[bytes, list[bytes]]
    headers: Headers
    peer: IAddress
    secure: bool


class HandshakeRequest(Struct, frozen=True, gc=False):
    """A well-formed handshake that is not authenticated yet."""

    arrival: ClientInfo
    credential: Credential | None
    dialect: Dialect
    subprotocol: str | None
    room: str
    query: Query
    handshake: Handshake


class Query(Struct, frozen=True, gc=False):
    """What the URL may ask for behind the ``?``.

    :ivar name: a guest's name; ``device`` keeps a guest's id over reconnects.
    :ivar names: ``names=1``: each line begins with its author's name.
    :ivar history: so many of the last messages first.
    """

    name: str | None = None
    device: str | None = None
    names: bool = False
    history: int = 0


class Upgrades:
    """Turns handshakes into sockets.

    :param may_enter: raises the error of the table if the user may not connect, or not to that room.
    """

    def __init__(
        self,
        request_auth: RequestAuth,
        open_socket: OpenSocket,
        *,
        may_enter: Callable[[User, str | None, str | None], None],
        count: Count = lambda outcome: None,
        logger: Logger | None = None,
    ) -> None:
        self._request_auth = request_auth
        self._open_socket = open_socket
        self._may_enter = may_enter
        self._count = count
        self._logger = logger or Logger()

    def upgrade(self, request: ChatRequest) -> None:
        """Answer the handshake, now or when it is known who sent it."""
        try:
            self._request_auth.limiter.check_open()
            raw = asked_by(request)
            self._request_auth.check_host(raw.headers, raw.peer)
            wish = read_wish(raw, self._request_auth)
            request.address = wish.arrival.address
            self._request_auth.check_origin(wish.arrival, wish.credential)
            user = self._request_auth.user(wish.credential, wish.query.name, wish.query.device)
            if not isinstance(user, Deferred):
                self._open(request, wish, user)
                return
        except ChatError as error:
            self._refuse(request, error)
            return
        self._wait(request, wish, user)

    def quick(self, channel: ChatChannel, data: bytes) -> bool:
        """The usual case, a guest's handshake that came in one piece and is let in, at half the cost: without ``twisted.web``.

        For everything else the answer is False, and nothing has happened: ``twisted.web`` reads it again.
        """
        read = read_head(data)
        if read is None:
            return False
        target, headers, end = read
        path, _, query = target.partition(b"?")
        request_auth = self._request_auth
        arguments = parse_qs(query, True) if query else {}
        asked = RawHandshake(b"GET", path, b"HTTP/1.1", arguments, headers, channel.getPeer(), channel.isSecure())
        try:
            request_auth.limiter.check_open()
            request_auth.check_host(headers, asked.peer)
            wish = read_wish(asked, request_auth)
            if wish.credential is not None:
                return False
            request_auth.check_origin(wish.arrival, None)
            user = request_auth.user(None, wish.query.name, wish.query.device)
            if isinstance(user, Deferred):
                raise AssertionError("a guest is known at once")
            protocol = self._admit(wish, user)
        except Exception:
            # Also a bug: the long way meets it again, tells it and logs it.
            return False
        transport, _ = take_channel(channel)
        self._begin(transport, protocol, data[end:])
        return True

    def _wait(self, request: ChatRequest, wish: HandshakeRequest, looking: Deferred[User]) -> None:
        """Wait for authentication; if the peer leaves meanwhile, nothing is opened and nothing is answered."""
        present = True

        def left(reason: Failure) -> None:
            nonlocal present
            present = False
            looking.cancel()

        def known(user: User) -> None:
            if present:
                self._open(request, wish, user)

        def unknown(failure: Failure) -> None:
            if not present:
                return
            self._refuse(request, as_chat_error(failure, self._logger, "checking a credential"))

        request.notifyFinish().addErrback(left)
        looking.addCallback(known).addErrback(unknown)

    def _open(self, request: ChatRequest, wish: HandshakeRequest, user: User) -> None:
        protocol = self._admit(wish, user)
        transport, leftover = take_transport(request)
        self._begin(transport, protocol, leftover)

    def _admit(self, wish: HandshakeRequest, user: User) -> IProtocol:
        # A rich client joins by command; only a plain one is in the room of its path.
        self._may_enter(user, None if wish.dialect is Dialect.JSON else wish.room, wish.arrival.address)
        address = wish.arrival.address
        limiter = self._request_auth.limiter
        limiter.admit(address)
        admission = Admission(
            user=user,
            dialect=wish.dialect,
            room=wish.room,
            address=address,
            subprotocol=wish.subprotocol,
            names=wish.query.names,
            history=wish.query.history,
        )
        try:
            return self._open_socket(admission, wish.handshake)
        except BaseException:
            limiter.ended(address)
            raise

    def _begin(self, transport: Any, protocol: IProtocol, leftover: bytes) -> None:
        self._count("open")
        try:
            give_transport(transport, protocol, leftover)
        except Exception:
            # The protocol has the transport and hears of its end.
            self._logger.failure("a new WebSocket failed at once")
            transport.abortConnection()

    def _refuse(self, request: ChatRequest, error: ChatError) -> None:
        """Behind a refused handshake come frames if the client did not wait, so the connection ends with the answer."""
        self._count(error.code)
        write_answer(request, error_answer(error), last=True)


def is_upgrade(headers: Headers) -> bool:
    """Whether the request asks for a WebSocket, well-formed or not."""
    return b"Upgrade" in headers and b"websocket" in _tokens(headers[b"Upgrade"])


def asked_by(request: ChatRequest) -> RawHandshake:
    """What ``twisted.web`` read."""
    return RawHandshake(
        request.method,
        request.path,
        request.clientproto,
        request.args or {},
        dict(request.requestHeaders.getAllRawHeaders()),
        request.client,
        request.channel.isSecure(),
    )


def read_wish(asked: RawHandshake, request_auth: RequestAuth) -> HandshakeRequest:
    """The handshake, checked by RFC 6455 section 4.2.1; raises the error of the table that tells what is wrong."""
    headers = asked.headers
    refuse_controls(headers)
    room = read_room(asked.path)
    if asked.method != b"GET":
        raise MethodNotAllowed((b"GET",))
    if asked.version != b"HTTP/1.1":
        raise BadRequest("a WebSocket needs HTTP/1.1")
    if b"Transfer-Encoding" in headers or headers.get(b"Content-Length", [b"0"]) != [b"0"]:
        raise BadRequest("a handshake has no body")
    if not is_upgrade(headers):
        raise UpgradeRequired("here only WebSocket is spoken: Upgrade: websocket")
    if b"upgrade" not in _tokens(headers.get(b"Connection", ())):
        raise BadRequest("Connection: must have Upgrade")
    if single(headers, b"Sec-Websocket-Version") != b"13":
        raise UpgradeRequired("Sec-WebSocket-Version: must be 13")
    key = single(headers, b"Sec-Websocket-Key")
    if key is None or not is_key(key):
        raise BadRequest("Sec-WebSocket-Key: must be 16 bytes in base64")
    arrival = request_auth.arrive(headers, asked.peer, asked.secure)
    bearer, dialect, subprotocol = read_subprotocols(headers.get(b"Sec-Websocket-Protocol", ()))
    proof = arrival.credential
    if bearer is not None and (proof is None or proof.source is Source.COOKIE):
        proof = bearer
    return HandshakeRequest(
        arrival,
        proof,
        dialect,
        subprotocol,
        room,
        read_query(asked.arguments, request_auth.limiter.limits.history),
        Handshake(key, tuple(headers.get(b"Sec-Websocket-Extensions", ())), arrival.scheme == "https"),
    )


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
    """The part behind the ``?``; unknown names are ignored."""
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
