"""The bars: what this server has to reach, as ratios to what was measured in the same run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bench.measuring import Results

Verdict = Literal["met", "not met", "not measured"]
Figure = tuple[str, str, str]

#: The name of SQLite's own speed among the results.
CALIBRATION: Figure = ("calibration", "sqlite", "per_second")


@dataclass(frozen=True)
class Bar:
    """``figure`` in relation to ``other`` (or by itself) is at least, or at most, ``bound``.

    Figures are (scenario, contender, metric).
    """

    text: str
    figure: Figure
    bound: float
    other: Figure | None = None
    at_most: bool = False


@dataclass(frozen=True)
class Outcome:
    """:ivar value: the median of the rounds; None when one side has none."""

    bar: Bar
    value: float | None

    @property
    def verdict(self) -> Verdict:
        if self.value is None:
            return "not measured"
        met = self.value <= self.bar.bound if self.bar.at_most else self.value >= self.bar.bound
        return "met" if met else "not met"


def judge(results: Results) -> list[Outcome]:
    """Every bar whose scenario was measured."""
    return [Outcome(bar, _value(bar, results)) for bar in BARS if bar.figure[0] in results.samples]


def _value(bar: Bar, results: Results) -> float | None:
    if bar.other is None:
        return results.median(*bar.figure)
    return results.ratio(*bar.figure, bar.other)


def _bars() -> Iterator[Bar]:
    rate = "per_second"
    busy, chat = "busy room, W = {:,}, {}", ("chat ephemeral", "chat durable")
    for window, contender, bound in (
        (1_000, chat[0], 1.2),
        (20_000, chat[0], 1.2),
        (32, chat[0], 0.7),
        (20_000, chat[1], 1.0),
        (1_000, chat[1], 0.7),
        (32, chat[1], 0.4),
    ):
        scenario = f"busy-{window}"
        text = busy.format(window, contender.removeprefix("chat "))
        yield Bar(f"{text}, to bun", (scenario, contender, rate), bound, (scenario, "bun", rate))
        if contender == "chat durable":
            yield Bar(f"{text}, to node", (scenario, contender, rate), 4.0, (scenario, "node", rate))
    yield Bar(
        "busy room, W = 1,000, durable JSON in batches, to bun's plain text",
        ("busy-1000", "chat durable JSON batches", rate),
        0.5,
        ("busy-1000", "bun", rate),
    )
    for contender in chat:
        kind = contender.removeprefix("chat ")
        for window, bound in ((1, 0.9), (16, 1.0)):
            scenario = f"wide-1000-{window}"
            text = f"wide room of 1,000, W = {window}, {kind}, to bun"
            yield Bar(text, (scenario, contender, rate), bound, (scenario, "bun", rate))
        yield Bar(
            f"wide room of 1,000, W = 1, {kind}, CPU per delivery, to bun",
            ("wide-1000-1", contender, "cpu_us"),
            1.3,
            ("wide-1000-1", "bun", "cpu_us"),
            at_most=True,
        )
        yield Bar(
            f"wide room, {kind}, CPU per delivery at 15,000 members to that at 1,000",
            ("wide-15000-1", contender, "cpu_us"),
            1.3,
            ("wide-1000-1", contender, "cpu_us"),
            at_most=True,
        )
    yield Bar(
        "acknowledged sends, 64 writers, W = 50, to SQLite's rows (20,000 of 60,000)",
        ("acks-50", "chat durable JSON", rate),
        1 / 3,
        CALIBRATION,
    )
    yield Bar(
        "open loop, 500/s to 100 members, durable, p99, to bun",
        ("steady", "chat durable", "p99_ms"),
        3.0,
        ("steady", "bun", "p99_ms"),
        at_most=True,
    )
    yield Bar("handshakes, to node", ("storm", "chat durable", rate), 1.0, ("storm", "node", rate))
    memory = ("idle", "chat durable", "rss_per_connection")
    yield Bar("memory per idle connection, bytes", memory, 6_000, at_most=True)
    yield Bar("memory per idle connection, to node", memory, 1.0, ("idle", "node", "rss_per_connection"), at_most=True)
    for contender in chat:
        yield Bar(
            f"busy room over TLS, W = 1,000, {contender.removeprefix('chat ')}, to bun",
            ("wss-busy-1000", contender, rate),
            0.7,
            ("wss-busy-1000", "bun", rate),
        )
    yield Bar("history page of 50 from a million events, p99, ms", ("history", "chat durable JSON", "p99_ms"), 5.0, at_most=True)


BARS: tuple[Bar, ...] = tuple(_bars())
