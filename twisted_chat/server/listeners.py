"""Opens the server's ports, each described by a Twisted server endpoint string.

In:   endpoint strings (:func:`listen`).
Out:  open ports (:class:`Listener`), or :class:`ListenError` with cause and remedy in one line, and no port open.

Ports are opened first, while twistd may still be root, and accept connections once the store is open: until then the kernel queues
them.  ``StreamServerEndpointService`` is not used because it only logs that a port is taken, and continues without it.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    ILoggingContext,
    IOpenSSLContextFactory,
    IProtocol,
    IProtocolFactory,
    IProtocolNegotiationFactory,
    IReactorFDSet,
    IReadDescriptor,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.haproxy import proxyEndpoint
from twisted.python.failure import Failure
from zope.interface import alsoProvides, directlyProvides, implementer, providedBy

#: The listen backlog, unless the endpoint string sets it.  Twisted's 50 are too few when all clients reconnect after a restart: a
#: client that does not fit tries again only after a second.  The kernel's somaxconn bounds it.
BACKLOG = 4096


class ListenError(Exception):
    """An endpoint that cannot be used: one line with cause and remedy."""


@implementer(IOpenSSLContextFactory)
class ReplaceableContext:
    """The TLS context of a port, which can be replaced while the port is open; Twisted asks for it for each connection.

    :ivar factory: makes the context of new connections.
    """

    def __init__(self, factory: Any) -> None:
        self.factory = factory

    def getContext(self) -> SSL.Context:
        context: SSL.Context = self.factory.getContext()
        return context


class TlsReactor:
    """A reactor for one endpoint: TLS ports that the endpoint opens get a :class:`ReplaceableContext`.

    An ``ssl:`` endpoint reads its key and certificate once and has no public way to replace them, but its call of ``listenSSL`` is a
    public interface.

    :param open_ports: False to read the context only, without opening the port.
    :ivar context: the context of the port; None if it is not a TLS port or not open yet.
    """

    def __init__(self, reactor: Any, *, open_ports: bool = True) -> None:
        self._reactor = reactor
        self._open_ports = open_ports
        self.context: ReplaceableContext | None = None
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenSSL(self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Open the port; fails here, not at the first client, if key and certificate do not belong together."""
        self.context = ReplaceableContext(contextFactory)
        self.context.getContext()
        if self._open_ports:
            return self._reactor.listenSSL(port, factory, self.context, backlog, interface)
        return None


class UnknownPeer(Protocol):
    """Collects a PROXY header for Twisted, and then passes all data on unchanged.

    Twisted refuses ``PROXY UNKNOWN`` without addresses (PROXY protocol, section 2.1), which health checks send, and a header whose
    first segment has less than 16 bytes; and it raises for some that are malformed, which would be logged as a bug.
    """

    _SHORT = b"PROXY UNKNOWN\r\n"
    _SIGNATURES = (b"PROXY", b"\r\n\r\n\0\r\nQUIT\n")
    #: Bytes of a header in text with its end (section 2.1), and of the fixed part of a binary one (section 2.2).
    _TEXT_MAX = 107
    _BINARY_MIN = 16

    def __init__(self, behind: IProtocol) -> None:
        self._behind = behind
        self._begin = b""
        self._transport: Any = None

    def makeConnection(self, transport: ITransport) -> None:
        self._transport = transport
        self._behind.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        self._begin += data
        end = self._header_end()
        if end is None:
            return
        header, rest, self._begin = self._begin[:end], self._begin[end:], b""
        self.dataReceived = self._behind.dataReceived  # type: ignore[method-assign]
        try:
            self._behind.dataReceived(header.replace(b"\r\n", b" \r\n", 1) if header == self._SHORT else header)
        except (ValueError, IndexError, struct.error):
            # What Twisted's readers of addresses raise; UnicodeDecodeError is a ValueError.
            self._transport.loseConnection()
            return
        if rest and not getattr(self._transport, "disconnecting", False):
            self._behind.dataReceived(rest)

    def _header_end(self) -> int | None:
        """Where the header ends; the end of the data if it is none; None if more has to come."""
        begin = self._begin
        if not any(each.startswith(begin[: len(each)]) for each in self._SIGNATURES):
            return len(begin)
        if begin.startswith(b"PROXY"):
            end = begin.find(b"\r\n", 0, self._TEXT_MAX)
            return end + 2 if end >= 0 else None if len(begin) < self._TEXT_MAX else len(begin)
        if len(begin) < self._BINARY_MIN:
            return None
        end = self._BINARY_MIN + int.from_bytes(begin[14:16], "big")
        return end if end <= len(begin) else None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._behind.connectionLost(reason)


@implementer(IStreamServerEndpoint)
class UnknownPeers:
    """An endpoint whose connections begin with :class:`UnknownPeer`."""

    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        self._endpoint = endpoint

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen as the wrapped endpoint does."""
        listening: Deferred[IListeningPort] = self._endpoint.listen(_UnknownPeerFactory(protocolFactory))
        return listening


@implementer(IProtocolFactory)
class _UnknownPeerFactory:
    noisy = False

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory
        self.doStart, self.doStop = factory.doStart, factory.doStop
        if ILoggingContext.providedBy(factory):
            self.logPrefix = factory.logPrefix
            directlyProvides(self, ILoggingContext)
        if IProtocolNegotiationFactory.providedBy(factory):
            self.acceptableProtocols = factory.acceptableProtocols
            alsoProvides(self, IProtocolNegotiationFactory)

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        protocol = self._factory.buildProtocol(addr)
        return None if protocol is None else UnknownPeer(protocol)


class Listener:
    """One open port.

    :ivar description: the endpoint string.
    """

    log = Logger()

    def __init__(self, reactor: Any, description: str, port: IListeningPort, tls: ReplaceableContext | None) -> None:
        self.description = description
        self.port = port
        self._reactor = reactor
        self._tls = tls
        #: What was wrong with the key and certificate at the last reload; empty if nothing.
        self._unfit = ""

    def hold(self) -> None:
        """Accept no connections for now; the kernel queues them."""
        if IReadDescriptor.providedBy(self.port) and IReactorFDSet.providedBy(self._reactor):
            self._reactor.removeReader(self.port)

    def let_in(self) -> None:
        if IReadDescriptor.providedBy(self.port) and IReactorFDSet.providedBy(self._reactor):
            self._reactor.addReader(self.port)

    @property
    def secure(self) -> bool:
        return self._tls is not None or self.description.startswith("ssl:")

    @property
    def url(self) -> str:
        """The URL of the port for a browser on this machine; for a Unix socket its path."""
        host = self.port.getHost()
        if isinstance(host, UNIXAddress):
            return f"unix:{os.fsdecode(host.name or b'')}"
        if not isinstance(host, IPv4Address | IPv6Address):
            return self.description
        name = f"[{host.host}]" if ":" in host.host else host.host
        scheme, usual = ("https", 443) if self.secure else ("http", 80)
        name = "localhost" if host.host in ("0.0.0.0", "::") else name
        return f"{scheme}://{name}/" if host.port == usual else f"{scheme}://{name}:{host.port}/"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the port.  False for a Unix socket and for ``haproxy:``, which are used behind a proxy."""
        if self.description.startswith("haproxy:"):
            return False
        host = self.port.getHost()
        return isinstance(host, IPv4Address | IPv6Address) and (host.host.startswith("127.") or host.host == "::1")

    def renew_certificate(self) -> bool:
        """Read key and certificate again; if they cannot be used, the present ones stay.  Returns whether the port has any."""
        if self._tls is None:
            return False
        try:
            fresh = _read_context(self._reactor, self.description)
        except Exception as error:  # each library raises errors of its own
            why = _certificate_trouble(error)
            if why != self._unfit:
                self._unfit = why
                self.log.error(
                    "{endpoint}: the new certificate cannot be used, so the old one stays in use and the files will be read again: {why}",
                    endpoint=self.description,
                    why=why,
                )
        else:
            self._tls.factory = fresh
            if self._unfit:
                self._unfit = ""
                self.log.info("{endpoint}: the new certificate is in use", endpoint=self.description)
        return True

    def retry_certificate(self) -> None:
        """Read key and certificate again if they could not be used at the last reload; logs a failure only if its reason changes."""
        if self._unfit:
            self.renew_certificate()

    def close(self) -> Deferred[object]:
        return maybeDeferred(self.port.stopListening)


def listen(reactor: Any, descriptions: Sequence[str], factory: IProtocolFactory) -> Deferred[list[Listener]]:
    """Open all ports, or none; fails with :class:`ListenError`."""
    return Deferred.fromCoroutine(_listen(reactor, descriptions, factory))


async def _listen(reactor: Any, descriptions: Sequence[str], factory: IProtocolFactory) -> list[Listener]:
    reactors = [TlsReactor(reactor) for _ in descriptions]
    endpoints = [_endpoint(*one) for one in zip(reactors, descriptions, strict=True)]
    open_ports: list[Listener] = []
    for description, endpoint, tls in zip(descriptions, endpoints, reactors, strict=True):
        try:
            port = await endpoint.listen(factory)
        except Exception as error:  # each kind of endpoint raises errors of its own
            await gatherResults([one.close() for one in open_ports])
            raise ListenError(f"{description}: {_unix_trouble(description, error) or _trouble(error)}") from None
        open_ports.append(Listener(reactor, description, port, tls.context))
        open_ports[-1].hold()
    return open_ports


def _endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """Parse the string with Twisted; each of its errors becomes a :class:`ListenError`."""
    try:
        endpoint = _parsed(reactor, description)
    except (SSL.Error, crypto.Error, OSError) as error:
        raise ListenError(f"{description}: {_trouble(error)}") from None
    except Exception as error:
        if "systemd:" in description and isinstance(error, KeyError | IndexError):
            name = str(error.args[0]) if isinstance(error, KeyError) and error.args else ""
            raise ListenError(f"{description}: {_no_socket(name)}") from None
        if "keys do not match" in str(error):
            raise ListenError(f"{description}: {_UNFIT}: {error}") from None
        why = str(error).removeprefix("_parse")
        raise ListenError(f"{description}: is no endpoint: {why}; write for example tcp:8080:interface=127.0.0.1") from None
    return endpoint


def _parsed(reactor: Any, description: str) -> IStreamServerEndpoint:
    endpoint: IStreamServerEndpoint
    if description.startswith("haproxy:"):
        endpoint = proxyEndpoint(UnknownPeers(_parsed(reactor, description.removeprefix("haproxy:"))))
        return endpoint
    if description.startswith(("tcp:", "tcp6:", "ssl:", "unix:")) and ":backlog=" not in description:
        try:
            endpoint = serverFromString(reactor, f"{description}:backlog={BACKLOG}")
            return endpoint
        except TypeError:
            pass  # it is positional, or another part is wrong, which the next attempt shows
    endpoint = serverFromString(reactor, description)
    return endpoint


def _no_socket(name: str) -> str:
    given = f" named {name}" if name else ""
    return f"systemd passed no socket{given}; does the .socket unit run, and does its FileDescriptorName= fit?"


def _read_context(reactor: Any, description: str) -> Any:
    """The context factory of a TLS endpoint with the key and certificate that are on disk now; raises if they do not fit."""
    reading = TlsReactor(reactor, open_ports=False)
    failures: list[Failure] = []
    _parsed(reading, description).listen(Factory()).addErrback(failures.append)
    for failure in failures:
        failure.raiseException()
    assert reading.context is not None, description
    return reading.context.factory


def _trouble(error: BaseException) -> str:
    if isinstance(error, CannotListenError):
        error = error.socketError
    if isinstance(error, SSL.Error | crypto.Error):
        reasons = [str(entry[-1]) for entry in error.args[0]] if error.args and isinstance(error.args[0], list) else []
        return f"{_UNFIT}: {', '.join(reasons) or error}; both must be PEM and belong together"
    if not isinstance(error, OSError):
        return str(error)
    name = f"{error.filename}: " if error.filename else ""
    why = error.strerror or str(error)
    return f"{name}{why}{_CURES.get(error.errno or 0, '')}"


def _unix_trouble(description: str, error: BaseException) -> str:
    """What is wrong with the path of a Unix socket; empty if the error has another cause."""
    found = re.match(r"(?:haproxy:)?unix:(?:address=)?((?:\\.|[^:\\])+)", description)
    if found is None:
        return ""
    path = re.sub(r"\\(.)", r"\1", found[1])
    cause = error.socketError if isinstance(error, CannotListenError) else error
    number = cause.errno if isinstance(cause, OSError) else None
    if number == errno.ENOENT:
        return f"there is no directory {os.path.dirname(os.path.abspath(path))}; make it, writable for the server's user"
    # Twisted protects the path with a lock file, and its error is a text only.
    if number == errno.EADDRINUSE or "lock" in str(cause):
        return f"another program listens on {path}; stop it, or remove the file if none does"
    return ""


def _certificate_trouble(error: Exception) -> str:
    """Why key and certificate cannot be used, in one line that is never empty."""
    if isinstance(error, OSError | SSL.Error | crypto.Error):
        return _trouble(error)
    return f"{_UNFIT}: {' '.join(str(error).split()) or type(error).__name__}; both must be PEM and belong together"


_UNFIT = "TLS key or certificate cannot be used"
_CURES = {
    errno.EADDRINUSE: "; stop the other program or listen elsewhere with --listen tcp:PORT:interface=127.0.0.1",
    errno.EACCES: "; ports below 1024 and others' directories need a right: use another port, a systemd socket, or another user",
    errno.EADDRNOTAVAIL: "; this machine does not have that address",
    errno.ENOENT: "; does the path exist?",
}
