"""Who is writing: what all say of themselves in one second becomes one frame for the room.

In:   one user after another who is writing (:meth:`Writers.noticed`).
Out:  the first at once, the others merged: a frame a second and room, encoded once and given to the room's live sessions in turns.

Without that, 100 people who type in a room of 10,000 made a million frames, and everybody waited four seconds for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from msgspec import UNSET

from twisted_chat.core.configuration import Configuration
from twisted_chat.core.room import Room
from twisted_chat.core.scheduler import CallLater, Scheduler
from twisted_chat.core.subscription import Subscription
from twisted_chat.protocol.replies import Me, TypingPush

#: Seconds between two frames for one room.
ROUND_SECONDS = 1.0
#: People in one frame; nobody reads more names under a line of text.
MOST_PEOPLE = 10
#: Sessions that are told in one turn of the reactor: some two milliseconds, like a shard of the fan-out.
TOLD_IN_TURN = 512

_encode = msgspec.json.Encoder().encode


class Writers:
    """Who is writing in each room, since its last frame."""

    def __init__(self, configuration: Configuration, scheduler: Scheduler, call_later: CallLater) -> None:
        self._configuration = configuration
        self._scheduler = scheduler
        self._call_later = call_later
        self._rounds: dict[Room, dict[str, Me]] = {}

    def noticed(self, room: Room, who: Me) -> None:
        """That user is writing in the room."""
        if room.members > self._configuration.limits.typing_members:
            return
        waiting = self._rounds.get(room)
        if waiting is None:
            self._begin_round(room, {who.id: who})
        elif len(waiting) < MOST_PEOPLE:
            waiting[who.id] = who

    def _begin_round(self, room: Room, people: Mapping[str, Me]) -> None:
        self._rounds[room] = {}
        self._call_later(ROUND_SECONDS, lambda: self._end_round(room))
        self._tell_some(_Pushes(room.name, people), room.live_subscriptions())

    def _end_round(self, room: Room) -> None:
        people = self._rounds.pop(room)
        if people:
            self._begin_round(room, people)

    def _tell_some(self, frames: _Pushes, subscriptions: Sequence[Subscription]) -> None:
        for subscription in subscriptions[:TOLD_IN_TURN]:
            # It may have left, or fallen behind, since the first turn.
            if subscription.shard is not None and (push := frames.push_for(subscription.subscriber.user.id)) is not None:
                subscription.subscriber.see_typing(push)
        if len(subscriptions) > TOLD_IN_TURN:
            self._scheduler.at_next(partial(self._tell_some, frames, subscriptions[TOLD_IN_TURN:]))


class _Pushes:
    """The push of one round: one for everybody, and another for each of those who write, who are not told of themselves."""

    def __init__(self, room: str, people: Mapping[str, Me]) -> None:
        self._room = room
        self._people = people
        self._for_all = self._push(list(people.values()))

    def push_for(self, user: str) -> bytes | None:
        """The JSON for a session of that user; None: nobody else writes."""
        if user not in self._people:
            return self._for_all
        return self._push([one for one in self._people.values() if one.id != user])

    def _push(self, people: Sequence[Me]) -> bytes | None:
        if not people:
            return None
        return _encode(TypingPush(room=self._room, by=people[-1], people=tuple(people) if len(people) > 1 else UNSET))
