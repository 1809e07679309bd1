"""The table: the ways in their order, and what happens when none knows a credential."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.auth.authenticator import AuthenticatorChain, GuestFactory
from twisted_chat.errors import TokenExpired, Unauthenticated, Unavailable
from twisted_chat.users import Credential, Source, User

ALICE = User(id="u1", name="Alice")
TOKEN = Credential("abc", Source.HEADER)


class Way:
    """Answers always the same, and counts."""

    def __init__(self, answer: User | Exception | None) -> None:
        self.answer = answer
        self.asked = 0

    def identify(self, credential: Credential) -> Deferred[User | None]:
        self.asked += 1
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)


class TableTests(SynchronousTestCase):
    def test_first_who_knows(self) -> None:
        """The first way that knows the token decides; later ones are not asked."""
        ways = [Way(None), Way(ALICE), Way(AssertionError("not asked"))]
        self.assertEqual(self.successResultOf(AuthenticatorChain(ways, None).identify(TOKEN)), ALICE)
        self.assertEqual([way.asked for way in ways], [1, 1, 0])

    def test_nobody_knows(self) -> None:
        """A bad token is refused where guests are welcome, too."""
        table = AuthenticatorChain([Way(None)], GuestFactory(b"", bytes))
        self.failureResultOf(table.identify(TOKEN), Unauthenticated)

    def test_refusal_is_final(self) -> None:
        """A way that refuses the token ends the search."""
        for error in (TokenExpired("x"), Unavailable("x")):
            later = Way(ALICE)
            self.failureResultOf(AuthenticatorChain([Way(error), later], None).identify(TOKEN), type(error))
            self.assertEqual(later.asked, 0)

    def test_a_way_that_raises(self) -> None:
        """A way may also raise synchronously."""

        class Broken:
            def identify(self, credential: Credential) -> Deferred[User | None]:
                raise TokenExpired("at once")

        self.failureResultOf(AuthenticatorChain([Broken()], None).identify(TOKEN), TokenExpired)

    def test_guests(self) -> None:
        """Guests are made by the factory; without one they are refused."""
        self.assertTrue(AuthenticatorChain([], GuestFactory(b"", bytes)).guest("bob").guest)
        self.assertRaises(Unauthenticated, AuthenticatorChain([], None).guest, "bob")

    def test_credential_is_not_shown(self) -> None:
        """The repr of a credential hides the token."""
        self.assertNotIn("abc", repr(TOKEN))
