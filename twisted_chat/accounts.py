"""Accounts, invitations and the audit log: what they are, and the contract of the stores that keep them.

An account is a user with a name of its own, who signs in with a password or by another checker of credentials.  The id of an account is
the id of its user, so the tokens of that user are the account's: sessions (made by signing in) and access tokens (for programs).

A change of an account, what it does to the tokens, and its entry in the audit log are one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import UNSET, Struct, UnsetType
from twisted.internet.defer import Deferred

from twisted_chat.store_tokens import TokenRecord

#: What an account or a token may be allowed beyond what everybody may.
RIGHTS = ("moderate", "metrics", "audit", "admin")
#: Sessions of one account that are open at the same time; a further one ends the oldest.
SESSIONS_MAX = 100
#: Access tokens of one account.
TOKENS_MAX = 100


class AccountRecord(Struct, frozen=True):
    """One account.

    :ivar id: ``u`` and random hexadecimal digits.
    :ivar created: milliseconds since 1970, as all times here.
    :ivar disabled: since when it cannot be used, or None; ``deleted`` likewise.
    :ivar origin: empty: it has a password here; otherwise which checker or issuer vouches for it, and as whom.
    """

    id: str
    name: str
    created: int
    rights: tuple[str, ...] = ()
    disabled: int | None = None
    deleted: int | None = None
    origin: str = ""

    @property
    def usable(self) -> bool:
        """Whether somebody may sign in."""
        return self.disabled is None and self.deleted is None


class KeptAccount(Struct, frozen=True):
    """An account with the hash of its password; empty if it has none."""

    record: AccountRecord
    password: str

    def __repr__(self) -> str:
        return f"<KeptAccount {self.record.id}>"


class AccountChange(Struct, frozen=True, kw_only=True):
    """What is to be different; everything else stays.

    :ivar password: the new hash.  All tokens of the account are revoked but ``keep``.
    :ivar rights: tokens that have a right which the account loses are revoked; sessions get the new ones.
    :ivar disabled: True revokes all tokens; ``deleted`` likewise, for ever.
    :ivar keep: the id of the session that makes the change.
    """

    name: str | UnsetType = UNSET
    password: str | UnsetType = UNSET
    rights: tuple[str, ...] | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    deleted: bool = False
    keep: str | None = None

    def __repr__(self) -> str:
        return f"<AccountChange {', '.join(name for name in self.__struct_fields__ if getattr(self, name) not in (UNSET, None))}>"


class InvitationRecord(Struct, frozen=True):
    """A secret with which people may sign up.  Only the SHA-256 of the secret is kept.

    :ivar uses: how many accounts may be made with it; ``used``: how many were.
    :ivar rights: of these accounts.
    :ivar rooms: what the new accounts are invited to.
    :ivar by: the id of who made it; empty: the server or the command line.
    :ivar first: it is valid only as long as no account has the right ``admin``.
    """

    id: str
    created: int
    uses: int = 1
    used: int = 0
    expires: int | None = None
    revoked: int | None = None
    rights: tuple[str, ...] = ()
    rooms: tuple[str, ...] = ()
    by: str = ""
    first: bool = False

    def why_not(self, now_ms: int) -> str:
        """Why nobody can sign up with it any more; empty if that is possible."""
        if self.revoked is not None:
            return "invitation: it was revoked"
        if self.expires is not None and self.expires <= now_ms:
            return "invitation: it has expired"
        return "invitation: it has been used" if self.used >= self.uses else ""


class Note(Struct, frozen=True):
    """What the audit log is to say of a change.

    :ivar by: the id of who did it; empty: nobody that is known, such as the command line.
    :ivar address: from where.
    :ivar action: such as ``account.create``.
    :ivar subject: the id of what was changed.
    :ivar details: no secrets.
    """

    at: int
    by: str
    address: str
    action: str
    subject: str = ""
    details: dict[str, str] = {}


class AuditEntry(Struct, frozen=True):
    """A :class:`Note` in the audit log, with its number."""

    number: int
    at: int
    by: str
    address: str
    action: str
    subject: str
    details: dict[str, str]


class AccountNews(Struct, frozen=True):
    """Accounts that were made or changed, by whatever process, each as it is now.

    :ivar number: where to go on.
    """

    number: int
    accounts: tuple[AccountRecord, ...]


class Bound(Struct, frozen=True):
    """How many attempts of one kind there may be: a bucket that leaks.

    :ivar key: whose attempts are counted together.
    :ivar burst: so many at once; then one more in each ``each_ms``.
    :ivar unless: the key of another bucket; where that one is kept, this bound does not hold.
    """

    key: str
    burst: int
    each_ms: int
    unless: str = ""


class AccountStore(Protocol):
    """Accounts, invitations, the audit log, and the attempts to sign in."""

    def create_account(
        self, account: KeptAccount, note: Note, invitation: bytes | None = None
    ) -> Deferred[InvitationRecord | None]:
        """Keep a new account, and use up the invitation whose secret has that SHA-256; answers the invitation.

        ``Conflict``: an account, maybe a deleted one, has a name that looks like this one, or the same origin.  ``Forbidden``: the
        invitation is unknown, used up, revoked or expired.  The account gets the rights of the invitation besides its own.
        """

    def account(self, account_id: str) -> Deferred[KeptAccount | None]:
        """The account of that id."""

    def account_named(self, name: str) -> Deferred[KeptAccount | None]:
        """The account whose name is this one or looks like it; None if there is none, or none that is meant for sure."""

    def account_from(self, origin: str) -> Deferred[KeptAccount | None]:
        """The account of that origin."""

    def list_accounts(self, search: str, after: str, limit: int) -> Deferred[list[AccountRecord]]:
        """At most ``limit`` accounts, by id, behind the id ``after``; with ``search`` only those whose name contains it."""

    def change_account(
        self, account_id: str, change: AccountChange, note: Note
    ) -> Deferred[tuple[AccountRecord, tuple[str, ...]]]:
        """Change the account; answers what it is now, and the ids of the tokens that this revoked.

        ``Conflict``: the new name is taken.  ``NoSuchAccount``: there is no such account, or it is deleted.
        """

    def account_news(self, since: int, limit: int) -> Deferred[AccountNews]:
        """The accounts that were made or changed after that number, at most ``limit``; it costs what it answers."""

    def create_account_token(
        self, record: TokenRecord, secret_hash: bytes, note: Note, *, password: str | None = None, replaces: str | None = None
    ) -> Deferred[tuple[str, ...]]:
        """Keep a token or session of an account; answers the ids of sessions that ended for it.

        ``Unauthenticated``: the account cannot be used, or ``password`` is given and not the hash that is kept now.
        ``LimitReached``: it has too many tokens.

        :param replaces: the session that the client had before, which ends.
        """

    def account_tokens(self, user: str, kind: str) -> Deferred[list[TokenRecord]]:
        """The tokens or sessions of that user that are neither revoked nor forgotten, oldest first."""

    def revoke_account_token(self, user: str, token_id: str, note: Note) -> Deferred[TokenRecord | None]:
        """Revoke a token or session; None if that user has none of that id."""

    def create_invitation(self, record: InvitationRecord, secret_hash: bytes, note: Note) -> Deferred[None]:
        """Keep a new invitation.  One that is for the first account takes the place of those before."""

    def invitation(self, secret_hash: bytes) -> Deferred[InvitationRecord | None]:
        """The invitation whose secret has that SHA-256."""

    def list_invitations(self, limit: int) -> Deferred[list[InvitationRecord]]:
        """The newest ones, at most ``limit``, newest first."""

    def revoke_invitation(self, invitation_id: str, note: Note) -> Deferred[InvitationRecord | None]:
        """Revoke it; None if there is no such invitation."""

    def note(self, note: Note) -> Deferred[None]:
        """Add something to the audit log."""

    def read_audit(self, before: int | None, since_ms: int, limit: int) -> Deferred[list[AuditEntry]]:
        """At most ``limit`` entries, newest first: those before that number, and not before that time."""

    def take_attempt(self, bounds: Sequence[Bound], now_ms: int) -> Deferred[int]:
        """Count one attempt in all buckets, and answer 0; if one is full, count nothing, and answer the milliseconds to wait."""

    def attempt_succeeded(self, forget: Sequence[str], give_back: Sequence[Bound], known: str, until_ms: int) -> Deferred[None]:
        """The attempt was a good one: forget some buckets, take the attempt back from others, and keep ``known`` until that time."""
