"""Broadcast the lines that are added to a file: ``python examples/log_tailer.py FILE [URL] [ROOM]``.

The room should keep nothing (``[rooms."live.*"]`` with ``durable = false`` in the server's configuration): who watches sees the lines,
who is slow misses some, and nothing is stored twice.
"""

import sys

from twisted.internet import defer, reactor, task
from twisted.logger import Logger

from twisted_chat import ChatClient, ClientRoom

log = Logger()


class Tail:
    """Looks at the end of a file; one that was rotated away is opened anew."""

    def __init__(self, path: str, room: ClientRoom) -> None:
        self.path = path
        self.room = room
        self.file = open(path, "rb")  # noqa: SIM115
        self.file.seek(0, 2)
        self.rest = b""

    def look(self) -> None:
        *lines, self.rest = (self.rest + self.file.read()).split(b"\n")
        for line in lines:
            if line:
                self.room.send(line.decode(errors="replace")[:4000]).addErrback(self.dropped)
        try:
            with open(self.path, "rb") as now:
                if now.seek(0, 2) < self.file.tell():
                    self.file.close()
                    self.file, self.rest = open(self.path, "rb"), b""  # noqa: SIM115
        except FileNotFoundError:
            pass  # in the middle of a rotation

    def dropped(self, failure: object) -> None:
        """The network is away for so long that the queue is full: live lines are not worth keeping."""
        log.warn("A line was dropped: {failure}", failure=failure)


async def main(clock: object) -> None:
    path, url, room = [*sys.argv[1:], "ws://127.0.0.1:8080", "live.log"][:3] if len(sys.argv) < 4 else sys.argv[1:4]
    client = ChatClient(reactor, url, name="tail")
    tail = Tail(path, client.room(room))
    client.startService()
    reactor.addSystemEventTrigger("before", "shutdown", client.stopService)
    await task.LoopingCall(tail.look).start(0.2)


if __name__ == "__main__":
    task.react(lambda clock: defer.Deferred.fromCoroutine(main(clock)))
