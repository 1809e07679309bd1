"""What people are in rooms, as this node knows it: roles, mutes and bans.

In:   the standings of people who connect, read from the store once; events that change them, in the order of each room's log; changes
      that other processes made (:meth:`Roles.learn`).
Out:  a person's role in a room, and whether the person is muted or banned there now; a call for each change.

Members are not loaded at the start: a person's roles come with the person, and go some time after the last connection.  Sanctions are
few and are all in memory, because guests and addresses are not looked up in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from twisted.internet.defer import Deferred, succeed

from twisted_chat.core.connections import Sessions, address_block
from twisted_chat.events import MemberChanged, Sanctioned
from twisted_chat.standings import ADDRESS, Standing, StandingStore, with_role, with_sanction
from twisted_chat.users import User

#: Seconds for which the roles of somebody who is not connected are kept, for requests by HTTP.
KEPT_SECONDS = 300.0

#: Milliseconds for which a sanction that has ended stays in memory: it goes on when a wall clock that was ahead is set right.
ENDED_MS = 86_400_000

#: Receives a standing before and after a change.
Changed = Callable[[Standing, Standing], None]


class _Person:
    """The standings of a person whose roles were loaded, by room."""

    __slots__ = ("rooms", "used_at")

    def __init__(self, used_at: float) -> None:
        self.rooms: dict[str, Standing] = {}
        self.used_at = used_at


class Roles:
    """The standings that this node needs.

    :param now: monotonic seconds; ``now_ms``: milliseconds since 1970, by which sanctions end.
    :ivar changed: called after each change of a standing, with what it was before.
    """

    def __init__(
        self,
        store: StandingStore,
        sessions: Sessions,
        now: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._now = now
        self._now_ms = now_ms
        self.changed: Changed = lambda before, after: None
        self._people: dict[str, _Person] = {}
        self._loading: dict[str, list[Deferred[None]]] = {}
        #: What was learned about somebody while the answer of the store was on its way.
        self._meanwhile: dict[str, dict[str, Standing]] = {}
        #: Everybody who is muted or banned, by room and person.
        self._sanctions: dict[str, dict[str, Standing]] = {}
        #: Rooms in which somebody may only read.
        self._with_readers: set[str] = set()

    def open(self) -> Deferred[None]:
        """Load all sanctions; fires when they hold."""
        return self._store.all_sanctions(self._now_ms()).addCallback(self._loaded_sanctions)

    def _loaded_sanctions(self, standings: Iterable[Standing]) -> None:
        for standing in standings:
            self._sanctions.setdefault(standing.room, {})[standing.person] = standing

    def load(self, user: User) -> Deferred[None] | None:
        """Load the roles of a user; None: they are there, or a guest has none."""
        if user.guest:
            return None
        person = self._people.get(user.id)
        if person is not None:
            person.used_at = self._now()
            return None
        waiter: Deferred[None] = Deferred()
        waiting = self._loading.get(user.id)
        if waiting is not None:
            waiting.append(waiter)
            return waiter
        self._loading[user.id] = [waiter]
        self._meanwhile[user.id] = {}
        self._store.standings(user.id).addCallback(self._loaded, user.id).addErrback(self._not_loaded, user.id)
        return waiter

    def _loaded(self, standings: Iterable[Standing], person_id: str) -> None:
        person = self._people[person_id] = _Person(self._now())
        person.rooms = {standing.room: standing for standing in standings} | self._meanwhile.pop(person_id)
        for standing in person.rooms.values():
            if standing.role == "reader":
                self._with_readers.add(standing.room)
                self.changed(standing, standing)
        for waiter in self._loading.pop(person_id):
            waiter.callback(None)

    def _not_loaded(self, failure: object, person_id: str) -> None:
        self._meanwhile.pop(person_id, None)
        for waiter in self._loading.pop(person_id, ()):
            waiter.errback(failure)  # type: ignore[arg-type]

    def role(self, user: User, room: str) -> str | None:
        """The user's role in the room of that name."""
        person = self._people.get(user.id)
        standing = None if person is None else person.rooms.get(room)
        return None if standing is None else standing.role

    def rooms_of(self, user: User) -> Iterator[str]:
        """The names of the rooms in which the user has a role."""
        person = self._people.get(user.id)
        return iter(()) if person is None else (name for name, standing in person.rooms.items() if standing.role is not None)

    def muted(self, user: User, room: str, address: str | None) -> int:
        """Until when the user is muted in the room, milliseconds since 1970; 0: the user is not.

        :param address: from where a guest asks, because guests are sanctioned by address, too.
        """
        return self._until(user, room, address, lambda standing: standing.muted)

    def banned(self, user: User, room: str, address: str | None) -> int:
        """Until when the user is banned from the room, likewise."""
        return self._until(user, room, address, lambda standing: standing.banned)

    def _until(self, user: User, room: str, address: str | None, of: Callable[[Standing], int]) -> int:
        people = self._sanctions.get(room)
        if people is None or "admin" in user.rights:
            # Who administers the server is not locked out by the moderators of a room.
            return 0
        found = [people.get(user.id)]
        if user.guest and address is not None:
            found.append(people.get(ADDRESS + address_block(address)))
        until = max((of(standing) for standing in found if standing is not None), default=0)
        return until if until > self._now_ms() else 0

    def governs(self, room: str) -> bool:
        """Whether anybody is muted or banned in the room, or may only read, so that each message there has to be checked."""
        return room in self._sanctions or room in self._with_readers

    # Changes

    def saw_member(self, room: str, event: MemberChanged) -> None:
        """The event was announced."""
        before = self._known(room, event.person.id, event.person.name)
        self._put(before, with_role(before, event.person.name, event.role))

    def saw_sanction(self, room: str, event: Sanctioned) -> None:
        """The event was announced."""
        before = self._known(room, event.person.id, event.person.name)
        self._put(before, with_sanction(before, event.person.name, event.what, event.on, event.until))

    def learn(self, standings: Iterable[Standing]) -> None:
        """The store has these now; other processes may have changed them."""
        for standing in standings:
            self._put(self._known(standing.room, standing.person, standing.name), standing)

    def _known(self, room: str, person_id: str, name: str) -> Standing:
        person = self._people.get(person_id)
        found = None if person is None else person.rooms.get(room)
        return found or self._sanctions.get(room, {}).get(person_id) or Standing(room, person_id, name)

    def _put(self, before: Standing, standing: Standing) -> None:
        room, person_id = standing.room, standing.person
        person = self._people.get(person_id)
        rooms = self._meanwhile.get(person_id) if person is None else person.rooms
        if rooms is not None:
            rooms[room] = standing
            if standing.nothing and person is not None:
                del rooms[room]
        people = self._sanctions.setdefault(room, {})
        if standing.muted or standing.banned:
            people[person_id] = standing
        else:
            people.pop(person_id, None)
        if not people:
            del self._sanctions[room]
        if standing.role == "reader":
            self._with_readers.add(room)
        if before != standing:
            self.changed(before, standing)

    def tidy(self) -> None:
        """Forget people who have not been connected for some time, and sanctions that ended long ago."""
        now, now_ms = self._now(), self._now_ms()
        for person_id, person in list(self._people.items()):
            if person_id in self._sessions:
                person.used_at = now
            elif now - person.used_at > KEPT_SECONDS:
                del self._people[person_id]
        for room, people in list(self._sanctions.items()):
            left = {key: each for key, each in people.items() if max(each.muted, each.banned) > now_ms - ENDED_MS}
            if left:
                self._sanctions[room] = left
            else:
                del self._sanctions[room]


def known(roles: Roles, user: User) -> Deferred[User]:
    """The user, when the roles are loaded."""
    found = known_now(roles, user)
    return found if isinstance(found, Deferred) else succeed(found)


def known_now(roles: Roles, user: User) -> User | Deferred[User]:
    """The user if the roles are loaded, else what fires with the user when they are; for callbacks, which take either."""
    loading = roles.load(user)
    return user if loading is None else loading.addCallback(lambda _: user)
