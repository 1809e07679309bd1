"""Writes answers: the headers that every one of them has, in one place."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from msgspec import Struct
from twisted.web.http import Request, datetimeToString

from twisted_chat.errors import ChatError
from twisted_chat.web.refusal import SECURITY_HEADERS, body_of, headers_of

_SECURITY = [(name, [value]) for name, value in SECURITY_HEADERS]


class Response(Struct, frozen=True):
    """A whole answer.

    :ivar headers: beside those that every answer has.
    """

    status: int = 200
    headers: Iterable[tuple[bytes, bytes]] = ()
    body: bytes = b""


def error_answer(error: ChatError, *headers: tuple[bytes, bytes]) -> Response:
    """The answer that tells the error."""
    return Response(error.http_status, (*headers_of(error), *headers), body_of(error))


def write_head(request: Request, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Set status and headers; they leave with the first byte of the body."""
    request.setResponseCode(status, HTTPStatus(status).phrase.encode())
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
