"""A room is a log, a member is a cursor, and delivering is moving cursors.

What comes in: events that the log has numbered (``announce``), in order.  They go into the window of recent events and to each
audience, those who read in one encoding (``core/broadcast.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_chat.core.broadcast import Broadcast, FanOut
from twisted_chat.core.log import EventCache
from twisted_chat.core.presence import PresenceList
from twisted_chat.errors import LimitReached
from twisted_chat.events import Deleted, Event, TopicSet
from twisted_chat.interfaces import RoomRecord
from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.protocol.encoders import Encoding

if TYPE_CHECKING:
    from twisted_chat.core.subscription import Subscriber

#: Reads the log after a number: the store's ``read`` with its bounds filled in.
ReadLog = Callable[[str, int], "Deferred[list[Event]]"]


class Room:
    """One room of this server.

    :ivar head: the newest number; ``first`` the oldest that is kept.
    :ivar dropped: deliveries that an ephemeral room let go because a reader was slow.
    """

    log = Logger()

    def __init__(
        self,
        record: RoomRecord,
        epoch: str,
        policy: RoomPolicy,
        limits: Limits,
        read_log: ReadLog,
        presence: PresenceList,
        fan_out: FanOut,
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
        self.recent = EventCache(record.head, limits.recent_events, limits.recent_bytes)
        self.read_log = read_log
        self.presence = presence
        self._fan_out = fan_out
        self.dropped = 0
        self.delivered = 0
        self.members = 0
        self._broadcasts: dict[object, Broadcast] = {}

    def follow(self, policy: RoomPolicy) -> None:
        """Behave by that policy from now on; whether a room is durable stays what it was."""
        self.policy = policy
        #: Everybody may write at any time: the usual room, asked for each message.
        self.open_to_all = policy.writers == "all" and not policy.slow_mode and not self.archived

    def archive(self, archived: bool) -> None:
        """Closed for writing from now on, or open again."""
        self.archived = archived
        self.follow(self.policy)

    def broadcast(self, key: object, encoding: Callable[[str], Encoding]) -> Broadcast:
        """Those who read in the encoding of that key."""
        broadcast = self._broadcasts.get(key)
        if broadcast is None:
            broadcast = self._broadcasts[key] = Broadcast(self, encoding(self.name), self._fan_out)
        return broadcast

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
        broadcasts = self._broadcasts.values()
        for broadcast in broadcasts:
            broadcast.announce(events)
        for event in events:
            if event.amends:
                if type(event) is Deleted:
                    self._erase(event)
            elif type(event) is TopicSet:
                self.topic = event.text
        if recent.full:
            self._forget(recent.trim)

    def live_members(self) -> list[Subscriber]:
        """Whose readers are at the head and not congested: for what is dropped for the others."""
        return [
            subscription.subscriber
            for broadcast in self._broadcasts.values()
            for shard in broadcast.shards
            for subscription in shard.subscriptions
        ]

    def forget_recent(self) -> None:
        """Give back the memory of the recent events."""
        self._forget(self.recent.forget)

    def retained(self, record: RoomRecord) -> None:
        """Retention took the oldest events from the store."""
        self.first = record.first

    def _forget(self, recent: Callable[[], None]) -> None:
        broadcasts = self._broadcasts.values()
        for broadcast in broadcasts:
            broadcast.write_all()
        recent()
        for broadcast in broadcasts:
            broadcast.trim()

    def _erase(self, deleted: Deleted) -> None:
        places = self.recent.replace_deleted(deleted)
        if places:
            for broadcast in self._broadcasts.values():
                broadcast.refresh(places)
