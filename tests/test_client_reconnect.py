"""How long a client waits."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.client.reconnect import Backoff


class BackoffTests(SynchronousTestCase):
    def test_doubles(self) -> None:
        """The bound begins at half a second and doubles up to half a minute."""
        backoff = Backoff(lambda: 1.0)
        self.assertEqual([backoff.wait() for _ in range(8)], [0.5, 1, 2, 4, 8, 16, 30, 30])

    def test_full_jitter(self) -> None:
        """Anything between nothing and the bound: a thousand clients come back spread evenly, not in a wave."""
        numbers = random.Random(7)
        waits = [Backoff(numbers.random, first=10.0).wait() for _ in range(1_000)]
        for tenth in range(10):
            self.assertGreater(sum(tenth <= wait < tenth + 1 for wait in waits), 60)

    def test_reset(self) -> None:
        """After a reset the waiting times begin anew."""
        backoff = Backoff(lambda: 1.0)

        for _ in range(5):
            backoff.wait()
        backoff.reset()

        self.assertEqual(backoff.wait(), 0.5)

    def test_asked(self) -> None:
        """What the server asks for is waited in any case; our own share comes on top."""
        self.assertEqual(Backoff(lambda: 0.0).wait(3.7), 3.7)
        self.assertEqual(Backoff(lambda: 1.0).wait(3.7), 4.2)
