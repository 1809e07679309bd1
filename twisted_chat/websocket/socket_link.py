"""A connection as a session sees it: bytes to the socket, backpressure in both directions.

In:   bytes from a session or a protocol (:meth:`SocketLink.write`, :attr:`SocketLink.send`), and what Twisted says about the
      transport's buffer.
Out:  bytes to the transport; ``congested()`` and ``drained()`` to the session; whether the transport is read.

Nothing here knows WebSocket.  A subclass adds ``ping`` and ``close``, which each protocol does in its own way, and is then a
:class:`twisted_chat.interfaces.Connection`.

A room calls ``send`` for each member and event, so it is the function of the output itself, without anything around it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum, auto
from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from twisted_chat.internals.sockets import open_output

#: Bytes read at once from a peer that says little, and from one that has shown to say much.  Asking for 64 KiB costs 0.9 us more for
#: a line of 20 bytes, because all of it is allocated first.
FIRST_READ_BYTES = 4_096
MOST_READ_BYTES = 65_536
#: Unsent bytes above which a peer is not read, since the answers to its questions would only add to them.
UNSENT_BYTES = 65_536


class LinkListener(Protocol):
    """What a connection calls: a session."""

    def heard(self) -> None: ...

    def congested(self) -> None: ...

    def drained(self) -> None: ...


class LinkState(Enum):
    """Whether bytes may be written.

    ::

        OPEN --end_output--> ENDED --lost--> LOST
          `--------------lost----------------^
    """

    OPEN = auto()
    ENDED = auto()  #: the protocol's last bytes have been written
    LOST = auto()  #: there is no transport any more


class Unread(IntEnum):
    """Why the transport is not read: bits of :attr:`SocketLink.unread`.  Not an ``IntFlag``, whose operators are Python functions."""

    BY_SESSION = 1  #: the session throttles the peer
    UNSENT = 2  #: the peer takes no answers, so it may ask no more
    UNPROCESSED = 4  #: what has been read already is worked through in parts
    FOR_GOOD = 8  #: the connection ends, and nothing the peer sends is wanted


_OPEN = LinkState.OPEN


@implementer(IPushProducer)
class SocketLink:
    """The link between one transport and one session.

    :ivar send: gives bytes to the socket and returns how many it took (:data:`twisted_chat.interfaces.Send`).
    :ivar session: is told of backpressure; None until it is opened and after the end.
    :ivar read_bytes: bytes that one read takes at most.
    :ivar unread: why the transport is not read, as bits of :class:`Unread`; 0 while it is.
    """

    __slots__ = (
        "_output",
        "_transport",
        "congested",
        "deflated",
        "paused",
        "read_bytes",
        "send",
        "session",
        "state",
        "unread",
    )

    def __init__(self, transport: Any, *, deflated: bool = False) -> None:
        self._transport = transport
        self.unread = 0
        self._output = open_output(transport)
        self.send: Callable[[bytes], int] = self._output.send
        self.session: LinkListener | None = None
        self.state = LinkState.OPEN
        self.congested = False
        self.paused = False
        self.deflated = deflated
        self.read_bytes = transport.bufferSize = FIRST_READ_BYTES
        try:
            # Nagle's algorithm and delayed acknowledgements together add 40 ms.
            transport.setTcpNoDelay(True)
        except (AttributeError, OSError):
            pass  # a UNIX socket
        transport.registerProducer(self, True)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait in the transport; 0 also if it does not say."""
        return self._output.unsent() or 0

    # The session calls

    def write(self, data: bytes) -> None:
        """Send all of ``data``, behind everything that waits.  Does nothing after :meth:`end_output`."""
        if self.state is _OPEN:
            self.write_frame(data)

    def buffer_rest(self, rest: bytes) -> None:
        """Buffer the rest of a frame that the socket took only in part (:meth:`twisted_chat.interfaces.Connection.buffer_rest`)."""
        self._output.write_rest(rest)
        self._congest()

    def pause(self) -> None:
        """Read no more from the peer until :meth:`resume`."""
        self.paused = True
        self.stop_reading(Unread.BY_SESSION)

    def resume(self) -> None:
        """Read again, unless there is another reason not to."""
        self.paused = False
        if self.session is not None:
            self.session.heard()
        self.read_again(Unread.BY_SESSION)

    def end(self) -> None:
        """End after what was sent, which a reset could take from the peer; at once if something waits, because the peer does not read."""
        if self.unsent_bytes:
            self.abort()
        else:
            self._transport.loseConnection()

    def abort(self) -> None:
        """End now, with all that is unsent."""
        self._transport.abortConnection()

    # The protocol calls

    def write_first(self, data: bytes) -> None:
        """Write the first bytes on this transport, behind what an earlier protocol left in its buffer."""
        if self._output.has_unsent():
            self.buffer_rest(data)
        else:
            self.write_frame(data)

    def write_frame(self, data: bytes) -> None:
        """Like :meth:`write`, also after :meth:`end_output`: for what ends the protocol itself."""
        if self.congested:
            self._transport.write(data)
            return
        try:
            taken = self.send(data)
        except BlockingIOError:
            taken = 0
        except OSError:
            return  # the reactor is about to report that the connection is lost
        if taken < len(data):
            self.buffer_rest(data[taken:])

    def end_output(self) -> None:
        """The protocol has written its last bytes: the session can write no more, and rooms do not write here directly."""
        if self.state is _OPEN:
            self.state = LinkState.ENDED
        self.read_again(Unread.BY_SESSION)  # the peer's answer to the end is read even if the session throttled it
        self._congest()

    def lost(self) -> None:
        """The transport is gone; nothing is told to the session after this."""
        self.state = LinkState.LOST
        self.session = None

    def read_more(self) -> None:
        """The peer sends more than one read takes: take more at once from now on."""
        self.read_bytes = self._transport.bufferSize = min(4 * self.read_bytes, MOST_READ_BYTES)

    def stop_reading(self, why: Unread) -> None:
        """Do not read the transport until that reason is gone."""
        if not self.unread:
            self._transport.pauseProducing()
        self.unread |= why

    def read_again(self, why: Unread) -> None:
        """That reason not to read is gone."""
        if self.unread & why:
            self.unread &= ~why
            if not self.unread and self.state is not LinkState.LOST:
                self._transport.resumeProducing()

    # Twisted calls

    def pauseProducing(self) -> None:
        """The transport has more unsent bytes than it wants.  If they are too many, the peer is not read either."""
        unsent = self._output.unsent()
        if unsent is None or unsent > UNSENT_BYTES:
            self.stop_reading(Unread.UNSENT)
        self._congest()

    def resumeProducing(self) -> None:
        """The transport has sent everything."""
        self.read_again(Unread.UNSENT)
        if self.state is _OPEN:
            self.congested = False
            if self.session is not None:
                self.session.drained()

    def stopProducing(self) -> None:
        """The connection is lost; without this method Twisted's own handling of it fails."""

    def _congest(self) -> None:
        self.congested = True
        if self.session is not None:
            self.session.congested()
