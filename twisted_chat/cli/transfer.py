"""Logs of a store to a file and back: ``twisted-chat export`` and ``import``.

Each line is one JSON object: a header, then each room with its settings, its events, and the roles and sanctions in it, then an end with
counts, by which a truncated file is noticed.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import IO, TypeAlias

import msgspec
from msgspec import Struct

from twisted_chat.accounts import AuditEntry, KeptAccount
from twisted_chat.cli.admin import checked_room_name, settings_of, store_url
from twisted_chat.cli.output import CliError, CommandContext, Status
from twisted_chat.events import ACCESS, Event, RoomSettings
from twisted_chat.names import person_name
from twisted_chat.server.logging import visible
from twisted_chat.standings import RANKS, Standing
from twisted_chat.store_contract import RoomRecord
from twisted_chat.stores.account_transfer import KeptInvitation
from twisted_chat.stores.kept import Identity, KeptCursor, KeptToken, ReadMark
from twisted_chat.stores.transfers import Incoming, Outgoing, incoming, outgoing
from twisted_chat.stores.urls import shown_store

#: Name and version of the format of exports.  Version 4 has everything that a store keeps, version 3 rooms only.  Versions 2 and 1 are the
#: same without settings, roles and sanctions.
FORMAT, ROOMS_ONLY, EVERYTHING = "twisted_chat.log", 3, 4
#: Bytes of a line: many times the longest message, and little enough for the memory of whoever imports a file of somebody else.
LINE_BYTES = 67_108_864
#: The largest number in an export: clients in JavaScript know no larger ones.
MAX_NUMBER = (1 << 53) - 1


class _Header(Struct, tag="export", tag_field="type"):
    format: str
    version: int
    epoch: str


class _RoomLine(Struct, tag="room", tag_field="type"):
    room: str
    first: int
    head: int
    head_id: str
    topic: str
    archived: bool
    settings: RoomSettings = RoomSettings()


class _EventLine(Struct, tag="event", tag_field="type"):
    event: Event


class _StandingLine(Struct, tag="standing", tag_field="type"):
    standing: Standing


class _IdentityLine(Struct, tag="identity", tag_field="type"):
    identity: Identity


class _TokenLine(Struct, tag="token", tag_field="type"):
    token: KeptToken


class _MarkLine(Struct, tag="read", tag_field="type"):
    mark: ReadMark


class _CursorLine(Struct, tag="cursor", tag_field="type"):
    cursor: KeptCursor


class _AccountLine(Struct, tag="account", tag_field="type"):
    account: KeptAccount


class _InvitationLine(Struct, tag="invitation", tag_field="type"):
    invitation: KeptInvitation


class _AuditLine(Struct, tag="audit", tag_field="type"):
    entry: AuditEntry


class _EndLine(Struct, tag="end", tag_field="type"):
    rooms: int
    events: int


_Beside: TypeAlias = _TokenLine | _MarkLine | _CursorLine | _AccountLine | _InvitationLine | _AuditLine
_Line: TypeAlias = _Header | _IdentityLine | _RoomLine | _EventLine | _StandingLine | _Beside | _EndLine
_decode_line: Callable[[bytes], _Line] = msgspec.json.Decoder(_Line).decode


def export(args: Namespace, context: CommandContext) -> int:
    """Write an export, in ASCII."""
    if args.everything and args.room:
        raise CliError("--everything: exports all rooms, so no room can be named", Status.USAGE)
    url = store_url(settings_of(args, context), context)
    path = shown_store(url)
    with outgoing(url) as source, ExitStack() as stack:
        names = [checked_room_name(room) for room in args.room] or list(source.rooms)
        for name in names:
            if name not in source.rooms:
                raise CliError(f"{path} has no room {name}; see twisted-chat room list", Status.FAILED)
        output = context.stdout if args.output is None else stack.enter_context(_new_file(args.output))

        def write(line: Struct) -> None:
            output.write(_ascii(line) + "\n")

        write(_Header(FORMAT, EVERYTHING if args.everything else ROOMS_ONLY, source.epoch))
        if args.everything:
            write(_IdentityLine(source.identity()))
        count = 0
        for name in names:
            write(_room_line(source.rooms[name]))
            for event in source.events(name):
                write(_EventLine(event))
                count += 1
            for standing in source.standings(name):
                write(_StandingLine(standing))
        for kept in _kept_beside(source) if args.everything else ():
            write(kept)
        write(_EndLine(len(names), count))
        output.flush()
        if args.output is not None:
            os.fsync(output.fileno())
    if args.output is not None:
        if args.json:
            context.say_json({"rooms": len(names), "events": count, "file": args.output})
        else:
            context.say(f"{count} events of {len(names)} rooms are in {visible(args.output)}")
    return Status.DONE


def _room_line(record: RoomRecord) -> _RoomLine:
    fields = {name: getattr(record, name) for name in _RoomLine.__struct_fields__ if name != "room"}
    return _RoomLine(room=record.name, **fields)


def _record(line: _RoomLine) -> RoomRecord:
    fields = {name: getattr(line, name) for name in _RoomLine.__struct_fields__ if name != "room"}
    return RoomRecord(name=checked_room_name(line.room), **fields)


def _kept_beside(source: Outgoing) -> Iterator[Struct]:
    yield from map(_AccountLine, source.accounts.accounts())
    yield from map(_InvitationLine, source.accounts.invitations())
    yield from map(_AuditLine, source.accounts.audit())
    yield from map(_TokenLine, source.tokens())
    yield from map(_MarkLine, source.read_marks())
    yield from map(_CursorLine, source.cursors())


def import_(args: Namespace, context: CommandContext) -> int:
    """Import all of an export, or nothing; no server may be using the database."""
    url = store_url(settings_of(args, context), context)
    path = shown_store(url)
    rooms = events = 0
    with ExitStack() as stack:
        lines = _input(args.file, stack)
        header = next(lines, None)
        if not isinstance(header, _Header) or header.format != FORMAT:
            raise CliError(f"{args.file}: is not an export of twisted-chat, because its first line is another", Status.FAILED)
        if not 1 <= header.version <= EVERYTHING:
            raise CliError(f"{args.file}: has format {header.version}, this command knows up to {EVERYTHING}", Status.FAILED)
        with incoming(url) as target:
            end: _EndLine | None = None
            first = True
            for line in lines:
                if end is not None:
                    raise CliError(f"{args.file}: there are lines after the line that should be the last", Status.FAILED)
                if isinstance(line, _IdentityLine) and not first:
                    raise CliError(f"{args.file}: the identity stands elsewhere than in the second line", Status.FAILED)
                first = False
                end = _import_line(target, line)
                rooms += isinstance(line, _RoomLine)
                events += isinstance(line, _EventLine)
            if end is None:
                raise CliError(f"{args.file}: ends too early; nothing was imported; export it again", Status.FAILED)
            if (end.rooms, end.events) != (rooms, events):
                counts = f"has {rooms} rooms and {events} events, but its last line says {end.rooms} and {end.events}"
                raise CliError(f"{args.file}: {counts}; nothing was imported", Status.FAILED)
    if args.json:
        context.say_json({"rooms": rooms, "events": events, "store": path})
    else:
        context.say(f"{events} events of {rooms} rooms are in {path}")
    return Status.DONE


def _import_line(target: Incoming, line: _Line) -> _EndLine | None:
    match line:
        case _EventLine():
            target.event(line.event)
        case _RoomLine():
            target.room(_record(line))
        case _StandingLine():
            target.standing(line.standing)
        case _IdentityLine():
            target.identity(line.identity)
        case _TokenLine():
            target.token(line.token)
        case _MarkLine():
            target.read_mark(line.mark)
        case _AccountLine():
            person_name(line.account.record.name)
            target.accounts.add_account(line.account)
        case _InvitationLine():
            target.accounts.add_invitation(line.invitation)
        case _AuditLine():
            target.accounts.add_entry(line.entry)
        case _CursorLine():
            checked_room_name(line.cursor.room)
            target.cursor(line.cursor)
        case _EndLine():
            return line
        case _Header():
            raise CliError("the first line of the export occurs twice", Status.FAILED)
    return None


def _input(name: str, stack: ExitStack) -> Iterator[_Line]:
    try:
        file: IO[bytes] = sys.stdin.buffer if name == "-" else stack.enter_context(open(name, "rb"))  # noqa: SIM115
    except OSError as error:
        raise CliError(f"{name}: cannot be read: {error.strerror}", Status.STORE) from None
    for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES), b""), 1):
        if len(line) == LINE_BYTES:
            raise CliError(f"{name}: line {number} is longer than {LINE_BYTES} bytes; nothing was imported", Status.FAILED)
        try:
            decoded = _decode_line(line)
            _check_numbers(decoded)
            _check_words(decoded)
            yield decoded
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CliError(f"{name}: line {number} is not a line of an export: {error}", Status.FAILED) from None


def _check_numbers(line: _Line) -> None:
    """Raise :class:`msgspec.ValidationError` if a number of the line is none that a store could have given."""
    match line:
        case _EventLine():
            kept: Struct = line.event
        case _TokenLine():
            kept = line.token.record
        case _StandingLine():
            kept = line.standing
        case _MarkLine():
            kept = line.mark
        case _AccountLine():
            kept = line.account.record
        case _InvitationLine():
            kept = line.invitation.record
        case _AuditLine():
            kept = line.entry
        case _:
            kept = line
    for name in kept.__struct_fields__:
        value, least = getattr(kept, name), 1 if name == "first" else 0
        if type(value) is int and not least <= value <= MAX_NUMBER:
            raise msgspec.ValidationError(f"{name} is not a number from {least} to {MAX_NUMBER}")


def _check_words(line: _Line) -> None:
    """Raise :class:`msgspec.ValidationError` for a role or an access that there is not."""
    if isinstance(line, _StandingLine) and line.standing.role not in (None, *RANKS):
        raise msgspec.ValidationError(f"{line.standing.role!a} is not a role")
    if isinstance(line, _RoomLine) and line.settings.access not in ACCESS:
        raise msgspec.ValidationError(f"{line.settings.access!a} is not an access of a room")


def _new_file(path: str) -> IO[str]:
    try:
        return open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii")
    except OSError as error:
        raise CliError(f"{path}: cannot be written: {error.strerror}; choose another name", Status.STORE) from None


def _ascii(line: Struct) -> str:
    text = msgspec.json.encode(line).decode()
    return text if text.isascii() else json.dumps(json.loads(text), ensure_ascii=True, separators=(",", ":"))
