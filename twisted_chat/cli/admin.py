"""The server's store from a shell: which one it is, tokens and rooms in it, its logs out and in, copies.

The store is the one that the server would use: from ``--store``, else ``--config``, the environment or the default, in the
directory where the server is started or ``$STATE_DIRECTORY``.  All of it works while the server runs, except ``import``.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import IO, Any, TypeVar

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_chat.auth.tokens import mint
from twisted_chat.cli.output import ShellError, Status, World
from twisted_chat.errors import ChatError
from twisted_chat.events import Event
from twisted_chat.interfaces import RoomRecord, StoreError, TokenRecord
from twisted_chat.names import room_name
from twisted_chat.server.config import Given, Settings, SettingsError, load, store_path
from twisted_chat.server.logging import visible
from twisted_chat.stores.sqlite.backup import backup as copy_database
from twisted_chat.stores.sqlite.transfer import Incoming, holes, incoming, outgoing
from twisted_chat.stores.urls import make_shared_rooms, make_shared_tokens, store_file

T = TypeVar("T")

#: What the lines of an export are.
FORMAT, VERSION = "twisted_chat.log", 1
#: A token's age is given in these.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def settings_of(args: Namespace, world: World) -> Settings:
    """The server's settings."""
    given = [Given("store", args.store, "--store", text=True)] if args.store is not None else []
    try:
        return load(given, world.environ, args.config)
    except SettingsError as error:
        raise ShellError(str(error), Status.USAGE) from None


def store_url(settings: Settings, world: World) -> str:
    """The store of the settings with a whole path."""
    return store_path(settings.store, world.environ.get("STATE_DIRECTORY", "").split(":")[0] or os.getcwd())


def _file(args: Namespace, world: World, *, must_be: bool = True) -> tuple[str, str]:
    """URL and path of the store."""
    url = store_url(settings_of(args, world), world)
    path = store_file(url)
    if must_be and not os.path.exists(path):
        raise StoreError(f"{path}: there is no such file; name the server's with --store sqlite:PATH or --config FILE")
    return url, path


def now(deferred: Deferred[T]) -> T:
    """The result of what has fired already."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    (result,) = found
    if isinstance(result, Failure):
        result.raiseException()
    answer: T = result
    return answer


# Tokens


def create_token(args: Namespace, world: World) -> int:
    """A new token, shown once."""
    url, path = _file(args, world, must_be=False)
    at = int(world.now_seconds() * 1000)
    expires = None if args.expires is None else at + _seconds(args.expires) * 1000
    user = args.user or "u" + secrets.token_hex(8)
    try:
        minted = mint(secrets.token_bytes, at, user=user, name=args.name, expires_ms=expires, rights=args.right or ())
    except ChatError as error:
        raise ShellError(error.message, Status.USAGE) from None
    tokens = make_shared_tokens(url)
    now(tokens.open())
    now(tokens.create_token(minted.record, minted.secret_hash))
    if args.json:
        world.say_json({**_token(minted.record), "token": minted.token, "store": path})
    else:
        world.note(f"token {minted.record.id} of {user} ({minted.record.name}) in {path}; it is shown this once:")
        world.say(minted.token)
    return Status.DONE


def list_tokens(args: Namespace, world: World) -> int:
    """All tokens, not their secrets."""
    url, _ = _file(args, world)
    tokens = make_shared_tokens(url)
    now(tokens.open())
    records = now(tokens.list_tokens())
    if args.json:
        for record in records:
            world.say_json(_token(record))
        return Status.DONE
    at = world.now_seconds() * 1000
    rows = [("ID", "PERSON", "NAME", "CREATED", "EXPIRES", "RIGHTS", "STATE")]
    for record in records:
        state = "revoked" if record.revoked else "expired" if record.expires and record.expires <= at else "valid"
        expires = _day(record.expires) if record.expires else "never"
        rights = ",".join(record.rights) or "-"
        rows.append((record.id, record.user, record.name, _day(record.created), expires, rights, state))
    _table(world, rows)
    return Status.DONE


def revoke_tokens(args: Namespace, world: World) -> int:
    """Tokens that are good no more; a running server ends their connections within seconds."""
    url, path = _file(args, world)
    tokens = make_shared_tokens(url)
    now(tokens.open())
    missing = []
    for token_id in args.id:
        record = now(tokens.revoke_token(token_id, int(world.now_seconds() * 1000)))
        if record is None:
            missing.append(token_id)
        elif args.json:
            world.say_json(_token(record))
        else:
            world.say(f"{record.id} of {record.user} is revoked")
    if missing:
        raise ShellError(f"{path} has no token {', '.join(missing)}; see twisted-chat token list", Status.FAILED)
    return Status.DONE


def _token(record: TokenRecord) -> dict[str, object]:
    return {**msgspec.structs.asdict(record), "rights": list(record.rights)}


def _seconds(age: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhdw])", age)
    if match is None:
        raise ShellError(f"--expires {age}: write a number and s, m, h, d or w, such as 90d", Status.USAGE)
    return int(match[1]) * _UNITS[match[2]]


# Rooms


def list_rooms(args: Namespace, world: World) -> int:
    """The rooms that are in the store."""
    url, _ = _file(args, world)
    rooms = make_shared_rooms(url)
    now(rooms.open())
    records = now(rooms.list_rooms())
    if args.json:
        for record in records:
            world.say_json(_room(record))
        return Status.DONE
    rows = [("ROOM", "FIRST", "HEAD", "STATE", "TOPIC")]
    for record in records:
        state = "archived" if record.archived else "open"
        rows.append((record.name, str(record.first), str(record.head), state, record.topic or "-"))
    _table(world, rows)
    return Status.DONE


def create_room(args: Namespace, world: World) -> int:
    """A room without messages."""
    url, path = _file(args, world, must_be=False)
    name = _room_name(args.room)
    rooms = make_shared_rooms(url)
    now(rooms.open())
    if not now(rooms.create_room(name)):
        raise ShellError(f"{path} has a room {name} already", Status.FAILED)
    _say_room(args, world, rooms, name, "made")
    return Status.DONE


def archive_room(args: Namespace, world: World) -> int:
    """Nobody writes there any more, everybody may read; or open it again.  A running server notices within seconds."""
    url, path = _file(args, world)
    name = _room_name(args.room)
    rooms = make_shared_rooms(url)
    now(rooms.open())
    if not now(rooms.archive_room(name, not args.undo)):
        raise ShellError(f"{path} has no room {name}; see twisted-chat room list", Status.FAILED)
    _say_room(args, world, rooms, name, "open" if args.undo else "archived")
    return Status.DONE


def _say_room(args: Namespace, world: World, rooms: Any, name: str, what: str) -> None:
    if args.json:
        world.say_json(next(_room(record) for record in now(rooms.list_rooms()) if record.name == name))
    else:
        world.say(f"{name} is {what}; a running server knows it within a few seconds")


def _room(record: RoomRecord) -> dict[str, object]:
    return {"room" if name == "name" else name: value for name, value in msgspec.structs.asdict(record).items()}


def _room_name(raw: str) -> str:
    try:
        return room_name(raw)
    except ChatError as error:
        raise ShellError(error.message, Status.USAGE) from None


# Logs out and in


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


def export(args: Namespace, world: World) -> int:
    """One JSON object a line: what this is, then for each room itself and its log, then the counts.

    In ASCII, as all our JSON; the line of counts tells a whole export from one that was cut off.
    """
    _, path = _file(args, world)
    with outgoing(path) as source, ExitStack() as stack:
        names = [_room_name(room) for room in args.room] or list(source.rooms)
        for name in names:
            if name not in source.rooms:
                raise ShellError(f"{path} has no room {name}; see twisted-chat room list", Status.FAILED)
        output = world.stdout if args.output is None else stack.enter_context(_new_file(args.output))

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
            world.say_json({"rooms": len(names), "events": count, "file": args.output})
        else:
            world.say(f"{count} events of {len(names)} rooms are in {visible(args.output)}")
    return Status.DONE


def import_(args: Namespace, world: World) -> int:
    """All of an export, or nothing; the server must not run."""
    _, path = _file(args, world, must_be=False)
    rooms = events = 0
    with ExitStack() as stack:
        lines = _input(args.file, stack)
        header = next(lines, None)
        if not isinstance(header, _Header) or header.format != FORMAT:
            raise ShellError(f"{args.file}: is no export of twisted-chat: its first line does not say so", Status.FAILED)
        if header.version != VERSION:
            raise ShellError(f"{args.file}: has format {header.version}, this command knows {VERSION}", Status.FAILED)
        with incoming(path) as target:
            end: _EndLine | None = None
            for line in lines:
                if end is not None:
                    raise ShellError(f"{args.file}: something follows its last line", Status.FAILED)
                end = _take(target, line)
                rooms += isinstance(line, _RoomLine)
                events += isinstance(line, _EventLine)
            if end is None:
                raise ShellError(f"{args.file}: ends too early; nothing was imported, export it again", Status.FAILED)
            if (end.rooms, end.events) != (rooms, events):
                raise ShellError(
                    f"{args.file}: has {events} events where {end.events} belong; nothing was imported", Status.FAILED
                )
    if args.json:
        world.say_json({"rooms": rooms, "events": events, "store": path})
    else:
        world.say(f"{events} events of {rooms} rooms are in {path}")
    return Status.DONE


def _take(target: Incoming, line: object) -> _EndLine | None:
    match line:
        case _EventLine():
            target.event(line.event)
        case _RoomLine():
            target.room(RoomRecord(_room_name(line.room), line.first, line.head, line.head_id, line.topic, line.archived))
        case _EndLine():
            return line
        case _:
            raise ShellError("the first line of an export stands once", Status.FAILED)
    return None


def _input(name: str, stack: ExitStack) -> Iterator[object]:
    try:
        file: IO[bytes] = sys.stdin.buffer if name == "-" else stack.enter_context(open(name, "rb"))  # noqa: SIM115
    except OSError as error:
        raise ShellError(f"{name}: cannot be read: {error.strerror}", Status.STORE) from None
    for number, line in enumerate(file, 1):
        try:
            yield _decode_line(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ShellError(f"{name}: line {number} is not of an export: {error}", Status.FAILED) from None


def _new_file(path: str) -> IO[str]:
    try:
        return open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii")
    except OSError as error:
        raise ShellError(f"{path}: cannot be written: {error.strerror}; choose another name", Status.STORE) from None


def _ascii(line: Struct) -> str:
    text = msgspec.json.encode(line).decode()
    return text if text.isascii() else json.dumps(json.loads(text), ensure_ascii=True, separators=(",", ":"))


# Copies


def backup(args: Namespace, world: World) -> int:
    """A copy of one committed state, verified before it gets its name."""
    _, path = _file(args, world)
    target = os.path.abspath(args.target)
    copy_database(path, target)
    with outgoing(target) as copy:
        records = list(copy.rooms.values())
    broken = holes(target, records)
    if broken:
        raise StoreError(f"{target}: rooms with holes in their logs: {', '.join(broken)}; keep older backups and report this")
    events = sum(record.head - record.first + 1 for record in records)
    size = os.path.getsize(target)
    if args.json:
        world.say_json({"file": target, "bytes": size, "rooms": len(records), "events": events, "verified": True})
    else:
        world.say(f"{visible(target)}: {events} events of {len(records)} rooms, {size} bytes, verified")
    return Status.DONE


# Tables


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone().strftime("%Y-%m-%d")


def _table(world: World, rows: Sequence[tuple[str, ...]]) -> None:
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(rows[0]))]
    for row in shown:
        world.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
