"""Clients for Twisted programs: they come back by themselves, lose nothing, and double nothing (``docs/client.rst``)."""

from twisted_chat.client.errors import (
    ChatError,
    ClientEnded,
    ClientError,
    ClientStopped,
    Closed,
    ConnectionProblem,
    HandshakeRefused,
    Postponed,
    QueueFull,
    RoomLeft,
    StateError,
)
from twisted_chat.client.factory import ReconnectingChatClientFactory
from twisted_chat.client.room import ClientRoom, HistoryPage
from twisted_chat.client.service import ChatClient, State
from twisted_chat.client.subscription import Reset, RoomState
from twisted_chat.events import Cursor, Deleted, Edited, Event, MemberChanged, Message, Reacted, RoomChanged, Sanctioned, TopicSet
from twisted_chat.protocol.replies import GapPush, LivePush, PresencePush, ReadPush, TypingPush

__all__ = [
    "ChatClient",
    "ChatError",
    "ClientEnded",
    "ClientError",
    "ClientRoom",
    "ClientStopped",
    "Closed",
    "ConnectionProblem",
    "Cursor",
    "Deleted",
    "Edited",
    "Event",
    "GapPush",
    "HandshakeRefused",
    "HistoryPage",
    "LivePush",
    "MemberChanged",
    "Message",
    "Postponed",
    "PresencePush",
    "QueueFull",
    "Reacted",
    "ReadPush",
    "ReconnectingChatClientFactory",
    "Reset",
    "RoomChanged",
    "RoomLeft",
    "RoomState",
    "Sanctioned",
    "State",
    "StateError",
    "TopicSet",
    "TypingPush",
]
