"""What was accepted and is not yet acknowledged, in order, under keys that make it be in the log exactly once.

Values in, values out: it knows no connection.  What takes part: :class:`Outbox` holds the messages of all rooms within one bound;
:class:`Pace` says how many may leave at once, so that the order holds even when the server refuses one of them for the moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, Union

from twisted.internet.defer import Deferred

from twisted_chat.client.connection import AnyEvent, encode
from twisted_chat.client.errors import QueueFull
from twisted_chat.core.ratelimit import TokenBucket
from twisted_chat.errors import ChatError
from twisted_chat.events import Author, Deleted, Edited, Message, Reacted, TopicSet
from twisted_chat.protocol.commands import Delete, Edit, React, Send, Topic
from twisted_chat.protocol.replies import PostOk, SendRate

Post: TypeAlias = Union[Send, Edit, Delete, React, Topic]

#: Commands that leave together at first, and at most; doubled each time that all of them were kept.
FIRST_TOGETHER, MOST_TOGETHER = 8, 256
#: Part of the announced rate that is used: what is in flight makes ours and the server's clock differ a little.
RATE_SHARE = 0.95
#: How often the server may fail at the same message before it counts as refused, so that it does not block those behind it.
MOST_FAULTS = 10


class Pending:
    """One accepted command.

    :ivar wire: the command as it is sent.
    :ivar result: fires with the committed event; None: it was accepted by an earlier run of the program.
    """

    __slots__ = ("command", "faults", "key", "result", "room", "wire")

    def __init__(self, command: Post, result: Deferred[AnyEvent] | None) -> None:
        assert command.key is not None, command
        self.command = command
        self.key = command.key
        self.room = command.room
        self.wire = encode(command)
        self.result = result
        self.faults = 0


class Outbox:
    """Everything accepted and not settled.

    :param most: how many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rooms: dict[str, dict[str, Pending]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def check_space(self) -> None:
        """:class:`QueueFull` if no more can be taken."""
        if self._count >= self._most:
            raise QueueFull(f"{self._count} messages wait to be acknowledged; no more are taken")

    def find(self, room: str, key: str | None) -> Pending | None:
        """The one with that key."""
        return self._rooms.get(room, {}).get(key) if key is not None else None

    def add(self, pending: Pending) -> None:
        """Behind all others of its room."""
        self._rooms.setdefault(pending.room, {})[pending.key] = pending
        self._count += 1

    def remove(self, pending: Pending) -> bool:
        """It is settled; False if it was before."""
        room = self._rooms.get(pending.room, {})
        if room.get(pending.key) is not pending:
            return False
        del room[pending.key]
        self._count -= 1
        if not room:
            del self._rooms[pending.room]
        return True

    def of_room(self, room: str) -> list[Pending]:
        """All of one room, in order."""
        return list(self._rooms.get(room, {}).values())

    def everything(self) -> list[Pending]:
        """All of all rooms."""
        return [pending for room in self._rooms.values() for pending in room.values()]

    def first(self, room: str, count: int, size: int) -> list[Pending]:
        """The first ``count`` of a room that make a message of at most ``size`` bytes; at least one, if there is one."""
        group: list[Pending] = []
        total = 2
        for pending in self._rooms.get(room, {}).values():
            total += len(pending.wire) + 32
            if group and (len(group) >= count or total > size):
                break
            group.append(pending)
        return group


class KeyMaker:
    """Makes keys that were never used.

    :param start: random, so that no other run of a program makes the same keys.
    """

    def __init__(self, start: str) -> None:
        self._start = start
        self._number = 0

    def new_key(self) -> str:
        """The next key."""
        self._number += 1
        return f"{self._start}-{self._number}"


class Pace:
    """How many commands of one room may leave together.

    One group is in flight at a time, and the next one is what queued up meanwhile.  If a server refuses a message for the moment
    and takes the one behind it, their order is lost; so after such a refusal they leave one by one, until one was kept.
    """

    def __init__(self) -> None:
        self.together = FIRST_TOGETHER

    def kept(self) -> None:
        """A whole group was kept."""
        self.together = min(MOST_TOGETHER, self.together * 2)

    def held_back(self) -> None:
        """One was refused for the moment."""
        self.together = 1


def rate_of(announced: SendRate, now: Callable[[], float]) -> TokenBucket:
    """The connection's bucket as we may use it."""
    return TokenBucket(max(1, announced.burst), announced.per_second * RATE_SHARE, now)


def committed_event(command: Post, ok: PostOk, by: Author, at: int) -> AnyEvent:
    """The event that the answer speaks of."""
    seq, event, key = ok.seq, ok.event, command.key
    match command:
        case Send():
            return Message(seq, event, at, by, key, command.text, command.data, command.reply_to)
        case Edit():
            return Edited(
                seq=seq, id=event, at=at, by=by, key=key, of=command.of, revision=command.revision + 1, text=command.text
            )
        case Delete():
            return Deleted(seq=seq, id=event, at=at, by=by, key=key, of=command.of)
        case React():
            return Reacted(seq=seq, id=event, at=at, by=by, key=key, of=command.of, emoji=command.emoji, on=command.on)
        case Topic():
            return TopicSet(seq=seq, id=event, at=at, by=by, key=key, text=command.text)


def longest_wait(errors: Sequence[ChatError]) -> float:
    """Seconds that the server asked to wait."""
    return max((error.retry_after_ms or 0) / 1000 for error in errors)
