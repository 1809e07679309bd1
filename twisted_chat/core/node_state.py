"""A replica of the state of another node: which users are connected to it, in which rooms.

In:   changes, parts of the full state, and the node's newest version, as they arrive over the bus.
Out:  what has changed; whether changes are missing.

A change is applied if its version is newer than that of the entry for the same user and room.  The full state of version *n* contains
all changes up to *n*: entries that it does not contain, and that no newer change has set, are removed.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted_chat.bus import NodeState, Presence
from twisted_chat.events import Author


class Entry:
    """A user in a room by that node."""

    __slots__ = ("author", "connections", "version")

    def __init__(self, author: Author, connections: int, version: int) -> None:
        self.author = author
        self.connections = connections
        #: The version of the change or the full state that set the entry.
        self.version = version


class KnownNode:
    """The replica of one node.

    :ivar rooms: room -> user's id -> entry; rooms without users are absent.
    :ivar version: the version of the newest change that is known to exist.
    :ivar heard: the number of its last heartbeat.
    :ivar asked_at: when its full state was last requested, in seconds; None: never.
    :ivar asked: requests since its last heartbeat.
    """

    def __init__(self) -> None:
        self.rooms: dict[str, dict[str, Entry]] = {}
        self.version = 0
        self.heard = 0
        self.asked_at: float | None = None
        self.asked = 0
        #: The version of the last full state that was received completely.
        self._complete = 0
        #: The version of the newest missing change; a full state of this version or a later one closes the gap.
        self._gap = 0
        #: The full state that is being received: its version, and the number of the last part.
        self._receiving = 0
        self._part = 0
        #: Entries removed by changes since it began, so that a repeated part does not restore them.
        self._removed: set[tuple[str, str]] = set()

    @property
    def has_gap(self) -> bool:
        """Whether changes were lost that no full state has replaced yet."""
        return self._gap > self._complete

    def take_number(self, version: int) -> bool:
        """A change of that version arrived; False if it is a repetition.  A skipped version makes a gap."""
        if version <= self.version:
            return False
        if version > self.version + 1:
            self._gap = version - 1
        self.version = version
        return True

    def take_newest(self, version: int) -> None:
        """The newest version of the node, from its heartbeat."""
        if version > self.version:
            self._gap = self.version = version

    def take_change(self, version: int, presence: Presence) -> None:
        """Apply a change that :meth:`take_number` found to be new."""
        self._set(presence.room, presence.by, presence.connections, version)
        if self._receiving > self._complete:
            place = presence.room, presence.by.id
            (self._removed.discard if presence.connections else self._removed.add)(place)

    def take_state(self, state: NodeState) -> list[Presence]:
        """Apply a part of the full state; answers what it changed.  Parts behind a lost one, and old states, are ignored."""
        if state.part == 1 and state.version > self._complete and state.version >= self._receiving:
            self._receiving, self._part = state.version, 0
        if state.version != self._receiving or state.part != self._part + 1:
            return []
        self._part = state.part
        self.take_newest(state.version)
        changed = [presence for presence in state.presences if self._take_entry(presence, state.version)]
        if state.part == state.parts:
            self._complete = state.version
            self._removed.clear()
            changed += self._sweep(state.version)
        return changed

    def presences(self) -> Iterator[tuple[str, Entry]]:
        """All entries, with the names of their rooms."""
        for room, users in self.rooms.items():
            for entry in users.values():
                yield room, entry

    def _take_entry(self, presence: Presence, version: int) -> bool:
        if (presence.room, presence.by.id) in self._removed:
            return False
        entry = self.rooms.get(presence.room, {}).get(presence.by.id)
        if entry is None or entry.version < version:
            self._set(presence.room, presence.by, presence.connections, version)
            return entry is None or entry.connections != presence.connections or entry.author != presence.by
        return False

    def _sweep(self, version: int) -> list[Presence]:
        gone = [(room, entry.author) for room, entry in self.presences() if entry.version < version]
        for room, author in gone:
            self._set(room, author, 0, version)
        return [Presence(room, author, 0) for room, author in gone]

    def _set(self, room: str, author: Author, connections: int, version: int) -> None:
        if connections:
            self.rooms.setdefault(room, {})[author.id] = Entry(author, connections, version)
        elif (users := self.rooms.get(room)) is not None:
            users.pop(author.id, None)
            if not users:
                del self.rooms[room]
