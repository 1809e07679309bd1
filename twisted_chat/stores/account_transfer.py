"""Accounts, invitations and the audit log in exports of everything; secrets are in them only as hashes."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.json import encode

from twisted_chat.accounts import AuditEntry, InvitationRecord, KeptAccount
from twisted_chat.names import skeletons
from twisted_chat.store_contract import StoreError
from twisted_chat.stores.account_tables import Database, Tables

#: Rows that are read at once.
READ_ROWS = 1_000


class KeptInvitation(Struct, frozen=True):
    """An invitation with the SHA-256 of its secret."""

    record: InvitationRecord
    secret_hash: bytes


class AccountTransfer:
    """All accounts of one database, in one transaction of the caller."""

    def __init__(self, database: Database) -> None:
        self._execute = database.execute
        self._tables = Tables(database)

    # Out

    def accounts(self) -> Iterator[KeptAccount]:
        """All accounts, in the order of their last changes."""
        number = 0
        while True:
            news = self._tables.account_news(number, READ_ROWS)
            for record in news.accounts:
                kept = self._tables.account(record.id)
                if kept is not None:
                    yield kept
            if news.number == number:
                return
            number = news.number

    def invitations(self) -> Iterator[KeptInvitation]:
        """All invitations."""
        hashes = dict(self._execute("SELECT id, secret_hash FROM twisted_chat.invitation"))
        for record in reversed(self._tables.list_invitations(len(hashes))):
            yield KeptInvitation(record, bytes(hashes[record.id]))

    def audit(self) -> Iterator[AuditEntry]:
        """The audit log, oldest entries first."""
        number = 0
        while entries := self._tables.audit_after(number, READ_ROWS):
            yield from entries
            number = entries[-1].number

    # In

    def add_account(self, kept: KeptAccount) -> None:
        """Keep an account that another database had."""
        record = kept.record
        for look in skeletons(record.name):
            if self._execute("SELECT 1 FROM twisted_chat.account_look WHERE look = %s AND account <> %s", look, record.id):
                raise StoreError(f"account {record.id} has the name of another account")
        if self._tables.account(record.id) is not None or (record.origin and self._tables.account_from(record.origin)):
            raise StoreError(f"account {record.id} comes a second time")
        self._tables.insert_account(kept)

    def add_invitation(self, kept: KeptInvitation) -> None:
        """Keep an invitation that another database had."""
        if self._execute("SELECT 1 FROM twisted_chat.invitation WHERE id = %s", kept.record.id):
            raise StoreError(f"invitation {kept.record.id} comes a second time")
        self._tables.insert_invitation(kept.record, kept.secret_hash)

    def add_entry(self, entry: AuditEntry) -> None:
        """Add an entry to the audit log; its number is the next one here."""
        self._execute(
            "INSERT INTO twisted_chat.audit (number, at, person, address, action, subject, details)"
            " VALUES ((SELECT coalesce(max(number), 0) + 1 FROM twisted_chat.audit), %s, %s, %s, %s, %s, %s)",
            entry.at,
            entry.by,
            entry.address,
            entry.action,
            entry.subject,
            encode(entry.details).decode(),
        )
