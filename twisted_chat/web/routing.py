"""Route whole requests: handshakes to :class:`~twisted_chat.web.upgrade.Upgrades`, the others by a table of routes.

An endpoint is a function from an :class:`ApiRequest` to a :class:`~twisted_chat.web.responses.Response`; it may be a coroutine function.
A stream takes over the request and returns None.  Query and body are structs, which check what comes in and of which the API's
description is made.

:class:`Router` does what all answers share: errors in their one shape, HEAD, OPTIONS and 405 from the table, CORS, and the prefix of
a proxy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import msgspec
from msgspec import Meta, Struct
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.errors import BadRequest, ChatError, Forbidden, as_chat_error
from twisted_chat.limits import DEVICE_CHARS
from twisted_chat.names import RAW_NAME_MAX
from twisted_chat.users import User
from twisted_chat.web.auth import ClientInfo, Headers, RequestAuth, refuse_controls, sent_by_page, single
from twisted_chat.web.handshake import is_upgrade, single_argument
from twisted_chat.web.origins import is_loopback, is_loopback_host
from twisted_chat.web.responses import MethodNotAllowed, NoSuchPath, Response, UnsupportedMediaType, error_answer, write_answer
from twisted_chat.web.site import ChatChannel, ChatRequest
from twisted_chat.web.upgrade import Upgrades

T = TypeVar("T")

_JSON = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))


class Who(Struct, frozen=True, kw_only=True):
    """How a guest introduces themselves, in the query of any request.

    :ivar name: the name to show.
    :ivar device: a random string that the client keeps (8 to 64 characters); it makes the client the same guest each time.
    """

    name: Annotated[str, Meta(max_length=RAW_NAME_MAX)] | None = None
    device: Annotated[str, Meta(max_length=DEVICE_CHARS)] | None = None


class ApiRequest:
    """One request, as its endpoint sees it.

    :ivar segments: the segments of the path that stand for the ``{name}`` of the route, still percent-encoded.
    """

    def __init__(
        self, request: ChatRequest, headers: Headers, request_auth: RequestAuth, segments: tuple[bytes, ...] = ()
    ) -> None:
        self.request = request
        self.headers = headers
        self.segments = segments
        self._request_auth = request_auth
        self._client: ClientInfo | None = None

    @property
    def client(self) -> ClientInfo:
        """Who sent it; raises ``Forbidden`` if the page may not."""
        if self._client is None:
            client = self._request_auth.client_of(self.request, self.headers)
            if client.origin is None and (self.headers.get(b"Sec-Fetch-Site") == [b"same-origin"] or _OWN_PAGE in self.headers):
                # A browser names no origin when a page GETs from its own; a page cannot set this header.
                client = msgspec.structs.replace(client, origin=f"{client.scheme}://{client.host}")
            self._request_auth.check_origin(client, client.credential)
            self._client = client
        return self._client

    def from_this_machine(self) -> bool:
        """Whether nothing speaks against it that the client runs on this machine and asks without a proxy.

        A proxy on this machine that says nothing of itself shows by HTTP/1.0 (nginx) or by passing on the name of the site.
        """
        client = self.client
        proxied = client.forwarded or self._request_auth.unknown_proxy or self.request.clientproto != b"HTTP/1.1"
        return not proxied and is_loopback(client.address) and is_loopback_host(client.host)

    async def user(self) -> User:
        """The authenticated user, or a guest."""
        who = self.query(Who)
        user = self._request_auth.user(self.client.credential, who.name, who.device)
        return await user if isinstance(user, Deferred) else user

    def check_changing(self) -> None:
        """Raise ``Forbidden`` unless it is sure that no page of another site sent this: for requests that change an account.

        It is asked also where no cookie came, because a page that signs its visitor in as somebody else would read what they write.
        """
        if self.client.origin is None and sent_by_page(self.headers):
            raise Forbidden("origin: a page must send the Origin header with this")

    def query(self, kind: type[T]) -> T:
        """The query as a struct; ``BadRequest`` names the field that is wrong.  Unknown fields are ignored."""
        arguments = self.request.args or {}
        given = {
            name: single_argument(arguments, name.encode())
            for name in _names(cast(type[Struct], kind))
            if name.encode() in arguments
        }
        try:
            return msgspec.convert(given, kind, strict=False)
        except msgspec.ValidationError as error:
            raise BadRequest(_explain(error)) from None

    def body(self, kind: type[T]) -> T:
        """The JSON body as a struct; ``BadRequest`` names the field that is wrong."""
        try:
            return msgspec.json.decode(self.text_body(), type=kind)
        except msgspec.ValidationError as error:
            raise BadRequest(_explain(error)) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadRequest(f"body: {error}") from None

    def json(self, kind: type[T]) -> T:
        """The body as a struct; it must be said to be JSON, which no page can post to another origin without being asked."""
        if self.content_type() != b"application/json":
            raise UnsupportedMediaType("Content-Type: must be application/json")
        return self.body(kind)

    def text_body(self) -> str:
        """The body as text; ``BadRequest`` if it is not UTF-8."""
        try:
            return self.request.content.read().decode()
        except UnicodeDecodeError as error:
            raise BadRequest(f"body: must be UTF-8; byte {error.start} is not") from None

    def content_type(self) -> bytes:
        """The type of the body without its parameters, lower case; ``UnsupportedMediaType`` if the body must be decoded to be read."""
        coding = single(self.headers, b"Content-Encoding")
        if coding is not None and coding.strip().lower() != b"identity":
            raise UnsupportedMediaType("Content-Encoding: the body must not be compressed")
        kind, *parameters = (single(self.headers, b"Content-Type") or b"").lower().split(b";")
        for parameter in parameters:
            name, _, value = parameter.strip().partition(b"=")
            if name == b"charset" and value.strip(b'"') not in (b"utf-8", b"utf8", b"us-ascii"):
                raise UnsupportedMediaType("Content-Type: charset must be utf-8")
        return kind.strip()

    def cors_headers(self) -> list[tuple[bytes, bytes]]:
        """The CORS headers, for a stream, which writes its own head."""
        return cors_headers(self._request_auth, self.request, self.headers)


Endpoint: TypeAlias = Callable[[ApiRequest], Response | Awaitable[Response | None] | None]


class Route(Struct, frozen=True, kw_only=True):
    """One row of the table: a method, a path, and the endpoint that answers.

    :ivar path: with ``{name}`` for a segment that may be anything.
    :ivar query: structs of the query; ``body``: struct of the JSON body; ``answers``: struct of the JSON answer.
    :ivar public: part of the API, and so of its description.
    :ivar extra: more of the description, in OpenAPI's terms.
    """

    method: bytes
    path: str
    endpoint: Endpoint
    query: tuple[type[Struct], ...] = ()
    body: type[Struct] | None = None
    answers: type[Struct] | None = None
    status: int = 200
    public: bool = False
    extra: Mapping[str, Any] = {}


def json_answer(value: object, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> Response:
    """An answer with a struct as JSON."""
    return Response(status, (*_JSON, *headers), msgspec.json.encode(value) + b"\n")


def cors_headers(request_auth: RequestAuth, request: ChatRequest, headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers that let a page of an allowed origin read the answer (Fetch standard, "CORS protocol").

    They do not allow credentials: the cookie is for the server's own page, pages of other sites send a token.
    """
    if b"Origin" not in headers:
        return []
    try:
        request_auth.check_origin(request_auth.client_of(request, headers), None)
    except ChatError:
        return [(b"Vary", b"Origin")]
    return [
        (b"Vary", b"Origin"),
        (b"Access-Control-Allow-Origin", headers[b"Origin"][0]),
        (b"Access-Control-Expose-Headers", b"Retry-After"),
    ]


@cache
def _names(kind: type[Struct]) -> list[str]:
    """The names of the struct's fields; msgspec takes 300 us to find them."""
    return [field.encode_name for field in msgspec.structs.fields(kind)]


def _explain(error: msgspec.ValidationError) -> str:
    """The message of msgspec with the field in front."""
    text, _, place = str(error).replace("`", "").partition(" - at ")
    field = place.removeprefix("$").lstrip(".")
    return f"{field}: {text[:1].lower()}{text[1:]}" if field else text


#: What the server's own page sends with a GET, because without TLS browsers send no Sec-Fetch-Site.  A page of another origin cannot:
#: the answer to the preflight does not allow this header to anybody.
_OWN_PAGE = b"X-Chat-Page"
#: Headers that a page of another origin may send.
_ALLOWED_HEADERS = b"Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
#: Seconds for which a browser may keep the answer to a preflight.
_PREFLIGHT_AGE = b"600"


class Router:
    """Answers every whole request.

    :param prefix: of all paths, where a proxy serves the chat below one.
    """

    def __init__(
        self, request_auth: RequestAuth, upgrades: Upgrades, routes: Iterable[Route], logger: Logger, *, prefix: str = ""
    ) -> None:
        self._request_auth = request_auth
        self._upgrades = upgrades
        self._logger = logger
        self._prefix = prefix.rstrip("/").encode()
        self._fixed: dict[bytes, dict[bytes, Route]] = {}
        self._open: list[tuple[list[bytes], dict[bytes, Route]]] = []
        for route in routes:
            self._add(route)

    def quick(self, channel: ChatChannel, data: bytes) -> bool:
        """Handshakes of the usual form without ``twisted.web``; not with a prefix, which only :meth:`answer` removes."""
        return not self._prefix and self._upgrades.quick(channel, data)

    def answer(self, request: ChatRequest) -> None:
        """Have the request answered."""
        _read_target(request)
        headers = dict(request.requestHeaders.getAllRawHeaders())
        path = request.path
        if self._prefix:
            if path == self._prefix:
                location = self._prefix + b"/"
                write_answer(request, Response(308, [(b"Location", location), (b"Cache-Control", b"no-store")]))
                return
            if path.startswith(self._prefix + b"/"):
                path = request.path = path[len(self._prefix) :]
        if is_upgrade(headers) or path == b"/ws" or path.startswith(b"/ws/"):
            self._upgrades.upgrade(request)
            return
        try:
            refuse_controls(headers)
            if sent_by_page(headers):
                self._request_auth.check_host(headers, request.client, request.channel.isSecure())
            answer = self._call_endpoint(request, headers, path)
        except ChatError as error:
            answer = error_answer(error)
        if isinstance(answer, Awaitable):
            self._wait(request, headers, answer)
        elif answer is not None:
            self._write(request, headers, answer)

    def _add(self, route: Route) -> None:
        segments = route.path.encode().split(b"/")
        if b"{" not in route.path.encode():
            self._fixed.setdefault(route.path.encode(), {})[route.method] = route
            return
        for known, methods in self._open:
            if known == segments:
                methods[route.method] = route
                return
        self._open.append((segments, {route.method: route}))

    def _call_endpoint(self, request: ChatRequest, headers: Headers, path: bytes) -> Any:
        if path == b"*" and request.method == b"OPTIONS":
            return Response(204, [(b"Allow", b"GET, HEAD, POST, PATCH, DELETE, OPTIONS"), (b"Cache-Control", b"no-store")])
        methods, segments = self._find(path)
        if methods is None:
            raise NoSuchPath("nothing is served under this path")
        method = b"GET" if request.method == b"HEAD" else request.method
        route = methods.get(method)
        if route is None:
            allowed = (*methods, b"HEAD", b"OPTIONS") if b"GET" in methods else (*methods, b"OPTIONS")
            if method != b"OPTIONS":
                raise MethodNotAllowed(allowed)
            return self._preflight(request, headers, allowed)
        return route.endpoint(ApiRequest(request, headers, self._request_auth, segments))

    def _find(self, path: bytes) -> tuple[dict[bytes, Route] | None, tuple[bytes, ...]]:
        methods = self._fixed.get(path)
        if methods is not None:
            return methods, ()
        parts = path.split(b"/")
        for segments, open_methods in self._open:
            if len(segments) == len(parts):
                taken = _matched(segments, parts)
                if taken is not None:
                    return open_methods, taken
        return None, ()

    def _preflight(self, request: ChatRequest, headers: Headers, allowed: Sequence[bytes]) -> Response:
        """Answer whether a page of that origin may send such a request (Fetch standard, "CORS-preflight fetch")."""
        listed = b", ".join(allowed)
        answer = [(b"Allow", listed), (b"Cache-Control", b"no-store")]
        if b"Origin" in headers:
            self._request_auth.check_origin(self._request_auth.client_of(request, headers), None)
            answer += [
                (b"Access-Control-Allow-Methods", listed),
                (b"Access-Control-Allow-Headers", _ALLOWED_HEADERS),
                (b"Access-Control-Max-Age", _PREFLIGHT_AGE),
            ]
        return Response(204, answer)

    def _wait(self, request: ChatRequest, headers: Headers, asked: Any) -> None:
        """Write the answer when the endpoint has one, unless the peer has left by then."""
        present = True
        answering: Deferred[Response | None] = Deferred.fromCoroutine(asked)

        def left(reason: Failure) -> None:
            nonlocal present
            present = False
            answering.cancel()

        def answered(answer: Response | None) -> None:
            if present and answer is not None:
                self._write(request, headers, answer)

        def failed(failure: Failure) -> None:
            if not present:
                return
            error = as_chat_error(failure, self._logger, "answering an HTTP request")
            if request.startedWriting:
                # A stream that has taken the connection over drops it itself.
                if request.channel is not None:
                    request.channel.abort()
                return
            self._write(request, headers, error_answer(error))

        request.notifyFinish().addErrback(left)
        answering.addCallback(answered).addErrback(failed)

    def _write(self, request: ChatRequest, headers: Headers, answer: Response) -> None:
        write_answer(
            request, Response(answer.status, (*answer.headers, *cors_headers(self._request_auth, request, headers)), answer.body)
        )


def _read_target(request: ChatRequest) -> None:
    """Read a target in absolute form, whose host counts instead of the ``Host`` header (RFC 9112 section 3.2.2)."""
    scheme, separator, rest = request.path.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return
    host, _, path = rest.partition(b"/")
    request.path = b"/" + path
    request.requestHeaders.setRawHeaders(b"Host", [host])


def _matched(segments: list[bytes], parts: list[bytes]) -> tuple[bytes, ...] | None:
    taken = []
    for segment, part in zip(segments, parts, strict=True):
        if segment.startswith(b"{"):
            taken.append(part)
        elif segment != part:
            return None
    return tuple(taken)
