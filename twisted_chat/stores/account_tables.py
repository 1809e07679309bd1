"""What is done in the tables of accounts, in the SQL that SQLite and PostgreSQL share.

Each method is called in a transaction of its own, and transactions that write come one after another (:attr:`Tables.transaction`), so
that what was read is still true when something is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from msgspec import UNSET
from msgspec.json import Decoder, encode
from msgspec.structs import replace

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
from twisted_chat.stores.token_rows import record_of

#: Rows of attempts that are over, and sessions, that one transaction forgets.
FORGOTTEN_AT_ONCE = 100
#: Milliseconds for which a session that is over is kept: servers hear of its revocation within seconds.
KEEP_ENDED_MS = 7 * 86_400_000

_ACCOUNT = "id, name, created, rights, disabled, deleted, origin"
_INVITATION = "id, created, uses, used, expires, revoked, rights, rooms, person, first"
_TOKEN = "id, person, name, created, expires, revoked, rights, kind, label"

_decode_texts = Decoder(tuple[str, ...]).decode
_decode_details = Decoder(dict[str, str]).decode


class Database(Protocol):
    """One connection, as the tables use it."""

    def execute(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement with ``%s`` for each parameter; answers its rows."""

    def transaction(self) -> AbstractContextManager[None]:
        """A transaction that no other one of the accounts overlaps."""

    def create_token(self, record: TokenRecord, secret_hash: bytes) -> None:
        """Keep a new token."""

    def revoke_token(self, token_id: str, now_ms: int) -> None:
        """Revoke a token, with the number of its revocation."""


class Tables:
    """The accounts of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._execute = database.execute

    # Accounts

    def create_account(self, account: KeptAccount, note: Note, invitation: bytes | None) -> InvitationRecord | None:
        with self._database.transaction():
            used = None if invitation is None else self._use(invitation, note.at)
            record = account.record
            if used is not None:
                record = replace(record, rights=tuple(sorted({*record.rights, *used.rights})))
                note = replace(note, details={**note.details, "invitation": used.id})
            if record.origin and self._execute("SELECT 1 FROM twisted_chat.account WHERE origin = %s", record.origin):
                raise Conflict("name: there is such an account already")
            self._check_looks(record.id, record.name)
            self.insert_account(KeptAccount(record, account.password))
            self._note(note)
            return used

    def insert_account(self, account: KeptAccount) -> None:
        """Keep a new account, after all checks."""
        record = account.record
        self._execute(
            f"INSERT INTO twisted_chat.account ({_ACCOUNT}, password, folded, change)"
            f" VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, {_NEXT_CHANGE})",
            *(record.id, record.name, record.created, _texts(record.rights), record.disabled, record.deleted, record.origin),
            account.password,
            record.name.casefold(),
        )
        self._set_looks(record.id, record.name)

    def _use(self, secret_hash: bytes, now_ms: int) -> InvitationRecord:
        invitation = self.invitation(secret_hash)
        if invitation is None:
            raise Forbidden("invitation: unknown")
        check_invitation(invitation, now_ms, has_admin=invitation.first and self._has_admin())
        self._execute("UPDATE twisted_chat.invitation SET used = used + 1 WHERE id = %s", invitation.id)
        return replace(invitation, used=invitation.used + 1)

    def _has_admin(self) -> bool:
        usable = self._execute("SELECT rights FROM twisted_chat.account WHERE deleted IS NULL AND rights <> '[]'")
        return any("admin" in _decode_texts(rights) for (rights,) in usable)

    def _check_looks(self, account_id: str, name: str) -> None:
        for look in skeletons(name):
            if self._execute("SELECT 1 FROM twisted_chat.account_look WHERE look = %s AND account <> %s", look, account_id):
                raise Conflict("name: it is, or looks like, the name of another account")

    def _set_looks(self, account_id: str, name: str) -> None:
        """Let the account have the looks of that name, and no others."""
        self._execute("DELETE FROM twisted_chat.account_look WHERE account = %s", account_id)
        for look in skeletons(name):
            self._execute("INSERT INTO twisted_chat.account_look (look, account) VALUES (%s, %s)", look, account_id)

    def account(self, account_id: str) -> KeptAccount | None:
        return self._one("id = %s", account_id)

    def account_from(self, origin: str) -> KeptAccount | None:
        return self._one("origin = %s AND origin <> ''", origin)

    def account_named(self, name: str) -> KeptAccount | None:
        found = {
            row[0]: KeptAccount(_account(row[:-1]), row[-1])
            for look in skeletons(name)
            for row in self._execute(
                f"SELECT {_ACCOUNT}, password FROM twisted_chat.account"
                " WHERE id = (SELECT account FROM twisted_chat.account_look WHERE look = %s)",
                look,
            )
        }
        return meant(found.values(), name)

    def _one(self, condition: str, value: object) -> KeptAccount | None:
        found = self._execute(f"SELECT {_ACCOUNT}, password FROM twisted_chat.account WHERE {condition}", value)
        return KeptAccount(_account(found[0][:-1]), found[0][-1]) if found else None

    def list_accounts(self, search: str, after: str, limit: int) -> list[AccountRecord]:
        if not search:
            rows = self._execute(f"SELECT {_ACCOUNT} FROM twisted_chat.account WHERE id > %s ORDER BY id LIMIT %s", after, limit)
        else:
            pattern = "".join("!" + character if character in "!%_" else character for character in search.casefold())
            rows = self._execute(
                f"SELECT {_ACCOUNT} FROM twisted_chat.account WHERE id > %s AND folded LIKE %s ESCAPE '!' ORDER BY id LIMIT %s",
                after,
                f"%{pattern}%",
                limit,
            )
        return [_account(row) for row in rows]

    def account_news(self, since: int, limit: int) -> AccountNews:
        rows = self._execute(
            f"SELECT {_ACCOUNT}, change FROM twisted_chat.account WHERE change > %s ORDER BY change LIMIT %s", since, limit
        )
        return AccountNews(rows[-1][-1] if rows else since, tuple(_account(row[:-1]) for row in rows))

    def change_account(self, account_id: str, change: AccountChange, note: Note) -> tuple[AccountRecord, tuple[str, ...]]:
        with self._database.transaction():
            kept = self.account(account_id)
            if kept is None or kept.record.deleted is not None:
                raise NoSuchAccount("account: there is no such account")
            record = changed(kept.record, change, note.at)
            if record.name != kept.record.name:
                self._check_looks(account_id, record.name)
                self._set_looks(account_id, record.name)
                self._execute("UPDATE twisted_chat.token SET name = %s WHERE person = %s", record.name, account_id)
            password = kept.password if change.password is UNSET else change.password
            self._execute(
                "UPDATE twisted_chat.account SET name = %s, rights = %s, disabled = %s, deleted = %s, password = %s, folded = %s,"
                f" change = {_NEXT_CHANGE} WHERE id = %s",
                record.name,
                _texts(record.rights),
                record.disabled,
                record.deleted,
                "" if change.deleted else password,
                record.name.casefold(),
                account_id,
            )
            ended = revoked_by(change, kept.record, record, self._tokens(account_id))
            for token_id in ended:
                self._database.revoke_token(token_id, note.at)
            self._execute(
                "UPDATE twisted_chat.token SET rights = %s WHERE person = %s AND kind = 'session' AND revoked IS NULL",
                _texts(record.rights),
                account_id,
            )
            self._note(note)
            return record, ended

    # Tokens

    def create_account_token(
        self, record: TokenRecord, secret_hash: bytes, note: Note, password: str | None, replaces: str | None
    ) -> tuple[str, ...]:
        with self._database.transaction():
            check_may_have_token(self.account(record.user), password)
            session = record.kind == "session"
            open_ones = [token for token in self._tokens(record.user) if token.kind == record.kind and alive(token, note.at)]
            ended = superfluous(open_ones, session=session)
            if replaces is not None and self._execute(_OPEN_SESSION, replaces):
                ended = tuple(dict.fromkeys((replaces, *ended)))
            for token_id in ended:
                self._database.revoke_token(token_id, note.at)
            if session:
                self._forget_sessions(record.user, note.at - KEEP_ENDED_MS)
            self._database.create_token(record, secret_hash)
            self._note(note)
            return ended

    def _forget_sessions(self, user: str, before_ms: int) -> None:
        # The one that was revoked last stays, because the numbers of revocations go on from there.
        self._execute(
            "DELETE FROM twisted_chat.token WHERE person = %s AND kind = 'session' AND (expires < %s OR revoked < %s) AND"
            " (revocation IS NULL OR revocation < (SELECT max(revocation) FROM twisted_chat.token WHERE revocation IS NOT NULL))",
            user,
            before_ms,
            before_ms,
        )

    def _tokens(self, user: str) -> list[TokenRecord]:
        """Those that are not revoked."""
        rows = self._execute(
            f"SELECT {_TOKEN} FROM twisted_chat.token WHERE person = %s AND revoked IS NULL ORDER BY created, id", user
        )
        return [record_of(row) for row in rows]

    def account_tokens(self, user: str, kind: str) -> list[TokenRecord]:
        return [token for token in self._tokens(user) if token.kind == kind]

    def revoke_account_token(self, user: str, token_id: str, note: Note) -> TokenRecord | None:
        with self._database.transaction():
            found = next((token for token in self._tokens(user) if token.id == token_id), None)
            if found is None:
                return None
            self._database.revoke_token(token_id, note.at)
            self._note(note)
            return replace(found, revoked=note.at)

    # Invitations

    def create_invitation(self, record: InvitationRecord, secret_hash: bytes, note: Note) -> None:
        with self._database.transaction():
            if record.first:
                self._execute(
                    "UPDATE twisted_chat.invitation SET revoked = %s WHERE first = 1 AND revoked IS NULL", record.created
                )
            self.insert_invitation(record, secret_hash)
            self._note(note)

    def insert_invitation(self, record: InvitationRecord, secret_hash: bytes) -> None:
        """Keep a new invitation."""
        self._execute(
            f"INSERT INTO twisted_chat.invitation (secret_hash, {_INVITATION})"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            *(secret_hash, record.id, record.created, record.uses, record.used, record.expires, record.revoked),
            *(_texts(record.rights), _texts(record.rooms), record.by, int(record.first)),
        )

    def invitation(self, secret_hash: bytes) -> InvitationRecord | None:
        found = self._execute(f"SELECT {_INVITATION} FROM twisted_chat.invitation WHERE secret_hash = %s", secret_hash)
        return _invitation(found[0]) if found else None

    def list_invitations(self, limit: int) -> list[InvitationRecord]:
        rows = self._execute(f"SELECT {_INVITATION} FROM twisted_chat.invitation ORDER BY created DESC, id DESC LIMIT %s", limit)
        return [_invitation(row) for row in rows]

    def revoke_invitation(self, invitation_id: str, note: Note) -> InvitationRecord | None:
        with self._database.transaction():
            rows = self._execute(
                f"UPDATE twisted_chat.invitation SET revoked = coalesce(revoked, %s) WHERE id = %s RETURNING {_INVITATION}",
                note.at,
                invitation_id,
            )
            if not rows:
                return None
            self._note(note)
            return _invitation(rows[0])

    # The audit log

    def note(self, note: Note) -> None:
        with self._database.transaction():
            self._note(note)

    def _note(self, note: Note) -> None:
        self._execute(
            "INSERT INTO twisted_chat.audit (number, at, person, address, action, subject, details)"
            " VALUES ((SELECT coalesce(max(number), 0) + 1 FROM twisted_chat.audit), %s, %s, %s, %s, %s, %s)",
            note.at,
            note.by,
            note.address,
            note.action,
            note.subject,
            encode(note.details).decode(),
        )

    def read_audit(self, before: int | None, since_ms: int, limit: int) -> list[AuditEntry]:
        rows = self._execute(
            f"{_AUDIT} WHERE number < %s AND at >= %s ORDER BY number DESC LIMIT %s",
            2**62 if before is None else before,
            since_ms,
            limit,
        )
        return [_entry(row) for row in rows]

    def audit_after(self, number: int, limit: int) -> list[AuditEntry]:
        """The entries after that number, oldest first."""
        return [_entry(row) for row in self._execute(f"{_AUDIT} WHERE number > %s ORDER BY number LIMIT %s", number, limit)]

    # Attempts

    def take_attempt(self, bounds: Sequence[Bound], now_ms: int) -> int:
        with self._database.transaction():
            self._execute(
                "DELETE FROM twisted_chat.attempt WHERE key IN"
                " (SELECT key FROM twisted_chat.attempt WHERE until < %s ORDER BY until LIMIT %s)",
                now_ms,
                FORGOTTEN_AT_ONCE,
            )
            filled: dict[str, int] = {}
            wait = 0
            for bound in bounds:
                if bound.unless and self._until(bound.unless) > now_ms:
                    continue
                filled[bound.key] = max(self._until(bound.key), now_ms) + bound.each_ms
                wait = max(wait, filled[bound.key] - now_ms - bound.burst * bound.each_ms)
            if wait == 0:
                for key, until in filled.items():
                    self._keep_until(key, until)
            return wait

    def attempt_succeeded(self, forget: Sequence[str], give_back: Sequence[Bound], known: str, until_ms: int) -> None:
        with self._database.transaction():
            for key in forget:
                self._execute("DELETE FROM twisted_chat.attempt WHERE key = %s", key)
            for bound in give_back:
                self._execute("UPDATE twisted_chat.attempt SET until = until - %s WHERE key = %s", bound.each_ms, bound.key)
            self._keep_until(known, until_ms)

    def _until(self, key: str) -> int:
        found = self._execute("SELECT until FROM twisted_chat.attempt WHERE key = %s", key)
        return int(found[0][0]) if found else 0

    def _keep_until(self, key: str, until_ms: int) -> None:
        self._execute(
            "INSERT INTO twisted_chat.attempt (key, until) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET until = excluded.until",
            key,
            until_ms,
        )


_OPEN_SESSION = "SELECT 1 FROM twisted_chat.token WHERE id = %s AND kind = 'session' AND revoked IS NULL"
_AUDIT = "SELECT number, at, person, address, action, subject, details FROM twisted_chat.audit"
_NEXT_CHANGE = "(SELECT coalesce(max(change), 0) + 1 FROM twisted_chat.account)"


def _texts(values: Iterable[str]) -> str:
    return encode(tuple(values)).decode()


def _account(row: Sequence[Any]) -> AccountRecord:
    account_id, name, created, rights, disabled, deleted, origin = row
    return AccountRecord(account_id, name, created, _decode_texts(rights), disabled, deleted, origin)


def _invitation(row: Sequence[Any]) -> InvitationRecord:
    invitation_id, created, uses, used, expires, revoked, rights, rooms, by, first = row
    rights, rooms = _decode_texts(rights), _decode_texts(rooms)
    return InvitationRecord(invitation_id, created, uses, used, expires, revoked, rights, rooms, by, bool(first))


def _entry(row: Sequence[Any]) -> AuditEntry:
    number, at, by, address, action, subject, details = row
    return AuditEntry(number, at, by, address, action, subject, _decode_details(details))
