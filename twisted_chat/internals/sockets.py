"""Write to a connection's socket directly, past the buffers of Twisted's transport.

In:   a transport (TCP, UNIX, TLS, or anything else that Twisted writes to).
Out:  an :class:`Output`: ``send(data) -> bytes taken``, and how much of what was taken is still unsent.

``transport.write`` on an idle socket costs three system calls: arm epoll, send, disarm epoll; and TLS collects for a turn before
that: 35 us for each connection.  With nothing buffered, :class:`TcpOutput` sends at once, and :class:`TlsOutput` encrypts and
sends at once: 17 us.

Attributes of Twisted used here, each pinned by ``tests/test_internals_sockets.py``:

==============================  ==============================================================================================
``Connection.TLS``              false on a socket without TLS; writing to one with TLS directly would send plain text
``Connection.dataBuffer``       bytes that wait, with ``_tempDataBuffer``; nothing may be sent past them
``Connection._tempDataBuffer``  see ``dataBuffer``
``Connection._tempDataLen``     size of ``_tempDataBuffer``
``Connection.offset``           how much of ``dataBuffer`` has been sent
``Connection.producer``         the producer to pause while bytes wait
``Connection.producerPaused``   when true, the producer is resumed as soon as the last byte has been sent
``_tlsConnection``              of ``BufferingTLSTransport``: encrypts
``_aggregator``                 of ``BufferingTLSTransport``: clear text of this turn, in its ``_buffer``
``_appSendBuffer``              of ``BufferingTLSTransport``: clear text that OpenSSL did not take
``_lostTLSConnection``          of ``BufferingTLSTransport``: the TLS session has ended
``_write``                      of ``BufferingTLSTransport``: encrypts what OpenSSL did not take at first
==============================  ==============================================================================================

A transport that lacks one of them gets a :class:`BufferedOutput`, which uses ``transport.write`` only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from OpenSSL.SSL import Error, WantReadError
from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.protocols.tls import BufferingTLSTransport

from twisted_chat.internals.availability import missing_names

#: Attributes of :class:`twisted.internet.tcp.Connection`.
TCP_NAMES = ("TLS", "dataBuffer", "_tempDataBuffer", "_tempDataLen", "offset", "producer", "producerPaused")
#: Attributes of :class:`twisted.protocols.tls.BufferingTLSTransport`.
TLS_NAMES = ("_tlsConnection", "_aggregator", "_appSendBuffer", "_lostTLSConnection", "_write")
#: What is done where one of them is missing.
FALLBACK = "writing through the transport, which is slower"

#: Bytes of one TLS record at most (RFC 8446 section 5.1); pyOpenSSL writes one at a time.
RECORD_BYTES = 16_384
#: What header, padding and authentication add to a record, generously.
RECORD_OVERHEAD = 256
#: Bytes encrypted before the socket is asked; what it does not take is kept encrypted, so this bounds what a connection holds.
SLICE_BYTES = 65_536


class Output(Protocol):
    """The way out of one transport.

    :ivar send: gives bytes to the socket and returns how many it took; raises ``BlockingIOError`` if none, ``OSError`` if it is
        broken.  May be called only while nothing is unsent.
    """

    @property
    def send(self) -> Callable[[bytes], int]: ...

    def has_unsent(self) -> bool:
        """Whether bytes that others wrote to the transport are still unsent, so that ``send`` would overtake them."""

    def unsent(self) -> int | None:
        """Bytes that wait in the transport; None if the transport does not say."""

    def write_rest(self, rest: bytes) -> None:
        """Send what ``send`` did not take as soon as possible; the transport's producer is resumed when all of it is sent."""


def open_output(transport: Any) -> Output:
    """The fastest way out that this transport has."""
    if _is_tcp(transport):
        return TcpOutput(transport)
    if isinstance(transport, BufferingTLSTransport) and _is_tcp(transport.transport) and not missing_names(transport, TLS_NAMES):
        return TlsOutput(transport)
    return BufferedOutput(transport)


def check() -> list[str]:
    """The attributes that the installed Twisted lacks, as far as they can be seen without a connection."""
    # Most are made with the object, which needs no socket for that; TLS makes the others while it connects.
    descriptor = FileDescriptor(reactor=object())  # type: ignore[arg-type]
    return [
        *missing_names(tcp.Connection, ("TLS",)),
        *missing_names(descriptor, TCP_NAMES[1:]),
        *missing_names(BufferingTLSTransport, ("_lostTLSConnection", "_write")),
    ]


class BufferedOutput:
    """Any transport: it buffers by itself and pauses its producer when it has too much."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def send(self, data: bytes) -> int:
        self._transport.write(data)
        return len(data)

    def has_unsent(self) -> bool:
        return False

    def unsent(self) -> int | None:
        return None

    def write_rest(self, rest: bytes) -> None:
        raise AssertionError(f"a buffering transport takes everything, and yet {len(rest)} bytes are left")


class TcpOutput:
    """A TCP or UNIX socket without TLS; ``send`` is the socket's own."""

    __slots__ = ("_transport", "send")

    send: Callable[[bytes], int]

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.send = transport.getHandle().send

    def has_unsent(self) -> bool:
        transport = self._transport
        return bool(transport.dataBuffer or transport._tempDataBuffer)

    def unsent(self) -> int | None:
        return _unsent_of_tcp(self._transport)

    def write_rest(self, rest: bytes) -> None:
        self._transport.write(rest)
        # Twisted resumes only a producer that it has paused, which it does above bufferSize.
        self._transport.producerPaused = True


class TlsOutput:
    """TLS on a TCP socket.

    What ``send`` takes is encrypted and cannot be taken back, so it takes whole slices.  What the socket does not take of them
    waits, encrypted, in the TCP transport's buffer, and the producer is paused.
    """

    __slots__ = ("_socket", "_tcp", "_tls")

    def __init__(self, transport: Any) -> None:
        self._tls = transport
        self._tcp = transport.transport
        self._socket = self._tcp.getHandle()

    def send(self, data: bytes) -> int:
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
            self._send_slice(data)
            return size
        for start in range(0, size, SLICE_BYTES):
            if not self._send_slice(data[start : start + SLICE_BYTES]):
                return min(size, start + SLICE_BYTES)
        return size

    def has_unsent(self) -> bool:
        return False  # send itself goes behind what waits

    def unsent(self) -> int | None:
        tls = self._tls
        if tls._lostTLSConnection:
            return 0
        return sum(map(len, tls._aggregator._buffer)) + sum(map(len, tls._appSendBuffer)) + _unsent_of_tcp(self._tcp)

    def write_rest(self, rest: bytes) -> None:
        # Behind the slices that wait in the TCP transport's buffer, whose producer is paused already.
        self._tls.write(rest)

    def _send_slice(self, data: bytes) -> bool:
        """Encrypt and send; whether the socket took all of it."""
        connection = self._tls._tlsConnection
        encrypted = []
        for start in range(0, len(data), RECORD_BYTES):
            record = data[start : start + RECORD_BYTES]
            try:
                connection.send(record)
                encrypted.append(connection.bio_read(len(record) + RECORD_OVERHEAD))
            except (WantReadError, Error):
                # OpenSSL has to read first, or has failed: Twisted handles both, behind what is encrypted already.
                self._send_encrypted(b"".join(encrypted))
                self._tls._write(data[start:])
                return False
        return self._send_encrypted(b"".join(encrypted))

    def _send_encrypted(self, encrypted: bytes) -> bool:
        try:
            taken = self._socket.send(encrypted)
        except BlockingIOError:
            taken = 0
        except OSError:
            return True  # the reactor is about to report that the connection is lost
        if taken == len(encrypted):
            return True
        self._tcp.write(encrypted[taken:])
        self._pause_producer()
        return False

    def _pause_producer(self) -> None:
        """As if the transport's buffer were full: its producer is paused, and resumed when the buffer is empty."""
        below = self._tcp
        if below.producer is not None:
            below.producerPaused = True
            below.producer.pauseProducing()


def _is_tcp(transport: object) -> bool:
    """Whether this is a socket without TLS of its own, with all the attributes used here."""
    return isinstance(transport, tcp.Connection) and not missing_names(transport, TCP_NAMES) and not transport.TLS


def _unsent_of_tcp(transport: Any) -> int:
    return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)
