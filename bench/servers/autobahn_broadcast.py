"""Autobahn under Twisted as its broadcast example does it: one prepared message for all.

python autobahn_broadcast.py PORT [CERTIFICATE KEY]
"""

import sys
from collections import defaultdict
from pathlib import Path

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor, ssl
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint


class BroadcastProtocol(WebSocketServerProtocol):
    room: "set[BroadcastProtocol] | None" = None

    def onOpen(self):
        self.room = self.factory.rooms[self.http_request_path]
        self.room.add(self)

    def onMessage(self, payload, isBinary):
        prepared = self.factory.prepareMessage(payload, isBinary)
        for client in self.room:
            client.sendPreparedMessage(prepared)

    def connectionLost(self, reason):
        if self.room is not None:
            self.room.discard(self)
        super().connectionLost(reason)


def main(port, files):
    factory = WebSocketServerFactory()
    factory.protocol = BroadcastProtocol
    factory.rooms = defaultdict(set)
    if files:
        pair = ssl.PrivateCertificate.loadPEM(b"".join(Path(name).read_bytes() for name in files))
        endpoint = SSL4ServerEndpoint(reactor, port, pair.options(), 1024, "127.0.0.1")
    else:
        endpoint = TCP4ServerEndpoint(reactor, port, 1024, "127.0.0.1")
    endpoint.listen(factory).addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))
    reactor.run()


main(int(sys.argv[1]), sys.argv[2:])
