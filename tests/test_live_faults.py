"""What was acknowledged is kept, whatever happens to the server and its disk (promises P1 to P4).

The long way of the first test: ``python -m tests.faults --kills 500``.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.faults.kills import Broken, Reader, Story, Writer
from tests.harness.long import LongRun
from tests.harness.servers import PATIENCE, Json, JsonClient, Server
from tests.harness.serving import environment
from tests.harness.waiting import wait_until

KILLS = 30

_KILLS_RUN = LongRun(
    [sys.executable, "-m", "tests.faults", f"--kills={KILLS}", f"--seed={os.environ.get('SEED', '1')}"],
    environment(),
    timeout=400,
)


class KillTests(SynchronousTestCase):
    #: Begun while other tests run: it mostly waits.
    long_runs = {"test_kill": _KILLS_RUN}

    def test_kill(self) -> None:
        """``kill -9`` at random moments under load of four writers and three readers."""
        out, errors, status = _KILLS_RUN.result()
        self.assertEqual(status, 0, out + errors)

        summary = re.search(rf"^{KILLS} kills: (\d+) acknowledged, .* over (\d+) connections\.", out, re.M)
        assert summary is not None, out
        self.assertGreater(int(summary[1]), 10 * KILLS, "there was no load")
        self.assertGreater(int(summary[2]), KILLS)

    def test_the_judge_sees(self) -> None:
        """The test of the test: each kind of broken promise is noticed."""
        for hurt in (
            lambda story: story.readers[0].events.pop(1),
            lambda story: story.readers[1].events.reverse(),
            lambda story: [reader.events.pop(1) for reader in story.readers],
            lambda story: [reader.events.append({**reader.events[0], "seq": 4}) for reader in story.readers],
            lambda story: story.writers[0].acknowledged.update({"writer0-1": (3, "x-3")}),
            lambda story: story.writers[0].acknowledged.pop("writer0-1"),
            lambda story: story.writers[0].said.update({"writer0-1": "other"}),
        ):
            story = self.finished()
            story.check()
            hurt(story)
            self.assertRaises(Broken, story.check)
        reader = self.finished().readers[0]

        self.assertRaises(Broken, reader.take, {"type": "event", "seq": 5, "id": "x-5"})
        self.assertRaises(Broken, reader.take, {"type": "ok", "recovered": False, "why": "fork"})

        writer = self.finished().writers[0]
        self.assertRaises(Broken, writer.take, {"type": "ok", "key": "writer0-1", "seq": 3, "event": "x-3", "duplicate": True})

    def finished(self) -> Story:
        """A story with a happy end: three messages, all acknowledged and read."""
        directory = Path(self.mktemp())
        directory.mkdir()
        story: Any = object.__new__(Story)
        story.server = type("Server", (), {"directory": directory})
        writer, story.readers = Writer("", "writer0", Random(1)), [Reader("", "a"), Reader("", "b")]
        story.writers, writer.user = [writer], "g1"
        for seq in (1, 2, 3):
            key = writer.invent()
            writer.take({"type": "ok", "key": key, "seq": seq, "event": f"x-{seq}", "duplicate": False})
            for reader in story.readers:
                reader.welcomed({"type": "welcome", "epoch": "e"})
                reader.take(
                    {"type": "event", "seq": seq, "id": f"x-{seq}", "key": key, "text": writer.said[key], "by": {"id": "g1"}}
                )
        finished: Story = story
        return finished


def need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise SkipTest(f"{program} is not installed")
    return path


class DiskTests(SynchronousTestCase):
    """A disk that fails or is full: never acknowledged, readers go on, and it recovers by itself."""

    def setUp(self) -> None:
        self.keys: list[str] = []

    def test_acknowledged_means_synced(self) -> None:
        """The trace of system calls shows for each key: written, synced, and only then sent to anybody."""
        strace = need("strace")
        trace = Path(self.mktemp()).absolute()
        calls = "trace=pwrite64,write,fdatasync,fsync,sendto,sendmsg,writev"
        server = Server(
            self.mktemp(), wrapper=[strace, "-f", "--seccomp-bpf", "-y", "-s", "40000", "-e", calls, "-o", str(trace)]
        )

        with server:
            with JsonClient(server.websocket) as writer, JsonClient(server.websocket) as reader:
                for client in (writer, reader):
                    client.ask({"type": "join", "room": "lobby"})
                for number in range(40):
                    for more in range(number % 4):
                        self.keys.append(f"key-{number}-{more}-")
                        writer.tell({"type": "send", "room": "lobby", "key": self.keys[-1], "text": "hello"})
                    self.keys.append(f"key-{number}-last-")
                    self.assertEqual(writer.send("lobby", self.keys[-1], "hello")["type"], "ok")
            os.kill(server.server_pid, signal.SIGTERM)
            server.process.wait(PATIENCE)
        sent = judge_order(trace.read_text().splitlines(), self.keys)

        self.assertGreaterEqual(sent, 2 * len(self.keys))

    def test_the_judge_of_order_sees(self) -> None:
        """The test of the test."""
        write = '7 pwrite64(5</d/chat.db-wal>, "..key-1-..", 4096, 0) = 4096'
        sync, sent = (
            "7 fdatasync(5</d/chat.db-wal>) = 0",
            r'6 sendto(9<socket:[1]>, "..{\"key\":\"key-1-\"}..", 9, 0, NULL, 0) = 9',
        )

        self.assertEqual(judge_order([write, sync, sent], ["key-1-"]), 1)

        begun = ["7 fdatasync(5</d/chat.db-wal> <unfinished ...>", "7 <... fdatasync resumed>) = 0"]
        self.assertEqual(judge_order([write, *begun, sent], ["key-1-"]), 1)

        for wrong in (
            [sent, write, sync],
            [write, sent, sync],
            [sync, write, sent],
            [write, begun[0], sent, begun[1]],
            [begun[0], write, begun[1], sent],
            [write, sync.replace("= 0", "= -1 EIO (Input/output error)"), sent],
        ):
            self.assertRaises(Broken, judge_order, wrong, ["key-1-"])

    def test_failed_sync(self) -> None:
        """Nothing is acknowledged while fsync fails with EIO, and the server goes on afterwards."""
        strace = need("strace")
        with Server(self.mktemp()) as server:

            @contextmanager
            def broken() -> Iterator[None]:
                inject = "inject=fdatasync,fsync:error=EIO"
                command = [
                    strace,
                    "-f",
                    "-p",
                    str(server.server_pid),
                    "-e",
                    "trace=fdatasync,fsync",
                    "-e",
                    inject,
                    "-o",
                    os.devnull,
                ]
                with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as attached:
                    assert attached.stderr is not None
                    try:
                        line = attached.stderr.readline()
                        if "attached" not in line:
                            raise SkipTest(f"strace may not attach here: {line.strip()}")
                        yield
                    finally:
                        attached.send_signal(signal.SIGINT)
                        attached.wait()

            self.survives(server, broken)

    def test_full_disk(self) -> None:
        """Nothing is acknowledged that a full file system did not take, and the server goes on when there is space."""
        if os.geteuid() != 0:
            raise SkipTest("not applicable: only root may mount a small file system")
        directory = Path(tempfile.mkdtemp())

        self.addCleanup(directory.rmdir)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(directory)], capture_output=True, text=True, check=False
        )
        if mounted.returncode:
            raise SkipTest(f"no file system may be mounted here: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", str(directory)], check=True)
        filler = directory / "filler"

        @contextmanager
        def full() -> Iterator[None]:
            with filler.open("wb", buffering=0) as file:
                for size in (65_536, 4_096, 1):
                    try:
                        while True:
                            file.write(bytes(size))
                    except OSError:
                        continue
            yield
            filler.unlink()

        with Server(directory / "data") as server:
            self.survives(server, full, filling=True)

    def survives(self, server: Server, broken: Callable[[], Any], *, filling: bool = False) -> None:
        """The story of both: before, while it is broken, after, and after a kill."""
        with JsonClient(server.websocket, "writer", device="w" * 16) as writer, JsonClient(server.websocket, "reader") as reader:
            for client in (writer, reader):
                client.ask({"type": "join", "room": "lobby"})
            for _ in range(20):
                self.say(writer, "ok")
            self.heard(reader, 20)
            with broken():
                if filling:
                    # What is allocated already can still be used up.
                    while self.say(writer, "ok", "error")["type"] == "ok":
                        self.assertLess(len(self.keys), 2_000)
                    self.heard(reader, len(self.keys) - 21)
                kept = [key for key in self.keys if key in self.acknowledged]
                for _ in range(10):
                    refusal = self.say(writer, "error")
                    self.assertEqual((refusal["code"], refusal["retry"]), ("unavailable", True), refusal)
                # Who reads goes on: history, and a newcomer who reads from the beginning.
                page = reader.ask({"type": "history", "room": "lobby", "limit": 20})
                self.assertEqual(len(page["events"]), 20, page)
                with JsonClient(server.websocket, "late") as late:
                    late.ask({"type": "join", "room": "lobby", "tail": 1_000_000})
                    self.heard(late, len(kept))
                self.assertEqual(self.http_status(server, "readyz"), 503)
            # By itself, without a restart and without a message getting lost or doubled.
            for key in [key for key in self.keys if key not in self.acknowledged]:
                self.kept_again(writer, key)
            self.say(writer, "ok")
            wait_until(lambda: self.http_status(server, "readyz"), lambda status: status == 200)
            self.heard(reader, len(self.keys) - len(kept))
        server.kill()
        server.start_again()
        server.wait_for("READY=1")
        with JsonClient(server.websocket, "judge") as judge:
            judge.ask({"type": "join", "room": "lobby", "tail": 1_000_000})
            log = self.heard(judge, len(self.keys))
        self.assertEqual([event["seq"] for event in log], list(range(1, len(self.keys) + 1)))
        self.assertEqual({event["key"]: event["seq"] for event in log}, self.acknowledged)

    def kept_again(self, writer: JsonClient, key: str) -> None:
        """Send the message of that key again until it is acknowledged; meanwhile the store is unavailable, and nothing else."""
        reply = wait_until(
            lambda: self.say_again(writer, key), lambda reply: reply["type"] == "ok" or reply["code"] != "unavailable"
        )
        self.assertEqual(reply["type"], "ok", reply)

    @property
    def acknowledged(self) -> dict[str, int]:
        return self.__dict__.setdefault("_acknowledged", {})  # type: ignore[no-any-return]

    def say(self, writer: JsonClient, *expected: str) -> Json:
        self.keys.append(f"key-{len(self.keys)}-")
        reply = self.say_again(writer, self.keys[-1])
        self.assertIn(reply["type"], expected, reply)
        return reply

    def say_again(self, writer: JsonClient, key: str) -> Json:
        reply = writer.send("lobby", key, key + "x" * 3_000)
        writer.pushes.clear()
        if reply["type"] == "ok":
            self.assertNotIn(key, self.acknowledged)
            self.acknowledged[key] = reply["seq"]
        return reply

    def heard(self, reader: JsonClient, count: int) -> list[Json]:
        """The next events, so many."""
        events = reader.events()
        return [next(events) for _ in range(count)]

    def http_status(self, server: Server, path: str) -> int:
        command = ["curl", "--silent", "--output", os.devnull, "--write-out", "%{http_code}", f"{server.url.rstrip('/')}/{path}"]
        need("curl")
        return int(subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout)


CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)$")
DISK, NET, SYNC = {"pwrite64", "write", "writev"}, {"sendto", "sendmsg", "write", "writev"}, {"fdatasync", "fsync"}


def judge_order(lines: list[str], keys: list[str]) -> int:
    """:class:`Broken` if a key was sent to anybody before a sync that began after it was written has succeeded.

    :returns: how many times a key was sent.
    """
    written: set[str] = set()
    synced: set[str] = set()
    covered: dict[str, set[str]] = {}  # by thread: what a sync under way covers
    sent = 0
    for line in lines:
        match = CALL.match(line)
        if match is None:
            continue
        thread, call, rest = match.groups()
        found = [key for key in keys if key in rest] if call not in SYNC else []
        on_disk = ".db" in rest.split(",", 1)[0]
        if call in SYNC and ".db" in rest and "resumed" not in line:
            covered[thread] = set(written)
        if call in SYNC and rest.endswith("= 0"):
            synced |= covered.pop(thread, set())
        elif call in DISK and on_disk:
            written.update(found)
        elif call in NET and ("socket:" in rest or "TCP:" in rest):
            for key in found:
                sent += 1
                if key not in synced:
                    raise Broken(f"{key} was sent before it was synced: {line[:200]}")
    return sent
