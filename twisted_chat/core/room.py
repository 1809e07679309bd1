"""A room: its log, those who read it, and what is true of it now (topic, policy, members).

In:   events that the log has numbered (:meth:`Room.announce`), in order; they go into the cache and to each broadcast, one for each
      encoding in which the room is read.
Out:  delivery to live subscriptions; everybody else reads on by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace
from twisted.logger import Logger

from twisted_chat.core.broadcast import Broadcast, FanOut
from twisted_chat.core.log import RoomLog
from twisted_chat.core.presence import PresenceList
from twisted_chat.core.subscription import Subscription
from twisted_chat.errors import LimitReached
from twisted_chat.events import Deleted, Event, RoomChanged, RoomSettings, TopicSet
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
    :ivar settings: what its owners decided; ``policy`` is that of the configuration with their changes.
    :ivar governed: somebody has a role or a sanction in it, so that each message is checked.
    :ivar on_governed: called with each event that changes who may do what, when it was delivered and before what comes after it.
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
        self.settings = record.settings
        self.governed = False
        self.on_governed: Callable[[Room, Event], None] = _ignore
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

    @property
    def access(self) -> str:
        """``public``, ``private`` or ``direct``."""
        return self.settings.access

    def set_policy(self, policy: RoomPolicy) -> None:
        """Behave by that policy of the configuration from now on; whether a room is durable stays what it was."""
        self._configured = policy
        self.policy = policy = effective_policy(policy, self.settings)
        usual = policy.writers == "all" and self.access == "public" and not self.governed
        self.open_to_all = usual and not policy.slow_mode and not self.archived

    def set_archived(self, archived: bool) -> None:
        """Close the room for writing, or open it again."""
        self.archived = archived
        self.set_policy(self._configured)

    def set_settings(self, settings: RoomSettings) -> None:
        """Behave by what the owners decided."""
        self.settings = settings
        self.set_policy(self._configured)

    def govern(self, governed: bool) -> None:
        """Somebody has a role or a sanction in the room, or nobody has any more."""
        if governed != self.governed:
            self.governed = governed
            self.set_policy(self._configured)

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
        if record.settings != self.settings:
            self.set_settings(record.settings)

    def announce(self, events: Sequence[Event], *, split: bool = False) -> None:
        """The log has these next events: deliver them.  Called in the order of the numbers, without holes.

        The announcer is the only caller: ``core/announcer.py``.  Events behind one that changes who may do what are delivered by what
        is true after it.

        :param split: none but the last event is such a one.
        """
        if not split:
            for event in events:
                if event.governs:
                    self._announce_in_parts(events)
                    return
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

    def _announce_in_parts(self, events: Sequence[Event]) -> None:
        begin = 0
        for end, event in enumerate(events, 1):
            if event.governs:
                self.announce(events[begin:end], split=True)
                begin = end
                if isinstance(event, RoomChanged):
                    self.archived = event.archived
                    self.set_settings(event.settings)
                self.on_governed(self, event)
        if begin < len(events):
            self.announce(events[begin:], split=True)

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


def effective_policy(policy: RoomPolicy, settings: RoomSettings) -> RoomPolicy:
    """The policy of the configuration with what the owners of the room decided."""
    if settings.access != "public":
        policy = replace(policy, durable=True, guests=False)
    if settings.writers:
        policy = replace(policy, writers=settings.writers)
    if settings.slow_mode is not None:
        policy = replace(policy, slow_mode=settings.slow_mode)
    return policy


def _ignore(room: Room, event: Event) -> None:
    """Nobody wants to know."""
