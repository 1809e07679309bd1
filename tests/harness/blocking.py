"""A proxy that lets HTTP through and WebSockets not, as some networks do; ``python -m tests.harness.blocking PORT MODE``.

It prints its port.  A line on its input is a new mode, or ``cut`` to reset all connections; each is answered with a line: how many
WebSockets have been tried since the line before.  :class:`BlockingProxy` runs it for a test.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import cast

from twisted.internet import reactor as any_reactor
from twisted.internet.interfaces import IReactorTCP, ITCPTransport
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from tests.harness.network import Network
from tests.harness.serving import ROOT, environment

#: The mode in which WebSockets come through; the others are 403, 502, and those of ``tests.harness.network``.
OPEN = "open"
#: The modes that have another name there.
_BLOCK = {OPEN: "", "403": "403 Forbidden", "502": "502 Bad Gateway"}


def block_of(mode: str) -> str:
    """A mode as :attr:`Network.block <tests.harness.network.Network.block>` has it."""
    return _BLOCK.get(mode, mode)


class Behind(Protocol):
    """The connection to the server."""

    transport: ITCPTransport

    def __init__(self, before: Before) -> None:
        self.before = before

    def connectionMade(self) -> None:
        self.before.reached(self)

    def dataReceived(self, data: bytes) -> None:
        self.before.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.before.transport.loseConnection()


class Before(Protocol):
    """The server's side of a connection of a browser: passes everything on to the server, once there is something."""

    transport: ITCPTransport

    def __init__(self, reactor: IReactorTCP, port: int) -> None:
        self._reactor = reactor
        self._port = port
        self._behind: Behind | None = None
        self._waiting = b""
        self._connecting = False

    def dataReceived(self, data: bytes) -> None:
        if self._behind is not None:
            self._behind.transport.write(data)
            return
        self._waiting += data
        if not self._connecting:
            self._connecting = True
            self._reactor.connectTCP("127.0.0.1", self._port, Way(self))

    def reached(self, behind: Behind) -> None:
        self._behind = behind
        behind.transport.write(self._waiting)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._behind is not None:
            self._behind.transport.loseConnection()


class Way(ClientFactory):
    """Connects one browser's connection with the server."""

    noisy = False

    def __init__(self, before: Before) -> None:
        self.before = before

    def buildProtocol(self, addr: object) -> Behind:
        return Behind(self.before)

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self.before.transport.loseConnection()


class Server(Factory):
    """The server at that port, for :class:`~tests.harness.network.Network`."""

    def __init__(self, reactor: IReactorTCP, port: int) -> None:
        self.reactor = reactor
        self.port = port

    def buildProtocol(self, addr: object) -> Before:
        return Before(self.reactor, self.port)


class Orders(LineReceiver):
    """What the test wants."""

    delimiter = b"\n"

    def __init__(self, network: Network) -> None:
        self.network = network

    def lineReceived(self, line: bytes) -> None:
        if line == b"cut":
            for between in list(self.network.open):
                between.abortConnection()
        elif line:
            self.network.block = block_of(line.decode())
        self.sendLine(b"%d" % self.network.tried)
        self.network.tried = 0


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
    server = Server(reactor, int(port))
    network = Network(lambda: server, block_of(mode))
    print(reactor.listenTCP(0, network, interface="127.0.0.1").getHost().port, flush=True)  # type: ignore[arg-type, attr-defined]
    StandardIO(Orders(network))
    any_reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
