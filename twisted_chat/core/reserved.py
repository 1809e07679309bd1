"""Names that no guest may have or imitate: those of people with tokens, and those of accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from twisted_chat.core.scheduler import Work
from twisted_chat.names import skeletons

#: Reserved names that are read in one turn of the reactor: some four milliseconds.
RESERVED_IN_TURN = 500


class ReservedNames:
    """The look-alike form of each reserved name, and to whom it belongs.

    :param at_next: does work in the next turn of the reactor.
    """

    def __init__(self, at_next: Callable[[Work], None]) -> None:
        self._at_next = at_next
        self._of_tokens: dict[str, str] = {}
        self._of_accounts: dict[str, str] = {}
        self._reading: Iterator[tuple[str, str]] = iter(())

    def is_taken(self, look: str, user: str) -> bool:
        """Whether anybody but that user has a name of that look."""
        return self._of_tokens.get(look, user) != user or self._of_accounts.get(look, user) != user

    def add(self, users: Iterable[tuple[str, str]]) -> None:
        """Names (user's id, name) of accounts.  A name that an account gave up stays reserved until another account takes it."""
        for user, name in users:
            self._of_accounts.update(dict.fromkeys(skeletons(name), user))

    def replace(self, users: Iterable[tuple[str, str]]) -> None:
        """Names of tokens, in the place of those before.

        The first ones hold at once.  Later, very many are read some in each turn, and those of before hold until all are read.
        """
        self._reading = reading = iter(users)
        self._read_some(reading, {}, RESERVED_IN_TURN if self._of_tokens else None)

    def _read_some(self, users: Iterator[tuple[str, str]], reserved: dict[str, str], count: int | None) -> None:
        if users is not self._reading:
            return  # there are newer ones
        read = 0
        for user, name in islice(users, count):
            reserved.update(dict.fromkeys(skeletons(name), user))
            read += 1
        if count is None or read < count:
            self._of_tokens = reserved
        else:
            self._at_next(lambda: self._read_some(users, reserved, count))
