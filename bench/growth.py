"""``python -m bench --growth``: what one more costs where there are 1, 10 and 100 times as many.

Everything runs in this process, without sockets; the figures are its processor time for one unit, so that other load on the machine
matters little.  A cost that grows with what is there already shows as a ratio far above 1.
"""

from __future__ import annotations

import gc
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_chat.core.chat import Chat
from twisted_chat.events import Author, NewDeletion, NewEdit, NewEvent, NewMessage, NewReaction
from twisted_chat.interfaces import Admission, Dialect
from twisted_chat.limits import Limits
from twisted_chat.store_contract import Append
from twisted_chat.stores.sqlite.store import SQLiteStore
from twisted_chat.stores.workers import AtOnce, call_at_once
from twisted_chat.testing import MemoryChat
from twisted_chat.users import User

#: How many times as many.
SCALES = (1, 10, 100)
#: What the ratio of the largest scale to the smallest may be where the cost is to be constant: caches hold less of much.
CONSTANT = 4.0
#: How often each thing is done at each scale.
UNITS = 20

ALICE = Author("u-alice", "Alice")
UNBOUND = Limits(
    send_per_second=0,
    person_per_second=0,
    query_per_second=0,
    rooms_made_per_second=0,
    guests_per_address=0,
    rooms_per_connection=1_000_000,
    rooms=1_000_000,
    connections=1_000_000,
    connections_per_address=1_000_000,
)


class Growth(Struct):
    """One row: what is done, and among how many at the smallest scale.

    :ivar make: builds the surroundings for a count in a directory, and gives the units, each measured once; close to end it.
    :ivar bar: the largest ratio of the largest scale to the smallest.
    """

    name: str
    base: int
    make: Callable[[int, str], Iterator[Callable[[], object]]]
    bar: float = CONSTANT


class Outcome(Struct):
    """A row's figures: microseconds of processor time for a unit at each scale.

    :ivar ratio: of the last to the first.
    """

    name: str
    counts: list[int]
    microseconds: list[float]
    ratio: float
    bar: float

    @property
    def met(self) -> bool:
        return self.ratio <= self.bar


class NullConnection:
    """A peer that takes everything at once."""

    congested = paused = deflated = False
    unsent_bytes = 0

    def send(self, data: bytes) -> int:
        return len(data)

    def write(self, data: bytes) -> None:
        """Taken."""

    def buffer_rest(self, rest: bytes) -> None:
        """Never needed."""

    def pause(self) -> None:
        """Not read; nothing comes by itself."""

    def resume(self) -> None:
        """Read again."""

    def ping(self) -> None:
        """Taken."""

    def close(self, code: int, reason: str, last: bytes = b"") -> None:
        """Taken."""

    def abort(self) -> None:
        """Taken."""


def fired(deferred: Deferred[Any]) -> Any:
    """The result of what has fired already."""
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: failure.raiseException())
    [result] = results
    return result


# Stores


def opened(directory: str) -> SQLiteStore:
    """An open store in that directory, whose work is done at once."""
    store = SQLiteStore(os.path.join(directory, "chat.db"), Clock(), AtOnce(), AtOnce(), call_at_once)
    fired(store.open())
    return store


def say(store: SQLiteStore, room: str, new_events: Sequence[NewEvent]) -> None:
    for at in range(0, len(new_events), 1_000):
        fired(store.append([Append(room, new_events[at : at + 1_000])]))


def append_one(store: SQLiteStore, new_event: NewEvent) -> None:
    fired(store.append([Append("lobby", [new_event])]))


def messages(count: int) -> list[NewEvent]:
    return [NewMessage(ALICE, None, f"text {number}") for number in range(count)]


def append_to_a_log(count: int, directory: str) -> Iterator[Callable[[], object]]:
    store = opened(directory)
    say(store, "lobby", messages(count))
    for _ in range(UNITS):
        yield lambda: fired(store.append([Append("lobby", messages(1))]))
    fired(store.close())


def page_of_a_log(count: int, directory: str) -> Iterator[Callable[[], object]]:
    store = opened(directory)
    say(store, "lobby", messages(count))
    for _ in range(UNITS):
        yield lambda: fired(store.page("lobby", 50))
    fired(store.close())


def page_with_reactions(count: int, directory: str) -> Iterator[Callable[[], object]]:
    store = opened(directory)
    say(store, "lobby", [*messages(1), *(NewReaction(Author(f"u{number}", "x"), None, 1, "x", True) for number in range(count))])
    for _ in range(UNITS):
        yield lambda: fired(store.page("lobby", 50))
    fired(store.close())


def another_reaction(count: int, directory: str) -> Iterator[Callable[[], object]]:
    store = opened(directory)
    say(store, "lobby", [*messages(1), *(NewReaction(Author(f"u{number}", "x"), None, 1, "x", True) for number in range(count))])
    for number in range(UNITS):
        reaction = NewReaction(Author(f"v{number}", "x"), None, 1, "x", True)
        yield partial(append_one, store, reaction)
    fired(store.close())


def delete_an_edited_message(count: int, directory: str) -> Iterator[Callable[[], object]]:
    store = opened(directory)
    say(store, "lobby", messages(UNITS))
    for seq in range(1, UNITS + 1):
        say(store, "lobby", [NewEdit(ALICE, None, seq, number, "edited") for number in range(1, count + 1)])
    for seq in range(1, UNITS + 1):
        # At once there is all of the erasing: per edit, because each has to be overwritten.
        yield partial(append_one, store, NewDeletion(ALICE, None, seq))
    fired(store.close())


def many_rooms(count: int, directory: str) -> SQLiteStore:
    """A store of that many rooms with one old message each."""
    fired(opened(directory).close())
    with closing(sqlite3.connect(os.path.join(directory, "chat.db"))) as connection:
        numbers = f"WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})"
        connection.execute(f"{numbers} INSERT INTO room (name, oldest) SELECT 'r' || n, n FROM n")
        connection.commit()
    return opened(directory)


def look_for_old_rooms(count: int, directory: str) -> Iterator[Callable[[], object]]:
    store = many_rooms(count, directory)
    for _ in range(UNITS):
        yield lambda: fired(store.aged(0, None, 100))
    fired(store.close())


def look_for_new_rooms(count: int, directory: str) -> Iterator[Callable[[], object]]:
    store = many_rooms(count, directory)
    news = fired(store.room_news(0, 1_000_000_000)).number
    for _ in range(UNITS):
        yield lambda: fired(store.room_news(news, 100))
    fired(store.close())


# The core


class Server:
    """A chat in memory, and its people."""

    def __init__(self) -> None:
        self.memory = MemoryChat(limits=UNBOUND)
        assert self.memory.chat is not None
        self.core: Chat = self.memory.chat.core

    def connect(self, user: User, dialect: Dialect = Dialect.TEXT) -> Any:
        """A session."""
        admission = Admission(user=user, dialect=dialect, room="lobby", address="127.0.0.1")
        session = self.core.open_session(NullConnection(), admission)
        self.memory.settle()
        return session

    def command(self, session: Any, text: str) -> None:
        session.received([text.encode()])
        self.memory.settle()

    def member(self, number: int, name: str, room: str | None = None) -> Any:
        """Somebody who speaks JSON, in a room if one is given."""
        session = self.connect(User(id=f"g{number}", name=f"{name}{number}", guest=True), Dialect.JSON)
        self.command(session, '{"type":"hello","id":1}')
        if room is not None:
            self.command(session, f'{{"type":"join","id":2,"room":"{room}","presence":false}}')
        return session


def join_another_room(count: int, directory: str) -> Iterator[Callable[[], object]]:
    server = Server()
    session = server.member(0, "a")
    for number in range(count):
        server.command(session, f'{{"type":"join","id":1,"room":"r{number}"}}')
    for number in range(count, count + UNITS):
        command = f'{{"type":"join","id":1,"room":"r{number}"}}'
        yield partial(server.command, session, command)


def another_guest_of_the_name(count: int, directory: str) -> Iterator[Callable[[], object]]:
    server = Server()
    for number in range(count + UNITS):
        user = User(id=f"g{number}", name="anna", guest=True)
        if number < count:
            server.connect(user)
        else:
            yield partial(server.connect, user)


def deliver_to_a_member(count: int, directory: str) -> Iterator[Callable[[], object]]:
    server = Server()
    sessions = [server.member(number, "m", "lobby") for number in range(count)]
    command = '{"type":"send","id":1,"room":"lobby","text":"hello"}'
    for _ in range(UNITS):
        yield lambda: server.command(sessions[0], command)


def report_typing(count: int, directory: str) -> Iterator[Callable[[], object]]:
    server = Server()
    sessions = [server.member(number, "m", "lobby") for number in range(count)]
    command = '{"type":"typing","room":"lobby"}'
    for number in range(UNITS):
        session = sessions[number % len(sessions)]
        yield partial(server.command, session, command)


def close_a_connection(count: int, directory: str) -> Iterator[Callable[[], object]]:
    server = Server()
    sessions = [server.connect(User(id=f"g{number}", name=f"p{number}", guest=True)) for number in range(count + UNITS)]
    for session in sessions[:UNITS]:
        yield session.lost


GROWTHS = (
    Growth("append to a log of n messages", 1_000, append_to_a_log),
    Growth("page of a log of n messages", 1_000, page_of_a_log),
    Growth("page with a message of n reactions", 100, page_with_reactions),
    Growth("another reaction to a message of n", 100, another_reaction),
    Growth("retention: look among n rooms", 1_000, look_for_old_rooms),
    Growth("look for new rooms among n", 1_000, look_for_new_rooms),
    Growth("join another room, in n of them", 50, join_another_room),
    Growth("another guest of one name, n of them", 50, another_guest_of_the_name),
    Growth("a connection of n ends", 50, close_a_connection),
    # Linear by their nature: each member gets a message, each edit has to be overwritten.
    Growth("message to a room of n members", 20, deliver_to_a_member, bar=150.0),
    Growth("delete a message of n edits", 10, delete_an_edited_message, bar=150.0),
    # At most one frame a second, and none at all in a large room.
    Growth("typing in a room of n members", 20, report_typing, bar=20.0),
)


def measure(growth: Growth, scales: Sequence[int] = SCALES) -> Outcome:
    """The row's figures: the fastest of the units at each scale, because everything that disturbs a unit makes it slower."""
    counts, figures = [], []
    for scale in scales:
        with tempfile.TemporaryDirectory(prefix="growth-") as directory:
            best = float("inf")
            for unit in growth.make(growth.base * scale, directory):
                gc.disable()
                began = time.process_time_ns()
                unit()
                best = min(best, (time.process_time_ns() - began) / 1000)
                gc.enable()
        counts.append(growth.base * scale)
        figures.append(best)
    return Outcome(growth.name, counts, figures, figures[-1] / max(figures[0], 0.001), growth.bar)


def table(outcomes: Sequence[Outcome]) -> str:
    """The figures, for people."""
    scales = "".join(f"{f'x{scale}':>12}" for scale in SCALES)
    lines = [f"{'µs of processor time for one more':40}{scales}{'ratio':>9}{'bar':>8}"]
    for each in outcomes:
        figures = "".join(f"{figure:12,.1f}" for figure in each.microseconds)
        lines.append(f"{each.name:40}{figures}{each.ratio:9.1f}{each.bar:8.0f}  {'met' if each.met else 'MISSED'}")
    return "\n".join(lines) + "\n"
