"""A room: its log, those who read it, and what is true of it now (topic, policy, members).

In:   events that the log has numbered (:meth:`Room.announce`), in order; they go into the cache and to each broadcast, one for each
      encoding in which the room is read.
Out:  delivery to live subscriptions; everybody else reads on by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from twisted_chat.core.broadcast import Broadcast, FanOut
from twisted_chat.core.log import RoomLog
from twisted_chat.core.presence import PresenceList
from twisted_chat.core.subscription import Subscription
from twisted_chat.errors import LimitReached
from twisted_chat.events import Deleted, Event, TopicSet
from twisted_chat.limits import RoomPolicy
from twisted_chat.protocol.encoders import Encoding
from twisted_chat.store_contract import RoomRecord

#: Edits of one message in the cache that its deletion takes the texts out of, some 1 ms with the encodings.  Where there are more
#: the cache is dropped, and readers read from the store, a slice each: 8,000 edits held up everybody for 30 ms.
ERASED_IN_PLACE = 250


class Room:
    """One room of this server.

    :ivar log: its numbers and its cache of recent events.
    :ivar members: connections that are in the room.
    :ivar stale: other nodes may have written to its log while it was not in memory here, and the store has not said so yet.
    :ivar open_to_all: every user may send at any time: the usual room, asked for each message.
    :ivar charged_to: whose rates (user, address) get the room back if it is forgotten because nothing was said in it.
    """

    logger = Logger()

    def __init__(self, record: RoomRecord, log: RoomLog, policy: RoomPolicy, presence: PresenceList, fan_out: FanOut) -> None:
        self.name = log.name
        self.log = log
        self.durable = log.durable
        self.epoch = log.epoch
        self.archived = record.archived
        self.stale = False
        self.set_policy(policy)
        self.topic = record.topic or policy.topic
        self.presence = presence
        self.members = 0
        self.charged_to: tuple[str, ...] = ()
        self._fan_out = fan_out
        self._broadcasts: dict[object, Broadcast] = {}
        self._listeners: list[Callable[[], None]] = []

    @property
    def head(self) -> int:
        """The newest number."""
        return self.log.head

    @property
    def head_id(self) -> str:
        """The id of the event at the head."""
        return self.log.head_id

    @property
    def first(self) -> int:
        """The oldest number that is kept."""
        return self.log.first

    def set_policy(self, policy: RoomPolicy) -> None:
        """Behave by that policy from now on; whether a room is durable stays what it was."""
        self.policy = policy
        self.open_to_all = policy.writers == "all" and not policy.slow_mode and not self.archived

    def set_archived(self, archived: bool) -> None:
        """Close the room for writing, or open it again."""
        self.archived = archived
        self.set_policy(self.policy)

    def broadcast(self, key: object, encoding: Callable[[str], Encoding]) -> Broadcast:
        """The broadcast in the encoding of that key; ``encoding`` makes it from the room's name."""
        broadcast = self._broadcasts.get(key)
        if broadcast is None:
            broadcast = self._broadcasts[key] = Broadcast(self.log, encoding(self.name), self._fan_out)
        return broadcast

    def check_size(self) -> None:
        """:class:`LimitReached` if nobody more fits in."""
        if self.policy.size and self.members + self.presence.elsewhere >= self.policy.size:
            raise LimitReached(f"room: {self.name} is full ({self.policy.size} members)")

    def refresh(self, record: RoomRecord) -> None:
        """The store has this now; nobody reads the room yet."""
        log = self.log
        if record.head >= log.head:
            self.topic = record.topic or self.policy.topic
        if record.head > log.head:
            self._go_on_at(record.head + 1)
            log.head_id = record.head_id
        log.first = max(log.first, record.first)
        if record.archived != self.archived:
            self.set_archived(record.archived)

    def announce(self, events: Sequence[Event]) -> None:
        """The log has these next events: deliver them.  Called in the order of the numbers, without holes.

        The announcer is the only caller: ``core/announcer.py``.
        """
        log = self.log
        log.append(events)
        broadcasts = self._broadcasts.values()
        for broadcast in broadcasts:
            broadcast.announce(events)
        for event in events:
            if event.amends:
                if type(event) is Deleted:
                    self._erase(event)
            elif type(event) is TopicSet:
                self.topic = event.text
        if log.cache.full:
            self._shrink_cache(log.cache.trim)
        if self._listeners:
            for listener in [*self._listeners]:
                listener()

    def skip_to(self, seq: int) -> None:
        """Retention removed events before they were announced here: go on at number ``seq``."""
        self._go_on_at(seq)
        self.log.first = max(self.log.first, seq)

    def _go_on_at(self, seq: int) -> None:
        for broadcast in self._broadcasts.values():
            broadcast.write_all()
            broadcast.make_all_behind()
        self.log.skip_to(seq)
        for broadcast in self._broadcasts.values():
            broadcast.trim()

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever the log has grown."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Callable[[], None]) -> None:
        """Stop calling it."""
        self._listeners.remove(listener)

    @property
    def in_use(self) -> bool:
        """Whether anybody is in the room or reads it."""
        return bool(self.members or self._listeners)

    def live_subscriptions(self) -> list[Subscription]:
        """At the head and not congested: for what is dropped for the others."""
        return [each for broadcast in self._broadcasts.values() for each in broadcast.live_subscriptions()]

    def clear_cache(self) -> None:
        """Free the memory of the recent events."""
        self._shrink_cache(self.log.cache.clear)

    def events_removed(self, first: int) -> None:
        """Retention removed the events before that number from the store, perhaps some that are not announced here yet."""
        self.log.first = max(self.log.first, min(first, self.log.head + 1))

    def _shrink_cache(self, shrink: Callable[[], None]) -> None:
        broadcasts = self._broadcasts.values()
        for broadcast in broadcasts:
            broadcast.write_all()
        shrink()
        for broadcast in broadcasts:
            broadcast.trim()

    def _erase(self, deleted: Deleted) -> None:
        if self.log.cache.edits_of(deleted.of) > ERASED_IN_PLACE:
            self.clear_cache()
            return
        indexes = self.log.cache.replace_deleted(deleted)
        if indexes:
            for broadcast in self._broadcasts.values():
                broadcast.encode_again(indexes)
