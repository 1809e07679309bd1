"""Who has a name, and who may have one like it."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.core.connections import Look


class LookTests(SynchronousTestCase):
    def test_random_holders(self) -> None:
        """A name is taken exactly if somebody else has it, guests of the very same name apart, whoever comes and goes in any order."""
        for seed in range(500):
            random, look, names = Random(seed), Look(), dict[str, str]()
            for _ in range(40):
                user, name = random.choice(("g1", "g2", "g3", "u1", "u2")), random.choice("ab")
                match random.randrange(3):
                    case 0:
                        look.add(user, name)
                        names[user] = name
                    case 1:
                        look.discard(user)
                        names.pop(user, None)
                others = [holder for holder in names if holder != user]

                taken = any(not (names[holder] == name and holder.startswith("g")) for holder in others)
                self.assertEqual((look.is_taken(user, name), look.is_free), (taken, not names), f"seed {seed}")
