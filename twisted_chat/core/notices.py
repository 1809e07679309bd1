"""What is said beside the log: who is writing, how far a user has read, what retention removed.

In:   what a session reports; it goes to the bus.
Out:  what the bus brings, from this node or another, goes to the sessions of this node that it concerns.

Nothing of it is numbered, and all of it may be lost; read marks are kept by the store as well.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.bus import Bus, BusMessage, EventsRemoved, ReadMarkMoved, TypingNoticed
from twisted_chat.core.connections import ChatSession, Sessions
from twisted_chat.core.room import Room
from twisted_chat.core.rooms import Rooms
from twisted_chat.core.writing import Writers
from twisted_chat.errors import Unavailable
from twisted_chat.protocol.replies import Me, ReadPush
from twisted_chat.store_contract import LogStore
from twisted_chat.users import User

#: Seconds between two ``typing`` of one user in one room that are passed on.
TYPING_SECONDS = 3.0


class LocalBus:
    """The bus of a single node: every message comes back at once."""

    def __init__(self) -> None:
        self._handlers: list[Callable[[BusMessage], None]] = []

    def subscribe(self, handler: Callable[[BusMessage], None]) -> None:
        """Call ``handler`` for each message."""
        self._handlers.append(handler)

    def publish(self, message: BusMessage) -> None:
        """Give the message to every handler."""
        for handler in self._handlers:
            handler(message)


class Notices:
    """Typing and read marks over the bus.

    :param now: monotonic seconds.
    :param run_id: random id of this server run, which tells its own sessions from those of other nodes.
    """

    log = Logger()

    def __init__(
        self,
        bus: Bus,
        store: LogStore,
        rooms: Rooms,
        sessions: Sessions,
        writers: Writers,
        now: Callable[[], float],
        run_id: str,
    ) -> None:
        self._bus = bus
        self._store = store
        self._rooms = rooms
        self._sessions = sessions
        self._writers = writers
        self._now = now
        self._run_id = run_id
        #: When each user was last reported to be writing in a room.
        self._typed: dict[tuple[str, str], float] = {}
        bus.subscribe(self._receive)

    def typing(self, user: User, room: Room) -> None:
        """Tell the room's other members that the user is writing, at most every :data:`TYPING_SECONDS`."""
        now = self._now()
        if now - self._typed.get((room.name, user.id), -TYPING_SECONDS) < TYPING_SECONDS:
            return
        self._typed[room.name, user.id] = now
        self._bus.publish(TypingNoticed(room.name, user.id, user.name, user.guest))

    def read_marks(self, user: User) -> Deferred[dict[str, int]]:
        """How far the user has read, by room."""
        return self._store.read_marks(user.id).addErrback(self._no_marks)

    def mark_read(self, session: ChatSession, room: Room, seq: int) -> Deferred[int]:
        """Keep a read mark and tell the user's other sessions; answers the mark, which never falls."""
        user, origin = session.user.id, self._origin(session)

        def marked(mark: int) -> int:
            self._bus.publish(ReadMarkMoved(room.name, user, mark, origin))
            return mark

        return self._store.mark_read(user, room.name, seq).addCallback(marked)

    def events_removed(self, room: str, first: int) -> None:
        """Retention removed the events before that number from the store."""
        self._bus.publish(EventsRemoved(room, first))

    def tidy(self) -> None:
        """Forget who was writing a while ago."""
        now = self._now()
        self._typed = {place: at for place, at in self._typed.items() if now - at < TYPING_SECONDS}

    def _origin(self, session: ChatSession) -> str:
        return f"{self._run_id}:{id(session)}"

    def _no_marks(self, failure: Failure) -> dict[str, int]:
        # A store that cannot be read now keeps nobody from saying hello.
        if not failure.check(Unavailable):
            self.log.failure("Could not read marks", failure)
        return {}

    def _receive(self, message: BusMessage) -> None:
        match message:
            case TypingNoticed():
                self._typing_noticed(message)
            case EventsRemoved():
                self._rooms.events_removed(message.room, message.first)
            case ReadMarkMoved():
                push = ReadPush(room=message.room, seq=message.seq)
                for session in self._sessions.of_user(message.user):
                    if self._origin(session) != message.origin:
                        session.see_read(push)

    def _typing_noticed(self, message: TypingNoticed) -> None:
        room = self._rooms.in_memory(message.room)
        if room is None:
            return
        self._writers.noticed(room, Me(id=message.user, name=message.name, guest=message.guest))
