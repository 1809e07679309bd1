"""Answers and refusals: the headers that all of them have, and the one shape of errors.

``{"error":{"code":…,"message":…,"retry":…}}`` with the status of the table in :mod:`twisted_chat.errors`, from a malformed request line
to a full server, so that a client which knows the errors of the protocol knows these.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

import msgspec
from msgspec import UNSET, Struct
from twisted.web.http import Request, datetimeToString

from twisted_chat.errors import BadRequest, ChatError, TooBig, Unauthenticated, Unavailable
from twisted_chat.protocol.replies import ErrorBody

#: Seconds of ``Retry-After`` where an error that may pass does not say how long to wait.
_RETRY_AFTER = 2
#: Reason phrases of RFC 9110 section 15 that :class:`http.HTTPStatus` has only from Python 3.13 on.
_NEW_PHRASES = {413: b"Content Too Large"}

#: In every answer: the page loads nothing from elsewhere, and other sites can neither frame it nor read or open what it loads.
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"Content-Security-Policy",
        b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
        b"require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
)
_SECURITY = [(name, [value]) for name, value in SECURITY_HEADERS]


class UpgradeRequired(BadRequest):
    """The path takes only WebSocket handshakes of version 13."""

    http_status = 426


class UnsupportedMediaType(BadRequest):
    """The body has a type, a coding or a charset that the endpoint does not read."""

    http_status = 415


class NoSuchPath(ChatError):
    """Nothing is served under that path."""

    code, http_status, retry = "not_found", 404, False


class MethodNotAllowed(BadRequest):
    """The path exists, for other methods."""

    code, http_status = "method_not_allowed", 405

    def __init__(self, allowed: tuple[bytes, ...]) -> None:
        super().__init__(f"method: only {', '.join(map(bytes.decode, allowed))}")
        self.allowed = allowed


class HeadTooLarge(TooBig):
    """The request line or a header is too long, or there are too many headers."""

    http_status = 431


class RequestTimeout(ChatError):
    """The request did not arrive in time."""

    code, http_status = "timeout", 408


class CrowdedOut(Unavailable):
    """Too many request heads are being read at once, and this one was the slowest."""


class Refusal(Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: ErrorBody


def body_of(error: ChatError) -> bytes:
    """The JSON body."""
    after = UNSET if error.retry_after_ms is None else error.retry_after_ms
    body = ErrorBody(code=error.code, message=error.message, retry=error.retry, retry_after_ms=after)
    return msgspec.json.encode(Refusal(body)) + b"\n"


def headers_of(error: ChatError) -> list[tuple[bytes, bytes]]:
    """The headers that the status asks for (RFC 9110 sections 10.2.3, 11.6.1, 15.5.6, 15.5.22)."""
    headers = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store")]
    status = error.http_status
    if isinstance(error, Unauthenticated):
        headers.append((b"WWW-Authenticate", b'Bearer realm="twisted_chat"'))
    if isinstance(error, UpgradeRequired):
        headers += [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Version", b"13")]
    if isinstance(error, MethodNotAllowed):
        headers.append((b"Allow", b", ".join(error.allowed)))
    if status in (429, 503):
        seconds = _RETRY_AFTER if error.retry_after_ms is None else -(-error.retry_after_ms // 1000)
        headers.append((b"Retry-After", b"%d" % max(1, seconds)))
    return headers


def whole_answer(error: ChatError) -> bytes:
    """The error as a complete HTTP/1.1 answer that ends the connection, where there is no request to answer."""
    body = body_of(error)
    lines = [b"HTTP/1.1 %d %s" % (error.http_status, reason_phrase(error.http_status))]
    headers = [header for header in headers_of(error) if header[0] != b"Connection"]
    lines += [name + b": " + value for name, value in (*headers, *SECURITY_HEADERS)]
    lines += [b"Content-Length: %d" % len(body), b"Connection: close", b"", body]
    return b"\r\n".join(lines)


class Response(Struct, frozen=True):
    """A whole answer.

    :ivar headers: in addition to those that every answer has.
    """

    status: int = 200
    headers: Iterable[tuple[bytes, bytes]] = ()
    body: bytes = b""


def error_answer(error: ChatError, *headers: tuple[bytes, bytes]) -> Response:
    """The answer for an error."""
    return Response(error.http_status, (*headers_of(error), *headers), body_of(error))


def reason_phrase(status: int) -> bytes:
    """The phrase of RFC 9110 section 15 or RFC 6585; Twisted does not know those of 426, 429 and 431."""
    return _NEW_PHRASES.get(status) or HTTPStatus(status).phrase.encode()


def write_head(request: Request, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Set status and headers; they are written with the first byte of the body."""
    request.setResponseCode(status, reason_phrase(status))
    set_header = request.responseHeaders.setRawHeaders
    set_header(b"Server", [b"twisted_chat"])
    set_header(b"Date", [datetimeToString()])
    for name, values in _SECURITY:
        set_header(name, values)
    for name, value in headers:
        request.responseHeaders.addRawHeader(name, value)


def write_answer(request: Request, answer: Response, *, last: bool = False) -> None:
    """Write the whole answer; HEAD gets all of it but the body.

    :param last: end the connection after it.
    """
    write_head(request, answer.status, answer.headers)
    if last:
        request.channel.persistent = 0
        request.responseHeaders.addRawHeader(b"Connection", b"close")
    if answer.status != 304:
        request.responseHeaders.setRawHeaders(b"Content-Length", [b"%d" % len(answer.body)])
    request.write(b"" if request.method == b"HEAD" else answer.body)
    request.finish()
