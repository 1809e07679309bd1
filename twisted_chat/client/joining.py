"""Joining rooms over a new connection: as many as the server allows in one command."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.client.connection import ClientConnection
from twisted_chat.client.errors import ConnectionProblem, refusal
from twisted_chat.client.subscription import RoomState, RoomSubscription
from twisted_chat.protocol.commands import Join
from twisted_chat.protocol.replies import ErrorBody, Joined, Ok

#: Rooms in one command, at most.
ROOMS_IN_JOIN = 100


class _JoinAllOk(Ok, frozen=True, kw_only=True, tag="ok"):
    """The answer to a join; each room is decoded by itself."""

    rooms: list[msgspec.Raw]


class _Failed(Struct):
    error: ErrorBody | None = None


_log = Logger()
_decode_failed = msgspec.json.Decoder(_Failed).decode
_decode_joined = msgspec.json.Decoder(Joined).decode


def join_and_send(connection: ClientConnection, rooms: Sequence[RoomSubscription], is_current: Callable[[], bool]) -> None:
    """Join those of the rooms that are not joined, each of which is told what the server answers; the others send what waits.

    :param is_current: whether the connection is still the client's.
    """
    wanted = [room for room in rooms if room.may_join]
    most = min(connection.welcome.limits.rooms, ROOMS_IN_JOIN)
    for start in range(0, len(wanted), most):
        _join_group(connection, wanted[start : start + most], is_current)
    for room in rooms:
        room.send_waiting()


def _join_group(connection: ClientConnection, rooms: list[RoomSubscription], is_current: Callable[[], bool]) -> None:
    for room in rooms:
        room.join_sent()

    def answered(answer: _JoinAllOk) -> None:
        for room, found in zip(rooms, answer.rooms, strict=True):
            if not is_current() or room.state is not RoomState.JOINING:
                continue
            error = _decode_failed(found).error
            if error is not None:
                room.join_refused(refusal(error))
            else:
                room.join_accepted(connection, _decode_joined(found))

    def failed(failure: Failure) -> None:
        if failure.check(ConnectionProblem):
            return
        for room in rooms:
            if room.state is RoomState.JOINING:
                room.join_refused(failure.value)  # type: ignore[arg-type]

    answer = connection.ask(Join(rooms=tuple(room.join_request() for room in rooms)), _JoinAllOk)
    answer.addCallback(answered).addErrback(failed)
    answer.addErrback(lambda failure: _log.failure("Bug while joining rooms", failure))
