"""Verbs that work on the server's store: tokens, rooms, backup and restore.

The store is the one that the server would use: ``--store``, otherwise ``--config``, the environment or the default, relative to
``$STATE_DIRECTORY`` or to the directory where the server is started.  All verbs except ``import`` and ``restore`` work while the server
runs.
"""

from __future__ import annotations

import os
import re
import secrets
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_chat.cli.output import CliError, CommandContext, Status
from twisted_chat.errors import ChatError
from twisted_chat.minting import mint
from twisted_chat.names import room_name
from twisted_chat.server.config import Given, Settings, SettingsError, load, store_path
from twisted_chat.server.logging import visible
from twisted_chat.store_contract import RoomRecord, StoreError, TokenRecord
from twisted_chat.stores.sqlite.backup import backup as copy_database
from twisted_chat.stores.sqlite.restore import restore as restore_database
from twisted_chat.stores.sqlite.transfer import holes, outgoing
from twisted_chat.stores.urls import (
    is_postgresql,
    make_shared_rooms,
    make_shared_schema,
    make_shared_tokens,
    shown_store,
    store_file,
)

T = TypeVar("T")

#: Seconds of each unit of ``--expires``.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def settings_of(args: Namespace, context: CommandContext) -> Settings:
    """The settings that the server would use; :class:`CliError` if they are invalid."""
    given = [Given("store", args.store, "--store", text=True)] if args.store is not None else []
    try:
        return load(given, context.environ, args.config)
    except SettingsError as error:
        raise CliError(str(error), Status.USAGE) from None


def store_url(settings: Settings, context: CommandContext) -> str:
    """The URL of the store in the settings, with an absolute path."""
    return store_path(settings.store, context.environ.get("STATE_DIRECTORY", "").split(":")[0] or os.getcwd())


def store_file_of(args: Namespace, context: CommandContext, *, must_be: bool = True) -> tuple[str, str]:
    """URL and path of the store; with ``must_be``, :class:`StoreError` if the file does not exist."""
    url = store_url(settings_of(args, context), context)
    path = store_file(url)
    if must_be and not os.path.exists(path):
        raise StoreError(f"{path}: there is no such file; name the server's database with --store sqlite:PATH or --config FILE")
    return url, path


def store_of(args: Namespace, context: CommandContext, *, must_be: bool = True) -> tuple[str, str]:
    """URL of the store, and how it is shown."""
    url = store_url(settings_of(args, context), context)
    if is_postgresql(url):
        return url, shown_store(url)
    return store_file_of(args, context, must_be=must_be)


def now(deferred: Deferred[T]) -> T:
    """The result of a Deferred that has already fired; raises its failure."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    (result,) = found
    if isinstance(result, Failure):
        result.raiseException()
    answer: T = result
    return answer


# Tokens


def create_token(args: Namespace, context: CommandContext) -> int:
    """Create a token and print it; it cannot be shown again."""
    url, path = store_of(args, context, must_be=False)
    at = int(context.now_seconds() * 1000)
    expires = None if args.expires is None else at + age_seconds(args.expires) * 1000
    user = args.person or "u" + secrets.token_hex(8)
    try:
        minted = mint(secrets.token_bytes, at, user=user, name=args.name, expires_ms=expires, rights=args.right or ())
    except ChatError as error:
        raise CliError(error.message, Status.USAGE) from None
    tokens = make_shared_tokens(url)
    now(tokens.open())
    now(tokens.create_token(minted.record, minted.secret_hash))
    if args.json:
        context.say_json({**_token(minted.record), "token": minted.token, "store": path})
    else:
        context.note(f"token {minted.record.id} of {user} ({minted.record.name}) is in {path}; it is shown only now:")
        context.say(minted.token)
    return Status.DONE


def list_tokens(args: Namespace, context: CommandContext) -> int:
    """List all tokens, without their secrets."""
    url, _ = store_of(args, context)
    tokens = make_shared_tokens(url)
    now(tokens.open())
    records = now(tokens.list_tokens())
    if args.json:
        for record in records:
            context.say_json(_token(record))
        return Status.DONE
    at = context.now_seconds() * 1000
    rows = [("ID", "PERSON", "NAME", "CREATED", "EXPIRES", "RIGHTS", "STATE")]
    for record in records:
        state = "revoked" if record.revoked else "expired" if record.expires and record.expires <= at else "valid"
        expires = shown_day(record.expires) if record.expires else "never"
        rights = ",".join(record.rights) or "-"
        rows.append((record.id, record.user, record.name, shown_day(record.created), expires, rights, state))
    print_table(context, rows)
    return Status.DONE


def revoke_tokens(args: Namespace, context: CommandContext) -> int:
    """Revoke tokens; a running server closes their connections within seconds."""
    url, path = store_of(args, context)
    tokens = make_shared_tokens(url)
    now(tokens.open())
    missing = []
    for token_id in args.id:
        record = now(tokens.revoke_token(token_id, int(context.now_seconds() * 1000)))
        if record is None:
            missing.append(token_id)
        elif args.json:
            context.say_json(_token(record))
        else:
            context.say(f"{record.id} of {record.user} is revoked")
    if missing:
        raise CliError(f"{path} has no token {', '.join(missing)}; see twisted-chat token list", Status.FAILED)
    return Status.DONE


def _token(record: TokenRecord) -> dict[str, object]:
    return {**msgspec.structs.asdict(record), "rights": list(record.rights)}


def age_seconds(age: str, option: str = "--expires") -> int:
    """The seconds of an age such as ``90d``."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhdw])", age)
    if match is None:
        raise CliError(f"{option} {age}: write a number and s, m, h, d or w, such as 90d", Status.USAGE)
    return int(match[1]) * _UNITS[match[2]]


# Rooms


def list_rooms(args: Namespace, context: CommandContext) -> int:
    """List the rooms in the store."""
    url, _ = store_of(args, context)
    rooms = make_shared_rooms(url)
    now(rooms.open())
    records = now(rooms.list_rooms())
    if args.json:
        for record in records:
            context.say_json(_room(record))
        return Status.DONE
    rows = [("ROOM", "FIRST", "HEAD", "STATE", "TOPIC")]
    for record in records:
        state = "archived" if record.archived else "open"
        rows.append((record.name, str(record.first), str(record.head), state, record.topic or "-"))
    print_table(context, rows)
    return Status.DONE


def create_room(args: Namespace, context: CommandContext) -> int:
    """Create an empty room."""
    url, path = store_of(args, context, must_be=False)
    name = checked_room_name(args.room)
    rooms = make_shared_rooms(url)
    now(rooms.open())
    if not now(rooms.create_room(name)):
        raise CliError(f"{path} already has a room {name}", Status.FAILED)
    _say_room(args, context, rooms, name, "created")
    return Status.DONE


def archive_room(args: Namespace, context: CommandContext) -> int:
    """Archive a room (it can be read, not written), or with ``--undo`` open it again.  A running server notices within seconds."""
    url, path = store_of(args, context)
    name = checked_room_name(args.room)
    rooms = make_shared_rooms(url)
    now(rooms.open())
    if not now(rooms.archive_room(name, not args.undo)):
        raise CliError(f"{path} has no room {name}; see twisted-chat room list", Status.FAILED)
    _say_room(args, context, rooms, name, "open" if args.undo else "archived")
    return Status.DONE


def _say_room(args: Namespace, context: CommandContext, rooms: Any, name: str, what: str) -> None:
    if args.json:
        context.say_json(next(_room(record) for record in now(rooms.list_rooms()) if record.name == name))
    else:
        context.say(f"{name} is {what}; a running server notices it within a few seconds")


def _room(record: RoomRecord) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(record)
    return {"room" if name == "name" else name: value for name, value in fields.items()}


def checked_room_name(raw: str) -> str:
    try:
        return room_name(raw)
    except ChatError as error:
        raise CliError(error.message, Status.USAGE) from None


# The schema


def upgrade(args: Namespace, context: CommandContext) -> int:
    """Bring the store to the schema of this version, which needs a user that may create tables; servers may run meanwhile."""
    url = store_url(settings_of(args, context), context)
    if not is_postgresql(url):
        raise CliError(
            f"--store {shown_store(url)}: is upgraded by the server when it starts; this is for postgresql://…", Status.USAGE
        )
    steps = now(make_shared_schema(url).upgrade())
    if args.json:
        context.say_json({"store": shown_store(url), "steps": steps})
    else:
        context.say(f"{shown_store(url)}: " + (f"{steps} steps taken" if steps else "has the schema of this version already"))
    return Status.DONE


# Backups


def backup(args: Namespace, context: CommandContext) -> int:
    """Copy one committed state of the database; the copy is verified before it gets its name."""
    _, path = store_file_of(args, context)
    target = os.path.abspath(args.target)
    copy_database(path, target)
    with outgoing(target) as copy:
        records = list(copy.rooms.values())
    broken = holes(target, records)
    if broken:
        raise StoreError(
            f"{target}: numbers of events are missing in the rooms {', '.join(broken)}; keep older backups and report this"
        )
    events = sum(record.head - record.first + 1 for record in records)
    size = os.path.getsize(target)
    if args.json:
        context.say_json({"file": target, "bytes": size, "rooms": len(records), "events": events, "verified": True})
    else:
        context.say(f"{visible(target)}: {events} events of {len(records)} rooms, {size} bytes, verified")
    return Status.DONE


# Tables


def shown_day(ms: int) -> str:
    """The day of a time, where this machine is."""
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone().strftime("%Y-%m-%d")


def print_table(context: CommandContext, rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns, escaped; the first has the headings."""
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(rows[0]))]
    for row in shown:
        context.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def restore(args: Namespace, context: CommandContext) -> int:
    """Replace the database with a backup; no server may be using it."""
    _, path = store_file_of(args, context, must_be=False)
    stamp = datetime.fromtimestamp(context.now_seconds(), UTC).strftime("%Y%m%d-%H%M%S")
    done = restore_database(os.path.abspath(args.source), path, stamp, secrets.token_bytes)
    if args.json:
        context.say_json({"file": done.path, "replaced": done.replaced})
    else:
        kept = f"; the replaced one is {done.replaced}" if done.replaced else ""
        context.say(f"{done.path} is now a copy of {args.source}{kept}")
    return Status.DONE
