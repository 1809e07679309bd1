"""What a person wants to say, checked and ready for the log: commands become drafts."""

from __future__ import annotations

from typing import TypeAlias, Union

from twisted_chat.errors import BadRequest, Forbidden, TooBig
from twisted_chat.events import Author, NewDeletion, NewEdit, NewEvent, NewMessage, NewReaction, NewTopic
from twisted_chat.protocol.commands import Delete, Edit, React, Send, Topic
from twisted_chat.users import User

PostCommand: TypeAlias = Union[Send, Edit, Delete, React, Topic]

#: Characters that show nothing by themselves and yet belong to emoji: the zero-width joiner of families, the tags of flags.
_EMOJI_GLUE = dict.fromkeys([0x200D, *range(0xE0020, 0xE0080)])


def new_event_of(command: PostCommand, by: Author, user: User, text_bytes: int) -> NewEvent:
    """The draft; an error of the table that names the field if it may not be.

    :param by: ``user.author``, which a session makes once.
    :param text_bytes: the bound of a text or of data.
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
            return NewDeletion(by, command.key, command.of, "moderate" in user.rights)
        case React():
            seen = command.emoji.translate(_EMOJI_GLUE)
            if not seen.isprintable() or not seen.strip():
                raise BadRequest("emoji: must be something that can be seen")
            return NewReaction(by, command.key, command.of, command.emoji, command.on)
        case Topic():
            if user.guest:
                raise Forbidden("topic: guests do not set topics")
            return NewTopic(by, command.key, command.text)


def check_text(text: str, text_bytes: int) -> None:
    """Not larger than announced."""
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
