"""What may become of a message after it was said: edits, deletion, reactions.

In: how a message stands and a draft that amends it; out: nothing, or the :class:`ChatError` that says why not.  :func:`fold`
is the other half: a message and the event that amends it give the message in its present state, so that paging
through history and folding the log show the same picture.  Every store decides by these rules.

A reaction that is there already may be put there again, and one that is not there taken away: with a new key each becomes
an event that folds to nothing.  The alternative, a ``conflict``, would tell a client that its wish failed although
what it wished for is so, and would leave the key unused: a late retry could then undo what happened in between.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TypeAlias, Union

from msgspec import Struct
from msgspec.structs import replace

from twisted_chat.errors import BadRequest, Conflict, Forbidden, Gone, LimitReached, NoSuchEvent
from twisted_chat.events import Deleted, Edited, Message, NewDeletion, NewEdit, NewReaction, Reacted, Reaction

#: Different emoji on one message: what a reader can still make sense of, and what a page of history has to carry.
EMOJI_PER_MESSAGE = 50

AmendmentDraft: TypeAlias = Union[NewEdit, NewDeletion, NewReaction]
Amendment: TypeAlias = Union[Edited, Deleted, Reacted]


class MessageState(Struct, frozen=True):
    """What the rules need to know of a message.

    :ivar emoji: the different emoji on it.
    """

    author: str
    revision: int = 1
    binary: bool = False
    gone: bool = False
    emoji: Set[str] = frozenset()


def standing(message: Message) -> MessageState:
    """How a message in its present state stands."""
    return MessageState(
        author=message.by.id,
        revision=message.revision,
        binary=message.data is not None,
        gone=message.gone,
        emoji={reaction.emoji for reaction in message.reactions},
    )


def check(message: MessageState | None, new_event: AmendmentDraft) -> None:
    """Return if ``new_event`` may happen to ``message`` (None: there is no such message); raise what speaks against it."""
    if message is None:
        raise NoSuchEvent(f"of: there is no message {new_event.of}")
    if message.gone:
        raise Gone(f"of: message {new_event.of} was deleted")
    match new_event:
        case NewEdit():
            _check_edit(message, new_event)
        case NewDeletion():
            if not new_event.any_author and new_event.by.id != message.author:
                raise Forbidden(f"of: message {new_event.of} is by somebody else")
        case NewReaction():
            if new_event.on and new_event.emoji not in message.emoji and len(message.emoji) >= EMOJI_PER_MESSAGE:
                raise LimitReached(f"emoji: message {new_event.of} has {EMOJI_PER_MESSAGE} different ones, the most there may be")


def _check_edit(message: MessageState, new_event: NewEdit) -> None:
    if new_event.by.id != message.author:
        raise Forbidden(f"of: message {new_event.of} is by somebody else")
    if message.binary:
        raise BadRequest(f"of: message {new_event.of} is binary and has no text to edit")
    if new_event.revision != message.revision:
        raise Conflict(f"revision: message {new_event.of} is at revision {message.revision}, not {new_event.revision}")


def fold(message: Message, amendment: Amendment) -> Message:
    """The message after the amendment.  What comes after its deletion changes nothing."""
    if message.gone:
        return message
    match amendment:
        case Edited():
            return replace(message, text=amendment.text, revision=amendment.revision, edited_at=amendment.at)
        case Deleted():
            return tombstone(message)
        case Reacted():
            reactions = react(message.reactions, amendment.by.id, amendment.emoji, amendment.on)
            return replace(message, reactions=reactions)


def tombstone(message: Message) -> Message:
    """What is left of a deleted message: its number, its author and its key, so that a retry does not say it again."""
    return Message(message.seq, message.id, message.at, message.by, message.key, gone=True)


def react(reactions: tuple[Reaction, ...], user: str, emoji: str, on: bool) -> tuple[Reaction, ...]:
    """Emoji stand in the order in which each came to the message, people in the order in which they put it there."""
    after = []
    found = False
    for reaction in reactions:
        if reaction.emoji != emoji:
            after.append(reaction)
            continue
        found = True
        people = _with_or_without(reaction.by, user, on)
        if people:
            after.append(Reaction(emoji, people))
    if on and not found:
        after.append(Reaction(emoji, (user,)))
    return tuple(after)


def _with_or_without(people: tuple[str, ...], user: str, on: bool) -> tuple[str, ...]:
    if not on:
        return tuple(other for other in people if other != user)
    return people if user in people else (*people, user)
