"""A whole chat in memory: a hub on a clock, a store, and clients at links whose sockets take as much as a test says.

``ChatHarness`` builds it, ``chat.json()`` and ``chat.plain()`` connect clients.  Nothing here sleeps or opens a socket: ``chat.turn()``
lets the reactor's work of now happen, ``chat.pass_time(5)`` lets five seconds go by.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import msgspec
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.frames import frame_at
from twisted_chat.auth.authenticator import GuestFactory
from twisted_chat.bus import Bus
from twisted_chat.core.chat import Chat, DialectSession
from twisted_chat.core.json_session import JsonSession
from twisted_chat.core.roles import known
from twisted_chat.core.scheduler import CallLater, Work
from twisted_chat.core.text_session import TextSession
from twisted_chat.errors import Unauthenticated, Unavailable
from twisted_chat.events import Cursor, Event
from twisted_chat.interfaces import Admission, Dialect
from twisted_chat.limits import Limits, RoomPolicies, RoomPolicy
from twisted_chat.protocol.frames import FIN_BINARY, FIN_TEXT
from twisted_chat.standings import Standing, StandingNews
from twisted_chat.store_contract import Aged, Append, FollowedStore, Outcome, Page, RoomRecord
from twisted_chat.stores.memory import MemoryStore
from twisted_chat.testing import UNBOUND as UNBOUND
from twisted_chat.users import Credential, User

Json: TypeAlias = dict[str, Any]

BEGIN = 1_763_880_000.0  # seconds: some day in November 2025

ALICE = User(id="u1", name="alice")
BOB = User(id="u2", name="bob")
CAROL = User(id="u3", name="carol")
MODERATOR = User(id="u9", name="mo", rights=frozenset({"moderate"}))


def guest(name: str, number: int = 1) -> User:
    """A guest whose id tells the name."""
    return User(id=f"g{number}-{name}", name=name, guest=True)


def append_to(calls: list[Work]) -> CallLater:
    """A ``callLater`` that only notes what it is given; the test calls it."""

    def call_later(delay: float, work: Work) -> DelayedCall:
        calls.append(work)
        return DelayedCall(delay, work, (), {}, lambda call: None, lambda call: None)

    return call_later


class MemoryConnection:
    """A socket that takes ``capacity`` bytes (None: all); what it does not take waits until somebody reads.

    :param buffers: it takes everything and says ``congested`` from inside ``send``, as a transport with TLS does.
    :ivar wire: the bytes that the peer has read.
    :ivar closed: code and reason of the close frame; ``aborted`` likewise without one.
    """

    def __init__(self, capacity: int | None = None, *, buffers: bool = False) -> None:
        self.capacity = capacity
        self.buffers = buffers
        self.congested = False
        self.paused = False
        self.deflated = False
        self.wire = b""
        self.unsent = b""
        self.writes = 0
        self.pings = 0
        self.most_unsent = 0
        self.broken = False
        self.aborted = False
        self.closed: tuple[int, str] | None = None
        self.session: DialectSession | None = None
        self._read = 0

    @property
    def unsent_bytes(self) -> int:
        return len(self.unsent)

    # Connection

    def send(self, data: bytes) -> int:
        if self.congested or self.closed or self.aborted:
            raise AssertionError(f"sent while congested={self.congested} closed={self.closed} aborted={self.aborted}")
        if self.broken:
            raise ConnectionResetError
        taken = self._take(data)
        if self.buffers:
            if taken < len(data):
                self.buffer_rest(data[taken:])
            return len(data)
        if data and not taken:
            raise BlockingIOError
        return taken

    def write(self, data: bytes) -> None:
        if self.closed or self.aborted:
            raise AssertionError(f"written after the end: {data!r}")
        if self.congested:
            self._keep(data)
            return
        taken = self._take(data)
        if taken < len(data):
            self.buffer_rest(data[taken:])

    def buffer_rest(self, rest: bytes) -> None:
        if self.congested:
            raise AssertionError("a frame's rest was held while another one is")
        self._keep(rest)
        self.congested = True
        if self.session is not None:
            self.session.congested()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        if self.session is not None:
            self.session.heard()

    def ping(self) -> None:
        self.pings += 1

    def close(self, code: int, reason: str, last: bytes = b"") -> None:
        if self.closed:
            raise AssertionError("closed twice")
        if last:
            self.write(last)
        self.closed = int(code), reason

    def abort(self) -> None:
        self.aborted = True

    # What a test does

    def read(self, count: int | None = None) -> None:
        """The peer reads ``count`` bytes more than what it has, or everything from now on."""
        self.capacity = None if count is None else (self.capacity or 0) + count
        taken = self._take(self.unsent)
        self.unsent = self.unsent[taken:]
        if self.congested and not self.unsent:
            self.congested = False
            if self.session is not None and not self.aborted:
                self.session.drained()

    def frames(self) -> list[tuple[int, bytes]]:
        """The whole frames that have come since the last look: first byte and payload."""
        found: list[tuple[int, bytes]] = []
        while True:
            end, payload = frame_at(self.wire, self._read)
            if end > len(self.wire):
                return found
            found.append((self.wire[self._read], payload))
            self._read = end

    def _take(self, data: bytes) -> int:
        taken = len(data) if self.capacity is None else min(self.capacity, len(data))
        if self.capacity is not None:
            self.capacity -= taken
        self.wire += data[:taken]
        self.writes += 1
        return taken

    def _keep(self, data: bytes) -> None:
        self.unsent += data
        self.most_unsent = max(self.most_unsent, len(self.unsent))


class Client:
    """Somebody with a link."""

    def __init__(self, chat: ChatHarness, connection: MemoryConnection) -> None:
        self.chat = chat
        self.connection = connection
        self.session: DialectSession

    def lose(self) -> None:
        """The connection breaks."""
        self.session.lost()
        self.chat.turn()

    @property
    def closed(self) -> int | None:
        """The close code, if the server has ended the connection."""
        return None if self.connection.closed is None else self.connection.closed[0]


class PlainClient(Client):
    """The tutorial's client."""

    def say(self, *lines: str | bytes) -> None:
        """Send lines, all in one read of the server's socket."""
        self.session.heard()
        texts: list[bytes] = []
        for line in lines:
            if isinstance(line, str):
                texts.append(line.encode())
                continue
            if texts:
                self.session.received(texts)
                texts = []
            self.session.received_binary(line)
        if texts:
            self.session.received(texts)
        self.chat.turn()

    def take(self) -> list[str | bytes]:
        """What it has been shown since the last look."""
        shown: list[str | bytes] = []
        for first, payload in self.connection.frames():
            if first == FIN_BINARY:
                shown.append(payload)
            elif first == FIN_TEXT:
                shown.append(payload.decode())
            else:
                raise AssertionError(f"a plain client was sent a frame that begins with {first:#x}")
        return shown


class JsonClient(Client):
    """A rich client."""

    def __init__(self, chat: ChatHarness, connection: MemoryConnection) -> None:
        super().__init__(chat, connection)
        self._kept: list[Json] = []

    def say(self, *commands: Json | bytes | Sequence[Json]) -> None:
        """Send commands (structs as dictionaries, raw bytes, or lists as batches), all in one read of the server's socket."""
        self.session.heard()
        self.session.received([one if isinstance(one, bytes) else msgspec.json.encode(one) for one in commands])
        self.chat.turn()

    def ask(self, type_: str, **fields: Any) -> Json:
        """Send a command with an id and take its answer out of what came; the rest stays for :meth:`take`."""
        self.chat.last_id += 1
        number = self.chat.last_id
        self.say({"type": type_, "id": number, **fields})
        return self.answer(number)

    def answer(self, number: int | str) -> Json:
        """The one answer to the command of that id."""
        kept = self._kept + self._came()
        answers = [one for one in kept if one.get("id") == number and one["type"] != "event"]
        if len(answers) != 1:
            raise AssertionError(f"{len(answers)} answers to {number}: {kept}")
        kept.remove(answers[0])
        self._kept = kept
        return answers[0]

    def take(self, type_: str | None = None) -> list[Json]:
        """What came since the last look; with a type, only that (the rest is kept)."""
        came, self._kept = self._kept + self._came(), []
        if type_ is None:
            return came
        self._kept = [one for one in came if one["type"] != type_]
        return [one for one in came if one["type"] == type_]

    def texts(self) -> list[str]:
        """The texts of the messages that came; the rest is dropped."""
        return [one["text"] for one in self.take() if one["type"] == "event" and one["kind"] == "message"]

    def _came(self) -> list[Json]:
        came: list[Json] = []
        for first, payload in self.connection.frames():
            if first != FIN_TEXT:
                raise AssertionError(f"a JSON client was sent a frame that begins with {first:#x}")
            decoded = msgspec.json.decode(payload)
            came += decoded if isinstance(decoded, list) else [decoded]
        return came


class HeldStore:
    """A store in memory whose work is done when a test says so, or never.

    :ivar holding: while false, everything is done and answered at once.
    :ivar down: appends fail with ``Unavailable``; ``deaf``: reads do.
    :ivar followed: false: no hint about commits ever comes.
    """

    def __init__(self, inner: MemoryStore, clock: Clock) -> None:
        self.inner = inner
        self.clock = clock
        self.holding = False
        self.down = False
        self.deaf = False
        self.followed = True
        self._held: list[tuple[str, Callable[[], None]]] = []
        self._done: list[Callable[[], object]] = []
        self.appends = 0

    def held(self) -> int:
        """How many pieces of work are waiting, or done and not answered."""
        return len(self._held) + len(self._done)

    def release(self, place: int = 0) -> None:
        """Do and answer one piece of work."""
        self.work(place)
        self.reply()

    def release_all(self) -> None:
        """Do everything, and what comes of it."""
        while self._done:
            self.reply()
        while self._held:
            self.release()

    def work(self, place: int = 0) -> None:
        """Do one piece of work, without answering yet."""
        self._held.pop(place)[1]()

    def reply(self, place: int = 0) -> None:
        """Give one of the answers."""
        self._done.pop(place)()

    @property
    def waiting(self) -> list[str]:
        return [name for name, _ in self._held]

    @property
    def unanswered(self) -> int:
        return len(self._done)

    def _hold(self, name: str, work: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        if not self.holding:
            return work()
        answer: Deferred[Any] = Deferred()

        def run() -> None:
            result = work()
            self._done.append(partial(result.addCallbacks, answer.callback, answer.errback))

        self._held.append((name, run))
        return answer

    def append(self, batch: Sequence[Append]) -> Deferred[list[list[Outcome]]]:
        self.appends += 1
        return self._hold("append", lambda: _down() if self.down else self.inner.append(batch))

    def read(self, room: str, after: int, limit: int, max_bytes: int) -> Deferred[list[Event]]:
        return self._hold("read", lambda: _down() if self.deaf else self.inner.read(room, after, limit, max_bytes))

    def page(
        self,
        room: str,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
        reader: str | None = None,
    ) -> Deferred[Page]:
        return self._hold(
            "page",
            lambda: (
                _down() if self.deaf else self.inner.page(room, limit, before=before, after=after, around=around, reader=reader)
            ),
        )

    def event(self, room: str, seq: int) -> Deferred[Event | None]:
        return self._hold("event", lambda: _down() if self.deaf else self.inner.event(room, seq))

    def purge(self, room: str, keep_events: int | None, keep_after_ms: int | None) -> Deferred[RoomRecord]:
        return self.inner.purge(room, keep_events, keep_after_ms)

    def aged(self, before_ms: int, after: Aged | None, limit: int) -> Deferred[list[Aged]]:
        return self.inner.aged(before_ms, after, limit)

    def mark_read(self, user: str, room: str, seq: int) -> Deferred[int]:
        return self._hold("mark_read", lambda: _down() if self.down else self.inner.mark_read(user, room, seq))

    def read_marks(self, user: str) -> Deferred[dict[str, int]]:
        return self._hold("read_marks", lambda: _down() if self.deaf else self.inner.read_marks(user))

    def standings(self, person: str) -> Deferred[list[Standing]]:
        return self.inner.standings(person)

    def standing(self, room: str, person: str) -> Deferred[Standing]:
        return self.inner.standing(room, person)

    def members(self, room: str, search: str, after: tuple[int, str, str] | None, limit: int) -> Deferred[list[Standing]]:
        return self._hold("members", lambda: self.inner.members(room, search, after, limit))

    def sanctions(self, room: str) -> Deferred[list[Standing]]:
        return self.inner.sanctions(room)

    def all_sanctions(self, now_ms: int) -> Deferred[list[Standing]]:
        return self.inner.all_sanctions(now_ms)

    def standing_news(self, since: int, limit: int) -> Deferred[StandingNews]:
        return self.inner.standing_news(since, limit)

    def open(self) -> Deferred[Any]:
        return self.inner.open()

    def follow(self, on_news: Callable[[Mapping[str, int]], None]) -> Callable[[], None]:
        return self.inner.follow(on_news) if self.followed else lambda: None

    def load_cursors(self, reader: str) -> Deferred[dict[str, Cursor]]:
        return self._hold("load_cursors", lambda: _down() if self.deaf else self.inner.load_cursors(reader))

    def save_cursor(self, reader: str, room: str, cursor: Cursor, *, rewind: bool = False) -> Deferred[None]:
        return self._hold(
            "save_cursor", lambda: _down() if self.down else self.inner.save_cursor(reader, room, cursor, rewind=rewind)
        )

    def delete_cursors(self, reader: str) -> Deferred[None]:
        return self.inner.delete_cursors(reader)

    def close(self) -> Deferred[None]:
        return self.inner.close()

    def archive(self, room: str, archived: bool) -> Deferred[RoomRecord]:
        return self.inner.archive(room, archived)

    def record(self, room: str) -> Deferred[RoomRecord]:
        return self._hold("record", lambda: _down() if self.deaf else self.inner.record(room))

    def lease(self, name: str, seconds: float) -> Deferred[bool]:
        return self.inner.lease(name, seconds)

    def probe(self) -> Deferred[None]:
        return _down() if self.down else self.inner.probe()


def _down() -> Deferred[Any]:
    return fail(Unavailable("the disk is full"))


class ChatHarness:
    """A hub with everything around it.

    :param bus: makes the bus of the node of that id; None: it is the only one.
    :param clock_ahead: seconds by which its wall clock is ahead of the harness's.
    :ivar people: tokens that ``hello`` may carry, and whom they prove.
    """

    def __init__(
        self,
        case: SynchronousTestCase,
        limits: Limits = UNBOUND,
        rooms: dict[str, RoomPolicy] | None = None,
        *,
        create: bool = True,
        store: HeldStore | None = None,
        seed: int = 2025,
        bus: Callable[[str], Bus] | None = None,
        clock_ahead: float = 0.0,
    ) -> None:
        self.case = case
        self.randomness = random.Random(seed)
        self.last_id = 0
        self.one_turn = False
        self.people: dict[str, User | Deferred[User]] = {}
        if store is None:
            clock = Clock()
            clock.advance(BEGIN)
            store = HeldStore(MemoryStore(clock, self.randomness.randbytes), clock)
        self.store = store
        self.clock = clock = store.clock
        opened = case.successResultOf(store.open())
        log_store: FollowedStore = store
        self.node = self.randomness.randbytes(5).hex()
        self.core = Chat(
            log_store,
            opened,
            clock,
            now_seconds=lambda: clock.seconds() + clock_ahead,
            run_id=self.node,
            bus=None if bus is None else bus(self.node),
            random=self.randomness.random,
            dialects={Dialect.TEXT: TextSession, Dialect.JSON: JsonSession},
            limits=limits,
            policies=RoomPolicies(table=rooms or {}, create=create),
            identify=self._identify,
            guest=GuestFactory(opened.secret, self.randomness.randbytes).user,
        )
        self.core.start()

    def restarted(self, limits: Limits = UNBOUND, rooms: dict[str, RoomPolicy] | None = None) -> ChatHarness:
        """Another server on the same store."""
        return ChatHarness(self.case, limits, rooms, store=self.store, seed=self.randomness.getrandbits(32))

    def turn(self) -> None:
        """Everything that is ready happens, and what comes of it; with ``one_turn`` only what is ready now."""
        if not self.one_turn:
            self.clock.advance(0)
            return
        now = self.clock.seconds()
        for call in [call for call in self.clock.calls if call.getTime() <= now]:
            if call.active():
                self.clock.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Time goes by, the clock ticking every ``step`` seconds."""
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step

    def plain(
        self,
        user: User = ALICE,
        room: str = "lobby",
        *,
        connection: MemoryConnection | None = None,
        names: bool = False,
        history: int = 0,
    ) -> PlainClient:
        """A plain client in a room."""
        self.case.successResultOf(known(self.core.roles, user))
        client = PlainClient(self, connection or MemoryConnection())
        admission = Admission(user=user, dialect=Dialect.TEXT, room=room, address="127.0.0.1", names=names, history=history)
        self._open(client, admission)
        return client

    def stranger(
        self, user: User = ALICE, *, connection: MemoryConnection | None = None, address: str = "127.0.0.1"
    ) -> JsonClient:
        """A JSON client that has not said hello."""
        client = JsonClient(self, connection or MemoryConnection())
        self._open(client, Admission(user=user, dialect=Dialect.JSON, room="lobby", address=address))
        return client

    def json(
        self,
        user: User = ALICE,
        *rooms: str,
        connection: MemoryConnection | None = None,
        capabilities: Sequence[str] = (),
        device: str | None = None,
        address: str = "127.0.0.1",
    ) -> JsonClient:
        """A JSON client that has said hello and joined rooms, with nothing left to look at."""
        client = self.stranger(user, connection=connection, address=address)
        welcome = client.ask("hello", capabilities=list(capabilities), device=device)
        self.case.assertEqual(welcome["type"], "welcome", welcome)
        for room in rooms:
            answer = client.ask("join", room=room)
            self.case.assertEqual(answer["type"], "ok", answer)
        client.take()
        return client

    def log(self, room: str) -> list[Event]:
        """All that the store has of the room."""
        holding, self.store.holding = self.store.holding, False
        try:
            return self.case.successResultOf(self.store.inner.read(room, 0, 10**9, 10**12))
        finally:
            self.store.holding = holding

    def _open(self, client: Client, admission: Admission) -> None:
        self.core.check_may_enter(
            admission.user, None if admission.dialect is Dialect.JSON else admission.room, admission.address
        )
        client.session = self.core.open_session(client.connection, admission)
        client.connection.session = client.session
        self.turn()

    def _identify(self, credential: Credential) -> Deferred[User]:
        found = self.people.get(credential.token)
        if isinstance(found, Deferred):
            return found
        if found is None:
            return fail(Unauthenticated("token: unknown"))
        return succeed(found)
