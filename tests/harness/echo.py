"""The whole server with an echo instead of the chat: ``python -m tests.harness.echo [--compression]`` prints its port and serves.

For suites that want their messages back; everything below the session is as it is in the chat.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

from twisted_chat.interfaces import Admission
from twisted_chat.protocol.frames import DEFLATE_WINDOW_BITS, FIN_BINARY, FIN_TEXT, frame
from twisted_chat.server.build import build
from twisted_chat.server.config import Settings
from twisted_chat.websocket.connection import WebSocketLink

#: "This message is compressed."
RSV1 = 0x40


class EchoSession:
    """Sends back what comes, compressed where that was agreed on (kosoku takes no others then)."""

    def __init__(self, connection: WebSocketLink, admission: Admission) -> None:
        self.connection = connection

    def received(self, texts: Sequence[bytes]) -> None:
        self.connection.write(b"".join([self._frame(FIN_TEXT, text) for text in texts]))

    def received_binary(self, data: bytes) -> None:
        self.connection.write(self._frame(FIN_BINARY, data))

    def _frame(self, first_byte: int, payload: bytes) -> bytes:
        return frame(first_byte | RSV1, deflated(payload)) if self.connection.deflated else frame(first_byte, payload)

    def heard(self) -> None: ...

    def congested(self) -> None: ...

    def drained(self) -> None: ...

    def lost(self) -> None: ...


def deflated(payload: bytes) -> bytes:
    """RFC 7692 section 7.2.1, forgetting everything after the message."""
    deflate = zlib.compressobj(wbits=-DEFLATE_WINDOW_BITS)
    return (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


def main(reactor: IReactorCore, *arguments: str) -> Deferred[None]:
    async def serve() -> None:
        chat = await build(reactor, Settings(compression="--compression" in arguments), "memory:", loopback=True)
        chat.sockets.open_session = EchoSession
        port = reactor.listenTCP(0, chat.site, interface="127.0.0.1")  # type: ignore[attr-defined]
        print(port.getHost().port, flush=True)
        await Deferred()

    return ensureDeferred(serve())


if __name__ == "__main__":
    react(main, sys.argv[1:])
