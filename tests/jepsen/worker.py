"""A program with the project's client, that may be killed at any moment: ``python -m tests.jepsen.worker KIND NAME URL DIRECTORY``.

``writer`` sends numbered messages, as many at once as are not acknowledged yet, until there is a file ``quiet`` in the directory;
``reader`` writes down what it reads; both remember only what is in their files.
"""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from tests.jepsen.record import Record
from twisted_chat.client import ChatClient, ClientRoom, Cursor, MemberChanged, Message, Reset, RoomChanged, Sanctioned

ROOM = "jepsen"
#: Messages of one writer that are not acknowledged.
AT_ONCE = 20
#: Seconds between two looks whether more may be sent.
BEAT = 0.05
#: Seconds beyond the ping interval: short, because a run is short.
PATIENCE = 1.5
#: Seconds: the faults come so thick that half a minute of waiting would miss most of them.
LONGEST_WAIT = 1.0
#: Those that go by HTTP; the others take the way that they find.
BY_HTTP = {"w2", "r2"}


log = Logger()


class Writer:
    """Sends ``name:1``, ``name:2``, …; the number is the key, so that one sent before the end of the last run is not doubled."""

    def __init__(self, name: str, room: ClientRoom, record: Record, quiet: Path) -> None:
        self.name = name
        self.room = room
        self.record = record
        self.quiet = quiet
        self.next = max(record.accepted, default=0) + 1
        self.waiting = 0
        for number in sorted(set(record.accepted) - set(record.acknowledged)):
            self.send(number)

    def send(self, number: int) -> None:
        sent: Deferred[Message] = self.room.send(f"{self.name}:{number}", key=f"{self.name}-{number}")
        self.waiting += 1
        sent.addCallback(self.acknowledged, number)

    def acknowledged(self, event: Message, number: int) -> None:
        self.waiting -= 1
        self.record.acknowledge(number, event.seq)

    def beat(self) -> None:
        if self.quiet.exists():
            return
        while self.waiting < AT_ONCE:
            self.send(self.next)
            # From here on it must be in the log, whatever becomes of us.
            self.record.accept(self.next)
            self.next += 1


def read(room: ClientRoom, record: Record) -> None:
    """Write down everything."""
    room.on(Message, lambda event: record.see(event.seq, event.id, event.text or ""))
    # What is no message counts as one of nobody, with its own number.
    for kind in (MemberChanged, RoomChanged, Sanctioned):
        room.on(kind, lambda event: record.see(event.seq, event.id, f"~:{event.seq}"))
    room.on(Reset, lambda reset: record.see(0, reset.why, "reset:0"))


def main(kind: str, name: str, url: str, directory: str) -> None:
    time: IReactorTime = reactor
    core: IReactorCore = reactor
    here = Path(directory)
    observer = textFileLogObserver(open(here / f"{name}.log", "a"))  # noqa: SIM115
    warnings = FilteringLogObserver(observer, [LogLevelFilterPredicate(LogLevel.warn)])
    globalLogBeginner.beginLoggingTo([warnings], redirectStandardIO=False)
    record = Record(here / f"{name}.record")
    journal = str(here / f"{name}.journal") if kind == "writer" else None
    client = ChatClient(
        time,
        url,
        name=name,
        device=f"device-of-{name}",
        journal=journal,
        queue=AT_ONCE * 3,
        connect_seconds=3.0,
        patience=PATIENCE,
        longest_wait=LONGEST_WAIT,
        transport="http" if name in BY_HTTP else "auto",
    )
    if kind == "writer":
        writer = Writer(name, client.room(ROOM), record, here / "quiet")
        LoopingCall(writer.beat).start(BEAT).addErrback(lambda failure: log.failure("The writer failed", failure))
    else:
        last = max(record.seen, default=None)
        epoch = (here / f"{name}.epoch").read_text() if last is not None else ""
        room = client.room(ROOM, history=None, since=None if last is None else Cursor(epoch, last.seq, last.id))

        def remember_epoch(_: object) -> None:
            assert room.cursor is not None
            (here / f"{name}.epoch").write_text(room.cursor.epoch)

        room.when_joined().addCallback(remember_epoch)
        read(room, record)
    core.callWhenRunning(client.startService)
    core.addSystemEventTrigger("before", "shutdown", client.stopService)
    core.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
