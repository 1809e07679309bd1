"""The accounts of the store in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from msgspec import UNSET
from msgspec.structs import replace
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
from twisted_chat.errors import Conflict, Forbidden, NoSuchAccount
from twisted_chat.names import skeletons
from twisted_chat.store_tokens import TokenRecord
from twisted_chat.stores.account_rules import (
    alive,
    changed,
    check_invitation,
    check_may_have_token,
    meant,
    revoked_by,
    superfluous,
)
from twisted_chat.stores.memory_tokens import MemoryTokens

T = TypeVar("T")


class Answer(Protocol):
    """Answers with the result of a function, if the store is open."""

    def __call__(self, look: Callable[[], T], /) -> Deferred[T]: ...


class MemoryAccounts:
    """All accounts, in dicts.  Each check comes before the first change, so nothing has to be undone."""

    def __init__(self, tokens: MemoryTokens, answer: Answer) -> None:
        self._tokens = tokens
        self._answer = answer
        self._accounts: dict[str, KeptAccount] = {}
        self._looks: dict[str, str] = {}
        #: The ids of changed accounts, in order.
        self._changes: list[str] = []
        self._invitations: dict[str, InvitationRecord] = {}
        self._invitation_ids: dict[bytes, str] = {}
        self._audit: list[AuditEntry] = []
        self._attempts: dict[str, int] = {}
        #: The size at which those that are over are forgotten.
        self._look_at = 1_000

    def create_account(
        self, account: KeptAccount, note: Note, invitation: bytes | None = None
    ) -> Deferred[InvitationRecord | None]:
        return self._answer(lambda: self._create_account(account, note, invitation))

    def _create_account(self, account: KeptAccount, note: Note, invitation: bytes | None) -> InvitationRecord | None:
        used = None if invitation is None else self._usable(invitation, note.at)
        record = account.record
        if record.origin and any(each.record.origin == record.origin for each in self._accounts.values()):
            raise Conflict("name: there is such an account already")
        self._take_looks(record.id, record.name)
        if used is not None:
            used = self._invitations[used.id] = replace(used, used=used.used + 1)
            record = replace(record, rights=tuple(sorted({*record.rights, *used.rights})))
            note = replace(note, details={**note.details, "invitation": used.id})
        self._accounts[record.id] = KeptAccount(record, account.password)
        self._changes.append(record.id)
        self._note(note)
        return used

    def _usable(self, secret_hash: bytes, now_ms: int) -> InvitationRecord:
        invitation = self._invitation(secret_hash)
        if invitation is None:
            raise Forbidden("invitation: unknown")
        has_admin = any("admin" in each.record.rights for each in self._accounts.values() if each.record.deleted is None)
        check_invitation(invitation, now_ms, has_admin=has_admin)
        return invitation

    def _take_looks(self, account_id: str, name: str) -> None:
        looks = skeletons(name)
        if any(self._looks.get(look, account_id) != account_id for look in looks):
            raise Conflict("name: it is, or looks like, the name of another account")
        self._looks = {look: holder for look, holder in self._looks.items() if holder != account_id}
        self._looks.update(dict.fromkeys(looks, account_id))

    def account(self, account_id: str) -> Deferred[KeptAccount | None]:
        return self._answer(lambda: self._accounts.get(account_id))

    def account_named(self, name: str) -> Deferred[KeptAccount | None]:
        holders = {self._looks[look] for look in skeletons(name) if look in self._looks}
        return self._answer(lambda: meant([self._accounts[holder] for holder in holders], name))

    def account_from(self, origin: str) -> Deferred[KeptAccount | None]:
        return self._answer(lambda: self._from(origin))

    def _from(self, origin: str) -> KeptAccount | None:
        return next((each for each in self._accounts.values() if origin and each.record.origin == origin), None)

    def list_accounts(self, search: str, after: str, limit: int) -> Deferred[list[AccountRecord]]:
        return self._answer(lambda: self._list(search.casefold(), after, limit))

    def _list(self, search: str, after: str, limit: int) -> list[AccountRecord]:
        found = [each.record for key, each in sorted(self._accounts.items()) if key > after]
        return [record for record in found if search in record.name.casefold()][:limit]

    def account_news(self, since: int, limit: int) -> Deferred[AccountNews]:
        return self._answer(lambda: self._news(self._changes[since : since + limit], since))

    def _news(self, changes: Sequence[str], since: int) -> AccountNews:
        ids = dict.fromkeys(changes)
        return AccountNews(since + len(changes), tuple(self._accounts[account_id].record for account_id in ids))

    def change_account(
        self, account_id: str, change: AccountChange, note: Note
    ) -> Deferred[tuple[AccountRecord, tuple[str, ...]]]:
        return self._answer(lambda: self._change(account_id, change, note))

    def _change(self, account_id: str, change: AccountChange, note: Note) -> tuple[AccountRecord, tuple[str, ...]]:
        kept = self._accounts.get(account_id)
        if kept is None or kept.record.deleted is not None:
            raise NoSuchAccount("account: there is no such account")
        record = changed(kept.record, change, note.at)
        if record.name != kept.record.name:
            self._take_looks(account_id, record.name)
        password = kept.password if change.password is UNSET else change.password
        self._accounts[account_id] = KeptAccount(record, "" if change.deleted else password)
        self._changes.append(account_id)
        ended = revoked_by(change, kept.record, record, self._tokens.open_ones(account_id))
        for token_id in ended:
            self._tokens.revoke(token_id, note.at)
        for token in [token for token in self._tokens.records.values() if token.user == account_id]:
            renewed = replace(token, name=record.name)
            if token.kind == "session" and token.revoked is None:
                renewed = replace(renewed, rights=record.rights)
            self._tokens.records[token.id] = renewed
        self._note(note)
        return record, ended

    def create_account_token(
        self, record: TokenRecord, secret_hash: bytes, note: Note, *, password: str | None = None, replaces: str | None = None
    ) -> Deferred[tuple[str, ...]]:
        return self._answer(lambda: self._create_token(record, secret_hash, note, password, replaces))

    def _create_token(
        self, record: TokenRecord, secret_hash: bytes, note: Note, password: str | None, replaces: str | None
    ) -> tuple[str, ...]:
        check_may_have_token(self._accounts.get(record.user), password)
        open_ones = [
            token for token in self._tokens.open_ones(record.user) if token.kind == record.kind and alive(token, note.at)
        ]
        ended = superfluous(open_ones, session=record.kind == "session")
        replaced = None if replaces is None else self._tokens.records.get(replaces)
        if replaced is not None and replaced.kind == "session" and replaced.revoked is None:
            ended = tuple(dict.fromkeys((replaced.id, *ended)))
        self._tokens.create(record, secret_hash)
        for token_id in ended:
            self._tokens.revoke(token_id, note.at)
        self._note(note)
        return ended

    def account_tokens(self, user: str, kind: str) -> Deferred[list[TokenRecord]]:
        return self._answer(lambda: [token for token in self._tokens.open_ones(user) if token.kind == kind])

    def revoke_account_token(self, user: str, token_id: str, note: Note) -> Deferred[TokenRecord | None]:
        return self._answer(lambda: self._revoke_token(user, token_id, note))

    def _revoke_token(self, user: str, token_id: str, note: Note) -> TokenRecord | None:
        if token_id not in {token.id for token in self._tokens.open_ones(user)}:
            return None
        self._note(note)
        return self._tokens.revoke(token_id, note.at)

    def create_invitation(self, record: InvitationRecord, secret_hash: bytes, note: Note) -> Deferred[None]:
        return self._answer(lambda: self._create_invitation(record, secret_hash, note))

    def _create_invitation(self, record: InvitationRecord, secret_hash: bytes, note: Note) -> None:
        for other in list(self._invitations.values()):
            if record.first and other.first and other.revoked is None:
                self._invitations[other.id] = replace(other, revoked=record.created)
        self._invitations[record.id] = record
        self._invitation_ids[secret_hash] = record.id
        self._note(note)

    def invitation(self, secret_hash: bytes) -> Deferred[InvitationRecord | None]:
        return self._answer(lambda: self._invitation(secret_hash))

    def _invitation(self, secret_hash: bytes) -> InvitationRecord | None:
        return self._invitations.get(self._invitation_ids.get(secret_hash, ""))

    def list_invitations(self, limit: int) -> Deferred[list[InvitationRecord]]:
        def newest() -> list[InvitationRecord]:
            return sorted(self._invitations.values(), key=lambda each: (each.created, each.id), reverse=True)[:limit]

        return self._answer(newest)

    def revoke_invitation(self, invitation_id: str, note: Note) -> Deferred[InvitationRecord | None]:
        return self._answer(lambda: self._revoke_invitation(invitation_id, note))

    def _revoke_invitation(self, invitation_id: str, note: Note) -> InvitationRecord | None:
        record = self._invitations.get(invitation_id)
        if record is None:
            return None
        record = self._invitations[invitation_id] = replace(record, revoked=record.revoked or note.at)
        self._note(note)
        return record

    def note(self, note: Note) -> Deferred[None]:
        return self._answer(lambda: self._note(note))

    def _note(self, note: Note) -> None:
        number = len(self._audit) + 1
        self._audit.append(AuditEntry(number, note.at, note.by, note.address, note.action, note.subject, note.details))

    def read_audit(self, before: int | None, since_ms: int, limit: int) -> Deferred[list[AuditEntry]]:
        return self._answer(lambda: self._read_audit(before, since_ms, limit))

    def _read_audit(self, before: int | None, since_ms: int, limit: int) -> list[AuditEntry]:
        entries = self._audit if before is None else self._audit[: max(0, before - 1)]
        return [entry for entry in reversed(entries) if entry.at >= since_ms][:limit]

    def take_attempt(self, bounds: Sequence[Bound], now_ms: int) -> Deferred[int]:
        return self._answer(lambda: self._take_attempt(bounds, now_ms))

    def _take_attempt(self, bounds: Sequence[Bound], now_ms: int) -> int:
        if len(self._attempts) >= self._look_at:
            self._attempts = {key: until for key, until in self._attempts.items() if until >= now_ms}
            self._look_at = 1_000 + 2 * len(self._attempts)
        counted = [bound for bound in bounds if not (bound.unless and self._attempts.get(bound.unless, 0) > now_ms)]
        filled = {bound.key: max(self._attempts.get(bound.key, 0), now_ms) + bound.each_ms for bound in counted}
        wait = max([0, *(filled[bound.key] - now_ms - bound.burst * bound.each_ms for bound in counted)])
        if wait == 0:
            self._attempts.update(filled)
        return wait

    def attempt_succeeded(self, forget: Sequence[str], give_back: Sequence[Bound], known: str, until_ms: int) -> Deferred[None]:
        return self._answer(lambda: self._succeeded(forget, give_back, known, until_ms))

    def _succeeded(self, forget: Sequence[str], give_back: Sequence[Bound], known: str, until_ms: int) -> None:
        for key in forget:
            self._attempts.pop(key, None)
        for bound in give_back:
            if bound.key in self._attempts:
                self._attempts[bound.key] -= bound.each_ms
        self._attempts[known] = until_ms
