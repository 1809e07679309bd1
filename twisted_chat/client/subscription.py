"""One room over however many connections: whether it is joined, how far it was read, who is in it.

In:   from the client: the join is accepted or refused, an event, a notice, the end of the connection.
Out:  to the program through :class:`~twisted_chat.client.delivery.Delivery`; to the server through requests and the sender.

The subscription keeps a cursor: a (re)join says how far it has read, and the server goes on from there.
"""

from __future__ import annotations

from enum import Enum, auto

from msgspec import Struct, UnsetType
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from twisted_chat.client.connection import AnyEvent, ClientConnection
from twisted_chat.client.delivery import Delivery
from twisted_chat.client.errors import ClientError, refusal
from twisted_chat.client.requests import Requests
from twisted_chat.client.sending import Outlet, Sender
from twisted_chat.errors import ChatError
from twisted_chat.events import Cursor
from twisted_chat.protocol.commands import JoinRoom, Leave, Presence
from twisted_chat.protocol.replies import (
    ErrorBody,
    Joined,
    LivePush,
    PresenceOk,
    PresencePush,
    PresenceState,
    Present,
    RemovedPush,
)

#: More than any room has: everything from the beginning.
EVERYTHING = 2**53 - 1


class RoomState(Enum):
    """How a room stands with the present connection."""

    OUT = auto()  #: not joined, or not yet
    JOINING = auto()
    IN = auto()  #: joined; what was missed is being read
    LIVE = auto()  #: everything that there is has been read
    REFUSED = auto()  #: the server refused the join for good
    LEFT = auto()  #: by the program


class Reset(Struct, frozen=True):
    """The log does not go on where we stopped reading: forget what was read, what follows is the room as it is now.

    :ivar why: ``epoch`` (another database), ``fork`` or ``ahead`` (restored from a backup), ``expired`` (not kept so long).
    """

    room: str
    why: str


class PeopleHere:
    """Who is in the room, followed by versions.

    :ivar people: by id; empty in rooms too large for a list.  ``count``: how many in any case.
    """

    def __init__(self) -> None:
        self.people: dict[str, Present] = {}
        self.count = 0
        self._version = -1

    def disconnected(self) -> None:
        """What comes next is a whole list again."""
        self._version = -1

    def change(self, push: PresencePush) -> bool:
        """Apply a change; False if one before it was missed, so that the whole list has to be asked for."""
        self.count = push.count
        if isinstance(push.previous, UnsetType):
            self.people = {} if isinstance(push.people, UnsetType) else {user.id: user for user in push.people}
        elif push.previous != self._version:
            return False
        else:
            for user in () if isinstance(push.came, UnsetType) else push.came:
                self.people[user.id] = user
            for gone in () if isinstance(push.left, UnsetType) else push.left:
                self.people.pop(gone, None)
        self._version = push.version
        return True

    def replace(self, state: PresenceState) -> None:
        """The whole list."""
        self.count = state.count
        self.people = {} if isinstance(state.people, UnsetType) else {user.id: user for user in state.people}
        self._version = state.version


class RoomSubscription:
    """The client's side of one room.

    :param history: how many of the last events to read first when there is no cursor.
    :ivar state: how it stands with the present connection.
    :ivar cursor: how far was read.
    :ivar joined: what the server said of the room at the last join; None before the first.
    :ivar refused: why nothing more comes or goes; None while the room is wanted.
    :ivar connection: over which the room is joined.
    """

    log = Logger()

    def __init__(self, outlet: Outlet, name: str, history: int, presence: bool, cursor: Cursor | None) -> None:
        self.name = name
        self.state = RoomState.OUT
        self.cursor = cursor
        self.joined: Joined | None = None
        self.refused: Exception | None = None
        self.connection: ClientConnection | None = None
        self.here = PeopleHere()
        self.requests = Requests(outlet.clock, outlet.random)
        self.sender = Sender(name, outlet)
        self.delivery = Delivery(name, self._save if outlet.kept.has_journal else None, self._read_on)
        self._outlet = outlet
        self._history = history
        self._presence = presence
        self._position = 0
        self._waiters: list[Deferred[None]] = []

    @property
    def is_in(self) -> bool:
        """Whether the room is joined."""
        return self.state in (RoomState.IN, RoomState.LIVE)

    def when_joined(self) -> Deferred[None]:
        """Fires when the room is joined; fails if the server refuses for good."""
        if self.refused is not None:
            return fail(self.refused)
        if self.is_in:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        return waiter

    def leave(self, error: Exception) -> None:
        """Leave the room for good."""
        if self.connection is not None and self.is_in:
            self.connection.tell(Leave(room=self.name))
        self._stop(error)
        self.state = RoomState.LEFT

    # The client calls

    def join_request(self) -> JoinRoom:
        """How to join now."""
        since = self.cursor
        if since is not None and since.id is None:
            # The connection broke before the first event of everything that there is.
            since = Cursor(since.epoch, 0)
        return JoinRoom(room=self.name, since=since, tail=self._history, presence=self._presence)

    @property
    def may_join(self) -> bool:
        """Whether to join at the next opportunity."""
        return self.state is RoomState.OUT and not self.sender.waiting

    def join_sent(self) -> None:
        """The join is on the wire."""
        self.state = RoomState.JOINING

    def join_accepted(self, connection: ClientConnection, joined: Joined) -> None:
        """The room is joined; the events from ``joined.from_`` on follow."""
        self.connection = connection
        self.joined = joined
        self.state = RoomState.IN
        self.delivery.full = False
        known = self.cursor
        if known is None:
            self._start_at(joined)
        elif joined.recovered is True or _goes_on(known, joined):
            self._position = known.seq
        else:
            self._start_at(joined)
            self.delivery.notify(Reset(self.name, joined.why if isinstance(joined.why, str) else "expired"))
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)
        self.sender.connected(connection)
        self.requests.connected(connection)
        self._outlet.send_soon(self.name)

    def join_refused(self, error: ChatError) -> None:
        """The server refused the join."""
        self.state = RoomState.OUT
        if error.retry:
            self.sender.wait((error.retry_after_ms or 0) / 1000)
            return
        self.log.error("{room} cannot be joined: {error}", room=self.name, error=str(error))
        self._stop(error)
        self.state = RoomState.REFUSED

    def disconnected(self) -> None:
        """The connection is gone."""
        self.connection = None
        self.here.disconnected()
        self.requests.disconnected()
        self.sender.disconnected()
        if self.state not in (RoomState.REFUSED, RoomState.LEFT):
            self.state = RoomState.OUT

    def client_ended(self, error: ClientError) -> None:
        """The client is stopped, or has given up."""
        self._stop(error)
        self.refused = None
        self.state = RoomState.OUT

    def receive_event(self, event: AnyEvent) -> None:
        """The next event of the log."""
        me = self._outlet.me
        if me is not None and event.by.id == me.id:
            self.sender.see_own_event(event)
        if self.delivery.full or self.joined is None or event.seq <= self._position:
            return
        self._position = event.seq
        cursor = self.cursor = Cursor(self.joined.epoch, event.seq, event.id)
        self.delivery.deliver(event, cursor)

    def receive_push(self, push: object) -> None:
        """Something that is in no log."""
        if isinstance(push, RemovedPush):
            self.join_refused(refusal(ErrorBody(code=push.code, message=push.message, retry=False)))
            return
        if isinstance(push, LivePush):
            if not self.is_in:
                return  # about a join that was left before; the present one is not answered yet
            self.state = RoomState.LIVE
        elif isinstance(push, PresencePush) and not self.here.change(push):
            self.requests.ask(Presence(room=self.name, on=True), PresenceOk).addCallbacks(self.here.replace, lambda _: None)
        self.delivery.notify(push)

    def send_waiting(self) -> None:
        """Send what waits, if it may be sent."""
        self.sender.send_group()

    def _start_at(self, joined: Joined) -> None:
        """Read what the join gives.  Until its first event the cursor is the head, so that nothing after it is missed."""
        self._position = joined.from_ - 1
        if self._history == EVERYTHING or joined.head == 0:
            self.cursor = Cursor(joined.epoch, self._position)
        else:
            self.cursor = Cursor(joined.epoch, joined.head, joined.head_id)
        if joined.from_ > joined.head:
            self._save(self.cursor)

    def _read_on(self) -> None:
        """Loops have space again: join anew from the cursor, for what was not taken meanwhile."""
        if self.connection is None or not self.is_in:
            return
        # What is on its way is dropped until the answer to the join, which says that everything after the cursor follows.
        self.connection.tell(Leave(room=self.name))
        self.state = RoomState.OUT
        self.requests.disconnected()
        self.sender.left()
        self._outlet.send_soon(self.name)

    def _save(self, cursor: Cursor) -> None:
        self._outlet.save_cursor(self.name, cursor)

    def _stop(self, error: Exception) -> None:
        """Nothing more comes or goes."""
        self.refused = error
        self.disconnected()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(error)
        self.requests.fail_all(error)
        self.sender.drop_all(error)
        self.delivery.end(error)


def _goes_on(known: Cursor, joined: Joined) -> bool:
    """Nothing was missed though the cursor had no id that the server could have compared."""
    return known.id is None and known.epoch == joined.epoch and joined.from_ <= known.seq + 1
