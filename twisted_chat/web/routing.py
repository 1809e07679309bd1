"""Where whole requests go: a handshake to the upgrades, everything else down the table of routes.

What all answers have in common is done here: errors in their one shape, HEAD, OPTIONS and 405 from the table, pages of allowed
origins (CORS), the prefix of a proxy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.errors import ChatError, as_chat_error
from twisted_chat.web.arrival import Headers
from twisted_chat.web.auth import RequestAuth
from twisted_chat.web.call import ApiRequest, Route, for_pages
from twisted_chat.web.refusal import MethodNotAllowed, NoSuchPath
from twisted_chat.web.responses import Response, error_answer, write_answer
from twisted_chat.web.site import ChatChannel, ChatRequest
from twisted_chat.web.upgrade import Upgrades, is_upgrade

#: What a page of another origin may send.
_ALLOWED_HEADERS = b"Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
#: Seconds for which a browser need not ask again.
_PREFLIGHT_AGE = b"600"


class Router:
    """Answers every whole request.

    :param prefix: of all paths, without a slash at the end: where a proxy has put us.
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
        """The site's short way for handshakes; behind a prefix paths mean something else."""
        return not self._prefix and self._upgrades.quick(channel, data)

    def answer(self, request: ChatRequest) -> None:
        """Have the request answered."""
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
            self._request_auth.check_host(headers, request.client)
            answer = self._ask(request, headers, path)
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

    def _ask(self, request: ChatRequest, headers: Headers, path: bytes) -> Any:
        methods, segments = self._find(path)
        if methods is None:
            raise NoSuchPath("nothing is here")
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
        """May a page of that origin ask this (Fetch standard, "CORS-preflight")?"""
        listed = b", ".join(allowed)
        answer = [(b"Allow", listed), (b"Cache-Control", b"no-store")]
        if b"Origin" in headers:
            arrival = self._request_auth.arrival(request, headers)
            self._request_auth.check_origin(arrival, None)
            answer += [
                (b"Access-Control-Allow-Methods", listed),
                (b"Access-Control-Allow-Headers", _ALLOWED_HEADERS),
                (b"Access-Control-Max-Age", _PREFLIGHT_AGE),
            ]
        return Response(204, answer)

    def _wait(self, request: ChatRequest, headers: Headers, asked: Any) -> None:
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
                request.channel.abort()
                return
            self._write(request, headers, error_answer(error))

        request.notifyFinish().addErrback(left)
        answering.addCallback(answered).addErrback(failed)

    def _write(self, request: ChatRequest, headers: Headers, answer: Response) -> None:
        write_answer(
            request, Response(answer.status, (*answer.headers, *for_pages(self._request_auth, request, headers)), answer.body)
        )


def _matched(segments: list[bytes], parts: list[bytes]) -> tuple[bytes, ...] | None:
    taken = []
    for segment, part in zip(segments, parts, strict=True):
        if segment.startswith(b"{"):
            taken.append(part)
        elif segment != part:
            return None
    return tuple(taken)
