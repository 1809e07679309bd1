"""What the endpoints of accounts take and answer."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from twisted_chat.accounts import AccountRecord, InvitationRecord
from twisted_chat.core.accounts import SignUp
from twisted_chat.names import RAW_NAME_MAX
from twisted_chat.protocol.commands import Positive, RoomName
from twisted_chat.store_tokens import TokenRecord

Name = Annotated[str, Meta(min_length=1, max_length=RAW_NAME_MAX)]
#: Longer than a password may be (128 characters), because it is counted after normalization.
Password = Annotated[str, Meta(min_length=1, max_length=512)]
Secret = Annotated[str, Meta(min_length=1, max_length=128)]
Rights = Annotated[tuple[Annotated[str, Meta(max_length=32)], ...], Meta(max_length=16)]
Id = Annotated[str, Meta(max_length=160)]
#: Milliseconds since 1970.
Time = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class SignInBody(Struct, frozen=True, kw_only=True):
    """A name with its password."""

    name: Name
    password: Password

    def __repr__(self) -> str:
        return "<SignInBody>"


class SignUpBody(Struct, frozen=True, kw_only=True):
    """A new account; ``invitation`` is the secret of an invitation."""

    name: Name
    password: Password
    invitation: Secret | None = None

    def __repr__(self) -> str:
        return "<SignUpBody>"


class OwnChange(Struct, frozen=True, kw_only=True):
    """What is to be different; a new password needs the old one."""

    name: Name | None = None
    password: Password | None = None
    old_password: Password | None = None

    def __repr__(self) -> str:
        return "<OwnChange>"


class AdminChange(Struct, frozen=True, kw_only=True):
    """What is to be different; ``password`` sets one that its owner has forgotten."""

    name: Name | None = None
    password: Password | None = None
    rights: Rights | None = None
    disabled: bool | None = None

    def __repr__(self) -> str:
        return "<AdminChange>"


class TokenBody(Struct, frozen=True, kw_only=True):
    """A new access token; without ``rights`` it has all of its owner's, without ``expires`` it does not expire."""

    label: Name
    expires: Time | None = None
    rights: Rights | None = None


class InvitationBody(Struct, frozen=True, kw_only=True):
    """A new invitation; the accounts get ``rights`` and are led to ``rooms``."""

    uses: Annotated[int, Meta(ge=1, le=10_000)] = 1
    expires: Time | None = None
    rights: Rights = ()
    rooms: Annotated[tuple[RoomName, ...], Meta(max_length=20)] = ()


class AccountInfo(Struct, frozen=True, kw_only=True):
    """An account.

    :ivar origin: empty: it has a password here; otherwise who vouches for it.
    :ivar disabled: since when, milliseconds since 1970; ``deleted`` likewise.
    """

    id: str
    name: str
    created: int
    rights: tuple[str, ...]
    origin: str = ""
    disabled: int | None = None
    deleted: int | None = None


class UserInfo(Struct, frozen=True, kw_only=True):
    """Who is signed in, also with a token of another issuer."""

    id: str
    name: str
    rights: tuple[str, ...]


class SessionInfo(Struct, frozen=True, kw_only=True):
    """Who you are, and what you may do about it.

    :ivar user: None: nobody, so you are a guest, if there are guests.
    :ivar account: of the user, if they have one.
    :ivar expires: when you have to sign in again, milliseconds since 1970.
    :ivar sign_up: who may sign up.
    :ivar needs_first_account: there is no account yet; who has the link of the server's start makes the first one.
    :ivar rooms: (sign-up) where the invitation leads to.
    """

    user: UserInfo | None
    account: AccountInfo | None
    expires: int | None
    sign_up: SignUp
    needs_first_account: bool
    rooms: tuple[str, ...] | UnsetType = UNSET


class TokenInfo(Struct, frozen=True, kw_only=True):
    """A session or an access token; ``current`` is the one with which you ask."""

    id: str
    label: str
    created: int
    expires: int | None
    rights: tuple[str, ...]
    current: bool


class TokenList(Struct, frozen=True, kw_only=True):
    """Sessions or access tokens, oldest first."""

    tokens: tuple[TokenInfo, ...]


class TokenMade(Struct, frozen=True, kw_only=True):
    """A new access token.  ``secret`` is the token itself, which is shown only now."""

    token: TokenInfo
    secret: str

    def __repr__(self) -> str:
        return f"<TokenMade {self.token.id}>"


class AccountsQuery(Struct, frozen=True, kw_only=True):
    """Which accounts: those whose name contains ``search``, behind the id ``after``."""

    search: Annotated[str, Meta(max_length=RAW_NAME_MAX)] = ""
    after: Id = ""
    limit: Positive = 100


class AccountList(Struct, frozen=True, kw_only=True):
    """Accounts by id.

    :ivar next: there may be more: the value of ``after`` for the next request.
    """

    accounts: tuple[AccountInfo, ...]
    next: str | UnsetType = UNSET


class InvitationInfo(Struct, frozen=True, kw_only=True):
    """An invitation; ``first``: it is for the first account only."""

    id: str
    created: int
    uses: int
    used: int
    expires: int | None
    revoked: int | None
    rights: tuple[str, ...]
    rooms: tuple[str, ...]
    by: str
    first: bool


class InvitationList(Struct, frozen=True, kw_only=True):
    """The newest invitations, newest first."""

    invitations: tuple[InvitationInfo, ...]


class InvitationMade(Struct, frozen=True, kw_only=True):
    """A new invitation.  ``secret`` is shown only now."""

    invitation: InvitationInfo
    secret: str

    def __repr__(self) -> str:
        return f"<InvitationMade {self.invitation.id}>"


class AuditQuery(Struct, frozen=True, kw_only=True):
    """Which entries: those before that number, not older than ``since`` (milliseconds since 1970)."""

    before: Positive | None = None
    since: Time = 0
    limit: Positive = 100


class AuditInfo(Struct, frozen=True, kw_only=True):
    """Who did what: the ids of who did it and of whom it concerns."""

    number: int
    at: int
    by: str
    address: str
    action: str
    subject: str
    details: dict[str, str]


class AuditList(Struct, frozen=True, kw_only=True):
    """Entries of the audit log, newest first.

    :ivar next: there may be more: the value of ``before`` for the next request.
    """

    entries: tuple[AuditInfo, ...]
    next: int | UnsetType = UNSET


def account_info(record: AccountRecord) -> AccountInfo:
    return AccountInfo(
        id=record.id,
        name=record.name,
        created=record.created,
        rights=record.rights,
        origin=record.origin,
        disabled=record.disabled,
        deleted=record.deleted,
    )


def token_info(record: TokenRecord, current: str | None) -> TokenInfo:
    return TokenInfo(
        id=record.id,
        label=record.label,
        created=record.created,
        expires=record.expires,
        rights=record.rights,
        current=record.id == current,
    )


def invitation_info(record: InvitationRecord) -> InvitationInfo:
    return InvitationInfo(**{name: getattr(record, name) for name in InvitationInfo.__struct_fields__})
