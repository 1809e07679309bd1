"""What can become of something that a program asked its client for, and of a connection.

What the server refuses fails with the error of the table in :mod:`twisted_chat.errors` (``Forbidden``, ``TooBig``, …); what
happens on this side has a name here.
"""

from __future__ import annotations

from twisted_chat.errors import ERRORS, RETRY_CLOSE_CODES, ChatError, CloseCode, Conflict, NotJoined
from twisted_chat.protocol.replies import ErrorBody

#: The close codes of RFC 6455 after which coming back would only repeat what went wrong.
_STOP_CODES = frozenset({1000, 1002, 1003, 1007, 1009})
#: Our own codes for what a client did wrong; those that a client does not know are final, too.
_CLIENT_CODES = range(4400, 4500)
#: Statuses below 500 that pass: 401 is looked at first, and these three say "not now".
_PASSING_STATUSES = frozenset({408, 425, 429})

_BY_CODE = {error.code: error for error in ERRORS}


class ClientError(Exception):
    """Something that did not work on this side."""


class QueueFull(ClientError):
    """So many messages wait to be acknowledged that no more are taken; nothing has been done with this one."""


class RoomLeft(ClientError):
    """The program left the room before the message was acknowledged: it may or may not have been kept."""


class ClientStopped(ClientError):
    """The client was stopped before there was an answer: a message may or may not have been kept."""


class Postponed(ClientStopped):
    """The client was stopped; the message is in its file and goes out when a client with that file starts."""


class ClientEnded(ClientError):
    """The client gave up for good, because coming back cannot help.

    :ivar cause: what was said last: a :class:`ConnectionProblem` or :class:`~twisted_chat.errors.ChatError`.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"the chat client has given up: {cause}")
        self.cause = cause


class StateError(ClientError):
    """The file that keeps what was accepted cannot be used: one line with cause and cure."""


class UnknownError(ChatError):
    """An error that this version of the client does not know."""

    def __init__(self, code: str, message: str, retry: bool, retry_after_ms: int | None) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)
        self.code = code  # type: ignore[misc]
        self.retry = retry  # type: ignore[misc]


def refusal(body: ErrorBody) -> ChatError:
    """The error of the table that the server means."""
    after = body.retry_after_ms if isinstance(body.retry_after_ms, int) else None
    known = _BY_CODE.get(body.code)
    if known is None or known.retry != body.retry:
        return UnknownError(body.code, body.message, body.retry, after)
    return known(body.message, retry_after_ms=after)


class ConnectionProblem(ClientError):
    """Why there is no connection (any more).

    :ivar retry: coming back can help.
    :ivar retry_after: seconds that the server asked to wait.
    :ivar wants_token: it can help with another token.
    """

    def __init__(self, message: str, *, retry: bool = True, retry_after: float = 0.0, wants_token: bool = False) -> None:
        super().__init__(message)
        self.retry = retry
        self.retry_after = retry_after
        self.wants_token = wants_token


class HandshakeRefused(ConnectionProblem):
    """The server answered the handshake with an HTTP status instead of 101.

    :ivar status: the HTTP status.
    :ivar error: the body, where it is one of ours.
    """

    def __init__(self, status: int, error: ErrorBody | None, retry_after: float) -> None:
        detail = "" if error is None else f": {error.code}: {error.message}"
        super().__init__(
            f"the server answered {status}{detail}",
            retry=comes_back_after_status(status) if error is None else error.retry,
            retry_after=retry_after,
            wants_token=status == 401,
        )
        self.status = status
        self.error = error


class Closed(ConnectionProblem):
    """The connection ended.

    :ivar code: the close code; 1006 when there was none.
    """

    def __init__(self, code: int, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(
            f"the connection was closed with {code}" + (f": {reason}" if reason else ""),
            retry=comes_back_after_close(code),
            retry_after=retry_after,
            wants_token=code == CloseCode.UNAUTHENTICATED,
        )
        self.code = code
        self.reason = reason


def comes_back_after_close(code: int) -> bool:
    """What the class of a close code says (``docs/protocol.rst``): unknown ones of the client's class stop, others come back."""
    if code in RETRY_CLOSE_CODES:
        return True
    return code not in _STOP_CODES and code not in _CLIENT_CODES


def comes_back_after_status(status: int) -> bool:
    """The same for HTTP, where it is not our server that answers: a proxy, a gate page of a hotel (200, 302)."""
    return not 400 <= status < 500 or status in _PASSING_STATUSES


__all__ = [
    "ChatError",
    "ClientEnded",
    "ClientError",
    "ClientStopped",
    "Closed",
    "Conflict",
    "ConnectionProblem",
    "HandshakeRefused",
    "NotJoined",
    "Postponed",
    "QueueFull",
    "RoomLeft",
    "StateError",
    "UnknownError",
]
