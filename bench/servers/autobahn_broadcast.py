"""Autobahn under Twisted as its broadcast example does it: one prepared message for all.

python autobahn_broadcast.py PORT [CERTIFICATE KEY]
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.task import react
from twisted.python.failure import Failure

BACKLOG = 1024


class BroadcastFactory(WebSocketServerFactory):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.protocol = BroadcastProtocol
        self.rooms: defaultdict[str, set[BroadcastProtocol]] = defaultdict(set)


class BroadcastProtocol(WebSocketServerProtocol):
    factory: BroadcastFactory
    room: set[BroadcastProtocol] | None = None

    def onOpen(self) -> None:
        self.room = self.factory.rooms[self.http_request_path]
        self.room.add(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        prepared = self.factory.prepareMessage(payload, isBinary)
        for client in self.room or ():
            client.sendPreparedMessage(prepared)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.room is not None:
            self.room.discard(self)
        super().connectionLost(reason)


def main(reactor: Any, port: str, *files: str) -> Deferred[None]:
    endpoint: IStreamServerEndpoint
    if files:
        pair = ssl.PrivateCertificate.loadPEM(b"".join(Path(name).read_bytes() for name in files))
        endpoint = SSL4ServerEndpoint(reactor, int(port), pair.options(), BACKLOG, "127.0.0.1")
    else:
        endpoint = TCP4ServerEndpoint(reactor, int(port), BACKLOG, "127.0.0.1")
    forever: Deferred[None] = Deferred()
    listening: Deferred[object] = endpoint.listen(BroadcastFactory())  # type: ignore[no-untyped-call]
    listening.addErrback(forever.errback)
    return forever


react(main, sys.argv[1:])
