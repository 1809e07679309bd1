"""What a client makes of close codes, statuses and errors."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.client.errors import UnknownError, comes_back_after_close, comes_back_after_status, refusal
from twisted_chat.errors import ERRORS, CloseCode
from twisted_chat.protocol.replies import ErrorBody


class TableTests(SynchronousTestCase):
    def test_close_codes(self) -> None:
        """The table of the protocol; unknown ones of the class 44xx stop, everything else unknown comes back."""
        stop = {1000, 1002, 1003, 1007, 1009, 4400, 4401, 4403, 4404, 4406, 4409, 4410, 4413, 4444, 4499}
        back = {1001, 1005, 1006, 1011, 1012, 1013, 4408, 4429, 4500, 4503, 4504, 4508, 4509, 3000, 4000, 4600, 4999}

        for code in stop:
            self.assertFalse(comes_back_after_close(code), code)
        for code in back:
            self.assertTrue(comes_back_after_close(code), code)

        self.assertEqual({int(code) for code in CloseCode} - stop - back, set())

    def test_statuses(self) -> None:
        """Of somebody else than our server: what is final stops; what may pass, and the gate page of a hotel, comes back."""
        self.assertEqual(
            [
                status
                for status in (200, 302, 400, 403, 404, 408, 410, 425, 429, 500, 502, 503, 504)
                if not comes_back_after_status(status)
            ],
            [400, 403, 404, 410],
        )

    def test_errors_of_the_table(self) -> None:
        """The same classes on both sides of the wire."""
        for error in ERRORS:
            found = refusal(ErrorBody(code=error.code, message="why", retry=error.retry, retry_after_ms=7))
            self.assertIs(type(found), error)
            self.assertEqual((found.message, found.retry_after_ms), ("why", 7))

    def test_errors_of_the_future(self) -> None:
        """An unknown error code becomes an UnknownError with the server's word on retries."""
        found = refusal(ErrorBody(code="too_early", message="later", retry=True))

        self.assertIsInstance(found, UnknownError)
        self.assertEqual((found.code, found.retry, found.retry_after_ms), ("too_early", True, None))
        self.assertFalse(refusal(ErrorBody(code="unavailable", message="never", retry=False)).retry)
