"""A room is a log, a member is a cursor, and delivering is moving cursors.

What comes in: events that the log has numbered (``announce``).  What goes out: bytes to every reader that is at the head and
not congested, one write each.  A reader that does not keep up leaves the row of those written to directly and keeps nothing but
its position; when its socket has drained it reads on from the room's recent events, or from the store (design decisions 4
and 5).  Replay after a reconnect is the same thing.

The row is kept as flat lists: with 1,000 members the loop in :func:`send_to_all` is all there is, and looking at an object for
each member would cost as much as Python's share of the whole write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_chat.rules.encodings import Encoding
from twisted_chat.rules.link import Link, Send
from twisted_chat.rules.presence import Presence
from twisted_chat.rules.recent import Recent
from twisted_chat.words.errors import LimitReached
from twisted_chat.words.events import Deleted, Event, TopicSet
from twisted_chat.words.limits import Limits, RoomPolicy
from twisted_chat.words.store import RoomRecord

#: Bytes that a reader who catches up is given in one write; bounds what a connection can hold beside its cursor.
CATCH_UP_BYTES = 65_536
#: Events read from the store at once for one reader.
CATCH_UP_EVENTS = 512

#: Reads the log after a number: the store's ``read`` with its bounds filled in.
ReadLog = Callable[[str, int], "Deferred[list[Event]]"]


def send_to_all(sends: Sequence[Send], chunk: bytes) -> list[tuple[int, int]]:
    """Give ``chunk`` to each; answers (place, bytes taken) of those that did not take all, -1 for a broken socket."""
    size = len(chunk)
    short = []
    for place, send in enumerate(sends):
        try:
            taken = send(chunk)
        except BlockingIOError:
            taken = 0
        except OSError:
            taken = -1
        if taken != size:
            short.append((place, taken))
    return short


class State(Enum):
    """Where a reader stands."""

    WAITING = auto()  #: not yet told where it starts
    BEHIND = auto()  #: has a position and is fed when its link takes bytes
    READING = auto()  #: behind, and a read of the store is under way
    LIVE = auto()  #: at the head; written to directly
    LEFT = auto()


class Reader:
    """One member's cursor in one room.

    :ivar position: everything up to and including this number has been handed over; of no meaning while LIVE.
    :ivar dropped: events of an ephemeral room that were forgotten before this reader took them.
    """

    __slots__ = ("audience", "dropped", "link", "member", "place", "position", "state")

    def __init__(self, audience: Audience, link: Link, member: Member) -> None:
        self.audience = audience
        self.link = link
        self.member = member
        self.state = State.WAITING
        self.position = 0
        self.place = -1
        self.dropped = 0

    @property
    def room(self) -> Room:
        return self.audience.room

    def start(self, position: int) -> None:
        """Read from after ``position``."""
        self.position = position
        self.state = State.BEHIND

    def feed(self) -> int:
        """Give the link what it takes, at most one write; answers the bytes given.

        Called while BEHIND and not congested.  Afterwards the reader is LIVE, READING, still BEHIND, or congested.
        """
        audience = self.audience
        room = audience.room
        if self.position >= room.head:
            audience.enter_row(self)
            self.member.reached_head(self)
            return 0
        items = audience.items_after(self.position)
        if items is None:
            return self._feed_from_store()
        return self._give(items, lambda count: self.position + count)

    def fall_behind(self) -> None:
        """The link is congested by something else: leave the row, keeping the place at the head."""
        if self.state is State.LIVE:
            self.audience.leave_row(self)

    def leave(self) -> None:
        """End."""
        self.fall_behind()
        self.state = State.LEFT

    def _feed_from_store(self) -> int:
        room = self.room
        if not room.durable:
            gap = room.recent.base - 1 - self.position
            self.dropped += gap
            room.dropped += gap
            self.position += gap
            self.member.missed(self, gap)
            return 0
        self.state = State.READING
        room.read_log(room.name, self.position).addCallbacks(self._store_answered, self._store_failed)
        return 0

    def _store_answered(self, events: list[Event]) -> None:
        if self.state is not State.READING:
            return
        self.state = State.BEHIND
        head = self.room.head
        if events and events[-1].seq > head:
            # The store is ahead of what has been announced, which the announcement will bring.
            events = [event for event in events if event.seq <= head]
            if not events:
                self.member.feed_soon()
                return
        if not events:
            # Nothing after the position though the head is beyond it: retention took it meanwhile.
            self.position = max(self.position, min(self.room.first - 1, self.room.head))
        elif not self.link.congested:
            gap = events[0].seq - 1 - self.position
            if gap:
                # Retention was faster than this reader.
                self.position += gap
                self.member.missed(self, gap)
            self._give(self.audience.encoding.items(events), lambda count: events[count - 1].seq)
        self.member.feed_soon()

    def _store_failed(self, reason: object) -> None:
        # It stays READING, so that nothing feeds it before the pause is over: a store that fails at once would be asked for ever.
        if self.state is State.READING:
            self.member.read_failed(self, reason)

    def retry(self) -> None:
        """Read on after a failure."""
        if self.state is State.READING:
            self.state = State.BEHIND
            self.member.feed_soon()

    def _give(self, items: list[bytes], position_after: Callable[[int], int]) -> int:
        encoding = self.audience.encoding
        chunk = encoding.join(items)
        if not chunk:
            self.position = position_after(len(items))
            return 0
        try:
            taken = self.link.send(chunk)
        except BlockingIOError:
            taken = 0
        except OSError:
            self.leave()
            self.link.abort()
            return 0
        if taken == len(chunk):
            self.position = position_after(len(items))
        else:
            count, rest = encoding.cut(items, taken)
            self.position = position_after(count)
            if rest:
                self.link.hold(rest)
        return taken


class Member(Protocol):
    """What a reader tells its session."""

    def reached_head(self, reader: Reader) -> None:
        """The reader is live."""

    def missed(self, reader: Reader, count: int) -> None:
        """Events are gone that this reader has not taken: of an ephemeral room, or by retention."""

    def feed_soon(self) -> None:
        """There is more to feed."""

    def read_failed(self, reader: Reader, reason: object) -> None:
        """The store could not be read: call ``reader.retry()`` after a pause."""


class Audience:
    """The members who read a room in one encoding, and the encoded recent events."""

    def __init__(self, room: Room, encoding: Encoding) -> None:
        self.room = room
        self.encoding = encoding
        #: Readers at the head, and the ``send`` of each at the same place.
        self.row: list[Reader] = []
        self._sends: list[Send] = []
        self._items: list[bytes] = []
        self._base = room.recent.base
        self._announcing = False
        self._leaving: list[Reader] = []

    def __len__(self) -> int:
        return len(self.row)

    def enter_row(self, reader: Reader) -> None:
        """The reader is at the head: write to it directly from now on."""
        reader.state = State.LIVE
        reader.place = len(self.row)
        self.row.append(reader)
        self._sends.append(reader.link.send)

    def leave_row(self, reader: Reader) -> None:
        """The reader is written to directly no more; its position is the head."""
        reader.state = State.BEHIND
        reader.position = self.room.head
        if self._announcing:
            # It has taken this announcement whole (a transport with a buffer of its own); places must not move now.
            self._leaving.append(reader)
        else:
            self._remove(reader)

    def announce(self, events: Sequence[Event]) -> None:
        """Write the next events to everybody in the row."""
        if not self._sends:
            return
        items = self._encode(events)
        chunk = self.encoding.join(items)
        if not chunk:
            return
        self._announcing = True
        try:
            short = send_to_all(self._sends, chunk)
        finally:
            self._announcing = False
        if short or self._leaving:
            self._part(short, items, events[0].seq)

    def items_after(self, position: int) -> list[bytes] | None:
        """Encoded events after ``position``, at most :data:`CATCH_UP_BYTES` beyond the first; None: not in memory any more."""
        start = self.room.recent.after(position)
        if start is None:
            return None
        self._fill()
        items = self._items
        end, size = start, 0
        while end < len(items) and (size < CATCH_UP_BYTES):
            size += len(items[end])
            end += 1
        return items[start:end]

    def refresh(self, places: Sequence[int]) -> None:
        """Recent events changed at these places of the window."""
        self._fill()
        for place in places:
            self._items[place] = self.encoding.items([self.room.recent.events[place]])[0]

    def trim(self) -> None:
        """Follow the window."""
        gone = self.room.recent.base - self._base
        if gone:
            del self._items[:gone]
            self._base += gone

    def _encode(self, events: Sequence[Event]) -> list[bytes]:
        items = self.encoding.items(events)
        if self._base + len(self._items) == events[0].seq:
            self._items.extend(items)
        return items

    def _fill(self) -> None:
        self.trim()
        missing = self.room.recent.events[len(self._items) :]
        if missing:
            self._items.extend(self.encoding.items(missing))

    def _part(self, short: list[tuple[int, int]], items: list[bytes], first: int) -> None:
        parting = [(self.row[place], taken) for place, taken in short]
        leaving, self._leaving = self._leaving, []
        # A transport may say that it is full from inside a send that takes only a part: it is removed once.
        parted = {reader for reader, _ in parting}
        for reader in leaving:
            if reader not in parted:
                self._remove(reader)
        for reader, taken in parting:
            self._remove(reader)
            reader.state = State.BEHIND
            if taken < 0:
                reader.position = first - 1
                reader.link.abort()
                continue
            count, rest = self.encoding.cut(items, taken)
            reader.position = first - 1 + count
            if rest:
                reader.link.hold(rest)
            else:
                reader.member.feed_soon()

    def _remove(self, reader: Reader) -> None:
        # The last one takes the free place: order within the row means nothing.
        last, last_send = self.row.pop(), self._sends.pop()
        if last is not reader:
            place = reader.place
            self.row[place], self._sends[place] = last, last_send
            last.place = place
        reader.place = -1


class Room:
    """One room of this server.

    :ivar head: the newest number; ``first`` the oldest that is kept.
    :ivar dropped: deliveries that an ephemeral room let go because a reader was slow.
    """

    log = Logger()

    def __init__(
        self, record: RoomRecord, epoch: str, policy: RoomPolicy, limits: Limits, read_log: ReadLog, presence: Presence
    ) -> None:
        self.name = record.name
        self.epoch = epoch
        self.durable = policy.durable
        self.archived = record.archived
        self.follow(policy)
        self.first = record.first
        self.head = record.head
        self.head_id = record.head_id
        self.topic = record.topic or policy.topic
        self.recent = Recent(record.head, limits.recent_events, limits.recent_bytes)
        self.read_log = read_log
        self.presence = presence
        self.dropped = 0
        self.delivered = 0
        self.members = 0
        self._audiences: dict[object, Audience] = {}

    def follow(self, policy: RoomPolicy) -> None:
        """Behave by that policy from now on; whether a room is durable stays what it was."""
        self.policy = policy
        #: Everybody may write at any time: the usual room, asked for each message.
        self.open_to_all = policy.writers == "all" and not policy.slow_mode and not self.archived

    def archive(self, archived: bool) -> None:
        """Closed for writing from now on, or open again."""
        self.archived = archived
        self.follow(self.policy)

    def audience(self, key: object, encoding: Callable[[str], Encoding]) -> Audience:
        """Those who read in the encoding of that key."""
        audience = self._audiences.get(key)
        if audience is None:
            audience = self._audiences[key] = Audience(self, encoding(self.name))
        return audience

    def check_size(self) -> None:
        """:class:`LimitReached` if nobody more fits in."""
        if self.policy.size and self.members >= self.policy.size:
            raise LimitReached(f"room: {self.name} is full ({self.policy.size} members)")

    def announce(self, events: Sequence[Event]) -> None:
        """The log has these next events: deliver them.  Called in the order of the numbers, without holes."""
        if events[0].seq != self.head + 1:
            raise AssertionError(f"{self.name}: announced {events[0].seq} after {self.head}")
        self.head, self.head_id = events[-1].seq, events[-1].id
        recent = self.recent
        recent.extend(events)
        audiences = self._audiences.values()
        for audience in audiences:
            audience.announce(events)
            self.delivered += len(audience) * len(events)
        for event in events:
            if event.amends:
                if type(event) is Deleted:
                    self._erase(event)
            elif type(event) is TopicSet:
                self.topic = event.text
        for audience in audiences:
            audience.trim()

    def live_members(self) -> list[Member]:
        """Whose readers are at the head and not congested: for what is dropped for the others."""
        return [reader.member for audience in self._audiences.values() for reader in audience.row]

    def forget_recent(self) -> None:
        """Give back the memory of the recent events."""
        self.recent.forget()
        for audience in self._audiences.values():
            audience.trim()

    def retained(self, record: RoomRecord) -> None:
        """Retention took the oldest events from the store."""
        self.first = record.first

    def _erase(self, deleted: Deleted) -> None:
        places = self.recent.replace_deleted(deleted)
        if places:
            for audience in self._audiences.values():
                audience.refresh(places)
