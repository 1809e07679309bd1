"""Decode text frames of ``chat.v1.json`` into commands, each checked, or into an error that names the field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, Union

import msgspec
from msgspec import UNSET, Struct, UnsetType

from twisted_chat.errors import BadRequest, ChatError, TooBig, UnknownType
from twisted_chat.protocol.commands import AnyCommand, Id

#: Commands in one array; more would let one frame take a whole turn.
BATCH_COMMANDS = 1_000
#: Characters of what the client wrote that an error repeats.
SHOWN_CHARS = 64


class Wrong(Struct, frozen=True):
    """Something that is not a valid command: the id to answer with, if it can be read, and the error."""

    id: Id | UnsetType
    error: ChatError


Decoded: TypeAlias = Union[AnyCommand, Wrong]


class _OnlyId(Struct):
    id: Id | None = None


_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode = msgspec.json.Decoder(AnyCommand).decode
_decode_array = msgspec.json.Decoder(list[AnyCommand]).decode
_decode_raw_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_id = msgspec.json.Decoder(_OnlyId).decode


def commands_in(text: bytes) -> Sequence[Decoded]:
    """The command in one frame, or those of an array."""
    if text[:1] != b"[" and text.lstrip()[:1] != b"[":
        return [_one(text)]
    try:
        commands: Sequence[Decoded] = _decode_array(text)
    except _UNDECODABLE:
        commands = _each_of_array(text)
    if len(commands) > BATCH_COMMANDS:
        return [Wrong(UNSET, TooBig(f"batch: at most {BATCH_COMMANDS} commands"))]
    return commands


def _each_of_array(text: bytes) -> Sequence[Decoded]:
    """Decode the commands of an array one by one, because one of them is wrong."""
    try:
        commands = _decode_raw_array(text)
    except _UNDECODABLE as error:
        return [Wrong(UNSET, _explain(error))]
    return [_one(bytes(command)) for command in commands[: BATCH_COMMANDS + 1]]


def _one(text: bytes) -> Decoded:
    try:
        command: AnyCommand = _decode(text)
    except _UNDECODABLE as error:
        return Wrong(_id_of(text), _explain(error))
    return command


def _id_of(text: bytes) -> Id | UnsetType:
    try:
        found = _decode_id(text).id
    except _UNDECODABLE:
        return UNSET
    return UNSET if found is None else found


def _explain(error: Exception) -> ChatError:
    if isinstance(error, msgspec.ValidationError):
        message = str(error)
        if message.endswith("at `$.type`") and message.startswith("Invalid value"):
            return UnknownType(f"type: {_shortened(message[14:-14])} is not a command of chat.v1.json")
        reason, _, place = message.partition(" - at `$.")
        return BadRequest(f"{place.rstrip('`')}: {reason}" if place else reason)
    if isinstance(error, RecursionError):
        return BadRequest("JSON: nested too deeply")
    return BadRequest(f"JSON: {error}")


def _shortened(text: str) -> str:
    """What the client wrote, short enough to be sent back in an error."""
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"
