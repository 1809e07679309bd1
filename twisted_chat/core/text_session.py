"""``chat.v1.text``: the tutorial's client.  Each text frame is a message, and nothing but messages is ever sent.

In:   lines.
Out:  lines of everybody in the one room of the connection.

Such a client cannot be told anything, so one that is over its rate is throttled: its socket is not read until the bucket has
filled again; nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.python.failure import Failure

from twisted_chat.core.chat import Chat
from twisted_chat.core.commit import AppendRequest
from twisted_chat.core.permissions import Action
from twisted_chat.core.session import Membership, Session, SessionState
from twisted_chat.core.subscription import SubscriptionState
from twisted_chat.errors import ChatError, TooBig, as_chat_error
from twisted_chat.events import NewEvent, NewMessage
from twisted_chat.interfaces import Admission, Connection
from twisted_chat.protocol.encoders import NamedTextEncoding, TextEncoding
from twisted_chat.protocol.frames import BARE, DEFLATED


class TextSession(Session):
    """A plain client in its one room."""

    __slots__ = ("_room", "_throttled", "_waiting")

    def __init__(self, core: Chat, connection: Connection, admission: Admission) -> None:
        super().__init__(core, connection, admission.user, admission.address)
        room = self._room = core.rooms.find(admission.user, admission.room, admission.address)
        encoding = NamedTextEncoding if admission.names else TextEncoding
        framing = DEFLATED if connection.deflated else BARE
        broadcast = room.broadcast((encoding, framing), lambda name: encoding(name, framing))
        membership = Membership(room, broadcast, connection, self)
        self.enter_room(membership)
        self._waiting: list[NewEvent] = []
        self._throttled = False
        history = min(admission.history, core.limits.history)
        current = core.openings.current(room)
        if current is None:
            self._begin(membership, history)
        else:
            current.addCallbacks(lambda _: self._begin(membership, history), self._not_opened)

    def _begin(self, membership: Membership, history: int) -> None:
        if membership.state is not SubscriptionState.NEW:
            return
        log = membership.log
        self.core.catching_up.start(self, membership, log.head - min(history, log.head - log.first + 1))

    def _not_opened(self, failure: Failure) -> None:
        self.end(as_chat_error(failure, self.log, "opening a room"))

    def received(self, texts: Sequence[bytes]) -> None:
        """Text messages, in order; each is valid UTF-8."""
        core, by = self.core, self.author
        configuration = core.configuration
        limit = configuration.limits.text_bytes
        new_events: list[NewEvent] = []
        size = 0
        for text in texts:
            length = len(text)
            if length > limit:
                self._refuse_long(texts)
                return
            if length:
                size += length
                new_events.append(NewMessage(by, None, text.decode()))
        if len(new_events) < len(texts):
            self.count_unrated(len(texts) - len(new_events))
        if self._throttled or configuration.metered or not self._room.open_to_all:
            self._post(new_events, size)
        elif new_events:
            self._append(new_events, size)

    def received_binary(self, data: bytes) -> None:
        """One binary message."""
        if len(data) > self.core.limits.text_bytes:
            self._refuse_long([data])
        elif data:
            self._post([NewMessage(self.author, None, None, data)], len(data))

    def send_waiting(self) -> None:
        # Not when the connection is lost: a client that resets its connection loses what was not yet appended, as with what the
        # kernel holds; one that closes is heard to the end, because the close is behind it.
        waiting, self._waiting = self._waiting, []
        # Who was banned or removed has sent it in vain.
        if waiting and self.state is SessionState.OPEN:
            self._submit(waiting, _size(waiting))

    def _refuse_long(self, messages: Sequence[bytes]) -> None:
        limit = self.core.limits.text_bytes
        for at, message in enumerate(messages):
            if len(message) > limit:
                if at:
                    self.received(messages[:at])
                self.end(TooBig(f"message: at most {limit} bytes"))
                return

    def _post(self, new_events: list[NewEvent], size: int) -> None:
        if self._throttled:
            self._waiting.extend(new_events)
            return
        count = self._allowed_now(len(new_events))
        if count < len(new_events):
            self._waiting = new_events[count:]
            new_events = new_events[:count]
            size = _size(new_events)
            self._throttle()
        if new_events:
            self._submit(new_events, size)

    def _allowed_now(self, wanted: int) -> int:
        permissions = self.core.permissions
        if wanted and not self._room.open_to_all and permissions.has_slow_mode(self.user, self._room):
            if permissions.slow_mode_wait(self.user, self._room, self.address) > 0 or not self.rate.take(
                self.user, self.address, 1
            ):
                return 0
            permissions.check_slow_mode(self.user, self._room, self.address)
            return 1
        return self.rate.take(self.user, self.address, wanted)

    def _throttle(self) -> None:
        self._throttled = True
        self.connection.pause()
        slow_mode = self.core.permissions.slow_mode_wait(self.user, self._room, self.address)
        wait = max(self.rate.wait(self.user, self.address), slow_mode)
        self.core.call_later(max(0.05, wait), self._unthrottle)

    def _unthrottle(self) -> None:
        self._throttled = False
        if self.state is not SessionState.OPEN:
            return
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._post(waiting, _size(waiting))
        if not self._throttled:
            self.connection.resume()

    def _submit(self, new_events: list[NewEvent], size: int) -> None:
        if not self._room.open_to_all:
            try:
                self.core.permissions.check(self.user, Action.SEND, self._room, self.address)
            except ChatError as error:
                self.end(error)
                return
        self._append(new_events, size)

    def _append(self, new_events: list[NewEvent], size: int) -> None:
        # There is no way to tell a plain client that its message was not kept, except to end.
        try:
            self.core.submit(AppendRequest(self._room, new_events, None, self.end, size))
        except ChatError as error:
            self.end(error)


def _size(new_events: Sequence[NewEvent]) -> int:
    return sum(len(event.text or event.data or b"") for event in new_events if isinstance(event, NewMessage))
