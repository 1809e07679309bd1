"""The SQLite store against the machine: full disks, failing fsyncs, kill -9, and the order of system calls."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_chat.stores.sqlite.store import SQLiteStore
from twisted_chat.stores.workers import AtOnce, call_at_once

ROOT = Path(__file__).resolve().parent.parent
DRIVER = str(ROOT / "tests" / "harness" / "store_driver.py")

#: Rounds of kill -9 in a run of all tests; TWISTED_CHAT_CRASHES asks for more.
CRASHES = 36

#: Fails fsync and fdatasync as a dying disk does, while the file named by FAIL_FSYNC exists.
FAILING_FSYNC = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int call(const char *name, int fd) {
    const char *failing = getenv("FAIL_FSYNC");
    if (failing && access(failing, F_OK) == 0) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, name))(fd);
}
int fsync(int fd) { return call("fsync", fd); }
int fdatasync(int fd) { return call("fdatasync", fd); }
"""


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SkipTest(f"{name} is not installed")
    return path


class LiveCase(SynchronousTestCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = os.path.realpath(directory.name)
        self.path = os.path.join(self.directory, "chat.db")


class Talk:
    """A conversation with the driver."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        self.begun = self._answer()

    def __call__(self, command: str, *arguments: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            raise AssertionError(f"the driver ended: {errors}")
        return json.loads(line)

    def end(self) -> str:
        """Close the store and end; what the process said on standard error."""
        out, errors = self._process.communicate(timeout=60)
        assert out == '"closed"\n', (out, errors)
        return errors

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def numbered(*keys: str) -> list[list[object]]:
    """What the driver reads when these were kept."""
    return [[number, f"text of {key}"] for number, key in enumerate(keys, 1)]


class FullDiskTests(LiveCase):
    """A file system of 2 MiB in a mount namespace of the driver's own, which goes with it."""

    def talk(self) -> Talk:
        unshare = [tool("unshare"), "--mount"] if os.geteuid() == 0 else [tool("unshare"), "--map-root-user", "--mount"]
        mount = 'mount -t tmpfs -o size=2m tmpfs "$1"'
        permitted = subprocess.run([*unshare, "sh", "-c", mount, "sh", self.directory], capture_output=True, text=True)
        if permitted.returncode:
            raise SkipTest(f"a small file system cannot be mounted: {permitted.stderr.strip()}")
        driver = [sys.executable, DRIVER, "talk", self.path]
        return Talk([*unshare, "sh", "-c", f'{mount} && shift && exec "$@"', "sh", self.directory, *driver])

    def test_a_full_disk_is_never_acknowledged_and_passes(self) -> None:
        """On a full disk nothing is acknowledged, readers continue, and with free space the same keys are accepted."""
        talk = self.talk()

        self.addCleanup(talk.kill)
        ballast = os.path.join(self.directory, "ballast")
        kept = [f"before {number}" for number in range(100)]

        self.assertEqual(talk("append", *kept), list(range(1, 101)))
        self.assertGreater(talk("fill", ballast), 0)

        lost = [[f"full {attempt}-{number} {'x' * 500}" for number in range(200)] for attempt in range(3)]
        for keys in lost:
            self.assertEqual(talk("append", *keys), "unavailable")
            self.assertEqual(talk("read"), numbered(*kept), "readers go on")

        talk("free", ballast)

        self.assertEqual(talk("probe"), "ready")

        again = lost[0]
        self.assertEqual(talk("append", *again), list(range(len(kept) + 1, len(kept) + 201)), "the same keys may be sent again")
        self.assertEqual(talk("read"), numbered(*kept, *again))

        talk.end()


class FailingFsyncTests(LiveCase):
    def talk(self) -> tuple[Talk, Path]:
        library = os.path.join(self.directory, "failing.so")
        subprocess.run(
            [tool("cc"), "-shared", "-fPIC", "-x", "c", "-o", library, "-", "-ldl"],
            input=FAILING_FSYNC,
            text=True,
            check=True,
        )
        failing = Path(self.directory, "failing")
        return Talk([sys.executable, DRIVER, "talk", self.path], LD_PRELOAD=library, FAIL_FSYNC=str(failing)), failing

    def test_a_failed_fsync_is_never_acknowledged_and_passes(self) -> None:
        """A commit whose fsync failed is neither acknowledged nor seen, and later ones succeed."""
        talk, failing = self.talk()

        self.addCleanup(talk.kill)

        self.assertEqual(talk("append", "a", "b"), [1, 2])

        for _ in range(3):
            failing.touch()
            self.assertEqual(talk("append", "c"), "unavailable")
            self.assertEqual(talk("append", "c", "d"), "unavailable")
            self.assertEqual(talk("probe"), "unavailable")
            self.assertEqual(talk("read"), numbered("a", "b"), "readers go on, and see only what was acknowledged")
            failing.unlink()
            self.assertEqual(talk("probe"), "ready")

        self.assertEqual(talk("append", "e"), [3])
        self.assertEqual(talk("append", "c", "d"), [4, 5])
        self.assertEqual(talk("read"), numbered("a", "b", "e", "c", "d"))

        talk.end()

    def test_killed_after_a_failed_fsync(self) -> None:
        """What was not acknowledged may be there or not, but once, and without a hole."""
        talk, failing = self.talk()

        self.assertEqual(talk("append", "a"), [1])

        failing.touch()
        self.assertEqual(talk("append", "b"), "unavailable")

        talk.kill()
        talk = Talk([sys.executable, DRIVER, "talk", self.path])

        self.assertEqual(talk("append", "b", "c"), [2, 3])
        self.assertEqual(talk("read"), numbered("a", "b", "c"))

        talk.end()


class OrderTests(LiveCase):
    def test_the_answer_never_precedes_the_fsync_that_covers_it(self) -> None:
        """As the system calls say: write-ahead log written, synced, and only then the answer."""
        trace = os.path.join(self.directory, "trace")
        strace = [tool("strace"), "-f", "-y", "-e", "trace=pwrite64,fsync,fdatasync,write", "-s", "20", "-o", trace]
        permitted = subprocess.run([*strace, "true"], capture_output=True, text=True)
        if permitted.returncode:
            raise SkipTest(f"processes cannot be traced: {permitted.stderr.strip()}")
        talk = Talk([*strace, sys.executable, DRIVER, "talk", self.path])

        for number in range(20):
            talk("append", *(f"{number}-{part}" for part in range(number % 3 + 1)))
        talk.end()
        answers = self.check_order(Path(trace).read_text().splitlines())

        self.assertEqual(answers, 20)

    def check_order(self, lines: Sequence[str]) -> int:
        """How many answers of append there are; each comes after a sync of all that was written."""
        answers = writes = synced = 0
        syncing: dict[str, int] = {}
        for line in lines:
            thread, call = line.split(None, 1)
            if call.startswith("pwrite64(") and "chat.db-wal>" in call:
                writes += 1
            elif re.match(r"f(data)?sync\(\d+<[^>]*chat\.db-wal>", call):
                syncing[thread] = writes
            if thread in syncing and call.rstrip().endswith("= 0"):
                synced = syncing.pop(thread)
            if call.startswith("write(1<") and ', "[' in call:
                self.assertEqual(synced, writes, f"answer {answers + 1} came too early")
                self.assertGreater(writes, 0)
                answers += 1
                writes = synced = 0
        return answers

    def test_the_check_finds_an_early_answer(self) -> None:
        """The check of the order of system calls finds an answer that comes before the fsync has ended."""
        early = [
            "7 pwrite64(4</x/chat.db-wal>, ...) = 24",
            "7 fdatasync(4</x/chat.db-wal> <unfinished ...>",
            '6 write(1<pipe:[1]>, "[1]\\n", 4) = 4',
            "7 <... fdatasync resumed>) = 0",
        ]
        self.assertRaises(self.failureException, self.check_order, early)
        self.assertEqual(self.check_order([early[0], early[1], early[3], early[2]]), 1)


class KillTests(LiveCase):
    def test_kill_9_at_any_moment_loses_and_doubles_nothing(self) -> None:
        """After many kills each acknowledged message is in the log exactly once, and numbers have no gaps."""
        rounds = int(os.environ.get("TWISTED_CHAT_CRASHES", CRASHES))

        driver = subprocess.run(
            [sys.executable, DRIVER, "crash", self.path, str(rounds), "2025"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

        self.assertEqual(driver.stderr, "")

        acknowledged = [int(line) for line in driver.stdout.split()]
        self.assertEqual(len(acknowledged), rounds)
        self.assertGreater(acknowledged[-1], rounds)

        store = SQLiteStore(self.path, Clock(), AtOnce(), AtOnce(), call_at_once)
        [room] = self.successResultOf(store.open()).rooms
        events = self.successResultOf(store.read("lobby", 0, 10_000_000, 10_000_000_000))
        self.successResultOf(store.close())

        self.assertGreaterEqual(room.head, acknowledged[-1])
        self.assertEqual([event.seq for event in events], list(range(1, room.head + 1)))
        # The driver sends k1, k2, … in order, so in the log each has its own number, acknowledged or not.
        self.assertEqual([event.key for event in events], [f"k{number}" for number in range(1, room.head + 1)])
