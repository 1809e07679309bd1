"""One request as an endpoint sees it, and the row of the table that says where it goes.

An endpoint is a function from an :class:`ApiRequest` to a :class:`~twisted_chat.web.responses.Response`; it may be ``async``; a
stream takes the request over and answers None.  Its query and body are structs: what comes in is checked by them, and the API's description
is made from them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct
from twisted.internet.defer import Deferred

from twisted_chat.errors import BadRequest, ChatError
from twisted_chat.limits import DEVICE_CHARS
from twisted_chat.names import RAW_NAME_MAX
from twisted_chat.users import User
from twisted_chat.web.arrival import ClientInfo, Headers, single
from twisted_chat.web.auth import RequestAuth
from twisted_chat.web.responses import Response
from twisted_chat.web.site import ChatRequest
from twisted_chat.web.upgrade import single_argument

T = TypeVar("T")

_JSON = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))


class Who(Struct, frozen=True, kw_only=True):
    """What a guest may say of themselves in any query.

    :ivar name: the name to be shown.
    :ivar device: a random string that the client keeps (8 to 64 characters): the same guest the next time.
    """

    name: Annotated[str, Meta(max_length=RAW_NAME_MAX)] | None = None
    device: Annotated[str, Meta(max_length=DEVICE_CHARS)] | None = None


class ApiRequest:
    """One request.

    :ivar segments: the parts of the path that the row leaves open, still percent-encoded.
    """

    def __init__(
        self, request: ChatRequest, headers: Headers, request_auth: RequestAuth, segments: tuple[bytes, ...] = ()
    ) -> None:
        self.request = request
        self.headers = headers
        self.segments = segments
        self._request_auth = request_auth
        self._arrival: ClientInfo | None = None

    @property
    def arrival(self) -> ClientInfo:
        """Who comes, whose origin has been looked at."""
        if self._arrival is None:
            arrival = self._request_auth.arrival(self.request, self.headers)
            if arrival.origin is None and self.headers.get(b"Sec-Fetch-Site") == [b"same-origin"]:
                # A browser names no origin when a page GETs from where it came; this header no page can set.
                arrival = msgspec.structs.replace(arrival, origin=f"{arrival.scheme}://{arrival.host}")
            self._request_auth.check_origin(arrival, arrival.credential)
            self._arrival = arrival
        return self._arrival

    async def user(self) -> User:
        """Whoever is asking."""
        who = self.query(Who)
        user = self._request_auth.user(self.arrival.credential, who.name, who.device)
        return await user if isinstance(user, Deferred) else user

    def query(self, kind: type[T]) -> T:
        """The part behind the ``?``; ``BadRequest`` names the field.  What nobody knows is ignored."""
        arguments = self.request.args or {}
        names = {field.encode_name for field in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
        given = {name: single_argument(arguments, name.encode()) for name in names if name.encode() in arguments}
        try:
            return msgspec.convert(given, kind, strict=False)
        except msgspec.ValidationError as error:
            raise BadRequest(_told(error)) from None

    def body(self, kind: type[T]) -> T:
        """The JSON body; ``BadRequest`` names the field."""
        try:
            return msgspec.json.decode(self.request.content.read(), type=kind)
        except msgspec.ValidationError as error:
            raise BadRequest(_told(error)) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadRequest(f"body: {error}") from None

    def content_type(self) -> bytes:
        """The type of the body without its parameters, lower case."""
        value = single(self.headers, b"Content-Type") or b""
        return value.partition(b";")[0].strip().lower()

    def for_pages(self) -> list[tuple[bytes, bytes]]:
        """The headers that let a page of an allowed origin see the answer, for a stream that writes its own."""
        return for_pages(self._request_auth, self.request, self.headers)


Endpoint: TypeAlias = Callable[[ApiRequest], Response | Awaitable[Response | None] | None]


class Route(Struct, frozen=True, kw_only=True):
    """One row: a method, a path, and who answers.

    :ivar path: with ``{name}`` for a segment that is open.
    :ivar query: what may stand behind the ``?``; ``body``: what comes in JSON; ``answers``: what goes out in JSON.
    :ivar public: part of the API and so of its description.
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
    """A struct as JSON."""
    return Response(status, (*_JSON, *headers), msgspec.json.encode(value) + b"\n")


def for_pages(request_auth: RequestAuth, request: ChatRequest, headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers that let a page of an allowed origin see the answer (CORS).

    Without credentials: a cookie is for our own page, other sites send a token.
    """
    if b"Origin" not in headers:
        return []
    try:
        request_auth.check_origin(request_auth.arrival(request, headers), None)
    except ChatError:
        return [(b"Vary", b"Origin")]
    return [
        (b"Vary", b"Origin"),
        (b"Access-Control-Allow-Origin", headers[b"Origin"][0]),
        (b"Access-Control-Expose-Headers", b"Retry-After"),
    ]


def _told(error: msgspec.ValidationError) -> str:
    """msgspec's sentence with the field in front."""
    text, _, place = str(error).replace("`", "").partition(" - at ")
    field = place.removeprefix("$").lstrip(".")
    return f"{field}: {text[:1].lower()}{text[1:]}" if field else text
