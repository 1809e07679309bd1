"""Takes the transport away from ``twisted.web`` and gives it to another protocol.

Twisted has no public way to do so (its ticket 3204; ``HTTPChannel._protocolUpgradeForWebsockets`` keeps the channel alive for as
long as the connection).  What is touched here, each pinned by a test that names it:

====================================  ========================================================================================
``HTTPChannel._networkProducer``      is registered with the transport; nobody else can register while it is, so there would be
                                      no backpressure, and 4.5 kB per connection stay alive
``HTTPChannel._dataBuffer``           bytes that came behind the request while it was being answered
``HTTPChannel._waitingForTransport``  an earlier answer has not been taken, and the channel does not read meanwhile
``LineReceiver.clearLineBuffer``      bytes that came in the same read as the request, when the answer is immediate
``HTTPChannel.requests``              would tell the request of a connection that is no longer its own
``transport.protocol``                whom a socket delivers to
``ProtocolWrapper.wrappedProtocol``   whom TLS (or PROXY) delivers to
====================================  ========================================================================================
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IProtocol
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.http import Request


def take_transport(request: Request) -> tuple[Any, bytes]:
    """The transport, which belongs to nobody now, and the bytes that came behind the request.

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
    leftover = b"".join(channel._dataBuffer) + channel.clearLineBuffer()
    producer = channel._networkProducer
    producer.unregisterProducer()
    if leftover or channel._waitingForTransport:
        # The channel reads no more while an earlier answer is not taken, or when more came behind the request than it keeps.
        producer.resumeProducing()
    if hasattr(channel.site, "expect_no_more"):
        channel.site.expect_no_more(channel)
    else:
        # The site of another program, in whose tree the chat is mounted.
        channel.setTimeout(None)
    channel._dataBuffer = []
    channel.requests = []
    channel._networkProducer = channel.transport = None
    return transport, leftover


def give_transport(transport: Any, protocol: IProtocol, leftover: bytes) -> None:
    """Let ``protocol`` have the transport: what is received goes there from now on, ``leftover`` first."""
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
