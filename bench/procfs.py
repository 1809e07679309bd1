"""What Linux says about a process and its descendants: CPU time and memory."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
_TICK = 1 / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """The process and all of its descendants that live."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, open_ends = [], [pid]
    while open_ends:
        found.append(open_ends.pop())
        open_ends += children.get(found[-1], [])
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of all their threads, and of children they have waited for."""
    return sum(sum(map(int, fields[11:15])) for pid in pids if (fields := _stat(pid))) * _TICK


def busy_seconds() -> float:
    """Time that all processors together have worked, for whomever."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, (PROC / "stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + irq + softirq + steal) * _TICK


def resident_bytes(pids: list[int]) -> int:
    """Memory now (``VmRSS``)."""
    return sum(_status(pid, "VmRSS") for pid in pids)


def peak_bytes(pids: list[int]) -> int:
    """The most memory there ever was (``VmHWM``); summed, so too much if several had their peaks at different times."""
    return sum(_status(pid, "VmHWM") for pid in pids)


def _stat(pid: int) -> list[str] | None:
    """The fields of ``/proc/PID/stat`` from the third on; the second may hold anything between parentheses."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def _status(pid: int, name: str) -> int:
    try:
        lines = (PROC / str(pid) / "status").read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
