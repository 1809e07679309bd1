"""Opaque tokens: made once, known by their hash, ended at will."""

from __future__ import annotations

import re
from hashlib import sha256

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.auth.tokens import OpaqueTokens
from twisted_chat.errors import BadRequest, TokenExpired, Unauthenticated
from twisted_chat.minting import mint
from twisted_chat.store_contract import TokenRecord, TokenStore
from twisted_chat.users import Credential, Source, User

NOW_MS = 1_700_000_000_000


class Shelf:
    """A token store that is a dict, and remembers what it was asked."""

    def __init__(self) -> None:
        self.records: dict[bytes, TokenRecord] = {}
        self.asked: list[bytes] = []

    def find_token(self, secret_hash: bytes) -> Deferred[TokenRecord | None]:
        self.asked.append(secret_hash)
        return succeed(self.records.get(secret_hash))


def of(token: str) -> Credential:
    return Credential(token, Source.HEADER)


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.shelf = Shelf()
        self.now_ms = NOW_MS
        store: TokenStore = self.shelf  # type: ignore[assignment]
        self.tokens = OpaqueTokens(store, lambda: self.now_ms / 1000)

    def minted(self, **changes: object) -> str:
        made = mint(lambda size: b"\xfb" * size, NOW_MS, user="u42", name="Alice", expires_ms=NOW_MS + 1000, rights=["moderate"])
        fields = {name: getattr(made.record, name) for name in made.record.__struct_fields__}
        self.shelf.records[made.secret_hash] = TokenRecord(**{**fields, **changes})
        return made.token

    def test_bearer(self) -> None:
        """A valid token gives the user of its record, with expiry and rights."""
        user = self.successResultOf(self.tokens.identify(of(self.minted())))
        self.assertEqual(
            user,
            User(id="u42", name="Alice", expires=NOW_MS / 1000 + 1, token_id="t" + "fb" * 6, rights=frozenset({"moderate"})),
        )

    def test_only_the_hash_is_looked_up(self) -> None:
        """The store never sees a token, only its hash."""
        token = self.minted()
        self.successResultOf(self.tokens.identify(of(token)))
        self.assertEqual(self.shelf.asked, [sha256(token.encode()).digest()])

    def test_minted_secret_is_not_in_the_record(self) -> None:
        made = mint(lambda size: b"\x01" * size, NOW_MS, user="u1", name="A")

        self.assertTrue(re.fullmatch(r"tc_[\w-]{43}", made.token))
        self.assertNotIn(made.token[3:], repr(made))
        self.assertNotIn(made.token[3:], repr(made.record))

    def test_unknown(self) -> None:
        """A token that was never made is refused."""
        self.failureResultOf(self.tokens.identify(of("tc_" + "A" * 43)), Unauthenticated)

    def test_revoked(self) -> None:
        """A revoked token is refused as unknown, not as expired."""
        failure = self.failureResultOf(self.tokens.identify(of(self.minted(revoked=NOW_MS))), Unauthenticated)
        self.assertNotIsInstance(failure.value, TokenExpired)

    def test_expired(self) -> None:
        """A token is refused as expired from its end on."""
        token = self.minted()
        self.now_ms += 1000
        self.failureResultOf(self.tokens.identify(of(token)), TokenExpired)

    def test_never_expires(self) -> None:
        """A token without an end is valid for ever, and so is the user."""
        token = self.minted(expires=None)
        self.now_ms += 10**12
        user = self.successResultOf(self.tokens.identify(of(token)))
        assert user is not None

        self.assertIsNone(user.expires)

    def test_another_kind(self) -> None:
        """What is no token of ours is left to the other ways."""
        self.assertIsNone(self.successResultOf(self.tokens.identify(of("eyJ.a.b"))))

    def test_damaged(self) -> None:
        """A token of the wrong form is refused without asking the store."""
        self.failureResultOf(self.tokens.identify(of("tc_short")), Unauthenticated)
        self.assertEqual(self.shelf.asked, [])

    def test_mint_refuses(self) -> None:
        """A token needs the id of a user, a name, and an end in the future."""
        for user, name, expires in (
            ("g42", "A", None),
            ("42", "A", None),
            ("u", "A", None),
            ("u 1", "A", None),
            ("u1", "", None),
            ("u1", "A", NOW_MS),
        ):
            self.assertRaises(BadRequest, mint, bytes, NOW_MS, user=user, name=name, expires_ms=expires)
