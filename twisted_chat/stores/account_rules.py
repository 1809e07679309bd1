"""What every store of accounts decides in the same way, from what it has read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import UNSET
from msgspec.structs import replace

from twisted_chat.accounts import SESSIONS_MAX, TOKENS_MAX, AccountChange, AccountRecord, InvitationRecord, KeptAccount
from twisted_chat.errors import Conflict, Forbidden, LimitReached, Unauthenticated
from twisted_chat.store_tokens import TokenRecord


def check_invitation(invitation: InvitationRecord, now_ms: int, *, has_admin: bool) -> None:
    """Raise ``Forbidden`` if nobody may sign up with it any more."""
    if why := invitation.why_not(now_ms):
        raise Forbidden(why)
    if invitation.first and has_admin:
        raise Forbidden("invitation: it is for the first account, and there is one already")


def meant(found: Iterable[KeptAccount], name: str) -> KeptAccount | None:
    """The one of the accounts with names of one look that somebody means who writes ``name``."""
    accounts = list(found)
    exact = [account for account in accounts if account.record.name == name]
    candidates = exact or accounts
    return candidates[0] if len(candidates) == 1 else None


def changed(record: AccountRecord, change: AccountChange, now_ms: int) -> AccountRecord:
    """The account after the change."""
    if change.password is not UNSET and record.origin:
        raise Conflict("password: this account signs in elsewhere, and has none here")
    if change.name is not UNSET:
        record = replace(record, name=change.name)
    if change.rights is not UNSET:
        record = replace(record, rights=tuple(sorted(set(change.rights))))
    if change.disabled is not UNSET:
        record = replace(record, disabled=(record.disabled or now_ms) if change.disabled else None)
    if change.deleted:
        record = replace(record, deleted=now_ms, rights=())
    return record


def revoked_by(
    change: AccountChange, before: AccountRecord, after: AccountRecord, tokens: Sequence[TokenRecord]
) -> tuple[str, ...]:
    """The ids of the tokens, out of those that are not revoked, that the change revokes."""
    if not after.usable or change.password is not UNSET:
        return tuple(token.id for token in tokens if token.id != change.keep or not after.usable)
    lost = set(before.rights) - set(after.rights)
    return tuple(token.id for token in tokens if lost & set(token.rights))


def check_may_have_token(account: KeptAccount | None, password: str | None) -> None:
    """Raise ``Unauthenticated`` unless the account is there, can be used, and has that hash of a password, if one is given."""
    if account is None or not account.record.usable or (password is not None and password != account.password):
        raise Unauthenticated("account: it cannot be used now")


def alive(token: TokenRecord, now_ms: int) -> bool:
    """Whether the token is accepted."""
    return token.revoked is None and (token.expires is None or token.expires > now_ms)


def superfluous(tokens: Sequence[TokenRecord], *, session: bool) -> tuple[str, ...]:
    """The sessions that end for a further one; ``LimitReached`` if there may be no further token."""
    if session:
        return tuple(token.id for token in tokens[: max(0, len(tokens) - SESSIONS_MAX + 1)])
    if len(tokens) >= TOKENS_MAX:
        raise LimitReached(f"tokens: at most {TOKENS_MAX} for one account; revoke one")
    return ()
