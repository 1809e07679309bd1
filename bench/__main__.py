"""The command: ``python -m bench`` from the root of the repository."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench import chart, growth, nodes, report
from bench.bars import CALIBRATION, judge
from bench.calibration import rows_per_second
from bench.installing import cache_directory
from bench.loading import LoadFailed, generator
from bench.measuring import Bench, Pace, Sample
from bench.scenarios import SCENARIOS, Scenario, UnknownScenario, select


def main(words: list[str] | None = None) -> int:
    options = _parser().parse_args(words)
    if options.growth:
        outcomes = [growth.measure(each) for each in growth.GROWTHS]
        print(growth.table(outcomes), end="")
        return 0 if all(each.met for each in outcomes) else 1
    if options.nodes:
        pace = _pace(options)
        print(nodes.table(list(nodes.measure(pace.seconds, pace.rounds))), end="")
        return 0
    if options.list:
        print("\n".join(f"{scenario.name:18} {scenario.title}" for scenario in SCENARIOS))
        return 0
    try:
        chosen = select(_names(options.only))
        generator()
    except (UnknownScenario, LoadFailed) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 2
    run(chosen, _pace(options), options)
    return 0


def run(chosen: list[Scenario], pace: Pace, options: argparse.Namespace) -> None:
    """Measures, and says what came out even if it is interrupted."""
    with tempfile.TemporaryDirectory(prefix="work-", dir=cache_directory()) as base:
        bench = Bench(Path(base), pace, _names(options.contenders))
        try:
            for scenario in chosen:
                if scenario.group == "acknowledged sends" and CALIBRATION[0] not in bench.results.samples:
                    samples = [Sample({CALIBRATION[2]: rows_per_second(Path(base))}) for _ in range(pace.rounds)]
                    bench.results.samples[CALIBRATION[0]] = {CALIBRATION[1]: samples}
                bench.measure(scenario)
        except KeyboardInterrupt:
            print("interrupted; this is what there is", file=sys.stderr)
    results, outcomes = bench.results, judge(bench.results)
    print(report.text(results, outcomes, pace), end="")
    if options.json:
        Path(options.json).write_text(json.dumps(report.document(results, outcomes, pace), indent=1, ensure_ascii=False) + "\n")
    if options.chart:
        Path(options.chart).write_text(chart.svg(results))


def _pace(options: argparse.Namespace) -> Pace:
    quick = Pace(rounds=1, seconds=1.0, warmup=0.5, quick=True) if options.quick else Pace()
    return Pace(options.rounds or quick.rounds, options.seconds or quick.seconds, quick.warmup, quick.quick)


def _names(groups: list[str]) -> list[str]:
    return [name for group in groups for name in group.split(",") if name]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the scenarios and do nothing")
    parser.add_argument("--growth", action="store_true", help="what one more costs among 1, 10 and 100 times as many; no servers")
    parser.add_argument("--nodes", action="store_true", help="one and two servers on a PostgreSQL of this machine")
    parser.add_argument("--only", action="append", default=[], metavar="SCENARIO[,…]", help="these, or those that begin so")
    parser.add_argument("--contenders", action="append", default=[], metavar="NAME[,…]", help="the same for contenders")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (3)")
    parser.add_argument("--seconds", type=float, help="how long each measured window is (3)")
    parser.add_argument("--quick", action="store_true", help="one short round of smaller loads: does it all work?")
    parser.add_argument("--json", metavar="FILE", help="write the results as JSON too")
    parser.add_argument("--chart", metavar="FILE.svg", help="write a chart too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
