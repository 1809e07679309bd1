"""The one table of errors and close codes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat import errors
from twisted_chat.errors import ERRORS, RETRY_CLOSE_CODES, ChatError, CloseCode, LimitReached, RateLimited, Restarting


def all_errors(base: type[ChatError] = ChatError) -> set[type[ChatError]]:
    return {one for sub in base.__subclasses__() for one in {sub, *all_errors(sub)}}


class ErrorsTests(SynchronousTestCase):
    def test_the_table_is_complete(self) -> None:
        """Each error class is in the table, except those that share the code of one that is; each code is there once."""
        codes = [error.code for error in ERRORS]

        self.assertEqual(len(codes), len(set(codes)))

        ours = {error for error in all_errors() if error.__module__ == errors.__name__}
        self.assertEqual({error.code for error in ours}, set(codes))
        self.assertEqual({error.__name__ for error in ours - set(ERRORS)}, {"Restarting"})
        self.assertEqual(Restarting.code, "unavailable")

    def test_the_class_of_the_close_code_tells_what_to_do(self) -> None:
        """What may be tried again does not close with a code that says stop; all of ours are 4400 to 4509."""
        every: list[type[ChatError]] = [*ERRORS, Restarting]
        for error in every:
            self.assertIs(error.retry, error.close_code in RETRY_CLOSE_CODES, error)
            self.assertTrue(400 <= error.http_status < 600)
            self.assertTrue(4400 <= error.close_code < 4510 or error is LimitReached, error)

    def test_an_error_carries_what_a_client_needs(self) -> None:
        """An error has its message, code, HTTP status, close code and time to wait."""
        error = RateLimited("send: too fast", retry_after_ms=7)
        self.assertEqual((str(error), error.message, error.retry_after_ms), ("send: too fast", "send: too fast", 7))
        self.assertEqual((error.code, error.http_status, error.close_code), ("rate_limited", 429, CloseCode.RATE_LIMITED))
