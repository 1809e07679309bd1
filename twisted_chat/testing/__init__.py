"""A whole chat in memory, for the tests of programs that use it: no sockets, no waiting (``docs/client.rst``).

::

    class BotTests(SynchronousTestCase):
        def test_answer(self) -> None:
            chat = MemoryChat()
            bot = Bot(chat.client("bot"))
            alice = chat.client("alice").room("lobby")
            chat.settle()
            alice.send("ping")
            chat.settle()
            self.assertEqual(chat.texts("lobby"), ["ping", "pong"])

The server is the real one, from HTTP to the log, on a store in memory; the clients are :class:`~twisted_chat.client.ChatClient`\\ s;
time passes when the test says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock

from twisted_chat.client import ChatClient
from twisted_chat.errors import Unauthenticated
from twisted_chat.events import Event, Message, NewMessage
from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.server.build import RunningChat, build
from twisted_chat.server.config import Settings
from twisted_chat.stores.memory import MemoryStore
from twisted_chat.testing.transports import Endpoint, Wire
from twisted_chat.users import Credential, User

#: Without bounds on rates, since most tests are about something else.
UNBOUND = Limits(send_per_second=0, person_per_second=0, query_per_second=0)

__all__ = ["UNBOUND", "MemoryChat", "TestClock", "Wire"]


class TestClock(Clock):
    """A clock that stops at every call that is due, so that none is late, and passes for a reactor where no sockets are."""

    __test__ = False  # pytest is not to collect it

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        """As the reactor's, for stores that ask for it."""
        self.callLater(0, callable, *args, **kwargs)

    def settle(self) -> None:
        """Let happen what happens without time passing."""
        self.advance(0)

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass, and everything that is due in it happen at its time."""
        self.settle()
        end = self.seconds() + seconds
        while self.calls and self.calls[0].getTime() < end:
            self.advance(self.calls[0].getTime() - self.seconds())
        self.advance(max(0.0, end - self.seconds()))


class MemoryChat:
    """A server in memory, started, and what connects to it.

    :param people: tokens and the people for whom they speak; there are guests, too, unless ``guests`` is False.
    :param rooms: policies by room or pattern, such as ``{"live.*": RoomPolicy(durable=False)}``.
    :param latency: seconds that bytes are on their way.
    :param random: for the backoff of the clients; by default they wait as long as they may, so that tests can tell.
    :ivar clock: pass it to what else needs time.
    :ivar wires: the connections that are open, the newest last.
    """

    def __init__(
        self,
        *,
        clock: TestClock | None = None,
        people: Mapping[str, User] | None = None,
        guests: bool = True,
        limits: Limits = UNBOUND,
        rooms: Mapping[str, RoomPolicy] | None = None,
        latency: float = 0.0,
        random: Callable[[], float] = lambda: 0.999,
    ) -> None:
        self.clock = clock or TestClock()
        self.people = dict(people or {})
        self.store = MemoryStore(self.clock)
        self.settings = Settings(guests=guests, limits=limits, rooms=dict(rooms or {}))
        self.chat: RunningChat | None = None
        self.endpoint = Endpoint(self.clock, self._listener, latency)
        self.instead: IProtocolFactory | None = None
        self._random = random
        self._keys = 0
        self._clients: list[ChatClient] = []
        self.start()

    @property
    def wires(self) -> list[Wire]:
        return [wire for wire in self.endpoint.wires if wire.open]

    # Time

    def settle(self) -> None:
        """Let happen what happens without time passing."""
        self.clock.settle()

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass."""
        self.clock.pass_time(seconds)

    # Clients

    def client(self, name: str | None = None, *, started: bool = True, **options: Any) -> ChatClient:
        """A client of this server; ``options`` are those of :class:`~twisted_chat.client.ChatClient`."""
        options.setdefault("random", self._random)
        client = ChatClient(self.clock, self.endpoint, name=name, **options)
        self._clients.append(client)
        if started:
            client.startService()
        return client

    # The server

    def start(self) -> None:
        """Start the server, again after :meth:`stop` or :meth:`kill`: the logs are still there."""
        assert self.chat is None, "it runs"
        starting = Deferred.fromCoroutine(build(self.clock, self.settings, self.store, loopback=True, authenticators=[self]))
        starting.addCallback(self._started)
        self.settle()
        assert self.chat is not None, "a store in memory opens at once"

    def stop(self) -> None:
        """Stop it as an operator does: everybody is told when to come back."""
        chat, self.chat = self.chat, None
        assert chat is not None, "it does not run"
        chat.limiter.draining = True
        chat.core.drain.begin()
        self.settle()

    def kill(self) -> None:
        """End it in the middle of whatever it does, as ``kill -9`` does; what was committed stays."""
        chat, self.chat = self.chat, None
        assert chat is not None, "it does not run"
        chat.core.timers.stop()
        chat.core.drain.began = True
        self.cut()

    def cut(self) -> None:
        """Break all connections."""
        for wire in self.wires:
            wire.cut()

    def say(self, room: str, text: str, name: str = "somebody") -> Deferred[Any]:
        """Somebody who needs no client says something."""
        assert self.chat is not None, "it does not run"
        user = User(id=f"u-{name}", name=name)
        return self.chat.core.post(user, room, NewMessage(user.author, None, text))

    def log(self, room: str) -> list[Event]:
        """The whole log of a room."""
        events: list[list[Event]] = []
        self.store.read(room, 0, 1_000_000, 1 << 40).addCallback(events.append)
        return events[0]

    def texts(self, room: str) -> list[str]:
        """What was said in a room."""
        return [event.text for event in self.log(room) if isinstance(event, Message) and event.text is not None]

    def identify(self, credential: Credential) -> Deferred[User | None]:
        """The user of a token (:class:`~twisted_chat.interfaces.Authenticator`)."""
        user = self.people.get(credential.token)
        return fail(Unauthenticated("token: unknown")) if user is None else succeed(user)

    def _started(self, chat: RunningChat) -> None:
        self.chat = chat

    def _listener(self) -> IProtocolFactory | None:
        """What listens; ``instead`` of the server where a test puts something else."""
        if self.instead is not None:
            return self.instead
        return None if self.chat is None else self.chat.site
