"""Names that no guest may have."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.core.reserved import RESERVED_IN_TURN, ReservedNames
from twisted_chat.names import skeletons


class ReservedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.turns: list[Callable[[], object]] = []
        self.names = ReservedNames(self.turns.append)

    def taken(self, name: str, user: str = "g1") -> bool:
        return any(self.names.is_taken(look, user) for look in skeletons(name))

    def test_accounts(self) -> None:
        """They are added to those before; a name that was given up is of whoever takes it."""
        self.names.add([("u1", "Alice")])
        self.names.add([("u2", "Bob"), ("u1", "Alicia")])
        for name in ("al1ce", "bob", "Alicia"):
            self.assertTrue(self.taken(name))
        self.assertFalse(self.taken("alice", "u1"))
        self.names.add([("u3", "Alice")])
        self.assertTrue(self.taken("alice", "u1"))

    def test_tokens_do_not_replace_accounts(self) -> None:
        """The names of tokens come as a whole, and those of accounts stay."""
        self.names.add([("u1", "alice")])
        self.names.replace([("u2", "bob")])
        self.names.replace([("u3", "carol")])
        self.assertTrue(self.turns == [] and self.taken("alice") and self.taken("carol"))
        self.assertFalse(self.taken("bob"))

    def test_many(self) -> None:
        """Very many names of tokens are read in several turns; until then those of before hold."""
        self.names.replace([("u1", "alice")])
        self.names.replace([(f"u{number}", f"n{chr(0x4E00 + number)}") for number in range(3 * RESERVED_IN_TURN)])
        turns = 0
        while self.turns:
            self.assertTrue(self.taken("alice"))
            turns += 1
            self.turns.pop()()
        self.assertFalse(self.taken("alice"))
        self.assertEqual(turns, 3)
