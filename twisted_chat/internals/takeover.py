"""Take the transport of an HTTP connection away from ``twisted.web`` and give it to another protocol.

In:   a request, or a channel whose first request was read by somebody else.
Out:  the transport, and the bytes that came behind the request (:func:`take_transport`, :func:`take_channel`); after
      :func:`give_transport` they belong to the new protocol.

Twisted has no public way to do so (its ticket 3204; ``HTTPChannel._protocolUpgradeForWebsockets`` keeps the channel alive for as
long as the connection).  Attributes used here that no interface promises, each pinned by ``tests/test_internals_takeover.py``:

==================================  ==========================================================================================
``HTTPChannel._dataBuffer``         bytes that came behind the request while it was being answered
``LineReceiver.clearLineBuffer``    bytes that came in the same read as the request, when the answer is immediate
``HTTPChannel.requests``            would keep the request alive, and the request its channel
``transport.protocol``              what a socket delivers to
``ProtocolWrapper.wrappedProtocol`` what TLS (or PROXY) delivers to
==================================  ==========================================================================================

Without ``_dataBuffer`` the only bytes lost are those of clients that do not wait for the answer, which RFC 6455 section 4.1 forbids.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.http import HTTPChannel, Request

from twisted_chat.internals.availability import missing_names

#: Private attributes of :class:`twisted.web.http.HTTPChannel`.
NAMES = ("_dataBuffer",)
#: What is done where it is missing.
FALLBACK = "bytes that a client sends before the handshake is answered are dropped"


def check() -> list[str]:
    """The attributes that the installed Twisted lacks."""
    return missing_names(HTTPChannel(), NAMES)


def take_transport(request: Request) -> tuple[Any, bytes]:
    """The transport, which no protocol owns now, and the bytes that came behind the request.

    The request and its channel know nothing of one another afterwards and are freed with the caller's last reference.
    """
    transport, leftover = take_channel(request.channel)
    if request.content is not None:
        request.content.close()
    loose: Any = request
    loose.channel = loose.transport = None
    request.notifications = []
    return transport, leftover


def take_channel(channel: Any) -> tuple[Any, bytes]:
    """The same where no request has been made."""
    transport = channel.transport
    leftover = b"".join(getattr(channel, "_dataBuffer", ())) + channel.clearLineBuffer()
    if IPushProducer.providedBy(channel.transport):
        # A transport has one producer: while it is the channel, the new protocol would have no backpressure.
        transport.unregisterProducer()
        # It stops reading while an earlier answer is unsent, or when more came behind the request than it buffers.
        transport.resumeProducing()
    if hasattr(channel.site, "release"):
        channel.site.release(channel)
    else:
        # The site of another program, in whose tree the chat is mounted.
        channel.setTimeout(None)
    channel.requests = []
    channel.transport = None
    return transport, leftover


def give_transport(transport: Any, protocol: IProtocol, leftover: bytes) -> None:
    """Connect ``protocol`` to the transport: what is received goes there from now on, ``leftover`` first."""
    if isinstance(transport, ProtocolWrapper):
        # haproxy: and ssl: endpoints: the transport is the wrapping protocol itself.
        transport.wrappedProtocol = protocol
    elif isinstance(transport.protocol, ProtocolWrapper):
        # After startTLS the socket's protocol is TLS, and TLS wraps ours.
        transport.protocol.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)
    if leftover:
        protocol.dataReceived(leftover)
