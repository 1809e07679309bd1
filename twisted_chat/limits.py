"""The bounds that everything has, each with the reason for its default; operators change them by configuration."""

from __future__ import annotations

from fnmatch import fnmatchcase

from msgspec import Struct

#: Characters of a guest's device, wherever it comes in; long enough for 256 random bits in hexadecimal.
DEVICE_CHARS = 64


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of one server.  Sizes in bytes, times in seconds unless the name says otherwise."""

    #: One WebSocket frame or message on the wire; bounds what one peer can make the server hold.
    frame_bytes: int = 65_536
    #: One message's text in UTF-8, or its binary data; below the frame so that JSON around it fits.
    text_bytes: int = 16_384
    #: Messages a connection may send at once, and then per second (0: no bound); a fast typist needs neither.
    send_burst: int = 10
    send_per_second: float = 2.0
    #: The same for one person over all of their connections.
    person_burst: int = 30
    person_per_second: float = 6.0
    #: All guests of one address (IPv4, or the /64 of IPv6) together may send as much as so many persons (0: no such bound): a guest
    #: who connects anew without a device is a new person each time.
    guests_per_address: int = 5
    #: Commands that cost a look at the store (history, join, read) per connection.
    query_burst: int = 40
    query_per_second: float = 10.0
    #: Connections from one address; a school or office behind one address still fits.
    connections_per_address: int = 200
    #: Connections in all; keep below the limit of file descriptors.
    connections: int = 20_000
    #: Rooms that one connection may have joined.
    rooms_per_connection: int = 128
    #: Rooms there may be; bounds what inventing room names can cost.
    rooms: int = 10_000
    #: Rooms that one user, or one address, may make at once, and then per second (0: no bound); a room that is forgotten because
    #: nothing was said in it is given back.
    rooms_made_burst: int = 1_000
    rooms_made_per_second: float = 0.2
    #: Request heads being read at once, and how long one may take in all (slow headers).
    handshakes_pending: int = 1_000
    handshake_seconds: float = 10.0
    #: Time for a JSON client to say hello.
    hello_seconds: float = 10.0
    #: Silence after which the server pings; dead after two intervals.
    ping_seconds: float = 25.0
    #: How long a reader may take nothing at all before it is told to come back (it loses nothing by that).
    stalled_seconds: float = 300.0
    #: Messages in one history page.
    history: int = 200
    #: Refused commands in a row after which the connection ends: who does not listen need not be answered for ever.
    refusals: int = 50
    #: Recent events that a room keeps ready in memory for readers a little behind.
    recent_events: int = 8_192
    recent_bytes: int = 1_048_576
    #: The same for all rooms together; the quietest rooms give theirs up first.
    recent_bytes_total: int = 67_108_864
    #: Drafts waiting for the store over all connections; then senders are told ``unavailable``.
    uncommitted: int = 100_000
    #: The same in bytes of memory.
    uncommitted_bytes: int = 67_108_864


class RoomPolicy(Struct, frozen=True, kw_only=True):
    """How the rooms of one name or pattern behave."""

    #: False: nothing is stored; who is slow misses something.
    durable: bool = True
    #: Most members at once; 0: as many as there are connections.
    size: int = 0
    #: Retention: how many events are kept and for how many days; 0: all, for ever.
    keep_events: int = 0
    keep_days: float = 0.0
    #: Seconds between two messages of one person.
    slow_mode: float = 0.0
    #: Who may write: ``all``, ``users`` (not guests) or ``moderators``.
    writers: str = "all"
    #: Whether guests may be here at all; to them a room without guests does not exist.
    guests: bool = True
    topic: str = ""


class RoomPolicies(Struct, frozen=True):
    """The ``[rooms]`` of the configuration: exact names first, then patterns in their order, then the default."""

    table: dict[str, RoomPolicy] = {}
    default: RoomPolicy = RoomPolicy()
    #: Whether joining a room that is not there makes it.
    create: bool = True

    def policy(self, room: str) -> RoomPolicy:
        exact = self.table.get(room)
        if exact is not None:
            return exact
        for pattern, policy in self.table.items():
            if fnmatchcase(room, pattern):
                return policy
        return self.default
