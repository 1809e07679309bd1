"""The load generator against real servers: it counts right, and notices a server that does not."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from bench import loading, nodes
from bench.loading import LoadFailed
from bench.measuring import Bench, Pace, check
from bench.scenarios import AUTOBAHN, Scenario

#: What the load generator sends for a line of 20 bytes: two bytes of head, the mask, the line.
_FRAME = 26


class Gossip:
    """A room for two, as small as can be: passes each line on through ``twist``, which may do something wrong.

    ``twist(member, line number)`` is how many times the member gets that line.
    """

    def __init__(self, twist: Any) -> None:
        self._twist = twist
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._members: list[socket.socket] = []
        self._lines = 0

    @contextmanager
    def open(self) -> Iterator[int]:
        threads = [threading.Thread(target=self._serve) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield self.port
        finally:
            self._listener.close()
            for thread in threads:
                thread.join()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as stream:
            while stream.readline().strip():
                pass
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            with self._lock:
                self._members.append(connection)
            try:
                while len(masked := stream.read(_FRAME)) == _FRAME:
                    self._pass_on(masked)
            except ConnectionError:
                pass  # the load generator leaves without a close frame

    def _pass_on(self, masked: bytes) -> None:
        mask = masked[2:6] * 5
        line = bytes(a ^ b for a, b in zip(masked[6:], mask, strict=True))
        with self._lock:
            for number, member in enumerate(self._members):
                member.sendall((b"\x81" + bytes([len(line)]) + line) * self._twist(number, self._lines))
            self._lines += 1


@cache
def shared_cache() -> tempfile.TemporaryDirectory[str]:
    """Goes when the process ends."""
    return tempfile.TemporaryDirectory()


class LoadGeneratorTests(SynchronousTestCase):
    def setUp(self) -> None:
        """The cache is a directory of the tests' own, in which the load generator is compiled once."""
        self.patch(os, "environ", {**os.environ, "XDG_CACHE_HOME": shared_cache().name})
        loading.generator.cache_clear()
        self.addCleanup(loading.generator.cache_clear)

    def gossip(self, twist: Any, **settings: int | float) -> dict[str, Any]:
        """Two clients say 40 lines, 4 under way."""
        quick = {"clients": 2, "window": 4, "lines": 40, "settle": 0.1, "drain": 0.5}
        with Gossip(twist).open() as port:
            return loading.run("talk", {**quick, "port": port, **settings})

    def test_counts(self) -> None:
        """Every line reaches both, in order; the report says so."""
        report = self.gossip(lambda member, line: 1)

        check(report)

        self.assertEqual((report["lines_in_all"], report["deliveries"], report["missing"]), (40, 80, 0))
        self.assertTrue(report["drained"])

    def test_open_loop(self) -> None:
        """At a fixed rate each delivery has a latency, counted from when the line was due."""
        report = self.gossip(lambda member, line: 1, window=0, lines=0, rate=200, warmup=0.05, seconds=1.5)

        check(report)

        self.assertGreaterEqual(report["samples"], 70)
        self.assertGreater(report["p99_ms"], 0)

    def test_twice(self) -> None:
        """One line that comes twice to one member is found."""
        report = self.gossip(lambda member, line: 2 if (member, line) == (1, 30) else 1)
        self.assertEqual(report["disorder"] > 0 or report["extra"] > 0, True)
        self.assertRaises(LoadFailed, check, report)

    def test_lost(self) -> None:
        """One line that one member does not get is found."""
        report = self.gossip(lambda member, line: 0 if (member, line) == (1, 30) else 1)

        self.assertRaises(LoadFailed, check, report | {"drained": True})
        self.assertEqual((report["missing"], report["drained"]), (1, False))
        self.assertGreater(report["disorder"], 0)

    def test_nobody_listens(self) -> None:
        """The load generator reports a refused connection."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        failed = self.assertRaises(LoadFailed, loading.run, "talk", {"port": port, "window": 1})
        self.assertIn("refused", str(failed))

    def test_settings_are_checked(self) -> None:
        """Unknown, impossible and contradictory settings of the load generator are refused by name."""
        for settings, word in (({"bogus": 1}, "bogus"), ({"size": 3}, "size"), ({"window": 1, "rate": 5}, "one of")):
            failed = self.assertRaises(LoadFailed, loading.run, "talk", settings)
            self.assertIn(word, str(failed))

    def test_a_measurement(self) -> None:
        """A server as a child, a round of load, the system's figures: all of it once, with a peer that is always there."""
        small = Scenario("small", "small", "group", "talk", {"clients": 4, "window": 8}, (AUTOBAHN,))
        idle = Scenario("idle", "idle", "group", "hold", {"first": 5, "clients": 20}, (AUTOBAHN,))
        secure = Scenario("secure", "secure", "group", "talk", {"clients": 4, "window": 8}, (AUTOBAHN,), tls=True)
        bench = Bench(Path(shared_cache().name), Pace(rounds=1, seconds=0.2, warmup=0.1))

        for scenario in (small, idle, secure):
            bench.measure(scenario)
        sample = bench.results.samples["small"]["autobahn"][0]

        self.assertEqual(sample.problem, "")
        self.assertGreater(sample.values["per_second"], 0)
        self.assertGreater(sample.values["peak_mb"], 1)
        self.assertEqual(bench.results.samples["idle"]["autobahn"][0].problem, "")

        if loading.generator().tls:
            self.assertEqual(bench.results.samples["secure"]["autobahn"][0].problem, "")
        else:
            self.assertIn("libssl-dev", bench.results.skipped["secure"])


if shutil.which("cc") is None:
    LoadGeneratorTests.skip = "no C compiler (cc)"


class NodesTests(SynchronousTestCase):
    def test_it_measures_servers_on_one_postgresql(self) -> None:
        """Each row has a figure, and every message was acknowledged and came to the other server, or there would be an error."""
        rows = list(nodes.measure(0.3, 1))
        self.assertEqual(len(rows), 8)
        for _, figure, _ in rows[1:]:
            self.assertGreater(float(re.sub("[^0-9.]", "", figure)), 0)
        self.assertIn("bare batches", nodes.table(rows))
