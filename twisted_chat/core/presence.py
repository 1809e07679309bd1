"""Who is in a room: persons with a count of their connections, as a versioned list (``docs/protocol.rst``, presence).

A person who leaves is announced only after a time of grace, and coming back in it cancels that: reconnects and page
reloads do not flicker.  In a large room the list becomes a number, told at most every few seconds: ten thousand people who
come and go would otherwise cost ten thousand times ten thousand frames.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import UNSET

from twisted_chat.core.scheduler import CallLater, Scheduler
from twisted_chat.events import Author
from twisted_chat.protocol.replies import PresencePush, Present

#: Seconds between the last connection's end and the announcement that the person left.
GRACE = 20.0
#: Persons above which only the number is told.
LIST_MAX = 200
#: Seconds between two numbers.
COUNT_EVERY = 5.0


class Watcher(Protocol):
    """A session that asked for presence."""

    def presence_changed(self, push: PresencePush) -> None: ...


class _Here:
    __slots__ = ("author", "connections", "leaving")

    def __init__(self, author: Author) -> None:
        self.author = author
        self.connections = 0
        self.leaving = 0


class PresenceList:
    """The presence of one room.

    :ivar version: grows by one with each push of a change, so that a client notices one that it missed.
    """

    def __init__(self, room: str, scheduler: Scheduler, call_later: CallLater) -> None:
        self.version = 0
        self._room = room
        self._scheduler = scheduler
        self._call_later = call_later
        self._people: dict[str, _Here] = {}
        self._watchers: set[Watcher] = set()
        #: In the order in which they changed.
        self._changed: dict[str, None] = {}
        self._told: dict[str, Present] = {}
        self._pending = False
        self._listed = True

    @property
    def count(self) -> int:
        """Persons here, those in their time of grace included."""
        return len(self._people)

    def enter(self, author: Author) -> None:
        """One more connection of that person."""
        here = self._people.get(author.id)
        if here is None:
            here = self._people[author.id] = _Here(author)
        here.author = author
        here.connections += 1
        here.leaving += 1
        self._change(author.id)

    def leave(self, user: str) -> None:
        """One connection less; the person is gone after :data:`GRACE` unless it comes back."""
        here = self._people[user]
        here.connections -= 1
        if here.connections:
            self._change(user)
            return
        here.leaving += 1
        ticket = here.leaving
        self._call_later(GRACE, lambda: self._grace_over(user, ticket))

    def watch(self, watcher: Watcher) -> None:
        """Tell this session of changes."""
        self._watchers.add(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Tell it no more."""
        self._watchers.discard(watcher)

    def snapshot(self) -> PresencePush:
        """The whole of it at this version."""
        if len(self._people) > LIST_MAX:
            return PresencePush(room=self._room, version=self.version, count=len(self._people))
        people = tuple(self._told[user] for user in self._told)
        return PresencePush(room=self._room, version=self.version, count=len(people), people=people)

    def _grace_over(self, user: str, ticket: int) -> None:
        here = self._people.get(user)
        if here is not None and here.leaving == ticket and not here.connections:
            del self._people[user]
            self._change(user)

    def _change(self, user: str) -> None:
        self._changed[user] = None
        if not self._pending:
            self._pending = True
            if len(self._people) > LIST_MAX:
                self._call_later(COUNT_EVERY, self._tell)
            else:
                self._scheduler.at_end(self._tell)

    def _tell(self) -> None:
        self._pending = False
        changed, self._changed = self._changed, {}
        came, left = [], []
        for user in changed:
            here = self._people.get(user)
            if here is None:
                if self._told.pop(user, None) is not None:
                    left.append(user)
                continue
            present = Present(id=user, name=here.author.name, connections=here.connections)
            if here.connections and self._told.get(user) != present:
                self._told[user] = present
                came.append(present)
        if not (came or left):
            return
        previous, self.version = self.version, self.version + 1
        listed, self._listed = self._listed, len(self._people) <= LIST_MAX
        if not self._listed:
            push = PresencePush(room=self._room, version=self.version, previous=previous, count=len(self._people))
        elif not listed:
            # Those who were told only the number have no list to change.
            push = self.snapshot()
        else:
            push = PresencePush(
                room=self._room,
                version=self.version,
                previous=previous,
                count=len(self._people),
                came=tuple(came) or UNSET,
                left=tuple(left) or UNSET,
            )
        for watcher in list(self._watchers):
            watcher.presence_changed(push)
