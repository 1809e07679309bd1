"""Accounts by HTTP: sessions, signing up, one's own account, administrators; and those who attack them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred

from tests.harness.accounts import CHEAP, PASSWORD, AccountsCase, Browser
from tests.harness.http_memory import Reply, Wire
from twisted_chat.accounts import AccountChange
from twisted_chat.auth.passwords import QUEUE_MAX, Argon2Passwords
from twisted_chat.core.accounts import Caller, SignUp
from twisted_chat.errors import LimitReached
from twisted_chat.minting import secret_hash
from twisted_chat.server.maintenance import accounts as look_for_accounts
from twisted_chat.server.maintenance import revocation

SESSION, ACCOUNTS, OWN = "/api/v1/account/session", "/api/v1/accounts", "/api/v1/account"


def closed_with(wire: Wire) -> int:
    """The close code that a WebSocket got; 0: it is open."""
    frames = wire.value()
    place = frames.rfind(b"\x88")
    return int.from_bytes(frames[place + 2 : place + 4], "big") if place >= 0 else 0


class SessionTests(AccountsCase):
    def test_sign_in(self) -> None:
        """A session is a cookie that scripts cannot read; it says who one is over HTTP."""
        alice = self.account("Alice", "moderate")
        browser = self.browser()

        reply = browser.ask("POST", SESSION, {"name": "alice", "password": PASSWORD})

        info = msgspec.json.decode(reply.body)
        self.assertEqual(reply.status, 200)
        self.assertRegex(browser.set_cookie, r"^chat_session=tc_[\w-]{43}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax$")
        self.assertEqual(info["user"], {"id": alice.id, "name": "Alice", "rights": ["moderate"]})
        self.assertEqual(info["account"]["id"], alice.id)
        self.assertEqual((info["sign_up"], info["needs_first_account"]), ("closed", False))
        self.assertNotIn("tc_", reply.body.decode())
        again = browser.get(SESSION)
        self.assertEqual((again["user"], again["expires"]), (info["user"], info["expires"]))
        self.assertEqual(self.audit(), ["account.create", "session.create"])

    def test_nobody(self) -> None:
        """Who has not signed in learns whether they can, and whether the server needs its first account."""
        info = self.browser().get(SESSION)
        self.assertEqual(info, {"user": None, "account": None, "expires": None, "sign_up": "closed", "needs_first_account": True})

    def test_cookie_over_tls(self) -> None:
        """Behind TLS the cookie has the prefix __Host-, and the one without it is nobody's: a neighbour may have planted it."""
        chat = self.node(trusted_proxies=("192.0.2.7",))
        self.account("alice")
        browser = Browser(chat, self.clock, scheme="https")
        tls = ("X-Forwarded-Proto", "https")
        browser.ask("POST", SESSION, {"name": "alice", "password": PASSWORD}, tls)
        self.assertRegex(browser.set_cookie, r"^__Host-chat_session=tc_[\w-]{43}; Path=/; .*; Secure$")
        self.assertIn(b"alice", browser.ask("GET", OWN, None, tls).body)
        browser.cookies = {"chat_session": browser.cookies["__Host-chat_session"]}
        self.assertEqual(browser.ask("GET", OWN, None, tls).status, 401)

    def test_wrong(self) -> None:
        """A wrong password and an unknown name have the very same answer, after the same work."""
        self.account("alice")
        passwords = self.chat.accounts.passwords
        assert isinstance(passwords, Argon2Passwords)
        answers = set()
        for name in ("alice", "nobody"):
            before = passwords.hashed, len(self.audit())
            reply = self.browser().ask("POST", SESSION, {"name": name, "password": "another one"})
            answers.add((reply.status, reply.body, passwords.hashed - before[0], len(self.audit()) - before[1]))
        [(status, body, hashed, noted)] = answers
        self.assertEqual((status, hashed, noted), (401, 1, 1))
        self.assertIn(b"password: ", body)

    def test_disabled_and_deleted_look_like_wrong(self) -> None:
        """Nobody learns by a right password that an account is disabled."""
        alice = self.account("alice")
        wrong = self.browser().ask("POST", SESSION, {"name": "alice", "password": "another one"})
        for change in (AccountChange(disabled=True), AccountChange(deleted=True)):
            self.do(self.chat.accounts.change(alice.id, change, self.chat.accounts.note(Caller("test"), "x")))
            reply = self.browser().ask("POST", SESSION, {"name": "alice", "password": PASSWORD})
            self.assertEqual((reply.status, reply.body), (401, wrong.body))

    def test_bad_fields(self) -> None:
        """Each wrong field is named; nothing is hashed for it."""
        for body, field in (
            ({"name": "alice"}, "password"),
            ({"password": PASSWORD}, "name"),
            ({"name": "", "password": PASSWORD}, "name"),
            ({"name": "x" * 257, "password": PASSWORD}, "name"),
            ({"name": "\u202eevil", "password": PASSWORD}, "name"),
            ({"name": "alice", "password": "x" * 513}, "password"),
            ({"name": "alice", "password": 7}, "password"),
            ({"name": ["alice"], "password": PASSWORD}, "name"),
            (b"{", "body"),
            (b"\xff", "body"),
        ):
            reply = self.browser().ask("POST", SESSION, body)
            self.assertEqual((reply.status, reply.error["code"]), (400, "bad_request"), body)
            self.assertIn(field, reply.error["message"])
        form = self.browser().ask("POST", SESSION, b"name=alice&password=x", ("Content-Type", "text/plain"))
        self.assertEqual(form.status, 415)

    def test_sign_out(self) -> None:
        """The session, its cookie and its connections end; the cookie is worth nothing after that."""
        browser = self.signed_in("alice")
        socket = browser.upgrade()
        self.assertIn(b"101 ", socket.value())
        kept = dict(browser.cookies)

        self.assertEqual(browser.ask("DELETE", SESSION).status, 204)

        self.assertEqual((browser.cookies, closed_with(socket)), ({}, 4401))
        browser.cookies = kept
        self.assertEqual(browser.ask("GET", OWN).status, 401)
        self.assertEqual(browser.ask("GET", SESSION).status, 200)
        self.assertEqual(browser.cookies, {})  # the page need not know that it is stale
        self.assertEqual(browser.ask("DELETE", SESSION).status, 204)

    def test_other_node(self) -> None:
        """A socket on another node ends within 2 s."""
        browser = self.signed_in("alice")
        other = self.node()
        task = revocation(other.store, other.core, self.clock)
        task.startService()
        self.addCleanup(task.stopService)
        there = self.browser(other)
        there.cookies = browser.cookies
        socket = there.upgrade()
        browser.ask("DELETE", SESSION)
        self.assertEqual(closed_with(socket), 0)
        self.clock.pass_time(2)
        self.assertEqual(closed_with(socket), 4401)


class AttackTests(AccountsCase):
    def test_another_site(self) -> None:
        """A page of another site can neither sign its visitor in or out, nor use or read their account."""
        browser = self.signed_in("alice")
        requests = (
            ("POST", SESSION, {"name": "alice", "password": PASSWORD}),
            ("DELETE", SESSION, None),
            ("POST", ACCOUNTS, {"name": "eve", "password": PASSWORD}),
            ("PATCH", OWN, {"name": "eve"}),
            ("POST", f"{OWN}/tokens", {"label": "x"}),
            ("GET", OWN, None),
            ("GET", SESSION, None),
        )
        before = self.audit()
        for origin in ("https://evil.test", "null", "http://localhost:81", None):
            for method, path, body in requests:
                for page in (("Accept-Language", "en"), ("Sec-Fetch-Site", "cross-site")):
                    evil = self.browser()
                    evil.origin = origin
                    for cookies in (browser.cookies, {}):
                        if not cookies and method == "GET":
                            continue
                        evil.cookies = dict(cookies)
                        self.assertEqual(evil.ask(method, path, body, page).status, 403, (origin, method, path))
        self.assertEqual(self.audit(), before)

    def test_own_page_without_tls(self) -> None:
        """The page's own GETs say by a header whose they are; a page of another site may not send it."""
        browser = self.signed_in("alice")
        browser.origin = None
        self.assertEqual(browser.ask("GET", OWN).status, 403)
        self.assertEqual(browser.ask("GET", OWN, None, ("X-Chat-Page", "1")).status, 200)
        preflight = browser.ask("OPTIONS", OWN, None, ("Origin", "http://localhost"))
        self.assertNotIn("x-chat-page", preflight.headers["access-control-allow-headers"].lower())

    def test_session_fixation(self) -> None:
        """A session that was planted before signing in is not taken over, and ends."""
        eve = self.signed_in("eve")
        planted = dict(eve.cookies)
        victim = self.browser()
        victim.cookies = dict(planted)
        self.account("alice")

        victim.ask("POST", SESSION, {"name": "alice", "password": PASSWORD})

        self.assertNotEqual(victim.cookies, planted)
        self.assertEqual(victim.get(OWN)["name"], "alice")
        self.assertEqual(eve.ask("GET", OWN).status, 401)
        made_up = self.browser()
        made_up.cookies = {"chat_session": "tc_" + "x" * 43}
        made_up.ask("POST", SESSION, {"name": "alice", "password": PASSWORD})
        self.assertNotEqual(made_up.cookies["chat_session"], "tc_" + "x" * 43)

    def test_guessing_from_one_place(self) -> None:
        """After five wrong ones each guess waits a minute, over restarts and on all nodes; the owner elsewhere does not."""
        self.account("alice")
        eve = self.browser(address="203.0.113.9")
        statuses = [eve.ask("POST", SESSION, {"name": name, "password": "another one"}).status for name in ["alice", "ALICE"] * 4]
        self.assertEqual(statuses, [401] * 5 + [429] * 3)
        refused = self.browser(self.node(), "203.0.113.9").ask("POST", SESSION, {"name": "alice", "password": PASSWORD})
        self.assertEqual((refused.status, refused.error["code"]), (429, "rate_limited"))
        self.assertGreater(refused.error["retry_after_ms"], 50_000)
        owner = self.browser(address="198.51.100.1")
        self.assertEqual(owner.ask("POST", SESSION, {"name": "alice", "password": PASSWORD}).status, 200)

    def test_guessing_from_many_places(self) -> None:
        """The account is bounded, too; not for its owner at a place where it has signed in before."""
        self.account("alice")
        home = self.browser(address="198.51.100.1")
        self.assertEqual(home.ask("POST", SESSION, {"name": "alice", "password": PASSWORD}).status, 200)

        statuses = [
            self.browser(address=f"203.0.113.{number}").ask("POST", SESSION, {"name": "alice", "password": "guess it"}).status
            for number in range(40)
        ]

        self.assertEqual(statuses, [401] * 30 + [429] * 10)
        self.assertEqual(home.ask("POST", SESSION, {"name": "alice", "password": PASSWORD}).status, 200)
        # An unknown name is bounded in the same way, so the bound does not tell either.
        unknown = [
            self.browser(address=f"203.0.113.{number}").ask("POST", SESSION, {"name": "nobody", "password": "guess"}).status
            for number in range(50, 90)
        ]
        self.assertEqual(unknown, statuses)

    def test_many_names_from_one_place(self) -> None:
        """Trying many names is bounded by address; what is asked too fast is not even looked up."""
        eve = self.browser()
        statuses = [eve.ask("POST", SESSION, {"name": f"n{number}", "password": "guess it"}).status for number in range(100)]
        self.assertEqual(statuses, [401] * 30 + [429] * 70)

    def test_a_replayed_invitation(self) -> None:
        """Who comes second with an invitation gets nothing."""
        self.chat.accounts.sign_up = "invite"
        secret = self.invitation(rooms=["lobby"])
        first = self.browser().ask("POST", ACCOUNTS, {"name": "alice", "password": PASSWORD, "invitation": secret})
        second = self.browser().ask("POST", ACCOUNTS, {"name": "bob", "password": PASSWORD, "invitation": secret})
        self.assertEqual((first.status, msgspec.json.decode(first.body)["rooms"]), (201, ["lobby"]))
        self.assertEqual((second.status, second.error["code"]), (403, "forbidden"))
        self.assertIn("invitation", second.error["message"])

    def test_secrets_are_not_shown(self) -> None:
        """Neither passwords nor secrets are in the audit log, in the answers of lists, or in a repr."""
        admin = self.signed_in("boss", "admin")
        self.chat.accounts.sign_up = "invite"
        secret = msgspec.json.decode(admin.ask("POST", "/api/v1/invitations", {}).body)["secret"]
        token = msgspec.json.decode(admin.ask("POST", f"{OWN}/tokens", {"label": "bot"}).body)["secret"]
        shown = b"".join(
            admin.ask("GET", path).body
            for path in ("/api/v1/audit", "/api/v1/invitations", f"{OWN}/tokens", f"{OWN}/sessions", ACCOUNTS, OWN, SESSION)
        )
        for hidden in (PASSWORD, secret, token, *admin.cookies.values(), "argon2"):
            self.assertNotIn(hidden.encode(), shown)
            self.assertNotIn(secret_hash(hidden).hex().encode(), shown)


class SignUpTests(AccountsCase):
    def sign_up(self, name: str, invitation: str | None = None, password: str = PASSWORD) -> tuple[int, str]:
        body = {"name": name, "password": password}
        if invitation is not None:
            body["invitation"] = invitation
        reply = self.browser().ask("POST", ACCOUNTS, body)
        return reply.status, "" if reply.status == 201 else reply.error["message"]

    def test_closed(self) -> None:
        """Nobody signs up, not even with an invitation, but for the first account; and the link for that ends with it."""
        self.assertIn("sign_up", self.sign_up("eve")[1])
        self.assertIn("sign_up", self.sign_up("eve", self.invitation())[1])
        setup = self.invitation(rights=["admin"], first=True)
        browser = self.browser()
        reply = browser.ask("POST", ACCOUNTS, {"name": "boss", "password": PASSWORD, "invitation": setup})
        self.assertEqual(reply.status, 201)
        self.assertEqual(browser.get(SESSION)["user"]["rights"], ["admin"])
        self.assertFalse(browser.get(SESSION)["needs_first_account"])
        again = self.invitation(rights=["admin"], first=True)
        self.assertEqual(self.sign_up("eve", again), (403, "invitation: it is for the first account, and there is one already"))

    def test_invite(self) -> None:
        """With an invitation only."""
        self.chat.accounts.sign_up = "invite"
        self.assertEqual(self.sign_up("eve"), (403, "invitation: needed to sign up here"))
        self.assertEqual(self.sign_up("eve", "made up"), (403, "invitation: unknown"))
        self.assertEqual(self.sign_up("alice", self.invitation()), (201, ""))

    def test_open(self) -> None:
        """Everybody; names that look alike and bad passwords are refused, and the field is named."""
        self.chat.accounts.sign_up = "open"
        self.assertEqual(self.sign_up("alice"), (201, ""))
        self.assertEqual(self.sign_up("Аlice")[0], 409)
        self.assertIn("name", self.sign_up("alice")[1])
        self.assertIn("password", self.sign_up("bob", password="short")[1])
        self.assertIn("password", self.sign_up("bob", password="password1")[1])
        self.assertIn("password", self.sign_up("robert", password="ROBERT is me")[1])
        self.assertEqual(self.audit(), ["account.create", "session.create"])

    def test_nothing_is_hashed_for_strangers(self) -> None:
        """Who cannot sign up does not make the server hash."""
        passwords = self.chat.accounts.passwords
        assert isinstance(passwords, Argon2Passwords)
        modes: tuple[SignUp, ...] = ("closed", "invite")
        for mode in modes:
            self.chat.accounts.sign_up = mode
            self.sign_up("eve", "made up")
        self.assertEqual(passwords.hashed, 0)

    def test_reserved_for_guests(self) -> None:
        """No guest can be called like an account, also one that another process made, 15 s later."""
        task = look_for_accounts(self.chat.accounts, self.clock)
        task.startService()
        self.addCleanup(task.stopService)
        other = self.node()
        self.do(other.accounts.create("Alice", PASSWORD, (), Caller("test")))
        post = ("POST", "/api/v1/rooms/lobby/events?name=al1ce", b"hello", ("Content-Type", "text/plain"))
        self.assertEqual(self.browser().ask(*post).status, 201)
        self.clock.pass_time(15)
        self.assertEqual(self.browser().ask(*post).status, 409)
        self.assertEqual(self.browser(other).ask(*post).status, 409)


class OwnTests(AccountsCase):
    def test_name(self) -> None:
        """Another name, unless somebody has it."""
        self.account("bob")
        alice = self.signed_in("alice")
        self.assertEqual(alice.ask("PATCH", OWN, {"name": "Bob"}).status, 409)
        self.assertEqual(alice.ask("PATCH", OWN, {}).status, 400)
        self.assertEqual(msgspec.json.decode(alice.ask("PATCH", OWN, {"name": "Alicia"}).body)["name"], "Alicia")
        self.assertEqual(alice.get(SESSION)["user"]["name"], "Alicia")

    def test_password(self) -> None:
        """It needs the old one; the session that changes it stays, others and tokens end."""
        alice, phone = self.signed_in("alice"), self.browser()
        phone.ask("POST", SESSION, {"name": "alice", "password": PASSWORD})
        alice.ask("POST", f"{OWN}/tokens", {"label": "bot"})
        here, there = alice.upgrade(), phone.upgrade()
        new = "walnut kettle orbit"
        for body, status, field in (
            ({"password": new}, 400, "old_password"),
            ({"password": new, "old_password": "another one"}, 403, "old_password"),
            ({"password": "short", "old_password": PASSWORD}, 400, "password"),
        ):
            reply = alice.ask("PATCH", OWN, body)
            self.assertEqual(reply.status, status)
            self.assertIn(field, reply.error["message"])

        self.assertEqual(alice.ask("PATCH", OWN, {"password": new, "old_password": PASSWORD}).status, 200)

        self.assertEqual((closed_with(here), closed_with(there)), (0, 4401))
        self.assertEqual((alice.ask("GET", OWN).status, phone.ask("GET", OWN).status), (200, 401))
        self.assertEqual(alice.get(f"{OWN}/tokens"), {"tokens": []})
        for password, status in ((PASSWORD, 401), (new, 200)):
            self.assertEqual(self.browser().ask("POST", SESSION, {"name": "alice", "password": password}).status, status)

    def test_guessing_the_old_password(self) -> None:
        """A stolen session does not guess the password faster than anybody."""
        alice = self.signed_in("alice")
        body = {"password": "walnut kettle orbit", "old_password": "a wrong guess"}
        self.assertEqual([alice.ask("PATCH", OWN, body).status for _ in range(7)], [403] * 5 + [429] * 2)

    def test_sessions(self) -> None:
        """One sees where one is signed in, and ends it; not those of others."""
        alice, phone, bob = self.signed_in("alice"), self.browser(), self.signed_in("bob")
        phone.ask("POST", SESSION, {"name": "alice", "password": PASSWORD})
        socket = phone.upgrade()
        found = {each["current"]: each["id"] for each in alice.get(f"{OWN}/sessions")["tokens"]}
        self.assertEqual(len(found), 2)
        self.assertEqual(bob.ask("DELETE", f"{OWN}/sessions/{found[False]}").status, 404)
        self.assertEqual(alice.ask("DELETE", f"{OWN}/sessions/{found[False]}").status, 204)
        self.assertEqual(closed_with(socket), 4401)
        self.assertEqual(alice.ask("DELETE", f"{OWN}/sessions/{'x' * 1000}").status, 404)
        self.assertEqual(len(alice.get(f"{OWN}/sessions")["tokens"]), 1)

    def test_tokens(self) -> None:
        """An access token speaks for its owner with the rights that it was given, until it is revoked."""
        alice = self.signed_in("alice", "moderate", "metrics")
        made = msgspec.json.decode(alice.ask("POST", f"{OWN}/tokens", {"label": "my bot", "rights": ["metrics"]}).body)
        program = self.browser()
        program.origin = None
        bearer = ("Authorization", f"Bearer {made['secret']}")
        self.assertEqual(msgspec.json.decode(program.ask("GET", SESSION, None, bearer).body)["user"]["rights"], ["metrics"])
        self.assertEqual(alice.get(f"{OWN}/tokens")["tokens"], [{**made["token"]}])
        for body, status, field in (
            ({"label": "x", "rights": ["admin"]}, 403, "rights"),
            ({"label": "x", "rights": ["king"]}, 400, "rights"),
            ({"label": "x", "expires": 1}, 400, "expires"),
            ({"label": "x", "expires": 2**60}, 400, "expires"),
            ({"label": "\x00"}, 400, "label"),
            ({}, 400, "label"),
        ):
            reply = alice.ask("POST", f"{OWN}/tokens", body)
            self.assertEqual(reply.status, status)
            self.assertIn(field, reply.error["message"])
        self.assertEqual(alice.ask("DELETE", f"{OWN}/tokens/{made['token']['id']}").status, 204)
        self.assertEqual(program.ask("GET", OWN, None, bearer).status, 401)

    def test_guests_and_tokens_without_an_account(self) -> None:
        """They have no account."""
        guest = self.browser()
        for method, path, body in (("GET", OWN, None), ("PATCH", OWN, {"name": "x"}), ("GET", f"{OWN}/tokens", None)):
            self.assertEqual(guest.ask(method, path, body).status, 401)


class AdminTests(AccountsCase):
    def test_only_administrators(self) -> None:
        """Nobody else reads or changes anything there; the right ``audit`` opens the audit log alone."""
        alice, auditor = self.signed_in("alice", "moderate"), self.signed_in("auditor", "audit")
        requests: tuple[tuple[str, str, object], ...] = (
            ("GET", ACCOUNTS, None),
            ("PATCH", f"{ACCOUNTS}/u1", {"disabled": True}),
            ("DELETE", f"{ACCOUNTS}/u1", None),
            ("GET", "/api/v1/invitations", None),
            ("POST", "/api/v1/invitations", {}),
            ("DELETE", "/api/v1/invitations/i1", None),
        )
        for method, path, body in (*requests, ("GET", "/api/v1/audit", None)):
            self.assertEqual(alice.ask(method, path, body).status, 403)
            self.assertEqual(self.browser().ask(method, path, body).status, 401)
        for method, path, body in requests:
            self.assertEqual(auditor.ask(method, path, body).status, 403)
        self.assertEqual(auditor.get("/api/v1/audit")["entries"][-1]["action"], "account.create")

    def test_accounts(self) -> None:
        """They are listed in parts and searched."""
        boss = self.signed_in("boss", "admin")
        for number in range(3):
            self.account(f"person {number}")
        first = boss.get(f"{ACCOUNTS}?limit=3")
        rest = boss.get(f"{ACCOUNTS}?limit=3&after={first['next']}")
        self.assertEqual((len(first["accounts"]), len(rest["accounts"]), "next" in rest), (3, 1, False))
        self.assertEqual([each["name"] for each in boss.get(f"{ACCOUNTS}?search=BOSS")["accounts"]], ["boss"])

    def test_disable(self) -> None:
        """Sessions and sockets end at once; nobody signs in until it is enabled; one does not disable oneself."""
        boss, alice = self.signed_in("boss", "admin"), self.signed_in("alice")
        socket = alice.upgrade()
        account_id = alice.get(OWN)["id"]

        reply = boss.ask("PATCH", f"{ACCOUNTS}/{account_id}", {"disabled": True})

        self.assertIsNotNone(msgspec.json.decode(reply.body)["disabled"])
        self.assertEqual((closed_with(socket), alice.ask("GET", OWN).status), (4401, 401))
        self.assertEqual(boss.ask("PATCH", f"{ACCOUNTS}/{account_id}", {"disabled": False}).status, 200)
        self.assertEqual(self.browser().ask("POST", SESSION, {"name": "alice", "password": PASSWORD}).status, 200)
        own = f"{ACCOUNTS}/{boss.get(OWN)['id']}"
        for method, body in (("PATCH", {"disabled": True}), ("PATCH", {"rights": []}), ("DELETE", None)):
            self.assertEqual(boss.ask(method, own, body).status, 409)
        self.assertEqual(boss.ask("PATCH", f"{ACCOUNTS}/u1", {"disabled": True}).status, 404)

    def test_rights_password_and_deletion(self) -> None:
        """Rights hold for sessions at once; a password can be set; a deleted account is gone, its name stays taken."""
        boss, alice = self.signed_in("boss", "admin"), self.signed_in("alice")
        place = f"{ACCOUNTS}/{alice.get(OWN)['id']}"
        self.assertEqual(boss.ask("PATCH", place, {"rights": ["moderate", "king"]}).status, 400)
        boss.ask("PATCH", place, {"rights": ["moderate"]})
        self.assertEqual(alice.get(SESSION)["user"]["rights"], ["moderate"])
        boss.ask("PATCH", place, {"rights": []})
        self.assertEqual(alice.ask("GET", OWN).status, 401)
        self.assertEqual(boss.ask("PATCH", place, {"password": "walnut kettle orbit"}).status, 200)
        body = {"name": "alice", "password": "walnut kettle orbit"}
        self.assertEqual(self.browser().ask("POST", SESSION, body).status, 200)
        self.assertEqual(boss.ask("DELETE", place).status, 204)
        self.assertEqual(self.browser().ask("POST", SESSION, body).status, 401)
        self.assertEqual(boss.ask("DELETE", place).status, 404)
        self.chat.accounts.sign_up = "open"
        self.assertEqual(self.browser().ask("POST", ACCOUNTS, {"name": "Alice", "password": PASSWORD}).status, 409)

    def test_invitations(self) -> None:
        """Made, listed, revoked; bounded fields; not where nobody could use them."""
        boss = self.signed_in("boss", "admin")
        self.assertEqual(boss.ask("POST", "/api/v1/invitations", {}).status, 409)
        self.chat.accounts.sign_up = "invite"
        for body, field in (
            ({"uses": 0}, "uses"),
            ({"uses": 10_001}, "uses"),
            ({"rooms": ["a b"]}, "rooms"),
            ({"rooms": ["x"] * 21}, "rooms"),
            ({"rights": ["x"] * 17}, "rights"),
            ({"rights": ["king"]}, "rights"),
            ({"expires": -1}, "expires"),
        ):
            reply = boss.ask("POST", "/api/v1/invitations", body)
            self.assertEqual(reply.status, 400)
            self.assertIn(field, reply.error["message"])
        made = msgspec.json.decode(boss.ask("POST", "/api/v1/invitations", {"uses": 2, "rooms": ["lobby"]}).body)
        place = f"/api/v1/invitations/{made['invitation']['id']}"
        self.assertEqual(boss.ask("DELETE", place).status, 204)
        [listed] = boss.get("/api/v1/invitations")["invitations"]
        self.assertEqual((listed["uses"], listed["used"], listed["revoked"] is None), (2, 0, False))
        self.assertEqual(boss.ask("DELETE", "/api/v1/invitations/i1").status, 404)
        body = {"name": "alice", "password": PASSWORD, "invitation": made["secret"]}
        self.assertEqual(self.browser().ask("POST", ACCOUNTS, body).status, 403)

    def test_audit(self) -> None:
        """Who did what to whom, from where; in parts."""
        boss, alice = self.signed_in("boss", "admin"), self.signed_in("alice", address="203.0.113.5")
        account_id = alice.get(OWN)["id"]
        boss.ask("PATCH", f"{ACCOUNTS}/{account_id}", {"disabled": True})
        newest, *_ = boss.get("/api/v1/audit?limit=2")["entries"]
        self.assertEqual((newest["action"], newest["by"], newest["subject"]), ("account.change", boss.get(OWN)["id"], account_id))
        self.assertEqual((newest["address"], newest["details"]), ("192.0.2.7", {"disabled": "True"}))
        page = boss.get("/api/v1/audit?limit=2")
        rest = boss.get(f"/api/v1/audit?before={page['next']}")
        self.assertEqual(len(page["entries"]) + len(rest["entries"]), len(self.audit()))
        self.assertEqual(boss.get("/api/v1/audit?since=9007199254740991"), {"entries": []})

    def test_described(self) -> None:
        """The API's description has all of it."""
        paths = self.browser().get("/api/v1/openapi.json")["paths"]
        self.assertEqual(set(paths[SESSION]), {"get", "post", "delete"})
        self.assertEqual(set(paths[f"{ACCOUNTS}/{{id}}"]), {"patch", "delete"})


class Held:
    """Threads that a test lets go on."""

    def __init__(self) -> None:
        self.works: list[Callable[[], object]] = []

    def run(self, work: Callable[[], object]) -> None:
        self.works.append(work)

    def finish(self) -> None:
        """Nothing to end."""


class FloodTests(AccountsCase):
    def flooded(self) -> tuple[Held, list[Wire]]:
        """A server that hashes when a test says so, and 200 requests to it from as many addresses."""
        held = Held()
        self.chat.accounts.passwords = Argon2Passwords(lambda: held, self.clock.callFromThread, CHEAP)
        body = {"name": "alice", "password": "guess it"}
        wires = [
            self.browser(address=f"10.0.{number}.1").send("POST", SESSION, {**body, "name": f"n{number}"})
            for number in range(200)
        ]
        return held, wires

    def test_queue(self) -> None:
        """Some wait, all others are told at once when to come back; the work ends, and the answers come."""
        held, wires = self.flooded()
        refused = [Reply(wire.value()) for wire in wires if wire.value()]
        waiting = [wire for wire in wires if not wire.value()]
        self.assertEqual((len(held.works), len(waiting), len(refused)), (QUEUE_MAX, QUEUE_MAX, 200 - QUEUE_MAX))
        self.assertEqual({(reply.status, reply.headers["retry-after"]) for reply in refused}, {(429, "2")})
        for work in held.works:
            work()
        self.clock.settle()
        self.clock.settle()
        self.assertEqual({Reply(wire.value()).status for wire in waiting}, {401})

    def test_ten_thousand(self) -> None:
        """10,000 more attempts on a full queue ask the store nothing, hash nothing, and leave nothing behind."""
        held, _ = self.flooded()
        self.chat.accounts.store = None  # type: ignore[assignment]
        caller = Caller("10.9.9.9")
        for _ in range(10_000):
            asked = Deferred.fromCoroutine(self.chat.accounts.sign_in("alice", "guess it", caller))
            self.failureResultOf(asked, LimitReached)
        self.assertEqual(len(held.works), QUEUE_MAX)

    def test_one_address_leaves_places_to_others(self) -> None:
        """Of one address few passwords are checked at once."""
        held = Held()
        self.account("alice")
        self.chat.accounts.passwords = Argon2Passwords(lambda: held, self.clock.callFromThread, CHEAP)
        body = {"name": "alice", "password": PASSWORD}
        wires = [
            self.browser(address="203.0.113.9").send("POST", SESSION, {**body, "name": f"n{number}"}) for number in range(20)
        ]
        refused = [wire for wire in wires if wire.value()]
        self.assertEqual((len(held.works), len(refused)), (5, 15))
        owner = self.browser().send("POST", SESSION, body)
        for work in held.works:
            work()
        self.clock.settle()
        self.assertEqual(Reply(owner.value()).status, 200)

    def test_who_leaves_while_it_is_hashed(self) -> None:
        """A client that is gone gets no session, and the place in the queue is free when its work is done."""
        held = Held()
        self.account("alice")
        self.chat.accounts.passwords = Argon2Passwords(lambda: held, self.clock.callFromThread, CHEAP)
        wire = self.browser().send("POST", SESSION, {"name": "alice", "password": PASSWORD})
        wire.leave()
        held.works[0]()
        self.clock.settle()
        self.assertEqual(self.audit(), ["account.create"])

    def test_disabled_meanwhile(self) -> None:
        """An account that is disabled while its password is compared gets no session."""
        held = Held()
        alice = self.account("alice")
        passwords = self.chat.accounts.passwords
        self.chat.accounts.passwords = Argon2Passwords(lambda: held, self.clock.callFromThread, CHEAP)
        wire = self.browser().send("POST", SESSION, {"name": "alice", "password": PASSWORD})
        change = AccountChange(disabled=True)
        self.do(self.chat.accounts.change(alice.id, change, self.chat.accounts.note(Caller("test"), "x")))
        held.works[0]()
        self.clock.settle()
        self.assertEqual(Reply(wire.value()).status, 401)
        self.chat.accounts.passwords = passwords


class StreamTests(AccountsCase):
    def test_stream(self) -> None:
        """A stream of a room and a session over HTTP begin with the cookie, and end with the session."""
        browser = self.signed_in("alice")
        browser.ask("POST", "/api/v1/rooms/lobby/events", b"hello", ("Content-Type", "text/plain"))
        wires = [
            browser.send("GET", path, None, ("Accept", "text/event-stream"))
            for path in ("/api/v1/rooms/lobby/events?after=0", "/api/v1/session")
        ]
        for wire in wires:
            self.assertEqual(Reply(wire.value()).status, 200)
            self.assertFalse(wire.disconnecting)

        browser.ask("DELETE", SESSION)
        self.clock.pass_time(1)

        for wire in wires:
            self.assertIn(b"the token was revoked", wire.value())
