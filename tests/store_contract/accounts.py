"""The contract of accounts: names, invitations, tokens that end with what made them, the audit log, attempts to sign in."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.store_contract.case import StoreCase
from twisted_chat.accounts import (
    SESSIONS_MAX,
    TOKENS_MAX,
    AccountChange,
    AccountRecord,
    AuditEntry,
    Bound,
    InvitationRecord,
    KeptAccount,
    Note,
)
from twisted_chat.errors import Conflict, Forbidden, LimitReached, NoSuchAccount, Unauthenticated, Unavailable
from twisted_chat.store_tokens import TokenKind, TokenRecord

NOW = 1_763_880_000_000


def note(action: str = "test", at: int = NOW, by: str = "u9", subject: str = "") -> Note:
    return Note(at, by, "192.0.2.7", action, subject, {"why": 'a "test" \x00'})


def secret(number: int) -> bytes:
    return number.to_bytes(32, "big")


class AccountsContract(StoreCase):
    def made(
        self, name: str, account_id: str = "", *, rights: tuple[str, ...] = (), origin: str = "", invitation: bytes | None = None
    ) -> AccountRecord:
        record = AccountRecord(account_id or f"u-{name}", name, NOW, rights, origin=origin)
        self.successResultOf(self.store.accounts.create_account(KeptAccount(record, "hash"), note("create"), invitation))
        return record

    def denied(self, error: type[Exception], deferred: Deferred[Any]) -> str:
        return str(self.failureResultOf(deferred, error).value)

    def token_of(self, user: str, number: int, kind: TokenKind = "session", rights: tuple[str, ...] = ()) -> str:
        record = TokenRecord(f"t{number}", user, "x", NOW + number, None, None, rights, kind, "my phone")
        self.successResultOf(self.store.accounts.create_account_token(record, secret(number), note("sign_in")))
        return record.id

    def open_tokens(self, user: str, kind: str = "session") -> list[str]:
        return [token.id for token in self.successResultOf(self.store.accounts.account_tokens(user, kind))]

    def revoked(self) -> tuple[str, ...]:
        return self.successResultOf(self.store.revocations(0, 10_000)).tokens

    def change(self, account_id: str, change: AccountChange) -> tuple[AccountRecord, tuple[str, ...]]:
        return self.successResultOf(self.store.accounts.change_account(account_id, change, note("change")))

    def test_accounts(self) -> None:
        """An account is found by id, by name in any case, and by origin; they are listed by id and searched by name."""
        accounts = self.store.accounts
        alice, bob = self.made("Alice", rights=("admin",)), self.made("bob 100%", origin="file:bob")

        self.assertEqual(self.successResultOf(accounts.account("u-Alice")), KeptAccount(alice, "hash"))
        self.assertEqual(self.successResultOf(accounts.account_named("aLiCe")), KeptAccount(alice, "hash"))
        self.assertEqual(self.successResultOf(accounts.account_from("file:bob")), KeptAccount(bob, "hash"))
        for none in (accounts.account("u0"), accounts.account_named("carol"), accounts.account_from("")):
            self.assertIsNone(self.successResultOf(none))
        self.assertEqual(self.successResultOf(accounts.list_accounts("", "", 10)), [alice, bob])
        self.assertEqual(self.successResultOf(accounts.list_accounts("", "", 1)), [alice])
        self.assertEqual(self.successResultOf(accounts.list_accounts("", "u-Alice", 10)), [bob])
        self.assertEqual(self.successResultOf(accounts.list_accounts("ALI", "", 10)), [alice])
        self.assertEqual(self.successResultOf(accounts.list_accounts("0%", "", 10)), [bob])
        self.assertEqual(self.successResultOf(accounts.list_accounts("b%b", "", 10)), [])
        self.assertNotIn("hash", repr(KeptAccount(alice, "hash")) + repr(AccountChange(password="hash")))

    def test_look_alikes(self) -> None:
        """No two accounts have names that look alike, also not that of a deleted one; a name that was given up is free."""
        self.made("paypal")
        other = self.made("other")
        for name in ("PayPal", "раураl", "paypaI", "pay pal"):
            record = AccountRecord("u1", name, NOW)
            self.denied(Conflict, self.store.accounts.create_account(KeptAccount(record, ""), note()))
            self.denied(Conflict, self.store.accounts.change_account(other.id, AccountChange(name=name), note()))
        self.change("u-paypal", AccountChange(name="Paypal"))
        self.change("u-paypal", AccountChange(name="somebody"))
        self.made("pay pal")
        self.change("u-pay pal", AccountChange(deleted=True))
        record = AccountRecord("u1", "paypal", NOW)
        self.denied(Conflict, self.store.accounts.create_account(KeptAccount(record, ""), note()))

    def test_one_account_for_an_origin(self) -> None:
        """Whoever comes first makes the account."""
        self.made("alice", origin="file:alice")
        record = AccountRecord("u1", "bob", NOW, origin="file:alice")
        self.denied(Conflict, self.store.accounts.create_account(KeptAccount(record, ""), note()))
        self.denied(Conflict, self.store.accounts.change_account("u-alice", AccountChange(password="x"), note()))
        self.assertIsNone(self.successResultOf(self.store.accounts.account("u1")))

    def invitation(self, number: int, **fields: object) -> InvitationRecord:
        record = InvitationRecord(f"i{number}", NOW + number, **fields)  # type: ignore[arg-type]
        self.successResultOf(self.store.accounts.create_invitation(record, secret(number), note("invite")))
        return record

    def test_an_invitation_is_used_up(self) -> None:
        """Of 50 who come with it at once exactly one gets an account, and a name that is taken does not use it up."""
        self.made("taken")
        invitation = self.invitation(1, rights=("moderate",), rooms=("lobby",))
        record = AccountRecord("u-x", "Taken", NOW)
        self.denied(Conflict, self.store.accounts.create_account(KeptAccount(record, ""), note(), secret(1)))

        answers: list[object] = []
        for number in range(50):
            record = AccountRecord(f"u{number}", f"person {chr(65 + number)}", NOW)
            self.store.accounts.create_account(KeptAccount(record, ""), note(), secret(1)).addBoth(answers.append)

        won = [answer for answer in answers if isinstance(answer, InvitationRecord)]
        self.assertEqual([(each.id, each.used, each.rooms) for each in won], [(invitation.id, 1, ("lobby",))])
        self.assertEqual(len(answers), 50)
        first = self.successResultOf(self.store.accounts.account("u0"))
        assert first is not None
        self.assertEqual(first.record.rights, ("moderate",))
        self.assertEqual(len(self.successResultOf(self.store.accounts.list_accounts("", "", 100))), 2)

    def test_invitations_that_are_not_valid(self) -> None:
        """Unknown, expired, revoked, for the first account: nobody gets an account."""
        accounts = self.store.accounts
        self.invitation(1, expires=NOW)
        self.invitation(2, uses=5)
        self.invitation(3, rights=("admin",), first=True)
        self.assertIsNotNone(self.successResultOf(accounts.revoke_invitation("i2", note())))
        self.assertIsNone(self.successResultOf(accounts.revoke_invitation("i9", note())))
        self.made("admin", rights=("admin",))
        for number, why in ((0, "unknown"), (1, "expired"), (2, "revoked"), (3, "first account")):
            record = KeptAccount(AccountRecord("u1", "bob", NOW), "")
            self.assertIn(why, self.denied(Forbidden, accounts.create_account(record, note(), secret(number))))
        self.assertEqual([each.id for each in self.successResultOf(accounts.list_invitations(2))], ["i3", "i2"])
        found = self.successResultOf(accounts.invitation(secret(3)))
        assert found is not None
        self.assertEqual((found.id, found.first, found.rights), ("i3", True, ("admin",)))
        self.assertIsNone(self.successResultOf(accounts.invitation(secret(0))))

    def test_only_the_newest_first_invitation(self) -> None:
        """One for the first account takes the place of those before."""
        self.invitation(1, rights=("admin",), first=True)
        self.invitation(2, rights=("admin",), first=True)
        record = KeptAccount(AccountRecord("u1", "bob", NOW), "")
        self.denied(Forbidden, self.store.accounts.create_account(record, note(), secret(1)))
        self.made("alice", invitation=secret(2))
        alice = self.successResultOf(self.store.accounts.account("u-alice"))
        assert alice is not None
        self.assertEqual(alice.record.rights, ("admin",))

    def test_disabled(self) -> None:
        """Disabling revokes everything; nothing can be made while it lasts; enabling gives nothing back."""
        self.made("alice")
        self.made("bob")
        one, two, other = self.token_of("u-alice", 1), self.token_of("u-alice", 2, "token"), self.token_of("u-bob", 3)

        record, ended = self.change("u-alice", AccountChange(disabled=True))

        self.assertEqual((record.disabled, set(ended), set(self.revoked())), (NOW, {one, two}, {one, two}))
        self.assertEqual((self.open_tokens("u-alice"), self.open_tokens("u-bob")), ([], [other]))
        late = TokenRecord("t9", "u-alice", "x", NOW)
        self.denied(Unauthenticated, self.store.accounts.create_account_token(late, secret(9), note()))
        self.assertIsNone(self.change("u-alice", AccountChange(disabled=False))[0].disabled)
        self.assertEqual(self.open_tokens("u-alice"), [])
        self.token_of("u-alice", 10)

    def test_deleted(self) -> None:
        """A deleted account has no tokens, password and rights, and cannot be changed any more."""
        self.made("alice", rights=("admin",))
        token = self.token_of("u-alice", 1)
        self.assertEqual(self.change("u-alice", AccountChange(deleted=True))[1], (token,))
        kept = self.successResultOf(self.store.accounts.account("u-alice"))
        assert kept is not None
        self.assertEqual((kept.password, kept.record.rights, kept.record.deleted), ("", (), NOW))
        for account_id in ("u-alice", "u-nobody"):
            self.denied(
                NoSuchAccount, self.store.accounts.change_account(account_id, AccountChange(disabled=False), note("late"))
            )
        self.assertNotIn("late", [entry.action for entry in self.audit()])

    def test_a_new_password(self) -> None:
        """It ends all tokens but the session that changed it; a sign-in by the old one, under way meanwhile, fails."""
        self.made("alice")
        kept, other, program = self.token_of("u-alice", 1), self.token_of("u-alice", 2), self.token_of("u-alice", 3, "token")

        _, ended = self.change("u-alice", AccountChange(password="new", keep=kept))

        self.assertEqual((set(ended), self.open_tokens("u-alice")), ({other, program}, [kept]))
        record = TokenRecord("t9", "u-alice", "x", NOW, kind="session")
        create = self.store.accounts.create_account_token
        self.denied(Unauthenticated, create(record, secret(9), note(), password="hash"))
        self.successResultOf(create(record, secret(9), note(), password="new"))

    def test_rights(self) -> None:
        """A right that is lost ends the tokens that have it; a new one is at once that of the sessions."""
        self.made("alice", rights=("moderate",))
        with_right = self.token_of("u-alice", 1, rights=("moderate",))
        without = self.token_of("u-alice", 2)
        self.assertEqual(self.change("u-alice", AccountChange(rights=("audit", "moderate")))[1], ())
        found = self.successResultOf(self.store.find_token(secret(2)))
        assert found is not None
        self.assertEqual(found.rights, ("audit", "moderate"))
        self.assertEqual(set(self.change("u-alice", AccountChange(rights=()))[1]), {with_right, without})

    def test_another_name(self) -> None:
        """The tokens have the new name."""
        self.made("alice")
        self.token_of("u-alice", 1)
        self.change("u-alice", AccountChange(name="Alicia"))
        found = self.successResultOf(self.store.find_token(secret(1)))
        assert found is not None
        self.assertEqual((found.name, found.kind, found.label), ("Alicia", "session", "my phone"))

    def test_tokens_of_an_account(self) -> None:
        """Sessions are not among the tokens; each belongs to its user; a session replaces the one before."""
        self.made("alice")
        self.made("bob")
        session, token = self.token_of("u-alice", 1), self.token_of("u-alice", 2, "token")

        self.assertEqual((self.open_tokens("u-alice"), self.open_tokens("u-alice", "token")), ([session], [token]))
        self.assertEqual([each.id for each in self.successResultOf(self.store.list_tokens())], [token])
        self.assertIsNone(self.successResultOf(self.store.accounts.revoke_account_token("u-bob", token, note())))
        self.assertIsNotNone(self.successResultOf(self.store.accounts.revoke_account_token("u-alice", token, note())))
        self.assertIsNone(self.successResultOf(self.store.accounts.revoke_account_token("u-alice", token, note())))
        record = TokenRecord("t3", "u-alice", "alice", NOW, kind="session")
        ended = self.successResultOf(self.store.accounts.create_account_token(record, secret(3), note(), replaces=session))
        self.assertEqual((ended, self.revoked()), ((session,), (token, session)))

    def test_so_many_tokens(self) -> None:
        """The oldest session gives way to a new one; a token too many is refused."""
        self.made("alice")
        for number in range(SESSIONS_MAX + 1):
            self.token_of("u-alice", number)
        self.assertEqual((len(self.open_tokens("u-alice")), self.revoked()), (SESSIONS_MAX, ("t0",)))
        for number in range(TOKENS_MAX):
            self.token_of("u-alice", 1_000 + number, "token")
        record = TokenRecord("t9", "u-alice", "x", NOW)
        self.denied(LimitReached, self.store.accounts.create_account_token(record, secret(9_999), note()))

    def test_revocations_keep_their_numbers(self) -> None:
        """Sessions that ended long ago are forgotten, and later revocations are still news."""
        self.made("alice")
        self.token_of("u-alice", 1)
        self.token_of("u-alice", 2)
        for token in ("t1", "t2"):
            self.successResultOf(self.store.accounts.revoke_account_token("u-alice", token, note(at=NOW)))
        known = self.successResultOf(self.store.revocations(0, 10)).number
        record = TokenRecord("t3", "u-alice", "alice", NOW, kind="session")
        late = note(at=NOW + 30 * 86_400_000)
        self.successResultOf(self.store.accounts.create_account_token(record, secret(3), late))
        self.successResultOf(self.store.accounts.revoke_account_token("u-alice", "t3", late))
        self.assertEqual(self.successResultOf(self.store.revocations(known, 10)).tokens, ("t3",))

    def test_news(self) -> None:
        """What was made or changed after a number, in parts."""
        news = self.store.accounts.account_news
        self.made("alice")
        self.made("bob")
        first = self.successResultOf(news(0, 1))
        rest = self.successResultOf(news(first.number, 10))
        self.assertEqual([each.name for each in (*first.accounts, *rest.accounts)], ["alice", "bob"])
        self.assertEqual(self.successResultOf(news(rest.number, 10)).accounts, ())
        self.change("u-alice", AccountChange(name="Alicia"))
        last = self.successResultOf(news(rest.number, 10))
        self.assertEqual([each.name for each in last.accounts], ["Alicia"])
        self.assertGreater(last.number, rest.number)

    def audit(self, before: int | None = None, since: int = 0, limit: int = 100) -> list[AuditEntry]:
        return self.successResultOf(self.store.accounts.read_audit(before, since, limit))

    def test_audit(self) -> None:
        """Each change is in it, with its details; what was refused is not; it is read from the newest on."""
        self.made("alice")
        refused = KeptAccount(AccountRecord("u1", "ALICE", NOW), "")
        self.denied(Conflict, self.store.accounts.create_account(refused, note("refused")))
        self.change("u-alice", AccountChange(disabled=True))
        self.successResultOf(self.store.accounts.note(note("noted", NOW + 5, "u1", "u2")))

        entries = self.audit()
        self.assertEqual([(each.number, each.action) for each in entries], [(3, "noted"), (2, "change"), (1, "create")])
        self.assertEqual(entries[0], AuditEntry(3, NOW + 5, "u1", "192.0.2.7", "noted", "u2", {"why": 'a "test" \x00'}))
        self.assertEqual([each.number for each in self.audit(limit=1)], [3])
        self.assertEqual([each.number for each in self.audit(before=3)], [2, 1])
        self.assertEqual([each.number for each in self.audit(since=NOW + 1)], [3])

    def test_attempts(self) -> None:
        """So many at once, then one in each period; one that succeeded is not counted; a full bucket takes from no other."""
        take = self.store.accounts.take_attempt
        one, other = Bound("one", 3, 1_000), Bound("other", 100, 1_000)
        waits = [self.successResultOf(take([one, other], NOW)) for _ in range(5)]
        self.assertEqual(waits, [0, 0, 0, 1_000, 1_000])
        self.assertEqual(self.successResultOf(take([one], NOW + 999)), 1)
        self.assertEqual(self.successResultOf(take([one], NOW + 1_000)), 0)
        self.assertEqual([self.successResultOf(take([Bound("other", 4, 1_000)], NOW)) for _ in range(2)], [0, 1_000])

        self.successResultOf(self.store.accounts.attempt_succeeded(["one"], [other], "known", NOW + 50_000))

        self.assertEqual([self.successResultOf(take([one], NOW + 1_000)) for _ in range(4)], [0, 0, 0, 1_000])
        exempt = Bound("one", 3, 1_000, unless="known")
        self.assertEqual(self.successResultOf(take([exempt], NOW + 1_000)), 0)
        self.assertEqual(self.successResultOf(take([exempt], NOW + 2_000)), 0)
        self.assertEqual([self.successResultOf(take([Bound("other", 4, 1_000)], NOW)) for _ in range(2)], [0, 1_000])

    def test_closed(self) -> None:
        """Accounts of a closed store are unavailable."""
        self.close()
        self.denied(Unavailable, self.store.accounts.account("u1"))
        self.denied(Unavailable, self.store.accounts.note(note()))
