"""Who is in a room: users with a count of their connections, as a versioned list (``docs/protocol.rst``, presence).

A user who leaves is announced only after a grace period, and coming back within it cancels that: reconnects, page reloads and moves
from node to node do not flicker.  In a large room the list becomes a number, sent at most every few seconds: ten thousand users who
come and go would otherwise cost ten thousand times ten thousand frames.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import UNSET

from twisted_chat.core.scheduler import Scheduler, TimingWheel
from twisted_chat.events import Author
from twisted_chat.protocol.replies import PresencePush, Present

#: Seconds between the end of the last connection and the announcement that the user left.
GRACE_SECONDS = 20
#: The same for a user whose node has died, which was noticed only after 10 to 13 s; 15 s are the bound.
LOST_SECONDS = 1
#: Users above which only the number is sent.
MAX_LISTED = 200
#: Seconds between two numbers.
COUNT_SECONDS = 5


class Watcher(Protocol):
    """A session that asked for presence."""

    def presence_changed(self, push: PresencePush) -> None: ...


class _Here:
    __slots__ = ("author", "connections", "elsewhere", "gone_at", "own")

    def __init__(self, author: Author) -> None:
        self.author = author
        #: In all; ``own`` by this node, ``elsewhere`` by each other node that has any.
        self.connections = 0
        self.own = 0
        self.elsewhere: dict[str, int] | None = None
        #: The tick at which the user is gone, while there is no connection; else 0.
        self.gone_at = 0

    def tell(self, connections: int, node: str) -> int:
        """So many by that node; answers how many more that is."""
        elsewhere = self.elsewhere = self.elsewhere or {}
        before = elsewhere.pop(node, 0)
        if connections:
            elsewhere[node] = connections
        self.connections += connections - before
        return connections - before


class PresenceList:
    """The presence of one room.

    :ivar version: grows by one with each push of a change, so that a client notices one that it missed.
    :ivar elsewhere: connections in the room by other nodes.
    """

    def __init__(self, room: str, scheduler: Scheduler, timers: TimingWheel) -> None:
        self.version = 0
        self.elsewhere = 0
        self._room = room
        self._scheduler = scheduler
        self._timers = timers
        self._users: dict[str, _Here] = {}
        #: Users in their grace period by its length, in the order in which it ends.
        self._leaving: dict[int, dict[str, None]] = {GRACE_SECONDS: {}, LOST_SECONDS: {}}
        self._watchers: set[Watcher] = set()
        #: In the order in which they changed.
        self._changed: dict[str, None] = {}
        #: What watchers have been sent.
        self._sent: dict[str, Present] = {}
        self._pending = False
        #: The tick at which a number is due; 0: none is.
        self._count_at = 0
        self._listed = True

    @property
    def count(self) -> int:
        """Users here, those in their grace period included."""
        return len(self._users)

    def change_own(self, author: Author, more: int) -> int:
        """The user has so many more connections by this node; answers how many that are."""
        user = author.id
        here = self._users.get(user)
        if here is None:
            here = self._users[user] = _Here(author)
        here.own += more
        here.connections += more
        if here.own:
            here.author = author
        self._changed_connections(user, here, GRACE_SECONDS)
        return here.own

    def tell(self, author: Author, connections: int, node: str, *, lost: bool = False) -> None:
        """The user has so many connections here by that other node; what is told again changes nothing.

        Without any connection the user is gone after :data:`GRACE_SECONDS`.

        :param lost: the node has died: after :data:`LOST_SECONDS`.
        """
        user = author.id
        here = self._users.get(user)
        if here is None:
            if not connections:
                return
            here = self._users[user] = _Here(author)
        more = here.tell(connections, node)
        self.elsewhere += more
        if connections:
            here.author = author
        if here.connections or more:
            self._changed_connections(user, here, LOST_SECONDS if lost else GRACE_SECONDS)

    def _changed_connections(self, user: str, here: _Here, grace: int) -> None:
        if here.connections:
            if here.gone_at:
                here.gone_at = 0
                self._stay(user)
            self._change(user)
        else:
            self._leave(user, here, grace)

    def watch(self, watcher: Watcher) -> None:
        """Send this session each change."""
        self._watchers.add(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Stop sending it changes."""
        self._watchers.discard(watcher)

    def snapshot(self) -> PresencePush:
        """The whole list at this version."""
        if len(self._users) > MAX_LISTED:
            return PresencePush(room=self._room, version=self.version, count=len(self._users))
        people = tuple(self._sent[user] for user in self._sent)
        return PresencePush(room=self._room, version=self.version, count=len(people), people=people)

    def on_timer(self, tick: int) -> None:
        """Remove users whose grace period has ended, and send a number that is due."""
        for leaving in self._leaving.values():
            for user in list(leaving):
                gone_at = self._users[user].gone_at
                if gone_at > tick:
                    self._timers.schedule(gone_at - tick, self)
                    break
                del leaving[user], self._users[user]
                self._change(user)
        if self._count_at and tick >= self._count_at:
            self._count_at = 0
            self.send_changes()

    def _stay(self, user: str) -> None:
        for leaving in self._leaving.values():
            leaving.pop(user, None)

    def _leave(self, user: str, here: _Here, seconds: int) -> None:
        leaving = self._leaving[seconds]
        here.gone_at = self._timers.tick + seconds
        if not leaving:
            self._timers.schedule(seconds, self)
        leaving[user] = None

    def _change(self, user: str) -> None:
        self._changed[user] = None
        if not self._pending:
            self._pending = True
            if len(self._users) > MAX_LISTED:
                self._count_at = self._timers.tick + COUNT_SECONDS
                self._timers.schedule(COUNT_SECONDS, self)
            else:
                self._scheduler.at_end(self.send_changes)

    def send_changes(self) -> None:
        """Tell the watchers what has changed since the last time."""
        self._pending = False
        changed, self._changed = self._changed, {}
        came, left = [], []
        for user in changed:
            here = self._users.get(user)
            if here is None:
                if self._sent.pop(user, None) is not None:
                    left.append(user)
                continue
            present = Present(id=user, name=here.author.name, connections=here.connections)
            if here.connections and self._sent.get(user) != present:
                self._sent[user] = present
                came.append(present)
        if not (came or left):
            return
        previous, self.version = self.version, self.version + 1
        listed, self._listed = self._listed, len(self._users) <= MAX_LISTED
        if not self._listed:
            push = PresencePush(room=self._room, version=self.version, previous=previous, count=len(self._users))
        elif not listed:
            # Watchers that were sent only the number have no list to change.
            push = self.snapshot()
        else:
            push = PresencePush(
                room=self._room,
                version=self.version,
                previous=previous,
                count=len(self._users),
                came=tuple(came) or UNSET,
                left=tuple(left) or UNSET,
            )
        for watcher in list(self._watchers):
            watcher.presence_changed(push)
