"""A chat and broadcast server on Twisted and Autobahn: a room is a log, a subscriber is a cursor.

What programs import is here, and only that is promised to stay (``docs/public-api.rst``)::

    from twisted_chat import ChatClient, EmbeddedChat

Each name is imported when it is first used, so ``import twisted_chat`` costs nothing.  The packages are layers, and imports point down
only (``tests/test_layers.py`` holds it)::

    cli                                         the command: one client, or the store's file
    server                                      options -> settings -> tree of services
    websocket  web  auth  stores  client        edges: the outside world, each apart from the others
    core                                        what the chat does: rooms, sessions, limits
    protocol                                    chat.v1 without I/O: commands, replies, frames
    internals                                   private parts of Twisted and Autobahn
    errors  events  users  names  limits  bus  interfaces
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from twisted_chat.version import __version__

if TYPE_CHECKING:
    from twisted_chat.client import (
        ChatClient,
        ClientEnded,
        ClientError,
        ClientRoom,
        ClientStopped,
        Closed,
        ConnectionProblem,
        GapPush,
        HandshakeRefused,
        HistoryPage,
        LivePush,
        Postponed,
        PresencePush,
        QueueFull,
        ReadPush,
        ReconnectingChatClientFactory,
        Reset,
        RoomLeft,
        RoomState,
        State,
        StateError,
        TypingPush,
    )
    from twisted_chat.errors import (
        BadRequest,
        ChatError,
        Conflict,
        Forbidden,
        Gone,
        LimitReached,
        NoSuchEvent,
        NoSuchRoom,
        NotJoined,
        RateLimited,
        Restarting,
        SlowMode,
        TokenExpired,
        TooBig,
        Unauthenticated,
        Unavailable,
    )
    from twisted_chat.events import Author, Cursor, Deleted, Edited, Event, Message, NewMessage, Reacted, TopicSet
    from twisted_chat.interfaces import Authenticator
    from twisted_chat.limits import Limits, RoomPolicies, RoomPolicy
    from twisted_chat.server.config import Settings
    from twisted_chat.server.embed import BoundedRequest, EmbeddedChat
    from twisted_chat.users import Credential, User

_MODULES = {
    "client": (
        "ChatClient ClientEnded ClientError ClientRoom ClientStopped Closed ConnectionProblem GapPush HandshakeRefused HistoryPage"
        " LivePush Postponed PresencePush QueueFull ReadPush ReconnectingChatClientFactory Reset RoomLeft RoomState State StateError"
        " TypingPush"
    ),
    "errors": (
        "BadRequest ChatError Conflict Forbidden Gone LimitReached NoSuchEvent NoSuchRoom NotJoined RateLimited Restarting SlowMode"
        " TokenExpired TooBig Unauthenticated Unavailable"
    ),
    "events": "Author Cursor Deleted Edited Event Message NewMessage Reacted TopicSet",
    "interfaces": "Authenticator",
    "limits": "Limits RoomPolicies RoomPolicy",
    "server.config": "Settings",
    "server.embed": "BoundedRequest EmbeddedChat",
    "users": "Credential User",
}
#: Each public name -> the module that has it.
_PUBLIC = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [  # noqa: RUF022  in the order of the page
    "Author",
    "Authenticator",
    "BadRequest",
    "BoundedRequest",
    "ChatClient",
    "ChatError",
    "ClientEnded",
    "ClientError",
    "ClientRoom",
    "ClientStopped",
    "Closed",
    "Conflict",
    "ConnectionProblem",
    "Credential",
    "Cursor",
    "Deleted",
    "Edited",
    "EmbeddedChat",
    "Event",
    "Forbidden",
    "GapPush",
    "Gone",
    "HandshakeRefused",
    "HistoryPage",
    "LimitReached",
    "Limits",
    "LivePush",
    "Message",
    "NewMessage",
    "NoSuchEvent",
    "NoSuchRoom",
    "NotJoined",
    "Postponed",
    "PresencePush",
    "QueueFull",
    "RateLimited",
    "Reacted",
    "ReadPush",
    "ReconnectingChatClientFactory",
    "Reset",
    "Restarting",
    "RoomLeft",
    "RoomPolicies",
    "RoomPolicy",
    "RoomState",
    "Settings",
    "SlowMode",
    "State",
    "StateError",
    "TokenExpired",
    "TooBig",
    "TopicSet",
    "TypingPush",
    "Unauthenticated",
    "Unavailable",
    "User",
    "__version__",
]


if not TYPE_CHECKING:
    # Type checkers do not see it: they would believe that every name is there.

    def __getattr__(name: str) -> object:
        module = _PUBLIC.get(name)
        if module is None:
            raise AttributeError(f"module 'twisted_chat' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"twisted_chat.{module}"), name)
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
