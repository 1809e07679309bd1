"""Token buckets on an injected clock."""

from __future__ import annotations

from collections.abc import Callable


class TokenBucket:
    """Holds up to ``burst`` tokens and gains ``per_second``; ``per_second`` 0 or less: no bound at all."""

    __slots__ = ("_at", "_burst", "_now", "_per_second", "_tokens")

    def __init__(self, burst: int, per_second: float, now: Callable[[], float]) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._now = now
        self._tokens = float(burst)
        self._at = now()

    def available(self) -> int:
        """Whole tokens there now."""
        if self._per_second <= 0:
            return 1 << 30
        now = self._now()
        if self._tokens < self._burst:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        return int(self._tokens + 1e-9)

    def take(self, count: int) -> None:
        """Use tokens that are :meth:`available`."""
        if self._per_second > 0:
            self._tokens -= count

    def wait(self, count: int = 1) -> float:
        """Seconds until ``count`` tokens are there."""
        missing = min(count, self._burst) - self._tokens
        return max(0.0, missing / self._per_second) if self._per_second > 0 else 0.0
