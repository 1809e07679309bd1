"""The hub's numbers for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.server import metrics
from twisted_chat.server.build import build
from twisted_chat.server.config import Settings


class Reactor(MemoryReactorClock):
    def callFromThread(self, callable: Any, *args: Any) -> None:
        callable(*args)


class MetricsTests(SynchronousTestCase):
    def test_numbers(self) -> None:
        """Read when asked for; rooms are counted and not named."""
        building = build(Reactor(), Settings(), "memory:", loopback=True)
        chat = self.successResultOf(Deferred.fromCoroutine(building))
        registry = CollectorRegistry()
        metrics.register(registry, chat.core)
        guest = chat.request_auth.user(None, "bob", None)
        assert not isinstance(guest, Deferred)
        chat.core.rooms.find(guest, "secret-plans")
        shown = generate_latest(registry).decode()

        for line in (
            "twisted_chat_sessions 0.0",
            "twisted_chat_nodes 1.0",
            "twisted_chat_rooms 1.0",
            "twisted_chat_members 0.0",
            "twisted_chat_uncommitted 0.0",
            "twisted_chat_store_healthy 1.0",
            "twisted_chat_unannounced_events 0.0",
            "twisted_chat_ephemeral_dropped_total 0.0",
        ):
            self.assertIn(f"\n{line}\n", shown)
        self.assertNotIn("secret-plans", shown)
