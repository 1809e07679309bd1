"""Commands that append to a log: checked, then collected into runs for one room, and answered.

In:   send, edit, delete, react and topic commands of one session.
Out:  one append request for each run of commands for the same room; one answer for each command that has an id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, Union

from msgspec import UNSET

from twisted_chat.core.answering import AnsweringSession, encode
from twisted_chat.core.commit import AppendRequest
from twisted_chat.core.permissions import Action
from twisted_chat.core.room import Room
from twisted_chat.errors import BadRequest, ChatError, TooBig
from twisted_chat.events import Author, NewDeletion, NewEdit, NewEvent, NewMessage, NewReaction, NewTopic
from twisted_chat.protocol.commands import Delete, Edit, React, Send, Topic
from twisted_chat.protocol.replies import PostOk
from twisted_chat.store_contract import Duplicate, Outcome

PostCommand: TypeAlias = Union[Send, Edit, Delete, React, Topic]

#: Characters that show nothing by themselves and yet belong to emoji: the zero-width joiner of families, the tags of flags.
_EMOJI_GLUE = dict.fromkeys([0x200D, *range(0xE0020, 0xE0080)])

#: What each command asks of the permissions.
_ACTIONS: dict[type, Action] = {
    Send: Action.SEND,
    Edit: Action.EDIT,
    Delete: Action.DELETE,
    React: Action.REACT,
    Topic: Action.TOPIC,
}


class Posting:
    """Collects what one session appends in one read of its socket."""

    __slots__ = ("_commands", "_new_events", "_room", "_session", "_size")

    def __init__(self, session: AnsweringSession) -> None:
        self._session = session
        self._room: Room | None = None
        self._commands: list[PostCommand] = []
        self._new_events: list[NewEvent] = []
        self._size = 0

    def add(self, command: PostCommand) -> None:
        """Check the command and add it to the run; an error of the table if it is refused."""
        session = self._session
        core = session.core
        configuration, permissions = core.configuration, core.permissions
        membership = session.memberships.get(command.room) or session.membership(command.room)
        room, text_bytes = membership.room, configuration.limits.text_bytes
        is_send = type(command) is Send
        if is_send and room.open_to_all:
            new_event = new_event_of(command, session.author, text_bytes)
        else:
            may_delete_all = type(command) is Delete and permissions.allowed(session.user, Action.MODERATE, room)
            new_event = new_event_of(command, session.author, text_bytes, any_author=may_delete_all)
            permissions.check(session.user, _ACTIONS[type(command)], room, session.address)
        if configuration.metered:
            session.rate.check(session.user, session.address)
        if is_send and not room.open_to_all:
            permissions.check_slow_mode(session.user, room, session.address)
        if self._room is not room:
            self.submit()
            self._room = room
        self._commands.append(command)
        self._new_events.append(new_event)
        if is_send:
            self._size += len(command.text or command.data or b"")  # type: ignore[union-attr]

    def submit(self) -> None:
        """Hand over the run that has been collected."""
        room = self._room
        if room is None:
            return
        commands, new_events, size = self._commands, self._new_events, self._size
        self._room, self._commands, self._new_events, self._size = None, [], [], 0
        session = self._session
        request = AppendRequest(
            room,
            new_events,
            lambda outcomes: _answer(session, room.name, commands, outcomes),
            lambda error: _answer(session, room.name, commands, [error] * len(commands)),
            size,
        )
        try:
            session.core.submit(request)
        except ChatError as error:
            for command in commands:
                session.refuse(command.id, error)

    def end(self) -> None:
        """The session is over: let go of it, so that both are freed at once."""
        if self._room is None:
            del self._session


def _answer(session: AnsweringSession, room: str, commands: Sequence[PostCommand], outcomes: Sequence[Outcome]) -> None:
    for command, outcome in zip(commands, outcomes, strict=True):
        command_id = command.id
        if isinstance(outcome, ChatError):
            session.error(command_id, outcome)
        elif command_id is not None:
            event, key = outcome.event, UNSET if command.key is None else command.key
            session.reply(encode(PostOk(command_id, room, event.seq, event.id, type(outcome) is Duplicate, key, event.at)))


def new_event_of(command: PostCommand, by: Author, text_bytes: int, *, any_author: bool = False) -> NewEvent:
    """The new event that a command asks for; an error of the table that names the field if it is not valid.

    :param text_bytes: the bound of a text or of data.
    :param any_author: the user may delete what others wrote.
    """
    match command:
        case Send():
            text = command.text
            if not text or command.data is not None or len(text) > text_bytes // 4:
                _check_content(command, text_bytes)
            return NewMessage(by, command.key, command.text, command.data, command.reply_to)
        case Edit():
            if not command.text:
                raise BadRequest("text: must not be empty; to take a message back, delete it")
            check_text(command.text, text_bytes)
            return NewEdit(by, command.key, command.of, command.revision, command.text)
        case Delete():
            return NewDeletion(by, command.key, command.of, any_author)
        case React():
            visible = command.emoji.translate(_EMOJI_GLUE)
            if not visible.isprintable() or not visible.strip():
                raise BadRequest("emoji: must be something that can be seen")
            return NewReaction(by, command.key, command.of, command.emoji, command.on)
        case Topic():
            return NewTopic(by, command.key, command.text)


def check_text(text: str, text_bytes: int) -> None:
    """:class:`TooBig` if the text has more bytes in UTF-8."""
    if len(text) > text_bytes // 4 and len(text.encode()) > text_bytes:
        raise TooBig(f"text: at most {text_bytes} bytes in UTF-8")


def _check_content(command: Send, text_bytes: int) -> None:
    text, data = command.text, command.data
    if (text is None) == (data is None):
        raise BadRequest("text: give either text or data")
    if text is not None:
        if not text:
            raise BadRequest("text: must not be empty")
        check_text(text, text_bytes)
    elif data is not None:
        if not data:
            raise BadRequest("data: must not be empty")
        if len(data) > text_bytes:
            raise TooBig(f"data: at most {text_bytes} bytes")
