"""The results as a chart: one panel per scenario, one bar per contender, SVG written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from bench.measuring import Results
from bench.report import measured
from bench.scenarios import Scenario

WIDTH = 760
NAME_WIDTH = 190
VALUE_WIDTH = 110
BAR_HEIGHT, BAR_GAP, PANEL_GAP, TITLE_HEIGHT = 16, 6, 22, 24
MARGIN = 16

_OURS, _PEER = "#2a6fb0", "#9aa5b1"
_WORDS = {"per_second": "{:,.0f} / s", "p99_ms": "{:,.2f} ms", "rss_per_connection": "{:,.0f} B"}
_HINTS = {"per_second": "more is better", "p99_ms": "99th percentile, less is better", "rss_per_connection": "less is better"}


def svg(results: Results) -> str:
    """A picture of the scenarios that belong into one and were measured."""
    panels = [(scenario, _bars(scenario, results)) for scenario in measured(results) if scenario.chart]
    body: list[str] = []
    top = float(MARGIN)
    for scenario, bars in panels:
        if bars:
            body += _panel(scenario, bars, top)
            top += TITLE_HEIGHT + len(bars) * (BAR_HEIGHT + BAR_GAP) + PANEL_GAP
    height = top - PANEL_GAP + MARGIN if body else 2 * MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}"'
            ' font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="benchmark results">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *body,
            "</svg>\n",
        ]
    )


def _bars(scenario: Scenario, results: Results) -> list[tuple[str, bool, float]]:
    """Name, whether it is this server, and the median of those that have one."""
    programs = {contender.name: contender.program for contender in scenario.contenders}
    medians = {name: results.median(scenario.name, name, scenario.metric) for name in results.samples[scenario.name]}
    return [(name, programs[name] == "chat", value) for name, value in medians.items() if value is not None]


def _panel(scenario: Scenario, bars: list[tuple[str, bool, float]], top: float) -> Iterator[str]:
    hint = _HINTS[scenario.metric]
    yield (
        f'<text x="{MARGIN}" y="{top + 14:.0f}" font-weight="600" fill="#1f2933">{escape(scenario.title)}'
        f'<tspan font-weight="400" fill="#616e7c"> – {hint}</tspan></text>'
    )
    longest = max(value for _, _, value in bars) or 1.0
    room = WIDTH - 2 * MARGIN - NAME_WIDTH - VALUE_WIDTH
    for row, (name, ours, value) in enumerate(bars):
        y = top + TITLE_HEIGHT + row * (BAR_HEIGHT + BAR_GAP)
        colour = _OURS if ours else _PEER
        length = max(1.0, room * value / longest)
        left = MARGIN + NAME_WIDTH
        yield f'<text x="{left - 8}" y="{y + 12.5:.1f}" text-anchor="end" fill="#323f4b">{escape(name)}</text>'
        yield f'<rect x="{left}" y="{y:.0f}" width="{length:.1f}" height="{BAR_HEIGHT}" rx="2" fill="{colour}"/>'
        words = escape(_WORDS[scenario.metric].format(value))
        yield f'<text x="{left + length + 6:.1f}" y="{y + 12.5:.1f}" fill="#323f4b">{words}</text>'
