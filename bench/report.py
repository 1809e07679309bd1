"""The results as one table of text, and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.bars import CALIBRATION, Outcome
from bench.measuring import Pace, Results, Sample
from bench.scenarios import SCENARIOS, Scenario

#: The columns: heading, metric, how to write it.  The ratios to the peers come behind the first.
_COLUMNS = (
    ("per second", "per_second", "{:,.0f}"),
    ("RSS per connection", "rss_per_connection", "{:,.0f}"),
    ("CPU µs", "cpu_us", "{:,.2f}"),
    ("CPU", "cpu_share", "{:.0%}"),
    ("load's CPU", "load_share", "{:.0%}"),
    ("others' CPU", "others_share", "{:.0%}"),
    ("p50 ms", "p50_ms", "{:,.2f}"),
    ("p99 ms", "p99_ms", "{:,.2f}"),
    ("peak MB", "peak_mb", "{:,.0f}"),
)
_COMPARED_WITH = ("bun", "node")

#: A load generator that works this much of the time may be what is measured.
SATURATED = 0.95

#: Of one core; what else runs on the machine by itself stays below.
DISTURBED = 0.25


def text(results: Results, outcomes: list[Outcome], pace: Pace) -> str:
    """Everything, for people."""
    lines = [*_opening(results, pace)]
    for scenario in measured(results):
        lines += ["", *_scenario(scenario, results)]
    calibration = results.median(*CALIBRATION)
    if calibration is not None:
        what = "rows per second in one-statement batches of 100 (WAL, synchronous=FULL)"
        lines += ["", f"calibration: SQLite commits {calibration:,.0f} {what}"]
    lines += ["", *_outcomes(outcomes)]
    return "\n".join(lines) + "\n"


def document(results: Results, outcomes: list[Outcome], pace: Pace) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "machine": machine(),
        "pace": {"rounds": pace.rounds, "seconds": pace.seconds, "warmup": pace.warmup, "quick": pace.quick},
        "versions": results.versions,
        "missing": results.missing,
        "skipped": results.skipped,
        "calibration_rows_per_second": results.median(*CALIBRATION),
        "scenarios": {
            scenario.name: {
                "title": scenario.title,
                "unit": scenario.unit,
                "contenders": {
                    name: {"median": _medians(scenario.name, name, results), "rounds": [_round(sample) for sample in samples]}
                    for name, samples in results.samples[scenario.name].items()
                },
            }
            for scenario in measured(results)
        },
        "bars": [
            {
                "bar": outcome.bar.text,
                "bound": outcome.bar.bound,
                "at": "most" if outcome.bar.at_most else "least",
                "value": outcome.value,
                "verdict": outcome.verdict,
            }
            for outcome in outcomes
        ],
    }


def measured(results: Results) -> list[Scenario]:
    return [scenario for scenario in SCENARIOS if results.samples.get(scenario.name)]


def machine() -> dict[str, str | int | None]:
    """What the absolute figures depend on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine()
    )
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _opening(results: Results, pace: Pace) -> Iterator[str]:
    here = machine()
    yield f"{here['cores']} cores of {here['cpu']}, Linux {here['kernel']}, Python {here['python']}"
    yield ", ".join(results.versions.values())
    yield f"medians of {pace.rounds} rounds of {pace.seconds:g} s; servers take turns within each round"
    if pace.quick:
        yield "a quick run: some loads are smaller than their titles say"
    for name, reason in results.missing.items():
        yield f"{name} does not take part: {reason}"
    for name, reason in results.skipped.items():
        yield f"{name} was skipped: {reason}"


def _scenario(scenario: Scenario, results: Results) -> Iterator[str]:
    yield f"{scenario.name}: {scenario.title} ({scenario.unit})"
    contenders = results.samples[scenario.name]
    columns = [column for column in _COLUMNS if _any_has(contenders, column[1])]
    compared = [peer for peer in _COMPARED_WITH if peer in contenders]
    headings = [heading for heading, _, _ in columns]
    rows = [["", headings[0], *(f"× {peer}" for peer in compared), *headings[1:]]] if columns else []
    notes = []
    for name, samples in contenders.items():
        cells = [_cell(results.median(scenario.name, name, metric), form) for _, metric, form in columns]
        ratios = [
            _cell(results.ratio(scenario.name, name, scenario.metric, (scenario.name, peer, scenario.metric)), "{:,.2f}")
            for peer in compared
        ]
        if columns:
            rows.append([name, cells[0], *ratios, *cells[1:]])
        problems = [sample.problem for sample in samples if sample.problem]
        if problems:
            notes.append(f"  {name}: {len(problems)} of {len(samples)} failed: {problems[0]}")
        if (results.median(scenario.name, name, "load_share") or 0) > SATURATED:
            notes.append(f"  {name}: the load generator was saturated; the server may be faster than this")
    if any((results.median(scenario.name, name, "others_share") or 0) > DISTURBED for name in contenders):
        notes.append("  something else was at work on this machine (others' CPU): do not trust these figures far")
    if compared and columns and scenario.metric != columns[0][1]:
        notes.append(f"  × is of {scenario.metric}: less is better")
    yield from align(rows)
    yield from notes


def _outcomes(outcomes: list[Outcome]) -> Iterator[str]:
    rows = [["bar", "measured", "", "bound", ""]]
    for outcome in outcomes:
        form = "{:,.2f}" if outcome.bar.bound < 100 else "{:,.0f}"
        sign = "≤" if outcome.bar.at_most else "≥"
        rows.append([outcome.bar.text, _cell(outcome.value, form), sign, form.format(outcome.bar.bound), outcome.verdict])
    yield from align(rows) if outcomes else ["no bar was measured"]


def align(rows: list[list[str]]) -> Iterator[str]:
    """The first and the last column to the left unless they are numbers, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield ("  " + "  ".join(cells)).rstrip()


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _any_has(contenders: dict[str, list[Sample]], metric: str) -> bool:
    return any(metric in sample.values for samples in contenders.values() for sample in samples)


def _medians(scenario: str, contender: str, results: Results) -> dict[str, float]:
    names = dict.fromkeys(name for sample in results.samples[scenario][contender] for name in sample.values)
    return {name: value for name in names if (value := results.median(scenario, contender, name)) is not None}


def _round(sample: Sample) -> dict[str, Any]:
    return {**sample.values, **({"problem": sample.problem} if sample.problem else {})}
