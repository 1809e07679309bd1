"""The directory of rooms: made, found, listed, archived, forgotten.

In:   names as users type them; what the store has at the start, and what other processes change in it.
Out:  :class:`Room` objects, each made when it is first asked for; an error that names the field otherwise.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import merge
from itertools import islice
from unicodedata import normalize

from msgspec import Struct
from msgspec.structs import replace

from twisted_chat.core.configuration import Configuration
from twisted_chat.core.connections import address_block
from twisted_chat.core.permissions import Permissions
from twisted_chat.core.ratelimit import BucketTable
from twisted_chat.core.room import Room, effective_policy
from twisted_chat.errors import Conflict, Forbidden, LimitReached, NoSuchRoom, RateLimited
from twisted_chat.events import RoomSettings
from twisted_chat.limits import RoomPolicy
from twisted_chat.names import room_name, skeletons
from twisted_chat.store_contract import RoomRecord
from twisted_chat.users import User

#: Rooms in one list: an answer of megabytes would delay others.
LISTED_ROOMS = 1_000

#: Names that are looked at for one list, some 3 ms, when there are many that the user may not see.
SEEN_ROOMS = 5_000

#: How the names of rooms that are not public begin.
_GENERATED = {"private": "p~", "direct": "d~"}
_USUAL = RoomSettings()
_NO_SETTINGS: Mapping[str, RoomSettings] = {}

#: The room that always exists.
LOBBY = "lobby"

#: Makes the room of a record.
MakeRoom = Callable[[RoomRecord], Room]


class ListedRoom(Struct, frozen=True):
    """A room as a list shows it, whether it is in memory or not."""

    name: str
    topic: str
    first: int
    head: int
    members: int
    durable: bool
    archived: bool
    policy: RoomPolicy
    settings: RoomSettings

    @property
    def access(self) -> str:
        """``public``, ``private`` or ``direct``."""
        return self.settings.access


class RoomPage(Struct):
    """A part of the list.

    :ivar next: there may be more behind that name; None: there are none.
    """

    rooms: list[ListedRoom]
    next: str | None = None


class Rooms:
    """All rooms of this server, in memory or only in the store.

    :param records: what the store has at the start.
    :param now: monotonic seconds.
    :param elsewhere: how many connections are in the room of that name by other nodes.
    """

    def __init__(
        self,
        records: Iterable[RoomRecord],
        configuration: Configuration,
        permissions: Permissions,
        make_room: MakeRoom,
        now: Callable[[], float],
        elsewhere: Callable[[str], int] = lambda name: 0,
    ) -> None:
        self._elsewhere = elsewhere
        self._configuration = configuration
        self._permissions = permissions
        self._make_room = make_room
        self._records = {record.name: record for record in records}
        self._rooms: dict[str, Room] = {}
        self._grown: set[str] = set()
        #: The names of the public rooms in order, for the list, and of the others.
        self._names = sorted(name for name, record in self._records.items() if record.settings.access == "public")
        self._hidden = sorted(name for name, record in self._records.items() if record.settings.access != "public")
        #: Each look-alike form of each name of a public room -> the name.
        self._skeletons = {look: name for name in self._names for look in skeletons(name)}
        #: How many rooms were made, by user and by address.
        self.made = BucketTable(configuration, lambda limits: (limits.rooms_made_burst, limits.rooms_made_per_second), now)

    def __iter__(self) -> Iterator[Room]:
        """The rooms in memory."""
        return iter(list(self._rooms.values()))

    def __len__(self) -> int:
        return len(self._rooms)

    def names_after(self, name: str, limit: int) -> list[str]:
        """The names of the next rooms behind that one, in order; public rooms come after the others."""
        names: list[str] = []
        if not name or is_generated(name):
            begin = bisect_right(self._hidden, name)
            names = self._hidden[begin : begin + limit]
            name = ""
        begin = bisect_right(self._names, name)
        return [*names, *self._names[begin : begin + limit - len(names)]]

    def kept(self, name: str) -> int:
        """How many events of that room are kept, as far as this server knows."""
        room = self._rooms.get(name)
        if room is not None:
            return room.head - room.first + 1
        record = self._records.get(name)
        return 0 if record is None else record.head - record.first + 1

    def events_removed(self, name: str, first: int) -> None:
        """Retention removed the events of a room before that number from the store."""
        room = self._rooms.get(name)
        if room is not None:
            room.events_removed(first)
        record = self._records.get(name)
        if record is not None:
            self._records[name] = replace(record, first=max(first, record.first), head=max(first - 1, record.head))

    def grew(self, name: str, head: int) -> None:
        """Another node has written to the log of a room that is not in memory here: it has this head."""
        record = self._records.get(name)
        if record is None:
            self._add_name(name)
            record = _unknown(name)
        if head > record.head:
            self._records[name] = replace(record, head=head, head_id="")
            self._grown.add(name)

    def take_grown(self) -> set[str]:
        """The names of the rooms that :meth:`grew` told of since the last call."""
        grown, self._grown = self._grown, set()
        return grown

    def name_of(self, raw: str) -> str:
        """The one form of a room's name."""
        return raw if raw in self._rooms else room_name(raw)

    def in_memory(self, name: str) -> Room | None:
        """The room of that name, if it has been asked for since the start."""
        return self._rooms.get(name)

    def find(self, user: User, raw: str, address: str | None = None) -> Room:
        """The room, made if need be and allowed; :class:`NoSuchRoom` also for one that the user may not see.

        :param address: from where the user asks, so that making rooms is rated by address, too; None: the program itself asks.
        """
        room = self._rooms.get(raw)
        name = room_name(raw) if room is None else room.name
        # First of all, so that who may not see a room learns nothing of it, and makes none.
        self._permissions.check_may_see(user, name, self.access(name), address)
        return room or self._open(name) or self._make(user, name, address)

    def knows(self, name: str) -> bool:
        """Whether the settings of the room are known here, or only that there is one with that generated name."""
        return not is_generated(name) or self.settings(name) != _unknown(name).settings

    def access(self, name: str) -> str:
        """``public``, ``private`` or ``direct``; what a generated name says where the room is not known here yet."""
        return self.settings(name).access

    def settings(self, name: str) -> RoomSettings:
        """What the owners of the room decided."""
        room = self._rooms.get(name)
        if room is not None:
            return room.settings
        record = self._records.get(name)
        return (_unknown(name) if record is None else record).settings

    def create(self, user: User, name: str, settings: RoomSettings, address: str | None = None) -> Room:
        """A new room with settings, which nobody sees until its first events are in the store; those that are there are refused.

        The caller appends these events; if they are refused, the room goes like any in which nothing was said.
        """
        name = name if settings.access != "public" else room_name(name)
        if not self._permissions.may_name(user, name):
            raise Forbidden("room: your token is not for a room of such a name")
        if name in self._rooms or name in self._records:
            raise Conflict(f"room: {name} exists already")
        return self._make(user, name, address, settings)

    def visible(self, user: User, prefix: str = "", after: str = "", limit: int = LISTED_ROOMS) -> RoomPage:
        """The rooms that the user may see, by name: at most ``limit`` that begin with ``prefix``, those behind ``after``.

        It looks at :data:`SEEN_ROOMS` names at most, and makes no room: a list of 1,000 rooms made them all, for 90 ms.
        """
        prefix = normalize("NFC", prefix)
        begin = max(bisect_left(self._names, prefix), bisect_right(self._names, after))
        end = min(begin + SEEN_ROOMS, len(self._names))
        own = [name for name in self._permissions.rooms_of(user) if name > after and name.startswith(prefix)]
        own = sorted(name for name in own if self.access(name) != "public")
        page = RoomPage([])
        # In merged order, so that one place, the name, is where to go on; of public rooms no more than the bound are looked at.
        last = self._names[end - 1] if end < len(self._names) else None
        for name in merge(islice(self._names, begin, end), own):
            if last is not None and name > last:
                break
            if not name.startswith(prefix):
                page.next = None
                return page
            if len(page.rooms) >= min(limit, LISTED_ROOMS):
                return page
            page.next = name
            if self._permissions.may_see(user, name, self.access(name)):
                page.rooms.append(self._listed(name))
        if last is None:
            page.next = None
        return page

    def _listed(self, name: str) -> ListedRoom:
        room = self._rooms.get(name)
        if room is not None:
            members = room.members + self._elsewhere(name)
            return ListedRoom(
                name, room.topic, room.first, room.head, members, room.durable, room.archived, room.policy, room.settings
            )
        record, members = self._records.get(name) or _unknown(name), self._elsewhere(name)
        policy = effective_policy(self._configuration.policy(name), record.settings)
        topic = record.topic or policy.topic
        return ListedRoom(
            name, topic, record.first, record.head, members, policy.durable, record.archived, policy, record.settings
        )

    def learn(self, rooms: Mapping[str, bool], settings: Mapping[str, RoomSettings] = _NO_SETTINGS) -> None:
        """The rooms in the store by name, and whether each is archived: another process makes, archives and opens rooms.

        :param settings: of those of the rooms that have other settings than the usual ones.
        """
        for name, archived in rooms.items():
            room = self._rooms.get(name)
            chosen = settings.get(name, _USUAL)
            # The settings of a room in memory are in the log, which it reads in order; that it is archived need not be.
            if room is not None and room.archived != archived:
                room.set_archived(archived)
            record = self._records.get(name)
            if record is None:
                # Whatever its log has was sent through this server, and then the room is in memory and stays so; or through another
                # node, and then the store tells of it (:meth:`grew`), and is asked when the room comes into memory.
                self._records[name] = RoomRecord(name, archived=archived, settings=chosen)
                if room is None:
                    self._add_name(name)
            elif record.archived != archived or record.settings != chosen:
                self._records[name] = replace(record, archived=archived, settings=chosen)

    def forget_empty(self) -> None:
        """Forget the rooms that nobody is in and in which nothing was said; they are given back to those who made them."""
        for name, room in list(self._rooms.items()):
            if not room.in_use and not room.head and name not in self._records and name != LOBBY:
                del self._rooms[name]
                for look in skeletons(name):
                    if self._skeletons.get(look) == name:
                        del self._skeletons[look]
                names = self._list_of(name)
                del names[bisect_left(names, name)]
                for key in room.charged_to:
                    self.made.give_back(key, 1)
        self.made.prune()

    def shrink_caches(self) -> None:
        """If the caches of all rooms are too large together, the rooms with the fewest members lose theirs."""
        weight = sum(room.log.cache.weight for room in self._rooms.values())
        allowed = self._configuration.limits.recent_bytes_total
        if weight <= allowed:
            return
        for room in sorted(self._rooms.values(), key=lambda room: (room.members, room.log.cache.weight)):
            if room.durable:
                weight -= room.log.cache.weight
                room.clear_cache()
            if weight <= allowed // 2:
                break

    def _open(self, name: str) -> Room | None:
        """The room if there is one, in memory or in the store."""
        room = self._rooms.get(name)
        if room is None and name in self._records:
            room = self._rooms[name] = self._make_room(self._records[name])
        return room

    def _make(self, user: User, name: str, address: str | None, settings: RoomSettings | None = None) -> Room:
        configuration = self._configuration
        configured = name == LOBBY or name in configuration.policies.table
        hidden = settings is not None and settings.access != "public"
        if not (configuration.policies.create or configured or hidden) or (settings is None and is_generated(name)):
            raise NoSuchRoom(f"room: there is no {name}")
        if not hidden:
            for look in skeletons(name):
                if look in self._skeletons:
                    other = self._skeletons[look]
                    seen = self._permissions.may_see(user, other, self.access(other))
                    raise Conflict(f"room: {name} looks like {other if seen else 'that of another room'}")
        if len(self._names) + len(self._hidden) >= configuration.limits.rooms:
            raise LimitReached(f"room: there are {configuration.limits.rooms} rooms already")
        charged_to = [] if configured or address is None else [user.id, address_block(address)]
        self._charge(charged_to)
        room = self._rooms[name] = self._make_room(RoomRecord(name, settings=settings or _USUAL))
        room.charged_to = tuple(charged_to)
        self._add_name(name)
        return room

    def _charge(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        for bucket in map(self.made.bucket, keys):
            if not bucket.available():
                raise RateLimited(
                    f"room: too many new rooms, wait {bucket.wait():.0f} s", retry_after_ms=round(bucket.wait() * 1000)
                )
        for key in keys:
            self.made.take(key, 1)

    def _list_of(self, name: str) -> list[str]:
        return self._names if self.access(name) == "public" else self._hidden

    def _add_name(self, name: str) -> None:
        names = self._list_of(name)
        if names is self._names:
            for look in skeletons(name):
                self._skeletons.setdefault(look, name)
        insort(names, name)


def generated_name(access: str, identity: str) -> str:
    """The name of a room that is not public, from its random or computed identity.

    People do not choose it, so that nobody learns from a refused name that there is such a room.
    """
    return _GENERATED[access] + identity


def is_generated(name: str) -> bool:
    """Whether the name is one that :func:`generated_name` makes."""
    return name.startswith(tuple(_GENERATED.values()))


def _unknown(name: str) -> RoomRecord:
    """A room of which nothing is known here but its name; one with a generated name is not public."""
    access = next((access for access, begin in _GENERATED.items() if name.startswith(begin)), "public")
    return RoomRecord(name, settings=_USUAL if access == "public" else RoomSettings(access=access))
