"""The limits and policies in force, and what is remembered of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.core import configuration
from twisted_chat.core.configuration import Configuration
from twisted_chat.limits import Limits, RoomPolicies, RoomPolicy

QUIET, SLOW = RoomPolicy(durable=False), RoomPolicy(slow_mode=5.0)


class PolicyTests(SynchronousTestCase):
    def test_a_reload_counts_at_once(self) -> None:
        """Also for rooms that were asked for before."""
        found = Configuration(Limits(), RoomPolicies({"live.*": QUIET}))
        self.assertEqual([found.policy(room) for room in ("live.x", "lobby")], [QUIET, RoomPolicy()])

        found.replace(Limits(), RoomPolicies({"lobby": SLOW}))

        self.assertEqual([found.policy(room) for room in ("live.x", "lobby")], [RoomPolicy(), SLOW])

    def test_names_that_nobody_asks_for_again(self) -> None:
        """The policies of a bounded number of rooms are remembered, whatever names clients invent."""
        self.patch(configuration, "POLICIES_KEPT", 3)
        found = Configuration(Limits(), RoomPolicies({"live.*": QUIET}))

        answers = [found.policy(f"live.{number}") for number in range(20)]

        self.assertEqual(answers, [QUIET] * 20)
        self.assertLessEqual(len(found._found), 3)
