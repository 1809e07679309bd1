"""Measurements: a contender under a load gives a sample, rounds of alternating contenders give medians.

Each sample has a server of its own, fresh from its start.  Contenders take turns within each round and the round begins with
another one each time, so that a machine that gets slower (or busier) treats all alike.  A sample in which a line was lost,
doubled or out of order counts as failed, however fast it was.
"""

from __future__ import annotations

import resource
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import procfs
from bench.certificate import write_certificate
from bench.installing import NotInstallable
from bench.loading import LoadFailed, generator, loading, run
from bench.programs import Program, find
from bench.scenarios import Contender, Scenario
from bench.serving import Server, ServerFailed, running

#: Of text in each line (the load generator's default).
LINE_BYTES = 20

#: Between the last connection and the look at the memory, for what is collected or given back late (seconds).
IDLE_SETTLE = 2.0


@dataclass(frozen=True)
class Pace:
    """How long to measure."""

    rounds: int = 3
    seconds: float = 3.0
    warmup: float = 1.0
    quick: bool = False


@dataclass
class Sample:
    """One measurement.

    :ivar values: figures by name: ``per_second``, ``cpu_us`` (the server's CPU time for one of the unit), of one core what the
        server (``cpu_share``), the load generator (``load_share``) and everything else (``others_share``) used, ``peak_mb``,
        ``p50_ms`` …, ``rss_per_connection`` (bytes).
    :ivar problem: why the figures do not count; empty if they do.
    """

    values: dict[str, float] = field(default_factory=dict)
    problem: str = ""


@dataclass
class Results:
    """What came out: by scenario and contender, one sample per round."""

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def of_rounds(self, scenario: str, contender: str, metric: str) -> list[float | None]:
        """The figure of each round; None where it failed."""
        samples = self.samples.get(scenario, {}).get(contender, [])
        return [None if sample.problem else sample.values.get(metric) for sample in samples]

    def median(self, scenario: str, contender: str, metric: str) -> float | None:
        return median(self.of_rounds(scenario, contender, metric))

    def ratio(self, scenario: str, contender: str, metric: str, other: tuple[str, str, str]) -> float | None:
        """The median of the ratios of the rounds: each compares what was measured side by side."""
        pairs = zip(self.of_rounds(scenario, contender, metric), self.of_rounds(*other), strict=False)
        return median([a / b if a is not None and b else None for a, b in pairs])


def median(values: Sequence[float | None]) -> float | None:
    """Of those that are there; none if more than half of them failed."""
    found = [value for value in values if value is not None]
    return statistics.median(found) if 2 * len(found) > len(values) else None


def raise_file_limit() -> int:
    """Every connection is an open file at both ends; children inherit the limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Bench:
    """All that is measured in one run.

    :param base: a directory for the servers' files, on the disk whose speed is to count.
    :param only: contenders, or beginnings of their names; none: all.
    """

    def __init__(self, base: Path, pace: Pace, only: Sequence[str] = ()) -> None:
        self.results = Results()
        self._base = base
        self._pace = pace
        self._only = tuple(only)
        self._programs: dict[str, Program | None] = {}
        self._certificate = write_certificate(base)
        self._files = raise_file_limit()

    def measure(self, scenario: Scenario) -> None:
        """All rounds of one scenario."""
        clients = int(self._settings_of(scenario)["clients"])
        if clients + 100 > self._files:
            self._skip(scenario, f"{clients} connections need more open files than the limit of {self._files}")
            return
        if scenario.tls and not generator().tls:
            self._skip(scenario, "the load generator was built without TLS (no OpenSSL headers: install libssl-dev)")
            return
        wanted = [each for each in scenario.contenders if not self._only or each.name.startswith(self._only)]
        present = [contender for contender in wanted if self._program(contender.program)]
        table = self.results.samples.setdefault(scenario.name, {contender.name: [] for contender in present})
        for turn in range(self._pace.rounds):
            first = turn % max(len(present), 1)
            for contender in present[first:] + present[:first]:
                sample = self._sample(scenario, contender)
                table[contender.name].append(sample)
                _tell(f"{scenario.name} round {turn + 1}: {contender.name}: {sample.problem or _brief(sample)}")

    def _skip(self, scenario: Scenario, reason: str) -> None:
        self.results.skipped[scenario.name] = reason
        _tell(f"{scenario.name}: skipped: {reason}")

    def _program(self, name: str) -> Program | None:
        if name not in self._programs:
            try:
                program = self._programs[name] = find(name)
                self.results.versions[name] = program.version
            except NotInstallable as why:
                self._programs[name] = None
                self.results.missing[name] = str(why)
                _tell(f"{name} does not take part: {why}")
        return self._programs[name]

    def _settings_of(self, scenario: Scenario) -> dict[str, int | float | str]:
        pace = {"seconds": self._pace.seconds, "warmup": self._pace.warmup}
        return {**pace, **scenario.settings, **(scenario.quick if self._pace.quick else {})}

    def _sample(self, scenario: Scenario, contender: Contender) -> Sample:
        program = self._program(contender.program)
        assert program is not None
        try:
            seed = self._filled(scenario, contender, program)
            with running(program, self._base, self._certificate if scenario.tls else None, seed) as server:
                settings = self._settings_of(scenario) | target(scenario, contender, server.port)
                with self._background(scenario, contender, server):
                    values = _hold(settings, server) if scenario.mode == "hold" else _run(contender, scenario, settings, server)
                if not server.alive():
                    raise ServerFailed(f"died: {server.complaint()}")
                return Sample(values)
        except (LoadFailed, ServerFailed) as problem:
            return Sample(problem=str(problem))

    def _filled(self, scenario: Scenario, contender: Contender, program: Program) -> Path | None:
        """Files of a server whose room holds the events the scenario wants; made once."""
        events = scenario.quick_prefill if self._pace.quick else scenario.prefill
        if not events:
            return None
        seed = self._base / f"{program.name}-{events}"
        if not seed.exists():
            _tell(f"writing {events:,} events for {scenario.name}")
            with running(program, self._base, keep=seed) as server:
                settings = {"clients": 1, "window_each": 5_000, "batch": 100, "lines": events, "drain": 300, "warmup": 0}
                report = run("talk", settings | target(scenario, contender, server.port))
                check(report)
                check_stored(report, server)
        return seed

    @contextmanager
    def _background(self, scenario: Scenario, contender: Contender, server: Server) -> Iterator[None]:
        """Somebody who talks meanwhile, well before and after what is measured."""
        if scenario.background is None:
            yield
            return
        seconds = float(self._settings_of(scenario)["seconds"]) + self._pace.warmup + 3
        settings = {"warmup": 0, "seconds": seconds, **scenario.background} | target(scenario, contender, server.port)
        problems: list[LoadFailed] = []

        def talk() -> None:
            try:
                check(run("talk", settings))
            except LoadFailed as problem:
                problems.append(problem)

        thread = threading.Thread(target=talk)
        thread.start()
        time.sleep(0.7)
        try:
            yield
        finally:
            thread.join()
        if problems:
            raise LoadFailed(f"the load beside it: {problems[0]}")


def target(scenario: Scenario, contender: Contender, port: int) -> dict[str, int | float | str]:
    """Where the load goes and how it talks."""
    room = contender.room
    several = int(scenario.settings.get("rooms", 1)) > 1
    return {
        "port": port,
        "path": f"/ws/{room}{'-' if several else ''}",
        "room": f"{room}{'-' if several else ''}",
        "json": int(contender.json),
        "tls": int(scenario.tls),
        **contender.extra,
    }


def check(report: Mapping[str, Any]) -> None:
    """Raises if what came back was not exactly what had to."""
    error = f": {report['first_error']}" if report["first_error"] else ""
    if report["stalled"]:
        closed = f", {report['gone']} connections were closed (code {report['close_code']})" if report["gone"] else ""
        raise LoadFailed(f"the server stalls{closed}{error}")
    for name in ("extra", "disorder", "errors", "pages_wrong", "gone", "refused"):
        if report[name]:
            raise LoadFailed(f"{name.replace('_', ' ')}: {report[name]}{error}")
    # A slow server may still owe what was under way; a line that is lost on the way would be missing for ever.
    if report["drained"] and (report["missing"] or report["unacknowledged"]):
        raise LoadFailed(f"{report['missing']} deliveries and {report['unacknowledged']} acknowledgements never came")


def check_stored(report: Mapping[str, Any], server: Server) -> None:
    """Raises if a server that has to keep its lines holds fewer bytes on disk than went in."""
    lines, kept = int(report["lines_in_all"]), server.stored_bytes()
    if kept < lines * LINE_BYTES:
        raise LoadFailed(f"not durable: {lines:,} lines went in and {kept:,} bytes are on disk")


def _run(contender: Contender, scenario: Scenario, settings: Mapping[str, Any], server: Server) -> dict[str, float]:
    cpu: dict[str, float] = {}
    busy: dict[str, float] = {}

    def watch(event: str) -> None:
        cpu[event] = server.cpu_seconds()
        busy[event] = procfs.busy_seconds()

    report = run(scenario.mode, settings, watch)
    check(report)
    if contender.keeps:
        check_stored(report, server)
    counted = float(report["per_second"]) * float(report["seconds"])
    if not counted:
        raise LoadFailed("nothing arrived within the measured time")
    seconds, used, own = float(report["seconds"]), cpu["stop"] - cpu["start"], float(report["own_cpu"])
    percentiles = {str(name): float(value) for name, value in report.items() if name.endswith("_ms")}
    return {
        "per_second": float(report["per_second"]),
        "cpu_us": used / counted * 1e6,
        "cpu_share": used / seconds,
        "load_share": own / seconds,
        "others_share": max(0.0, (busy["stop"] - busy["start"] - used - own) / seconds),
        "peak_mb": server.peak_bytes() / 1e6,
        **percentiles,
    }


def _hold(settings: Mapping[str, int | float | str], server: Server) -> dict[str, float]:
    """Memory of the connections between the first few, which pay for what all share, and the last."""
    seen: list[tuple[int, int]] = []
    with loading("hold", settings) as load:
        for report in load.reports():
            if report["event"] == "result":
                check(report)
                break
            time.sleep(IDLE_SETTLE)
            seen.append((report["open"], server.resident_bytes()))
            load.go_on()
    (few, before), (many, after) = seen
    return {"rss_per_connection": (after - before) / (many - few), "peak_mb": server.peak_bytes() / 1e6}


def _brief(sample: Sample) -> str:
    names = [name for name in ("per_second", "cpu_us", "p99_ms", "rss_per_connection") if name in sample.values]
    return ", ".join(f"{name} {sample.values[name]:,.2f}" for name in names)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
