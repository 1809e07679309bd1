"""What a worker writes down, a line each, in a file that outlives it.

``a 7``: number 7 was accepted; ``k 7 1041``: it was acknowledged as event 1041; ``e 1041 ID w1 7``: event 1041 with that id was read,
and it is number 7 of writer w1.  A line is with the operating system before anything else happens.
"""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct


class Seen(Struct, frozen=True, order=True):
    """One event as a reader saw it."""

    seq: int
    id: str
    writer: str
    number: int


class Record:
    """One worker's file; an earlier run's lines are read."""

    def __init__(self, path: str | Path) -> None:
        self.accepted: list[int] = []
        self.acknowledged: dict[int, int] = {}
        self.doubly_acknowledged: list[int] = []
        self.seen: list[Seen] = []
        if os.path.exists(path):
            for line in Path(path).read_bytes().decode().split("\n")[:-1]:
                self._take(line.split(" "))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def _take(self, words: list[str]) -> None:
        match words:
            case ["a", number]:
                self.accepted.append(int(number))
            case ["k", number, seq]:
                if self.acknowledged.setdefault(int(number), int(seq)) != int(seq):
                    self.doubly_acknowledged.append(int(number))
            case ["e", seq, id, writer, number]:
                self.seen.append(Seen(int(seq), id, writer, int(number)))
            case _:
                raise AssertionError(words)

    def _write(self, line: str) -> None:
        os.write(self._file, line.encode() + b"\n")

    def accept(self, number: int) -> None:
        self._write(f"a {number}")

    def acknowledge(self, number: int, seq: int) -> None:
        self._write(f"k {number} {seq}")

    def see(self, seq: int, id: str, text: str) -> None:
        writer, _, number = text.partition(":")
        self._write(f"e {seq} {id} {writer} {number}")

    def close(self) -> None:
        os.close(self._file)
