"""How much work something is, in numbers that no machine changes: the bytecode instructions that Python runs for it.

A loop over everything that there is shows in this number also where it calls nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def instructions(work: Callable[[], object], package: str = "") -> int:
    """The bytecode instructions that ``work`` takes, in all that it calls; with a package only those of its files."""
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
