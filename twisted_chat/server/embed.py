"""The chat inside another program: a resource for its own ``twisted.web`` tree, its own authentication, and publishing from
Python (``docs/embedding.rst``).

::

    chat = EmbeddedChat(reactor, "sqlite:chat.db", identify=who)
    root.putChild(b"chat", chat.resource)
    chat.startService()
    chat.publish("lobby", "hello")
"""

# super() calls into Service and Resource, which Twisted has not typed.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from io import SEEK_END
from typing import IO, Any

from twisted.application.service import Service
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from twisted_chat.core.chat import Chat
from twisted_chat.errors import TooBig, Unavailable
from twisted_chat.events import Event, NewMessage
from twisted_chat.limits import Limits
from twisted_chat.server.build import RunningChat, build
from twisted_chat.server.config import Settings
from twisted_chat.store_contract import Appended, Duplicate, Store
from twisted_chat.users import Credential, User
from twisted_chat.web.api import body_bytes
from twisted_chat.web.responses import Response, error_answer, whole_answer, write_answer

#: The author of messages that the program itself publishes.
PROGRAM = User(id="u-program", name="server", rights=frozenset({"moderate"}))

#: Finds the user of a bearer token or cookie; None if it is not valid.
Identify = Callable[[str], "User | Awaitable[User | None] | None"]


class EmbeddedChat(Service):
    """A chat without its own ports and process.

    :param reactor: the program's reactor.
    :param store: ``sqlite:PATH``, ``memory:``, or a store.
    :param identify: the program's check of tokens; the chat's own tokens work as well.
    :param checkers: the program's checkers of ``twisted.cred``, by which people sign in with a name and a password; keep their order,
        because a checker's place is a part of the identity of its people.
    :param settings: limits, policies of rooms, whether there are guests, the name of the cookie that carries a token, …
    :ivar resource: the resource to mount.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        store: str | Store = "memory:",
        *,
        identify: Identify | None = None,
        settings: Settings | None = None,
        checkers: Sequence[ICredentialsChecker] = (),
    ) -> None:
        self.resource = ChatResource()
        self._reactor: Any = _TrackedReactor(reactor)
        self._store = store
        self._authenticators = [] if identify is None else [_ProgramAuthenticator(identify)]
        self._checkers = tuple(checkers)
        self._settings = Settings() if settings is None else settings
        self._chat: RunningChat | None = None
        self._starting: Deferred[None] | None = None
        self._waiting: list[Deferred[RunningChat]] = []

    @property
    def core(self) -> Chat:
        """Rooms, sessions and logs; available once :meth:`when_started` has fired."""
        assert self._chat is not None, "the chat is not started"
        return self._chat.core

    def startService(self) -> None:
        super().startService()
        building = build(
            self._reactor,
            self._settings,
            self._store,
            loopback=False,
            authenticators=self._authenticators,
            checkers=self._checkers,
            check_hosts=bool(self._settings.allowed_hosts),
        )
        self._starting = Deferred.fromCoroutine(building).addCallbacks(self._started, self._failed)

    async def _stop(self) -> None:
        if self._starting is not None:
            await self._starting
        chat, self._chat = self._chat, None
        self.resource.chat = None
        if chat is not None:
            await chat.drain(self._reactor, self._settings.drain_seconds)
            await chat.store.close()
        self._reactor.cancel()

    def stopService(self) -> Deferred[None]:
        """Close all connections and the store."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def when_started(self) -> Deferred[RunningChat]:
        """Fires when users can connect; fails if the store cannot be opened."""
        if self._chat is not None:
            return succeed(self._chat)
        waiting: Deferred[RunningChat] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def publish(
        self, room: str, text: str | None = None, *, data: bytes | None = None, by: User = PROGRAM, key: str | None = None
    ) -> Deferred[Event]:
        """Publish a message; fires with the event when it is on disk (in an ephemeral room: when it is delivered).

        :param key: publishing with the same key again adds no second message.
        """
        if self._chat is None and self._starting is not None and self._starting.called:
            return fail(Unavailable("the chat is not running"))
        new_event = NewMessage(by.author, key, text, data)
        posted = self.when_started().addCallback(lambda chat: chat.core.post(by, room, new_event))
        return posted.addCallback(_event)

    def _started(self, chat: RunningChat) -> None:
        self._chat = self.resource.chat = chat
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(chat)

    def _failed(self, failure: Failure) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(failure)
        if not waiting:
            self.log.failure("The chat could not be started", failure)


class ChatResource(Resource):
    """Everything of the chat below one path: page, WebSockets, API.

    Bodies longer than any endpoint of the chat accepts are refused unread.  Whether the program's site has stored them by then depends
    on its class of requests (:class:`BoundedRequest`).
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.chat: RunningChat | None = None

    def render(self, request: Request) -> int:
        """Answer the request, synchronously or later."""
        chat = self.chat
        channel: Any = request.channel
        content: Any = request.content
        if not hasattr(channel, "abort"):
            # The chat's own channels can drop a stream whose reader does not read.
            channel.abort = getattr(channel, "forceAbortClient", request.loseConnection)
        if chat is None:
            write_answer(request, error_answer(Unavailable("the chat is not running", retry_after_ms=2_000)))
            return NOT_DONE_YET
        limit = chat.site.body_bytes
        if _size(content) > limit:
            write_answer(request, error_answer(TooBig(f"body: at most {limit} bytes")), last=True)
            return NOT_DONE_YET
        below = request.path.split(b"/")[len(request.prepath or ()) + 1 :]
        if not below and not request.requestHeaders.hasHeader("upgrade"):
            # The page's links are relative to its directory.
            write_answer(request, Response(308, [(b"Location", request.path + b"/"), (b"Cache-Control", b"no-store")]))
            return NOT_DONE_YET
        request.path = b"/" + b"/".join(below)
        chat.site.answer(request)  # type: ignore[arg-type]
        return NOT_DONE_YET


class BoundedRequest(Request):
    """For the program's own site, ``Site(root, requestFactory=BoundedRequest)``: refuses long bodies before they are stored.

    A site of Twisted stores the whole body before any resource sees the request: in a file from 100,000 bytes on, forms also in
    memory.  A request of this class is answered with 413, and its connection closed, as soon as its head announces more than
    ``max_body`` bytes or more have arrived.  This applies to all resources of the site.

    :cvar max_body: bytes; the default is the largest body that a chat with default limits accepts.  A program with larger uploads
        sets it in a subclass.
    """

    max_body = body_bytes(Limits())
    content: IO[bytes]
    transport: Any
    _refused = False

    def gotLength(self, length: int | None) -> None:
        """The head is complete; ``length`` is None for a chunked body."""
        super().gotLength(0 if length is not None and length > self.max_body else length)
        if length is not None and length > self.max_body:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        if not self._refused and self.content.tell() + len(data) > self.max_body:
            self._refuse()
        if not self._refused:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if not self._refused:
            super().requestReceived(command, path, version)

    def _refuse(self) -> None:
        self._refused = True
        self.transport.write(whole_answer(TooBig(f"body: at most {self.max_body} bytes")))
        self.loseConnection()


def _size(content: IO[bytes]) -> int:
    """The size of a body in bytes, without reading it."""
    size = content.seek(0, SEEK_END)
    content.seek(0)
    return size


class _TrackedReactor:
    """The reactor, which remembers its delayed calls, so that none is left in the program when the chat has stopped."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._calls: list[IDelayedCall] = []
        self._look_at = 1_000

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kwargs: object) -> IDelayedCall:
        call: IDelayedCall = self._reactor.callLater(delay, callable, *args, **kwargs)
        self._calls.append(call)
        if len(self._calls) >= self._look_at:
            self._calls = [call for call in self._calls if call.active()]
            self._look_at = 1_000 + 2 * len(self._calls)
        return call

    def cancel(self) -> None:
        """Cancel all delayed calls."""
        calls, self._calls = self._calls, []
        for call in calls:
            if call.active():
                call.cancel()


class _ProgramAuthenticator:
    """Authenticates by the program's own check."""

    def __init__(self, identify: Identify) -> None:
        self._identify = identify

    def identify(self, credential: Credential) -> Deferred[User | None]:
        async def ask() -> User | None:
            found = self._identify(credential.token)
            return await found if isawaitable(found) else found

        return Deferred.fromCoroutine(ask())


def _event(outcome: Appended | Duplicate) -> Event:
    return outcome.event
