"""A room as a program sees it: events in, commands out, over however many connections.

In:   what the program sends, asks and wants to receive.
Out:  events and notices, by :meth:`ClientRoom.on` (called at once, may be a coroutine) or by ``async for`` (one after the other, each
      when the last is handled).  The work is done by :class:`~twisted_chat.client.subscription.RoomSubscription`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred, fail

from twisted_chat.client.connection import AnyEvent, decode_event
from twisted_chat.client.errors import RoomLeft
from twisted_chat.client.sending import Outlet
from twisted_chat.client.subscription import EVERYTHING, RoomState, RoomSubscription
from twisted_chat.events import Cursor
from twisted_chat.protocol.commands import (
    Command,
    Delete,
    Edit,
    History,
    Presence,
    React,
    Read,
    Send,
    Topic,
    Typing,
)
from twisted_chat.protocol.replies import (
    Joined,
    Ok,
    PresenceOk,
    PresenceState,
    Present,
    ReadOk,
)

T = TypeVar("T")
A = TypeVar("A", bound=Struct)


class HistoryPage(Struct, frozen=True):
    """A page of messages in their present state, oldest first."""

    events: tuple[AnyEvent, ...]
    head: int
    more_before: bool
    more_after: bool


class _HistoryOk(Ok, frozen=True, kw_only=True, tag="ok"):
    head: int
    events: list[msgspec.Raw]
    more_before: bool
    more_after: bool


class _Kind(Struct):
    kind: str


_decode_kind = msgspec.json.Decoder(_Kind).decode


class ClientRoom:
    """A room that the program wants to be in.  Made by :meth:`~twisted_chat.client.ChatClient.room`.

    :ivar name: its name.
    :ivar subscription: its state over the connections, for the client.
    """

    def __init__(
        self,
        outlet: Outlet,
        name: str,
        history: int | None,
        presence: bool,
        cursor: Cursor | None,
        forget: Callable[[ClientRoom], None],
    ) -> None:
        self.name = name
        self.subscription = RoomSubscription(outlet, name, EVERYTHING if history is None else history, presence, cursor)
        self._outlet = outlet
        self._forget = forget

    @property
    def state(self) -> RoomState:
        """How the room stands with the present connection."""
        return self.subscription.state

    @property
    def cursor(self) -> Cursor | None:
        """How far was read."""
        return self.subscription.cursor

    @property
    def joined(self) -> Joined | None:
        """What the server said of the room at the last join; None before the first."""
        return self.subscription.joined

    @property
    def people(self) -> dict[str, Present]:
        """With presence: who is here, by id."""
        return self.subscription.here.people

    @property
    def count(self) -> int:
        """With presence: how many are here, also in rooms too large for a list."""
        return self.subscription.here.count

    @property
    def waiting(self) -> list[int]:
        """How many events wait in each ``async for``, which is bounded: what does not fit is left with the server."""
        return self.subscription.delivery.waiting

    # Sending: each answers the committed event

    def send(
        self, text: str | None = None, *, data: bytes | None = None, reply_to: int | None = None, key: str | None = None
    ) -> Deferred[Any]:
        """Send a message; fires with the committed :class:`~twisted_chat.events.Message`.

        Offline it waits.  However often the connection breaks, it is in the log once.

        :param data: bytes instead of text.
        :param key: our own name for it, at most 64 characters: sending the same key again is no second message, also days later.
        """
        return self._post(Send(room=self.name, key=key or self._outlet.new_key(), text=text, data=data, reply_to=reply_to))

    def edit(self, of: int, revision: int, text: str, *, key: str | None = None) -> Deferred[Any]:
        """Give the own message number ``of`` another text; ``Conflict`` if ``revision`` is not its present one."""
        return self._post(Edit(room=self.name, key=key or self._outlet.new_key(), of=of, revision=revision, text=text))

    def delete(self, of: int, *, key: str | None = None) -> Deferred[Any]:
        """Delete the message number ``of``."""
        return self._post(Delete(room=self.name, key=key or self._outlet.new_key(), of=of))

    def react(self, of: int, emoji: str, on: bool = True, *, key: str | None = None) -> Deferred[Any]:
        """Put an emoji on message number ``of``, or take it away."""
        return self._post(React(room=self.name, key=key or self._outlet.new_key(), of=of, emoji=emoji, on=on))

    def set_topic(self, text: str, *, key: str | None = None) -> Deferred[Any]:
        """Give the room a topic."""
        return self._post(Topic(room=self.name, key=key or self._outlet.new_key(), text=text))

    def typing(self) -> None:
        """Tell the others that the program (or its user) is writing; it may get lost."""
        connection = self.subscription.connection
        if connection is not None and self.subscription.is_in:
            connection.tell(Typing(room=self.name))

    # Requests: each waits for a connection if need be

    async def history(
        self, *, before: int | None = None, after: int | None = None, around: int | None = None, limit: int = 50
    ) -> HistoryPage:
        """A page of messages by number; without a place the newest ones."""
        command = History(room=self.name, before=before, after=after, around=around, limit=limit)
        page = await self._ask(command, _HistoryOk)
        events = tuple(decode_event(bytes(event), _decode_kind(event).kind) for event in page.events)
        return HistoryPage(events, page.head, page.more_before, page.more_after)

    async def mark_read(self, seq: int) -> int:
        """The user has read up to there; answers the mark, a maximum over all devices."""
        return (await self._ask(Read(room=self.name, seq=seq), ReadOk)).seq

    async def presence(self) -> PresenceState:
        """Who is here now."""
        return await self._ask(Presence(room=self.name), PresenceOk)

    # Taking part

    def on(self, kind: type[T], handler: Callable[[T], object]) -> Callable[[], None]:
        """Call ``handler`` with each event (``Message``, ``Edited``, …) or notice (``TypingPush``, ``Reset``, …) of that kind.

        It is called in the order of the log; if it is a coroutine it goes on by itself, and its failure is logged.  ``object`` is
        every kind.  The answer is a function that ends it.
        """
        return self.subscription.delivery.add_handler(kind, handler)

    def __aiter__(self) -> AsyncIterator[AnyEvent]:
        """The events of the log from now on, one after the other."""
        return self.subscription.delivery.new_reading()

    def when_joined(self) -> Deferred[None]:
        """Fires when the room is joined; fails if the server refuses for good."""
        return self.subscription.when_joined()

    def leave(self) -> None:
        """Leave the room; what is not acknowledged fails with :class:`RoomLeft`."""
        self._forget(self)
        self.subscription.leave(RoomLeft(f"{self.name} was left"))

    def _post(self, command: Send | Edit | Delete | React | Topic) -> Deferred[Any]:
        return self.subscription.sender.post(command, self.subscription.refused)

    def _ask(self, command: Command, answer: type[A]) -> Deferred[A]:
        error = self.subscription.refused or self._outlet.over
        return fail(error) if error is not None else self.subscription.requests.ask(command, answer)
