"""Accounts: signing up and in, what people do with their own account, and what administrators do with all of them.

In:   what somebody asked for, checked in form by the edge; who asks (:class:`Caller`).
Out:  the change in the store with its entry in the audit log, and the end of the sessions that it revokes.

Whoever changes something here ends the sessions of this node at once; other nodes hear of it by the revocations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeAlias

from msgspec import UNSET, Struct

from twisted_chat.accounts import RIGHTS, AccountChange, AccountRecord, AccountStore, InvitationRecord, KeptAccount, Note
from twisted_chat.core.connections import address_block
from twisted_chat.core.sign_in import let_in
from twisted_chat.errors import BadRequest, Conflict, Forbidden, LimitReached, NoSuchAccount, Unauthenticated
from twisted_chat.interfaces import Passwords, SignInWay, Vouched
from twisted_chat.minting import Minted, make_secret, mint, secret_hash
from twisted_chat.names import PERSON_NAME_MAX, person_name, room_name
from twisted_chat.store_tokens import TokenRecord
from twisted_chat.users import User

#: Who may make an account: nobody, people with an invitation, everybody.
SignUp: TypeAlias = Literal["closed", "invite", "open"]

#: Random bytes of an account's id, and of an invitation's.
_ID_BYTES = 16
_INVITATION_BYTES = 6
#: Passwords that are being checked at once, or wait for it; with two threads that is a wait of about a second.
CHECKING_MAX = 50
#: Of these at most so many of one address, so that one client does not take all places.
CHECKING_ADDRESS_MAX = 5
#: Milliseconds.
_RETRY_MS = 2_000
#: Accounts in one read of the news.
NEWS_READ = 500
#: Names that are tried for an account from elsewhere whose name is taken.
_NAMES_TRIED = 20
_WRONG = "password: the name or the password is wrong"


class Caller(Struct, frozen=True):
    """Who asks for something, and from where.

    :ivar user: None: nobody who is signed in.
    :ivar replaces: the session that ends when another one begins.
    """

    address: str
    user: User | None = None
    replaces: str | None = None

    @property
    def id(self) -> str:
        """For the audit log."""
        return "" if self.user is None else self.user.id

    @property
    def token(self) -> str | None:
        """The token or session with which they ask."""
        return None if self.user is None else self.user.token_id


class SignedIn(Struct, frozen=True):
    """A new session.

    :ivar token: its secret; it is shown once.
    :ivar rooms: what an invitation invites to.
    """

    account: AccountRecord
    token: str
    session: TokenRecord
    rooms: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<SignedIn {self.account.id}>"


class Accounts:
    """The accounts of a server.

    :param random: from a number to that many random bytes.
    :param end_tokens: ends the sessions of this node that have these tokens.
    :param reserve: keeps guests from having the names of accounts.
    :ivar sign_up: may be replaced while running.
    :ivar any: whether there is any account, also a deleted one.
    """

    def __init__(
        self,
        store: AccountStore,
        passwords: Passwords,
        ways: Sequence[SignInWay],
        *,
        now_seconds: Callable[[], float],
        random: Callable[[int], bytes],
        end_tokens: Callable[[Iterable[str]], None],
        reserve: Callable[[Iterable[tuple[str, str]]], None],
        sign_up: SignUp = "closed",
        session_seconds: float = 30 * 86_400.0,
    ) -> None:
        self.store = store
        self.sign_up = sign_up
        self.session_seconds = session_seconds
        self.any = False
        self.passwords = passwords
        self.random = random
        self.end_tokens = end_tokens
        self._ways = tuple(ways)
        self._now_seconds = now_seconds
        self._reserve = reserve
        self._news = 0
        #: By address; at most CHECKING_MAX in all.
        self._checking: Counter[str] = Counter()

    @property
    def now_ms(self) -> int:
        return int(self._now_seconds() * 1000)

    def note(self, caller: Caller, action: str, subject: str = "", **details: str) -> Note:
        """An entry for the audit log."""
        return Note(self.now_ms, caller.id, caller.address, action, subject, details)

    async def look(self) -> None:
        """Learn of the accounts that were made or renamed since the last time, by whatever process."""
        while True:
            news = await self.store.account_news(self._news, NEWS_READ)
            self._news = news.number
            self._learn(news.accounts)
            if len(news.accounts) < NEWS_READ:
                return

    def _learn(self, accounts: Sequence[AccountRecord]) -> None:
        if accounts:
            self.any = True
            self._reserve((account.id, account.name) for account in accounts)

    # Signing in

    async def sign_in(self, name: str, password: str, caller: Caller) -> SignedIn:
        """A new session for who has this password; the session with which they ask ends."""
        name = person_name(name)
        with self._one_more(caller.address):
            kept = await self.store.account_named(name)
            attempt = await let_in(self.store, name, None if kept is None else kept.record.id, caller.address, self.now_ms)
            found = await self._authenticate(name, password, kept)
            if found is None or not found.record.usable:
                await self.store.note(self.note(caller, "session.refuse", "" if kept is None else kept.record.id))
                raise Unauthenticated(_WRONG)
            signed_in = await self._begin_session(found, caller, "session.create")
            await attempt.succeeded(self.store, self.now_ms)
            return signed_in

    async def authenticate(self, name: str, password: str, address: str) -> AccountRecord | None:
        """The account of who has this password, without a session; None if it is wrong."""
        name = person_name(name)
        with self._one_more(address):
            kept = await self.store.account_named(name)
            attempt = await let_in(self.store, name, None if kept is None else kept.record.id, address, self.now_ms)
            found = await self._authenticate(name, password, kept)
            if found is None or not found.record.usable:
                return None
            await attempt.succeeded(self.store, self.now_ms)
            return found.record

    @contextmanager
    def _one_more(self, address: str) -> Iterator[None]:
        """One more password is being checked, with all that belongs to it; ``LimitReached`` if too many are, in all or of one address."""
        place = address_block(address)
        if self._checking.total() >= CHECKING_MAX or self._checking[place] >= CHECKING_ADDRESS_MAX:
            raise LimitReached("password: too many are being checked now", retry_after_ms=_RETRY_MS)
        self._checking[place] += 1
        try:
            yield
        finally:
            self._checking[place] -= 1
            if not self._checking[place]:
                del self._checking[place]

    async def _authenticate(self, name: str, password: str, kept: KeptAccount | None) -> KeptAccount | None:
        """The account; whether there is one of that name makes no difference to the work."""
        if await self.passwords.verify(password, "" if kept is None else kept.password):
            return kept
        for way in self._ways:
            vouched = await way.vouch(name, password)
            if vouched is not None:
                return await self._account_of(vouched)
        return None

    async def _account_of(self, vouched: Vouched) -> KeptAccount:
        """The account of who signs in elsewhere; it is made at the first time."""
        kept = await self.store.account_from(vouched.origin)
        tried = 0
        while kept is None:
            tried += 1
            name = vouched.name if tried == 1 else f"{vouched.name[: PERSON_NAME_MAX - 3]} {tried}"
            account = KeptAccount(self._new(name, origin=vouched.origin), "")
            note = Note(self.now_ms, "", "", "account.create", account.record.id, {"origin": vouched.origin, "name": name})
            try:
                await self.store.create_account(account, note)
                self._learn([account.record])
                kept = account
            except Conflict:
                kept = await self.store.account_from(vouched.origin)  # the same person, at the same moment
                if kept is None and tried == _NAMES_TRIED:
                    raise
        return kept

    def _new(self, name: str, rights: Iterable[str] = (), origin: str = "") -> AccountRecord:
        return AccountRecord("u" + self.random(_ID_BYTES).hex(), name, self.now_ms, tuple(sorted(set(rights))), origin=origin)

    async def _begin_session(self, kept: KeptAccount, caller: Caller, action: str, rooms: tuple[str, ...] = ()) -> SignedIn:
        account = kept.record
        expires = self.now_ms + int(self.session_seconds * 1000)
        minted = mint(
            self.random,
            self.now_ms,
            user=account.id,
            name=account.name,
            expires_ms=expires,
            rights=account.rights,
            kind="session",
        )
        note = Note(self.now_ms, account.id, caller.address, action, account.id, {"session": minted.record.id})
        ended = await self.store.create_account_token(
            minted.record, minted.secret_hash, note, password=kept.password, replaces=caller.replaces
        )
        self.end_tokens(ended)
        return SignedIn(account, minted.token, minted.record, rooms)

    # Signing up

    async def sign_up_with(self, name: str, password: str, invitation: str | None, caller: Caller) -> SignedIn:
        """A new account with a session.  An invitation is needed unless everybody may sign up; what it gives is given in any case."""
        name = person_name(name)
        self.passwords.check(password, name)
        used = None if invitation is None else secret_hash(invitation)
        with self._one_more(caller.address):
            await self._check_may_sign_up(used)
            kept = KeptAccount(self._new(name), await self.passwords.hash(password))
        note = Note(self.now_ms, kept.record.id, caller.address, "account.create", kept.record.id, {"name": name})
        by = await self.store.create_account(kept, note, used)
        found = await self.store.account(kept.record.id)
        assert found is not None
        self._learn([found.record])
        return await self._begin_session(found, caller, "session.create", () if by is None else by.rooms)

    async def _check_may_sign_up(self, invitation: bytes | None) -> None:
        """Raise ``Forbidden`` before a password is hashed for somebody who cannot sign up."""
        found = None if invitation is None else await self.store.invitation(invitation)
        if self.sign_up == "closed" and not (found is not None and found.first):
            raise Forbidden("sign_up: closed; an administrator makes accounts")
        if found is None and (invitation is not None or self.sign_up != "open"):
            raise Forbidden("invitation: needed to sign up here" if invitation is None else "invitation: unknown")
        if found is not None and (why := found.why_not(self.now_ms)):
            raise Forbidden(why)

    async def create(self, name: str, password: str, rights: Iterable[str], caller: Caller) -> AccountRecord:
        """A new account, made by an administrator."""
        name = person_name(name)
        self.passwords.check(password, name)
        kept = KeptAccount(self._new(name, check_rights(rights)), await self.passwords.hash(password))
        details = {"name": name, "rights": " ".join(kept.record.rights)}
        await self.store.create_account(kept, self.note(caller, "account.create", kept.record.id, **details))
        self._learn([kept.record])
        return kept.record

    # One's own account

    async def own(self, caller: Caller) -> KeptAccount:
        """The account of who asks; ``Unauthenticated`` for guests, ``NoSuchAccount`` for people with a token but no account."""
        if caller.user is None or caller.user.guest:
            raise Unauthenticated("account: sign in first")
        kept = await self.store.account(caller.id)
        if kept is None or not kept.record.usable:
            raise NoSuchAccount("account: there is none for this token")
        return kept

    async def change_own(self, name: str | None, password: str | None, old_password: str | None, caller: Caller) -> AccountRecord:
        """Another name or password; a new password needs the old one, and ends all sessions and tokens but the session that asks."""
        kept = await self.own(caller)
        account_id = kept.record.id
        new_name = kept.record.name if name is None else person_name(name)
        if password is not None:
            if old_password is None:
                raise BadRequest("old_password: needed to set another one")
            if kept.record.origin:
                raise Conflict("password: this account signs in elsewhere, and has none here")
            self.passwords.check(password, new_name)
            await self._check_old_password(kept, old_password, caller)
        change = AccountChange(
            name=UNSET if name is None else new_name,
            password=UNSET if password is None else await self.passwords.hash(password),
            keep=caller.token,
        )
        done = [word for word, value in (("name", name), ("password", password)) if value is not None]
        note = self.note(caller, "account.change", account_id, fields=" ".join(done), name=new_name)
        return await self.change(account_id, change, note)

    async def _check_old_password(self, kept: KeptAccount, password: str, caller: Caller) -> None:
        with self._one_more(caller.address):
            attempt = await let_in(self.store, kept.record.name, kept.record.id, caller.address, self.now_ms)
            if not await self.passwords.verify(password, kept.password):
                await self.store.note(self.note(caller, "password.refuse", kept.record.id))
                raise Forbidden("old_password: wrong")
            await attempt.succeeded(self.store, self.now_ms)

    async def change(self, account_id: str, change: AccountChange, note: Note) -> AccountRecord:
        """Make a change, and end the sessions that it revokes."""
        record, ended = await self.store.change_account(account_id, change, note)
        self.end_tokens(ended)
        self._learn([record])
        return record

    async def create_token(self, label: str, expires_ms: int | None, rights: Sequence[str] | None, caller: Caller) -> Minted:
        """A new access token of who asks, with all or some of their rights."""
        kept = await self.own(caller)
        record = kept.record
        wanted = record.rights if rights is None else check_rights(rights)
        if not set(wanted) <= set(record.rights):
            raise Forbidden("rights: only those that you have yourself")
        minted = mint(
            self.random,
            self.now_ms,
            user=record.id,
            name=record.name,
            expires_ms=expires_ms,
            rights=wanted,
            label=person_name(label, "label"),
        )
        note = self.note(caller, "token.create", record.id, token=minted.record.id, label=minted.record.label)
        await self.store.create_account_token(minted.record, minted.secret_hash, note)
        return minted

    async def revoke_own(self, token_id: str, caller: Caller, action: str) -> None:
        """End a session or token of who asks."""
        note = self.note(caller, action, caller.id, token=token_id)
        if await self.store.revoke_account_token(caller.id, token_id, note) is None:
            raise NoSuchAccount("id: you have none of that id")
        self.end_tokens([token_id])


def check_rights(rights: Iterable[str]) -> tuple[str, ...]:
    """The rights in order; ``BadRequest`` if there is no such right."""
    found = tuple(sorted(set(rights)))
    for right in found:
        if right not in RIGHTS:
            raise BadRequest(f"rights: {right!a} is none of {', '.join(RIGHTS)}")
    return found


async def invite(
    accounts: Accounts,
    caller: Caller,
    *,
    uses: int = 1,
    expires_ms: int | None = None,
    rights: Iterable[str] = (),
    rooms: Iterable[str] = (),
    first: bool = False,
) -> tuple[InvitationRecord, str]:
    """A new invitation and its secret, which is shown once."""
    record = InvitationRecord(
        "i" + accounts.random(_INVITATION_BYTES).hex(),
        accounts.now_ms,
        uses=uses,
        expires=expires_ms,
        rights=check_rights(rights),
        rooms=tuple(room_name(room, "rooms") for room in rooms),
        by=caller.id,
        first=first,
    )
    secret = make_secret(accounts.random)
    note = accounts.note(caller, "invitation.create", record.id, uses=str(uses), rights=" ".join(record.rights))
    await accounts.store.create_invitation(record, secret_hash(secret), note)
    return record, secret
