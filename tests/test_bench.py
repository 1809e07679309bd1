"""The benchmark's arithmetic: medians, ratios, bars, the table, the chart.  No sockets here; see test_live_bench.py."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from bench import procfs
from bench.bars import BARS, CALIBRATION, judge
from bench.calibration import rows_per_second
from bench.certificate import write_certificate
from bench.chart import svg
from bench.growth import GROWTHS, Growth
from bench.growth import measure as measure_growth
from bench.growth import table as growth_table
from bench.loading import LoadFailed
from bench.measuring import Pace, Results, Sample, check, median, target
from bench.programs import CONFIGURATION, FINDERS
from bench.report import align, document, text
from bench.scenarios import SCENARIOS, Contender, UnknownScenario, select
from twisted_chat.server.config import load


def temporary_directory(test: SynchronousTestCase) -> Path:
    directory = tempfile.mkdtemp()
    test.addCleanup(shutil.rmtree, directory)
    return Path(directory)


def rates(*figures: float | None) -> list[Sample]:
    return [Sample(problem="it fell over") if figure is None else Sample({"per_second": figure}) for figure in figures]


def busy(**contenders: list[Sample]) -> Results:
    """Results of the busy room; ``chat_durable`` stands for "chat durable"."""
    return Results(samples={"busy-1000": {name.replace("_", " "): samples for name, samples in contenders.items()}})


def report(**changed: Any) -> dict[str, Any]:
    """What the load generator says after a faultless run."""
    counts = dict.fromkeys(("extra", "disorder", "errors", "pages_wrong", "gone", "refused", "missing", "unacknowledged"), 0)
    return {**counts, "stalled": False, "drained": True, "first_error": "", "close_code": 0, **changed}


class MedianTests(SynchronousTestCase):
    def test_failed_rounds(self) -> None:
        """One failure of three leaves a median; two leave none, rather than the luck of the third."""
        self.assertEqual(median([3.0, 1.0, 2.0]), 2.0)
        self.assertEqual(median([3.0, None, 2.0]), 2.5)
        self.assertIsNone(median([3.0, None, None]))
        self.assertIsNone(median([]))

    def test_ratios_pair_the_rounds(self) -> None:
        """A machine that got slower in the last round made both slower, which a ratio does not show."""
        results = busy(chat_durable=rates(100, 50, 10), bun=rates(50, 25, 5))
        self.assertEqual(results.ratio("busy-1000", "chat durable", "per_second", ("busy-1000", "bun", "per_second")), 2.0)

    def test_a_ratio_to_nobody(self) -> None:
        """A peer that is missing, fell over or did nothing gives no ratio."""
        other = ("busy-1000", "bun", "per_second")
        for results in (busy(us=rates(1)), busy(us=rates(1), bun=rates(None)), busy(us=rates(1), bun=rates(0))):
            self.assertIsNone(results.ratio("busy-1000", "us", "per_second", other))


class BarTests(SynchronousTestCase):
    def verdicts(self, results: Results) -> dict[str, str]:
        return {outcome.bar.text: outcome.verdict for outcome in judge(results)}

    def test_at_least(self) -> None:
        """Seven tenths of Bun are enough, less are not, and nothing is not measured."""
        name = "busy room, W = 1,000, durable, to bun"

        self.assertEqual(self.verdicts(busy(chat_durable=rates(70), bun=rates(100)))[name], "met")
        self.assertEqual(self.verdicts(busy(chat_durable=rates(69), bun=rates(100)))[name], "not met")
        self.assertEqual(self.verdicts(busy(chat_durable=rates(None), bun=rates(100)))[name], "not measured")

    def test_at_most(self) -> None:
        """Of memory less is better; this bar is a figure, not a ratio."""
        name = "memory per idle connection, bytes"
        for measured, verdict in ((6_000.0, "met"), (6_001.0, "not met")):
            results = Results(samples={"idle": {"chat durable": [Sample({"rss_per_connection": measured})]}})
            self.assertEqual(self.verdicts(results)[name], verdict)

    def test_calibrated(self) -> None:
        """Acknowledged sends are judged by what SQLite does on the same machine."""
        name = "acknowledged sends, 64 writers, W = 50, to SQLite's rows (20,000 of 60,000)"
        for rows, verdict in ((60_000.0, "met"), (61_000.0, "not met")):
            samples = {"acks-50": {"chat durable JSON": rates(20_000)}, CALIBRATION[0]: {CALIBRATION[1]: rates(rows)}}
            self.assertEqual(self.verdicts(Results(samples=samples))[name], verdict)

    def test_names(self) -> None:
        """Every bar speaks of a scenario and contenders that there are."""
        contenders = {scenario.name: {each.name for each in scenario.contenders} for scenario in SCENARIOS}
        contenders[CALIBRATION[0]] = {CALIBRATION[1]}
        for bar in BARS:
            for scenario, contender, _ in filter(None, (bar.figure, bar.other)):
                self.assertIn(contender, contenders[scenario], bar.text)


class ScenarioTests(SynchronousTestCase):
    def test_select(self) -> None:
        """A name is that scenario, the beginning of names all of them, nothing everything."""
        self.assertEqual([each.name for each in select(["busy-1000"])], ["busy-1000"])
        self.assertEqual([each.name for each in select(["busy"])], ["busy-32", "busy-1000", "busy-20000"])
        self.assertEqual([each.name for each in select(["acks-50"])], ["acks-50"])
        self.assertEqual(tuple(select([])), SCENARIOS)
        self.assertRaises(UnknownScenario, select, ["bussy"])

    def test_table(self) -> None:
        """Names are there once, programs are known, and what is quick is a smaller form of a setting."""
        self.assertEqual(len({scenario.name for scenario in SCENARIOS}), len(SCENARIOS))
        for scenario in SCENARIOS:
            self.assertLessEqual({contender.program for contender in scenario.contenders}, set(FINDERS))
            self.assertLessEqual(set(scenario.quick), {*scenario.settings, "seconds"})

    def test_target(self) -> None:
        """Only this server has rooms that are not kept, and rooms by the thousand are numbered."""
        busy_room, rooms = select(["busy-1000"])[0], select(["rooms"])[0]

        self.assertEqual(target(busy_room, Contender("c", "chat", durable=False), 1)["path"], "/ws/live.bench")
        self.assertEqual(target(busy_room, Contender("c", "bun"), 1)["path"], "/ws/bench")
        self.assertEqual(target(rooms, Contender("c", "chat", json=True), 1)["room"], "bench-")

    def test_configuration(self) -> None:
        """The server under test takes the configuration and keeps only what it keeps by default, but for ``live.*``."""
        settings = load(config=str(CONFIGURATION))

        limits = settings.limits
        self.assertGreater(limits.connections_per_address, 15_000)
        for scenario in SCENARIOS:
            with self.subTest(scenario=scenario.name):
                self.assertLessEqual(scenario.clients, limits.connections_per_address)
                if limits.rooms_made_per_second:
                    self.assertLessEqual(scenario.settings.get("rooms", 1), limits.rooms_made_burst)
        self.assertTrue(settings.policies().policy("bench").durable)
        self.assertFalse(settings.policies().policy("live.bench").durable)


class CheckTests(SynchronousTestCase):
    def test_faultless(self) -> None:
        """A report without faults passes the check."""
        check(report())

    def test_faults(self) -> None:
        """A run that was fast and lost something is reported as failed."""
        for fault in ("missing", "extra", "disorder", "errors", "pages_wrong", "gone", "refused", "unacknowledged"):
            self.assertRaises(LoadFailed, check, report(**{fault: 1}))

    def test_slow_is_not_lossy(self) -> None:
        """A server that still owes what was under way when patience ended has lost nothing; one that is done has."""
        check(report(missing=20_000, drained=False))

        self.assertRaises(LoadFailed, check, report(missing=20_000, drained=True))

    def test_says_what_the_server_said(self) -> None:
        """The error names stalls, closed connections with their code, and the server's first error."""
        failed = self.assertRaises(LoadFailed, check, report(stalled=True, gone=2, close_code=4429, first_error="too fast"))
        self.assertEqual(str(failed), "the server stalls, 2 connections were closed (code 4429): too fast")


class ReportTests(SynchronousTestCase):
    def results(self) -> Results:
        results = busy(chat_durable=rates(3_000_000, 1_000_000, 2_000_000), bun=rates(1_000_000, 1_000_000, 1_000_000))
        results.samples["busy-1000"]["node"] = rates(None, None, None)
        results.missing["websockets"] = "no network"
        return results

    def test_text(self) -> None:
        """Medians and ratios in a row; what is missing or failed is said."""
        results = self.results()
        lines = text(results, judge(results), Pace()).splitlines()

        row = next(line.split() for line in lines if line.lstrip().startswith("chat durable"))

        self.assertEqual(row, ["chat", "durable", "2,000,000", "2.00", "–"])
        self.assertIn("  node: 3 of 3 failed: it fell over", lines)
        self.assertIn("websockets does not take part: no network", lines)

    def test_saturated(self) -> None:
        """Where the load generator had no time left, the figure is a lower bound, and the table says so."""
        results = busy(bun=[Sample({"per_second": 1.0, "load_share": 0.99})])
        self.assertIn("saturated", text(results, [], Pace()))

    def test_disturbed(self) -> None:
        """A run is reported as disturbed when something else kept the processors busy."""
        results = busy(bun=[Sample({"per_second": 1.0, "others_share": 0.5})])
        self.assertIn("something else was at work", text(results, [], Pace()))

    def test_nobody_finished(self) -> None:
        """A server of which no sample succeeded is in the table as failed."""
        self.assertIn("bun: 1 of 1 failed", text(busy(bun=rates(None)), [], Pace()))

    def test_document(self) -> None:
        """The JSON document has every round, for programs that read it."""
        results = self.results()
        found = json.loads(json.dumps(document(results, judge(results), Pace())))
        chat = found["scenarios"]["busy-1000"]["contenders"]["chat durable"]

        self.assertEqual(chat["median"]["per_second"], 2_000_000)
        self.assertEqual([each["per_second"] for each in chat["rounds"]], [3_000_000, 1_000_000, 2_000_000])
        self.assertIn(
            {"bar": "busy room, W = 1,000, durable, to bun", "bound": 0.7, "at": "least", "value": 2.0, "verdict": "met"},
            found["bars"],
        )

    def test_align(self) -> None:
        """Columns are padded to their widest cell: text to the left, numbers to the right."""
        self.assertEqual(list(align([["a", "1"], ["long", "22"]])), ["  a      1", "  long  22"])

    def test_chart(self) -> None:
        """Well-formed, a bar for each that finished, the longest as long as there is room."""
        picture = ElementTree.fromstring(svg(self.results()))
        bars = [each for each in picture.iter("{http://www.w3.org/2000/svg}rect") if each.get("rx")]
        widths = [float(bar.get("width", "0")) for bar in bars]

        self.assertEqual(len(widths), 2)
        self.assertAlmostEqual(widths[0], 2 * widths[1])

    def test_empty_chart(self) -> None:
        """A picture without results is well-formed and has no bar."""
        picture = ElementTree.fromstring(svg(Results()))
        self.assertEqual([each for each in picture.iter("{http://www.w3.org/2000/svg}rect") if each.get("rx")], [])


class SystemTests(SynchronousTestCase):
    def test_procfs(self) -> None:
        """This process has used time and memory, and belongs to its family."""
        pid = os.getpid()

        self.assertIn(pid, procfs.family(pid))
        self.assertIn(pid, procfs.family(os.getppid()))
        self.assertGreater(procfs.cpu_seconds([pid]), 0)
        self.assertGreater(procfs.busy_seconds(), procfs.cpu_seconds([pid]))
        self.assertGreaterEqual(procfs.peak_bytes([pid]), procfs.resident_bytes([pid]) // 2)
        self.assertGreater(procfs.resident_bytes([pid]), 1_000_000)

    def test_gone(self) -> None:
        """A process that has gone counts nothing, instead of spoiling the measurement."""
        self.assertEqual((procfs.cpu_seconds([2**30]), procfs.resident_bytes([2**30])), (0, 0))

    def test_calibration(self) -> None:
        """Rows are committed, and nothing is left behind."""
        directory = temporary_directory(self)
        self.assertGreater(rows_per_second(directory, 0.01), 0)
        self.assertEqual(list(directory.iterdir()), [])

    def test_certificate(self) -> None:
        """The certificate for TLS scenarios and its key are written in PEM."""
        directory = temporary_directory(self)

        certificate, key = write_certificate(directory)

        self.assertIn(b"BEGIN CERTIFICATE", certificate.read_bytes())
        self.assertIn(b"PRIVATE KEY", key.read_bytes())


if sys.platform != "linux":
    SystemTests.test_procfs.skip = "not applicable: reads /proc"  # type: ignore[attr-defined]


class GrowthTests(SynchronousTestCase):
    def test_every_row_runs(self) -> None:
        """Each row builds its surroundings, does its work, and ends, at two small scales."""
        for each in GROWTHS:
            with self.subTest(each.name):
                small = Growth(each.name, 2, each.make, each.bar)
                outcome = measure_growth(small, (1, 2))
                self.assertEqual(outcome.counts, [2, 4])
                self.assertGreater(min(outcome.microseconds), 0)

    def test_growing_cost_is_missed(self) -> None:
        """The test of the test: what looks through everything that is there misses the bar of what does not."""

        def look_through(count: int, directory: str) -> Iterator[Callable[[], object]]:
            numbers = list(range(count))
            for _ in range(5):
                yield lambda: sum(numbers)

        def look_at_one(count: int, directory: str) -> Iterator[Callable[[], object]]:
            numbers = list(range(1_000))
            for _ in range(5):
                yield lambda: sum(numbers)

        growing = measure_growth(Growth("look through", 1_000, look_through), (1, 100))
        constant = measure_growth(Growth("look at one", 1_000, look_at_one), (1, 100))

        self.assertEqual((growing.met, constant.met), (False, True))
        self.assertIn("MISSED", growth_table([growing]))
