"""Verbs for accounts, which work on the server's store, also while the server runs: it notices within seconds.

A password comes from the terminal, where it is not shown, or from the first line of the standard input; never from the command line, which
other users of the machine can read.
"""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Coroutine
from datetime import UTC, datetime
from getpass import getpass
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred

from twisted_chat.accounts import AccountChange, AccountRecord, KeptAccount
from twisted_chat.auth.passwords import RAW_MAX, Argon2Passwords
from twisted_chat.cli.admin import age_seconds, now, print_table, settings_of, shown_day, store_of
from twisted_chat.cli.output import CliError, CommandContext, Status
from twisted_chat.core.accounts import Accounts, Caller, check_rights, invite
from twisted_chat.errors import ChatError
from twisted_chat.server.config import Settings
from twisted_chat.stores.urls import make_shared_accounts
from twisted_chat.stores.workers import AtOnce, call_at_once

T = TypeVar("T")

#: Who the audit log says it was, and from where.
_OPERATOR = Caller("command line")
#: Accounts and entries in one read.
_READ = 500
#: Bytes of the standard input that are read for a password.
_INPUT_BYTES = 4 * RAW_MAX


def _accounts(args: Namespace, context: CommandContext, *, must_be: bool = True) -> Accounts:
    """The accounts of the store, which is open."""
    url, _ = store_of(args, context, must_be=must_be)
    shared = make_shared_accounts(url)
    now(shared.open())
    return Accounts(
        shared.accounts,
        Argon2Passwords(AtOnce, call_at_once),
        (),
        now_seconds=context.now_seconds,
        random=os.urandom,
        end_tokens=lambda tokens: None,
        reserve=lambda users: None,
    )


def _done(work: Coroutine[Any, Any, T]) -> T:
    """The result of work that waits for nothing."""
    try:
        return now(Deferred.fromCoroutine(work))
    except ChatError as error:
        raise CliError(error.message, Status.FAILED) from None


def _found(accounts: Accounts, who: str) -> KeptAccount:
    """The account of that name or id."""

    async def find() -> KeptAccount | None:
        return await accounts.store.account(who) or await accounts.store.account_named(who)

    kept = _done(find())
    if kept is None or kept.record.deleted is not None:
        raise CliError(f"there is no account {who!a}; see twisted-chat user list", Status.FAILED)
    return kept


def _password(context: CommandContext) -> str:
    """A new password: from the terminal, twice, or the first line of the standard input."""
    if context.input_terminal:
        password = getpass("Password: ")
        if getpass("Again: ") != password:
            raise CliError("the two passwords differ", Status.FAILED)
        return password
    given = b""
    while b"\n" not in given and len(given) <= _INPUT_BYTES:
        part = context.read(_INPUT_BYTES)
        if not part:
            break
        given += part
    try:
        return given.partition(b"\n")[0].rstrip(b"\r").decode()
    except UnicodeDecodeError:
        raise CliError("the password must be text in UTF-8", Status.USAGE) from None


def add_user(args: Namespace, context: CommandContext) -> int:
    """Make an account."""
    accounts = _accounts(args, context, must_be=False)
    record = _done(accounts.create(args.name, _password(context), args.right or (), _OPERATOR))
    _say(args, context, record, "is made")
    return Status.DONE


def list_users(args: Namespace, context: CommandContext) -> int:
    """List the accounts."""
    accounts = _accounts(args, context)
    rows = [("ID", "NAME", "CREATED", "RIGHTS", "ORIGIN", "STATE")]
    after = ""
    while True:
        found = now(accounts.store.list_accounts("", after, _READ))
        for record in found:
            if args.json:
                context.say_json(_fields(record))
            state = "deleted" if record.deleted else "disabled" if record.disabled else "active"
            rights = ",".join(record.rights) or "-"
            rows.append((record.id, record.name, shown_day(record.created), rights, record.origin or "-", state))
        if len(found) < _READ:
            break
        after = found[-1].id
    if not args.json:
        print_table(context, rows)
    return Status.DONE


def set_password(args: Namespace, context: CommandContext) -> int:
    """Set the password of an account; all of its sessions and tokens end."""
    accounts = _accounts(args, context)
    kept = _found(accounts, args.name)

    async def change() -> AccountRecord:
        password = _password(context)
        accounts.passwords.check(password, kept.record.name)
        hashed = await accounts.passwords.hash(password)
        note = accounts.note(_OPERATOR, "account.change", kept.record.id, password="set")
        return await accounts.change(kept.record.id, AccountChange(password=hashed), note)

    _say(args, context, _done(change()), "has the new password")
    return Status.DONE


def set_rights(args: Namespace, context: CommandContext) -> int:
    """Give an account exactly these rights."""
    rights = check_rights(args.right or ())
    return _change(args, context, AccountChange(rights=rights), "has the rights: " + (", ".join(rights) or "none"))


def disable_user(args: Namespace, context: CommandContext) -> int:
    """Disable an account; its sessions and connections end."""
    return _change(args, context, AccountChange(disabled=True), "is disabled")


def enable_user(args: Namespace, context: CommandContext) -> int:
    """Enable an account again."""
    return _change(args, context, AccountChange(disabled=False), "is enabled")


def delete_user(args: Namespace, context: CommandContext) -> int:
    """Delete an account for ever; nobody gets its name again."""
    return _change(args, context, AccountChange(deleted=True), "is deleted")


def _change(args: Namespace, context: CommandContext, change: AccountChange, what: str) -> int:
    accounts = _accounts(args, context)
    kept = _found(accounts, args.name)
    action = "account.delete" if change.deleted else "account.change"
    details = {} if change.deleted else {"change": what}
    record = _done(accounts.change(kept.record.id, change, accounts.note(_OPERATOR, action, kept.record.id, **details)))
    _say(args, context, record, what)
    return Status.DONE


def invite_user(args: Namespace, context: CommandContext) -> int:
    """Make an invitation and print its secret, or the link to the page."""
    settings = settings_of(args, context)
    if settings.sign_up == "closed":
        context.note('sign_up is closed, so nobody can use the invitation until sign_up = "invite" is set')
    accounts = _accounts(args, context, must_be=False)
    expires = None if args.expires is None else accounts.now_ms + age_seconds(args.expires) * 1000
    rooms, rights = args.room or (), args.right or ()
    record, secret = _done(invite(accounts, _OPERATOR, uses=args.uses, expires_ms=expires, rights=rights, rooms=rooms))
    if args.json:
        context.say_json({**msgspec.to_builtins(record), "secret": secret})
    else:
        context.note(f"invitation {record.id}; it is shown only now:")
        context.say(_link(settings, secret))
    return Status.DONE


def _link(settings: Settings, secret: str) -> str:
    return f"{settings.public_url.rstrip('/')}/#invite={secret}" if settings.public_url else secret


def audit(args: Namespace, context: CommandContext) -> int:
    """Print the audit log, oldest entries first."""
    accounts = _accounts(args, context)
    since = 0 if args.since is None else _since(args.since, accounts.now_ms)
    entries = []
    before = None
    while True:
        found = now(accounts.store.read_audit(before, since, _READ))
        entries += found
        if len(found) < _READ:
            break
        before = found[-1].number
    rows = [("NUMBER", "TIME", "BY", "FROM", "ACTION", "SUBJECT", "DETAILS")]
    for entry in reversed(entries):
        if args.json:
            context.say_json(msgspec.to_builtins(entry))
        at = datetime.fromtimestamp(entry.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        details = " ".join(f"{name}={value}" for name, value in entry.details.items())
        rows.append((str(entry.number), at, entry.by or "-", entry.address or "-", entry.action, entry.subject or "-", details))
    if not args.json:
        print_table(context, rows)
    return Status.DONE


def _since(text: str, now_ms: int) -> int:
    """An age such as ``7d``, or a day such as ``2026-11-28`` (UTC), as a time."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        try:
            return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
        except ValueError:
            raise CliError(f"--since {text}: is no day", Status.USAGE) from None
    return now_ms - age_seconds(text, "--since") * 1000


def _say(args: Namespace, context: CommandContext, record: AccountRecord, what: str) -> None:
    if args.json:
        context.say_json(_fields(record))
    else:
        context.note(f"{record.name} ({record.id}) {what}")


def _fields(record: AccountRecord) -> dict[str, object]:
    return {**msgspec.structs.asdict(record), "rights": list(record.rights)}
