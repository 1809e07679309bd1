"""A proxy that lets HTTP through and WebSockets not, as some networks do; ``python -m tests.harness.blocking PORT MODE``.

It prints its port.  A line on its input is a new mode, or ``cut`` to reset all connections; each is answered with a line: how many
WebSockets have been tried since the line before.  :class:`BlockingProxy` runs it for a test.
"""

from __future__ import annotations

import re
import subprocess
import sys
from types import TracebackType
from typing import cast

from twisted.internet import reactor as any_reactor
from twisted.internet.interfaces import IReactorTCP, ITCPTransport
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from tests.harness.serving import ROOT, environment

#: What becomes of a WebSocket's handshake.
BLOCKS = ("403", "502", "stripped", "hangs", "silent")
OPEN = "open"
_END = b"\r\n\r\n"
_ANSWERS = {
    "403": b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 7\r\nConnection: close\r\n\r\n<p>no\r\n",
    "502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
}
_UPGRADE = re.compile(rb"(?im)^upgrade:.*\r\n|^connection:.*upgrade.*\r\n")


class Behind(Protocol):
    """The side of the server."""

    transport: ITCPTransport

    def __init__(self, before: Before) -> None:
        self.before = before

    def connectionMade(self) -> None:
        self.before.reached(self)

    def dataReceived(self, data: bytes) -> None:
        self.before.answered(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.before.transport.loseConnection()


class Before(Protocol):
    """The side of the browser."""

    transport: ITCPTransport

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.behind: Behind | None = None
        self.mode = OPEN
        self.head = b""
        self.begun = False
        self.waiting = b""
        self.deaf = False

    def connectionMade(self) -> None:
        self.proxy.open.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.proxy.open.discard(self)
        if self.behind is not None:
            self.behind.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if self.begun:
            self._forward(data)
            return
        self.head += data
        if _END in self.head:
            self.begun = True
            self._begin(self.head)

    def reached(self, behind: Behind) -> None:
        self.behind = behind
        behind.transport.write(self.waiting)

    def answered(self, data: bytes) -> None:
        if self.mode == "silent":
            # The 101 comes through, and nothing behind it.
            head, end, _ = data.partition(_END)
            data = b"" if self.deaf else head + end
            self.deaf = self.deaf or bool(end)
        self.transport.write(data)

    def _begin(self, head: bytes) -> None:
        if re.search(rb"(?im)^upgrade: *websocket", head):
            self.proxy.tried += 1
            self.mode = self.proxy.mode
        if self.mode in _ANSWERS:
            self.transport.write(_ANSWERS[self.mode])
            self.transport.loseConnection()
        elif self.mode != "hangs":
            self.waiting = _UPGRADE.sub(b"", head) if self.mode == "stripped" else head
            self.proxy.connect(self)

    def _forward(self, data: bytes) -> None:
        if self.mode == "hangs" or self.deaf:
            return
        if self.behind is None:
            self.waiting += data
        else:
            self.behind.transport.write(data)


class Way(ClientFactory):
    """Connects one browser's connection with the server."""

    def __init__(self, before: Before) -> None:
        self.before = before

    def buildProtocol(self, addr: object) -> Behind:
        return Behind(self.before)

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self.before.transport.loseConnection()


class Proxy(ServerFactory):
    """All connections.

    :ivar tried: WebSockets that were asked for since somebody looked.
    """

    def __init__(self, reactor: IReactorTCP, port: int, mode: str) -> None:
        self.reactor = reactor
        self.port = port
        self.mode = mode
        self.tried = 0
        self.open: set[Before] = set()

    def buildProtocol(self, addr: object) -> Before:
        return Before(self)

    def connect(self, before: Before) -> None:
        self.reactor.connectTCP("127.0.0.1", self.port, Way(before))


class Orders(LineReceiver):
    """What the test wants."""

    delimiter = b"\n"

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def lineReceived(self, line: bytes) -> None:
        if line == b"cut":
            for before in list(self.proxy.open):
                before.transport.abortConnection()
        elif line:
            self.proxy.mode = line.decode()
        self.sendLine(b"%d" % self.proxy.tried)
        self.proxy.tried = 0


class BlockingProxy:
    """The proxy in a process of its own, before the server at that port."""

    def __init__(self, port: int, mode: str) -> None:
        command = [sys.executable, "-m", "tests.harness.blocking", str(port), mode]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.port = self._line()
        self.url = f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> BlockingProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def order(self, order: str = "") -> int:
        """Give an order; how many WebSockets were tried since the last one."""
        assert self._process.stdin is not None
        self._process.stdin.write(order + "\n")
        return self._line()

    def _line(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


def main(port: str, mode: str) -> None:
    reactor = cast(IReactorTCP, any_reactor)
    proxy = Proxy(reactor, int(port), mode)
    print(reactor.listenTCP(0, proxy, interface="127.0.0.1").getHost().port, flush=True)  # type: ignore[attr-defined]
    StandardIO(Orders(proxy))
    any_reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
