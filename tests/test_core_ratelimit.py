"""Token buckets."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.core.ratelimit import TokenBucket


class BucketTests(SynchronousTestCase):
    def test_a_burst_then_a_rate(self) -> None:
        """A bucket never holds more than its burst, however long nobody takes."""
        clock = Clock()
        bucket = TokenBucket(3, 2.0, clock.seconds)

        clock.advance(1_000)

        self.assertEqual(bucket.available(), 3)

        bucket.take(3)
        self.assertEqual((bucket.available(), bucket.wait()), (0, 0.5))

        clock.advance(0.25)
        self.assertEqual((bucket.available(), bucket.wait()), (0, 0.25))

        clock.advance(0.25)
        self.assertEqual((bucket.available(), bucket.wait(), bucket.wait(2)), (1, 0.0, 0.5))

    def test_waiting_as_told_is_enough(self) -> None:
        """After ``wait`` seconds there is a token, whatever the fractions."""
        clock = Clock()
        clock.advance(1_763_880_000.123)
        for rate in (0.1, 1 / 3, 0.7, 3.3, 7.0):
            bucket = TokenBucket(1, rate, clock.seconds)
            for _ in range(50):
                if not bucket.available():
                    clock.advance(bucket.wait() + 1e-6)
                self.assertEqual(bucket.available(), 1)
                bucket.take(1)

    def test_over_a_long_time_it_is_the_rate(self) -> None:
        """Asking often gains nothing: over a long time it is the rate."""
        clock = Clock()
        bucket = TokenBucket(5, 2.0, clock.seconds)
        taken = 0

        for _ in range(10_000):
            clock.advance(0.01)
            count = bucket.available()
            bucket.take(count)
            taken += count

        self.assertIn(taken, (204, 205))

    def test_no_bound(self) -> None:
        """A bucket with the rate 0 never refuses."""
        bucket = TokenBucket(1, 0, Clock().seconds)

        self.assertGreater(bucket.available(), 10**6)

        bucket.take(10**6)
        self.assertEqual((bucket.available() > 10**6, bucket.wait()), (True, 0.0))
