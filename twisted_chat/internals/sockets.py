"""Sending through TLS without waiting for the next turn, past two of Twisted's three buffers (traps: "Bytes out").

``BufferingTLSTransport.write`` collects until the next turn (a delayed call per member), then encrypts into the TCP transport's
buffer, which arms epoll, is told that the socket takes bytes, sends, and disarms epoll: 35 us a member.  When nothing waits in
any of the buffers this encrypts and sends at once: 17 us.

What is touched of Twisted, each pinned by ``tests/test_websocket_tls.py``: ``TLSMemoryBIOProtocol._tlsConnection``, ``_appSendBuffer`` and
``_lostTLSConnection``, ``BufferingTLSTransport._aggregator._buffer``, ``Connection.dataBuffer``, ``_tempDataBuffer``, ``producer`` and
``producerPaused``.
"""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import Error, WantReadError
from twisted.internet import tcp
from twisted.protocols.tls import BufferingTLSTransport

#: Bytes of one TLS record at most (RFC 8446 section 5.1); pyOpenSSL writes one at a time.
RECORD_BYTES = 16_384
#: What header, padding and authentication add to a record, generously.
RECORD_OVERHEAD = 256
#: Bytes encrypted before the socket is asked; what it does not take is kept encrypted, so this bounds what a connection holds.
SLICE_BYTES = 65_536


def is_direct(transport: object) -> bool:
    """Whether this is TLS straight on a socket."""
    return isinstance(transport, BufferingTLSTransport) and isinstance(transport.transport, tcp.Connection)


class TlsSend:
    """The ``send`` of one TLS connection (:data:`twisted_chat.core.connection.Send`).

    What it takes is encrypted and cannot be taken back, so it answers with whole slices, and keeps of them what the socket did
    not take in the TCP transport's buffer, whose producer it pauses.
    """

    __slots__ = ("_socket", "_tcp", "_tls")

    def __init__(self, transport: Any) -> None:
        self._tls = transport
        self._tcp = transport.transport
        self._socket = self._tcp.getHandle()

    def __call__(self, data: bytes) -> int:
        tls, below = self._tls, self._tcp
        if (
            tls._lostTLSConnection
            or tls.disconnecting
            or tls._aggregator._buffer
            or tls._appSendBuffer
            or below.dataBuffer
            or below._tempDataBuffer
        ):
            # Something waits already, and this goes behind it.
            tls.write(data)
            return len(data)
        size = len(data)
        if size <= RECORD_BYTES:
            self._slice(data)
            return size
        for start in range(0, size, SLICE_BYTES):
            if not self._slice(data[start : start + SLICE_BYTES]):
                return min(size, start + SLICE_BYTES)
        return size

    def _slice(self, data: bytes) -> bool:
        """Encrypt and send; whether the socket took all of it."""
        connection = self._tls._tlsConnection
        encrypted = []
        for start in range(0, len(data), RECORD_BYTES):
            record = data[start : start + RECORD_BYTES]
            try:
                connection.send(record)
                encrypted.append(connection.bio_read(len(record) + RECORD_OVERHEAD))
            except (WantReadError, Error):
                # OpenSSL wants to talk first, or is at its end: Twisted knows what to do, behind what is encrypted already.
                self._below(b"".join(encrypted))
                self._tls._write(data[start:])
                return False
        return self._below(b"".join(encrypted))

    def _below(self, encrypted: bytes) -> bool:
        try:
            taken = self._socket.send(encrypted)
        except BlockingIOError:
            taken = 0
        except OSError:
            return True  # the reactor is about to say so
        if taken == len(encrypted):
            return True
        self._tcp.write(encrypted[taken:])
        self.pause_producer()
        return False

    def pause_producer(self) -> None:
        """As if the transport's buffer were full: its producer is paused, and resumed when the buffer is empty."""
        below = self._tcp
        if below.producer is not None:
            below.producerPaused = True
            below.producer.pauseProducing()

    def unsent(self) -> int:
        """Encrypted bytes in the TCP transport's buffer, and others that wait above it."""
        tls, below = self._tls, self._tcp
        if tls._lostTLSConnection:
            return 0
        above = sum(map(len, tls._aggregator._buffer)) + sum(map(len, tls._appSendBuffer))
        return int(above + len(below.dataBuffer) - below.offset + below._tempDataLen)
