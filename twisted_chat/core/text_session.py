"""``chat.v1.text``: the tutorial's client.  Each text frame is a message, and nothing but messages is ever sent.

Such a client cannot be told anything, so one that is over its rate is throttled: its socket is not read until the bucket has
filled again; nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted_chat.core.commit import Posting
from twisted_chat.core.link import Link
from twisted_chat.core.session import Life, Session
from twisted_chat.core.subscription import Reader
from twisted_chat.drafts import Draft, MessageDraft
from twisted_chat.errors import ChatError, TooBig
from twisted_chat.protocol.encoders import NamedTextEncoding, TextEncoding
from twisted_chat.protocol.frames import BARE, DEFLATED
from twisted_chat.ticket import Ticket

if TYPE_CHECKING:
    from twisted_chat.core.chat import Hub


class PlainSession(Session):
    """A plain client in its one room."""

    __slots__ = ("_room", "_throttled", "_waiting")

    def __init__(self, hub: Hub, link: Link, ticket: Ticket) -> None:
        super().__init__(hub, link, ticket.person, ticket.address)
        room = self._room = hub.room_for(ticket.person, ticket.room)
        encoding = NamedTextEncoding if ticket.names else TextEncoding
        framing = DEFLATED if link.deflated else BARE
        reader = Reader(room.audience((encoding, framing), lambda name: encoding(name, framing)), link, self)
        self.enter_room(room, reader)
        self._waiting: list[Draft] = []
        self._throttled = False
        reader.start(room.head - min(ticket.history, hub.limits.history, room.head - room.first + 1))
        self.feed()

    def received(self, texts: Sequence[bytes]) -> None:
        hub, by = self.hub, self.author
        limit = hub.limits.text_bytes
        drafts: list[Draft] = []
        for text in texts:
            if len(text) > limit:
                self._refuse_long(texts)
                return
            if text:
                drafts.append(MessageDraft(by, None, text.decode()))
        if self._throttled or hub.metered or not self._room.open_to_all:
            self._post(drafts)
        elif drafts:
            self._keep(drafts)

    def received_binary(self, data: bytes) -> None:
        if len(data) > self.hub.limits.text_bytes:
            self._refuse_long([data])
        elif data:
            self._post([MessageDraft(self.author, None, None, data)])

    def say_rest(self) -> None:
        # Not when the connection is lost: who breaks off (a reset) loses what was not yet said, as with what the kernel holds;
        # who closes is heard to the end, because the close is behind it.
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._submit(waiting)

    def _refuse_long(self, messages: Sequence[bytes]) -> None:
        limit = self.hub.limits.text_bytes
        for at, message in enumerate(messages):
            if len(message) > limit:
                if at:
                    self.received(messages[:at])
                self.end(TooBig(f"message: at most {limit} bytes"))
                return

    def _post(self, drafts: list[Draft]) -> None:
        if self._throttled:
            self._waiting.extend(drafts)
            return
        count = self._allowed_now(len(drafts))
        if count < len(drafts):
            self._waiting = drafts[count:]
            drafts = drafts[:count]
            self._throttle()
        if drafts:
            self._submit(drafts)

    def _allowed_now(self, wanted: int) -> int:
        if self._room.policy.slow_mode and "moderate" not in self.person.rights and wanted:
            if self.hub.slow_mode_wait(self.person, self._room) > 0 or not self.allowed(1):
                return 0
            self.hub.check_slow_mode(self.person, self._room)
            return 1
        return self.allowed(wanted)

    def _throttle(self) -> None:
        self._throttled = True
        self.link.pause()
        wait = max(self.wait_for_rate(), self.hub.slow_mode_wait(self.person, self._room))
        self.hub.call_later(max(0.05, wait), self._unthrottle)

    def _unthrottle(self) -> None:
        self._throttled = False
        if self.life is not Life.OPEN:
            return
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._post(waiting)
        if not self._throttled:
            self.link.resume()

    def _submit(self, drafts: list[Draft]) -> None:
        try:
            self.hub.check_may_write(self.person, self._room)
        except ChatError as error:
            self.end(error)
        else:
            self._keep(drafts)

    def _keep(self, drafts: list[Draft]) -> None:
        # There is no way to tell a plain client that its message was not kept, except to end.
        try:
            self.hub.submit(Posting(self._room, drafts, None, self.end))
        except ChatError as error:
            self.end(error)
