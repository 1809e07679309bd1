"""Admit WebSocket handshakes: everything that is decided before the 101 (``docs/decisions/08-identity-before-upgrade.rst``).

In:   requests that ask for a WebSocket (:meth:`Upgrades.upgrade`), or the first bytes of a connection (:meth:`Upgrades.quick`).
Out:  an :class:`~twisted_chat.interfaces.Admission` and the bare transport for the WebSocket edge, or a refusal with status, headers
      and body.

The order: is it a handshake (:mod:`twisted_chat.web.handshake`), is the host known, is the origin allowed, who is it, is there room.

Autobahn never sees the headers: it splits header text at bytes that are no line ends in HTTP, so that a value could smuggle in a
second ``Origin``.  Such bytes are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.errors import ChatError, as_chat_error
from twisted_chat.interfaces import Admission, Dialect, OpenSocket
from twisted_chat.internals.takeover import give_transport, take_channel, take_transport
from twisted_chat.users import Credential, User
from twisted_chat.web.auth import RequestAuth
from twisted_chat.web.handshake import HandshakeRequest, RawHandshake, check_handshake, read_bytes, read_request
from twisted_chat.web.responses import error_answer, write_answer
from twisted_chat.web.site import ChatChannel, ChatRequest

#: Told of each handshake that ends: ``open`` or the code of its error.
Count = Callable[[str], None]


class Upgrades:
    """Turns handshakes into WebSockets.

    :param may_enter: raises the error of the table if the user may not connect, or not enter that room.
    """

    def __init__(
        self,
        request_auth: RequestAuth,
        open_socket: OpenSocket,
        *,
        may_enter: Callable[[User, str | None, str | None], None],
        count: Count = lambda outcome: None,
        logger: Logger | None = None,
    ) -> None:
        self._request_auth = request_auth
        self._open_socket = open_socket
        self._may_enter = may_enter
        self._count = count
        self._logger = logger or Logger()
        #: What :meth:`quick` found out about a credential before it left the handshake to :meth:`upgrade`, which need not check it again.
        self._checked: WeakKeyDictionary[Any, tuple[Credential | None, User | Failure]] = WeakKeyDictionary()

    def upgrade(self, request: ChatRequest) -> None:
        """Answer a handshake that ``twisted.web`` has parsed, now or when its sender is authenticated."""
        checked, result = self._checked.pop(request.channel, (None, None))
        try:
            self._request_auth.limiter.check_open()
            wanted = self._check(read_request(request))
            request.address = wanted.client.address
            if result is None or checked != wanted.credential:
                user = self._authenticate(wanted)
            else:
                user = fail(result) if isinstance(result, Failure) else result
            if not isinstance(user, Deferred):
                self._open(request, wanted, user)
                return
        except ChatError as error:
            self._refuse(request, error)
            return
        self._wait(request, wanted, user)

    def quick(self, channel: ChatChannel, data: bytes) -> bool:
        """Open the usual handshake, which came in one piece and is let in, at half the cost: without ``twisted.web``.

        Answers False for every other handshake: nothing has been written or counted then, and :meth:`upgrade` opens or refuses it.
        """
        read = read_bytes(data, channel.getPeer(), channel.isSecure())
        if read is None:
            return False
        raw, end = read
        try:
            self._request_auth.limiter.check_open()
            wanted = self._check(raw)
            user = self._authenticate(wanted)
        except Exception:
            # A bug, too, happens again in upgrade(), which logs and reports it.
            return False
        if isinstance(user, Deferred):
            return self._quick_wait(channel, wanted, user, data, end)
        return self._quick_open(channel, wanted, user, data[end:])

    def _check(self, raw: RawHandshake) -> HandshakeRequest:
        """The handshake, well-formed and from a page that may connect; browsers send ``Origin`` with each handshake."""
        request_auth = self._request_auth
        if b"Origin" in raw.headers:
            request_auth.check_host(raw.headers, raw.peer, raw.secure)
        wanted = check_handshake(raw, request_auth.read_client, request_auth.limiter.limits.history)
        request_auth.check_origin(wanted.client, wanted.credential)
        return wanted

    def _authenticate(self, wanted: HandshakeRequest) -> User | Deferred[User]:
        return self._request_auth.user(wanted.credential, wanted.query.name, wanted.query.device)

    def _quick_wait(self, channel: ChatChannel, wanted: HandshakeRequest, user: Deferred[User], data: bytes, end: int) -> bool:
        """Open the handshake when its sender is authenticated; if that fails, let :meth:`upgrade` refuse it."""
        results: list[User | Failure] = []
        ended: Deferred[None] = user.addBoth(results.append)
        if results:
            return self._quick_end(channel, wanted, results[0], data[end:])
        channel.hold(user.cancel)

        def authenticated(_: None) -> None:
            behind = channel.release()
            if behind is not None and not self._quick_end(channel, wanted, results[0], data[end:] + behind):
                channel.dataReceived(data + behind)

        ended.addCallback(authenticated).addErrback(self._failed, channel)
        return True

    def _quick_end(self, channel: ChatChannel, wanted: HandshakeRequest, result: User | Failure, behind: bytes) -> bool:
        if isinstance(result, User) and self._quick_open(channel, wanted, result, behind):
            return True
        self._checked[channel] = wanted.credential, result
        return False

    def _quick_open(self, channel: ChatChannel, wanted: HandshakeRequest, user: User, behind: bytes) -> bool:
        try:
            protocol = self._admit(wanted, user)
        except Exception:
            return False
        transport, _ = take_channel(channel)
        self._begin(transport, protocol, behind)
        return True

    def _failed(self, failure: Failure, channel: ChatChannel) -> None:
        self._logger.failure("Bug while answering a handshake", failure)
        channel.abort()

    def _wait(self, request: ChatRequest, wanted: HandshakeRequest, user: Deferred[User]) -> None:
        """Open or refuse the handshake when its sender is authenticated, unless the peer has left by then."""
        present = True

        def left(reason: Failure) -> None:
            nonlocal present
            present = False
            user.cancel()

        def authenticated(user: User) -> None:
            if present:
                self._open(request, wanted, user)

        def failed(failure: Failure) -> None:
            if present:
                self._refuse(request, as_chat_error(failure, self._logger, "authenticating a handshake"))

        request.notifyFinish().addErrback(left)
        user.addCallback(authenticated).addErrback(failed)

    def _open(self, request: ChatRequest, wanted: HandshakeRequest, user: User) -> None:
        protocol = self._admit(wanted, user)
        transport, behind = take_transport(request)
        self._begin(transport, protocol, behind)

    def _admit(self, wanted: HandshakeRequest, user: User) -> IProtocol:
        address = wanted.client.address
        # A JSON client joins rooms by command; a text client is in the room of its path.
        self._may_enter(user, None if wanted.dialect is Dialect.JSON else wanted.room, address)
        limiter = self._request_auth.limiter
        limiter.admit(address)
        admission = Admission(
            user=user,
            dialect=wanted.dialect,
            room=wanted.room,
            address=address,
            subprotocol=wanted.subprotocol,
            names=wanted.query.names,
            history=wanted.query.history,
        )
        try:
            return self._open_socket(admission, wanted.handshake)
        except BaseException:
            limiter.ended(address)
            raise

    def _begin(self, transport: Any, protocol: IProtocol, behind: bytes) -> None:
        self._count("open")
        try:
            give_transport(transport, protocol, behind)
        except Exception:
            # The transport tells its protocol that the connection is lost.
            self._logger.failure("Bug while opening a WebSocket")
            transport.abortConnection()

    def _refuse(self, request: ChatRequest, error: ChatError) -> None:
        """Refuse the handshake and end the connection: a client that did not wait for the answer has sent frames behind it."""
        self._count(error.code)
        write_answer(request, error_answer(error), last=True)
