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

from twisted_chat.drafts import DeleteDraft, EditDraft, ReactionDraft
from twisted_chat.errors import BadRequest, Conflict, Forbidden, Gone, LimitReached, NoSuchEvent
from twisted_chat.events import Deleted, Edited, Message, Reacted, Reaction

#: Different emoji on one message: what a reader can still make sense of, and what a page of history has to carry.
EMOJI_PER_MESSAGE = 50

AmendmentDraft: TypeAlias = Union[EditDraft, DeleteDraft, ReactionDraft]
Amendment: TypeAlias = Union[Edited, Deleted, Reacted]


class Standing(Struct, frozen=True):
    """What the rules need to know of a message.

    :ivar emoji: the different emoji on it.
    """

    author: str
    revision: int = 1
    binary: bool = False
    gone: bool = False
    emoji: Set[str] = frozenset()


def standing(message: Message) -> Standing:
    """How a message in its present state stands."""
    return Standing(
        author=message.by.id,
        revision=message.revision,
        binary=message.data is not None,
        gone=message.gone,
        emoji={reaction.emoji for reaction in message.reactions},
    )


def check(message: Standing | None, draft: AmendmentDraft) -> None:
    """Return if ``draft`` may happen to ``message`` (None: there is no such message); raise what speaks against it."""
    if message is None:
        raise NoSuchEvent(f"of: there is no message {draft.of}")
    if message.gone:
        raise Gone(f"of: message {draft.of} was deleted")
    match draft:
        case EditDraft():
            _check_edit(message, draft)
        case DeleteDraft():
            if not draft.any_author and draft.by.id != message.author:
                raise Forbidden(f"of: message {draft.of} is by somebody else")
        case ReactionDraft():
            if draft.on and draft.emoji not in message.emoji and len(message.emoji) >= EMOJI_PER_MESSAGE:
                raise LimitReached(f"emoji: message {draft.of} has {EMOJI_PER_MESSAGE} different ones, the most there may be")


def _check_edit(message: Standing, draft: EditDraft) -> None:
    if draft.by.id != message.author:
        raise Forbidden(f"of: message {draft.of} is by somebody else")
    if message.binary:
        raise BadRequest(f"of: message {draft.of} is binary and has no text to edit")
    if draft.revision != message.revision:
        raise Conflict(f"revision: message {draft.of} is at revision {message.revision}, not {draft.revision}")


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


def react(reactions: tuple[Reaction, ...], person: str, emoji: str, on: bool) -> tuple[Reaction, ...]:
    """Emoji stand in the order in which each came to the message, people in the order in which they put it there."""
    after = []
    found = False
    for reaction in reactions:
        if reaction.emoji != emoji:
            after.append(reaction)
            continue
        found = True
        people = _with_or_without(reaction.by, person, on)
        if people:
            after.append(Reaction(emoji, people))
    if on and not found:
        after.append(Reaction(emoji, (person,)))
    return tuple(after)


def _with_or_without(people: tuple[str, ...], person: str, on: bool) -> tuple[str, ...]:
    if not on:
        return tuple(other for other in people if other != person)
    return people if person in people else (*people, person)
