"""Answers and refusals: what a client reads in them whatever was asked."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.harness.http_memory import Reply, Wire, request_head
from twisted_chat.errors import ERRORS, ChatError, RateLimited
from twisted_chat.web.responses import (
    HeadTooLarge,
    MethodNotAllowed,
    NoSuchPath,
    RequestTimeout,
    UpgradeRequired,
    error_answer,
    whole_answer,
    write_answer,
)

#: RFC 9110 section 15, and RFC 6585 for 429 and 431.
PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def errors() -> list[ChatError]:
    """One of each kind that HTTP can tell."""
    own = [HeadTooLarge("x"), MethodNotAllowed((b"GET",)), NoSuchPath("x"), RequestTimeout("x"), UpgradeRequired("x")]
    return [*(kind("x") for kind in ERRORS), *own]


class StatusLineTests(SynchronousTestCase):
    def answer(self, error: ChatError) -> bytes:
        """The error as ``twisted.web`` writes it."""

        class Page(Resource):
            isLeaf = True

            def render(self, request: Request) -> int:
                write_answer(request, error_answer(error))
                return NOT_DONE_YET

        return Wire(Site(Page(), reactor=Clock())).deliver(request_head())

    def test_all_statuses_are_known(self) -> None:
        """Every status of an error has its reason phrase."""
        self.assertEqual({error.http_status for error in errors()}, set(PHRASES))

    def test_phrases_of_answers(self) -> None:
        """An answer to a request has the status line of its error."""
        for error in errors():
            line = self.answer(error).partition(b"\r\n")[0].decode()

            self.assertEqual(line, f"HTTP/1.1 {error.http_status} {PHRASES[error.http_status]}")

    def test_phrases_of_refused_heads(self) -> None:
        """An answer to a head that could not be read has the status line of its error."""
        for error in errors():
            line = whole_answer(error).partition(b"\r\n")[0].decode()

            self.assertEqual(line, f"HTTP/1.1 {error.http_status} {PHRASES[error.http_status]}")

    def test_retry_after_is_rounded_up(self) -> None:
        """``Retry-After`` is rounded up to whole seconds, and is never 0."""
        waits = [Reply(self.answer(RateLimited("x", retry_after_ms=ms))).headers["retry-after"] for ms in (0, 1, 1_000, 1_001)]

        self.assertEqual(waits, ["1", "1", "1", "2"])
