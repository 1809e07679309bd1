"""What is measured: the table of scenarios, each a load and the contenders that are put under it.

A scenario is a mode and settings of the load generator (``loadgen.c`` explains them); a contender is a program, a dialect and a
kind of room.  Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Metric = Literal["per_second", "p99_ms", "rss_per_connection"]


@dataclass(frozen=True)
class Contender:
    """:ivar extra: settings of the load generator that go beyond the scenario's, such as how many commands share a frame."""

    name: str
    program: str
    json: bool = False
    durable: bool = True
    extra: Mapping[str, int] = field(default_factory=dict)

    @property
    def keeps(self) -> bool:
        """Whether what it acknowledged or delivered has to be on disk; no peer keeps anything."""
        return self.program == "chat" and self.durable

    @property
    def room(self) -> str:
        return "bench" if self.keeps or self.program != "chat" else "live.bench"


EPHEMERAL = Contender("chat ephemeral", "chat", durable=False)
DURABLE = Contender("chat durable", "chat")
JSON = Contender("chat durable JSON", "chat", json=True)
#: Answers to each command, and up to so many commands in one frame.
JSON_BATCHES = Contender("chat durable JSON batches", "chat", json=True, extra={"ids": 1, "batch": 64})
BUN = Contender("bun", "bun")
NODE = Contender("node", "node")
WEBSOCKETS = Contender("websockets", "websockets")
AUTOBAHN = Contender("autobahn", "autobahn")

FAST_PEERS = (BUN, NODE)
ALL_PEERS = (BUN, NODE, WEBSOCKETS, AUTOBAHN)


@dataclass(frozen=True)
class Scenario:
    """One load.

    :ivar unit: what ``per_second`` counts and CPU time is divided by.
    :ivar quick: settings that replace those of ``settings`` in a quick run, so that it tries everything in little time.
    :ivar prefill: events that a client writes into the room before.
    :ivar background: settings of a second load generator that talks meanwhile.
    """

    name: str
    title: str
    group: str
    mode: Literal["talk", "storm", "hold", "history"]
    settings: Mapping[str, int | float]
    contenders: tuple[Contender, ...]
    unit: str = "deliveries"
    metric: Metric = "per_second"
    tls: bool = False
    quick: Mapping[str, int | float] = field(default_factory=dict)
    prefill: int = 0
    quick_prefill: int = 0
    background: Mapping[str, int | float] | None = None
    chart: bool = False

    @property
    def clients(self) -> int:
        return int(self.settings["clients"])


def _busy() -> Iterator[Scenario]:
    for window in (32, 1_000, 20_000):
        # At 20,000 under way the slow ones would need minutes for what is under way.
        slow = (WEBSOCKETS, AUTOBAHN) if window <= 1_000 else ()
        yield Scenario(
            name=f"busy-{window}",
            title=f"busy room: 32 clients, all talk, {window:,} lines under way",
            group="busy room",
            mode="talk",
            settings={"clients": 32, "window": window},
            contenders=(EPHEMERAL, DURABLE, JSON_BATCHES, *FAST_PEERS, *slow),
            chart=True,
        )


def _wide() -> Iterator[Scenario]:
    for members in (100, 1_000, 5_000, 15_000):
        for window in (1, 16):
            slow = (WEBSOCKETS, AUTOBAHN) if members <= 1_000 else ()
            yield Scenario(
                name=f"wide-{members}-{window}",
                title=f"wide room: {members:,} members, one speaker, {window} under way",
                group="wide room",
                mode="talk",
                settings={"clients": members, "talkers": 1, "window": window},
                contenders=(EPHEMERAL, DURABLE, *FAST_PEERS, *slow),
                chart=members == 1_000,
            )


def _rooms() -> Iterator[Scenario]:
    yield Scenario(
        name="rooms",
        title="many rooms: 2,000 rooms of 5, all talk, 1,000 lines under way",
        group="many rooms",
        mode="talk",
        settings={"clients": 10_000, "rooms": 2_000, "window": 1_000},
        contenders=(EPHEMERAL, DURABLE, JSON, *ALL_PEERS),
        quick={"clients": 1_000, "rooms": 200},
        chart=True,
    )


def _acknowledged() -> Iterator[Scenario]:
    one_each = Contender("chat durable JSON", "chat", json=True, extra={"batch": 1})
    batches = Contender("chat durable JSON batches", "chat", json=True, extra={"batch": 50})
    for window in (1, 50):
        yield Scenario(
            name=f"acks-{window}",
            title=f"acknowledged sends: 64 writers, each in a room of its own, {window} under way each",
            group="acknowledged sends",
            mode="talk",
            settings={"clients": 64, "rooms": 64, "window_each": window},
            contenders=(one_each,) if window == 1 else (one_each, batches),
            unit="acknowledgements",
        )
    yield Scenario(
        name="acks-50-together",
        title="acknowledged sends: 64 writers in one room that all hear everything, 50 under way each",
        group="acknowledged sends",
        mode="talk",
        settings={"clients": 64, "window_each": 50},
        contenders=(one_each, batches),
        unit="acknowledgements",
    )


def _latency() -> Iterator[Scenario]:
    yield Scenario(
        name="steady",
        title="open loop: 500 messages a second to 100 members, from due to received",
        group="latency",
        mode="talk",
        settings={"clients": 100, "rate": 500},
        contenders=(EPHEMERAL, DURABLE, JSON, *ALL_PEERS),
        metric="p99_ms",
        chart=True,
    )


def _connections() -> Iterator[Scenario]:
    yield Scenario(
        name="storm",
        title="connection storm: 8,000 handshakes, 200 at a time",
        group="connections",
        mode="storm",
        settings={"clients": 8_000, "at_once": 200},
        contenders=(DURABLE, JSON, *ALL_PEERS),
        unit="handshakes",
        quick={"clients": 2_000},
        chart=True,
    )
    yield Scenario(
        name="resume",
        title="storm with resume: 2,000 clients come back, each 500 events behind, 200 at a time",
        group="connections",
        mode="storm",
        settings={"clients": 2_000, "at_once": 200, "behind": 500},
        contenders=(JSON,),
        unit="resumed clients",
        quick={"clients": 400},
        prefill=2_000,
        quick_prefill=2_000,
    )
    yield Scenario(
        name="idle",
        title="idle: 15,000 connections",
        group="connections",
        mode="hold",
        settings={"first": 500, "clients": 15_000},
        contenders=(DURABLE, JSON, *ALL_PEERS),
        unit="bytes",
        metric="rss_per_connection",
        quick={"clients": 3_000},
        chart=True,
    )


def _million() -> Iterator[Scenario]:
    yield Scenario(
        name="history",
        title="history: pages of 50 out of a million events, 100 a second beside 200 messages a second to 10 members",
        group="history",
        mode="history",
        settings={"clients": 8, "rate": 100, "limit": 50, "seconds": 10},
        contenders=(JSON,),
        unit="pages",
        metric="p99_ms",
        quick={"seconds": 3},
        prefill=1_000_000,
        quick_prefill=50_000,
        background={"clients": 10, "rate": 200},
    )
    yield Scenario(
        name="tail",
        title="join with a tail of 50 out of a million events: 2,000 clients, 20 at a time",
        group="history",
        mode="storm",
        settings={"clients": 2_000, "at_once": 20, "tail": 50},
        contenders=(JSON,),
        unit="joins",
        quick={"clients": 500},
        prefill=1_000_000,
        quick_prefill=50_000,
    )


def _secured() -> Iterator[Scenario]:
    wide = {"clients": 1_000, "talkers": 1}
    for name, title, settings in (
        ("busy-1000", "busy room over TLS: 32 clients, all talk, 1,000 lines under way", {"clients": 32, "window": 1_000}),
        ("wide-1000-1", "wide room over TLS: 1,000 members, one speaker, 1 under way", {**wide, "window": 1}),
        ("wide-1000-16", "wide room over TLS: 1,000 members, one speaker, 16 under way", {**wide, "window": 16}),
    ):
        yield Scenario(
            name=f"wss-{name}",
            title=title,
            group="over TLS",
            mode="talk",
            settings=settings,
            contenders=(EPHEMERAL, DURABLE, *FAST_PEERS),
            tls=True,
            chart=name == "busy-1000",
        )


SCENARIOS: tuple[Scenario, ...] = (
    *_busy(),
    *_wide(),
    *_rooms(),
    *_acknowledged(),
    *_latency(),
    *_connections(),
    *_million(),
    *_secured(),
)


class UnknownScenario(Exception):
    """A name that is neither a scenario nor the beginning of some."""


def select(names: list[str]) -> list[Scenario]:
    """Those with these names or beginnings of names (``busy`` is all three busy rooms); none given: all."""
    for name in names:
        if not any(scenario.name.startswith(name) for scenario in SCENARIOS):
            raise UnknownScenario(f"{name}: no such scenario; there are {', '.join(each.name for each in SCENARIOS)}")
    exact = {scenario.name for scenario in SCENARIOS}
    return [
        scenario
        for scenario in SCENARIOS
        if not names or any(scenario.name == name or (name not in exact and scenario.name.startswith(name)) for name in names)
    ]
