"""Token buckets on an injected clock: how fast a connection, a user or an address may do something."""

from __future__ import annotations

from collections.abc import Callable, Container
from itertools import islice
from math import ceil

from twisted_chat.core.configuration import Configuration
from twisted_chat.core.connections import address_block
from twisted_chat.errors import RateLimited
from twisted_chat.limits import Limits
from twisted_chat.users import User

#: Buckets in one table; beyond that the oldest is forgotten.
MAX_BUCKETS = 65_536
#: Burst and rate of a bucket that only counts: never empty, and in effect never filled again by itself.
_METER = 1 << 50, 1e-300
#: A user may ask as much as so many connections: with as many as the user likes, each new one would bring a full bucket.
ASKING_CONNECTIONS = 5


class TokenBucket:
    """Holds up to ``burst`` tokens and gains ``per_second``; ``per_second`` 0 or less: no bound at all."""

    __slots__ = ("_at", "_burst", "_now", "_per_second", "_tokens")

    def __init__(self, burst: int, per_second: float, now: Callable[[], float]) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._now = now
        self._tokens = float(burst)
        self._at = now()

    def configure(self, burst: int, per_second: float) -> None:
        """Go on with other bounds; what has been used stays used, as far as the new burst allows."""
        self.available()
        self._at = self._now()
        used = self._burst - self._tokens if self._per_second > 0 else 0.0
        self._burst, self._per_second = float(burst), per_second
        self._tokens = max(0.0, self._burst - used)

    def available(self) -> int:
        """Whole tokens there now; below 0 what is owed."""
        if self._per_second <= 0:
            return 1 << 30
        now = self._now()
        if self._tokens < self._burst:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        return int(self._tokens + 1e-9)

    def take(self, count: int) -> None:
        """Use tokens that are :meth:`available`."""
        if self._per_second > 0:
            self._tokens -= count

    def give_back(self, count: int) -> None:
        """Return tokens that were taken, up to the burst."""
        self._tokens = min(self._burst, self._tokens + count)

    def refill(self) -> int:
        """Be full again; answers how many tokens were missing."""
        missing = round(self._burst - self._tokens)
        self._tokens = self._burst
        return missing

    def wait(self, count: int = 1) -> float:
        """Seconds until ``count`` tokens are there."""
        missing = min(count, self._burst) - self._tokens
        return max(0.0, missing / self._per_second) if self._per_second > 0 else 0.0

    @property
    def bounded(self) -> bool:
        """Whether there is any bound."""
        return self._per_second > 0

    @property
    def full(self) -> bool:
        """Whether nothing of the burst is used."""
        return self.available() >= self._burst


def take_from_all(buckets: list[TokenBucket], wanted: int) -> int:
    """Take up to ``wanted`` tokens, the same number from each bucket; answers how many.

    The buckets share one clock, which is read once; no method is called for each bucket, because each message comes by here.
    """
    if not buckets:
        return wanted
    now = buckets[0]._now()
    for bucket in buckets:
        tokens, burst = bucket._tokens, bucket._burst
        if bucket._per_second <= 0:
            continue
        if tokens < burst:
            tokens += (now - bucket._at) * bucket._per_second
            bucket._tokens = tokens = tokens if tokens < burst else burst
        bucket._at = now
        if tokens < wanted:
            # Less than nothing: more was sent on other nodes than this one knew.
            wanted = int(tokens + 1e-9) if tokens > 0 else 0
    for bucket in buckets:
        if bucket._per_second > 0:
            bucket._tokens -= wanted
    return wanted


class BucketTable:
    """A token bucket for each key (a user, an address), all with the same bounds.

    :param bounds: burst and tokens per second, out of the limits in force.
    """

    def __init__(
        self, configuration: Configuration, bounds: Callable[[Limits], tuple[int, float]], now: Callable[[], float]
    ) -> None:
        self._configuration = configuration
        self._bounds = bounds
        self._now = now
        self._limits = configuration.limits
        self._buckets: dict[str, TokenBucket] = {}
        #: Counts the times that buckets were forgotten, so that nobody goes on with one that is not in the table.
        self.generation = 0
        #: What was taken by each key since it was told to other nodes; None: there are none.
        self.spent: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self._buckets)

    def bucket(self, key: str) -> TokenBucket:
        """The bucket of that key, with the bounds in force."""
        if self._configuration.limits is not self._limits:
            self._configure()
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= MAX_BUCKETS:
                self.generation += 1
                del self._buckets[next(iter(self._buckets))]
            bucket = self._buckets[key] = TokenBucket(*self._bounds(self._limits), self._now)
        return bucket

    def take(self, key: str, count: int) -> None:
        """Use tokens of a bucket that are available."""
        self.bucket(key).take(count)
        self.note_spent(key, count)

    def give_back(self, key: str, count: int) -> None:
        """Return tokens to a bucket; one that has been forgotten is full already."""
        if key in self._buckets:
            self._buckets[key].give_back(count)
        self.note_spent(key, -count)

    def count_spending(self) -> None:
        """There are other nodes: keep in ``spent`` what is taken."""
        self.spent = {}

    def note_spent(self, key: str, count: int) -> None:
        """So many tokens were taken (or, below 0, given back) on this node."""
        if self.spent is not None and (len(self.spent) < MAX_BUCKETS or key in self.spent):
            self.spent[key] = self.spent.get(key, 0) + count

    def take_spent(self, limit: int) -> dict[str, int]:
        """What was noted since the last call, of at most so many keys; the others with the next."""
        spent = dict(islice((self.spent or {}).items(), limit))
        if self.spent is not None:
            for key in spent:
                del self.spent[key]
        return spent

    def spend(self, key: str, count: int) -> None:
        """So many tokens were taken (or given back) on another node; the bucket may then hold less than nothing."""
        if count > 0:
            self.bucket(key).take(count)
        elif key in self._buckets:
            self._buckets[key].give_back(-count)

    def take_used(self) -> dict[str, int]:
        """What of each bucket is used, as whole tokens; all of them are full after that."""
        return {key: bucket.refill() for key, bucket in self._buckets.items() if bucket._tokens < bucket._burst}

    def prune(self, keep: Container[str] = ()) -> None:
        """Forget the buckets that are full, except those of the keys to keep."""
        self.generation += 1
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if key in keep or not bucket.full}

    def _configure(self) -> None:
        self._limits = self._configuration.limits
        for bucket in self._buckets.values():
            bucket.configure(*self._bounds(self._limits))


class SharedRates:
    """How fast may be sent and asked: by each user over all connections, and by all guests of one address together.

    A guest without a device is a new user at each connection, so only the address bounds what reconnecting guests do.
    """

    def __init__(self, configuration: Configuration, now: Callable[[], float]) -> None:
        self.configuration = configuration
        self.now = now
        self.users = BucketTable(configuration, lambda limits: (limits.person_burst, limits.person_per_second), now)
        self.guests = BucketTable(configuration, _guest_bounds, now)
        #: Where there are other nodes: a bucket that only counts for each user, and for each address with guests.  So the loop that
        #: takes tokens counts nothing else where there are none.
        self._meters: tuple[BucketTable, BucketTable] | None = None
        self._asking_users = BucketTable(configuration, _asking_user_bounds, now)
        self._asking_guests = BucketTable(configuration, _asking_guest_bounds, now)

    def buckets(self, user: User, address: str | None) -> list[TokenBucket]:
        """Those that count a message of that user from that address."""
        shared = [self.users.bucket(user.id)]
        if user.guest and address is not None and self.configuration.limits.guests_per_address:
            shared.append(self.guests.bucket(address_block(address)))
            if self._meters is not None:
                shared.append(self._meters[1].bucket(address_block(address)))
        if self._meters is not None:
            shared.append(self._meters[0].bucket(user.id))
        return shared

    def count_spending(self) -> None:
        """There are other nodes: count what is taken, for :meth:`collect_spending`."""
        self._meters = (
            BucketTable(self.configuration, _count_only, self.now),
            BucketTable(self.configuration, _count_only, self.now),
        )
        for table in (self.users, self.guests):
            table.count_spending()

    def collect_spending(self) -> None:
        """Note in the tables what was taken since the last call."""
        if self._meters is not None:
            for table, meters in zip((self.users, self.guests), self._meters, strict=True):
                for key, count in meters.take_used().items():
                    table.note_spent(key, count)

    def check(self, user: User, address: str | None) -> None:
        """Count one message without a connection of its own (HTTP), or raise :class:`RateLimited`."""
        buckets = self.buckets(user, address)
        if take_from_all(buckets, 1) == 0:
            raise too_fast(buckets)

    def asking(self, user: User, address: str) -> TokenBucket:
        """The bucket of what the connections of that user, or of all guests of the address, ask together."""
        return self._asking_guests.bucket(address_block(address)) if user.guest else self._asking_users.bucket(user.id)

    def prune(self, connected: Container[str]) -> None:
        """Forget what need not be remembered."""
        self.users.prune(connected)
        for table in (self.guests, self._asking_users, self._asking_guests):
            table.prune()
        if self._meters is not None:
            self.collect_spending()
            for meters in self._meters:
                meters.prune()


class ConnectionRate:
    """How fast one connection may send: its own bucket, and those that it shares with others of the same user or address."""

    __slots__ = ("_buckets", "_generation", "_limits", "_own", "_rates", "_user")

    def __init__(self, rates: SharedRates) -> None:
        self._rates = rates
        self._own: TokenBucket | None = None
        #: Those with a bound that count a message of ``_user`` under ``_limits``; looked up again when anything of it has changed.
        self._buckets: list[TokenBucket] = []
        self._limits: Limits | None = None
        self._user: User | None = None
        self._generation = -1

    def take(self, user: User, address: str, wanted: int) -> int:
        """How many of ``wanted`` messages may be sent now; they are taken from every bucket."""
        return take_from_all(self._current(user, address), wanted)

    def wait(self, user: User, address: str) -> float:
        """Seconds until one message may be sent."""
        return max((bucket.wait() for bucket in self._current(user, address)), default=0.0)

    def check(self, user: User, address: str) -> None:
        """Take one message, or raise :class:`RateLimited`."""
        buckets = self._current(user, address)
        if take_from_all(buckets, 1) == 0:
            raise too_fast(buckets)

    def _current(self, user: User, address: str) -> list[TokenBucket]:
        rates = self._rates
        limits, generation = rates.configuration.limits, rates.users.generation + rates.guests.generation
        if limits is self._limits and user is self._user and generation == self._generation:
            return self._buckets
        if self._own is None:
            self._own = TokenBucket(limits.send_burst, limits.send_per_second, rates.now)
        elif limits is not self._limits:
            self._own.configure(limits.send_burst, limits.send_per_second)
        self._buckets = [bucket for bucket in (self._own, *rates.buckets(user, address)) if bucket.bounded]
        self._limits, self._user = limits, user
        self._generation = rates.users.generation + rates.guests.generation
        return self._buckets


def too_fast(buckets: list[TokenBucket]) -> RateLimited:
    """The error that says how long to wait."""
    wait = max(bucket.wait() for bucket in buckets)
    return RateLimited(f"send: too fast, wait {wait:.1f} s", retry_after_ms=ceil(wait * 1000))


def _count_only(limits: Limits) -> tuple[int, float]:
    return _METER


def _asking_user_bounds(limits: Limits) -> tuple[int, float]:
    return ASKING_CONNECTIONS * limits.query_burst, ASKING_CONNECTIONS * limits.query_per_second


def _asking_guest_bounds(limits: Limits) -> tuple[int, float]:
    return limits.guests_per_address * limits.query_burst, limits.guests_per_address * limits.query_per_second


def _guest_bounds(limits: Limits) -> tuple[int, float]:
    return limits.guests_per_address * limits.person_burst, limits.guests_per_address * limits.person_per_second
