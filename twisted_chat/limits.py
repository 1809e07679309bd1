"""The limits of the server and the policies of rooms, which operators set in the configuration.

The ``#:`` comments are the text of ``docs/configuration.rst`` and ``etc/chat.toml``.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from msgspec import Struct

#: The largest number of characters of a guest's device; enough for 256 random bits in hexadecimal.
DEVICE_CHARS = 64


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of one server.  Sizes are in bytes and times in seconds unless the name says otherwise."""

    #: The largest WebSocket frame, and the largest message, that the server accepts.  This bounds the memory that one client can make
    #: the server use.  A change waits for the next start of the server.
    frame_bytes: int = 65_536
    #: The largest text of a message in UTF-8, and the largest binary data of a message.  It must not be more than ``frame_bytes``,
    #: and by default is much less, so that the JSON around the text fits into a frame.
    text_bytes: int = 16_384
    #: How many messages one connection may send at once (the burst), and how many per second in the long run.  With
    #: ``send_per_second = 0`` there is no bound.  People who type fast stay below the defaults.
    send_burst: int = 10
    send_per_second: float = 2.0
    #: How many messages one person may send over all of their connections: at once, and per second in the long run.  With
    #: ``person_per_second = 0`` there is no bound.  Several servers that share the rooms count together, at most 2 seconds late.
    person_burst: int = 30
    person_per_second: float = 6.0
    #: All guests of one address (an IPv4 address or an IPv6 /64 network) together may send as many messages, also in slow mode, and ask
    #: as many queries as this number of persons; 0: no such bound.  It is needed because a guest who reconnects without a device is a new
    #: person each time.
    guests_per_address: int = 5
    #: How many commands that read from the store (history, join, read) one connection may send at once, and how many per second in
    #: the long run; all connections of a user together five times as many.  With ``query_per_second = 0`` there is no bound.
    query_burst: int = 40
    query_per_second: float = 10.0
    #: The largest number of connections from one address (an IPv4 address or an IPv6 /64 network).  The default is high enough for a
    #: school or an office behind one address.
    connections_per_address: int = 200
    #: The largest number of connections of the server.  Each needs a file descriptor, so keep it below the limit of open files.
    connections: int = 20_000
    #: The largest number of rooms that one connection may have joined.
    rooms_per_connection: int = 128
    #: The largest number of rooms of the server.  This bounds the memory that clients can use by making up names of rooms.
    rooms: int = 10_000
    #: How many rooms one user, or all users of one address, may make at once, and how many per second in the long run.  With
    #: ``rooms_made_per_second = 0`` there is no bound.  A room in which nothing was said is removed when nobody is in it any more,
    #: and then no longer counts.
    rooms_made_burst: int = 1_000
    rooms_made_per_second: float = 0.2
    #: The largest number of connections whose HTTP request is incomplete or whose credential is being checked, and the time that each of
    #: the two may take.  This protects against clients that send their requests slowly.
    handshakes_pending: int = 1_000
    handshake_seconds: float = 10.0
    #: The time in which a JSON client must send ``hello`` after it has connected.
    hello_seconds: float = 10.0
    #: The server pings a client that has sent nothing for this time, and closes the connection if the client then sends nothing for the
    #: same time again.
    ping_seconds: float = 25.0
    #: A client that has unread data and reads none of it for this time is disconnected with code 4508.  It may reconnect with its
    #: cursor and then misses nothing in durable rooms.
    stalled_seconds: float = 300.0
    #: The largest number of messages in one page of history.
    history: int = 200
    #: The largest number of connections in a room up to which its members are told who is typing; 0: nobody is ever told.  Each second in
    #: which somebody types costs one frame for each of them.
    typing_members: int = 1_000
    #: A connection is closed after this number of refused commands in a row.  This ends clients that ignore errors.
    refusals: int = 50
    #: How many recent events each room keeps in memory, for readers that are a little behind: the largest number, and the largest size
    #: of all of them.
    recent_events: int = 8_192
    recent_bytes: int = 1_048_576
    #: The largest size of the recent events of all rooms together.  If it is exceeded, the rooms with the fewest members give up theirs
    #: first; readers then read from the store.
    recent_bytes_total: int = 67_108_864
    #: The largest number of messages that were received and are not committed to the store yet, over all connections.  Further messages
    #: are refused with the error ``unavailable`` until the store has committed some.
    uncommitted: int = 100_000
    #: The largest size in memory of the messages that are not committed to the store yet.
    uncommitted_bytes: int = 67_108_864


class RoomPolicy(Struct, frozen=True, kw_only=True):
    """How the rooms of one name or pattern behave."""

    #: Whether events are stored on disk before they are delivered.  ``false``: they are kept in memory only, and a client that reads too
    #: slowly or is away misses some.
    durable: bool = True
    #: The largest number of members at the same time, on all servers that share the rooms; 0: no bound but the number of connections.
    size: int = 0
    #: How many events are kept, and for how many days; the server removes older ones.  0: all, or for ever.
    keep_events: int = 0
    keep_days: float = 0.0
    #: The least time in seconds between two messages of the same person; 0: none.
    slow_mode: float = 0.0
    #: Who may write: ``all``, ``users`` (everybody but guests) or ``moderators``.
    writers: str = "all"
    #: Whether guests may join.  If not, the server answers guests as if the room did not exist.
    guests: bool = True
    #: The topic of the room until somebody sets another one.  Rooms that are in memory take up a change at the next start.
    topic: str = ""


class RoomPolicies(Struct, frozen=True):
    """The ``[rooms]`` of the configuration: exact names come before patterns, patterns in their order, then the default."""

    table: dict[str, RoomPolicy] = {}
    default: RoomPolicy = RoomPolicy()
    #: Whether a client that joins a room that does not exist makes the room.
    create: bool = True

    def policy(self, room: str) -> RoomPolicy:
        exact = self.table.get(room)
        if exact is not None:
            return exact
        for pattern, policy in self.table.items():
            if fnmatchcase(room, pattern):
                return policy
        return self.default
