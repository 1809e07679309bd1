"""Logs of a store to a file and back: ``twisted-chat export`` and ``import``.

Each line is one JSON object: a header, then each room and its events, then an end with counts, by which a truncated file is noticed.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO

import msgspec
from msgspec import Struct

from twisted_chat.cli.admin import checked_room_name, store_file_of
from twisted_chat.cli.output import CliError, CommandContext, Status
from twisted_chat.events import Event
from twisted_chat.interfaces import RoomRecord
from twisted_chat.server.logging import visible
from twisted_chat.stores.sqlite.transfer import Incoming, incoming, outgoing

#: Name and version of the format of exports.
FORMAT, VERSION = "twisted_chat.log", 1


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


class _EventLine(Struct, tag="event", tag_field="type"):
    event: Event


class _EndLine(Struct, tag="end", tag_field="type"):
    rooms: int
    events: int


_decode_line = msgspec.json.Decoder(_Header | _RoomLine | _EventLine | _EndLine).decode


def export(args: Namespace, context: CommandContext) -> int:
    """Write an export, in ASCII."""
    _, path = store_file_of(args, context)
    with outgoing(path) as source, ExitStack() as stack:
        names = [checked_room_name(room) for room in args.room] or list(source.rooms)
        for name in names:
            if name not in source.rooms:
                raise CliError(f"{path} has no room {name}; see twisted-chat room list", Status.FAILED)
        output = context.stdout if args.output is None else stack.enter_context(_new_file(args.output))

        def write(line: Struct) -> None:
            output.write(_ascii(line) + "\n")

        write(_Header(FORMAT, VERSION, source.epoch))
        count = 0
        for name in names:
            record = source.rooms[name]
            write(_RoomLine(name, record.first, record.head, record.head_id, record.topic, record.archived))
            for event in source.events(name):
                write(_EventLine(event))
                count += 1
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


def import_(args: Namespace, context: CommandContext) -> int:
    """Import all of an export, or nothing; no server may be using the database."""
    _, path = store_file_of(args, context, must_be=False)
    rooms = events = 0
    with ExitStack() as stack:
        lines = _input(args.file, stack)
        header = next(lines, None)
        if not isinstance(header, _Header) or header.format != FORMAT:
            raise CliError(f"{args.file}: is not an export of twisted-chat, because its first line is another", Status.FAILED)
        if header.version != VERSION:
            raise CliError(f"{args.file}: has format {header.version}, this command knows {VERSION}", Status.FAILED)
        with incoming(path) as target:
            end: _EndLine | None = None
            for line in lines:
                if end is not None:
                    raise CliError(f"{args.file}: there are lines after the line that should be the last", Status.FAILED)
                end = _take(target, line)
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


def _take(target: Incoming, line: object) -> _EndLine | None:
    match line:
        case _EventLine():
            target.event(line.event)
        case _RoomLine():
            target.room(RoomRecord(checked_room_name(line.room), line.first, line.head, line.head_id, line.topic, line.archived))
        case _EndLine():
            return line
        case _:
            raise CliError("the first line of the export occurs twice", Status.FAILED)
    return None


def _input(name: str, stack: ExitStack) -> Iterator[object]:
    try:
        file: IO[bytes] = sys.stdin.buffer if name == "-" else stack.enter_context(open(name, "rb"))  # noqa: SIM115
    except OSError as error:
        raise CliError(f"{name}: cannot be read: {error.strerror}", Status.STORE) from None
    for number, line in enumerate(file, 1):
        try:
            yield _decode_line(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CliError(f"{name}: line {number} is not a line of an export: {error}", Status.FAILED) from None


def _new_file(path: str) -> IO[str]:
    try:
        return open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii")
    except OSError as error:
        raise CliError(f"{path}: cannot be written: {error.strerror}; choose another name", Status.STORE) from None


def _ascii(line: Struct) -> str:
    text = msgspec.json.encode(line).decode()
    return text if text.isascii() else json.dumps(json.loads(text), ensure_ascii=True, separators=(",", ":"))
