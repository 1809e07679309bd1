"""How long to wait before the next attempt: full jitter, 0.5 s doubling to 30 s.

Full jitter (a number between nothing and the bound) spreads a thousand clients that lost their server in the same moment evenly;
waiting "about" the bound would bring them back in waves.
"""

from __future__ import annotations

from collections.abc import Callable

#: Seconds.  The first attempts come fast, because most breaks are short.
FIRST = 0.5
#: Seconds.  Nobody wants to wait longer for a server that is back.
MOST = 30.0


class Backoff:
    """The waits of one client.

    :param random: a number from [0, 1) at each call.
    """

    def __init__(self, random: Callable[[], float], first: float = FIRST, most: float = MOST) -> None:
        self._random = random
        self._first = first
        self._most = most
        self._bound = min(first, most)

    def wait(self, asked: float = 0.0) -> float:
        """Seconds until the next attempt: what the server ``asked`` for, which is spread already, and our own share on top."""
        delay = asked + self._random() * self._bound
        self._bound = min(self._most, self._bound * 2)
        return delay

    def reset(self) -> None:
        """It went well for a while: begin anew."""
        self._bound = self._first
