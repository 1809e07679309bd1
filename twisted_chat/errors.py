"""The one table of errors: wire code, HTTP status, close code, and whether trying again can help.

The core raises these; the session turns them into ``{"type":"error"}``, the HTTP edge into a status with a JSON body, the
transport into a close code.  ``docs/protocol.rst`` prints the table from here.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from twisted.logger import Logger
from twisted.python.failure import Failure


class CloseCode(IntEnum):
    """Why the server ends a connection; the class tells a client what to do (RFC 6455 section 7.4)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_PAYLOAD = 1007
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_REQUEST = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    NO_SUCH_ROOM = 4404
    DIALECT = 4406
    NO_HELLO = 4408
    REPLACED = 4409
    BANNED = 4410
    TOO_BIG = 4413
    RATE_LIMITED = 4429
    INTERNAL = 4500
    RESTART = 4503
    STORE_UNAVAILABLE = 4504
    TOO_SLOW = 4508
    NO_PONG = 4509


#: Close codes after which a client comes back by itself (after ``retry_after_ms`` where a ``bye`` gave one).
RETRY_CLOSE_CODES = frozenset(
    {1001, 1006, 1011, 1012, 1013}
    | {
        CloseCode.NO_HELLO,
        CloseCode.RATE_LIMITED,
        CloseCode.INTERNAL,
        CloseCode.RESTART,
        CloseCode.STORE_UNAVAILABLE,
        CloseCode.TOO_SLOW,
        CloseCode.NO_PONG,
    }
)


class ChatError(Exception):
    """Something that was asked for and is not done; nothing has changed.

    :param message: one sentence for a person, naming the field where there is one.
    :param retry_after_ms: milliseconds after which the same command with the same key may succeed.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    close_code: ClassVar[CloseCode] = CloseCode.INTERNAL
    retry: ClassVar[bool] = True

    def __init__(self, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_ms = retry_after_ms


class InternalError(ChatError):
    """A fault of the server; the log of the server says more."""


class BadRequest(ChatError):
    """The command or request cannot be understood."""

    code, http_status, close_code, retry = "bad_request", 400, CloseCode.BAD_REQUEST, False


class UnknownType(BadRequest):
    """The command's ``type`` is not one of the protocol."""

    code = "unknown_type"


class TooBig(ChatError):
    """A text, frame or body is larger than the announced limit."""

    code, http_status, close_code, retry = "too_big", 413, CloseCode.TOO_BIG, False


class Unauthenticated(ChatError):
    """No credential was given, or it is not valid."""

    code, http_status, close_code, retry = "unauthenticated", 401, CloseCode.UNAUTHENTICATED, False


class TokenExpired(Unauthenticated):
    """The token has expired."""

    code = "token_expired"


class Forbidden(ChatError):
    """The user is not allowed to do this."""

    code, http_status, close_code, retry = "forbidden", 403, CloseCode.FORBIDDEN, False


class NoSuchRoom(ChatError):
    """No room of that name, or none that this user may see: both have the same answer."""

    code, http_status, close_code, retry = "no_such_room", 404, CloseCode.NO_SUCH_ROOM, False


class NoSuchEvent(ChatError):
    """The room's log has no such message."""

    code, http_status, close_code, retry = "no_such_event", 404, CloseCode.BAD_REQUEST, False


class NoSuchAccount(ChatError):
    """There is no such account, session, token or invitation."""

    code, http_status, close_code, retry = "no_such_account", 404, CloseCode.BAD_REQUEST, False


class NotJoined(ChatError):
    """The command needs a room that this connection has joined."""

    code, http_status, close_code, retry = "not_joined", 409, CloseCode.BAD_REQUEST, False


class Conflict(ChatError):
    """The revision that the command names is not the present one, or a name is taken."""

    code, http_status, close_code, retry = "conflict", 409, CloseCode.BAD_REQUEST, False


class Gone(ChatError):
    """The message was deleted."""

    code, http_status, close_code, retry = "gone", 410, CloseCode.BAD_REQUEST, False


class Muted(ChatError):
    """The user may read but not write in this room."""

    code, http_status, close_code, retry = "muted", 403, CloseCode.FORBIDDEN, False


class Banned(ChatError):
    """The user may not enter this room."""

    code, http_status, close_code, retry = "banned", 403, CloseCode.BANNED, False


class SlowMode(ChatError):
    """The room is in slow mode, and the user wrote a moment ago."""

    code, http_status, close_code, retry = "slow_mode", 429, CloseCode.RATE_LIMITED, True


class RateLimited(ChatError):
    """More than the announced rate."""

    code, http_status, close_code, retry = "rate_limited", 429, CloseCode.RATE_LIMITED, True


class LimitReached(ChatError):
    """A limit is reached: rooms, connections, members."""

    code, http_status, close_code, retry = "limit", 429, CloseCode.TRY_AGAIN_LATER, True


class Unavailable(ChatError):
    """The store cannot commit now; what was sent may or may not be kept, so send again with the same key."""

    code, http_status, close_code, retry = "unavailable", 503, CloseCode.STORE_UNAVAILABLE, True


class Restarting(Unavailable):
    """The server is draining and accepts nothing new."""

    close_code = CloseCode.RESTART


#: Every error a client can meet, in the order of the documentation.
ERRORS: tuple[type[ChatError], ...] = (
    BadRequest,
    UnknownType,
    TooBig,
    Unauthenticated,
    TokenExpired,
    Forbidden,
    NoSuchRoom,
    NoSuchEvent,
    NoSuchAccount,
    NotJoined,
    Conflict,
    Gone,
    Muted,
    Banned,
    SlowMode,
    RateLimited,
    LimitReached,
    Unavailable,
    InternalError,
)


def as_chat_error(failure: Failure, log: Logger, doing: str) -> ChatError:
    """The error to tell the client.

    A :class:`ChatError` is told as it is.  Anything else is a bug: it is logged with its traceback, and the client learns
    nothing about it but that it happened.

    :param doing: what failed, for the log: "checking a cursor".
    """
    if isinstance(failure.value, ChatError):
        return failure.value
    log.failure("Bug while {doing}", failure, doing=doing)
    return InternalError("the server failed; its log says why")
