"""Accounts by HTTP: sessions in cookies, signing up, one's own account; what administrators do with all accounts.

Every request that changes something is refused if a page of another site may have sent it, whether a cookie came or not.
"""

from __future__ import annotations

from typing import TypeVar

from msgspec import UNSET, Struct, UnsetType

from twisted_chat.accounts import AccountChange, AccountRecord
from twisted_chat.core.accounts import Accounts, Caller, SignedIn, check_rights, invite
from twisted_chat.core.chat import Chat
from twisted_chat.core.connections import address_block
from twisted_chat.core.ratelimit import BucketTable
from twisted_chat.errors import BadRequest, Conflict, Forbidden, NoSuchAccount, Unauthenticated
from twisted_chat.names import person_name
from twisted_chat.users import Source, User
from twisted_chat.web import account_structs as structs
from twisted_chat.web.account_structs import account_info, invitation_info, token_info
from twisted_chat.web.api import take_token
from twisted_chat.web.auth import SECURE_SESSION_COOKIE, session_cookie
from twisted_chat.web.responses import Response, UnsupportedMediaType
from twisted_chat.web.routing import ApiRequest, Endpoint, Route, json_answer

T = TypeVar("T", bound=Struct)

#: Requests of one address at once, and per second in the long run: those that read, those that change something, those with a password.
_READ, _CHANGE, _PASSWORD = (100, 10.0), (30, 1.0), (30, 0.5)
#: The largest number of entries in one answer.
_MOST = 500


class AccountsApi:
    """The endpoints of sessions and of one's own account."""

    def __init__(self, core: Chat, accounts: Accounts) -> None:
        self._accounts = accounts
        self._reads = BucketTable(core.configuration, lambda limits: _READ, core.now)
        self._changes = BucketTable(core.configuration, lambda limits: _CHANGE, core.now)
        self._passwords = BucketTable(core.configuration, lambda limits: _PASSWORD, core.now)
        for table in (self._reads, self._changes, self._passwords):
            core.each_minute(table.prune)

    def routes(self) -> list[Route]:
        """The routes of the endpoints."""
        own, s = "/api/v1/account", structs
        return [
            _route("GET", "/api/v1/account/session", self.session, answers=s.SessionInfo),
            _route("POST", "/api/v1/account/session", self.sign_in, body=s.SignInBody, answers=s.SessionInfo),
            _route("DELETE", "/api/v1/account/session", self.sign_out, status=204),
            _route("POST", "/api/v1/accounts", self.sign_up, body=s.SignUpBody, answers=s.SessionInfo, status=201),
            _route("GET", own, self.account, answers=s.AccountInfo),
            _route("PATCH", own, self.change, body=s.OwnChange, answers=s.AccountInfo),
            _route("GET", f"{own}/sessions", self.sessions, answers=s.TokenList),
            _route("DELETE", f"{own}/sessions/{{id}}", self.end_session, status=204),
            _route("GET", f"{own}/tokens", self.tokens, answers=s.TokenList),
            _route("POST", f"{own}/tokens", self.create_token, body=s.TokenBody, answers=s.TokenMade, status=201),
            _route("DELETE", f"{own}/tokens/{{id}}", self.revoke_token, status=204),
        ]

    # What all endpoints of accounts share

    async def reader(self, call: ApiRequest) -> User:
        """Who reads something."""
        take_token(self._reads.bucket(address_block(call.client.address)))
        return await call.user()

    async def changer(self, call: ApiRequest) -> Caller:
        """Who changes something."""
        call.check_changing()
        take_token(self._changes.bucket(address_block(call.client.address)))
        return Caller(call.client.address, await call.user())

    async def _newcomer(self, call: ApiRequest, kind: type[T]) -> tuple[Caller, T]:
        """Who signs in or up, with the session in their cookie, which ends for the new one; and the body."""
        call.check_changing()
        take_token(self._passwords.bucket(address_block(call.client.address)))
        given = body(call, kind)
        user = await _present(call)
        by_cookie = user is not None and call.client.credential is not None and call.client.credential.source is Source.COOKIE
        return Caller(call.client.address, user, user.token_id if user is not None and by_cookie else None), given

    # Sessions

    async def session(self, call: ApiRequest) -> Response:
        """Who you are.  A cookie that is not valid any more is removed."""
        take_token(self._reads.bucket(address_block(call.client.address)))
        user = await _present(call)
        stale = user is None and call.client.credential is not None
        kept = None if user is None else await self._accounts.store.account(user.id)
        expires = None if user is None or user.expires is None else int(user.expires * 1000)
        info = self._info(user, None if kept is None else kept.record, expires)
        return json_answer(info, headers=[_cookie(call, "", 0)] if stale else [])

    async def sign_in(self, call: ApiRequest) -> Response:
        """Sign in with name and password: begins a session, whose secret is in a cookie, and ends the one of the cookie before."""
        caller, given = await self._newcomer(call, structs.SignInBody)
        return self._began(call, await self._accounts.sign_in(given.name, given.password, caller))

    async def sign_up(self, call: ApiRequest) -> Response:
        """Make an account and sign in, with an invitation or where everybody may."""
        caller, given = await self._newcomer(call, structs.SignUpBody)
        signed_in = await self._accounts.sign_up_with(given.name, given.password, given.invitation, caller)
        return self._began(call, signed_in, 201)

    async def sign_out(self, call: ApiRequest) -> Response:
        """Sign out: ends the session, its connections, and the cookie."""
        call.check_changing()
        take_token(self._changes.bucket(address_block(call.client.address)))
        user = await _present(call)
        if user is not None and user.token_id is not None:
            try:
                await self._accounts.revoke_own(user.token_id, Caller(call.client.address, user), "session.end")
            except NoSuchAccount:
                pass  # it ended at the same moment
        return _nothing(_cookie(call, "", 0))

    def _began(self, call: ApiRequest, signed_in: SignedIn, status: int = 200) -> Response:
        account, session = signed_in.account, signed_in.session
        user = User(id=account.id, name=account.name, rights=frozenset(account.rights), token_id=session.id)
        info = self._info(user, account, session.expires, signed_in.rooms if status == 201 else UNSET)
        return json_answer(info, status, [_cookie(call, signed_in.token, int(self._accounts.session_seconds))])

    def _info(
        self, user: User | None, account: AccountRecord | None, expires: int | None, rooms: tuple[str, ...] | UnsetType = UNSET
    ) -> structs.SessionInfo:
        return structs.SessionInfo(
            user=None if user is None else structs.UserInfo(id=user.id, name=user.name, rights=tuple(sorted(user.rights))),
            account=None if account is None else account_info(account),
            expires=expires,
            sign_up=self._accounts.sign_up,
            needs_first_account=not self._accounts.any,
            rooms=rooms,
        )

    # One's own account

    async def account(self, call: ApiRequest) -> Response:
        """Your account."""
        user = await self.reader(call)
        kept = await self._accounts.own(Caller(call.client.address, user))
        return json_answer(account_info(kept.record))

    async def change(self, call: ApiRequest) -> Response:
        """Change your name or password.  A new password ends all other sessions and all access tokens."""
        caller = await self.changer(call)
        given = body(call, structs.OwnChange)
        if given.password is not None:
            take_token(self._passwords.bucket(address_block(call.client.address)))
        if given.name is None and given.password is None:
            raise BadRequest("name: give a new name or a new password")
        record = await self._accounts.change_own(given.name, given.password, given.old_password, caller)
        return json_answer(account_info(record))

    async def sessions(self, call: ApiRequest) -> Response:
        """Your sessions: where you are signed in."""
        return await self._list(call, "session")

    async def tokens(self, call: ApiRequest) -> Response:
        """Your access tokens, without their secrets."""
        return await self._list(call, "token")

    async def _list(self, call: ApiRequest, kind: str) -> Response:
        user = await self.reader(call)
        kept = await self._accounts.own(Caller(call.client.address, user))
        now = self._accounts.now_ms
        records = await self._accounts.store.account_tokens(kept.record.id, kind)
        valid = [record for record in records if record.expires is None or record.expires > now]
        return json_answer(structs.TokenList(tokens=tuple(token_info(record, user.token_id) for record in valid)))

    async def end_session(self, call: ApiRequest) -> Response:
        """End one of your sessions; its connections are closed."""
        return await self._revoke(call, "session.end")

    async def revoke_token(self, call: ApiRequest) -> Response:
        """Revoke one of your access tokens; its connections are closed."""
        return await self._revoke(call, "token.revoke")

    async def _revoke(self, call: ApiRequest, action: str) -> Response:
        caller = await self.changer(call)
        await self._accounts.own(caller)
        await self._accounts.revoke_own(_id(call), caller, action)
        return _nothing()

    async def create_token(self, call: ApiRequest) -> Response:
        """Make an access token for a program."""
        caller = await self.changer(call)
        given = body(call, structs.TokenBody)
        minted = await self._accounts.create_token(given.label, given.expires, given.rights, caller)
        return json_answer(structs.TokenMade(token=token_info(minted.record, caller.token), secret=minted.token), 201)


class AdminApi:
    """The endpoints of administrators, and the audit log."""

    def __init__(self, accounts: Accounts, api: AccountsApi) -> None:
        self._accounts = accounts
        self._api = api

    def routes(self) -> list[Route]:
        """The routes of the endpoints."""
        every, invitations, s = "/api/v1/accounts", "/api/v1/invitations", structs
        return [
            _route("GET", every, self.accounts, query=s.AccountsQuery, answers=s.AccountList),
            _route("PATCH", f"{every}/{{id}}", self.change_account, body=s.AdminChange, answers=s.AccountInfo),
            _route("DELETE", f"{every}/{{id}}", self.delete_account, status=204),
            _route("GET", invitations, self.invitations, answers=s.InvitationList),
            _route("POST", invitations, self.create_invitation, body=s.InvitationBody, answers=s.InvitationMade, status=201),
            _route("DELETE", f"{invitations}/{{id}}", self.revoke_invitation, status=204),
            _route("GET", "/api/v1/audit", self.audit, query=s.AuditQuery, answers=s.AuditList),
        ]

    async def _admin(self, call: ApiRequest) -> Caller:
        caller = await self._api.changer(call)
        if caller.user is not None:
            _need(caller.user, "admin")
        return caller

    async def accounts(self, call: ApiRequest) -> Response:
        """The accounts (right ``admin``)."""
        _need(await self._api.reader(call), "admin")
        query = call.query(structs.AccountsQuery)
        limit = min(query.limit, _MOST)
        found = await self._accounts.store.list_accounts(query.search, query.after, limit)
        infos = tuple(map(account_info, found))
        return json_answer(structs.AccountList(accounts=infos, next=found[-1].id if len(found) == limit else UNSET))

    async def change_account(self, call: ApiRequest) -> Response:
        """Rename an account, set its rights or password, disable or enable it (right ``admin``); its sessions end as far as needed."""
        caller = await self._admin(call)
        given = body(call, structs.AdminChange)
        account_id = _id(call)
        if given.disabled or (given.rights is not None and "admin" not in given.rights):
            _not_own(account_id, caller)
        kept = await self._accounts.store.account(account_id)
        if kept is None:
            raise NoSuchAccount("id: there is no such account")
        name = kept.record.name if given.name is None else person_name(given.name)
        if given.password is not None:
            self._accounts.passwords.check(given.password, name)
        change = AccountChange(
            name=UNSET if given.name is None else name,
            rights=UNSET if given.rights is None else check_rights(given.rights),
            disabled=UNSET if given.disabled is None else given.disabled,
            password=UNSET if given.password is None else await self._accounts.passwords.hash(given.password),
            keep=caller.token,
        )
        done = {field: str(getattr(given, field)) for field in ("name", "disabled") if getattr(given, field) is not None}
        if given.rights is not None:
            done["rights"] = " ".join(change.rights or ())
        if given.password is not None:
            done["password"] = "set"
        note = self._accounts.note(caller, "account.change", account_id, **done)
        return json_answer(account_info(await self._accounts.change(account_id, change, note)))

    async def delete_account(self, call: ApiRequest) -> Response:
        """Delete an account for ever (right ``admin``).  Nobody gets its name again; its messages stay."""
        caller = await self._admin(call)
        account_id = _id(call)
        _not_own(account_id, caller)
        note = self._accounts.note(caller, "account.delete", account_id)
        await self._accounts.change(account_id, AccountChange(deleted=True), note)
        return _nothing()

    async def invitations(self, call: ApiRequest) -> Response:
        """The newest invitations, without their secrets (right ``admin``)."""
        _need(await self._api.reader(call), "admin")
        found = await self._accounts.store.list_invitations(_MOST)
        return json_answer(structs.InvitationList(invitations=tuple(map(invitation_info, found))))

    async def create_invitation(self, call: ApiRequest) -> Response:
        """Make an invitation (right ``admin``)."""
        caller = await self._admin(call)
        given = body(call, structs.InvitationBody)
        if self._accounts.sign_up == "closed":
            raise Conflict('sign_up: closed, so nobody could use the invitation; set sign_up = "invite"')
        record, secret = await invite(
            self._accounts, caller, uses=given.uses, expires_ms=given.expires, rights=given.rights, rooms=given.rooms
        )
        return json_answer(structs.InvitationMade(invitation=invitation_info(record), secret=secret), 201)

    async def revoke_invitation(self, call: ApiRequest) -> Response:
        """Revoke an invitation (right ``admin``); accounts that were made with it stay."""
        caller = await self._admin(call)
        note = self._accounts.note(caller, "invitation.revoke", _id(call))
        if await self._accounts.store.revoke_invitation(_id(call), note) is None:
            raise NoSuchAccount("id: there is no such invitation")
        return _nothing()

    async def audit(self, call: ApiRequest) -> Response:
        """The audit log, newest entries first (right ``audit`` or ``admin``)."""
        _need(await self._api.reader(call), "audit", "admin")
        query = call.query(structs.AuditQuery)
        limit = min(query.limit, _MOST)
        entries = await self._accounts.store.read_audit(query.before, query.since, limit)
        infos = tuple(
            structs.AuditInfo(**{name: getattr(entry, name) for name in structs.AuditInfo.__struct_fields__}) for entry in entries
        )
        return json_answer(structs.AuditList(entries=infos, next=entries[-1].number if len(entries) == limit else UNSET))


def body(call: ApiRequest, kind: type[T]) -> T:
    """The JSON body; another type is refused, because a form of another site could send it without asking."""
    if call.content_type() != b"application/json":
        raise UnsupportedMediaType("Content-Type: must be application/json")
    return call.body(kind)


async def _present(call: ApiRequest) -> User | None:
    """Who asks with a credential that is valid; None for everybody else."""
    if call.client.credential is None:
        return None
    try:
        return await call.user()
    except Unauthenticated:
        return None


def _need(user: User, *rights: str) -> None:
    if not user.rights & set(rights):
        raise (
            Unauthenticated("account: sign in first")
            if user.guest
            else Forbidden(f"rights: needs the right {' or '.join(rights)}")
        )


def _not_own(account_id: str, caller: Caller) -> None:
    if account_id == caller.id:
        raise Conflict("id: this is your own account; another administrator has to do it")


def _id(call: ApiRequest) -> str:
    """The id in the path."""
    return call.segments[0].decode("latin-1")[:160]


def _cookie(call: ApiRequest, value: str, seconds: int) -> tuple[bytes, bytes]:
    """The header that sets the cookie of the session, or with no seconds removes it."""
    name = session_cookie(call.client.scheme)
    secure = "; Secure" if name == SECURE_SESSION_COOKIE else ""
    return b"Set-Cookie", f"{name.decode()}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}".encode()


def _nothing(*headers: tuple[bytes, bytes]) -> Response:
    return Response(204, [(b"Cache-Control", b"no-store"), *headers])


def _route(
    method: str,
    path: str,
    endpoint: Endpoint,
    *,
    query: type[Struct] | None = None,
    body: type[Struct] | None = None,
    answers: type[Struct] | None = None,
    status: int = 200,
) -> Route:
    return Route(
        method=method.encode(),
        path=path,
        endpoint=endpoint,
        query=() if query is None else (query,),
        body=body,
        answers=answers,
        status=status,
        public=True,
    )
