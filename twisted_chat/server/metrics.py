"""The metrics of the core, for Prometheus; computed from the core's state at each scrape, so that the hot path counts nothing extra."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from twisted_chat.core.chat import Chat


class ChatCollector(Collector):
    """Collects the metrics of the core.  Rooms are not labels, because users choose their names and each label value is kept for ever."""

    def __init__(self, core: Chat) -> None:
        self._core = core

    def collect(self) -> Iterator[Metric]:
        """One sample of each metric."""
        rooms = list(self._core.rooms)
        yield GaugeMetricFamily("twisted_chat_sessions", "Connections that take part in the chat.", len(self._core.sessions))
        yield GaugeMetricFamily("twisted_chat_nodes", "Nodes that share the rooms, this one included.", self._core.nodes.count)
        yield GaugeMetricFamily("twisted_chat_rooms", "Rooms in memory.", len(rooms))
        yield GaugeMetricFamily(
            "twisted_chat_members", "Memberships: connections times rooms.", sum(room.members for room in rooms)
        )
        yield GaugeMetricFamily(
            "twisted_chat_uncommitted", "Messages that wait for the store.", self._core.commits.waiting_events
        )
        yield GaugeMetricFamily("twisted_chat_store_healthy", "1 while commits succeed.", int(self._core.commits.healthy))
        yield GaugeMetricFamily(
            "twisted_chat_unannounced_events",
            "Events that other nodes wrote and this one has not read yet.",
            self._core.announcer.behind,
        )
        lag = self._core.sessions.lag()
        yield GaugeMetricFamily(
            "twisted_chat_clients_behind", "Connections that are congested or not at the head of each of their rooms.", lag.behind
        )
        yield GaugeMetricFamily(
            "twisted_chat_lag_events",
            "Events between the oldest position of a connection and the head of its room.",
            lag.furthest,
        )
        yield GaugeMetricFamily("twisted_chat_unsent_bytes", "Bytes that wait to be sent, of all connections.", lag.unsent)
        yield CounterMetricFamily(
            "twisted_chat_ephemeral_dropped",
            "Deliveries that ephemeral rooms lost because a reader was slow.",
            sum(room.log.dropped for room in rooms),
        )


def register(registry: CollectorRegistry, core: Chat) -> None:
    """Register the core's metrics."""
    registry.register(ChatCollector(core))
