"""The state of one node as another one knows it: who is connected to it, in which rooms.

In:   changes, parts of the whole state, and the newest version, as the bus brings them.
Out:  what is different now; whether something is missing.

It decides without touching anything else.  The rules: a change holds if it is newer than what is known of the same user and room; the
whole state has everything up to its version, so what it does not have, and what no newer change has told, is no more.
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
        #: That of the change or the whole state that told it.
        self.version = version


class KnownNode:
    """What is known of a node.

    :ivar rooms: users by id in each room where it has any.
    :ivar version: the newest change that is known to be.
    :ivar heard: the number of its last sign of life.
    :ivar asked_at: when its whole state was last asked for, in seconds; None: never.
    :ivar asked: how often since its last sign of life.
    """

    def __init__(self) -> None:
        self.rooms: dict[str, dict[str, Entry]] = {}
        self.version = 0
        self.heard = 0
        self.asked_at: float | None = None
        self.asked = 0
        #: Up to this version everything is known for certain; a whole state makes it so.
        self._whole = 0
        #: The newest version that is missing, or behind something that is; a whole state of this version or a later one fills the hole.
        self._hole = 0
        #: The whole state that is being told: its version, and the part that came last.
        self._telling = 0
        self._part = 0
        #: Who is no more since it began, so that a part that comes twice does not bring them back.
        self._gone: set[tuple[str, str]] = set()

    @property
    def has_hole(self) -> bool:
        """Whether something was lost that no whole state has told since."""
        return self._hole > self._whole

    def take_number(self, version: int) -> bool:
        """A change of that version came; whether it is new.  Those between it and the last one were lost."""
        if version <= self.version:
            return False
        if version > self.version + 1:
            self._hole = version - 1
        self.version = version
        return True

    def take_newest(self, version: int) -> None:
        """The node says that this is its newest version."""
        if version > self.version:
            self._hole = self.version = version

    def take_change(self, version: int, presence: Presence) -> None:
        """A user's connections in a room, by a change that :meth:`take_number` found new."""
        self._set(presence.room, presence.by, presence.connections, version)
        if self._telling > self._whole:
            place = presence.room, presence.by.id
            (self._gone.discard if presence.connections else self._gone.add)(place)

    def take_state(self, state: NodeState) -> list[Presence]:
        """A part of the whole state; answers what it changes.  A part behind one that was lost is of no use, nor is an old state."""
        if state.part == 1 and state.version > self._whole and state.version >= self._telling:
            self._telling, self._part = state.version, 0
        if state.version != self._telling or state.part != self._part + 1:
            return []
        self._part = state.part
        self.take_newest(state.version)
        changed = [presence for presence in state.presences if self._take_entry(presence, state.version)]
        if state.part == state.parts:
            self._whole = state.version
            self._gone.clear()
            changed += self._sweep(state.version)
        return changed

    def presences(self) -> Iterator[tuple[str, Entry]]:
        """Everything that is known, with the names of the rooms."""
        for room, users in self.rooms.items():
            for entry in users.values():
                yield room, entry

    def _take_entry(self, presence: Presence, version: int) -> bool:
        if (presence.room, presence.by.id) in self._gone:
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
