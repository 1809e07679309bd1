"""A session that answers commands: replies with the id of their command, pushes without one, errors of the table.

All answers of a turn leave in one write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_chat.core.chat import Chat
from twisted_chat.core.session import Membership, Session, SessionState
from twisted_chat.errors import RETRY_CLOSE_CODES, ChatError, CloseCode, NotJoined, RateLimited, as_chat_error
from twisted_chat.interfaces import Connection
from twisted_chat.protocol.commands import Id
from twisted_chat.protocol.encoders import batch_frame
from twisted_chat.protocol.frames import text_frame
from twisted_chat.protocol.replies import ByePush, Error, Ok, error_body
from twisted_chat.users import User

#: Answers in one array; more would make a frame that some clients refuse.
ANSWERS_IN_BATCH = 256

T = TypeVar("T")

encode = msgspec.json.Encoder().encode


class AnsweringSession(Session):
    """The way out of a session that speaks ``chat.v1.json``.

    :ivar batch: the client takes several answers and events as one array.
    :ivar device: the client's own name for its device; ``device_at``: see :class:`twisted_chat.bus.Device`.
    """

    __slots__ = ("_answers", "_refused", "_said_bye", "batch", "device", "device_at")

    def __init__(self, core: Chat, connection: Connection, user: User, address: str) -> None:
        super().__init__(core, connection, user, address)
        self.batch = False
        self.device: str | None = None
        self.device_at = 0
        self._answers: list[bytes] = []
        self._refused = 0
        self._said_bye = False

    # Answers

    def push(self, reply: Struct) -> None:
        """Send this to the client, at the end of the turn."""
        self.reply(encode(reply))

    def reply(self, data: bytes) -> None:
        """JSON for this client alone."""
        if self.state is SessionState.OPEN:
            if not self._answers:
                self.core.scheduler.at_end(self.flush)
            self._answers.append(data)

    def flush(self) -> None:
        if self._answers and self.state is SessionState.OPEN:
            # Not by take_answers: each acknowledgement of a client that sends one message after another comes here.
            answers, self._answers = self._answers, []
            self.connection.write(text_frame(answers[0]) if len(answers) == 1 else self._frames(answers))

    def take_answers(self) -> bytes:
        answers, self._answers = self._answers, []
        return self._frames(answers)

    def ok(self, command_id: Id | None) -> None:
        """The command was done, and there is nothing to tell but that."""
        if command_id is not None:
            self.push(Ok(id=command_id))

    def error(self, command_id: Id | UnsetType | None, error: ChatError) -> None:
        """The command was not done."""
        body = error_body(error)
        answer_id = UNSET if command_id is None else command_id
        self.push(Error(id=answer_id, code=body.code, message=body.message, retry=body.retry, retry_after_ms=body.retry_after_ms))

    def refuse(self, command_id: Id | UnsetType | None, error: ChatError) -> None:
        """The command was refused at once; too many refusals in a row end the connection."""
        self.error(command_id, error)
        self.count_unrated()
        self._refused += 1
        if self._refused >= self.core.limits.refusals and self.state is SessionState.OPEN:
            self.end(RateLimited(f"{self._refused} commands in a row could not be done"))

    def accepted(self) -> None:
        """A command was not refused."""
        self._refused = 0

    def answer_later(self, command_id: Id | None, later: Deferred[T], answer: Callable[[T], None]) -> Deferred[None]:
        """Answer when ``later`` fires, with an error if it fails; fires when that is done."""

        def failed(failure: Failure) -> None:
            self.error(command_id, as_chat_error(failure, self.log, "answering a command"))

        return later.addCallback(answer).addErrback(failed)

    def membership(self, room: str) -> Membership:
        """The room of a command; :class:`NotJoined` if the connection is not in it."""
        found = self.memberships.get(room) or self.memberships.get(self.core.rooms.name_of(room))
        if found is None:
            raise NotJoined(f"room: {room} is not joined")
        return found

    # The end

    def lost(self) -> None:
        self._answers.clear()
        super().lost()

    def bye(self, code: int, reason: str, retry: bool, retry_after_ms: int | None = None) -> None:
        self._said_bye = True
        self.push(
            ByePush(code=code, reason=reason, retry=retry, retry_after_ms=UNSET if retry_after_ms is None else retry_after_ms)
        )

    def end(self, error: ChatError) -> None:
        self.bye(error.close_code, error.code, error.retry, error.retry_after_ms)
        super().end(error)

    def close(self, code: int, reason: str) -> None:
        if self.state is SessionState.OPEN and not self._said_bye and code != CloseCode.NORMAL:
            self.bye(code, reason, code in RETRY_CLOSE_CODES)
        super().close(code, reason)

    def _frames(self, answers: Sequence[bytes]) -> bytes:
        if self.batch and len(answers) > 1:
            return b"".join(
                batch_frame(answers[start : start + ANSWERS_IN_BATCH]) for start in range(0, len(answers), ANSWERS_IN_BATCH)
            )
        return b"".join(map(text_frame, answers))
