"""How much work something is, in numbers that no machine changes: the bytecode instructions that Python runs for it.

A loop over everything that there is shows in this number also where it calls nothing.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

#: One of the tools that ``sys.monitoring`` leaves to everybody.
TOOL = 4


def instructions(work: Callable[[], object], package: str = "") -> int:
    """The bytecode instructions that ``work`` takes, in all that it calls; with a package only those of its files."""
    monitoring: Any = getattr(sys, "monitoring", None)
    return _traced(work, package) if monitoring is None else _monitored(monitoring, work, package)


def _monitored(monitoring: Any, work: Callable[[], object], package: str) -> int:
    """From Python 3.12 on, where tracing counts no instructions of frames that were entered before it was asked to."""
    count = 0

    def executed(code: CodeType, offset: int) -> Any:
        nonlocal count
        if package not in code.co_filename:
            return monitoring.DISABLE
        count += 1
        return None

    monitoring.use_tool_id(TOOL, "instructions")
    try:
        monitoring.register_callback(TOOL, monitoring.events.INSTRUCTION, executed)
        monitoring.restart_events()
        monitoring.set_events(TOOL, monitoring.events.INSTRUCTION)
        work()
    finally:
        monitoring.set_events(TOOL, 0)
        monitoring.register_callback(TOOL, monitoring.events.INSTRUCTION, None)
        monitoring.free_tool_id(TOOL)
    return count


def _traced(work: Callable[[], object], package: str) -> int:
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            count += 1
        return trace

    def enter(frame: FrameType, event: str, arg: Any) -> Any:
        return trace(frame, event, arg) if package in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@contextmanager
def garbage() -> Iterator[list[str]]:
    """The types of what was made or dropped inside and only the garbage collector frees; filled at the end."""
    found: list[str] = []
    # What other tests have left may need several: freeing some of it makes garbage of the rest.
    while gc.collect():
        pass
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += sorted(type(each).__name__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
