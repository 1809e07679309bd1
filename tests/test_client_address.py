"""Where a client connects to."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.client.address import find


class FindTests(SynchronousTestCase):
    def find(self, where: Any, **more: Any) -> tuple[str, int, str]:
        found = find(MemoryReactorClock(), where, **more)
        return found.host, found.port, found.resource

    def test_urls(self) -> None:
        """Host, port and path come from a URL, with the default port of its scheme."""
        self.assertEqual(self.find("ws://localhost:8080"), ("localhost", 8080, "/"))
        self.assertEqual(self.find("wss://chat.example.org"), ("chat.example.org", 443, "/"))
        self.assertEqual(self.find("https://example.org/chat/ws?name=bob"), ("example.org", 443, "/chat/ws?name=bob"))
        self.assertEqual(self.find("http://[::1]:81/"), ("[::1]", 81, "/"))
        self.assertIsInstance(find(MemoryReactorClock(), "ws://localhost").endpoint, HostnameEndpoint)

    def test_endpoint_strings(self) -> None:
        """Host and port come from an endpoint string, the path from an option."""
        self.assertEqual(self.find("tcp:chat.example.org:8080"), ("chat.example.org", 8080, "/ws"))
        self.assertEqual(self.find("tls:chat.example.org:443"), ("chat.example.org", 443, "/ws"))
        self.assertEqual(self.find("tcp:host=10.0.0.1:port=81:timeout=3"), ("10.0.0.1", 81, "/ws"))
        self.assertEqual(self.find(r"tcp:\:\:1:8080"), ("[::1]", 8080, "/ws"))
        self.assertEqual(self.find("unix:/run/chat.sock", path="/ws/lobby"), ("localhost", 80, "/ws/lobby"))

    def test_endpoints(self) -> None:
        """An endpoint object is used as it is, with the given host name."""
        endpoint = TCP4ClientEndpoint(MemoryReactorClock(), "10.0.0.1", 8080)
        self.assertEqual(self.find(endpoint, host="chat.example.org"), ("chat.example.org", 80, "/ws"))

    def test_session_url(self) -> None:
        """A session by HTTP begins beside the WebSocket, under the same mount point, whatever the endpoint is."""
        for where, more, url in (
            ("ws://localhost:8080", {}, "http://localhost:8080/api/v1/session"),
            ("wss://chat.example.org/ws", {}, "https://chat.example.org:443/api/v1/session"),
            ("https://example.org/chat/ws?name=bob", {}, "https://example.org:443/chat/api/v1/session"),
            ("ws://[::1]:81/ws/lobby", {}, "http://[::1]:81/api/v1/session"),
            ("unix:/run/chat.sock", {"path": "/chat/ws/"}, "http://localhost:80/chat/api/v1/session"),
        ):
            self.assertEqual(find(MemoryReactorClock(), where, **more).session_url, url)

    def test_what_is_wrong(self) -> None:
        """The error for a bad address names what is wrong with it."""
        for where, more, error in (
            ("ftp://localhost", {}, "must begin with ws://"),
            ("ws://", {}, "has no host"),
            ("ws://bob:secret@localhost", {}, "give the token as token="),
            ("ws://localhost", {"trust_root": object()}, "use wss://"),
            ("tls:localhost:1", {"trust_root": object()}, "go with a wss:// URL"),
            (7, {}, "is neither a URL nor an endpoint"),
        ):
            with self.assertRaises(ValueError) as caught:
                self.find(where, **more)
            self.assertIn(error, str(caught.exception))
