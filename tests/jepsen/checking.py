"""What must hold after everything: values in, a list of what is wrong out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.jepsen.record import Record, Seen


def check(log: Sequence[Seen], writers: Mapping[str, Record], readers: Mapping[str, Record]) -> list[str]:
    """Compare the log, as it is in the end, with what everybody wrote down.

    :param log: all of it, in its order.
    """
    wrong: list[str] = []
    if [seen.seq for seen in log] != list(range(1, len(log) + 1)):
        wrong.append("the numbers of the log are not 1, 2, 3 … without holes")
    places: dict[tuple[str, int], int] = {}
    highest: dict[str, int] = {}
    for seen in log:
        message = seen.writer, seen.number
        if message in places:
            wrong.append(f"doubled: {seen.writer}:{seen.number} is at {places[message]} and at {seen.seq}")
            continue
        places[message] = seen.seq
        if seen.number <= highest.get(seen.writer, 0):
            wrong.append(f"out of order: {seen.writer}:{seen.number} is behind {highest[seen.writer]}")
        highest[seen.writer] = max(seen.number, highest.get(seen.writer, 0))
    for name, record in writers.items():
        wrong += _check_writer(name, record, places)
    for name, record in readers.items():
        wrong += _check_reader(name, record, log)
    return wrong


def _check_writer(name: str, record: Record, places: Mapping[tuple[str, int], int]) -> list[str]:
    wrong = [f"acknowledged twice, differently: {name}:{number}" for number in record.doubly_acknowledged]
    for number, seq in record.acknowledged.items():
        place = places.get((name, number))
        if place is None:
            wrong.append(f"lost: {name}:{number} was acknowledged as {seq} and is not in the log")
        elif place != seq:
            wrong.append(f"elsewhere: {name}:{number} was acknowledged as {seq} and is at {place}")
    for number in set(record.accepted) - set(record.acknowledged):
        where = "is not in the log" if (name, number) not in places else "was never acknowledged"
        wrong.append(f"unfinished: {name}:{number} was accepted and {where}")
    return wrong


def _check_reader(name: str, record: Record, log: Sequence[Seen]) -> list[str]:
    seen = record.seen
    if seen == list(log):
        return []
    for place, (found, expected) in enumerate(zip(seen, log, strict=False)):
        if found != expected:
            return [f"another order: {name} saw {found} at place {place}, where the log has {expected}"]
    return [f"another length: {name} saw {len(seen)} events, the log has {len(log)}"]
