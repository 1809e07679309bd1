"""What ``doctor`` concludes from the answer to a handshake; ``test_live_proxies.py`` has it behind real proxies."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.cli.probe import judge


def refusal(code: str, message: str) -> bytes:
    """The body of one of our errors."""
    return json.dumps({"error": {"code": code, "message": message, "retry": False}}).encode()


class JudgeTests(SynchronousTestCase):
    def test_opened(self) -> None:
        """A 101 for WebSocket, and a demand for a token, mean that the way to the server is open."""
        self.assertTrue(judge(101, "WebSocket", b"").opened)
        self.assertTrue(judge(401, "", refusal("unauthenticated", "a token is needed")).opened)

    def test_cures(self) -> None:
        """Each fault of a proxy has words of its own."""
        for status, upgrade, body, cure in (
            (101, "", b"", "header Upgrade of the answer"),
            (403, "", refusal("forbidden", "origin: 'https://x' is not allowed"), "setting that the message names"),
            (426, "", refusal("bad_request", "here only WebSocket is spoken: Upgrade: websocket"), "pass on the headers Upgrade"),
            (400, "", refusal("bad_request", "Connection: must have Upgrade"), "pass on the headers Upgrade"),
            (400, "", refusal("bad_request", "a WebSocket needs HTTP/1.1"), "HTTP/1.1"),
            (400, "", refusal("bad_request", "name: is too long"), "docs/protocol.rst"),
            (502, "", b"<html>Bad Gateway</html>", "start the server"),
            (407, "", b"", "no password"),
            (404, "", b"<html>", "passes this host and path on"),
            (200, "", b"<!doctype html>", "passes this host and path on"),
            (403, "", b"Blocked by policy", "passes this host and path on"),
            (200, "", b"[" * 50_000, "passes this host and path on"),
            (200, "", b'{"error":null}', "passes this host and path on"),
            (200, "", b"\xff", "passes this host and path on"),
        ):
            with self.subTest(status=status, body=body[:40]):
                finding = judge(status, upgrade, body)
                self.assertFalse(finding.opened)
                self.assertIn(cure, finding.cure)
