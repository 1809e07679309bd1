"""Nothing is missing silently: a test that cannot run says why, and where nothing may be missing (``CI=true``) it fails.

A reason that begins with ``not applicable`` may be skipped everywhere: there is nothing to install that would make the test run.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.long import LongRuns

#: The runs that go on in the background of this session.
LONG_RUNS = pytest.StashKey[LongRuns]()
#: Where their results are, in the process that removes them.
RESULTS = pytest.StashKey[Path]()
CI = os.environ.get("CI") == "true"
NOT_APPLICABLE = "not applicable"


def pytest_configure() -> None:
    """Programs that tests start inherit ignored signals, and a background job of a script ignores SIGINT: have it handled here.

    A handled signal has its default action again in a started program.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """trial's ``mktemp`` makes its files in the working directory, which is not to be the checkout."""
    checkout = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("trial"))
    yield
    os.chdir(checkout)


@pytest.fixture(autouse=True)
def idle_reactor() -> Iterator[None]:
    """A test in memory leaves no call in the real reactor, where it would come in the middle of a later test.

    Those that use it on purpose are trial's ``TestCase``, which looks for itself.
    """
    yield
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is not None:
        left = {call: str(call) for call in reactor.getDelayedCalls()}
        for call in left:
            call.cancel()
        assert not left, f"calls left in the reactor: {list(left.values())}"


#: Tests that take a second or more in memory.
SLOW = {
    "test_random_histories",
    "test_random_scripts",
    "test_random_heads",
    "test_defaults",
    "test_small_frames_allowed",
    "test_compression",
    "test_far_behind",
    "test_whatever_sockets_take",
    "test_wheel",
    "test_editable",
    "test_types",
    "test_every_field_of_every_command",
    "test_sample_says_the_defaults",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what opens sockets, starts PostgreSQL or is slow, so that the rest takes seconds (``CONTRIBUTING.rst``)."""
    for item in items:
        if item.path.name.startswith("test_live_"):
            item.add_marker(pytest.mark.live)
        if "postgresql" in item.path.name:
            item.add_marker(pytest.mark.postgresql)
        if item.name in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Name a directory for the results of long runs to all processes of pytest-xdist."""
    node.workerinput["long_runs"] = str(results_directory(node.config))


def results_directory(config: pytest.Config) -> Path:
    """The directory for the results of long runs; this process makes and removes it, unless pytest-xdist's main process does."""
    if hasattr(config, "workerinput"):
        return Path(config.workerinput["long_runs"])
    if RESULTS not in config.stash:
        config.stash[RESULTS] = Path(tempfile.mkdtemp())
    return config.stash[RESULTS]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin what takes a minute and mostly waits, if it is to be run at all (``long_runs`` of a test case).

    With several processes (pytest-xdist) the first one runs it, before any of them begins with its tests.
    """
    config = session.config
    runs = [
        item.cls.long_runs[item.name]
        for item in session.items
        if isinstance(item, pytest.Function) and item.name in getattr(item.cls, "long_runs", {})
    ]
    if runs and not config.option.collectonly:
        queue = config.stash[LONG_RUNS] = LongRuns(results_directory(config))
        for run in runs:
            run.queue = queue
        if getattr(config, "workerinput", {}).get("workerid", "gw0") == "gw0":
            queue.start(runs)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Nothing goes on behind the tests; the first of several processes ends when the others have what they need."""
    config = session.config
    queue = config.stash.get(LONG_RUNS, None)
    if queue is not None:
        if hasattr(config, "workerinput") and exitstatus != pytest.ExitCode.INTERRUPTED:
            queue.wait()
        queue.stop()
    if RESULTS in config.stash:
        shutil.rmtree(config.stash[RESULTS])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if CI:
        forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if CI:
        forbid_skip(report)
    return report


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of a skip for a missing part."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if NOT_APPLICABLE not in reason:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and nothing may be missing here: {reason}"
