"""The contract of accounts over the tables of a database.

:class:`SqlAccounts` turns each call into work on :class:`~twisted_chat.stores.account_tables.Tables`, which its store does where it does
such work: in its threads, or (for the command line) at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred

from twisted_chat.accounts import (
    AccountChange,
    AccountNews,
    AccountRecord,
    AuditEntry,
    Bound,
    InvitationRecord,
    KeptAccount,
    Note,
)
from twisted_chat.store_tokens import TokenRecord
from twisted_chat.stores.account_tables import Tables

T = TypeVar("T")


class Run(Protocol):
    """Does work on the tables where the store does it."""

    def __call__(self, work: Callable[[Tables], T], /) -> Deferred[T]: ...


class SqlAccounts:
    """The accounts of one store.

    :param write: for work that changes something; ``read`` for other work.
    """

    def __init__(self, write: Run, read: Run) -> None:
        self._write = write
        self._read = read

    def create_account(
        self, account: KeptAccount, note: Note, invitation: bytes | None = None
    ) -> Deferred[InvitationRecord | None]:
        return self._write(lambda tables: tables.create_account(account, note, invitation))

    def account(self, account_id: str) -> Deferred[KeptAccount | None]:
        return self._read(lambda tables: tables.account(account_id))

    def account_named(self, name: str) -> Deferred[KeptAccount | None]:
        return self._read(lambda tables: tables.account_named(name))

    def account_from(self, origin: str) -> Deferred[KeptAccount | None]:
        return self._read(lambda tables: tables.account_from(origin))

    def list_accounts(self, search: str, after: str, limit: int) -> Deferred[list[AccountRecord]]:
        return self._read(lambda tables: tables.list_accounts(search, after, limit))

    def account_news(self, since: int, limit: int) -> Deferred[AccountNews]:
        return self._read(lambda tables: tables.account_news(since, limit))

    def change_account(
        self, account_id: str, change: AccountChange, note: Note
    ) -> Deferred[tuple[AccountRecord, tuple[str, ...]]]:
        return self._write(lambda tables: tables.change_account(account_id, change, note))

    def create_account_token(
        self, record: TokenRecord, secret_hash: bytes, note: Note, *, password: str | None = None, replaces: str | None = None
    ) -> Deferred[tuple[str, ...]]:
        return self._write(lambda tables: tables.create_account_token(record, secret_hash, note, password, replaces))

    def account_tokens(self, user: str, kind: str) -> Deferred[list[TokenRecord]]:
        return self._read(lambda tables: tables.account_tokens(user, kind))

    def revoke_account_token(self, user: str, token_id: str, note: Note) -> Deferred[TokenRecord | None]:
        return self._write(lambda tables: tables.revoke_account_token(user, token_id, note))

    def create_invitation(self, record: InvitationRecord, secret_hash: bytes, note: Note) -> Deferred[None]:
        return self._write(lambda tables: tables.create_invitation(record, secret_hash, note))

    def invitation(self, secret_hash: bytes) -> Deferred[InvitationRecord | None]:
        return self._read(lambda tables: tables.invitation(secret_hash))

    def list_invitations(self, limit: int) -> Deferred[list[InvitationRecord]]:
        return self._read(lambda tables: tables.list_invitations(limit))

    def revoke_invitation(self, invitation_id: str, note: Note) -> Deferred[InvitationRecord | None]:
        return self._write(lambda tables: tables.revoke_invitation(invitation_id, note))

    def note(self, note: Note) -> Deferred[None]:
        return self._write(lambda tables: tables.note(note))

    def read_audit(self, before: int | None, since_ms: int, limit: int) -> Deferred[list[AuditEntry]]:
        return self._read(lambda tables: tables.read_audit(before, since_ms, limit))

    def take_attempt(self, bounds: Sequence[Bound], now_ms: int) -> Deferred[int]:
        return self._write(lambda tables: tables.take_attempt(bounds, now_ms))

    def attempt_succeeded(self, forget: Sequence[str], give_back: Sequence[Bound], known: str, until_ms: int) -> Deferred[None]:
        return self._write(lambda tables: tables.attempt_succeeded(forget, give_back, known, until_ms))
